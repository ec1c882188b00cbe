package deploy

import (
	"context"
	"slices"

	"deploygate/gate"
)

// Look is what a look at the host, and at a release on it, found before anything is touched.
type Look struct {
	Stops []*gate.Finding // no start of the unit can work as the host is, whatever release it is to run
	Lacks []*gate.Finding // what the release lacks for certain
	Risks []*gate.Finding // what doesn't fail now, and will or may
}

// look looks at the host and at the target. A release that is live and healthy isn't refused for what its next start will
// miss: as long as it passes its gate it isn't started.
func (d *Deployer) look(ctx context.Context, p *Plan) (refuse []*gate.Finding) {
	if d.Look == nil {
		return nil
	}
	l := d.Look(ctx, *p, false)
	for _, f := range l.Risks {
		if !slices.ContainsFunc(p.Risks, func(o *gate.Finding) bool { return o.Summary == f.Summary }) {
			p.Risks = append(p.Risks, f)
		}
	}
	refuse = append(l.Stops, l.Lacks...)
	if p.Live() && p.Healthy && p.Command != Restart {
		p.withheld, refuse = refuse, nil
		p.Risks = append(append([]*gate.Finding{}, p.withheld...), p.Risks...)
	}
	return refuse
}

// lookAgain looks at what the before_swap hooks were to make.
func (r *run) lookAgain(ctx context.Context) error {
	if r.Look == nil {
		return nil
	}
	l := r.Look(ctx, r.plan, true)
	lacks := append(l.Stops, l.Lacks...)
	if len(lacks) == 0 {
		return nil
	}
	for _, f := range lacks[1:] {
		r.warn("also: %s", f.Summary)
	}
	return lacks[0].Advise("nothing was swapped; what the before_swap hooks did stays")
}

// diagnosed returns a failure of the host by its cause, as diagnose does, and what else is wrong with it.
func (d *Deployer) diagnosed(ctx context.Context, f *gate.Finding) (cause *gate.Finding, more []*gate.Finding) {
	if d.Diagnose == nil || ctx.Err() != nil {
		return f, nil
	}
	found := d.Diagnose(ctx)
	if len(found) == 0 || found[0].Cause == gate.Unknown && f.Cause != gate.Unknown {
		return f, nil
	}
	return found[0], found[1:]
}
