// Package config is what can be set of an app: deploygate's TOML files, every default, and what makes a value valid.
//
// Guaranteed: every problem of a file is found at once, each told with its line and column; a key that isn't known is one; as
// root no file is used that others than root could change, nor one that has root run what others can write.
//
// Not guaranteed: that what is named exists. The host may come to have it.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"deploygate/gate/probe"
	"deploygate/gate/untrusted"
	"deploygate/release/deploy"
	"deploygate/release/unit"
	"deploygate/rollback"
)

const maxConfig = 1 << 20 // bytes

// Config is everything that can be set, with its defaults filled in.
type Config struct {
	App      string
	File     string // "" without one
	Root     string
	StateDir string
	// StateGroup may read the record of deploys; "" for nobody but its owner.
	StateGroup string
	Keep       int

	Release struct{ Require []string } // nil: Django's manage.py, if the live release has one
	Service struct {
		Unit           string
		Manager        unit.Scope
		Action         string        // restart or reload
		RestartTimeout time.Duration // 0: as long as the unit itself allows
	}
	Health struct {
		Bind     string // "": the unit or its processes tell
		Path     string
		Host     string
		Headers  map[string]string
		Status   []int
		Body     string
		Timeout  time.Duration
		Interval time.Duration
		Stable   time.Duration
		Deadline time.Duration
		GiveUp   time.Duration
	}
	Proxy struct {
		Kind         string // nginx or none; "" is nginx where it is installed
		URL          string
		Host         string
		Reload       string
		BrokenBefore string
		ErrorLog     string
	}
	Rehearse struct {
		Enabled     bool
		BeforeHooks bool
		Workers     int
		Run         []string // instead of the unit's own command
	}
	Rollback struct {
		Automatic bool
		NoMarker  rollback.Policy
		Applied   string
		Guard     string
	}
	Hooks  map[deploy.HookName][]deploy.Task
	Checks []deploy.Check
}

// Values of keys that take one of several words.
const (
	actionRestart     = "restart"
	ActionReload      = "reload"
	reloadWhenChanged = "when-changed"
	ReloadNever       = "never"
	appliedAssume     = "assume"
	AppliedAsk        = "ask"
	BrokenRefuse      = "refuse"
	brokenWarn        = "warn"
	kindNginx         = "nginx"
	KindNone          = "none"
	guardAuto         = "auto"
	GuardRequired     = "required"
)

// hookNames are the hooks that a configuration may have.
var hookNames = []deploy.HookName{deploy.BeforeSwap, deploy.AfterRelease, deploy.AfterRollback, deploy.OnHeld, deploy.OnStuck}

// defaultTaskTimeout is for a hook or check that sets none.
const defaultTaskTimeout = 5 * time.Minute

// Defaults is the one place where they are.
func Defaults(app string) *Config {
	c := &Config{App: app, Root: "/srv/app", StateDir: filepath.Join(StateBase, app), Keep: 5}
	c.Service.Unit = "gunicorn.service"
	c.Service.Manager = unit.System
	c.Service.Action = actionRestart
	c.Health.Path = "/health/"
	c.Health.Host = "localhost"
	c.Health.Headers = map[string]string{"X-Forwarded-Proto": "https"}
	c.Health.Status = []int{200}
	c.Health.Timeout = 2 * time.Second
	c.Health.Interval = 100 * time.Millisecond
	c.Health.Stable = 2 * time.Second
	c.Health.Deadline = 30 * time.Second
	c.Health.GiveUp = 5 * time.Second
	c.Proxy.Reload = reloadWhenChanged
	c.Proxy.BrokenBefore = BrokenRefuse
	c.Proxy.ErrorLog = "/var/log/nginx/error.log"
	c.Rehearse.Workers = 1
	c.Rollback.Automatic = true
	c.Rollback.NoMarker = rollback.Inspect
	c.Rollback.Applied = appliedAssume
	c.Rollback.Guard = guardAuto
	c.Hooks = map[deploy.HookName][]deploy.Task{}
	return c
}

// read takes a document's values over the defaults and notes every problem in it.
func (c *Config) read(d *document) {
	d.path("root", &c.Root)
	d.path("state_dir", &c.StateDir)
	d.text("state_group", &c.StateGroup)
	d.check("state_group", func() error {
		if c.StateGroup == "" {
			return nil
		}
		_, err := user.LookupGroup(c.StateGroup)
		return err
	})
	d.integer("keep", &c.Keep, 1, 10_000)

	d.strings("release.require", &c.Release.Require)
	d.check("release.require", func() error {
		for _, name := range c.Release.Require {
			if !filepath.IsLocal(name) {
				return fmt.Errorf("%q leaves the release; use paths relative to it", name)
			}
		}
		return nil
	})

	d.text("service.unit", &c.Service.Unit)
	d.check("service.unit", func() error { return ValidUnit(c.Service.Unit) })
	d.choice("service.manager", (*string)(&c.Service.Manager), "system", "user")
	d.choice("service.action", &c.Service.Action, actionRestart, ActionReload)
	if _, set := d.values["state_dir"]; !set && c.Service.Manager == unit.User {
		c.StateDir = filepath.Join(HomeDir(), ".local/state/deploygate", c.App)
	}
	d.durationOrNone("service.restart_timeout", &c.Service.RestartTimeout)

	d.text("health.bind", &c.Health.Bind)
	d.check("health.bind", func() error { _, err := probe.ParseBind(c.Health.Bind); return err })
	d.text("health.path", &c.Health.Path)
	d.check("health.path", func() error { return ValidPath(c.Health.Path) })
	d.text("health.host", &c.Health.Host)
	d.check("health.host", func() error { return validHost(c.Health.Host) })
	d.table("health.headers", &c.Health.Headers)
	d.check("health.headers", func() error { return validHeaders(c.Health.Headers) })
	d.integers("health.status", &c.Health.Status, 100, 599)
	d.text("health.body", &c.Health.Body)
	d.duration("health.timeout", &c.Health.Timeout)
	d.duration("health.interval", &c.Health.Interval)
	d.duration("health.stable", &c.Health.Stable)
	d.duration("health.deadline", &c.Health.Deadline)
	d.duration("health.give_up", &c.Health.GiveUp)
	d.checkFirst(func() error {
		if c.Health.Deadline <= c.Health.Stable {
			return fmt.Errorf("health.deadline (%s) must be longer than health.stable (%s)", c.Health.Deadline, c.Health.Stable)
		}
		return nil
	}, "health.deadline", "health.stable")
	d.checkFirst(func() error {
		if c.Health.Interval >= c.Health.Deadline {
			return fmt.Errorf("health.interval (%s) must be shorter than health.deadline (%s)", c.Health.Interval, c.Health.Deadline)
		}
		return nil
	}, "health.interval", "health.deadline")

	d.choice("proxy.kind", &c.Proxy.Kind, kindNginx, KindNone)
	c.Proxy.URL, c.Proxy.Host = "http://127.0.0.1"+c.Health.Path, c.Health.Host
	d.text("proxy.url", &c.Proxy.URL)
	d.check("proxy.url", func() error { return validURL(c.Proxy.URL) })
	if u, err := url.Parse(c.Proxy.URL); err == nil && u.Host != "" && u.Path == "" {
		c.Proxy.URL += c.Health.Path
	}
	d.text("proxy.host", &c.Proxy.Host)
	d.check("proxy.host", func() error { return validHost(c.Proxy.Host) })
	d.choice("proxy.reload", &c.Proxy.Reload, reloadWhenChanged, ReloadNever)
	d.choice("proxy.broken_before", &c.Proxy.BrokenBefore, BrokenRefuse, brokenWarn)
	d.path("proxy.error_log", &c.Proxy.ErrorLog)

	d.boolean("rehearse.enabled", &c.Rehearse.Enabled)
	d.boolean("rehearse.before_hooks", &c.Rehearse.BeforeHooks)
	d.integer("rehearse.workers", &c.Rehearse.Workers, 1, 1000)
	d.strings("rehearse.run", &c.Rehearse.Run)
	d.check("rehearse.run", func() error { return validRehearsal(c.Rehearse.Run) })

	d.boolean("rollback.automatic", &c.Rollback.Automatic)
	d.choice("rollback.no_marker", (*string)(&c.Rollback.NoMarker), "inspect", "allow", "block")
	d.choice("rollback.applied", &c.Rollback.Applied, appliedAssume, AppliedAsk)
	d.choice("rollback.guard", &c.Rollback.Guard, guardAuto, GuardRequired)

	for _, hook := range hookNames {
		d.tables("hooks."+string(hook), func(at string) { c.Hooks[hook] = append(c.Hooks[hook], readTask(d, at)) })
	}
	d.tables("checks", func(at string) {
		check := deploy.Check{Task: readTask(d, at)}
		d.text(at+".name", &check.Name)
		d.boolean(at+".required", &check.Required)
		c.Checks = append(c.Checks, check)
	})
}

func readTask(d *document, at string) deploy.Task {
	t := deploy.Task{Timeout: defaultTaskTimeout}
	d.strings(at+".run", &t.Run)
	d.text(at+".user", &t.User)
	d.duration(at+".timeout", &t.Timeout)
	if _, set := d.values[at+".run"]; !set {
		d.problem(at, `it has no run = ["PROGRAM", "ARGUMENT", …]`)
	} else if len(t.Run) == 0 || t.Run[0] == "" {
		d.problem(at+".run", `it names no program; write ["PROGRAM", "ARGUMENT", …]`)
	}
	t.Name = strings.Join(t.Run, " ")
	return t
}

// Error is every problem of a configuration at once, a line each.
type Error struct{ Problems []string }

func (e *Error) Error() string { return strings.Join(e.Problems, "\n") }

// Load finds and reads the configuration: the file that was named, else the app's in dir, else the only one
// there, else none at all. As root it refuses one that others could change, or that has root run what others can write.
func Load(file, app, dir string) (*Config, error) {
	c, err := load(file, app, dir)
	if err == nil {
		err = trusted("the state directory", c.StateDir)
	}
	if err == nil {
		err = c.trustedTasks()
	}
	return c, err
}

func load(file, app, dir string) (*Config, error) {
	if app != "" {
		if err := ValidApp(app); err != nil {
			return nil, err
		}
	}
	if file == "" {
		var err error
		if file, err = findConfig(app, dir); err != nil {
			return nil, err
		}
	}
	if file == "" {
		c := Defaults(DefaultApp)
		c.Proxy.URL, c.Proxy.Host = "http://127.0.0.1"+c.Health.Path, c.Health.Host
		return c, nil
	}
	if app == "" {
		app = strings.TrimSuffix(filepath.Base(file), ".toml")
		if err := ValidApp(app); err != nil {
			return nil, fmt.Errorf("%s: %w; name the app with --app", file, err)
		}
	}
	if err := trusted("the configuration", file); err != nil {
		return nil, err
	}
	text, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	c, err := Parse(file, app, text)
	if err != nil {
		return nil, err
	}
	c.File = file
	return c, nil
}

// Parse returns what the text of a configuration file says of an app. The error is a *Error, with a line for each problem.
func Parse(file, app string, text []byte) (*Config, error) {
	d, err := parseDocument(file, text)
	if err != nil {
		return nil, err
	}
	c := Defaults(app)
	c.read(d)
	return c, d.err()
}

// findConfig returns "" where there is no configuration at all and none was asked for.
func findConfig(app, dir string) (string, error) {
	found, err := Files(dir)
	if err != nil {
		return "", err
	}
	if app != "" {
		file := filepath.Join(dir, app+".toml")
		switch _, err := untrusted.Stat(file); {
		case err == nil:
			return file, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("cannot read the configuration %s: %w", file, untrusted.Cause(err))
		case app == DefaultApp && len(found) == 0:
			return "", nil
		}
		return "", fmt.Errorf("there is no configuration %s for app %q%s", file, app, known(found))
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", Several(found)
}

// Several is the error where one configuration is needed, and there are several.
func Several(files []string) error {
	return fmt.Errorf("there are several apps; say which with --app NAME%s", known(files))
}

// Files lists the configurations in dir, sorted. An editor's lock or backup is none: its name is no app's.
func Files(dir string) (files []string, err error) {
	entries, err := untrusted.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the configurations in %s: %w", dir, untrusted.Cause(err))
	}
	for _, e := range entries {
		if app, isConfig := strings.CutSuffix(e.Name(), ".toml"); isConfig && ValidApp(app) == nil {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

func known(files []string) string {
	if len(files) == 0 {
		return ""
	}
	var apps []string
	for _, f := range files {
		apps = append(apps, strings.TrimSuffix(filepath.Base(f), ".toml"))
	}
	return " (there are: " + strings.Join(apps, ", ") + ")"
}

func readConfig(file string) ([]byte, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration %s: %w", file, err)
	}
	text, more, err := untrusted.ReadFile(path, maxConfig, nil)
	switch {
	case errors.Is(err, untrusted.ErrNotRegular):
		return nil, fmt.Errorf("cannot read the configuration %s: it is not a file", file)
	case err != nil:
		return nil, fmt.Errorf("cannot read the configuration %s: %w", file, untrusted.Cause(err))
	case more:
		return nil, fmt.Errorf("cannot read the configuration %s: it is larger than %d KiB", file, maxConfig>>10)
	}
	return text, nil
}
