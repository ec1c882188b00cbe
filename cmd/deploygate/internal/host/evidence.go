package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/proxy"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/unit"
)

// evidence collects what can be seen of the app, for a diagnosis. It only looks: each part for itself, so that what
// can't be read leaves the rest.
type evidence struct {
	*Host
	diagnosis.Facts
	files        unit.Description
	proxyWorkers []int
	proxyConfig  proxy.Configuration // nil: it couldn't be read
	trial        struct {            // that failed, where this is about one
		gate.Target
		until time.Time
	}
}

// gather begins with what the configuration and the unit's files say.
func (h *Host) gather(ctx context.Context, e gate.Target) *evidence {
	c := h.Config
	v := &evidence{Host: h}
	v.Asked, v.Path, v.Facts.Host, v.Limit, v.Bind = time.Now(), c.Health.Path, c.Health.Host, c.Health.Timeout, h.bind
	v.Release = diagnosis.Release{Version: e.Version, Dir: e.Dir, Root: c.Root}
	if real, err := untrusted.EvalSymlinks(c.Root); err == nil {
		v.Release.Root = real
	}
	var err error
	if v.files, err = h.Manager.Unit(c.Service.Unit).Describe(ctx); err != nil {
		v.unread("the unit's files", err, "systemctl cat "+c.Service.Unit)
	}
	v.readUnit()
	v.readRelease()
	return v
}

// unread notes what couldn't be looked at, and the command that would show it.
func (v *evidence) unread(what string, err error, command string) {
	if f, is := errors.AsType[*gate.Finding](err); errors.Is(err, fs.ErrPermission) || is && f.Cause == gate.ProxyUnverified {
		command = "sudo " + command
	}
	v.Unread = append(v.Unread, diagnosis.Unread{What: what, Why: gate.Clean(err.Error()), Command: command})
}

// readUnit takes over what the unit's files say, and looks at the paths that they name.
func (v *evidence) readUnit() {
	d, u := v.files, &v.Unit
	u.Name, u.File, u.FileState, u.StaleOnDisk, u.Restart = v.Config.Service.Unit, d.File, d.UnitFileState, d.StaleOnDisk, d.Restart
	u.User, u.Program, u.RuntimeDirectories = d.User, d.Program, d.RuntimeDirectories
	u.WorkingDirectory, u.SocketUnit, u.OfUser = d.WorkingDirectory, d.Listen != "", v.Config.Service.Manager == unit.User
	u.Timeout, u.Server = lineOf(d).Timeout(), serverName(d)
	if live := v.rehearsedFor; live.Name != "" {
		u.RehearsedFor, u.File = live.Name, live.File
	}
	if d.Program != "" {
		v.needs(gate.ExecMissing, "ExecStart=", d.Program, cmp.Or(v.missing(d.Program), executable(d.Program)))
		if u.Python = pythonOf(d.Program); u.Python != "" && u.Python != d.Program {
			v.needs(gate.ExecMissing, diagnosis.Shebang, u.Python, v.missing(u.Python))
		}
	}
	if d.WorkingDirectory != "" && !d.DirectoryOptional {
		v.needs(gate.WorkingDirectoryMissing, "WorkingDirectory=", d.WorkingDirectory, v.enterProblem(d.WorkingDirectory))
	}
	v.settings(d.Environment)
	for _, f := range d.EnvironmentFiles {
		if problem := v.missing(f.Path); !f.Optional {
			v.needs(gate.EnvFileMissing, "EnvironmentFile=", f.Path, problem)
		}
		v.settings(assignments(f.Path))
	}
	v.learn(d, v.Release.Dir)
}

func (v *evidence) needs(cause gate.Cause, what, path, problem string) {
	_, inLink := v.pathfinder("").through(path)
	v.Unit.Paths = append(v.Unit.Paths, diagnosis.Path{Cause: cause, What: what, Path: path, Problem: problem, InLink: inLink})
}

// executable says why a program can't be executed, whatever its first line names.
func executable(program string) string {
	if problem := missingReason(program); problem != "" {
		return problem
	}
	if info, err := untrusted.Stat(program); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 == 0 {
		return "is not executable"
	}
	return ""
}

// missing is exists, and notes what can't be looked at.
func (v *evidence) missing(path string) string {
	if _, err := untrusted.Stat(path); slow(err) {
		v.unread(path, err, "stat "+path)
		return ""
	}
	return missingReason(path)
}

// slow reports whether a look did not come back.
func slow(err error) bool {
	_, is := errors.AsType[*untrusted.SlowError](err)
	return is
}

// missingReason says what is wrong with a path; "" if it is there, or can't be told.
func missingReason(path string) string {
	if strings.ContainsAny(path, "*?[") { // EnvironmentFile= takes patterns
		if found, err := untrusted.Glob(path); err == nil && len(found) > 0 {
			return ""
		}
	}
	if _, err := untrusted.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "does not exist"
	}
	return ""
}

// enterProblem says why the unit's user can't work in a directory.
func (v *evidence) enterProblem(dir string) string {
	if problem := v.missing(dir); problem != "" {
		return problem
	}
	who := v.identity()
	if who.Name == "" {
		return ""
	}
	if w := socket.Reach(filepath.Join(dir, "x"), who); w.Denied != "" && w.Need == socket.NeedSearch {
		return fmt.Sprintf("can't be entered by %s (%s)", who.Name, w.Denied)
	}
	return ""
}

// identity is who the unit's processes are, with the groups that its files give them; none if that isn't known.
func (v *evidence) identity() socket.Identity {
	d := v.files
	who, err := socket.OfUser(cmp.Or(d.User, "root"))
	if err != nil || v.Config.Service.Manager == unit.User {
		return socket.Identity{}
	}
	for i, name := range append([]string{d.Group}, d.Groups...) {
		g, err := user.LookupGroup(name)
		if _, number := strconv.Atoi(name); err != nil && number == nil {
			g, err = user.LookupGroupId(name)
		}
		if err != nil {
			if name != "" {
				return socket.Identity{}
			}
			continue
		}
		id, _ := strconv.Atoi(g.Gid) // it is one
		if who.Groups = append(who.Groups, id); i == 0 {
			who.GID = id
		}
	}
	return who
}

// pythonOf is the interpreter that runs a program: itself, or what its first line names; "" unknown.
func pythonOf(program string) string {
	if strings.HasPrefix(filepath.Base(program), "python") {
		return program
	}
	return interpreter(program)
}

// interpreter is what a script's first line names, "" for what is no script, or has env(1) look for it.
func interpreter(program string) string {
	name, _ := shebang(program)
	if filepath.Base(name) == "env" {
		return ""
	}
	return name
}

// settings takes from the unit's environment which settings Django is to use.
func (v *evidence) settings(assignments []string) {
	for _, a := range assignments {
		if value, is := strings.CutPrefix(a, "DJANGO_SETTINGS_MODULE="); is {
			v.Unit.SettingsModule = value
		}
	}
}

// readRelease opens the release that is judged, and the one before it, to look for modules in them.
func (v *evidence) readRelease() {
	r := &v.Release
	if r.Dir != "" {
		r.Files, r.Closed = untrusted.FS(r.Dir), v.closed
		_, err := untrusted.Stat(filepath.Join(r.Dir, managePy))
		v.Unit.Django = err == nil || v.Unit.SettingsModule != ""
	}
	if before := v.Deployer.Before(release.Version(r.Version)); before != "" {
		r.Previous, r.Before = string(before), untrusted.FS(v.Deployer.Tree.Dir(before))
	}
	for _, top := range []string{v.Deployer.Tree.CurrentPath(), r.Dir} {
		if below, is := strings.CutPrefix(v.files.WorkingDirectory, top); is && top != "" {
			r.Base = strings.Trim(below, "/")
		}
	}
}

// closed returns the directory that keeps the unit's user from a path below the release.
func (v *evidence) closed(path string) string {
	who, err := socket.OfUser(cmp.Or(v.Unit.User, "root"))
	if err != nil || v.Unit.OfUser {
		return ""
	}
	if w := socket.Reach(filepath.Join(v.Release.Dir, path, "x"), who); w.Need == socket.NeedSearch {
		return w.Denied
	}
	return ""
}

// ask asks the app, on its own socket and through the proxy.
func (v *evidence) ask(ctx context.Context, e gate.Target) {
	v.Unit.State, v.Direct.Answer, v.Failed = v.health.Look(ctx, e)
	if v.Direct.Answer != nil && (v.Failed == nil || v.health.Want.Judge(*v.Direct.Answer) != nil) {
		v.Direct.Finding = v.Failed // else the answer is good, and something else isn't
	}
	if !v.Unit.State.Dormant(e) {
		v.Proxied.Answer, v.Proxied.Finding = v.Deployer.Proxy.Look(ctx, e.Version)
	}
}

// patience is how long a request may take that has already taken too long.
const patience = 5 * time.Second

// askAgain waits longer for an answer that didn't come in time: late is not never.
func (v *evidence) askAgain(ctx context.Context, e gate.Target) {
	if a := v.Direct.Answer; a == nil || !a.Timeout || v.Unit.State.ActiveState != "active" {
		return
	}
	patient := *v.health
	patient.Direct = v.prober(patience)
	_, v.Patient.Answer, v.Patient.Finding = patient.Look(ctx, e)
}

// disks looks for file systems that are full.
func (v *evidence) disks() {
	seen := map[unix.Fsid]bool{}
	for _, dir := range []string{v.Release.Root, "/var/log", "/var/lib", "/tmp", "/run"} {
		st, err := untrusted.Within(dir, func() (st unix.Statfs_t, err error) {
			err = unix.Statfs(dir, &st)
			return st, err
		})
		if err != nil || seen[st.Fsid] {
			continue
		}
		seen[st.Fsid] = true
		if st.Blocks > 0 && st.Bavail == 0 {
			v.Disks = append(v.Disks, diagnosis.Disk{Path: dir, What: "bytes"})
		}
		if st.Files > 0 && st.Ffree == 0 {
			v.Disks = append(v.Disks, diagnosis.Disk{Path: dir, What: "inodes"})
		}
	}
}
