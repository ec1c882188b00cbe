package deploy

import (
	"context"
	"fmt"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Live is the release that the link names, and what each of its units must be running; with an error nothing can be proved of
// them, or there are none.
func (d *Deployer) Live(ctx context.Context) (current release.Version, wants []gate.Target, err error) {
	current, units, err := d.live(ctx)
	wants, unknown := d.expectAll(current, units)
	if err == nil && unknown != nil {
		err = gate.AsFinding(gate.LayerRelease, unknown)
	}
	return current, wants, err
}

func (d *Deployer) live(ctx context.Context) (current release.Version, units []Unit, err error) {
	current, err = d.Tree.Current()
	if err == nil && current == "" {
		err = gate.NewFinding(gate.LayerRelease, gate.Unknown, "no release is live: there is no "+d.Tree.CurrentPath())
	}
	if err != nil {
		return current, nil, gate.AsFinding(gate.LayerRelease, err)
	}
	for _, in := range d.Instances {
		unit, err := in.Ready(ctx)
		if err != nil {
			return current, nil, gate.AsFinding(gate.LayerService, err)
		}
		units = append(units, unit)
	}
	for _, in := range d.Instances {
		if in.Outside == nil {
			continue
		}
		if err := in.Outside(ctx); err != nil {
			return current, units, gate.AsFinding(gate.LayerService, err)
		}
	}
	return current, units, nil
}

// Check runs the gate on what is live, without restarting or reloading anything, and gives what is wrong with it.
func (d *Deployer) Check(ctx context.Context) (current release.Version, findings []*gate.Finding, warnings []string) {
	r := d.begin(Request{})
	current, units, err := d.live(ctx)
	if err != nil {
		return current, []*gate.Finding{gate.AsFinding(gate.LayerRelease, err)}, r.report.Warnings
	}
	if err := d.Proxy.Begin(ctx); err != nil {
		findings = append(findings, gate.AsFinding(gate.LayerProxy, err))
	}
	r.report.Previous = current
	r.plan = Plan{Target: current, Previous: current, Units: units}
	if err := r.verify(ctx, current); err != nil && len(findings) == 0 {
		findings = append(findings, gate.AsFinding(gate.LayerHealth, err))
	}
	return current, findings, r.report.Warnings
}

// SchemaAhead returns what is wrong with the live release where the before_swap hooks of another one have left a schema that
// its code can't live with: its health may not show it. nil: nothing is known of that.
func (d *Deployer) SchemaAhead(ctx context.Context) *gate.Finding {
	current, err := d.Tree.Current()
	h, err2 := journal.Load(d.StateDir)
	if err != nil || err2 != nil {
		return nil
	}
	return d.SchemaAheadOf(ctx, current, h.Seen(current))
}

// SchemaAheadOf is SchemaAhead, for a history that was read already.
func (d *Deployer) SchemaAheadOf(ctx context.Context, current release.Version, h journal.History) *gate.Finding {
	if current == "" {
		return nil
	}
	schemas := &rollback.Compatibility{Dir: d.Tree.Dir, History: h}
	crossed := schemas.ReleasesSince(h, current, current, nil)
	w := schemas.RollbackTo(current, crossed, d.NoMarker)
	if w.Verdict == rollback.Blocked && d.Applied != nil {
		if applied, err := d.askApplied(ctx, append([]release.Version{current}, crossed...)...); err == nil {
			schemas.Applied = applied
			w = schemas.RollbackTo(current, crossed, d.NoMarker)
		}
	}
	if w.Verdict != rollback.Blocked {
		return nil
	}
	f := gate.NewFinding(gate.LayerSchema, gate.SchemaAhead,
		fmt.Sprintf("%s is live, and its code can't run on the schema that the before_swap hooks of %s left: %s", current, join(crossed), w.Reason))
	for _, out := range w.Remedies(d.manage(crossed[0])) {
		f.Advise(out)
	}
	return f
}
