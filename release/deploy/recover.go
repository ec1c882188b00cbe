package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Recover is the command that ends a deploy whose process died.
const Recover Command = "recover"

// errDied is the failure of a deploy whose process died.
func errDied(u journal.Deploy) *gate.Finding {
	return gate.NewFinding(gate.LayerRelease, gate.Interrupted,
		fmt.Sprintf("%s %s was cut off: its process (pid %d, %s) died without a verdict", u.Command, u.Requested, u.PID, u.User))
}

// settled tells how an unfinished deploy has ended already, as far as its records and the link say; "" if the host
// still has to be put right.
func settled(u journal.Deploy, current release.Version) Outcome {
	switch {
	case u.Intended(string(StepSwap)) == 0 && u.Intended(string(StepRestart)) == 0:
		return Refused // it died before it touched anything
	case u.Passed(current) && current == u.Requested:
		return Released
	case u.Passed(current):
		return RolledBack
	case current == u.Previous && u.Intended(string(StepSwap)) == 1 && u.Intended(string(StepRestart)) == 0:
		return Refused // the swap didn't come about
	}
	return ""
}

// Recover ends the last deploy if its process died, by the rule of an interruption: the way back if there is one, else
// forward. It decides from the link and the unit as they are. The caller holds the app's lock. It gives nil where
// there is nothing to recover. Once begun it goes on to the end, whatever becomes of ctx. Where the link or the unit
// can't be looked at it changes nothing, and the deploy stays unfinished: the report says so.
func (d *Deployer) Recover(ctx context.Context) *Report {
	ctx = context.WithoutCancel(ctx)
	r, u, err := d.resume()
	switch {
	case err != nil:
		return r.putOff(err)
	case u == nil:
		return nil
	}
	d.Rehearsal.End() // that of the deploy that died
	died := errDied(*u)
	current, err := d.Tree.Current()
	if err != nil {
		return r.putOff(err)
	}
	switch o := settled(*u, current); o {
	case Released:
		return r.end(o, nil)
	case Refused:
		d.cutOff(ctx, died, u.Requested, current)
		return r.end(o, died)
	case RolledBack:
		return r.end(o, died)
	default: // the host has to be put right
	}
	if err := r.placed(ctx, u.Invocations); err != nil {
		return r.putOff(err)
	}
	// Which configuration the proxy runs is not known any more, so it is not told to begin: its Test loads the one on
	// disk.
	r.failed(r.plan.Target, died)
	r.reconsider(ctx)
	if r.rollbackTarget().Verdict == rollback.Safe && d.Automatic {
		return r.rollBackToFirstHealthy(ctx, died)
	}
	return r.rollForward(ctx)
}

// RecoverStuck takes up the last deploy if it ended stuck and what it made live is live still: where that is healthy by
// now, this is the verdict, and else the way back is tried again, whose obstacle may be gone. It returns nil where there is
// nothing to take up. It is for a person who asks for it: a deploy that comes later goes its own way.
func (d *Deployer) RecoverStuck(ctx context.Context) *Report {
	r, u, err := d.take(journal.History.Last)
	switch {
	case err != nil:
		return r.putOff(err)
	case u == nil:
		return nil
	}
	verdict := verdictOf(*u)
	current, err := d.Tree.Current()
	if err != nil {
		return r.putOff(err)
	}
	swapped := slices.Contains(u.Intents, journal.Change{Step: string(StepSwap), Version: current})
	if verdict.Outcome != Stuck || !swapped || current != u.Requested && current != r.rollbackTarget().Version {
		return nil
	}
	if err := r.placed(ctx, u.Invocations); err != nil {
		return r.putOff(err)
	}
	failure := cmp.Or(verdict.Failure, errDied(*u))
	failure.Advice = []string{} // it was for the host as it was
	r.diagnose = func() []*gate.Finding { return nil }
	err = r.verify(ctx, current)
	switch {
	case ctx.Err() != nil:
		return r.putOff(context.Cause(ctx))
	case err == nil && current == u.Requested:
		_ = r.passed(current)
		return r.end(Released, nil)
	case err == nil:
		_ = r.passed(current)
		return r.end(RolledBack, failure)
	}
	r.report.Before = []*gate.Finding{}
	r.ailing, r.hangs = true, hangs(err)
	return r.rollBackToFirstHealthy(context.WithoutCancel(ctx), failure)
}

// verdictOf is how a deploy ended, as it was recorded; empty without a verdict.
func verdictOf(u journal.Deploy) (verdict Report) {
	_ = json.Unmarshal(u.Verdict, &verdict)
	return verdict
}

// putOff ends a recovery that couldn't be begun. Nothing is written: the next one begins again.
func (r *run) putOff(why error) *Report {
	r.begun = false
	r.report.Unfinished = true
	return r.end(Refusal(gate.AsFinding(gate.LayerRelease, why)), why)
}

// RecoverLink is the part of Recover that must come before the app starts at boot: it points the link at the way back,
// if there is one, and leaves it to Recover to gate what was started then. It needs no systemd.
func (d *Deployer) RecoverLink() (moved release.Version, err error) {
	r, u, err := d.resume()
	if err != nil || u == nil {
		return "", err
	}
	current, err := d.Tree.Current()
	if err != nil {
		return "", err
	}
	way := r.rollbackTarget()
	if settled(*u, current) != "" || way.Verdict != rollback.Safe || !d.Automatic || current == way.Version {
		return "", nil
	}
	_, err = r.journalled(StepSwap, way.Version, func() (string, error) { return "", r.point(context.Background(), way.Version) })
	return way.Version, err
}

// resume takes up the last deploy if it came to no verdict; nil otherwise.
func (d *Deployer) resume() (*run, *journal.Deploy, error) {
	return d.take(journal.History.Unfinished)
}

// take takes up a deploy of the journal.
func (d *Deployer) take(which func(journal.History) (journal.Deploy, bool)) (*run, *journal.Deploy, error) {
	r := d.begin(Request{Command: Recover})
	h, err := journal.Load(d.StateDir)
	if err != nil {
		return r, nil, err
	}
	u, found := which(h)
	if !found {
		return r, nil, nil
	}
	onDisk, err := d.Tree.Releases()
	if err != nil {
		return r, nil, err
	}
	p := Plan{
		Request: Request{Command: Command(u.Command)}, Target: u.Requested, Previous: u.Previous,
		Healthy: u.Healthy, Before: []*gate.Finding{},
	}
	if p.Command != Restart {
		schemas := &rollback.Compatibility{Dir: d.Tree.Dir, History: h}
		p.candidatesGiven = func(applied map[string]bool) []rollback.Target {
			schemas.Applied = applied
			return p.upTo(d.candidates(h, onDisk, schemas, u.Requested, []release.Version{u.Requested}))
		}
		p.Candidates = p.candidatesGiven(nil)
	}
	way := p.RollbackTarget()
	r.plan, r.candidates, r.reloaded = p, p.Candidates, d.Reload
	r.begun = true
	r.report.DeployID, r.report.Requested, r.report.Previous, r.report.RollbackTarget = u.ID, u.Requested, u.Previous, &way
	return r, &u, nil
}

// placed completes the plan of a deploy that is taken up by how its units go through the live link, which isn't recorded; which
// starts of them it found is.
func (r *run) placed(ctx context.Context, invocations map[string]string) error {
	for _, in := range r.Instances {
		unit, err := in.Ready(ctx)
		if err != nil {
			return err
		}
		unit.Invocation = invocations[unit.Name]
		r.plan.Units = append(r.plan.Units, unit)
	}
	return nil
}

// guard starts the process that recovers if this one dies.
func (r *run) guard(ctx context.Context) (stop func(), err error) {
	if r.Guard == nil {
		return func() {}, nil
	}
	stop, err = r.Guard(ctx, r.report.DeployID)
	switch {
	case err == nil:
		return stop, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case r.GuardRequired:
		return nil, err
	}
	r.warn("nothing finishes this deploy if its process dies, until the next one: %v", err)
	return func() {}, nil
}
