package deploy

import (
	"context"
	"slices"
	"strings"

	"deploygate/gate"
)

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
