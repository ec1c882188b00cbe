package unit

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"deploygate/gate/untrusted"
)

// Needs is what a start of the unit takes beside its own program, and what has it started at all.
type Needs struct {
	DropIns []string
	Paths   []NeededPath
	// Missing are the units without which systemd doesn't start this one, and which it doesn't have.
	Missing []string
	// WantedBy are the units that start it when they are started themselves, a target at boot most of all.
	WantedBy  []string
	Sockets   []SocketUnit
	Reloaded  time.Time // when its ExecReload= last ran; zero: it never did in this start
	Elsewhere bool      // its sandbox may show its processes other files than the host has
}

// SocketUnit is one .socket unit that starts the service.
type SocketUnit struct {
	Name, FileState string
	WantedBy        []string
}

// NeededPath is a path that has to be there for a start of the unit to work.
type NeededPath struct {
	Setting   string // "ReadWritePaths="
	Path      string
	Program   bool // it is executed
	Parent    bool // it is made, if its directory is there
	Condition bool // without it systemd skips the start, and calls that a success
	Sandbox   bool // it belongs to the sandbox
}

// Needs asks systemd for them.
func (u Unit) Needs(ctx context.Context) (n Needs, err error) {
	p, err := u.properties(ctx)
	if err != nil {
		return n, err
	}
	n.DropIns, n.WantedBy = get[[]string](p, "DropInPaths"), wantedBy(p)
	n.Paths = neededPaths(p)
	n.Elsewhere = elsewhere(p)
	for _, c := range get[[][]any](p, "ExecReload") {
		if len(c) > 3 {
			if at, _ := c[3].(uint64); at > 0 { // when it was started, by the host's clock
				n.Reloaded = time.UnixMicro(int64(at)) //nolint:gosec // microseconds since 1970
			}
		}
	}
	for _, kind := range []string{"Requires", "BindsTo", "Requisite"} {
		for _, name := range get[[]string](p, kind) {
			other, err := u.m.Unit(name).properties(ctx)
			if state := get[string](other, "LoadState"); err == nil && (state == "not-found" || state == "masked") {
				n.Missing = append(n.Missing, name)
			}
		}
	}
	for _, name := range get[[]string](p, "TriggeredBy") {
		if !strings.HasSuffix(name, ".socket") {
			n.WantedBy = append(n.WantedBy, name) // a timer or a path unit
			continue
		}
		if s, err := u.m.Unit(name).properties(ctx); err == nil {
			n.Sockets = append(n.Sockets, SocketUnit{name, get[string](s, "UnitFileState"), wantedBy(s)})
		}
	}
	return n, nil
}

// Enabled tells what has a unit started at boot: the state of its file, and the units that want it.
func (u Unit) Enabled(ctx context.Context) (fileState string, wanted []string, err error) {
	p, err := u.properties(ctx)
	return get[string](p, "UnitFileState"), wantedBy(p), err
}

func neededPaths(p map[string]any) []NeededPath {
	return slices.Concat(commands(p), sandbox(p), outputs(p), conditions(p))
}

func wantedBy(p map[string]any) (all []string) {
	for _, kind := range []string{"WantedBy", "RequiredBy", "UpheldBy", "BoundBy"} {
		all = append(all, get[[]string](p, kind)...)
	}
	return all
}

// commands are the programs that have to work before or after the unit's own; a failure of what begins with - is ignored.
func commands(p map[string]any) (all []NeededPath) {
	for _, name := range []string{"ExecCondition", "ExecStartPre", "ExecStartPost"} {
		for _, c := range get[[][]any](p, name) {
			if len(c) < 3 {
				continue
			}
			program, _ := c[0].(string)
			if ignored, _ := c[2].(bool); !ignored && filepath.IsAbs(program) {
				all = append(all, NeededPath{Setting: name + "=", Path: program, Program: true})
			}
		}
	}
	return all
}

// elsewhere reports whether a path may lead the unit's processes to another file than it leads others to. What only hides
// files, or shows them under their own name, doesn't.
func elsewhere(p map[string]any) bool {
	moved := func(bind []any) bool { return len(bind) < 2 || bind[0] != bind[1] }
	return get[string](p, "RootDirectory") != "" || get[string](p, "RootImage") != "" ||
		slices.ContainsFunc(get[[][]any](p, "BindPaths"), moved) || slices.ContainsFunc(get[[][]any](p, "BindReadOnlyPaths"), moved)
}

// sandbox are the paths that the unit's own view of the file system is made of (systemd.exec(5), "Sandboxing").
func sandbox(p map[string]any) (all []NeededPath) {
	for _, c := range get[[][]any](p, "ExecStartPreEx") {
		if flags, _ := element[[]string](c, 2); slices.Contains(flags, "privileged") {
			return nil // it runs outside of the sandbox, and may make what that needs
		}
	}
	add := func(setting, path string) {
		path = strings.TrimPrefix(path, "+")
		if filepath.IsAbs(path) { // one that begins with - may be missing
			all = append(all, NeededPath{Setting: setting + "=", Path: path, Sandbox: true})
		}
	}
	for _, setting := range []string{"ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths"} {
		for _, path := range get[[]string](p, setting) {
			add(setting, path)
		}
	}
	for _, setting := range []string{"BindPaths", "BindReadOnlyPaths"} {
		for _, bind := range get[[][]any](p, setting) {
			if len(bind) > 2 && bind[2] == false {
				source, _ := bind[0].(string)
				add(setting, source)
			}
		}
	}
	return all
}

// element is one of a structure's, as D-Bus gives it.
func element[T any](list []any, i int) (v T, ok bool) {
	if i < len(list) {
		v, ok = list[i].(T)
	}
	return v, ok
}

// outputs are the files that systemd opens for the unit. D-Bus has no word of their paths: the unit's files do.
func outputs(p map[string]any) (all []NeededPath) {
	for _, setting := range []string{"StandardOutput", "StandardError"} {
		if kind := get[string](p, setting); kind != "file" && kind != "append" && kind != "truncate" || get[bool](p, "NeedDaemonReload") {
			continue
		}
		last := ""
		for _, file := range append([]string{get[string](p, "FragmentPath")}, get[[]string](p, "DropInPaths")...) {
			for _, line := range lines(file) {
				if value, found := strings.CutPrefix(line, setting+"="); found {
					last = value
				}
			}
		}
		if _, file, _ := strings.Cut(last, ":"); filepath.IsAbs(file) && !strings.Contains(file, "%") {
			all = append(all, NeededPath{Setting: setting + "=", Path: file, Parent: true})
		}
	}
	return all
}

// lines reads a unit's file, as far as it is one of a usual size.
func lines(file string) []string {
	const limit = 256 << 10
	text, _, err := untrusted.ReadFile(file, limit, nil)
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// conditions are those of the unit's conditions and assertions that ask whether a path is there.
func conditions(p map[string]any) (all []NeededPath) {
	for _, name := range []string{"Conditions", "Asserts"} {
		for _, c := range get[[][]any](p, name) {
			if len(c) < 4 {
				continue
			}
			kind, _ := c[0].(string)
			path, _ := c[3].(string)
			either, negated := c[1] != false, c[2] != false
			switch strings.TrimPrefix(strings.TrimPrefix(kind, "Condition"), "Assert") {
			case "PathExists", "PathIsDirectory", "FileNotEmpty", "DirectoryNotEmpty", "FileIsExecutable":
				if !either && !negated && filepath.IsAbs(path) {
					all = append(all, NeededPath{Setting: kind + "=", Path: path, Condition: name == "Conditions"})
				}
			}
		}
	}
	return all
}
