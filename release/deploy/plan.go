package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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

func firstCandidate(c Command, ways []rollback.Target) rollback.Target {
	if c == Restart {
		return rollback.Target{Verdict: rollback.None, Reason: "a restart has none: what ran before is the same release"}
	}
	if len(ways) == 0 {
		return rollback.Target{Verdict: rollback.None, Reason: "there is no earlier good release on this host"}
	}
	return ways[0]
}

// maxCandidates: the release that was live, one older good one, and then a person.
const maxCandidates = 2

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
			Advise("what of: deploygate history"))
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

// planSchema decides the ways back, and whether the target itself may run on the schema as it is.
func (d *Deployer) planSchema(ctx context.Context, p *Plan, h journal.History, onDisk []release.Version, refused *refusals) {
	schemas := &rollback.Compatibility{Dir: d.Tree.Dir, History: h}
	var err error
	if p.Schema, err = schemas.Describe(p.Target, p.Previous); err != nil {
		refused.add(gate.LayerRelease, err)
		return
	}
	if !p.Live() && p.older(h, schemas) {
		crossed := schemas.ReleasesSince(h, p.Target, p.Previous, onDisk)
		if w := d.mayGoBack(ctx, p, schemas, crossed); w.Verdict != rollback.Safe && p.Override == "" {
			refused.add(gate.LayerSchema, blocked(w, p.Previous))
		}
	}
	h = h.With(release.Activation{Version: p.Target, Forward: p.Command == Release})
	not := []release.Version{p.Target}
	if p.Command == Rollback && !p.Healthy {
		not = append(not, p.Previous) // it is what is being fled from
	}
	p.candidatesGiven = func(applied map[string]bool) []rollback.Target {
		schemas.Applied = applied
		return p.upTo(d.candidates(h, onDisk, schemas, p.Target, not))
	}
	p.Candidates = p.candidatesGiven(nil)
	if way := p.RollbackTarget(); p.RequireWayBack && way.Verdict != rollback.Safe && !p.Live() {
		refused.add(gate.LayerSchema, gate.NewFinding(gate.LayerSchema, gate.RollbackBlocked,
			fmt.Sprintf("there would be no way back from %s: %s", p.Target, way.Reason)).
			Advise("release it without --require-way-back, or split it: first what the live code can live with"))
	}
}

// mayGoBack decides whether the target, an older release, may run on the schema as it is.
func (d *Deployer) mayGoBack(ctx context.Context, p *Plan, schemas *rollback.Compatibility, crossed []release.Version) rollback.Target {
	w := schemas.RollbackTo(p.Target, crossed, d.NoMarker)
	if w.Verdict != rollback.Blocked || d.Applied == nil {
		return w
	}
	applied, err := d.askApplied(ctx, p.Previous, p.Target)
	if err != nil {
		w.Reason += fmt.Sprintf(" (%v)", err)
		return w
	}
	schemas.Applied = applied
	defer func() { schemas.Applied = nil }()
	return schemas.RollbackTo(p.Target, crossed, d.NoMarker)
}

// askApplied asks the database with the first of some releases that can.
func (d *Deployer) askApplied(ctx context.Context, with ...release.Version) (applied map[string]bool, err error) {
	for _, v := range with {
		if v == "" {
			continue
		}
		var failed error
		if applied, failed = d.Applied(ctx, v); failed == nil {
			return applied, nil
		}
		err = cmp.Or(err, failed)
	}
	return nil, err
}

// ways are the ways back from a release that is, or would be, the last in the history.
func (d *Deployer) candidates(
	h journal.History, onDisk []release.Version, schemas *rollback.Compatibility, from release.Version, not []release.Version,
) (ways []rollback.Target) {
	for _, v := range rollback.Candidates(h, onDisk, not...) {
		if len(ways) < maxCandidates && d.Tree.Inspect(v, d.Require) == nil {
			ways = append(ways, schemas.RollbackTo(v, schemas.ReleasesSince(h, v, from, onDisk), d.NoMarker))
		}
	}
	return ways
}

// upTo leaves out the ways back beyond the release that was live and healthy: if it fails as well, the fault is in what
// they share, and an older one has that too.
func (p Plan) upTo(ways []rollback.Target) []rollback.Target {
	if p.Healthy && len(ways) > 0 && ways[0].Version == p.Previous {
		return ways[:1]
	}
	return ways
}

// older reports whether making the target live means going back: always for a rollback, and for a release that was live
// before the present one, by its name or by its code.
func (p Plan) older(h journal.History, schemas *rollback.Compatibility) bool {
	return p.Command == Rollback || wasLive(h, p.Target) || p.Previous != "" && schemas.Older(p.Target, p.Previous)
}

// wasLive reports whether v was live at some time, as far as the record knows.
func wasLive(h journal.History, v release.Version) bool {
	return slices.ContainsFunc(h.Activations(), func(l release.Activation) bool { return l.Version == v && !l.HooksOnly })
}

func blocked(w rollback.Target, from release.Version) error {
	return gate.NewFinding(gate.LayerSchema, gate.RollbackBlocked,
		fmt.Sprintf("going back from %s to %s is blocked: %s", from, w.Version, w.Reason)).
		Advise("fix forward, or take the migrations back first").
		Advise(fmt.Sprintf("if you know better: deploygate rollback %s --override-marker REASON", w.Version))
}

// baseline finds what is broken before anything is touched.
func (d *Deployer) baseline(ctx context.Context, p *Plan, refused *refusals) {
	if err := d.Proxy.Begin(ctx); err != nil {
		f := gate.AsFinding(gate.LayerProxy, err)
		if d.refusesBroken(p) {
			cause, more := d.diagnosed(ctx, f)
			refused.broken(cause, more)
		} else {
			p.ProxyInvalid = true
			p.Before = append(p.Before, f)
		}
	}
	if p.Previous == "" {
		return // nothing is live that could be healthy
	}
	wants, err := d.expectAll(p.Previous, p.Units)
	for i, want := range wants {
		if err == nil && !p.Units[i].Running {
			err = gate.NewFinding(gate.LayerService, gate.ServiceStopped, p.Units[i].Name+" is not running")
		}
		if err == nil {
			err = d.Instances[i].Health.Check(ctx, want, gate.Strict, nil)
		}
	}
	if err != nil {
		p.Before = append(p.Before, gate.AsFinding(gate.LayerHealth, err))
		return // what the proxy answers follows from it
	}
	p.Healthy = true
	reach, err := d.Proxy.Check(ctx, string(p.Previous), gate.Strict, d.crash(wants), nil)
	p.Risks = append(p.Risks, reach.Risks...)
	if err == nil {
		return
	}
	f := gate.AsFinding(gate.LayerProxy, err)
	if d.refusesBroken(p) {
		cause, more := d.diagnosed(ctx, f)
		refused.broken(already(cause).
			Advise(`correct it first (is proxy.url right? "" skips the check), or set proxy.broken_before = "warn"`), more)
		return
	}
	p.ProxyBroken = true
	p.Before = append(p.Before, f)
}

// refusesBroken reports whether a proxy that is broken already refuses the deploy. A restart may be what is to repair it.
func (d *Deployer) refusesBroken(p *Plan) bool { return d.RefuseBroken && p.Command != Restart }

// broken adds what was broken before, and what else is.
func (r *refusals) broken(cause *gate.Finding, more []*gate.Finding) {
	for _, f := range append([]*gate.Finding{cause}, more...) {
		said := func(o *gate.Finding) bool { return o.Summary == already(f).Summary }
		if !slices.ContainsFunc(*r, said) {
			r.add(gate.LayerProxy, already(f))
		}
	}
}

// already says of a finding that it isn't the release's doing.
func already(f *gate.Finding) *gate.Finding {
	const before = "before this release already: "
	if strings.HasPrefix(f.Summary, before) {
		return f
	}
	old := *f
	old.Summary, old.Advice = before+f.Summary, slices.Clone(f.Advice)
	return &old
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

// Before is the release that would be gone back to from v, whether or not the schema allows it; "" if there is none.
func (d *Deployer) Before(v release.Version) release.Version {
	h, err := journal.Load(d.StateDir)
	onDisk, err2 := d.Tree.Releases()
	if cmp.Or(err, err2) != nil {
		return ""
	}
	if ways := rollback.Candidates(h, onDisk, v); len(ways) > 0 {
		return ways[0]
	}
	return ""
}

// Standing is what is live, what the journal knows, and the way back from it.
func (d *Deployer) Standing() (current release.Version, h journal.History, way rollback.Target, err error) {
	if current, err = d.Tree.Current(); err != nil {
		return current, h, way, err
	}
	if h, err = journal.Load(d.StateDir); err != nil {
		return current, h, way, err
	}
	h = h.Seen(current)
	onDisk, err := d.Tree.Releases()
	if err != nil {
		return current, h, way, err
	}
	p := Plan{Candidates: d.candidates(h, onDisk, &rollback.Compatibility{Dir: d.Tree.Dir, History: h}, current, []release.Version{current})}
	return current, h, p.RollbackTarget(), nil
}
