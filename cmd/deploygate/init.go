package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/release/unit"
	"deploygate/release/unit/pair"
)

type initReport struct {
	App     string `json:"app"`
	File    string `json:"file"`
	Written bool   `json:"written"`
	Text    string `json:"text"`
}

func (c *commands) init() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write a configuration from what this host's unit and nginx say, or a socket unit in front of the app",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "unit", Usage: "the app's `UNIT` (default: gunicorn.service, or the only one that runs gunicorn)"},
			&cli.BoolFlag{Name: "socket-activation", Usage: "write a socket unit instead, with which no request is lost while the app restarts, and print the steps to it and back"},
			&cli.BoolFlag{Name: "print", Aliases: []string{"dry-run"}, Usage: "print what would be written, and write nothing"},
		},
		Action: func(ctx *cli.Context) error {
			if ctx.Bool("socket-activation") {
				return c.initSocket(ctx)
			}
			s, err := c.unconfigured(ctx, 0)
			if err != nil {
				return err
			}
			name := ctx.String("unit")
			if ctx.IsSet("unit") {
				if err := config.ValidUnit(name); err != nil {
					return usagef("--unit %v", err)
				}
			}
			r := initReport{}
			if r.App, r.File, err = newConfig(ctx.String("config"), ctx.String("app"), config.Dir, ctx.Bool("print")); err != nil {
				return err
			}
			run, stop := interruptible(false)
			defer stop()
			return s.init(run, r, name, ctx.Bool("print"))
		},
	}
}

// newConfig says which app's configuration is to be written where. One that is there already is never overwritten; to
// look at what would be written it doesn't matter.
func newConfig(file, app, dir string, look bool) (string, string, error) {
	if app == "" && file == "" {
		found, err := config.Files(dir)
		switch {
		case err != nil:
			return "", "", err
		case len(found) == 0:
			app = config.DefaultApp
		case len(found) == 1 && look:
			file = found[0]
		case len(found) == 1:
			return "", "", usagef("%s is there already and is left as it is; one for another app: deploygate init --app NAME", found[0])
		default:
			return "", "", config.Several(found)
		}
	}
	if app == "" {
		app = strings.TrimSuffix(filepath.Base(file), ".toml")
	}
	if err := config.ValidApp(app); err != nil {
		return "", "", err
	}
	if file == "" {
		file = filepath.Join(dir, app+".toml")
	}
	if _, err := untrusted.Lstat(file); err == nil && !look {
		return "", "", usagef("%s is there already and is left as it is; to see what would be written: deploygate init --print", file)
	}
	return app, file, nil
}

// init looks at the host and writes the configuration.
func (s *session) init(ctx context.Context, r initReport, unitName string, look bool) error {
	manager, err := unit.Connect(context.WithoutCancel(ctx), unit.System)
	if err != nil {
		return s.cannot(err)
	}
	defer manager.Close()
	f, err := survey(ctx, manager, unitName)
	if err != nil {
		if several, is := errors.AsType[*usageError](err); is {
			return several
		}
		return s.cannot(err)
	}
	if first := config.Defaults(config.DefaultApp); !look && r.App == config.DefaultApp && f.root != first.Root && deployed(first) {
		return usagef("%q is the app in %s, which has been deployed; give the one in %s a name of its own: deploygate init --app NAME --unit %s",
			config.DefaultApp, first.Root, f.root, f.unit)
	}
	r.Text = f.text()
	if err := loads(r.File, r.Text); err != nil {
		return s.cannot(err)
	}
	if ctx.Err() != nil {
		return s.cannot(errors.New("interrupted; nothing was written"))
	}
	if !look {
		if err := s.create(pair.File{Path: r.File, Text: r.Text}); err != nil {
			return err
		}
		r.Written = true
	}
	if s.json {
		return s.printJSON(r, 0)
	}
	for _, o := range f.open {
		fmt.Fprintf(s.err, "deploygate: %s\n", oneLine(o))
	}
	if look {
		fmt.Fprint(s.out, r.Text)
		return nil
	}
	fmt.Fprintln(s.out, oneLine(fmt.Sprintf("written: %s, for %s in %s; whether it fits: deploygate check%s", r.File, f.unit, f.root, naming(r.App, r.File))))
	return nil
}

// deployed tells whether an app is there and has been deployed.
func deployed(c *config.Config) bool {
	_, missing := untrusted.Lstat(filepath.Join(c.Root, "current"))
	history, err := journal.Load(c.StateDir)
	_, ever := history.Last()
	return missing == nil && err == nil && ever
}

// create is create, with the end that the command comes to.
func (s *session) create(files ...pair.File) error {
	return s.refused(create(files...))
}

// refused is the end that a command comes to which couldn't write; nil: it could.
func (s *session) refused(err error) error {
	if exists, is := errors.AsType[*existsError](err); is {
		return usagef("%s", exists.Error())
	}
	if err != nil {
		return s.cannot(err)
	}
	return nil
}

// naming gives the flags that lead to a configuration, as words of a command line; "" where none is needed.
func naming(app, file string) string {
	switch file {
	case "", filepath.Join(config.Dir, config.DefaultApp+".toml"):
		return ""
	case filepath.Join(config.Dir, app+".toml"):
		return " --app " + app
	}
	flags := " --config " + file
	if app+".toml" != filepath.Base(file) {
		flags += " --app " + app
	}
	return flags
}

// loads sees to it that what is written can be read.
func loads(file, text string) error {
	if _, err := config.Parse(file, config.DefaultApp, []byte(text)); err != nil {
		return fmt.Errorf("what was found makes no configuration: %w", err)
	}
	return nil
}

// found is what the host says of an app, each with where it says so.
type found struct {
	unit, unitAt string
	root, rootAt string
	bind, bindAt string // "" is not known
	bindRead     bool   // it is read from the unit, at each deploy
	host, hostAt string
	url, urlAt   string
	open         []string // what isn't known, a sentence each
}

// text is the configuration: what differs from the defaults, and where it was read.
func (f *found) text() string {
	d := config.Defaults(config.DefaultApp)
	var b strings.Builder
	b.WriteString("# Written by deploygate init from what this host's unit and nginx say. What isn't here has its default.\n")
	section := ""
	set := func(in, key, value, at string) {
		if in != section {
			section = in
			fmt.Fprintf(&b, "\n[%s]\n", in)
		} else if in == "" {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s = %s # %s\n", key, quoted(value), oneLine(at))
	}
	if f.root != d.Root {
		set("", "root", f.root, f.rootAt)
	}
	if f.unit != d.Service.Unit {
		set("service", "unit", f.unit, f.unitAt)
	}
	switch {
	case f.bindRead:
		set("health", "# bind", f.bind, f.bindAt)
	case f.bind != "":
		set("health", "bind", f.bind, f.bindAt)
	default:
		set("health", "# bind", "unix:/run/gunicorn/gunicorn.sock", f.bindAt)
	}
	if f.host != "" && f.host != d.Health.Host {
		set("health", "host", f.host, f.hostAt)
	}
	if f.url != "" && f.url != "http://127.0.0.1"+d.Health.Path {
		set("proxy", "url", f.url, f.urlAt)
	}
	if len(f.open) > 0 {
		b.WriteString("\n")
	}
	for _, o := range f.open {
		fmt.Fprintf(&b, "# %s\n", oneLine(o))
	}
	return b.String()
}

// quoted is a TOML string (toml.io, basic strings).
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"', r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ', r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// survey looks at the host. It changes nothing.
func survey(ctx context.Context, manager *unit.Manager, name string) (*found, error) {
	f := &found{}
	d, err := f.findUnit(ctx, manager, name)
	if err != nil {
		return nil, err
	}
	if f.root, f.rootAt = rootOf(d); f.root == "" {
		if _, err := usable(ctx, manager, d.Name, config.Defaults("").Root); err != nil && d.LoadState != "loaded" {
			return nil, err
		}
		return nil, fmt.Errorf("%s goes through no link that is called current, so a swap would change nothing; set WorkingDirectory=ROOT/current in it", d.Name)
	}
	if d, err = usable(ctx, manager, d.Name, f.root); err != nil {
		return nil, err
	}
	f.findBind(d)
	if f.bind != "" {
		f.findProxy(ctx)
	}
	return f, nil
}

// usable asks the same of a unit and its root as a deploy does.
func usable(ctx context.Context, manager *unit.Manager, name, root string) (unit.Description, error) {
	u := manager.Unit(name)
	if _, err := host.NewService(u, filepath.Join(root, "current"), config.Defaults("")).Ready(ctx); err != nil {
		return unit.Description{}, err
	}
	tree, err := release.Open(root)
	if err != nil {
		return unit.Description{}, err
	}
	defer tree.Close()
	if _, err := tree.Current(); err != nil {
		return unit.Description{}, err
	}
	return u.Describe(ctx)
}

// findUnit takes the unit that was named, else the default one, else the only one that runs gunicorn.
func (f *found) findUnit(ctx context.Context, manager *unit.Manager, name string) (unit.Description, error) {
	f.unit, f.unitAt = name, "as init was told"
	if name != "" {
		return manager.Unit(name).Describe(ctx)
	}
	f.unit, f.unitAt = config.Defaults("").Service.Unit, "the default"
	d, err := manager.Unit(f.unit).Describe(ctx)
	if err != nil || d.LoadState != "not-found" {
		return d, err
	}
	all, err := manager.Services(ctx)
	if err != nil {
		return d, err
	}
	var running []unit.Description
	for _, name := range all {
		d, err := manager.Unit(name).Describe(ctx)
		if err != nil {
			return d, err
		}
		if d.LoadState == "loaded" && d.IsGunicorn() {
			running = append(running, d)
		}
	}
	switch len(running) {
	case 0:
		return d, errors.New("there is no gunicorn.service, and no other service whose ExecStart= names gunicorn; say which one runs the app with --unit")
	case 1:
		f.unit, f.unitAt = running[0].Name, "the only service whose ExecStart= names gunicorn"
		return running[0], nil
	}
	var names []string
	for _, d := range running {
		names = append(names, d.Name)
	}
	return d, usagef("there are several services that run gunicorn (%s); say which with --unit UNIT, and what to call the app with --app NAME", strings.Join(names, ", "))
}

// currentLink finds a path through a link that is called current.
var currentLink = regexp.MustCompile(`(/[^\s:=,;'"]*?[^\s:=,;'"/])/current(?:[/\s:,;'"]|$)`)

// rootOf is the directory that holds the link that a unit goes through.
func rootOf(d unit.Description) (root, at string) {
	type place struct{ text, at string }
	places := []place{{d.WorkingDirectory, "WorkingDirectory="}, {d.Option("--chdir", ""), "--chdir"}}
	for _, word := range append([]string{d.Program}, d.ExecStart...) {
		places = append(places, place{word, "ExecStart="})
	}
	for _, assignment := range d.Environment {
		places = append(places, place{assignment, "Environment="})
	}
	for _, p := range places {
		if m := currentLink.FindStringSubmatch(p.text); m != nil && filepath.IsAbs(m[1]) {
			return filepath.Clean(m[1]), p.at + " of " + d.Name + " goes through " + filepath.Join(m[1], "current")
		}
	}
	return "", ""
}

// findBind says where the app listens: as its unit says, which is read again at each deploy, or where its main process
// does.
func (f *found) findBind(d unit.Description) {
	bind, why, ok := d.Bind()
	if ok {
		if _, err := probe.ParseBind(bind); err == nil {
			f.bind, f.bindRead, f.bindAt = bind, true, "not needed: it is read from "+d.Name+" at each deploy"
			return
		}
		why = "its bind " + bind + " is not understood"
	}
	if at, err := listens(d.MainPID); err == nil && len(at) == 1 {
		f.bind, f.bindAt = at[0].Bind(), fmt.Sprintf("where process %d of %s listens; the unit doesn't say: %s", d.MainPID, d.Name, why)
		return
	}
	f.bindAt = "an example"
	f.open = append(f.open, fmt.Sprintf("health.bind has to be set: it isn't known where %s listens: %s", d.Name, why))
}

// listens gives where a process listens; nothing where there is no process.
func listens(pid int) (at []socket.Listener, err error) {
	if pid == 0 {
		return nil, nil
	}
	all, err := socket.Listeners("")
	if err != nil {
		return nil, err
	}
	var inodes []uint64
	for _, l := range all {
		inodes = append(inodes, l.Inode)
	}
	held, err := socket.Holders(inodes...)
	if _, unseen := untrusted.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); unseen == nil {
		err = nil // others' processes may be closed to this one
	}
	for _, l := range all {
		if slices.ContainsFunc(held[l.Inode], func(h socket.Holder) bool { return h.PID == pid }) {
			at = append(at, l)
		}
	}
	return at, err
}
