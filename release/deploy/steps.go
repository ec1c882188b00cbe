package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"deploygate/gate"
	"deploygate/release"
)

// errSkipped ends a step that has nothing to do.
var errSkipped = errors.New("skipped")

// Steps says what Run would do with a plan, in order.
func (d *Deployer) Steps(p Plan) []string {
	var would []string
	if p.Live() {
		would = append(would, fmt.Sprintf("%s is live already: if it is healthy, nothing; else:", p.Target))
	}
	for _, s := range d.preparation(p) {
		would = append(would, s.would...)
	}
	would = append(would, fmt.Sprintf("point %s at releases/%s", d.Tree.CurrentPath(), p.Target))
	for i, in := range d.Instances {
		would = append(would, d.wouldRestart(in.Name(), p.Units[i].Socket), "health: "+in.Health.Wants())
	}
	if proxy := d.Proxy.Wants(); proxy != "" {
		would = append(would, "proxy: "+proxy)
	}
	for _, c := range d.Checks {
		would = append(would, "check: "+c.Name)
	}
	return append(would, fmt.Sprintf("keep the last %d good releases", d.Keep))
}

// preparation is a step before the swap.
type preparation struct {
	would []string // a dry run's words for it
	do    func(*run, context.Context) error
}

// preparation lists the steps before the swap, in order. With hooks that may change the schema the candidate has to boot before
// they run, since what can't boot is not worth a migration; its health is for after them, unless it is wanted before.
func (d *Deployer) preparation(p Plan) []preparation {
	if p.Command == Restart {
		return nil
	}
	hooks := preparation{do: (*run).beforeSwap}
	for _, t := range d.hooksBefore(p) {
		hooks.would = append(hooks.would, "before_swap: "+t.Name)
	}
	if !d.rehearses(p) {
		return []preparation{hooks}
	}
	rehearse := preparation{[]string{fmt.Sprintf("rehearse: boot %s beside the live release, on a socket of its own; the same health", p.Target)}, (*run).rehearse}
	switch {
	case d.RehearseFirst:
		return []preparation{rehearse, hooks}
	case len(hooks.would) > 0:
		return []preparation{{do: (*run).boot}, hooks, rehearse}
	}
	return []preparation{hooks, rehearse}
}

// wouldRestart says what is done to a unit, and what users notice of it.
func (d *Deployer) wouldRestart(unit string, socket bool) string {
	switch {
	case d.Reload:
		return "reload " + unit
	case socket:
		return "restart " + unit
	}
	return "restart " + unit + " (requests fail meanwhile; behind a socket unit they would wait: deploygate init --socket-activation)"
}

// passHealth asks an instance itself.
func (r *run) passHealth(ctx context.Context, instance int, want gate.Target, mode gate.Mode) error {
	health := r.Instances[instance].Health
	return r.step(StepHealth, release.Version(want.Version), func(say gate.Progress) (string, error) {
		return fmt.Sprintf("healthy for %s without interruption", health.Stable), health.Check(ctx, want, mode, say)
	})
}

// crash returns what watches the instances until its context ends, and returns the first crash of one that was healthy.
func (d *Deployer) crash(wants []gate.Target) func(context.Context) *gate.Finding {
	return func(ctx context.Context) (first *gate.Finding) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		found := make(chan *gate.Finding)
		for i, in := range d.Instances {
			go func() { found <- in.Health.Watch(ctx, wants[i]) }()
		}
		for range d.Instances {
			if f := <-found; f != nil {
				first = cmp.Or(first, f)
				cancel()
			}
		}
		return first
	}
}

// passProxy fails a release for what it broke in the proxy, and not for what was broken before.
func (r *run) passProxy(ctx context.Context, v release.Version, wants []gate.Target) error {
	return r.step(StepProxy, v, func(say gate.Progress) (string, error) {
		if r.Proxy.None() {
			return "no proxy", errSkipped
		}
		var did []string
		excused := func(err error, before bool) bool {
			if err == nil || !before || ctx.Err() != nil {
				return false
			}
			r.warn("the proxy was broken before and still is: %v", err)
			did = append(did, "broken before and still")
			return true
		}
		say("testing the configuration")
		reloaded, err := r.Proxy.Test(ctx)
		switch {
		case excused(err, r.plan.ProxyInvalid):
		case err != nil:
			return "", err
		case r.Proxy.Server != nil:
			did = append(did, "configuration valid")
		}
		mode := gate.Once
		if reloaded {
			mode = gate.Hold // the proxy's old workers may still be the ones that answer
			did = append(did, "reloaded")
		}
		reach, err := r.Proxy.Check(ctx, string(v), mode, r.crash(wants), say)
		switch {
		case excused(err, r.plan.ProxyBroken):
		case err != nil:
			return "", err
		case r.Proxy.Through != nil:
			did = append(did, reach.Detail)
			r.risks(reach.Risks)
		}
		return strings.Join(did, ", "), nil
	})
}

// passChecks runs the user's own checks.
func (r *run) passChecks(ctx context.Context, v release.Version, wants []gate.Target) error {
	return r.step(StepChecks, v, func(say gate.Progress) (string, error) {
		if len(r.Checks) == 0 {
			return "none configured", errSkipped
		}
		passed := 0
		for _, c := range r.Checks {
			say(c.Name)
			err := r.runTask(ctx, c.Task, v)
			switch {
			case err == nil:
				passed++
			case c.Required || ctx.Err() != nil:
				return "", err
			default:
				r.warn("%s", withOutput(err, " (advisory)"))
			}
		}
		for i, in := range r.Instances { // they may have taken their time
			if err := in.Health.Still(ctx, wants[i]); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d of %d passed", passed, len(r.Checks)), nil
	})
}

// hooksBefore are the before_swap hooks of a deploy. Only a release has any: nothing else runs migrations.
func (d *Deployer) hooksBefore(p Plan) []Task {
	if p.Command != Release {
		return nil
	}
	return d.Hooks[BeforeSwap]
}

// beforeSwap runs the before_swap hooks in the candidate's directory.
func (r *run) beforeSwap(ctx context.Context) error {
	tasks := r.hooksBefore(r.plan)
	if len(tasks) == 0 {
		r.skip(StepBeforeSwap, "no hooks")
		return nil
	}
	return r.step(StepBeforeSwap, r.plan.Target, func(say gate.Progress) (string, error) {
		for i, t := range tasks {
			say(t.Name)
			if err := r.runTask(ctx, t, r.plan.Target); err != nil {
				return "", gate.AsFinding(gate.LayerRelease, err).
					Advise(fmt.Sprintf("nothing was swapped; what the hooks did stays (%d of %d ended well)", i, len(tasks)))
			}
		}
		r.hooksEnded = true
		return fmt.Sprintf("%d of %d done", len(tasks), len(tasks)), r.lookAgain(ctx)
	})
}
