package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/probe"
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
	u.Timeout = lineOf(d).Timeout()
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

// sockets looks at where the app listens: the way there, who listens, and how many connections wait.
func (v *evidence) sockets() {
	at, err := probe.ParseBind(v.Bind)
	if err != nil {
		return
	}
	all, err := socket.Listeners("")
	if err != nil {
		v.unread("who listens", err, "ss -lxtn")
		return
	}
	if asked := v.Direct.Answer; asked != nil && at.Network == "unix" && errors.Is(asked.Err, fs.ErrNotExist) {
		if _, err := untrusted.Lstat(at.Addr); err == nil {
			return // it was bound since it was asked: who listens now tells nothing of that
		}
	}
	var inodes []uint64
	for _, l := range all {
		inodes = append(inodes, l.Inode)
	}
	held, err := socket.Holders(inodes...)
	if err != nil && os.Geteuid() != 0 { // a container's root may not see everyone's, and needs no more
		v.unread("who holds a socket", err, "ss -lxtnp")
	}
	if at.Network == "unix" {
		if who := v.proxyUser(); who.Name != "" {
			walk := socket.Reach(at.Addr, who)
			v.Socket.Reach = &walk
		}
		dir := filepath.Dir(at.Addr)
		if below, is := strings.CutPrefix(dir, "/run/"); is && !slices.Contains(v.files.RuntimeDirectories, below) {
			v.Socket.Tmpfiles = inTmpfiles(dir) || v.madeBefore(dir) || madeByUnit(below)
		}
	}
	there := socket.Serving(all, at.Network, at.Addr)
	for _, l := range there {
		v.Socket.Listens = append(v.Socket.Listens, diagnosis.Listener{Addr: l.Bind(), Holders: held[l.Inode]})
		v.Socket.Busy += l.Accepted
		v.Socket.Waiting += l.Waiting
	}
	for _, l := range all {
		ours := slices.ContainsFunc(held[l.Inode], func(h socket.Holder) bool { return h.Unit == v.Unit.Name })
		if ours && !slices.Contains(there, l) {
			v.Socket.Elsewhere = append(v.Socket.Elsewhere, diagnosis.Listener{Addr: l.Bind(), Holders: held[l.Inode]})
		}
	}
}

// accepted counts the connections that whoever listens at an address has accepted.
func accepted(at probe.Address) func() int {
	return func() (n int) {
		all, err := socket.Listeners(at.Network)
		if err != nil {
			return 0
		}
		for _, l := range socket.Serving(all, at.Network, at.Addr) {
			n += l.Accepted
		}
		return n
	}
}

// madeBefore reports whether a command that the unit runs before its own names a directory: it may make it.
func (v *evidence) madeBefore(dir string) bool {
	return slices.ContainsFunc(v.files.Around, func(argv []string) bool { return strings.Contains(strings.Join(argv, " "), dir) })
}

// madeByUnit reports whether the files of any service have it make a directory of /run.
func madeByUnit(dir string) bool {
	for _, place := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"} {
		for _, pattern := range []string{"*.service", "*.service.d/*.conf"} {
			files, _ := untrusted.Glob(filepath.Join(place, pattern)) // the pattern is a good one
			for _, file := range files {
				for line := range strings.SplitSeq(head(file), "\n") {
					made, is := strings.CutPrefix(line, "RuntimeDirectory=")
					if is && slices.ContainsFunc(strings.Fields(made), func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") }) {
						return true
					}
				}
			}
		}
	}
	return false
}

// inTmpfiles reports whether a configuration of tmpfiles.d(5) makes a directory.
func inTmpfiles(dir string) bool {
	const enough = 64 << 10 // bytes of one
	files, _ := untrusted.Glob("/etc/tmpfiles.d/*.conf")
	more, _ := untrusted.Glob("/usr/lib/tmpfiles.d/*.conf")
	for _, file := range append(files, more...) {
		text, _, err := untrusted.ReadFile(file, enough, nil)
		if err == nil && slices.Contains(strings.Fields(string(text)), dir) {
			return true
		}
	}
	return false
}

// proxyUser is who nginx's workers run as: a worker that runs says it, else the configuration.
func (v *evidence) proxyUser() socket.Identity {
	if v.Proxy.Program == "" {
		return socket.Identity{}
	}
	for _, pid := range v.proxyWorkers {
		if who, err := socket.OfProcess(pid); err == nil && who.UID != 0 {
			v.Proxy.User = who.Name
			return who
		}
	}
	who, err := socket.OfUser(cmp.Or(v.Proxy.User, "www-data")) // Debian's, where the configuration has none
	if err != nil {
		return socket.Identity{}
	}
	v.Proxy.User = who.Name
	return who
}

// nginx looks at the proxy's unit and processes.
func (v *evidence) nginx(ctx context.Context) {
	n, p := v.proxy, &v.Proxy
	if n == nil {
		return
	}
	p.Program, p.Unit, p.URL, p.Host = n.Executable(), n.Unit(), v.Config.Proxy.URL, v.Config.Proxy.Host
	p.LogFiles = []string{v.Config.Proxy.ErrorLog}
	st, err := v.Manager.Unit(n.Unit()).State(ctx)
	if err != nil {
		v.unread("nginx's unit", err, "systemctl status "+n.Unit())
		return
	}
	p.Running, p.State = st.ActiveState == "active", fmt.Sprintf("%s (%s)", st.ActiveState, st.SubState)
	for _, process := range st.Processes {
		if process.PID != st.MainPID {
			v.proxyWorkers = append(v.proxyWorkers, process.PID)
		}
	}
}

// route reads nginx's configuration and finds where it sends the health request.
func (v *evidence) route(ctx context.Context) {
	if v.proxy == nil {
		return
	}
	p := &v.Proxy
	effective, err := v.proxy.Configuration(ctx)
	if p.Test != nil && p.Test.Cause == gate.ProxyConfigInvalid {
		return // which is said already
	}
	if err != nil {
		v.unread("nginx's configuration", err, p.Program+" -T")
		return
	}
	v.proxyConfig = effective
	p.User = cmp.Or(p.User, effective.User())
	if all, known := effective.Upstreams(); known {
		p.Upstreams = v.asBind(all)
	}
	request, ok := requestOf(p.URL, p.Host)
	if !ok {
		return
	}
	route := effective.Route(request)
	route.Targets = v.asBind(route.Targets)
	p.Route, p.Risks = &route, v.Deployer.Proxy.Risks(ctx)
	if v.Config.Proxy.ErrorLog == config.Defaults("").Proxy.ErrorLog && len(route.ErrorLogs) > 0 {
		p.LogFiles = route.ErrorLogs
	}
}

// asBind writes addresses that lead to where the app listens as that is written: a path may go through a symlink, a port be
// reached at several addresses.
func (v *evidence) asBind(targets []string) []string {
	bind, err := probe.ParseBind(v.Bind)
	if err != nil {
		return targets
	}
	all, err := socket.Listeners(bind.Network)
	if err != nil {
		return targets
	}
	targets = slices.Clone(targets)
	for i, target := range targets {
		if at, err := probe.ParseBind(target); err == nil && sameListener(all, at, bind) {
			targets[i] = v.Bind
		}
	}
	return targets
}

// requestOf is the request through the proxy as nginx sees it.
func requestOf(address, host string) (r proxy.Request, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return r, false
	}
	r = proxy.Request{Port: 80, TLS: u.Scheme == "https", Host: cmp.Or(host, u.Hostname()), Path: cmp.Or(u.Path, "/")}
	if r.TLS {
		r.Port = 443
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		r.Addr = ip.String()
	}
	if port := u.Port(); port != "" {
		r.Port, _ = strconv.Atoi(port)
	}
	return r, true
}

// proxyLog reads what nginx logged of the app.
func (v *evidence) proxyLog(ctx context.Context, since, until time.Time) {
	const enough = 200
	for _, file := range v.Proxy.LogFiles {
		if !filepath.IsAbs(file) {
			continue // syslog:, stderr, memory:
		}
		entries, err := v.proxy.ErrorLog(ctx, file, since, enough)
		if err != nil {
			v.unread("nginx's error log", err, "tail -n 50 "+file)
		}
		for _, e := range entries {
			if !e.At.After(until) && v.about(e) {
				v.Proxy.Log = append(v.Proxy.Log, e)
			}
		}
	}
}

// about reports whether a line of nginx's error log is about this app, and not about another site.
func (v *evidence) about(e proxy.Entry) bool {
	host, _, _ := strings.Cut(e.Host, ":")
	return strings.Contains(e.Request, " "+v.Path+" ") && host == v.Proxy.Host ||
		v.Bind != "" && strings.Contains(e.Upstream, strings.TrimPrefix(v.Bind, "unix:"))
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
