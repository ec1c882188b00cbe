package deploy

import (
	"context"
	"fmt"

	"deploygate/gate"
	"deploygate/rollback"
)

// rollBack decides what follows from a failed release, from the schema's point of view first.
func (r *run) rollBack(ctx context.Context, failure error) *Report {
	r.failed(r.plan.Target, failure)
	interrupted := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx) // from here on nothing stops half-way
	r.reload, r.reloaded = false, r.reload
	r.hangs = hangs(failure)
	r.reconsider(ctx)
	if r.rollbackTarget().Verdict != rollback.Safe || !r.Automatic {
		if interrupted {
			return r.rollForward(ctx)
		}
		return r.hold(ctx, failure)
	}
	return r.rollBackToFirstHealthy(ctx, failure)
}

// reconsider asks the database, where that is wanted, whether what blocks the way back was applied at all.
func (r *run) reconsider(ctx context.Context) {
	way := r.rollbackTarget()
	if r.Applied == nil || r.plan.candidatesGiven == nil || way.Verdict != rollback.Blocked {
		return
	}
	applied, err := r.askApplied(ctx, r.plan.Target, way.Version)
	if err != nil {
		r.warn("%v; so all migrations are taken to be applied", err)
		return
	}
	r.candidates = r.plan.candidatesGiven(applied)
	if way = r.rollbackTarget(); r.report.RollbackTarget != nil {
		r.report.RollbackTarget = &way
	}
}

// rollbackTarget is the first way back as far as is known by now, or the word that there is none.
func (r *run) rollbackTarget() rollback.Target { return firstCandidate(r.plan.Command, r.candidates) }

// rollBackToFirstHealthy goes back to the first release that passes its gate. Where the release that was live and healthy
// before fails as well, the fault is in what they share, and no older one is tried.
func (r *run) rollBackToFirstHealthy(ctx context.Context, failure error) *Report {
	r.remedies = []string{"see how the host is now: deploygate diagnose"}
	for _, w := range r.candidates {
		if w.Verdict != rollback.Safe {
			r.warn("%s is not tried: %s", w.Version, w.Reason)
			break
		}
		err := r.step(StepRollback, w.Version, func(say gate.Progress) (string, error) {
			r.outer = say
			defer func() { r.outer = nil }()
			return fmt.Sprintf("%s is live again and passed its gate", w.Version), r.activate(ctx, w.Version)
		})
		if err == nil {
			r.older, r.remedies = olderPassed, nil
			_ = r.passed(w.Version)
			r.afterHooks(ctx, AfterRollback, w.Version, RolledBack)
			return r.end(RolledBack, failure)
		}
		if gate.AsFinding(gate.LayerRelease, err).NeverStarted {
			r.remedies = append([]string{fmt.Sprintf("%s could not be put back: %v; remove that obstacle, then: deploygate recover", w.Version, err)}, r.remedies...)
			break
		}
		r.older = olderFailed
		r.failed(w.Version, err)
		if r.plan.Healthy && w.Version == r.plan.Previous || alike(err, failure) {
			r.warn("%s fails as well, so the fault is in what it shares with %s: it stays the last good release, and no older one is tried", w.Version, r.plan.Target)
			break
		}
	}
	return r.stuck(ctx, failure)
}

// alike reports whether two releases failed in the same way: a wrong health path, a check that can't pass, a database that is
// down. Crashes are not compared: that both exited with the same status says little.
func alike(a, b error) bool {
	one, two := gate.AsFinding(gate.LayerHealth, a), gate.AsFinding(gate.LayerHealth, b)
	return one.State == nil && two.State == nil && one.Layer == two.Layer && one.Cause == two.Cause && one.Summary == two.Summary
}

// rollForward ends an interrupted deploy that can't be undone: the release is started once more and gated to its end.
func (r *run) rollForward(ctx context.Context) *Report {
	why := "there is no way back"
	if !r.Automatic {
		why = "going back is left to a person ([rollback] automatic = false)"
	}
	r.warn("interrupted, and %s: going forward with %s", why, r.plan.Target)
	r.diagnose = nil // its second start counts
	if err := r.activate(ctx, r.plan.Target); err != nil {
		r.failed(r.plan.Target, err)
		return r.hold(ctx, err)
	}
	return r.commit(ctx)
}

// hold leaves a failed release in place.
func (r *run) hold(ctx context.Context, failure error) *Report {
	r.afterHooks(ctx, OnHeld, r.plan.Target, Held)
	r.remedies = r.rollbackTarget().Remedies(r.manage(r.plan.Target))
	if r.plan.Command == Restart {
		r.remedies = []string{"put right what was changed since the last start, then: deploygate restart"}
	}
	return r.end(Held, failure)
}

// stuck ends a deploy that left the host without a release that is known to be healthy.
func (r *run) stuck(ctx context.Context, failure error) *Report {
	r.afterHooks(context.WithoutCancel(ctx), OnStuck, r.plan.Target, Stuck)
	return r.end(Stuck, failure)
}
