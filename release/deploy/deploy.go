// Package deploy is the sequence of a deploy: what is done in which order, and what follows from a failure.
//
// Guaranteed: nothing is touched before every check of Plan has passed; after the swap there is always an outcome,
// and it is decided by the link as it is, not by what was meant; a release that fails is replaced by an earlier good
// one only if the schema allows it, and that one has to pass the same gate; at most two are tried.
//
// A deploy whose process dies is finished by Recover: by the guard that Run starts, by the next deploy, or at boot.
//
// It knows no adapter: the host comes in through Service, Runner and gate.Gate, and its files through release and
// release/journal.
package deploy

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Service is the app's unit.
type Service interface {
	// Ready describes the unit, or says why a deploy would be in vain: it doesn't exist, is masked, or doesn't go
	// through the live link.
	Ready(ctx context.Context) (Unit, error)
	// Restart restarts the unit, and waits until systemd says that it is done. With kill, what runs is not given the time to
	// end by itself.
	Restart(ctx context.Context, kill bool, say gate.Progress) error
	// Reload has it re-read the app, and waits until systemd says that it is done. What was re-read is for the gate to say.
	Reload(ctx context.Context, say gate.Progress) error
	// Reread has systemd read the unit's files again, if they have changed since it did, and reports whether they had.
	Reread(ctx context.Context) (bool, error)
}

// Unit is what a deploy needs to know of the app's unit.
type Unit struct {
	Name       string
	InLink     bool // its processes run in the directory that the live link names
	Socket     bool // a .socket unit listens for it
	Running    bool // active, and nothing is queued that would change it
	Invocation string
	Dir        string // where its main process runs, every link resolved
	Processes  []int
}

// Deployer runs deploys of one app.
type Deployer struct {
	App      string
	StateDir string
	Tree     *release.Tree
	Journal  *journal.Journal
	Service  Service
	Gate     *gate.Gate
	Runner   Runner
	// Outside says that what answers is none of the unit's processes, so that nothing can be proved of it; nil: it isn't known
	// to be. May be nil.
	Outside func(ctx context.Context) error
	// Witness is told of the failure of what was restarted. May be nil.
	Witness Witness
	// ExplainTask says why a hook or a check failed, by its output; nil: it doesn't tell. May be nil.
	ExplainTask func(t Task, v release.Version, output string) *gate.Finding
	Observer    Observer
	// Look looks at the host and at the target of a plan; hooked tells whether its before_swap hooks have run. May be nil.
	Look func(ctx context.Context, p Plan, hooked bool) Look
	// Diagnose says what is wrong with the host as it is, the cause before what follows from it. May be nil.
	Diagnose func(ctx context.Context) []*gate.Finding
	// Secrets are hidden in all that is kept or shown of a deploy; may be nil.
	Secrets *gate.Secrets
	// Guard starts a process that finishes the deploy if this one dies, and gives what ends it; may be nil.
	Guard         func(ctx context.Context, deployID string) (stop func(), err error)
	GuardRequired bool // refuse to deploy without one

	Rehearsal     Rehearsal
	Rehearse      bool // each release
	RehearseFirst bool // before the before_swap hooks, on the schema as it is

	// Applied asks the app's database, with v's settings, which migrations it has; nil: it isn't asked.
	Applied func(ctx context.Context, v release.Version) (map[string]bool, error)
	Python  func() string // the app's interpreter, for advice; may be nil

	Reload  bool // the unit instead of restarting it; the way back is always a restart
	Require []string
	// Vital has the files, relative to a release, that the app's unit loads and that can't be empty; may be nil.
	Vital        func(ctx context.Context) []string
	NoMarker     rollback.Policy
	Automatic    bool // go back without being asked
	RefuseBroken bool // refuse when the proxy is broken before
	Keep         int  // good releases that prune leaves
	Uses         Uses // of releases, whatever the journal says
	Hooks        map[HookName][]Task
	Checks       []Check
}

// Run is a deploy from preflight to verdict. The caller holds the app's lock. When ctx ends after the swap, that is a
// failed gate: the way back is still taken.
func (d *Deployer) Run(ctx context.Context, request Request) *Report {
	r := d.begin(request)
	p, outcome, refused := d.preflight(ctx, r, request)
	if refused != nil {
		return r.end(outcome, refused)
	}
	if p.Live() && p.Command != Restart && d.verify(ctx, r, p) == nil {
		return d.unchanged(ctx, r, p)
	}
	if ctx.Err() != nil {
		return r.end(Refused, context.Cause(ctx))
	}
	if len(p.withheld) > 0 {
		return r.end(Refused, p.withheld[0])
	}
	stop, err := d.guard(ctx, r) // before the journal knows of the deploy, so that one that it knows of is guarded
	if err != nil {
		return r.end(Refused, err)
	}
	defer stop()
	if err := r.began(p); err != nil {
		return r.end(Refused, err)
	}
	if err := d.reserve(p); err != nil && p.Command != Rollback { // a full disk is a reason to go back
		return r.end(Refused, neverRun(err))
	}
	if err := d.prepare(ctx, r, p); err != nil {
		return d.abandon(ctx, r, p, err)
	}
	failure := d.activate(ctx, r, p, p.Target, r.step)
	if failure != nil && ctx.Err() != nil {
		failure = context.Cause(ctx) // whatever it cut short
	}
	switch {
	case failure == nil:
		return d.commit(ctx, r, p)
	case !r.report.Changed:
		return d.abandon(ctx, r, p, failure)
	}
	return d.goBack(ctx, r, p, failure)
}

// reserve takes what the way back needs of the disk before anything is touched: hooks and the release itself may fill it.
func (d *Deployer) reserve(p Plan) error {
	versions := []release.Version{p.Target}
	for _, w := range p.Ways {
		versions = append(versions, w.Version)
	}
	return cmp.Or(d.Journal.Reserve(), d.Tree.Reserve(versions...))
}

// prepare does what comes before the swap: whatever fails here leaves the live release running as it was. With hooks that may
// change the schema the candidate has to boot before they run, since what can't boot is not worth a migration; its health is
// for after them, unless it is wanted before.
func (d *Deployer) prepare(ctx context.Context, r *run, p Plan) error {
	steps := []func(context.Context, *run, Plan) error{d.beforeSwap, d.rehearse}
	switch {
	case p.Command == Restart:
		return nil
	case d.RehearseFirst:
		slices.Reverse(steps)
	case len(d.hooksBefore(p)) > 0:
		steps = append([]func(context.Context, *run, Plan) error{d.boot}, steps...)
	}
	for _, step := range steps {
		if err := step(ctx, r, p); err != nil {
			return err
		}
	}
	return nil
}

// abandon ends a deploy before its swap. The live release runs as it was, but on the schema that the hooks have left: if its
// code can't live with that, the host is not as it was, and a person is needed.
func (d *Deployer) abandon(ctx context.Context, r *run, p Plan, failure error) *Report {
	d.reconsider(context.WithoutCancel(ctx), r, &p)
	way := p.WayBack()
	if !r.hooksEnded || way.Verdict != rollback.Blocked || way.Version != p.Previous {
		return r.end(Refused, failure)
	}
	r.waysOut = append(
		[]string{fmt.Sprintf("%s is live still, and its code can't run on the schema that the before_swap hooks left: %s", p.Previous, way.Reason)},
		way.WaysOut(d.manage(p.Target))...)
	return d.stuck(ctx, r, p, failure)
}

// activate makes v live and gates it. It is the same on the way out and on the way back.
func (d *Deployer) activate(ctx context.Context, r *run, p Plan, v release.Version, step stepper) error {
	var expect gate.Expect
	actions := []action{
		{StepSwap, func(gate.Progress) (string, error) { return "current → " + string(v), d.swap(ctx, r, v) }},
		{StepRestart, func(say gate.Progress) (detail string, err error) {
			expect, detail, err = d.restart(ctx, r, p, v, say)
			return detail, err
		}},
	}
	if p.Command == Restart {
		actions = actions[1:]
	}
	return inOrder(v, step, append(actions, d.gate(ctx, r, p, &expect, d.Gate.Await)...))
}

// gate is what a release must pass, cheapest first.
func (d *Deployer) gate(ctx context.Context, r *run, p Plan, e *gate.Expect, health healthCheck) []action {
	return []action{
		{StepHealth, func(say gate.Progress) (string, error) { return d.healthy(), health(ctx, *e, say) }},
		{StepProxy, func(say gate.Progress) (string, error) { return d.passProxy(ctx, r, p, *e, say) }},
		{StepChecks, func(say gate.Progress) (string, error) { return d.runChecks(ctx, r, *e, say) }},
	}
}

// goBack decides what follows from a failed release, from the schema's point of view first.
func (d *Deployer) goBack(ctx context.Context, r *run, p Plan, failure error) *Report {
	r.failed(p.Target, failure)
	interrupted := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx) // from here on nothing stops half-way
	p.Reload, p.reloaded = false, p.Reload
	p.hangs = hangs(failure)
	d.reconsider(ctx, r, &p)
	if p.WayBack().Verdict != rollback.Safe || !d.Automatic {
		if interrupted {
			return d.goForward(ctx, r, p)
		}
		return d.hold(ctx, r, p, failure)
	}
	return d.tryWays(ctx, r, p, failure)
}

// reconsider asks the database, where that is wanted, whether what blocks the way back was applied at all.
func (d *Deployer) reconsider(ctx context.Context, r *run, p *Plan) {
	way := p.WayBack()
	if d.Applied == nil || p.again == nil || way.Verdict != rollback.Blocked {
		return
	}
	applied, err := d.askApplied(ctx, p.Target, way.Version)
	if err != nil {
		r.warn("%v; so all migrations are taken to be applied", err)
		return
	}
	p.Ways = p.again(applied)
	if way = p.WayBack(); r.report.WayBack != nil {
		r.report.WayBack = &way
	}
}

// manage is how a person runs manage.py with a release's code.
func (d *Deployer) manage(v release.Version) string {
	python := "python3"
	if d.Python != nil {
		python = d.Python()
	}
	return fmt.Sprintf("cd %s && %s manage.py", d.Tree.Dir(v), python)
}

// tryWays goes back to the first release that passes its gate. Where the release that was live and healthy before fails
// as well, the fault is in what they share, and no older one is tried.
func (d *Deployer) tryWays(ctx context.Context, r *run, p Plan, failure error) *Report {
	r.waysOut = []string{"see how the host is now: deploygate diagnose"}
	for _, w := range p.Ways {
		if w.Verdict != rollback.Safe {
			r.warn("%s is not tried: %s", w.Version, w.Reason)
			break
		}
		err := r.step(StepRollback, w.Version, func(say gate.Progress) (string, error) {
			return fmt.Sprintf("%s is live again and passed its gate", w.Version),
				d.activate(ctx, r, p, w.Version, r.within(say))
		})
		if err == nil {
			r.older, r.waysOut = olderPassed, nil
			_ = r.passed(w.Version)
			d.afterHooks(ctx, r, AfterRollback, w.Version, RolledBack)
			return r.end(RolledBack, failure)
		}
		if gate.AsFinding(gate.LayerRelease, err).NeverStarted {
			r.waysOut = append([]string{fmt.Sprintf("%s could not be put back: %v; remove that obstacle, then: deploygate recover", w.Version, err)}, r.waysOut...)
			break
		}
		r.older = olderFailed
		r.failed(w.Version, err)
		if p.Healthy && w.Version == p.Previous || alike(err, failure) {
			r.warn("%s fails as well, so the fault is in what it shares with %s: it stays the last good release, and no older one is tried", w.Version, p.Target)
			break
		}
	}
	return d.stuck(ctx, r, p, failure)
}

// alike tells whether two releases failed in the same way: a wrong health path, a check that can't pass, a database that is
// down. Crashes are not compared: that both exited with the same status says little.
func alike(a, b error) bool {
	one, two := gate.AsFinding(gate.LayerHealth, a), gate.AsFinding(gate.LayerHealth, b)
	return one.State == nil && two.State == nil && one.Layer == two.Layer && one.Cause == two.Cause && one.Summary == two.Summary
}

// goForward ends an interrupted deploy that can't be undone: the release is started once more and gated to its end.
func (d *Deployer) goForward(ctx context.Context, r *run, p Plan) *Report {
	why := "there is no way back"
	if !d.Automatic {
		why = "going back is left to a person ([rollback] automatic = false)"
	}
	r.warn("interrupted, and %s: going forward with %s", why, p.Target)
	r.diagnose = nil // its second start counts
	if err := d.activate(ctx, r, p, p.Target, r.step); err != nil {
		r.failed(p.Target, err)
		return d.hold(ctx, r, p, err)
	}
	return d.commit(ctx, r, p)
}

// hold leaves a failed release in place.
func (d *Deployer) hold(ctx context.Context, r *run, p Plan, failure error) *Report {
	d.afterHooks(ctx, r, OnHeld, p.Target, Held)
	r.waysOut = p.WayBack().WaysOut(d.manage(p.Target))
	if p.Command == Restart {
		r.waysOut = []string{"put right what was changed since the last start, then: deploygate restart"}
	}
	return r.end(Held, failure)
}

// commit ends a deploy whose release passed.
func (d *Deployer) commit(ctx context.Context, r *run, p Plan) *Report {
	ctx = context.WithoutCancel(ctx)
	_ = r.step(StepCommit, p.Target, func(gate.Progress) (string, error) {
		return fmt.Sprintf("%s passed its gate", p.Target), r.passed(p.Target)
	})
	if p.Command != Restart {
		d.prune(ctx, r)
		d.afterHooks(ctx, r, map[Command]HookName{Release: AfterRelease, Rollback: AfterRollback}[p.Command], p.Target, Released)
	}
	return r.end(Released, nil)
}

// stuck ends a deploy that left the host without a release that is known to be healthy.
func (d *Deployer) stuck(ctx context.Context, r *run, p Plan, failure error) *Report {
	d.afterHooks(context.WithoutCancel(ctx), r, OnStuck, p.Target, Stuck)
	return r.end(Stuck, failure)
}

// verify asks whether the target, live already, is healthy as it is. If not, that is how things were before.
func (d *Deployer) verify(ctx context.Context, r *run, p Plan) error {
	steps := r.report.Steps
	expect, err := d.expect(p.Target, p, "")
	if err == nil {
		err = inOrder(p.Target, r.step, d.gate(ctx, r, p, &expect, d.Gate.Verify))
	}
	if err != nil {
		r.report.Steps = steps
		if len(r.report.Before) == 0 && ctx.Err() == nil {
			r.report.Before = append(r.report.Before, gate.AsFinding(gate.LayerHealth, err))
		}
	}
	return err
}
