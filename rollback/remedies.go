package rollback

import (
	"fmt"
	"slices"
	"strings"

	"deploygate/release"
	"deploygate/rollback/migrations"
)

// Step takes the migrations of one app back.
type Step struct {
	App, To string // To is the last migration that stays, or Django's "zero"
	Cannot  string // why it can't be done; "" if it can
	Loses   string // what doesn't come back
}

// takeBack says, for each app with a migration that target's code can't live with, how it would be taken back with the
// code of the newest release that has it: as far as is needed, since going back destroys.
func (s *Compatibility) takeBack(target release.Version, crossed []release.Version) (steps []Step) {
	for _, v := range crossed {
		j := s.between(v, target, s.Applied)
		if len(j.Blocking) == 0 {
			continue
		}
		newer, err := s.set(v)
		if err != nil {
			continue
		}
		for i, n := range j.New {
			blocks := slices.ContainsFunc(j.Blocking, func(r migrations.Reason) bool { return r.Migration == n })
			if !blocks || slices.ContainsFunc(steps, func(st Step) bool { return st.App == n.App }) {
				continue
			}
			steps = append(steps, stepBack(newer.Migrations[n], j.New[i:], slices.Concat(j.Blocking, j.Safe)))
		}
	}
	return steps
}

// stepBack takes an app back to before one of its migrations, and with it the later ones.
func stepBack(first *migrations.Migration, later []migrations.Name, operations []migrations.Reason) Step {
	st := Step{App: first.Name.App, To: "zero"}
	for _, d := range first.Dependencies {
		if d.App == st.App {
			st.To = d.Name
		}
	}
	for _, o := range operations {
		switch {
		case o.Migration.App != st.App || !slices.Contains(later, o.Migration):
		case !o.Reversible && st.Cannot == "":
			st.Cannot = fmt.Sprintf("%s: %s", o.Migration, strings.TrimPrefix(o.Operation+": "+o.Reverse, ": "))
		case o.Reversible && o.Reverse != "" && st.Loses == "":
			st.Loses = fmt.Sprintf("%s: %s: %s", o.Migration, o.Operation, o.Reverse)
		}
	}
	return st
}

// Remedies says what may be done about a release that failed and can't be gone back from, as commands. manage runs
// Django's manage.py with the failed release's code.
func (w Target) Remedies(manage string) []string {
	out := []string{"fix forward: release a corrected version"}
	switch w.Verdict {
	case Safe:
		return append(out, fmt.Sprintf("or go back: deploygate rollback %s", w.Version))
	case None:
		return out
	case Blocked:
	}
	var commands, cannot, loses []string
	for _, st := range w.TakeBack {
		commands = append(commands, fmt.Sprintf("%s migrate %s %s", manage, st.App, st.To))
		if st.Cannot != "" {
			cannot = append(cannot, st.Cannot)
		}
		if st.Loses != "" {
			loses = append(loses, st.Loses)
		}
	}
	switch {
	case len(cannot) > 0:
		out = append(out, "its migrations can't be taken back: "+strings.Join(cannot, "; "))
	case len(commands) > 0:
		commands = append(commands, fmt.Sprintf("deploygate rollback %s --override-marker REASON", w.Version))
		text := "or take its migrations back, then the release: " + strings.Join(commands, " && ")
		if len(loses) > 0 {
			text += " (what is lost: " + strings.Join(loses, "; ") + ")"
		}
		out = append(out, text)
	}
	return append(out,
		"or restore the database from a backup of before this release, then go back",
		fmt.Sprintf("or, if you know that %s can run on the schema as it is: deploygate rollback %s --override-marker REASON", w.Version, w.Version))
}
