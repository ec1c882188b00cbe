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
	// Inspect means that a new migration blocks, none is safe.
	Inspect Policy = "inspect"
	// Allow means safe.
	Allow Policy = "allow"
	// Block means blocked.
	Block Policy = "block"
)

// WayBack is a release to go back to and whether its code may run, in the words of the JSON verdict.
type WayBack struct {
	Version release.Version `json:"version,omitempty"`
	Verdict Verdict         `json:"verdict"`
	Reason  string          `json:"reason"`
}

// Crossed is what is known of one release whose schema a rollback would leave in place.
type Crossed struct {
	Version   release.Version
	Marker    *Marker // nil: none
	MarkerErr error   // the marker is there and can't be understood
	// NewMigrations are the migrations that the release has and the target has not, as app.name.
	NewMigrations []string
	// MigrationsErr says why they are not known.
	MigrationsErr error
}

// Decide says whether target's code may run on what the crossed releases left. One that blocks is enough; the reason
// names the first. The order of crossed is the order in which reasons are looked for: the newest first reads best.
func Decide(target release.Version, crossed []Crossed, policy Policy) WayBack {
	for _, c := range crossed {
		if why := c.blocks(target, policy); why != "" {
			return WayBack{target, Blocked, why}
		}
	}
	return WayBack{target, Safe, safeReason(target, crossed, policy)}
}

// blocks gives the reason why c forbids target, or "".
func (c Crossed) blocks(target release.Version, policy Policy) string {
	switch {
	case c.MarkerErr != nil:
		return fmt.Sprintf("%s: %v", c.Version, c.MarkerErr)
	case c.Marker != nil && c.Marker.Rollback == Safe:
		return ""
	case c.Marker != nil:
		return fmt.Sprintf("%s's marker forbids it%s", c.Version, because(c.Marker))
	case policy == Allow:
		return ""
	case policy == Block:
		return fmt.Sprintf("%s has no marker, and no_marker = \"block\"", c.Version)
	case c.MigrationsErr != nil:
		return fmt.Sprintf("%s has no marker, and its migrations can't be compared: %v", c.Version, c.MigrationsErr)
	case len(c.NewMigrations) > 0:
		return fmt.Sprintf("%s has no marker and brings migrations that %s does not know: %s",
			c.Version, target, abbreviate(c.NewMigrations))
	}
	return ""
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

func safeReason(target release.Version, crossed []Crossed, policy Policy) string {
	if len(crossed) == 0 {
		return fmt.Sprintf("no release went live after %s", target)
	}
	var marked, other []string
	for _, c := range crossed {
		if c.Marker != nil {
			marked = append(marked, string(c.Version))
		} else {
			other = append(other, string(c.Version))
		}
	}
	var parts []string
	if len(marked) > 0 {
		parts = append(parts, "marked safe: "+abbreviate(marked))
	}
	if len(other) > 0 && policy == Allow {
		parts = append(parts, "no marker, and no_marker = \"allow\": "+abbreviate(other))
	} else if len(other) > 0 {
		parts = append(parts, "no new migrations: "+abbreviate(other))
	}
	return strings.Join(parts, "; ")
}

// abbreviate names the first few of a list that may be long.
func abbreviate(names []string) string {
	const show = 3
	if len(names) <= show {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:show], ", "), len(names)-show)
}
