package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/unit"
	"deploygate/release/unit/pair"
)

type socketReport struct {
	App     string      `json:"app"`
	Unit    string      `json:"unit"`
	Socket  string      `json:"socket"`
	Written bool        `json:"written"`
	Files   []pair.File `json:"files"`
	Steps   []string    `json:"steps"` // to the socket unit
	Back    []string    `json:"back"`
	Notes   []string    `json:"notes"`

	there bool // the files were written before, and systemd doesn't know of them yet
}

func (c *commands) initSocket(ctx *cli.Context) error {
	s, err := c.begin(ctx, 0)
	if err != nil {
		return err
	}
	if ctx.IsSet("unit") {
		return usagef("--socket-activation is for the configured unit, %s: set service.unit, or write a configuration with deploygate init --unit UNIT", s.config.Service.Unit)
	}
	run, stop := interruptible(false)
	defer stop()
	return s.initSocket(run, ctx.Bool("print"))
}

// initSocket writes a socket unit for the app's unit, and says how to switch to it. It switches nothing.
func (s *session) initSocket(ctx context.Context, look bool) error {
	c := s.config
	manager, err := unit.Connect(context.WithoutCancel(ctx), c.Service.Manager)
	if err != nil {
		return s.cannot(err)
	}
	defer manager.Close()
	d, err := usable(ctx, manager, c.Service.Unit, c.Root)
	if err != nil {
		return s.cannot(err)
	}
	r := socketReport{App: c.App, Unit: d.Name, Files: []pair.File{}, Steps: []string{}, Back: []string{}, Notes: []string{}}
	if len(d.Sockets) > 0 {
		r.Socket = d.Sockets[0]
		return s.hasSocket(ctx, manager, r, d.Listen)
	}
	p, err := s.pairFor(d)
	if err != nil {
		return s.cannot(err)
	}
	switch {
	case look:
	case written(p.Files...):
		r.there = true
	default:
		if err := s.writePair(ctx, manager, d, p); err != nil {
			return err
		}
		r.Written = true
	}
	r.Socket, r.Files, r.Steps, r.Back = p.Socket, p.Files, append(p.Steps, s.checkCommand()), append(p.Back, s.checkCommand())
	r.Notes = append(r.Notes, p.Notes...)
	if s.json {
		return s.printJSON(r, 0)
	}
	s.printSocket(r)
	return nil
}

// writePair writes the files, unless something is in the way.
func (s *session) writePair(ctx context.Context, manager *unit.Manager, d unit.Description, p pair.Pair) error {
	other, err := manager.Unit(p.Socket).Describe(ctx)
	if err != nil {
		return s.cannot(err)
	}
	if other.LoadState != "not-found" {
		return usagef("there is a %s already (%s), which does not listen for %s; nothing was written", p.Socket, other.File, d.Name)
	}
	if err := missing(p.Files...); err != nil {
		return s.refused(err)
	}
	if d.StaleOnDisk {
		return s.cannot(fmt.Errorf("the files of %s were changed and systemd still uses the old ones: systemctl daemon-reload, then again", d.Name))
	}
	if ctx.Err() != nil {
		return s.cannot(errors.New("interrupted; nothing was written"))
	}
	return s.create(p.Files...)
}

// hasSocket says that there is nothing to write, and how to switch to a socket unit that is there and doesn't listen.
func (s *session) hasSocket(ctx context.Context, manager *unit.Manager, r socketReport, listen string) error {
	st, err := manager.Unit(r.Socket).State(ctx)
	if err != nil {
		return s.cannot(err)
	}
	says := fmt.Sprintf("%s has a socket unit already: %s listens on %s for it; nothing to do", r.Unit, r.Socket, listen)
	if st.ActiveState != "active" {
		says = fmt.Sprintf("%s has a socket unit already, which is %s: %s; nothing was written", r.Unit, st.ActiveState, r.Socket)
		r.Steps = append(pair.Steps(s.config.Service.Manager, r.Unit, r.Socket), s.checkCommand())
	}
	if s.json {
		r.Notes = append(r.Notes, says)
		return s.printJSON(r, 0)
	}
	fmt.Fprintln(s.out, oneLine(says))
	s.printSteps(r)
	return nil
}

func (s *session) checkCommand() string {
	return "deploygate check" + naming(s.config.App, s.config.File)
}

func (s *session) printSocket(r socketReport) {
	for _, n := range r.Notes {
		fmt.Fprintf(s.err, "deploygate: %s\n", oneLine(n))
	}
	for _, f := range r.Files {
		switch {
		case r.Written:
			fmt.Fprintf(s.out, "written: %s\n", f.Path)
		case r.there:
			fmt.Fprintf(s.out, "written already: %s\n", f.Path)
		default:
			fmt.Fprintf(s.out, "%s:\n\n%s\n", f.Path, indented(f.Text))
		}
	}
	s.printSteps(r)
}

// printSteps prints them so that they can be pasted.
func (s *session) printSteps(r socketReport) {
	if len(r.Steps) > 0 {
		fmt.Fprintf(s.out, "\nto switch to it (requests fail once more, until the app has booted; the last command passes when it has):\n\n%s", indented(strings.Join(r.Steps, "\n")))
	}
	if len(r.Back) > 0 {
		fmt.Fprintf(s.out, "\nto go back:\n\n%s", indented(strings.Join(r.Back, "\n")))
	}
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

// pairFor collects what a socket unit for the service has to be like.
func (s *session) pairFor(d unit.Description) (pair.Pair, error) {
	c := s.config
	bind, why, known := d.Bind()
	if !known {
		if bind = c.Health.Bind; bind == "" {
			return pair.Pair{}, fmt.Errorf("it isn't known where %s listens: %s; set health.bind to it", d.Name, why)
		}
	}
	f := pair.Facts{
		Service: d, Scope: c.Service.Manager, Gunicorn: d.IsGunicorn() || isGunicorn(d.MainPID),
		Releases: filepath.Join(c.Root, "releases"), Runtime: "/run", Dir: "/etc/systemd/system",
	}
	if real, err := untrusted.EvalSymlinks(f.Releases); err == nil {
		f.Releases = real
	}
	if f.Scope == unit.User {
		config, err := os.UserConfigDir()
		if err != nil {
			return pair.Pair{}, err
		}
		f.Runtime, f.Dir = os.Getenv("XDG_RUNTIME_DIR"), filepath.Join(config, "systemd", "user")
	}
	var err error
	if d.MainPID != 0 {
		f.Listen, f.Seen, err = lookAt(d, bind)
	} else {
		f.Listen, err = listenStream(bind)
	}
	if err != nil {
		return pair.Pair{}, err
	}
	return pair.Make(f)
}

// listenStream is where a service that doesn't run will listen.
func listenStream(bind string) (string, error) {
	if _, err := probe.ParseBind(bind); err != nil {
		return "", err
	}
	listen, err := pair.ListenStream(bind)
	if filepath.IsAbs(listen) {
		listen = realPath(listen)
	}
	return listen, err
}

// lookAt looks at the socket of a service that runs. The main process has to hold it itself: sd_listen_fds(3) gives
// sockets to the process that systemd started, and to none below it.
func lookAt(d unit.Description, bind string) (listen string, seen *pair.Seen, err error) {
	via, err := probe.ParseBind(bind)
	if err != nil {
		return "", nil, err
	}
	own, err := listens(d.MainPID)
	if err != nil {
		return "", nil, err
	}
	here := socket.Serving(own, via.Network, via.Addr)
	if len(here) == 0 {
		if all, err := socket.Listeners(via.Network); err == nil && len(socket.Serving(all, via.Network, via.Addr)) == 0 {
			return "", nil, fmt.Errorf("%s runs, and nothing listens on %s: have it healthy first, see deploygate diagnose", d.Name, bind)
		}
		return "", nil, fmt.Errorf("the main process of %s (%d) doesn't listen on %s itself, and sockets of systemd go to that process alone: start gunicorn without a program between, by exec", d.Name, d.MainPID, bind)
	}
	seen = &pair.Seen{}
	for _, l := range own {
		if l != here[0] {
			seen.More = append(seen.More, l.Bind())
		}
	}
	if via.Network != "unix" {
		return here[0].Addr, seen, nil
	}
	listen = realPath(via.Addr)
	if seen.Socket, err = rightsOf(listen, fs.ModeSocket); err != nil {
		return "", nil, fmt.Errorf("the socket of %s is not to be seen from here: %w", d.Name, err)
	}
	if seen.Directory, err = rightsOf(filepath.Dir(listen), fs.ModeDir); err != nil {
		return "", nil, err
	}
	entries, err := untrusted.ReadDir(filepath.Dir(listen))
	if err != nil {
		return "", nil, fmt.Errorf("cannot list %s: %w", filepath.Dir(listen), release.Reason(err))
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(listen) {
			seen.Beside = append(seen.Beside, e.Name())
		}
	}
	return listen, seen, nil
}

// rightsOf reads the owner and mode of a file of a kind.
func rightsOf(file string, kind fs.FileMode) (r pair.Rights, err error) {
	info, err := untrusted.Lstat(file)
	if err != nil {
		return r, fmt.Errorf("cannot look at %s: %w", file, release.Reason(err))
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeType != kind {
		return r, fmt.Errorf("%s is %s, which was not expected", file, info.Mode())
	}
	uid, gid := strconv.FormatUint(uint64(st.Uid), 10), strconv.FormatUint(uint64(st.Gid), 10)
	r = pair.Rights{Owner: uid, Group: gid, Mode: info.Mode().Perm()}
	if u, err := user.LookupId(uid); err == nil {
		r.Owner = u.Username
	}
	if g, err := user.LookupGroupId(gid); err == nil {
		r.Group = g.Name
	}
	return r, nil
}

// isGunicorn tells whether a process is gunicorn by its command line, which gunicorn with setproctitle sets to
// "gunicorn: master […]".
func isGunicorn(pid int) bool {
	if pid == 0 {
		return false
	}
	const enough = 4 << 10
	text, _, err := untrusted.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid), enough, nil)
	if err != nil {
		return false
	}
	argv := strings.Split(string(text), "\x00")
	return slices.ContainsFunc(argv, func(arg string) bool { return strings.HasPrefix(filepath.Base(arg), "gunicorn") })
}
