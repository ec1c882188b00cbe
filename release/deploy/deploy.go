// Package deploy is the sequence of a deploy: what is done in which order, and what follows from a failure.
//
// Guaranteed: nothing is touched before every check of Plan has passed; after the swap there is always an outcome,
// and it is decided by the link as it is, not by what was meant; a release that fails is replaced by an earlier good
// one only if the schema allows it, and that one has to pass the same gate; at most two are tried.
//
// A deploy whose process dies is finished by Recover: by the guard that Run starts, by the next deploy, or at boot.
//
// It knows no adapter: the host comes in through Service, Runner and the checks of gate, and its files through release and
// release/journal.
package deploy

import (
	"cmp"
	"context"
	"fmt"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Deployer runs deploys of one app.
type Deployer struct {
	App      string
	Program  string // the version of deploygate
	StateDir string
	Tree     *release.Tree
	Journal  *journal.Journal
	// Instances are restarted and gated one after the other, in this order.
	Instances []Instance
	Proxy     *gate.ProxyCheck // what all of them must pass through the proxy
	Runner    Runner
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
	if outcome, refused := r.preflight(ctx, request); refused != nil {
		return r.end(outcome, refused)
	}
	if r.plan.Live() && r.plan.Command != Restart && r.verify(ctx, r.plan.Target) == nil {
		return r.unchanged(ctx)
	}
	if ctx.Err() != nil {
		return r.end(Refused, context.Cause(ctx))
	}
	if len(r.plan.withheld) > 0 {
		return r.end(Refused, r.plan.withheld[0])
	}
	stop, err := r.guard(ctx) // before the journal knows of the deploy, so that one that it knows of is guarded
	if err != nil {
		return r.end(Refused, err)
	}
	defer stop()
	if err := r.began(); err != nil {
		return r.end(Refused, err)
	}
	if err := r.reserve(); err != nil && r.plan.Command != Rollback { // a full disk is a reason to go back
		return r.end(Refused, neverRun(err))
	}
	if err := r.prepare(ctx); err != nil {
		return r.abandon(ctx, err)
	}
	failure := r.activate(ctx, r.plan.Target)
	if failure != nil && ctx.Err() != nil {
		failure = context.Cause(ctx) // whatever it cut short
	}
	switch {
	case failure == nil:
		return r.commit(ctx)
	case !r.report.Changed:
		return r.abandon(ctx, failure)
	}
	return r.rollBack(ctx, failure)
}

// reserve takes what the way back needs of the disk before anything is touched: hooks and the release itself may fill it.
func (r *run) reserve() error {
	versions := []release.Version{r.plan.Target}
	for _, w := range r.candidates {
		versions = append(versions, w.Version)
	}
	return cmp.Or(r.Journal.Reserve(), r.Tree.Reserve(versions...))
}

// prepare does what comes before the swap: whatever fails here leaves the live release running as it was.
func (r *run) prepare(ctx context.Context) error {
	for _, s := range r.preparation(r.plan) {
		if err := s.do(r, ctx); err != nil {
			return err
		}
	}
	return nil
}

// activate makes v live and gates it. It is the same on the way out and on the way back.
func (r *run) activate(ctx context.Context, v release.Version) error {
	if r.plan.Command != Restart {
		if err := r.swap(ctx, v); err != nil {
			return err
		}
	}
	var wants []gate.Target
	for i := range r.Instances {
		want, err := r.restart(ctx, i, v)
		if err == nil {
			err = r.passHealth(ctx, i, want, gate.Hold)
		}
		if err != nil {
			return err
		}
		wants = append(wants, want)
	}
	return r.passTogether(ctx, v, wants)
}

// passTogether is what a release must pass once each of its instances is healthy. wants are what these must go on running.
func (r *run) passTogether(ctx context.Context, v release.Version, wants []gate.Target) error {
	if err := r.passProxy(ctx, v, wants); err != nil {
		return err
	}
	return r.passChecks(ctx, v, wants)
}

// verify asks whether v, live already, is healthy as it is. If not, that is how things were before.
func (r *run) verify(ctx context.Context, v release.Version) error {
	steps := r.report.Steps
	err := r.gate(ctx, v)
	if err != nil {
		r.report.Steps = steps
		if len(r.report.Before) == 0 && ctx.Err() == nil {
			r.report.Before = append(r.report.Before, gate.AsFinding(gate.LayerHealth, err))
		}
	}
	return err
}

// gate is what v must pass as it runs already.
func (r *run) gate(ctx context.Context, v release.Version) error {
	wants, err := r.expectAll(v, r.plan.Units)
	if err != nil {
		return err
	}
	for i, want := range wants {
		if err := r.passHealth(ctx, i, want, gate.Hold|gate.Strict); err != nil {
			return err
		}
	}
	return r.passTogether(ctx, v, wants)
}

// unchanged ends a deploy of what was live and healthy already. The journal gets to know of it only where it thought
// otherwise: a release that failed its gate and has recovered is a good one again, and what a person says of the schema is
// remembered.
func (r *run) unchanged(ctx context.Context) *Report {
	if (!r.plan.Good || r.plan.Override != "") && r.began() == nil {
		_ = r.passed(r.plan.Target)
	}
	if f := r.SchemaAhead(ctx); f != nil {
		return r.end(Refused, f)
	}
	return r.end(Unchanged, nil)
}

// abandon ends a deploy before its swap. The live release runs as it was, but on the schema that the hooks have left: if its
// code can't live with that, the host is not as it was, and a person is needed.
func (r *run) abandon(ctx context.Context, failure error) *Report {
	r.reconsider(context.WithoutCancel(ctx))
	way := r.rollbackTarget()
	if !r.hooksEnded || way.Verdict != rollback.Blocked || way.Version != r.plan.Previous {
		return r.end(Refused, failure)
	}
	r.remedies = append(
		[]string{fmt.Sprintf("%s is live still, and its code can't run on the schema that the before_swap hooks left: %s", r.plan.Previous, way.Reason)},
		way.Remedies(r.manage(r.plan.Target))...)
	return r.stuck(ctx, failure)
}

// commit ends a deploy whose release passed.
func (r *run) commit(ctx context.Context) *Report {
	ctx = context.WithoutCancel(ctx)
	_ = r.step(StepCommit, r.plan.Target, func(gate.Progress) (string, error) {
		return fmt.Sprintf("%s passed its gate", r.plan.Target), r.passed(r.plan.Target)
	})
	if r.plan.Command != Restart {
		r.prune(ctx)
		r.afterHooks(ctx, map[Command]HookName{Release: AfterRelease, Rollback: AfterRollback}[r.plan.Command], r.plan.Target, Released)
	}
	return r.end(Released, nil)
}
