package unit

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"deploygate/gate/untrusted"
)

// Description is what the unit's files say.
type Description struct {
	Name              string
	LoadState         string // loaded, not-found, masked, bad-setting, error
	LoadError         string
	WorkingDirectory  string // "" is the root directory
	DirectoryOptional bool   // the unit starts without it, in the root directory
	ExecStart         []string
	ExecStartPrefix   string // as systemd calls it: privileged, no-env-expand, …; "" without one that changes how it runs
	User, Group       string
	Groups            []string // SupplementaryGroups=
	Environment       []string // NAME=value
	EnvironmentFiles  []EnvironmentFile
	Listen            string // where a .socket unit listens for it, in gunicorn's syntax; "" without one
	InvocationID      string // of the current or last start
	MainPID           int
	Settled           bool // active, and no job is queued for it

	Program            string   // of ExecStart, as systemd looks for it
	RuntimeDirectories []string // below /run, or $XDG_RUNTIME_DIR
	Restart            string   // no, always, on-failure, …
	UnitFileState      string   // enabled, disabled, static, …
	File               string   // the unit's own file; drop-ins may stand beside it
	StaleOnDisk        bool     // its files were changed and systemd hasn't loaded them yet
	CanReload          bool     // it has an ExecReload=, or is of a type that needs none

	Type                     string
	Sockets                  []string   // the .socket units that start it
	Around                   [][]string // the commands of ExecStartPre=, ExecStartPost=, ExecStop= and ExecStopPost=
	PIDFile                  string
	DynamicUser              bool
	OwnRoot                  bool   // RootDirectory= or RootImage=: its paths are not the host's
	RuntimeDirectoryMode     uint32 // as chmod(2) takes it
	RuntimeDirectoryPreserve string // no, yes, restart
	RuntimeDirectoryLinks    bool   // a RuntimeDirectory=NAME:LINK
}

// EnvironmentFile is one EnvironmentFile= of a unit, as D-Bus gives it: (sb).
type EnvironmentFile struct {
	Path     string
	Optional bool
}

// Describe reads the unit's files as systemd has loaded them. A unit that doesn't exist is described too: its
// LoadState says so.
func (u Unit) Describe(ctx context.Context) (Description, error) {
	p, err := u.properties(ctx)
	if err != nil {
		return Description{}, err
	}
	d := Description{
		Name:      u.name,
		LoadState: get[string](p, "LoadState"),
		// "!" marks a directory that may be missing (WorkingDirectory=-…).
		WorkingDirectory: strings.TrimPrefix(get[string](p, "WorkingDirectory"), "!"),
		User:             get[string](p, "User"),
		Group:            get[string](p, "Group"),
		Groups:           get[[]string](p, "SupplementaryGroups"),
		Environment:      get[[]string](p, "Environment"),
		InvocationID:     invocation(get[[]byte](p, "InvocationID")),
		MainPID:          int(get[uint32](p, "MainPID")),
		Settled:          get[string](p, "ActiveState") == "active" && !queued(p),
	}
	d.DirectoryOptional = strings.HasPrefix(get[string](p, "WorkingDirectory"), "!")
	d.RuntimeDirectories, d.Groups = get[[]string](p, "RuntimeDirectory"), get[[]string](p, "SupplementaryGroups")
	d.CanReload = get[bool](p, "CanReload")
	d.Restart, d.UnitFileState = get[string](p, "Restart"), get[string](p, "UnitFileState")
	d.File, d.StaleOnDisk = get[string](p, "FragmentPath"), get[bool](p, "NeedDaemonReload")
	d.Type, d.PIDFile, d.DynamicUser = get[string](p, "Type"), get[string](p, "PIDFile"), get[bool](p, "DynamicUser")
	d.OwnRoot = get[string](p, "RootDirectory") != "" || get[string](p, "RootImage") != ""
	d.RuntimeDirectoryMode, d.RuntimeDirectoryPreserve = get[uint32](p, "RuntimeDirectoryMode"), get[string](p, "RuntimeDirectoryPreserve")
	d.RuntimeDirectoryLinks = slices.ContainsFunc(get[[][]any](p, "RuntimeDirectorySymlink"), func(l []any) bool {
		return len(l) > 1 && l[1] != "" // systemd 257 lists the directories without one, too
	})
	if e := get[[]any](p, "LoadError"); len(e) == 2 {
		d.LoadError, _ = e[1].(string)
	}
	if commands := get[[][]any](p, "ExecStart"); len(commands) > 0 && len(commands[0]) > 1 {
		d.Program, _ = commands[0][0].(string)
		d.ExecStart, _ = commands[0][1].([]string)
	}
	d.ExecStartPrefix = prefixOf(get[[][]any](p, "ExecStartEx"))
	for _, name := range []string{"ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost"} {
		for _, command := range get[[][]any](p, name) {
			if len(command) > 1 {
				argv, _ := command[1].([]string)
				d.Around = append(d.Around, argv)
			}
		}
	}
	for _, f := range get[[][]any](p, "EnvironmentFiles") {
		if len(f) == 2 {
			name, _ := f[0].(string)
			optional, _ := f[1].(bool)
			d.EnvironmentFiles = append(d.EnvironmentFiles, EnvironmentFile{name, optional})
		}
	}
	for _, t := range get[[]string](p, "TriggeredBy") {
		if strings.HasSuffix(t, ".socket") {
			d.Sockets = append(d.Sockets, t)
		}
	}
	for _, t := range d.Sockets {
		if d.Listen != "" {
			break
		}
		if d.Listen, err = u.m.Unit(t).listen(ctx); err != nil {
			return Description{}, err
		}
	}
	return d, nil
}

// Loaded describes the services whose files systemd could load, but for those that deploygate itself runs.
func (m *Manager) Loaded(ctx context.Context) (loaded []Description, err error) {
	names, err := m.Services(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "deploygate-") {
			continue
		}
		d, err := m.Unit(name).Describe(ctx)
		if err != nil {
			return nil, err
		}
		if d.LoadState == "loaded" {
			loaded = append(loaded, d)
		}
	}
	return loaded, nil
}

// Services lists the services that systemd has loaded or could load by a file of their own, sorted: templates are none.
func (m *Manager) Services(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	conn, _, err := m.dialled()
	if err != nil {
		return nil, err
	}
	pattern := []string{"*.service"}
	loaded, err := conn.ListUnitsByPatternsContext(ctx, nil, pattern)
	if err != nil {
		return nil, fmt.Errorf("cannot list the services: %w", plain(err))
	}
	files, err := conn.ListUnitFilesByPatternsContext(ctx, nil, pattern)
	if err != nil {
		return nil, fmt.Errorf("cannot list the services: %w", plain(err))
	}
	var names []string
	for _, u := range loaded {
		if u.LoadState == "loaded" {
			names = append(names, u.Name)
		}
	}
	for _, f := range files {
		// An alias is a name more of a service that is listed.
		if name := filepath.Base(f.Path); f.Type != "alias" && !strings.HasSuffix(name, "@.service") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// listen is the first stream address of a .socket unit, in gunicorn's syntax.
func (u Unit) listen(ctx context.Context) (string, error) {
	p, err := u.properties(ctx)
	if err != nil {
		return "", err
	}
	for _, l := range get[[][]any](p, "Listen") {
		if len(l) != 2 || l[0] != "Stream" {
			continue
		}
		if addr, _ := l[1].(string); strings.HasPrefix(addr, "/") {
			return "unix:" + addr, nil
		} else if addr != "" {
			return addr, nil
		}
	}
	return "", nil
}

// UsesLink reports whether the unit goes through link at all: a unit that doesn't is not changed by a swap.
func (d Description) UsesLink(link string) bool {
	mentions := func(s string) bool { return mentions(s, link) }
	return Through(d.WorkingDirectory, link) ||
		slices.ContainsFunc(d.ExecStart, mentions) || slices.ContainsFunc(d.Environment, mentions)
}

// mentions reports whether link, or a path below it, stands anywhere in s: after -c, in PYTHONPATH=, in a shell's words.
func mentions(s, link string) bool {
	for {
		_, after, found := strings.Cut(s, link)
		if !found {
			return Through(s, link)
		}
		if after == "" || !strings.ContainsRune("-._+", rune(after[0])) && !isAlphanumeric(after[0]) {
			return true
		}
		s = after
	}
}

func isAlphanumeric(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z'
}

// Through reports whether p is link or below it, by the path's text or by where link's directory really is.
func Through(p, link string) bool {
	if !filepath.IsAbs(p) {
		return false
	}
	p = filepath.Clean(p)
	if p == link || strings.HasPrefix(p, link+"/") {
		return true
	}
	dir, err := untrusted.EvalSymlinks(filepath.Dir(link))
	if err != nil {
		return false
	}
	real := filepath.Join(dir, filepath.Base(link))
	return p == real || strings.HasPrefix(p, real+"/")
}
