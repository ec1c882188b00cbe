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

// restart restarts or reloads the unit of an instance, unless it runs v already, and returns what must be running from then on.
func (r *run) restart(ctx context.Context, instance int, v release.Version) (e gate.Target, err error) {
	in, before := r.Instances[instance], r.plan.Units[instance]
	err = r.step(StepRestart, v, func(say gate.Progress) (detail string, err error) {
		unit, err := in.Ready(ctx)
		if err == nil {
			e, err = r.expect(v, before)
		}
		if err != nil {
			return "", neverRun(err)
		}
		if r.stillRuns(v, e.Dir, before, unit) {
			return fmt.Sprintf("%s runs %s already", unit.Name, v), nil
		}
		kill := r.hangs && v != r.plan.Target // else systemd would wait for its TimeoutStopSec=, while nobody is served
		detail = unit.Name
		change := func(ctx context.Context, say gate.Progress) error { return in.Restart(ctx, kill, say) }
		if r.reload && before.Running && unit.Running { // it may have crashed since the preflight
			change, detail = in.Reload, unit.Name+" was reloaded"
			e.Reloaded = unit.Processes
		} else {
			e.Previous = unit.Invocation
		}
		if r.plan.Command == Restart {
			reread, err := in.Reread(ctx)
			if err == nil && reread {
				detail += ", after systemd has read its changed files"
				_, err = in.Ready(ctx) // what they say now may not work at all
			}
			if err != nil {
				return "", neverRun(err)
			}
		}
		r.report.Changed = true
		r.attempt = attempt{in.CaptureEvidence, e, time.Now()}
		return detail, change(ctx, say)
	})
	return e, err
}

// stillRuns reports whether a unit runs v as it is, so that going back to v needs no restart: its process is in v's
// directory, or, where that tells nothing, v was live and its process from before the deploy is still there.
func (r *run) stillRuns(v release.Version, dir string, before, unit Unit) bool {
	switch {
	case v == r.plan.Target || !unit.Running || r.ailing:
		return false
	case before.InLink:
		return unit.Dir == dir || strings.HasPrefix(unit.Dir, dir+"/") && !strings.HasSuffix(unit.Dir, " (deleted)")
	}
	return v == r.plan.Previous && unit.Invocation == before.Invocation && !r.reloaded
}

// hangs reports whether a release failed since it gives no answer, or since so many wait for one that nobody gets into the line
// any more: connect(2) to a unix socket gives EAGAIN then.
func hangs(failure error) bool {
	f := gate.AsFinding(gate.LayerHealth, failure)
	return f.Answer != nil && (f.Answer.Timeout || errors.Is(f.Answer.Err, syscall.EAGAIN)) && !f.Proxied
}
