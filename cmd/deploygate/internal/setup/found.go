// Package setup is deploygate init: it reads a configuration, or a socket unit, off the host as it is.
//
// Guaranteed: nothing that is there is written over, and files that belong together are all written or none; where the host
// doesn't tell, a value is left open and said to be.
//
// Not guaranteed: that what was read fits. deploygate check tries it.
package setup

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/release/server"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// File says which app's configuration is to be written where. Without a name it is called name. One that is there already is never
// overwritten; to look at what would be written it doesn't matter.
func File(file, app, name, dir string, look bool) (string, string, error) {
	switch {
	case app != "":
	case file != "":
		app = strings.TrimSuffix(filepath.Base(file), ".toml")
	default:
		app = name
	}
	if err := config.ValidApp(app); err != nil {
		return "", "", inputf("%v", err)
	}
	if file == "" {
		file = filepath.Join(dir, app+".toml")
	}
	if _, err := untrusted.Lstat(file); err == nil && !look {
		return "", "", inputf("%s is there already and is left as it is; another name: --app NAME; to see what would be written: deploygate init --print", file)
	}
	return app, file, nil
}

// Deployed reports whether an app is there and has been deployed.
func Deployed(c *config.Config) bool {
	_, missing := untrusted.Lstat(filepath.Join(c.Root, "current"))
	history, err := journal.Load(c.StateDir)
	_, ever := history.Last()
	return missing == nil && err == nil && ever
}

// Flags returns the flags that lead to a configuration, as words of a command line; "" where none is needed.
func Flags(app, file string) string {
	switch file {
	case "", filepath.Join(config.Dir, config.DefaultApp+".toml"):
		return ""
	case filepath.Join(config.OwnDir(), app+".toml"):
		if files, err := config.Files(config.OwnDir()); err == nil && len(files) == 1 {
			return ""
		}
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
	Unit, unitAt string
	manager      unit.Scope
	Root, rootAt string
	bind, bindAt string // "" is not known
	bindRead     bool   // it is read from the unit, at each deploy
	path, pathAt string
	host, hostAt string
	proxyHost    string // where nginx is to be asked as another one
	url, urlAt   string // without the path
	Answers      []Answer
	Others       []string // units beside it that go through the same link
	Open         []string // what isn't known, a sentence each
}

// Name is what the app is called if nobody says.
func (f *found) Name() string { return nameOf(f.Root, f.Unit) }

// Config is the text of the file, which can be read back.
func (f *found) Config(file string) (text string, err error) {
	text = f.text()
	return text, loads(file, text)
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
		fmt.Fprintf(&b, "%s = %s # %s\n", key, quoted(value), gate.OneLine(at))
	}
	if f.Root != d.Root {
		set("", "root", f.Root, f.rootAt)
	}
	if f.Unit != d.Service.Unit {
		set("service", "unit", f.Unit, f.unitAt)
	}
	if f.manager == unit.User {
		set("service", "manager", string(f.manager), "it is a unit of this user's own service manager")
	}
	switch {
	case f.bindRead:
		set("health", "# bind", f.bind, f.bindAt)
	case f.bind != "":
		set("health", "bind", f.bind, f.bindAt)
	default:
		set("health", "# bind", "unix:/run/gunicorn/gunicorn.sock", f.bindAt)
	}
	if f.path != "" && f.path != d.Health.Path {
		set("health", "path", f.path, f.pathAt)
	}
	if f.host != "" && f.host != d.Health.Host {
		set("health", "host", f.host, f.hostAt)
	}
	if f.url != "" && f.url != "http://127.0.0.1" {
		set("proxy", "url", f.url, f.urlAt+"; the path is health.path")
	}
	if f.proxyHost != "" && f.proxyHost != f.host {
		set("proxy", "host", f.proxyHost, "the server_name there")
	}
	if len(f.Open)+len(f.Others) > 0 {
		b.WriteString("\n")
	}
	for _, o := range slices.Concat(f.Open, f.Others) {
		fmt.Fprintf(&b, "# %s\n", gate.OneLine(o))
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

// Survey looks at the host. It changes nothing. A name of a unit that isn't among the apps may be that of a server which isn't known.
func Survey(ctx context.Context, manager *unit.Manager, scope unit.Scope, apps []App, a App, name, path string) (*found, error) {
	f := &found{Unit: a.Unit.Name, unitAt: "the only service whose command runs a web application", manager: scope, path: path, pathAt: "as init was told"}
	switch {
	case a.Unit.Name == "":
		d, err := manager.Unit(name).Describe(ctx)
		if err != nil {
			return nil, err
		}
		if d.LoadState == "not-found" {
			return nil, inputf("there is no unit %s%s", name, orOneOf(apps))
		}
		a, f.Unit, f.unitAt = appOf(d), d.Name, "as init was told"
	case name != "" || len(apps) > 1:
		f.unitAt = "as init was told"
	case a.Seen:
		f.unitAt = "the only service whose processes run a web application"
	}
	if f.Root, f.rootAt = a.Root, a.rootAt; f.Root == "" && a.Unit.LoadState == "loaded" {
		return nil, newLayout(a, scope)
	}
	d, err := Usable(ctx, manager, f.Unit, f.Root)
	if err != nil {
		return nil, err
	}
	f.findBind(d)
	if f.bind != "" {
		ways := f.findProxy(ctx)
		f.findHealth(ctx, hostsOf(ways))
		f.through(ctx, ways)
	}
	return f, f.findOthers(ctx, manager)
}

// orOneOf names the services that may be meant.
func orOneOf(apps []App) string {
	if len(apps) == 0 {
		return ""
	}
	return "; what runs a web application here: " + listed(apps)
}

// findOthers finds the services beside the app's own whose text goes through the same link: a deploy doesn't restart them.
func (f *found) findOthers(ctx context.Context, manager *unit.Manager) error {
	all, err := manager.Loaded(ctx)
	if err != nil {
		return err
	}
	link := filepath.Join(f.Root, "current")
	for _, d := range all {
		if d.Name != f.Unit && d.UsesLink(link) {
			f.Others = append(f.Others, fmt.Sprintf("%s goes through %s too, and a deploy doesn't restart it: have an after_release hook do that", d.Name, link))
		}
	}
	return nil
}

// Usable asks the same of a unit and its root as a deploy does.
func Usable(ctx context.Context, manager *unit.Manager, name, root string) (unit.Description, error) {
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

// currentLink finds a path through a link that is called current.
var currentLink = regexp.MustCompile(`(/[^\s:=,;'"]*?[^\s:=,;'"/])/current(?:[/\s:,;'"]|$)`)

// rootOf is the directory that holds the link that a unit goes through.
func rootOf(d unit.Description) (root, at string) {
	type place struct{ text, at string }
	places := []place{{d.WorkingDirectory, "WorkingDirectory="}, {servers.Parse(server.CommandOf(d)).Dir(), "--chdir"}}
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

// findBind says where the app listens: as its unit says, which is read again at each deploy, or where its processes do.
func (f *found) findBind(d unit.Description) {
	at := host.BindOf(d, f.Root)
	why := at.Why
	if at.Addr != "" {
		_, err := probe.ParseBind(at.Addr)
		switch {
		case err != nil:
			why = "its bind " + at.Addr + " is not understood"
		case at.Seen:
			f.bind, f.bindAt = at.Addr, fmt.Sprintf("where the processes of %s listen; the unit itself doesn't say it", d.Name)
			return
		default:
			f.bind, f.bindRead, f.bindAt = at.Addr, true, "not needed: it is read from "+d.Name+" at each deploy"
			return
		}
	}
	f.bindAt = "an example"
	f.Open = append(f.Open, fmt.Sprintf("health.bind has to be set: it isn't known where %s listens: %s", d.Name, why))
}

// listens returns where a process listens; nothing where there is no process.
func listens(pid int) (at []socket.Listener, err error) {
	if pid == 0 {
		return nil, nil
	}
	own, err := host.Listeners(func(h socket.Holder) bool { return h.PID == pid })
	if _, unseen := untrusted.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); unseen == nil {
		err = nil // others' processes may be closed to this one
	}
	for _, l := range own {
		at = append(at, l.Listener)
	}
	return at, err
}
