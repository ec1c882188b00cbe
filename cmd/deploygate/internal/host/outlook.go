package host

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
	"deploygate/release/unit"
)

// lookLimit bounds a look that a deploy waits for.
const lookLimit = 10 * time.Second

// survey looks at how unit, release and proxy agree, without asking the app.
func (h *Host) survey(ctx context.Context, e gate.Target) *evidence {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	v := h.gather(ctx, e)
	v.nginx(ctx)
	v.route(ctx)
	v.sockets()
	v.outlook(ctx)
	return v
}

// outlook looks for what the next start, stop or boot will break, and for what was changed since the last start.
func (v *evidence) outlook(ctx context.Context) {
	v.disks()
	v.recovery(ctx)
	u := v.Manager.Unit(v.Unit.Name)
	if v.files.LoadState != "loaded" {
		return
	}
	needs, err := u.Needs(ctx)
	if err != nil {
		v.unread("what a start of "+v.Unit.Name+" needs", err, "systemctl show "+v.Unit.Name)
		return
	}
	if v.Unit.State.ActiveState == "" {
		if v.Unit.State, err = u.State(ctx); err != nil {
			v.unread("the unit's state", err, "systemctl status "+v.Unit.Name)
			return
		}
	}
	v.starts(ctx, needs)
	v.changes(needs)
	v.proxyUnit(ctx)
}

// starts looks at what a start of the unit takes.
func (v *evidence) starts(ctx context.Context, n unit.Needs) {
	u, now := &v.Unit, v.pathfinder("")
	u.Looked, u.WantedBy, u.Missing = true, n.WantedBy, n.Missing
	for _, s := range n.Sockets {
		u.Sockets = append(u.Sockets, diagnosis.SocketUnit{Name: s.Name, FileState: s.FileState, WantedBy: s.WantedBy})
	}
	if _, err := untrusted.Lstat(u.File); u.File != "" && errors.Is(err, fs.ErrNotExist) {
		u.FileGone = true
	}
	for _, p := range n.Paths {
		path := v.needed(p)
		path.Problem = now.needed(p, v.programDirs())
		u.Paths = append(u.Paths, path)
	}
	names, err := serverOf(v.files).Read(v.command())
	if err == nil && names.Given {
		v.needs(gate.BadOption, "--config", names.Config, missingReason(names.Config))
	}
	if err == nil && names.Chdir {
		v.needs(gate.BadOption, "--chdir", names.Dir, now.directory(names.Dir))
	}
	if n.Elsewhere || v.files.OwnRoot {
		v.forgive()
	}
	u.NoUser = v.noUser(ctx)
	where, err := v.service.whereabouts(ctx, v.files)
	u.Unplaced = err == nil && where.uncertain
}

// needed is a path that a start needs, in the words of a finding.
func (v *evidence) needed(p unit.NeededPath) diagnosis.Path {
	path := diagnosis.Path{Cause: gate.SandboxPathMissing, What: p.Setting, Path: p.Path, Skips: p.Condition}
	switch {
	case p.Program:
		path.Cause = gate.ExecMissing
	case p.Parent:
		path.Cause, path.Path = gate.LogTargetMissing, filepath.Dir(p.Path)
	case !p.Sandbox:
		path.Cause = gate.ServiceStopped // systemd doesn't start it at all
	}
	_, path.InLink = v.pathfinder("").through(path.Path)
	return path
}

// needed says what is wrong with a path that a start needs.
func (f pathfinder) needed(p unit.NeededPath, dirs []string) string {
	switch {
	case p.Program:
		return f.program(p.Path, dirs)
	case p.Parent:
		return f.directory(filepath.Dir(p.Path))
	}
	return f.find(p.Path).problem
}

// command is the unit's command, as it is to be read.
func (v *evidence) command() server.Live {
	l := server.LiveOf(v.files, v.tree.CurrentPath())
	l.Files = assigned(v.files, asWritten)
	return l
}

// programDirs are those where the unit's programs look for others: its own PATH, else systemd's.
func (v *evidence) programDirs() []string {
	for _, a := range slices.Backward(append(slices.Clone(v.files.Environment), v.command().Files...)) {
		if dirs, is := strings.CutPrefix(a, "PATH="); is {
			return filepath.SplitList(dirs)
		}
	}
	return []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
}

// forgive takes back what is wrong with paths that the unit's processes may see otherwise than the host does: they have a
// file system of their own. EnvironmentFile= is systemd's to read.
func (v *evidence) forgive() {
	for i := range v.Unit.Paths {
		if p := &v.Unit.Paths[i]; p.Cause != gate.EnvFileMissing && !strings.HasPrefix(p.What, "Bind") {
			p.Problem = ""
		}
	}
}

// noUser names the user or group that the unit runs as, if it is not known.
func (v *evidence) noUser(ctx context.Context) string {
	d := v.files
	if d.DynamicUser || v.Unit.OfUser {
		return ""
	}
	number := func(name string) bool { return strings.Trim(name, "0123456789") == "" }
	if _, err := user.Lookup(d.User); err != nil && !number(d.User) && unknownTo(ctx, "passwd", d.User) {
		return "user " + d.User
	}
	if _, err := user.LookupGroup(d.Group); err != nil && !number(d.Group) && unknownTo(ctx, "group", d.Group) {
		return "group " + d.Group
	}
	return ""
}

// unknownTo reports whether the host's name service doesn't know a user or group that isn't in the files: it is asked, since
// there may be a directory service.
func unknownTo(ctx context.Context, database, name string) bool {
	const notFound = 2 // getent(1)
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/getent", "--", database, name)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	exit, is := errors.AsType[*exec.ExitError](err)
	return is && exit.ExitCode() == notFound
}

// proxyUnit looks at whether nginx is started at boot, and at whether it runs with the configuration that is on disk.
func (v *evidence) proxyUnit(ctx context.Context) {
	n, p := v.proxy, &v.Proxy
	if n == nil || !p.Running {
		return
	}
	var err error
	if p.FileState, p.WantedBy, err = v.Manager.Unit(n.Unit()).Enabled(ctx); err != nil {
		return
	}
	for _, pid := range v.proxyWorkers {
		if at := processStart(pid); at.After(p.Loaded) {
			p.Loaded = at
		}
	}
	if v.proxyConfig == nil || p.Loaded.IsZero() || !n.Reloads() {
		return
	}
	link := v.pathfinder("")
	for _, file := range v.proxyConfig.Files() {
		if _, inLink := link.below(file); inLink {
			continue // it changes with each release, and what it changes to is tested then
		}
		if at, is := changedAt(file, p.Loaded); is && (p.Changed == nil || at.After(p.Changed.At)) {
			p.Changed = &diagnosis.Newer{Cause: gate.ProxyChanged, Path: file, At: at}
		}
	}
}
