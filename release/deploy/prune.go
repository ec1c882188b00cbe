package deploy

import (
	"context"
	"slices"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Prunable says which releases on disk may go: of those that passed their last gate all but the keep most recent, and
// of those that failed it all but the most recent, which stays as evidence. The live release and the way back are
// never among them, nor is anything that the journal has no gate of: it may be the next release, uploaded already.
func Prunable(h journal.History, onDisk []release.Version, current release.Version, keep int) []release.Version {
	keepAnyway := []release.Version{current}
	if ways := rollback.Candidates(h, onDisk, current); len(ways) > 0 {
		keepAnyway = append(keepAnyway, ways[0])
	}
	there := map[release.Version]bool{}
	for _, v := range onDisk {
		there[v] = true
	}
	good, bad := 0, 0
	var old []release.Version
	for _, v := range h.Gated() {
		if !there[v] {
			continue
		}
		kept := false
		if h.Good(v) {
			good++
			kept = good <= keep
		} else {
			bad++
			kept = bad <= 1
		}
		if !kept && !slices.Contains(keepAnyway, v) {
			old = append(old, v)
		}
	}
	return old
}

// Unrecorded lists the releases on disk that the journal has no gate of, and that prune therefore leaves alone.
func Unrecorded(h journal.History, onDisk []release.Version, current release.Version) []release.Version {
	var vs []release.Version
	for _, v := range onDisk {
		if !h.Good(v) && !h.Bad(v) && v != current {
			vs = append(vs, v)
		}
	}
	return vs
}

// Prune removes old releases and says which. The caller holds the app's lock.
func (d *Deployer) Prune() (removed, unrecorded []release.Version, err error) {
	h, err := journal.Load(d.StateDir)
	if err != nil {
		return nil, nil, err
	}
	current, err := d.Tree.Current()
	if err != nil {
		return nil, nil, err
	}
	onDisk, err := d.Tree.Releases()
	if err != nil {
		return nil, nil, err
	}
	for _, v := range Prunable(h.Seen(current), onDisk, current, d.Keep) {
		if err := d.Tree.Remove(v); err != nil {
			return removed, nil, err
		}
		removed = append(removed, v)
	}
	return removed, Unrecorded(h, onDisk, current), nil
}

// prune is Prune as a step: the deploy has succeeded, so a failure is a warning.
func (d *Deployer) prune(r *run) {
	err := r.step(StepPrune, "", func(gate.Progress) (string, error) {
		removed, _, err := d.Prune()
		switch {
		case err != nil:
			return "", err
		case len(removed) == 0:
			return "nothing to remove", errSkipped
		}
		return "removed " + join(removed), nil
	})
	if err != nil {
		r.warn("old releases were not all removed: %v", err)
	}
}

// unchanged ends a deploy of what was live and healthy already. The journal gets to know of it only where it thought
// otherwise: a release that failed its gate and has recovered is a good one again, and what a person says of the schema is
// remembered.
func (d *Deployer) unchanged(ctx context.Context, r *run, p Plan) *Report {
	if (!p.Good || p.Override != "") && r.began(p) == nil {
		_ = r.passed(p.Target)
	}
	if f := d.SchemaAhead(ctx); f != nil {
		return r.end(Refused, f)
	}
	return r.end(Unchanged, nil)
}
