package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/nginx"
	"deploygate/gate/probe"
	"deploygate/gate/program"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/rehearsal"
	"deploygate/release/unit"
)

// host is everything that a command needs of the host, made from the configuration.
type host struct {
	config   *config.Config
	tree     *release.Tree
	manager  *unit.Manager
	deployer *deploy.Deployer
	prober   func(limit time.Duration) gate.Prober // of the app itself; nil if it isn't known where it listens
	bind     string                                // where the app listens, in gunicorn's syntax; "" unknown

	secrets      *gate.Secrets    // what must not be shown
	rehearsedFor unit.Description // of the live unit, where this is a rehearsal beside it
}

// connect makes it. Nothing on the host is changed by it.
func connect(ctx context.Context, c *config.Config, log zerolog.Logger, observer deploy.Observer, secrets *gate.Secrets) (*host, error) {
	tree, err := release.Open(c.Root)
	if err != nil {
		return nil, err
	}
	// The connection to systemd outlives an interruption: the way back needs it.
	manager, err := unit.Connect(context.WithoutCancel(ctx), c.Service.Manager)
	if err != nil {
		_ = tree.Close()
		return nil, gate.AsFinding(gate.LayerService, err)
	}
	service := &appService{unit: manager.Unit(c.Service.Unit), link: tree.CurrentPath(), config: c}
	g := newGate(c, service.unit)
	d := newDeployer(c, tree, observer)
	d.Service, d.Gate, d.Runner = service, g, runner{service.unit, c.App, pointed(tree)}
	h := &host{config: c, tree: tree, manager: manager, deployer: d, secrets: secrets}
	d.Secrets = secrets
	h.learnOfConfiguration()
	_, _ = h.describe(ctx, "") // what is wrong with the unit is said where it matters
	d.Witness, d.ExplainTask, d.Guard = h.witness, h.explainTask, h.guard
	d.Look, d.Diagnose = h.look, h.diagnose
	d.Outside = h.outside
	d.Rehearsal = newRehearser(h, log)
	d.Uses = uses{h}
	d.Vital = h.vital
	d.Python = func() string { return h.python(context.WithoutCancel(ctx)) }
	if c.Rollback.Applied == config.AppliedAsk {
		d.Applied = h.applied
	}
	service.bindErr = h.direct(ctx, g, service.unit, log)
	if err := h.proxy(ctx, g, log); err != nil {
		service.proxyErr = err
	}
	return h, nil
}

func newGate(c *config.Config, u unit.Unit) *gate.Gate {
	return &gate.Gate{
		Unit: u, Ended: unit.Ended, Interval: c.Health.Interval, Stable: c.Health.Stable, Deadline: c.Health.Deadline,
		GiveUp: c.Health.GiveUp, Flaps: flaps(u), Log: unitLog(u, c.Service.Manager),
	}
}

// unitLog reads the unit's journal, and gunicorn's own log where its command line names a file.
func unitLog(u unit.Unit, scope unit.Scope) func(context.Context, time.Time) []gate.LogLine {
	return func(ctx context.Context, since time.Time) []gate.LogLine {
		lines, _ := u.Log(ctx, unit.LogQuery{Since: since}) // what isn't there proves nothing
		d, err := u.Describe(ctx)
		if err != nil {
			return lines
		}
		for _, option := range []string{"--error-logfile", "--log-file"} {
			if file := d.Option(option, ""); filepath.IsAbs(file) {
				more, _ := unit.LogFile(file, appUser(scope, d))
				lines = append(lines, within(more, since, time.Now())...)
			}
		}
		slices.SortStableFunc(lines, func(a, b gate.LogLine) int { return a.At.Compare(b.At) })
		return lines
	}
}

// flaps asks the journal how often systemd had to start a unit again.
func flaps(u unit.Unit) func(context.Context, gate.UnitState) *gate.Finding {
	return func(ctx context.Context, st gate.UnitState) *gate.Finding {
		now := time.Now()
		log, err := u.Events(ctx, diagnosis.LoopSince(now), diagnosis.ScheduledRestart, diagnosis.Stopping)
		return diagnosis.Flaps(st, log, err == nil, now)
	}
}

// newDeployer knows the configuration and the file system, and no systemd.
func newDeployer(c *config.Config, tree *release.Tree, observer deploy.Observer) *deploy.Deployer {
	return &deploy.Deployer{
		App: c.App, StateDir: c.StateDir, Tree: tree, Observer: observer,
		Require: c.Release.Require, NoMarker: c.Rollback.NoMarker, Automatic: c.Rollback.Automatic,
		GuardRequired: c.Rollback.Guard == config.GuardRequired, RefuseBroken: c.Proxy.BrokenBefore == config.BrokenRefuse,
		Reload: c.Service.Action == config.ActionReload, Rehearse: c.Rehearse.Enabled, RehearseFirst: c.Rehearse.BeforeHooks,
		Keep: c.Keep, Hooks: c.Hooks, Checks: c.Checks,
	}
}

func (h *host) Close() {
	h.manager.Close()
	_ = h.tree.Close()
}

// direct sets the probe of the app itself up.
func (h *host) direct(ctx context.Context, g *gate.Gate, u unit.Unit, log zerolog.Logger) error {
	c := h.config
	bind := c.Health.Bind
	if bind == "" {
		d, err := u.Describe(ctx)
		if err != nil {
			return err
		}
		var why string
		var ok bool
		if bind, why, ok = d.Bind(); !ok {
			return gate.NewFinding(gate.LayerSocket, gate.Unknown, fmt.Sprintf("cannot tell where %s listens: %s", u.Name(), why)).
				Advise(`set health.bind to what gunicorn binds, like "unix:/run/gunicorn/gunicorn.sock" or "127.0.0.1:8000"`)
		}
	}
	via, err := probe.ParseBind(bind)
	if err != nil {
		return gate.NewFinding(gate.LayerSocket, gate.Unknown, fmt.Sprintf("cannot tell where %s listens: %v", u.Name(), err)).
			Advise("set health.bind")
	}
	h.bind = via.String()
	address := "http://" + c.Health.Host + c.Health.Path
	h.prober = func(limit time.Duration) gate.Prober {
		return probe.New(probe.Request{
			URL: address, Host: c.Health.Host, Headers: c.Health.Headers, Timeout: limit, Via: via, Log: probeLog{log},
		})
	}
	g.Direct, g.Patient, g.Busy = h.prober(c.Health.Timeout), h.prober(c.Health.Deadline), accepted(via)
	g.Holders = holders(via)
	g.Health = gate.Expectation{
		Where: "GET " + c.Health.Path + " on " + via.String(), URL: address, Host: c.Health.Host,
		Status: c.Health.Status, Body: c.Health.Body, Setting: "health",
	}
	return nil
}

const nginxUnit = "nginx.service"

// proxy sets nginx and the probe through it up, where there is one.
func (h *host) proxy(ctx context.Context, g *gate.Gate, log zerolog.Logger) error {
	c := h.config
	found := nginx.Find()
	switch {
	case c.Proxy.Kind == config.KindNone, c.Proxy.Kind == "" && found == "":
		return nil
	case found == "":
		return gate.NewFinding(gate.LayerProxy, gate.Unknown, "nginx is not installed on this host").
			Advise(`set proxy.kind = "none" if there is no proxy here`)
	}
	n := &nginx.Nginx{
		Program: found, NeverReload: c.Proxy.Reload == config.ReloadNever, ErrorLog: c.Proxy.ErrorLog,
		Master: func(ctx context.Context) int {
			st, err := h.manager.Unit(nginxUnit).State(ctx)
			if err != nil {
				return 0
			}
			return st.MainPID
		},
	}
	g.Proxy = n
	if c.Proxy.URL == "" {
		return nil
	}
	g.Routes = routes{
		nginx: n, unit: h.manager.Unit(c.Service.Unit), name: c.Service.Unit, config: c, bind: h.bind,
		ask: func(path string) (through, direct gate.Prober) { return h.bothWays(path, log) },
	}
	request := probe.Request{
		URL: c.Proxy.URL, Host: c.Proxy.Host, Headers: c.Health.Headers, Timeout: c.Health.Timeout, Log: probeLog{log},
	}
	g.Through = probe.New(request)
	where := c.Proxy.URL
	if u, err := url.Parse(c.Proxy.URL); err == nil {
		where = u.Redacted()
	}
	g.Certificate = func(ctx context.Context) *gate.Finding {
		shown, err := probe.Certificate(ctx, request)
		if err != nil || shown == nil {
			return nil // the request itself shows what is wrong
		}
		return diagnosis.Certificate(shown, where, c.Proxy.Host, time.Now())
	}
	g.Proxied = gate.Expectation{
		Where: "GET " + where, URL: c.Proxy.URL, Host: c.Proxy.Host, Status: c.Health.Status, Body: c.Health.Body,
		Proxy: true, Setting: "proxy",
	}
	return nil
}

// bothWays asks for another path than the health path, through the proxy and at the app itself; nil where that isn't known.
func (h *host) bothWays(path string, log zerolog.Logger) (through, direct gate.Prober) {
	c := h.config
	site, err := url.Parse(c.Proxy.URL)
	via, err2 := probe.ParseBind(h.bind)
	if err != nil || err2 != nil {
		return nil, nil
	}
	site.Path, site.RawPath, site.RawQuery = path, "", ""
	request := probe.Request{URL: site.String(), Host: c.Proxy.Host, Headers: c.Health.Headers, Timeout: c.Health.Timeout, Log: probeLog{log}}
	through = probe.New(request)
	site.Scheme, site.Host, site.User = "http", cmp.Or(c.Proxy.Host, site.Host), nil
	request.URL, request.Via = site.String(), via
	return through, probe.New(request)
}

// appService is the app's unit, as a deploy sees it.
type appService struct {
	unit              unit.Unit
	link              string
	config            *config.Config
	bindErr, proxyErr error // what the configuration leaves open
	placed            bool  // its processes have been seen to go through the link
}

// Ready implements deploy.Service.
func (s *appService) Ready(ctx context.Context) (deploy.Unit, error) {
	d, err := s.unit.Describe(ctx)
	if err != nil {
		return deploy.Unit{}, err
	}
	refuse := func(summary, advice string) (deploy.Unit, error) {
		return deploy.Unit{}, gate.NewFinding(gate.LayerService, gate.Unknown, summary).Advise(advice)
	}
	where, elsewhere := whereabouts{}, error(nil)
	if d.LoadState == "loaded" {
		where, elsewhere = s.whereabouts(ctx, d)
	}
	switch {
	case d.LoadState == "not-found":
		return refuse("there is no unit "+d.Name, "set service.unit to the app's unit: systemctl list-units --type=service")
	case d.LoadState == "masked":
		return refuse(d.Name+" is masked, so it can't be started", "systemctl unmask "+d.Name)
	case d.LoadState != "loaded":
		return refuse(fmt.Sprintf("systemd can't load %s: %s", d.Name, gate.Clean(d.LoadError)), "systemctl status "+d.Name)
	case elsewhere != nil:
		return deploy.Unit{}, elsewhere
	case s.reloads() && !d.CanReload:
		return refuse(d.Name+" can't be reloaded: it has no ExecReload=", `set service.action = "restart"`)
	case s.reloads() && !strings.Contains(s.config.Health.Body, "{version}"):
		// A master that has preloaded the app goes to the new directory, and forks workers with the old code.
		return refuse(fmt.Sprintf("what %s runs after a reload can't be verified: no answer names its release", d.Name),
			`set health.body to a text with {version} in it, or service.action = "restart"`)
	case s.bindErr != nil:
		return deploy.Unit{}, s.bindErr
	case s.proxyErr != nil:
		return deploy.Unit{}, s.proxyErr
	}
	dir := ""
	if d.MainPID != 0 {
		if dir, err = untrusted.Readlink(fmt.Sprintf("/proc/%d/cwd", d.MainPID)); errors.Is(err, fs.ErrPermission) {
			_, err := refuse(fmt.Sprintf("no right to see which release the processes of %s run", d.Name), "run deploygate as root")
			f := gate.AsFinding(gate.LayerService, err)
			f.Unseen = true
			return deploy.Unit{}, f
		}
	}
	u := deploy.Unit{
		Name: d.Name, InLink: where.inLink, Socket: d.Listen != "", Running: d.Settled && d.MainPID != 0, Invocation: d.InvocationID, Dir: dir,
	}
	if s.reloads() {
		st, err := s.unit.State(ctx)
		if err != nil {
			return deploy.Unit{}, err
		}
		for _, p := range st.Processes {
			u.Processes = append(u.Processes, p.PID)
		}
	}
	return u, nil
}

// Restart implements deploy.Service.
func (s *appService) Restart(ctx context.Context, kill bool, say gate.Progress) error {
	return s.unit.Restart(ctx, s.config.Service.RestartTimeout, kill, say)
}

// Reload implements deploy.Service.
func (s *appService) Reload(ctx context.Context, say gate.Progress) error {
	return s.unit.Reload(ctx, s.config.Service.RestartTimeout, say)
}

// Reread implements deploy.Service.
func (s *appService) Reread(ctx context.Context) (bool, error) { return s.unit.Reread(ctx) }

func (s *appService) reloads() bool { return s.config.Service.Action == config.ActionReload }

// runner runs hooks and checks beside the app's unit.
type runner struct {
	unit  unit.Unit
	app   string
	point func(dir, path string) string // where a path of the unit's settings leads for the release in a directory
}

// pointed has what goes through the live link lead to a release's directory: a hook of the candidate has the candidate's
// settings and code, as it will when it is live.
func pointed(tree *release.Tree) func(dir, path string) string {
	return func(dir, path string) string { return rehearsal.Stage{Release: dir}.Point(tree.CurrentPath(), path) }
}

// pointAt is where a path of the unit's settings leads for a task of the release in dir: into that release, or, where it isn't
// there yet and a hook may be about to make it, where it leads now.
func (r runner) pointAt(dir, path string) string {
	to := r.point(dir, path)
	if to != path && filepath.IsAbs(path) && exists(to) != "" {
		return path
	}
	return to
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// Run implements deploy.Runner.
func (r runner) Run(ctx context.Context, t deploy.Task) error {
	file, err := findProgram(t.Run[0], t.Dir)
	if err != nil {
		return err
	}
	return r.unit.Run(ctx, unit.Command{
		Name: r.app + "-" + strings.Trim(notInName.ReplaceAllString(filepath.Base(file), "-"), "-"),
		Args: append([]string{file}, t.Run[1:]...), Dir: t.Dir, User: t.User,
		Environment: t.Environment, Timeout: t.Timeout, Output: t.Output,
		Point: func(path string) string { return r.pointAt(t.Dir, path) }, Writable: []string{t.Dir},
	})
}

// findProgram makes a program's path absolute, as systemd wants it: relative to the release if it has a slash, else
// from the directories where a host keeps programs.
func findProgram(name, dir string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if strings.Contains(name, "/") {
		return filepath.Join(dir, name), nil
	}
	if file := program.Find(name); file != "" {
		return file, nil
	}
	return "", fmt.Errorf("there is no program %s", name)
}
