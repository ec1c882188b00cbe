package migrations

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Name is a migration's identity, as Django's table django_migrations has it.
type Name struct {
	App  string // the app's label
	Name string // the module's name
}

func (n Name) String() string {
	if n.App == "" {
		return n.Name
	}
	return n.App + "." + n.Name
}

func compareNames(a, b Name) int {
	if c := strings.Compare(a.App, b.App); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// Migration is what one file says.
type Migration struct {
	Name Name
	File string // relative to the release
	// Dependencies are as written: the name may be __first__ or __latest__, and the app a setting's dotted path for a
	// swappable one.
	Dependencies []Name
	Replaces     []Name
	RunBefore    []Name
	Operations   []Operation
	Initial      bool
	Atomic       bool
	ThirdParty   bool // it lies in a site-packages or dist-packages directory
	// Word is the author's reason why the older code may run after it: a comment "# rollback-safe: REASON" on a line of
	// its own, or rollback_safe = "REASON" in the class.
	Word string
	// Problem says why nobody can tell what it does, as the end of a sentence about the file; "" if it is understood.
	Problem string

	anywhere bool // it may change the models of other apps
	keys     []string
	sum      [sha256.Size]byte
}

// Set is the migrations of one release.
type Set struct {
	Migrations map[Name]*Migration

	apps map[string]bool
	// unmigrated has the apps that have models and no migrations, by label and by directory: their tables were made some
	// other way.
	unmigrated map[string]bool
	// packages reports whether the release has an environment in it, without which third parties' apps are not seen.
	packages bool
	byKey    map[string]Name
}

func newSet(l *listing) *Set {
	s := &Set{
		Migrations: map[Name]*Migration{}, apps: map[string]bool{}, unmigrated: map[string]bool{}, byKey: map[string]Name{},
		packages: l.packages,
	}
	for _, a := range l.apps {
		if a.hasFiles {
			s.apps[a.label()] = true
		} else if a.models {
			s.unmigrated[a.label()], s.unmigrated[a.key] = true, true
		}
	}
	for _, f := range l.sorted() {
		s.add(f.migration())
	}
	return s
}

// label is the app's label: the one its configuration sets, or its directory's name.
func (a *app) label() string { return cmp.Or(a.answer.Label, a.base()) }

// base is the name of the app's directory, "" for the release's own.
func (a *app) base() string {
	if a.path == "." {
		return ""
	}
	return path.Base(a.path)
}

func (f *file) migration() *Migration {
	problem := f.problem
	if problem == "" {
		problem = f.answer.Problem
	}
	m := &Migration{
		Name:         Name{f.app.label(), f.stem},
		File:         f.path,
		Dependencies: names(f.answer.Dependencies),
		Replaces:     names(f.answer.Replaces),
		RunBefore:    names(f.answer.RunBefore),
		Atomic:       f.answer.Atomic == nil || *f.answer.Atomic,
		Initial:      f.answer.Initial != nil && *f.answer.Initial,
		ThirdParty:   strings.Contains("/"+f.path, "/site-packages/") || strings.Contains("/"+f.path, "/dist-packages/"),
		Word:         f.answer.Word,
		Problem:      problem,
		anywhere:     f.answer.Anywhere,
		keys:         []string{f.key},
		sum:          f.sum,
	}
	if problem == "" {
		for _, c := range f.answer.calls {
			m.Operations = append(m.Operations, newOperation(c, 0))
		}
	}
	return m
}

func names(pairs [][2]string) []Name {
	var found []Name
	for _, p := range pairs {
		found = append(found, Name{p[0], p[1]})
	}
	return found
}

// add keeps one of several files of the same name, which happens where a release has several environments, or packages
// with test apps in them. Which of them Django would load depends on settings, so they must be the same.
func (s *Set) add(m *Migration) {
	was := s.Migrations[m.Name]
	for _, k := range m.keys {
		s.byKey[k] = m.Name
	}
	if was == nil {
		s.Migrations[m.Name] = m
		return
	}
	was.keys = append(was.keys, m.keys...)
	if was.sum != m.sum || was.Problem != "" || m.Problem != "" {
		was.Problem = fmt.Sprintf("is not the only %s: there is %s too", m.Name, m.File)
		was.Operations = nil
	}
}

// New names what s has and older has not, as Django would apply it to older's database, in the order of dependencies;
// where they go in a circle, by name. Squashed migrations count as Django counts them (MigrationLoader.build_graph): one
// whose replaced migrations older all has is not new, and one of which it has some is left out for the rest of them; if
// these are gone, it is new itself. One of which older has none is new, and what it replaces is not.
//
// A file that older has under another name is new, and so is one of a name that older has for another file: Judge says
// so of them.
func (s *Set) New(older *Set) []Name {
	var found []Name
	g := s.graph(older.covered(s))
	for _, n := range s.order(g) {
		if g.covered[n] && !s.differs(n, older) {
			continue
		}
		found = append(found, n)
	}
	return found
}

// differs reports whether what older calls n is another migration. A file that only moved, or was only edited, is not:
// Django doesn't apply it again.
func (s *Set) differs(n Name, older *Set) bool {
	was, is := older.Migrations[n], s.Migrations[n]
	if was == nil || is == nil {
		return false
	}
	return !subset(is.keys, was.keys) && (was.sum != is.sum || is.Problem != "")
}

func subset(some, all []string) bool {
	for _, k := range some {
		if !slices.Contains(all, k) {
			return false
		}
	}
	return true
}

// covered is what a database has applied that s was migrated to, as far as newer and s can tell: what s has, and what
// its squashed migrations replace; a squashed migration of newer, if s has all that it replaces.
func (s *Set) covered(newer *Set) map[Name]bool {
	covered := map[Name]bool{}
	for n, m := range s.Migrations {
		covered[n] = true
		for _, r := range m.Replaces {
			covered[r] = true
		}
	}
	// A squashed migration may replace squashed ones.
	for again := true; again; {
		again = false
		for n, m := range newer.Migrations {
			if !covered[n] && len(m.Replaces) > 0 && count(m.Replaces, covered) == len(m.Replaces) {
				covered[n], again = true, true
			}
		}
	}
	return covered
}

func count(names []Name, in map[Name]bool) int {
	n := 0
	for _, name := range names {
		if in[name] {
			n++
		}
	}
	return n
}

// graph is which of a set's migrations count, given what is applied.
type graph struct {
	covered  map[Name]bool
	replaced map[Name]Name // what a squashed migration stands for
	dropped  map[Name]bool // squashed migrations that their replaced ones stand for
}

func (s *Set) graph(covered map[Name]bool) graph {
	g := graph{covered: covered, replaced: map[Name]Name{}, dropped: map[Name]bool{}}
	for _, n := range s.sorted() {
		m := s.Migrations[n]
		if len(m.Replaces) == 0 {
			continue
		}
		if !covered[n] && s.restIsThere(m, covered) {
			g.dropped[n] = true
			continue
		}
		for _, r := range m.Replaces {
			g.replaced[r] = n
		}
	}
	g.openCircles()
	return g
}

// openCircles undoes replacements that end where they began, by which migrations would vanish.
func (g graph) openCircles() {
	for _, n := range slices.SortedFunc(maps.Keys(g.replaced), compareNames) {
		by, replaced := g.replaced[n]
		for range len(g.replaced) {
			if !replaced || by == n {
				break
			}
			by, replaced = g.replaced[by]
		}
		if replaced {
			delete(g.replaced, n)
		}
	}
}

// restIsThere reports whether some of what m replaces is applied, and the rest can be.
func (s *Set) restIsThere(m *Migration, covered map[Name]bool) bool {
	some := false
	for _, r := range m.Replaces {
		switch {
		case covered[r]:
			some = true
		case s.Migrations[r] == nil:
			return false
		}
	}
	return some
}

func (s *Set) sorted() []Name {
	found := make([]Name, 0, len(s.Migrations))
	for n := range s.Migrations {
		found = append(found, n)
	}
	slices.SortFunc(found, compareNames)
	return found
}

// order lists the migrations that count, each after those it depends on.
func (s *Set) order(g graph) []Name {
	o := ordering{set: s, graph: g, needs: map[Name][]Name{}, seen: map[Name]bool{}}
	sorted := s.sorted()
	byApp := map[string][]Name{}
	for _, n := range sorted {
		if _, replaced := g.replaced[n]; !replaced && !g.dropped[n] {
			byApp[n.App] = append(byApp[n.App], n)
		}
	}
	o.link(sorted, byApp)
	for _, n := range sorted {
		o.visit(n)
	}
	return o.found
}

type ordering struct {
	set   *Set
	graph graph
	needs map[Name][]Name
	seen  map[Name]bool
	found []Name
}

// link notes what each migration needs. What a replaced one needs, the squashed one does.
func (o *ordering) link(sorted []Name, byApp map[string][]Name) {
	for _, n := range sorted {
		if o.graph.dropped[n] {
			continue
		}
		m, self := o.set.Migrations[n], o.standsFor(n)
		for _, d := range m.Dependencies {
			o.needs[self] = append(o.needs[self], o.targets(d, byApp)...)
		}
		for _, later := range m.RunBefore {
			later = o.standsFor(later)
			o.needs[later] = append(o.needs[later], self)
		}
	}
}

// standsFor follows replacements.
func (o *ordering) standsFor(n Name) Name {
	for {
		by, replaced := o.graph.replaced[n]
		if !replaced {
			return n
		}
		n = by
	}
}

// targets resolves a dependency: __first__ and __latest__ are an app's, and are taken for all that have no other or no
// later one in it. All of an app's is more than is needed, but for the order it does.
func (o *ordering) targets(d Name, byApp map[string][]Name) []Name {
	all := byApp[d.App]
	switch {
	case d.Name == "__first__" && len(all) > 0:
		return all[:1]
	case d.Name == "__latest__":
		return all
	case d.Name == "__first__":
		return nil
	}
	return []Name{o.standsFor(d)}
}

// visit is a depth-first walk; a circle ends where it was entered.
func (o *ordering) visit(n Name) {
	if o.seen[n] {
		return
	}
	o.seen[n] = true
	for _, need := range o.needs[n] {
		o.visit(need)
	}
	_, replaced := o.graph.replaced[n]
	if o.set.Migrations[n] != nil && !replaced && !o.graph.dropped[n] {
		o.found = append(o.found, n)
	}
}
