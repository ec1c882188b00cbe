package unit

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	sdunit "github.com/coreos/go-systemd/v22/unit"
)

// AtBoot is whether and when systemd starts a unit at boot.
type AtBoot struct {
	Name       string
	LoadState  string // loaded, not-found, masked, …
	FileState  string // enabled, disabled, …
	File       string // the unit's own file; "" if it has none
	Program    string // of ExecStart=
	Configured bool   // a file says that there is this unit; a mount may just have been made by hand
	After      []string
	Before     []string
	Conditions []Condition
}

// Condition is a Condition…= of a unit (systemd.unit(5)).
type Condition struct {
	Type        string
	Alternative bool // "|": of all these one is enough
	Negated     bool
	Parameter   string
}

// AtBoot asks for it. A unit that doesn't exist is described too.
func (u Unit) AtBoot(ctx context.Context) (AtBoot, error) {
	p, err := u.properties(ctx)
	if err != nil {
		return AtBoot{}, err
	}
	b := AtBoot{
		Name: u.name, LoadState: get[string](p, "LoadState"), FileState: get[string](p, "UnitFileState"),
		File: get[string](p, "FragmentPath"), Before: get[[]string](p, "Before"), After: get[[]string](p, "After"),
	}
	b.Configured = b.File != "" || get[string](p, "SourcePath") != ""
	if commands := get[[][]any](p, "ExecStart"); len(commands) > 0 && len(commands[0]) > 0 {
		b.Program, _ = commands[0][0].(string)
	}
	for _, c := range get[[][]any](p, "Conditions") { // a(sbbsi): its last member is the result of the last start
		if len(c) < 4 {
			continue
		}
		var condition Condition
		condition.Type, _ = c[0].(string)
		condition.Alternative, _ = c[1].(bool)
		condition.Negated, _ = c[2].(bool)
		condition.Parameter, _ = c[3].(string)
		b.Conditions = append(b.Conditions, condition)
	}
	return b, nil
}

// Excludes is the condition that keeps the unit from running for an app with this configuration file and state directory,
// once it has been deployed; "" if there is none. A condition of a kind that tells nothing of either is taken to hold.
func (b AtBoot) Excludes(configFile, stateDir string) string {
	var alternatives []string
	for _, c := range b.Conditions {
		held := c.holds(configFile, stateDir)
		switch {
		case c.Alternative && held:
			return b.excluded(configFile, stateDir)
		case c.Alternative:
			alternatives = append(alternatives, c.String())
		}
	}
	if len(alternatives) > 0 {
		return strings.Join(alternatives, ", ")
	}
	return b.excluded(configFile, stateDir)
}

// excluded is the first condition that doesn't hold of those that all have to.
func (b AtBoot) excluded(configFile, stateDir string) string {
	for _, c := range b.Conditions {
		if !c.Alternative && !c.holds(configFile, stateDir) {
			return c.String()
		}
	}
	return ""
}

func (c Condition) String() string {
	not := ""
	if c.Negated {
		not = "!"
	}
	return c.Type + "=" + not + c.Parameter
}

func (c Condition) holds(configFile, stateDir string) bool {
	var held bool
	switch c.Type {
	case "ConditionDirectoryNotEmpty":
		held = below(stateDir, filepath.Clean(c.Parameter)) || below(configFile, filepath.Clean(c.Parameter))
	case "ConditionPathExistsGlob":
		held, _ = filepath.Match(c.Parameter, configFile)
	default:
		return true
	}
	return held != c.Negated
}

// Waits reports whether the unit is started after a mount, as far as it is known: by itself, or as all that is started after
// the local file systems.
func (b AtBoot) Waits(mount AtBoot) bool {
	return !mount.Configured || slices.Contains(b.After, mount.Name) ||
		slices.Contains(b.After, "local-fs.target") && slices.Contains(mount.Before, "local-fs.target")
}

// MountsOf returns the mounts that a path lies on and that a file configures, the one nearest to the root first.
func (m *Manager) MountsOf(ctx context.Context, path string) (mounts []AtBoot, err error) {
	for dir := filepath.Clean(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		mount, err := m.Unit(sdunit.UnitNamePathEscape(dir) + ".mount").AtBoot(ctx)
		if err != nil {
			return nil, err
		}
		if mount.LoadState == "loaded" && mount.Configured {
			mounts = append(mounts, mount)
		}
	}
	slices.Reverse(mounts)
	return mounts, nil
}
