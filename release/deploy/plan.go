package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Command is what was asked for.
type Command string

// The commands that deploy.
const (
	Release  Command = "release"
	Rollback Command = "rollback"
	// Restart restarts what is live. What ran before can't be brought back, since it is the same release.
	Restart Command = "restart"
)

// Request is what was asked for, unchecked.
type Request struct {
	Command  Command
	Version  string // "" with Rollback: the last good one
	Override string // why a blocking marker is overridden; "" obeys it
	// RequireWayBack refuses a release that removes the way back.
	RequireWayBack bool
}

// Plan is the facts that a deploy is decided on, frozen before anything is touched.
type Plan struct {
	Request
	Target   release.Version
	Previous release.Version // "" for the first release ever
	Units    []Unit          // of the instances, as they were before
	Schema   *release.Schema
	// Candidates are the ways back if Target fails, in the order in which they are tried.
	Candidates []rollback.Target
	// Before is what is broken already.
	Before []*gate.Finding
	// Risks is what isn't broken and will be, or may be.
	Risks []*gate.Finding
	// withheld is why the live release, which is the target, can't be started; it is healthy as it runs.
	withheld []*gate.Finding
	// Good: the target passed its gate before.
	Good bool
	// Healthy: the live release answered as it should.
	Healthy bool
	// ProxyInvalid: the proxy's configuration wasn't valid already.
	ProxyInvalid bool
	// candidatesGiven decides the ways back once more, by what the database has; nil: there is nothing to decide.
	candidatesGiven func(applied map[string]bool) []rollback.Target
	// ProxyBroken: the app was healthy and the proxy didn't reach it, so the proxy's failure is not Target's.
	ProxyBroken bool
}

// manage is how a person runs manage.py with a release's code.
func (d *Deployer) manage(v release.Version) string {
	python := "python3"
	if d.Python != nil {
		python = d.Python()
	}
	return fmt.Sprintf("cd %s && %s manage.py", d.Tree.Dir(v), python)
}

// Live reports whether the target is the live release already.
func (p Plan) Live() bool { return p.Target == p.Previous }

// RollbackTarget is the first way back, or the word that there is none.
func (p Plan) RollbackTarget() rollback.Target { return firstCandidate(p.Command, p.Candidates) }

// Plan looks at the host and says what Run would do, or why it would not. It changes nothing.
func (d *Deployer) Plan(ctx context.Context, r Request) (Plan, []*gate.Finding) {
	p := Plan{Request: r, Before: []*gate.Finding{}}
	var refused refusals
	history, err := journal.Load(d.StateDir)
	refused.add(gate.LayerRelease, err)
	refused.add(gate.LayerRelease, journal.Writable(d.StateDir))
	p.Previous, err = d.Tree.Current()
	refused.add(gate.LayerRelease, err)
	refused.add(gate.LayerRelease, d.Tree.CanSwap())
	onDisk, err := d.Tree.Releases()
	refused.add(gate.LayerRelease, err)
	history = history.Seen(p.Previous)

	p.Target, err = target(r, history, onDisk, p.Previous)
	if err == nil {
		err = d.Tree.Inspect(p.Target, d.Require)
	}
	refused.add(gate.LayerRelease, err)
	p.Good = history.Good(p.Target)
	found := err == nil
	ready := true
	for _, in := range d.Instances {
		unit, err := in.Ready(ctx)
		p.Units = append(p.Units, unit)
		refused.add(gate.LayerService, err)
		ready = ready && err == nil
		if err == nil && in.Outside != nil {
			refused.add(gate.LayerService, in.Outside(ctx))
		}
	}
	if ready {
		d.baseline(ctx, &p, &refused)
	}
	if p.Healthy {
		history = history.Healthy(p.Previous)
	}
	if found {
		refused = append(d.look(ctx, &p), refused...) // what the host says of itself follows from it
	}
	if found && !p.Live() {
		refused = append(d.whole(ctx, &p), refused...) // what a file lacks may follow from that it is empty
	}
	if history.Bad(p.Target) && !p.Live() {
		p.Risks = append(p.Risks, gate.NewFinding(gate.LayerRelease, gate.Unknown, fmt.Sprintf("%s failed its last gate", p.Target)).
			Advise("why: deploygate history"))
	}
	if found && ready && d.rehearses(p) {
		refused.add(gate.LayerService, d.Rehearsal.Possible(ctx, p.Target))
	}
	if found && p.Command != Restart {
		d.planSchema(ctx, &p, history, onDisk, &refused)
	}
	return p, refused
}

// preflight is Plan as a step. With several reasons to refuse, the first is the failure and the others are said.
func (r *run) preflight(ctx context.Context, request Request) (o Outcome, refused error) {
	o = Refused
	var p Plan
	err := r.step(StepPreflight, "", func(gate.Progress) (string, error) {
		var reasons []*gate.Finding
		p, reasons = r.Plan(ctx, request)
		if ctx.Err() != nil {
			p.Before = []*gate.Finding{} // what an interruption cut short was not broken
			return "", context.Cause(ctx)
		}
		if len(reasons) == 0 {
			return p.summary(), nil
		}
		for _, f := range reasons[1:] {
			r.warn("also: %s", f.Summary)
		}
		o = Refusal(reasons...)
		return "", reasons[0]
	})
	r.plan, r.candidates, r.reload = p, p.Candidates, r.Reload && !p.Live() // a restart's target is live
	r.risks(p.Risks)
	r.report.Previous, r.report.Before = p.Previous, p.Before
	way := p.RollbackTarget()
	if p.Target != "" {
		r.report.Requested, r.report.RollbackTarget = p.Target, &way
	}
	if err == nil && p.Command == Release && way.Verdict == rollback.Blocked {
		r.warn("no way back from %s: to %s it is blocked: %s", p.Target, way.Version, way.Reason)
	}
	for _, f := range p.Before {
		r.Observer.Warned("before this " + string(p.Command) + " already: " + f.Summary)
	}
	return o, err
}

// summary is what the preflight found, in a few words.
func (p Plan) summary() string {
	if p.Command == Restart {
		return string(p.Target)
	}
	from := "nothing"
	if p.Previous != "" {
		from = string(p.Previous)
	}
	way := p.RollbackTarget()
	back := fmt.Sprintf("way back %s", way.Version)
	if way.Verdict != rollback.Safe {
		back = "no way back: " + way.Reason
	}
	return fmt.Sprintf("%s → %s; %s", from, p.Target, back)
}

// refusals collects every reason at once, so that they can be fixed at once.
type refusals []*gate.Finding

func (r *refusals) add(layer gate.Layer, err error) {
	if err != nil {
		*r = append(*r, gate.AsFinding(layer, err))
	}
}

// target is the version to make live.
func target(r Request, h journal.History, onDisk []release.Version, current release.Version) (release.Version, error) {
	if r.Command == Restart {
		if current == "" {
			return "", errors.New("no release is live, so there is nothing to restart")
		}
		return current, nil
	}
	if r.Version != "" || r.Command == Release {
		v, err := release.ParseVersion(r.Version)
		if err == nil && r.Command == Rollback && !wasLive(h, v) {
			err = fmt.Errorf("%s was never live on this host, so there is no going back to it; deploygate release %s makes it live", v, v)
		}
		return v, err
	}
	ways := rollback.Candidates(h, onDisk, current)
	if len(ways) == 0 {
		return "", fmt.Errorf("there is nothing to roll back to: no earlier good release is on this host")
	}
	return ways[0], nil
}

// expectAll is what each instance must run when v is live; none with an error.
func (d *Deployer) expectAll(v release.Version, units []Unit) (wants []gate.Target, err error) {
	for _, u := range units {
		want, err := d.expect(v, u)
		if err != nil {
			return nil, err
		}
		wants = append(wants, want)
	}
	return wants, nil
}

// expect is what a unit must run when v is live.
func (d *Deployer) expect(v release.Version, u Unit) (gate.Target, error) {
	dir, err := d.Tree.RealDir(v)
	if err != nil {
		return gate.Target{}, err
	}
	return gate.Target{
		Version: string(v), Dir: dir, Releases: strings.TrimSuffix(dir, "/"+string(v)),
		InDir: u.InLink, Socket: u.Socket,
	}, nil
}
