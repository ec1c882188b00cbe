package rollback

import (
	"fmt"
	"strings"

	"deploygate/release"
)

// Verdict is the answer for one way back.
type Verdict string

const (
	// Safe means that the older code may run.
	Safe Verdict = "safe"
	// Blocked means that the older code must not run, or nobody can tell.
	Blocked Verdict = "blocked"
	// None means that there is no release to go back to.
	None Verdict = "none"
)

// Policy is what the absence of a marker means: [rollback] no_marker.
type Policy string

const (
	// Inspect means that the new migrations are read: one that the older code can't live with blocks.
	Inspect Policy = "inspect"
	// Allow means safe.
	Allow Policy = "allow"
	// Block means blocked.
	Block Policy = "block"
)

// Target is a release to go back to and whether its code may run, in the words of the JSON verdict.
type Target struct {
	Version release.Version `json:"version,omitempty"`
	Verdict Verdict         `json:"verdict"`
	Reason  string          `json:"reason"`
	// Blocking has the operations that block, as far as they are known.
	Blocking []release.Block `json:"blocking,omitempty"`
	// TakeBack is how the migrations that the older code doesn't know would be taken back; empty where that isn't known.
	TakeBack []Step `json:"-"`
}

// Intervening is what is known of one release whose schema a rollback would leave in place.
type Intervening struct {
	Version   release.Version
	Marker    *Marker // nil: none
	MarkerErr error   // the marker is there and can't be understood
	// Unapplied: the database has none of the migrations that the marker names.
	Unapplied bool
	// New are the migrations that the release has, the target has not, and the database may have, as app.name; Blocking
	// what the target's code can't live with in them.
	New      []string
	Blocking []release.Block
	// Err says why they are not known.
	Err error
}

// Decide says whether target's code may run on what the crossed releases left. One that blocks is enough; the reason
// names the first. The order of crossed is the order in which reasons are looked for: the newest first reads best.
func Decide(target release.Version, crossed []Intervening, policy Policy) Target {
	for _, c := range crossed {
		if why := c.blocks(target, policy); why != "" {
			return Target{Version: target, Verdict: Blocked, Reason: why, Blocking: c.Blocking}
		}
	}
	return Target{Version: target, Verdict: Safe, Reason: safeReason(target, crossed, policy)}
}

// blocks returns the reason why c forbids target, or "".
func (c Intervening) blocks(target release.Version, policy Policy) string {
	switch {
	case c.MarkerErr != nil:
		return fmt.Sprintf("%s: %v", c.Version, c.MarkerErr)
	case c.Marker != nil && (c.Marker.Rollback == Safe || c.Unapplied):
		return ""
	case c.Marker != nil:
		return fmt.Sprintf("%s's marker forbids it%s", c.Version, because(c.Marker))
	case policy == Allow:
		return ""
	case policy == Block:
		return fmt.Sprintf("%s has no marker, and no_marker = \"block\"", c.Version)
	case c.Err != nil:
		return fmt.Sprintf("%s has no marker, and its migrations can't be compared: %v", c.Version, c.Err)
	case len(c.Blocking) > 0:
		return fmt.Sprintf("%s's code can't run after %s's migrations: %s", target, c.Version, first(c.Blocking))
	}
	return ""
}

// first names the first of what blocks, and counts the others.
func first(blocking []release.Block) string {
	if len(blocking) == 1 {
		return blocking[0].String()
	}
	return fmt.Sprintf("%s; and %d more", blocking[0], len(blocking)-1)
}

func because(m *Marker) string {
	switch {
	case m.Reason != "":
		return ": " + m.Reason
	case len(m.Migrations) > 0:
		return ": " + abbreviate(m.Migrations)
	}
	return ""
}

func safeReason(target release.Version, crossed []Intervening, policy Policy) string {
	if len(crossed) == 0 {
		return fmt.Sprintf("no release went live after %s", target)
	}
	lists := map[string][]string{}
	for _, c := range crossed {
		v := string(c.Version)
		switch {
		case c.Unapplied:
			lists["not applied to the database: what the marker forbids of "] = append(lists["not applied to the database: what the marker forbids of "], v)
		case c.Marker != nil:
			lists["marked safe: "] = append(lists["marked safe: "], v)
		case policy == Allow:
			lists[`no marker, and no_marker = "allow": `] = append(lists[`no marker, and no_marker = "allow": `], v)
		case len(c.New) > 0:
			lists[compatible(target)] = append(lists[compatible(target)], c.New...)
		default:
			lists["no new migrations: "] = append(lists["no new migrations: "], v)
		}
	}
	var parts []string
	for _, what := range []string{
		"marked safe: ", "not applied to the database: what the marker forbids of ", `no marker, and no_marker = "allow": `,
		compatible(target), "no new migrations: ",
	} {
		if len(lists[what]) > 0 {
			parts = append(parts, what+abbreviate(lists[what]))
		}
	}
	return strings.Join(parts, "; ")
}

func compatible(target release.Version) string {
	return fmt.Sprintf("migrations that %s's code can live with: ", target)
}

// abbreviate names the first few of a list that may be long.
func abbreviate(names []string) string {
	const show = 3
	if len(names) <= show {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:show], ", "), len(names)-show)
}
