// Package host is what a deploy needs of this host, made from an app's configuration: its service, what answers for it, what
// hooks and rehearsals run in, and what can be seen of a failure.
//
// Guaranteed: Connect and every look change nothing; what can't be looked at is said, and is never taken for wrong; a look ends
// in bounded time, whatever a file system does.
package host

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/probe"
	"deploygate/gate/proxy"
	"deploygate/gate/proxy/nginx"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// Host is everything that a command needs of the host, made from the configuration.
type Host struct {
	Config   *config.Config
	tree     *release.Tree
	Manager  *unit.Manager
	Deployer *deploy.Deployer
	prober   func(limit time.Duration) gate.Prober // of the app itself; nil if it isn't known where it listens
	service  *appService
	health   *gate.HealthCheck
	proxy    proxy.Server // nil: there is none, or it is not to be asked
	bind     string       // where the app listens, in gunicorn's syntax; "" unknown

	secrets      *gate.Secrets    // what must not be shown
	rehearsedFor unit.Description // of the live unit, where this is a rehearsal beside it
}

// Connect makes it. Nothing on the host is changed by it.
func Connect(ctx context.Context, c *config.Config, log zerolog.Logger, observer deploy.Observer, secrets *gate.Secrets) (*Host, error) {
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
	service := NewService(manager.Unit(c.Service.Unit), tree.CurrentPath(), c)
	service.manager = manager
	d := NewDeployer(c, tree, observer)
	h := &Host{Config: c, tree: tree, Manager: manager, Deployer: d, service: service, health: newHealthCheck(c, service.unit), secrets: secrets}
	d.Instances = []deploy.Instance{{Service: service, Health: h.health, Outside: h.outside, CaptureEvidence: h.captureEvidence}}
	d.Runner, d.Secrets = runner{service.unit, c.App, pointed(tree)}, secrets
	h.learnOfConfiguration()
	_, _ = h.describe(ctx, "") // what is wrong with the unit is said where it matters
	d.ExplainTask, d.Guard = h.explainTask, h.guard
	d.Look, d.Diagnose = h.look, h.diagnose
	d.Rehearsal = newRehearser(h, log)
	d.Uses = uses{h}
	d.Vital = h.vital
	d.Python = func() string { return h.python(context.WithoutCancel(ctx)) }
	if c.Rollback.Applied == config.AppliedAsk {
		d.Applied = h.applied
	}
	service.bindErr = h.direct(ctx, h.health, service.unit, log)
	d.Proxy, service.proxyErr = h.throughProxy(log)
	return h, nil
}

func newHealthCheck(c *config.Config, u unit.Unit) *gate.HealthCheck {
	return &gate.HealthCheck{
		Want: gate.Want{
			Path: c.Health.Path, URL: "http://" + c.Health.Host + c.Health.Path, Host: c.Health.Host,
			Status: c.Health.Status, Body: c.Health.Body, Setting: "health",
		},
		Unit: u, Ended: unit.Ended, Interval: c.Health.Interval, Stable: c.Health.Stable, Deadline: c.Health.Deadline,
		GiveUp: c.Health.GiveUp, Flaps: flaps(u), Failures: failures(u, c.Service.Manager),
	}
}

// failures finds them in the unit's journal, and in gunicorn's own log where its command line names a file.
func failures(u unit.Unit, scope unit.Scope) func(context.Context, time.Time) gate.Failures {
	return func(ctx context.Context, since time.Time) gate.Failures {
		main := 0
		lines, _ := u.Log(ctx, unit.LogQuery{Since: since}) // what isn't there proves nothing
		if d, err := u.Describe(ctx); err == nil {
			main = d.MainPID
			for _, file := range lineOf(d).LogFiles() {
				more, _ := serverOf(d).ReadLog(file, appUser(scope, d))
				lines = append(lines, within(more, since, time.Now())...)
			}
		}
		slices.SortStableFunc(lines, func(a, b gate.LogLine) int { return a.At.Compare(b.At) })
		isParent := main != 0 && slices.Contains(servers.Parents(lines), main)
		return gate.Failures{Lines: servers.Failures(lines), Deserted: isParent && childless(main)}
	}
}

// childless reports whether a process has no children but those that Python's multiprocessing keeps for itself.
func childless(pid int) bool {
	const enough = 4 << 10
	children, more, err := untrusted.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid), enough, nil)
	if err != nil || more {
		return false
	}
	for child := range strings.FieldsSeq(string(children)) {
		command, _, err := untrusted.ReadFile("/proc/"+child+"/cmdline", enough, nil)
		if err == nil && len(command) > 0 && !strings.Contains(string(command), "multiprocessing.resource_tracker") {
			return false
		}
	}
	return true
}

// flaps asks the journal how often systemd had to start a unit again.
func flaps(u unit.Unit) func(context.Context, gate.UnitState) *gate.Finding {
	return func(ctx context.Context, st gate.UnitState) *gate.Finding {
		now := time.Now()
		log, err := u.Events(ctx, diagnosis.LoopSince(now), diagnosis.ScheduledRestart, diagnosis.Stopping)
		return diagnosis.Flaps(st, log, err == nil, now)
	}
}

// NewDeployer knows the configuration and the file system, and no systemd.
func NewDeployer(c *config.Config, tree *release.Tree, observer deploy.Observer) *deploy.Deployer {
	return &deploy.Deployer{
		App: c.App, StateDir: c.StateDir, Tree: tree, Observer: observer,
		Require: required(c, tree), NoMarker: c.Rollback.NoMarker, Automatic: c.Rollback.Automatic,
		GuardRequired: c.Rollback.Guard == config.GuardRequired, RefuseBroken: c.Proxy.BrokenBefore == config.BrokenRefuse,
		Reload: c.Service.Action == config.ActionReload, Rehearse: c.Rehearse.Enabled, RehearseFirst: c.Rehearse.BeforeHooks,
		Keep: c.Keep, Hooks: c.Hooks, Checks: c.Checks,
	}
}

// required are the files that a release must have: a Django site's are known by what the live release has.
func required(c *config.Config, tree *release.Tree) []string {
	if c.Release.Require == nil && isDjango(tree) {
		return []string{managePy}
	}
	return c.Release.Require
}

// managePy is what a Django site has.
const managePy = "manage.py"

// isDjango reports whether the live release is a Django site.
func isDjango(tree *release.Tree) bool {
	if tree == nil {
		return false
	}
	live, err := tree.Current()
	return err == nil && live != "" && tree.Inspect(live, []string{managePy}) == nil
}

// Close lets go of systemd and of the tree of releases.
func (h *Host) Close() {
	h.Manager.Close()
	_ = h.tree.Close()
}

// direct sets the probe of the app itself up.
func (h *Host) direct(ctx context.Context, check *gate.HealthCheck, u unit.Unit, log zerolog.Logger) error {
	c := h.Config
	bind := c.Health.Bind
	if bind == "" {
		d, err := u.Describe(ctx)
		if err != nil {
			return err
		}
		at := BindOf(d, c.Root)
		if at.Mute { // a deploy that was cut off has to be finished, and a broken release to be replaced
			if history, err := journal.Load(c.StateDir); err == nil {
				at.Addr, at.Seen = history.Bind(u.Name()), true
			}
		}
		if at.Mute && at.Addr == "" {
			at = h.comesToListen(ctx, u, at)
		}
		if at.Seen {
			h.service.bind = at.Addr
		}
		if bind = at.Addr; bind == "" {
			f := gate.NewFinding(gate.LayerSocket, gate.Unknown, fmt.Sprintf("cannot tell where %s listens: %s", u.Name(), at.Why)).
				Advise(`set health.bind to it, like "unix:/run/gunicorn/gunicorn.sock" or "127.0.0.1:8000"`)
			f.Unseen = true // it may well be healthy
			return f
		}
	}
	via, err := probe.ParseBind(bind)
	if err != nil {
		return gate.NewFinding(gate.LayerSocket, gate.Unknown, fmt.Sprintf("cannot tell where %s listens: %v", u.Name(), err)).
			Advise("set health.bind")
	}
	h.bind = via.String()
	h.prober = func(limit time.Duration) gate.Prober {
		return probe.New(probe.Request{
			URL: check.Want.URL, Host: c.Health.Host, Headers: c.Health.Headers, Timeout: limit, Via: via, Log: probeLog{log},
		})
	}
	check.Direct, check.Patient, check.Busy = h.prober(c.Health.Timeout), h.prober(c.Health.Deadline), accepted(via)
	check.Holders = holders(via)
	check.Want.Where, check.Want.Django = "GET "+c.Health.Path+" on "+via.String(), isDjango(h.tree)
	return nil
}

// comesToListen waits for a unit that was started a moment ago, and doesn't listen yet, for as long as a boot may take.
func (h *Host) comesToListen(ctx context.Context, u unit.Unit, at Bind) Bind {
	const pause = 50 * time.Millisecond
	st, err := u.State(ctx)
	if err != nil || st.Started.IsZero() {
		return at
	}
	left := min(h.Config.Health.Deadline, time.Until(st.Started.Add(h.Config.Health.Deadline))) // the clock may have been set back
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	for at.Mute {
		select {
		case <-ctx.Done():
			return at
		case <-time.After(pause):
		}
		d, err := u.Describe(ctx)
		if err != nil || d.MainPID == 0 || d.MainPID != st.MainPID {
			return at
		}
		at = BindOf(d, h.Config.Root)
	}
	return at
}

// throughProxy sets nginx and the probe through it up, where there is one.
func (h *Host) throughProxy(log zerolog.Logger) (*gate.ProxyCheck, error) {
	c := h.Config
	check := &gate.ProxyCheck{Interval: c.Health.Interval, Stable: c.Health.Stable, Deadline: c.Health.Deadline}
	found := nginx.Find()
	switch {
	case c.Proxy.Kind == config.KindNone, c.Proxy.Kind == "" && found == "":
		return check, nil
	case found == "":
		return check, gate.NewFinding(gate.LayerProxy, gate.Unknown, "nginx is not installed on this host").
			Advise(`set proxy.kind = "none" if there is no proxy here`)
	}
	n := &nginx.Nginx{
		Program: found, NeverReload: c.Proxy.Reload == config.ReloadNever, LogFile: c.Proxy.ErrorLog,
		Master: func(ctx context.Context) int {
			st, err := h.Manager.Unit(nginx.Unit).State(ctx)
			if err != nil {
				return 0
			}
			return st.MainPID
		},
	}
	check.Server, h.proxy = n, n
	if c.Proxy.URL == "" {
		return check, nil
	}
	check.Routes = routes{
		proxy: n, unit: h.Manager.Unit(c.Service.Unit), name: c.Service.Unit, config: c, bind: h.bind,
		ask: func(path string) (through, direct gate.Prober) { return h.bothWays(path, log) },
	}
	request := probe.Request{
		URL: c.Proxy.URL, Host: c.Proxy.Host, Headers: c.Health.Headers, Timeout: c.Health.Timeout, Log: probeLog{log},
	}
	check.Through = probe.New(request)
	where := c.Proxy.URL
	if u, err := url.Parse(c.Proxy.URL); err == nil {
		where = u.Redacted()
	}
	check.Certificate = func(ctx context.Context) *gate.Finding {
		shown, err := probe.Certificate(ctx, request)
		if err != nil || shown == nil {
			return nil // the request itself shows what is wrong
		}
		return diagnosis.Certificate(shown, where, c.Proxy.Host, time.Now())
	}
	check.Want = gate.Want{
		Where: "GET " + where, URL: c.Proxy.URL, Host: c.Proxy.Host, Status: c.Health.Status, Body: c.Health.Body,
		Proxy: true, Setting: "proxy", Django: isDjango(h.tree),
	}
	return check, nil
}

// bothWays asks for another path than the health path, through the proxy and at the app itself; nil where that isn't known.
func (h *Host) bothWays(path string, log zerolog.Logger) (through, direct gate.Prober) {
	c := h.Config
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
