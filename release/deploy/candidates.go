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
		not = append(not, p.Previous) // it is not healthy, and is being left
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
