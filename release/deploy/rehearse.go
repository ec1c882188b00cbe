package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"deploygate/gate"
	"deploygate/release"
)

// Rehearsal boots a release beside the live one, in a way that nothing of the live one is touched. There is at most one
// at a time.
type Rehearsal interface {
	// Possible says why v can't be rehearsed, as far as that can be told without doing it.
	Possible(ctx context.Context, v release.Version) error
	// Begin boots v and gives what judges it. End has to be called after an error as well.
	Begin(ctx context.Context, v release.Version) (Candidate, error)
	// End stops whatever a rehearsal has left, that of a deploy whose process died too.
	End()
}

// Candidate is where a release is rehearsed.
type Candidate struct {
	Health *gate.HealthCheck
	Expect gate.Target
	// CaptureEvidence is as Instance's.
	CaptureEvidence CaptureEvidence
}

// CaptureEvidence looks at once at what a failure leaves to see, and gives what finds the reason in the logs, for when there is
// time. e is what should have been running since then.
type CaptureEvidence func(f *gate.Finding, e gate.Target, since time.Time) (diagnose func() []*gate.Finding)

// rehearses reports whether a deploy of p has a rehearsal: going back is not delayed by one, and a release that is live
// already has nothing to be kept from.
func (d *Deployer) rehearses(p Plan) bool {
	return d.Rehearse && p.Command == Release && !p.Live()
}

// rehearse has the release pass its gate beside the live one.
func (r *run) rehearse(ctx context.Context) error {
	return r.beside(ctx, func(ctx context.Context, s Candidate, say gate.Progress) (string, error) {
		return fmt.Sprintf("healthy for %s beside the live release", s.Health.Stable), s.Health.Check(ctx, s.Expect, gate.Hold, say)
	})
}

// boot has the release boot beside the live one, on the schema as it is before the hooks: any answer will do, since a view may
// need the schema that they bring. So may the boot itself, and then it is for after them as well.
func (r *run) boot(ctx context.Context) error {
	return r.beside(ctx, func(ctx context.Context, s Candidate, say gate.Progress) (string, error) {
		boots := *s.Health
		boots.Want.Any = true
		began := time.Now()
		err := boots.Check(ctx, s.Expect, gate.Once, say)
		f, failed := errors.AsType[*gate.Finding](err)
		if !failed || ctx.Err() != nil {
			return "boots beside the live release; its health is for after the hooks", err
		}
		for _, cause := range s.CaptureEvidence(f, s.Expect, began)() {
			if cause.Cause == gate.MigrationUnapplied {
				return "does not boot on the schema as it is: " + cause.Summary + "; the hooks may change that", errSkipped
			}
		}
		return "", err
	})
}

// beside runs the release beside the live one, for as long as it is looked at.
func (r *run) beside(ctx context.Context, look func(context.Context, Candidate, gate.Progress) (string, error)) error {
	return r.step(StepRehearse, r.plan.Target, func(say gate.Progress) (detail string, err error) {
		say("booting it beside the live release")
		began := time.Now()
		defer r.Rehearsal.End()
		stage, err := r.Rehearsal.Begin(ctx, r.plan.Target)
		if err == nil {
			detail, err = look(ctx, stage, say)
		}
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case err == nil, errors.Is(err, errSkipped):
			return detail, err
		}
		r.attempt = attempt{stage.CaptureEvidence, stage.Expect, began}
		r.capture(err)
		if r.hooksEnded {
			r.remedies = []string{"nothing was swapped; what the before_swap hooks did stays"}
		}
		return "", err
	})
}
