package deploy

import (
	"context"
	"fmt"
	"path"
	"strings"

	"deploygate/gate"
	"deploygate/release"
)

// emptied compares the files of a release with those of the one before it. A power cut leaves files empty whose upload
// wasn't on disk yet, and they are all there by name.
func (d *Deployer) emptied(ctx context.Context, v, before release.Version) (release.Emptied, error) {
	var vital []string
	for _, name := range d.Require {
		if strings.HasSuffix(name, ".py") && path.Base(name) != "__init__.py" { // others may be there for their name
			vital = append(vital, path.Clean(name))
		}
	}
	if d.Vital != nil {
		vital = append(vital, d.Vital(ctx)...)
	}
	return d.Tree.Emptied(v, before, vital)
}

// whole refuses a target whose files a power cut has emptied, and notes what may be meant.
func (d *Deployer) whole(ctx context.Context, p *Plan) (refuse []*gate.Finding) {
	e, err := d.emptied(ctx, p.Target, p.Previous)
	switch problem := e.Problem(); {
	case err != nil:
		return []*gate.Finding{gate.AsFinding(gate.LayerRelease, err)}
	case problem != "":
		return []*gate.Finding{gate.NewFinding(gate.LayerRelease, gate.PartialRelease, fmt.Sprintf("release %s is partial: %s", p.Target, problem)).
			Advise("upload it again: a power cut or a full disk leaves files empty")}
	case e.Count > 0:
		p.Risks = append(p.Risks, gate.NewFinding(gate.LayerRelease, gate.PartialRelease,
			fmt.Sprintf("%d files of %s are empty that have content in %s (%s)", e.Count, p.Target, p.Previous, strings.Join(e.Lost, ", "))).
			Advise("if that isn't meant, upload it again"))
	}
	return nil
}

// cutOff adds to the failure of a deploy that died before its swap what is to be done about its release, whose files may
// not all have been on disk.
func (d *Deployer) cutOff(ctx context.Context, died *gate.Finding, v, before release.Version) {
	e, err := d.emptied(ctx, v, before)
	switch problem := e.Problem(); {
	case err != nil:
		died.Advise(fmt.Sprintf("upload %s again", v))
	case problem != "":
		died.Summary += fmt.Sprintf(", and %s is partial: %s", v, problem)
		died.Advise(fmt.Sprintf("upload %s again: a power cut or a full disk leaves files empty", v))
	default:
		died.Advise(fmt.Sprintf("if the host lost its power, upload %s again: not all of it may have been on disk", v))
	}
}
