package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"deploygate/gate"
	"deploygate/release"
)

// restart restarts or reloads the unit, unless it runs v already, and gives what must be running from then on.
func (r *run) restart(ctx context.Context, v release.Version) (e gate.Target, err error) {
	err = r.step(StepRestart, v, func(say gate.Progress) (detail string, err error) {
		unit, err := r.Service.Ready(ctx)
		if err == nil {
			e, err = r.expect(v, r.plan)
		}
		if err != nil {
			return "", neverRun(err)
		}
		if r.stillRuns(v, e.Dir, unit) {
			return fmt.Sprintf("%s runs %s already", unit.Name, v), nil
		}
		kill := r.hangs && v != r.plan.Target // else systemd would wait for its TimeoutStopSec=, while nobody is served
		detail = unit.Name
		change := func(ctx context.Context, say gate.Progress) error { return r.Service.Restart(ctx, kill, say) }
		if r.reload && unit.Running { // it may have crashed since the preflight
			change, detail = r.Service.Reload, unit.Name+" was reloaded"
			e.Reloaded = unit.Processes
		} else {
			e.Previous = unit.Invocation
		}
		if r.plan.Command == Restart {
			reread, err := r.Service.Reread(ctx)
			if err == nil && reread {
				detail += ", after systemd has read its changed files"
				_, err = r.Service.Ready(ctx) // what they say now may not work at all
			}
			if err != nil {
				return "", neverRun(err)
			}
		}
		r.report.Changed = true
		r.attempt = attempt{r.CaptureEvidence, e, time.Now()}
		return detail, change(ctx, say)
	})
	return e, err
}

// stillRuns tells whether the unit runs v as it is, so that going back to v needs no restart: its process is in v's
// directory, or, where that tells nothing, v was live and its process from before the deploy is still there.
func (r *run) stillRuns(v release.Version, dir string, unit Unit) bool {
	switch {
	case v == r.plan.Target || !unit.Running || r.ailing:
		return false
	case r.plan.InLink:
		return unit.Dir == dir || strings.HasPrefix(unit.Dir, dir+"/") && !strings.HasSuffix(unit.Dir, " (deleted)")
	}
	return v == r.plan.Previous && unit.Invocation == r.plan.Invocation && !r.reloaded
}

// hangs tells whether a release failed since it gives no answer, or since so many wait for one that nobody gets into the line
// any more: connect(2) to a unix socket gives EAGAIN then.
func hangs(failure error) bool {
	f := gate.AsFinding(gate.LayerHealth, failure)
	return f.Answer != nil && (f.Answer.Timeout || errors.Is(f.Answer.Err, syscall.EAGAIN)) && !f.Proxied
}
