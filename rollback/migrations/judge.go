package migrations

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Reason is the verdict on one operation of a new migration.
type Reason struct {
	Migration Name
	// Operation names it, as "RemoveField order.legacy"; "" if the whole migration is meant.
	Operation string
	Line      int
	// Why says what the older code would miss, or why it misses nothing.
	Why string
	// Reversible reports whether Django can unapply it, and Reverse what that does not bring back, or why it can't.
	Reversible bool
	Reverse    string
}

func (r Reason) String() string {
	if r.Operation == "" {
		return fmt.Sprintf("%s %s", r.Migration, r.Why)
	}
	return fmt.Sprintf("%s: %s: %s", r.Migration, r.Operation, r.Why)
}

// Judgement is whether an older release's code may run after a newer one's migrations: if nothing is Blocking.
type Judgement struct {
	New      []Name
	Blocking []Reason
	Safe     []Reason
	// NotSeen has the apps outside of the release that new migrations depend on: theirs may be new too.
	NotSeen []string
}

// Judge says whether the code of older may run on the schema that newer's migrations leave. skip tells which of them
// are not applied, so that they don't count; it may be nil. One that isn't atomic counts nevertheless, since it may have
// stopped half-way.
func Judge(newer, older *Set, skip func(Name) bool) Judgement {
	applied := newer.New(older)
	if skip != nil {
		applied = slices.DeleteFunc(applied, func(n Name) bool { return newer.skipped(n, skip) })
	}
	j := &judging{newer: newer, older: older, Judgement: Judgement{New: applied}}
	j.prepare()
	for _, n := range applied {
		j.migration(newer.Migrations[n])
	}
	j.notSeen()
	return j.Judgement
}

// skipped reports whether nothing of a migration is applied. Django notes a squashed one as applied only when it is next
// asked to migrate, though all that it replaces may be, and one that isn't atomic only when all of it is done.
func (s *Set) skipped(n Name, skip func(Name) bool) bool {
	m := s.Migrations[n]
	return skip(n) && m.Atomic && !slices.ContainsFunc(m.Replaces, func(r Name) bool { return !skip(r) })
}

type judging struct {
	newer, older *Set
	env          env
	gone         map[[2]string]Name // what newer hasn't any more, by the module's name and its text
	Judgement
}

// prepare replays what both releases have.
func (j *judging) prepare() {
	now, then := newState(), newState()
	isNew := map[Name]bool{}
	for _, n := range j.newer.New(j.older) {
		isNew[n] = true
	}
	j.gone = map[[2]string]Name{}
	for _, n := range j.older.sorted() {
		if m := j.older.Migrations[n]; j.newer.Migrations[n] == nil {
			j.gone[[2]string{n.Name, string(m.sum[:])}] = n
		}
	}
	var base []Name
	for _, n := range j.newer.order(j.newer.graph(j.older.covered(j.newer))) {
		if !isNew[n] {
			base = append(base, n)
		}
	}
	now.replay(j.newer, base)
	then.replay(j.older, j.older.order(j.older.graph(nil)))
	j.env = env{
		state: now, older: then, origins: newOrigins(j.newer, j.older, then),
		database: &database{tables: map[string]bool{}, columns: map[[2]string]bool{}},
	}
}

func (j *judging) migration(m *Migration) {
	j.env.app = m.Name.App
	if why := j.problem(m); why != "" {
		j.Blocking = append(j.Blocking, Reason{Migration: m.Name, Why: why, Reverse: "what it did is not known"})
		j.env.lose(m)
		return
	}
	for _, o := range m.Operations {
		v := j.env.judge(o)
		j.env.apply(m.Name.App, o)
		r := Reason{Migration: m.Name, Operation: o.String(), Line: o.Line, Why: v.why}
		r.Reversible, r.Reverse = reverse(o)
		switch {
		case v.safe:
			j.Safe = append(j.Safe, r)
		case m.Word != "":
			r.Why = "its author says so: " + m.Word
			j.Safe = append(j.Safe, r)
		default:
			j.Blocking = append(j.Blocking, r)
		}
	}
}

// problem says why a migration can't be judged by its operations.
func (j *judging) problem(m *Migration) string {
	if m.Problem != "" {
		return m.Problem
	}
	if j.newer.differs(m.Name, j.older) {
		return "is another file than the older release's migration of that name"
	}
	for _, k := range m.keys {
		if was, has := j.older.byKey[k]; has && was != m.Name {
			return fmt.Sprintf("is the file that the older release has for %s", was)
		}
	}
	return j.moved(m)
}

// moved finds a migration that the older release has under another app's name, and the newer one has no more: the app
// was renamed, or it was not recognised once. Its tables may then be older than they look.
func (j *judging) moved(m *Migration) string {
	was, same := j.gone[[2]string{m.Name.Name, string(m.sum[:])}]
	if same && len(m.Operations) > 0 {
		return fmt.Sprintf("is the same file as the older release's %s, which is gone", was)
	}
	return ""
}

// notSeen finds the apps that new migrations name and the release doesn't have.
func (j *judging) notSeen() {
	apps := map[string]bool{}
	note := func(app string) {
		if !j.newer.apps[app] && !strings.Contains(app, ".") && !strings.HasPrefix(app, "?") {
			apps[app] = true
		}
	}
	for _, n := range j.New {
		m := j.newer.Migrations[n]
		for _, d := range slices.Concat(m.Dependencies, m.RunBefore) {
			note(d.App)
		}
	}
	j.NotSeen = slices.Sorted(maps.Keys(apps))
}

// origins tells tables that a CreateModel makes from those that are there already. Django runs one on an older table too,
// or takes it for done (--fake-initial), where the migrations that made the table were written again, or there were none.
type origins struct {
	older      *state
	tables     map[string]string // the older models' tables, with the models
	rewritten  map[string]bool   // apps of which older has migrations that newer has not
	unmigrated map[string]bool   // apps of which older has models and no migrations
	outside    map[string]bool   // apps that older has outside of its release
}

func newOrigins(newer, older *Set, then *state) origins {
	o := origins{older: then, tables: map[string]string{}, rewritten: map[string]bool{}, unmigrated: map[string]bool{}}
	o.outside = older.outside()
	then.all(o.note)
	for n := range older.Migrations {
		if newer.Migrations[n] == nil {
			o.rewritten[n.App] = true
		}
	}
	for n, m := range newer.Migrations {
		if m.ThirdParty && !older.packages {
			o.outside[n.App] = true
		}
		for _, k := range m.keys {
			if older.unmigrated[n.App] || older.unmigrated[path.Dir(path.Dir(k))] {
				o.unmigrated[n.App] = true
			}
		}
	}
	return o
}

// outside finds the apps that a release's migrations name and that it doesn't have.
func (s *Set) outside() map[string]bool {
	apps := map[string]bool{}
	for _, m := range s.Migrations {
		for _, d := range slices.Concat(m.Dependencies, m.RunBefore) {
			if !s.apps[d.App] {
				apps[d.App] = true
			}
		}
	}
	return apps
}

// note takes down the tables of a model and of its many-to-many relations.
func (o origins) note(m *model) {
	table, known := m.table()
	if !known || m.isProxy() {
		return
	}
	o.tables[table] = key(m.app, m.name)
	for name, c := range m.fields {
		f := newField(c)
		if !f.ownTable() {
			continue
		}
		between, given := f.args["db_table"].(string)
		if !given {
			between = table + "_" + name
		}
		o.tables[between] = key(m.app, m.name) + "." + name
	}
}

func (m *model) isProxy() bool {
	proxy, known := m.flag("proxy", false)
	return known && proxy
}

// doubt says why a model's table may not be new.
func (o origins) doubt(m *model, table string) string {
	if was := o.older.get(key(m.app, m.name)); was != nil {
		return "the older code has this model too, so that what became of its table is not known"
	}
	if was, has := o.tables[table]; has {
		return fmt.Sprintf("the older code has the table %s too, of %s", table, was)
	}
	if o.rewritten[m.app] && o.older.isLost(m.app) {
		return "migrations of the app are gone, and which models they made is not known"
	}
	if o.outside[m.app] {
		return "the older code may have this app from outside of its release, so that the table may be older"
	}
	if o.unmigrated[m.app] {
		return "the older code has models in this app without migrations, so that the table may be older"
	}
	return ""
}

// reverse reports whether Django can unapply an operation, and what is lost then or why it can't.
func reverse(o Operation) (reversible bool, what string) {
	switch o.Kind {
	case "":
		return false, "whether it can be reversed is not known"
	case "RunPython":
		return reverseCode(o.args["reverse_code"], noop(o.args["reverse_code"], "RunPython"), "reverse_code")
	case "RunSQL":
		return reverseCode(o.args["reverse_sql"], noSQL(o.args["reverse_sql"]), "reverse_sql")
	case "SeparateDatabaseAndState":
		for _, inner := range o.Database {
			if ok, what := reverse(inner); !ok || what != "" {
				return ok, what
			}
		}
		return true, ""
	}
	return true, rules[o.Kind].lost
}

func reverseCode(v value, isNoop bool, arg string) (bool, string) {
	switch {
	case v == nil:
		return false, "it has no " + arg
	case isNoop:
		return true, "its " + arg + " changes nothing back"
	}
	return true, ""
}
