package rollback

import (
	"os"
	"slices"

	"deploygate/release"
	"deploygate/release/journal"
)

// Candidates lists the releases that may be gone back to, the likeliest first: the ones that were live before and
// didn't fail their last gate, latest first. Releases that are gone from disk, and those in not, are left out.
func Candidates(h journal.History, onDisk []release.Version, not ...release.Version) []release.Version {
	var found []release.Version
	for _, l := range slices.Backward(h.Lives) {
		v := l.Version
		known := h.Good(v) || l.ByHand && !h.Bad(v)
		if known && !l.HooksOnly && slices.Contains(onDisk, v) && !slices.Contains(not, v) && !slices.Contains(found, v) {
			found = append(found, v)
		}
	}
	return found
}

// Crossings lists the releases whose schema target's code would meet, newest first: every one that a release command
// made live after target was last live, or whose hooks alone ran then. What hooks did while target was live, it has lived
// with. A target that was never live is taken to be older than all of them, and the releases on disk that lie between it
// and current by name are counted as well.
func Crossings(h journal.History, target, current release.Version, onDisk []release.Version) []release.Version {
	var crossed, hooks []release.Version
	add := func(vs ...release.Version) {
		for _, v := range vs {
			if !slices.Contains(crossed, v) {
				crossed = append(crossed, v)
			}
		}
	}
	for _, l := range slices.Backward(h.Lives) {
		switch {
		case l.HooksOnly:
			hooks = append(hooks, l.Version)
			continue
		case l.Version == target:
			return crossed
		}
		add(hooks...)
		hooks = nil
		if l.Forward {
			add(l.Version)
		}
	}
	add(hooks...)
	for _, v := range slices.Backward(onDisk) {
		recorded := slices.ContainsFunc(h.Lives, func(l journal.Live) bool { return l.Version == v })
		if !recorded && release.Compare(target, v) < 0 && release.Compare(v, current) < 0 {
			add(v)
		}
	}
	return crossed
}

// Schemas reads what releases say of their schema, from their directories or, for those that are gone, from the
// journal. It reads each directory once.
type Schemas struct {
	Dir     func(release.Version) string
	History journal.History

	migrations map[string]listing
}

type listing struct {
	found map[string]string
	err   error
}

// WayBack decides whether target's code may run after the crossed releases.
func (s *Schemas) WayBack(target release.Version, crossed []release.Version, policy Policy) WayBack {
	var facts []Crossed
	for _, v := range crossed {
		if v != target {
			facts = append(facts, s.crossed(v, target, policy))
		}
	}
	return Decide(target, facts, policy)
}

func (s *Schemas) crossed(v, target release.Version, policy Policy) Crossed {
	c := Crossed{Version: v}
	was := s.History.Schema(v)
	if was != nil && was.Marker != "" {
		c.Marker = &Marker{Rollback: Verdict(was.Marker), Reason: was.Reason, Migrations: was.Migrations}
	}
	if _, err := os.Lstat(s.Dir(v)); err != nil {
		if was == nil || was.Unknown != "" {
			c.MigrationsErr = errUnknown
		} else {
			c.NewMigrations = was.NewMigrations
		}
		return c
	}
	// What was deployed counts, not only what the directory holds now: it may have been emptied or uploaded anew, and a
	// word that blocked when the migrations ran is overridden by name, not by an edit.
	if c.Marker == nil || c.Marker.Rollback == Safe {
		c.Marker, c.MarkerErr = ReadMarker(s.Dir(v))
	}
	if c.Marker != nil || c.MarkerErr != nil || policy != Inspect {
		return c
	}
	c.NewMigrations, c.MigrationsErr = s.newMigrations(v, target)
	if was != nil && c.MigrationsErr == nil {
		c.NewMigrations = s.addUnknownTo(target, c.NewMigrations, was.NewMigrations)
	}
	return c
}

// addUnknownTo adds to names those of more that target has no migration of.
func (s *Schemas) addUnknownTo(target release.Version, names, more []string) []string {
	known, err := s.list(target)
	if err != nil {
		return append(names, more...)
	}
	has := map[string]bool{}
	for _, name := range known {
		has[name] = true
	}
	for _, name := range more {
		if !has[name] && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Describe is what the journal keeps of v's schema, compared with the release that is live before it.
func (s *Schemas) Describe(v, previous release.Version) (*journal.Schema, error) {
	m, err := ReadMarker(s.Dir(v))
	if err != nil {
		return nil, err
	}
	if m != nil {
		return &journal.Schema{Marker: string(m.Rollback), Reason: m.Reason, Migrations: m.Migrations}, nil
	}
	if previous == "" {
		return &journal.Schema{Unknown: "there was no release before it"}, nil
	}
	names, err := s.newMigrations(v, previous)
	if err != nil {
		return &journal.Schema{Unknown: err.Error()}, nil
	}
	return &journal.Schema{NewMigrations: names}, nil
}

// newMigrations names, sorted, the migrations that v has and than has not.
func (s *Schemas) newMigrations(v, than release.Version) ([]string, error) {
	have, err := s.list(v)
	if err != nil {
		return nil, err
	}
	old, err := s.list(than)
	if err != nil {
		return nil, err
	}
	var names []string
	for key, name := range have {
		if _, known := old[key]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s *Schemas) list(v release.Version) (map[string]string, error) {
	dir := s.Dir(v)
	l, known := s.migrations[dir]
	if !known {
		l.found, l.err = Migrations(dir)
		if s.migrations == nil {
			s.migrations = map[string]listing{}
		}
		s.migrations[dir] = l
	}
	return l.found, l.err
}
