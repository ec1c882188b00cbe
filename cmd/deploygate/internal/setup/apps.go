package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate/proxy/nginx"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// App is a service that runs a web application.
type App struct {
	Unit   unit.Description
	Server string // gunicorn, uvicorn, …
	Seen   bool   // its processes show that, and its command doesn't

	Root, rootAt string // "" if it goes through no link that is called current
	Dir          string // where its main process works; "" if it isn't known
	Config       string // the file that configures it already
}

// String is the app as it is offered.
func (a App) String() string {
	where := cmp.Or(a.Root, a.Dir, "it isn't known where")
	if a.Config != "" {
		return fmt.Sprintf("%s (%s in %s, configured in %s)", a.Unit.Name, a.Server, where, a.Config)
	}
	return fmt.Sprintf("%s (%s in %s)", a.Unit.Name, a.Server, where)
}

// Apps lists the services that run a web application: their command names an application server that is known, a process of
// theirs that listens does, or nginx leads to one of Python. It is sorted by their names. dir has the configurations.
func Apps(ctx context.Context, manager *unit.Manager, dir string) (apps []App, err error) {
	all, err := manager.Loaded(ctx)
	if err != nil {
		return nil, err
	}
	seen := serversSeen(ctx)
	configured := configuredUnits(dir)
	for _, d := range all {
		a := appOf(d)
		if a.Server == "" {
			a.Server, a.Seen = seen[d.Name], true
		}
		if a.Config = configured[d.Name]; a.Server != "" {
			apps = append(apps, a)
		}
	}
	return apps, nil
}

// appOf is what a unit says of itself.
func appOf(d unit.Description) App {
	a := App{Unit: d, Server: servers.Name(server.CommandOf(d))}
	if d.MainPID != 0 {
		a.Dir, _ = untrusted.Readlink(fmt.Sprintf("/proc/%d/cwd", d.MainPID))
	}
	a.Dir = cmp.Or(a.Dir, d.WorkingDirectory)
	if a.Root, a.rootAt = rootOf(d); a.Root == "" {
		a.Root, a.rootAt = rootSeen(a.Dir, d.Name)
	}
	return a
}

// inRelease matches a directory that is a release's, or below it.
var inRelease = regexp.MustCompile(`^(/.+)/releases/[^/]+(/|$)`)

// rootSeen is the directory of the releases in one of which a process works, if there is a link that is called current beside
// them. A start script leads there without a word of it in the unit.
func rootSeen(dir, unitName string) (root, at string) {
	m := inRelease.FindStringSubmatch(dir)
	if m == nil {
		return "", ""
	}
	if _, err := untrusted.Readlink(filepath.Join(m[1], "current")); err != nil {
		return "", ""
	}
	return m[1], "the processes of " + unitName + " work in one of its releases"
}

// configuredUnits are the units that have a configuration in dir, with its file. One that can't be read has none.
func configuredUnits(dir string) map[string]string {
	found := map[string]string{}
	files, _ := config.Files(dir)
	for _, file := range files {
		if c, err := config.Load(file, "", dir); err == nil {
			found[c.Service.Unit] = file
		}
	}
	return found
}

// serversSeen are the application servers whose processes listen, by the units that these belong to. What can't be seen isn't
// offered.
func serversSeen(ctx context.Context) map[string]string {
	found := map[string]string{}
	all, _ := socket.Listeners("")
	held, _ := socket.HoldersOf(all)
	upstreams := upstreamsOfNginx(ctx)
	for _, l := range all {
		isUpstream := slices.ContainsFunc(upstreams, func(u string) bool { return sameAddress(u, l.Bind()) })
		for _, h := range held[l.Inode] {
			if found[h.Unit] != "" || h.Unit == "" {
				continue
			}
			found[h.Unit] = host.ServerAt(h.PID)
			if program, err := untrusted.Readlink(fmt.Sprintf("/proc/%d/exe", h.PID)); err == nil && found[h.Unit] == "" && isUpstream &&
				server.PythonName.MatchString(filepath.Base(program)) {
				found[h.Unit] = "Python"
			}
		}
	}
	return found
}

// upstreamsOfNginx is where nginx passes requests on to.
func upstreamsOfNginx(ctx context.Context) []string {
	n := &nginx.Nginx{Program: nginx.Find()}
	if n.Program == "" {
		return nil
	}
	effective, err := n.Effective(ctx)
	if err != nil {
		return nil
	}
	addresses, _ := effective.Upstreams()
	return addresses
}

// Choose takes the app that was asked for, else the only one that there is and that isn't configured yet; else choose is asked. To
// look at what would be written it doesn't matter whether it is.
func Choose(apps []App, name string, look bool, choose func([]App) (App, error)) (App, error) {
	free := slices.DeleteFunc(slices.Clone(apps), func(a App) bool { return a.Config != "" })
	if look && len(free) == 0 {
		free = apps
	}
	switch {
	case name != "":
		if i := slices.IndexFunc(apps, func(a App) bool { return a.Unit.Name == name }); i >= 0 {
			return apps[i], nil
		}
		return App{}, nil // of a server that isn't known; or there is none
	case len(apps) == 0:
		return App{}, inputf("no service here runs gunicorn, uvicorn, hypercorn or daphne, and nginx leads to none of Python; " +
			"say which one runs the app: deploygate init --unit UNIT")
	case len(free) == 1:
		return free[0], nil
	case len(free) > 1:
		return choose(free)
	case len(apps) == 1:
		return App{}, inputf("%s is there already and is left as it is: it configures %s; to see what would be written: deploygate init --print",
			apps[0].Config, apps[0].Unit.Name)
	}
	return App{}, inputf("every service that runs a web application is configured already: %s", listed(apps))
}

// Several is the error where it has to be said which one is meant.
func Several(apps []App) error {
	return inputf("there are several services that run a web application: %s; say which with --unit UNIT", listed(apps))
}

func listed(apps []App) string {
	var all []string
	for _, a := range apps {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// general are names that say nothing of an app: of directories, and of units.
var general = []string{
	"app", "apps", "application", "backend", "code", "current", "deploy", "django", "fastapi", "flask", "home", "html", "opt", "project", "projects",
	"public", "server", "service", "site", "sites", "src", "srv", "usr", "var", "web", "webapp", "website", "www", "wsgi", "asgi",
	"gunicorn", "uvicorn", "hypercorn", "daphne", "root", "/", ".",
}

// nameOf calls an app after its directory, else after its unit.
func nameOf(root, unitName string) string {
	var names []string
	for dir := root; len(dir) > 1; dir = filepath.Dir(dir) {
		names = append(names, filepath.Base(dir))
	}
	stem, instance, _ := strings.Cut(strings.TrimSuffix(unitName, ".service"), "@")
	names = append(names, stem)
	if strings.Trim(instance, "0123456789") != "" {
		names = append(names, instance)
	}
	for _, name := range names {
		if config.ValidApp(name) == nil && !slices.Contains(general, strings.ToLower(name)) {
			return name
		}
	}
	return config.DefaultApp
}

// Missing says what isn't there that has to be where there is no configuration; "" if it is, or that can't be seen.
func Missing(ctx context.Context, c *config.Config) string {
	if _, err := untrusted.Lstat(c.Root); errors.Is(err, fs.ErrNotExist) {
		return "there is no " + c.Root
	}
	manager, err := unit.Connect(ctx, c.Service.Manager)
	if err != nil {
		return ""
	}
	defer manager.Close()
	d, err := manager.Unit(c.Service.Unit).Describe(ctx)
	if err != nil || d.LoadState != "not-found" {
		return ""
	}
	return "there is no " + c.Service.Unit
}

// Offer names the services that run a web application; "" if none does.
func Offer(ctx context.Context, manager *unit.Manager) string {
	apps, err := Apps(ctx, manager, config.OwnDir())
	switch {
	case err != nil || len(apps) == 0:
		return ""
	case len(apps) == 1:
		return listed(apps) + " runs a web application"
	}
	return listed(apps) + " run web applications"
}
