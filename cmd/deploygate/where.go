package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"deploygate/gate"
	"deploygate/release/unit"
)

// whereabouts is how the app's unit goes through the live link.
type whereabouts struct {
	inLink    bool // its main process works in the release that the link names
	uncertain bool // nothing shows whether it goes through it; then inLink demands that it is seen
}

// whereabouts tells it from the unit's processes while it runs, and else from its text: a start script, or gunicorn's
// configuration file, leads to the release without a word of it in the unit. The error is a finding: a swap would change
// nothing.
func (s *appService) whereabouts(ctx context.Context, d unit.Description) (w whereabouts, err error) {
	releases := filepath.Join(filepath.Dir(s.link), "releases")
	advice := fmt.Sprintf("set WorkingDirectory=%s in the unit, or root and service.unit here", s.link)
	byText := d.UsesLink(s.link)
	if named := d.NamesRelease(releases); named != "" && !byText {
		return w, gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("%s names %s itself and does not go through %s, so a swap would change nothing", d.Name, named, s.link)).Advise(advice)
	}
	seen, err := s.unit.Where(ctx, s.link, releases)
	if err == nil && seen.Settles > 0 && !byText && !s.placed {
		select { // nothing else would show it
		case <-time.After(seen.Settles):
		case <-ctx.Done():
			return w, context.Cause(ctx)
		}
		seen, err = s.unit.Where(ctx, s.link, releases)
	}
	switch {
	case err != nil: // systemd doesn't answer at this moment: its text is what is left
		seen = unit.Where{}
	case seen.Known && (seen.Uses || byText):
		s.placed = true
		return whereabouts{inLink: seen.InRelease}, nil
	case seen.Known && !s.placed: // what a failed release made of it is no reason to leave it there
		return w, gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("%s does not go through %s, so a swap would change nothing", d.Name, s.link)).
			With("processes", fmt.Sprintf("its main process %d works in %s, and no process of it has the live release in its program, arguments or environment", d.MainPID, seen.Seen)).
			Advise(advice)
	case byText:
		return whereabouts{inLink: d.InLink(s.link)}, nil
	}
	return whereabouts{inLink: true, uncertain: true}, nil
}
