package migrations

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// rule is what is known of one of Django's operations.
type rule struct {
	args     []string // in order; those with * by name only
	postgres bool     // it is one of django.contrib.postgres
	// judge says whether older code can live with it, before it is applied.
	judge func(*env, Operation) verdict
	// apply changes the models as it does, and tells whether it understood; nil if it changes nothing that matters.
	apply func(*state, string, Operation) bool
	// lost is what its reverse doesn't bring back.
	lost string
}

// rules is the policy, by operation. The arguments are those of Django's classes from 2.2 to 6.0
// (django/db/migrations/operations/ and django/contrib/postgres/operations.py).
var rules = map[string]rule{
	"CreateModel": {
		args:  []string{"name", "fields", "options", "bases", "managers"},
		judge: judgeCreateModel, apply: applyCreateModel, lost: "the table is dropped with what is in it",
	},
	"DeleteModel": {
		args:  []string{"name"},
		judge: judgeDeleteModel, apply: applyDeleteModel, lost: "the table comes back empty: the data is lost",
	},
	"RenameModel": {
		args:  []string{"old_name", "new_name"},
		judge: judgeRenameModel, apply: applyRenameModel,
	},
	"AlterModelTable": {
		args:  []string{"name", "table"},
		judge: judgeAlterModelTable, apply: applyOption("db_table", "table"),
	},
	"AlterModelTableComment": {
		args:  []string{"name", "table_comment"},
		judge: always("it changes the table's comment only"),
	},
	"AlterModelOptions": {
		args:  []string{"name", "options"},
		judge: always("it changes Django's own state only"), apply: applyOptions,
	},
	"AlterModelManagers": {
		args:  []string{"name", "managers"},
		judge: always("it changes Django's own state only"),
	},
	"AlterUniqueTogether": {
		args:  []string{"name", "unique_together"},
		judge: judgeUniqueTogether, apply: applyOption("unique_together", "unique_together"),
	},
	"AlterIndexTogether": {
		args:  []string{"name", "index_together"},
		judge: judgeIndexTogether, apply: applyOption("index_together", "index_together"),
	},
	"AlterOrderWithRespectTo": {
		args:  []string{"name", "order_with_respect_to"},
		judge: judgeOrder, apply: applyOption("order_with_respect_to", "order_with_respect_to"),
	},
	"AddIndex": {
		args:  []string{"model_name", "index"},
		judge: judgeAddIndex,
	},
	"RemoveIndex": {
		args:  []string{"model_name", "name"},
		judge: always("statements don't need the index"),
	},
	"RenameIndex": {
		args:  []string{"model_name", "new_name", "old_name", "old_fields"},
		judge: always("statements don't name indexes"),
	},
	"AddConstraint": {
		args:  []string{"model_name", "constraint"},
		judge: judgeAddConstraint, apply: applyAddConstraint,
	},
	"RemoveConstraint": {
		args:  []string{"model_name", "name"},
		judge: judgeRemoveConstraint, apply: applyRemoveConstraint,
	},
	"AlterConstraint": {
		args:  []string{"model_name", "name", "constraint"},
		judge: always("it changes Django's own state only"), apply: applyAddConstraint,
	},
	"AddField": {
		args:  []string{"model_name", "name", "field", "preserve_default"},
		judge: judgeAddField, apply: applyField, lost: "the column is dropped with what is in it",
	},
	"RemoveField": {
		args:  []string{"model_name", "name"},
		judge: judgeRemoveField, apply: applyRemoveField, lost: "the column comes back without its values: the data is lost",
	},
	"AlterField": {
		args:  []string{"model_name", "name", "field", "preserve_default"},
		judge: judgeAlterField, apply: applyField,
	},
	"RenameField": {
		args:  []string{"model_name", "old_name", "new_name"},
		judge: judgeRenameField, apply: applyRenameField,
	},
	"RunPython": {
		args:  []string{"code", "reverse_code", "atomic", "hints", "elidable"},
		judge: judgeRunPython,
	},
	"RunSQL": {
		args:  []string{"sql", "reverse_sql", "state_operations", "hints", "elidable"},
		judge: judgeRunSQL,
	},
	// judged by its database_operations
	"SeparateDatabaseAndState": {
		args: []string{"database_operations", "state_operations"},
	},

	"AddIndexConcurrently":    {postgres: true, args: []string{"model_name", "index"}, judge: judgeAddIndex},
	"RemoveIndexConcurrently": {postgres: true, args: []string{"model_name", "name"}, judge: always("statements don't need the index")},
	"AddConstraintNotValid": {
		postgres: true, args: []string{"model_name", "constraint"}, judge: judgeAddConstraint, apply: applyAddConstraint,
	},
	// What it validates was judged when it was added, or binds the older code already: new rows are always checked.
	"ValidateConstraint": {postgres: true, args: []string{"model_name", "name"}, judge: always("the constraint binds new rows already")},
	"CreateCollation": {
		postgres: true, args: []string{"name", "locale", "*provider", "*deterministic"}, judge: always("the older code doesn't know it"),
	},
	"RemoveCollation": {
		postgres: true, args: []string{"name", "locale", "*provider", "*deterministic"},
		judge: never("the older code may name the collation"),
	},
	"CreateExtension":    {postgres: true, args: []string{"name", "*hints"}, judge: always(extension)},
	"BloomExtension":     {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"BtreeGinExtension":  {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"BtreeGistExtension": {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"CITextExtension":    {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"CryptoExtension":    {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"HStoreExtension":    {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"TrigramExtension":   {postgres: true, args: []string{"*hints"}, judge: always(extension)},
	"UnaccentExtension":  {postgres: true, args: []string{"*hints"}, judge: always(extension)},
}

const extension = "an extension only adds to the database"

func (r rule) modules() []string {
	if r.postgres {
		return postgresModules
	}
	return coreModules
}

// verdict is one operation's.
type verdict struct {
	safe bool
	why  string
}

func safe(why string) verdict { return verdict{true, why} }

func blocked(format string, args ...any) verdict { return verdict{false, fmt.Sprintf(format, args...)} }

func always(why string) func(*env, Operation) verdict {
	return func(*env, Operation) verdict { return safe(why) }
}

func never(why string) func(*env, Operation) verdict {
	return func(*env, Operation) verdict { return verdict{false, why} }
}

// env is what an operation is judged by.
type env struct {
	*state             // the models before it, as Django has them
	app      string    // the migration's
	older    *state    // the models that the older code has
	origins  origins   // whether a CreateModel makes a table that is new
	database *database // what the new migrations made
}

// database is what the older code doesn't know of, since the new migrations made it: nothing of it can fail for the
// older code but what reaches into a table that it does know.
type database struct {
	tables  map[string]bool
	columns map[[2]string]bool // table and column
}

// Words that several rules share.
const (
	newTable    = "the table is new"
	newColumn   = "the column is new"
	noTable     = "Django doesn't change the model's table"
	unclear     = "its arguments are not all constants"
	notKnown    = "what it was before is not known"
	nullsOnly   = "the older code's INSERT leaves it NULL"
	byDefault   = "the database fills it in (db_default)"
	sameColumn  = "the column stays as it is"
	sameTable   = "the table stays as it is"
	indexOnly   = "it adds an index only"
	stateOnly   = "it changes Django's own state only"
	wider       = "the column still takes what the older code writes"
	noopRun     = "it does nothing"
	uniquePairs = "unique_together"
)

// judge gives the verdict on one operation, before it is applied.
func (e *env) judge(o Operation) verdict {
	r, is := rules[o.Kind]
	switch {
	case !is:
		return blocked("it is not one of Django's own operations, so what it does is not known")
	case o.Kind == "SeparateDatabaseAndState":
		return e.judgeSeparate(o)
	case o.inexact:
		return verdict{false, unclear}
	}
	return r.judge(e, o)
}

// judgeSeparate judges what reaches the database, each operation on the state that the one before it left; none of
// that stays in Django's state.
func (e *env) judgeSeparate(o Operation) verdict {
	if o.inexact {
		return verdict{false, unclear}
	}
	inner := *e
	inner.state = e.child()
	all := safe(stateOnly)
	for _, op := range o.Database {
		v := inner.judge(op)
		if !v.safe && all.safe {
			all = blocked("%s: %s", op, v.why)
		} else if all.safe {
			all = v
		}
		inner.apply(e.app, op)
	}
	return all
}

// isNew tells whether a model's table was made by the new migrations.
func (e *env) isNew(m *model) bool {
	if m == nil || !m.hasTable() {
		return false
	}
	table, known := m.table()
	return known && e.database.tables[table]
}

// untouched tells whether Django surely leaves the database alone for a model.
func (e *env) untouched(m *model) bool {
	return m != nil && !m.hasTable() && !e.isLost(m.app)
}

// subjectModel is the model that an operation is about, nil if it is not known.
func (e *env) subjectModel(o Operation) *model {
	for _, arg := range []string{"model_name", "old_name", "name"} {
		if name, is := o.text(arg); is {
			return e.get(key(e.app, name))
		}
	}
	return nil
}

// pass is the verdict for models on which nothing can fail.
func (e *env) pass(m *model) (verdict, bool) {
	switch {
	case e.isNew(m):
		return safe(newTable), true
	case e.untouched(m):
		return safe(noTable), true
	}
	return verdict{}, false
}

// sure gives the model as it is and as the older code has it, if both are certain. They differ where a migration was
// edited, or its file is gone: what an operation starts from is then not known.
func (e *env) sure(o Operation) (now, then *model) {
	now = e.subjectModel(o)
	if now == nil || e.isLost(e.app) || e.older.isLost(e.app) {
		return nil, nil
	}
	then = e.older.get(key(now.app, now.name))
	if then == nil {
		return nil, nil
	}
	return now, then
}

// --- models

func judgeCreateModel(e *env, o Operation) verdict {
	name, named := o.text("name")
	fields, listed := fieldList(o.args["fields"])
	if !named || !listed {
		return verdict{false, unclear}
	}
	after := e.child()
	applyCreateModel(after, e.app, o)
	m := after.get(key(e.app, name))
	if m.vague {
		return verdict{false, unclear}
	}
	if !m.hasTable() {
		return safe("it makes no table")
	}
	table, known := m.table()
	if !known {
		return verdict{false, unclear}
	}
	if why := e.origins.doubt(m, table); why != "" {
		return verdict{false, why}
	}
	e.database.tables[table] = true
	inner := *e
	inner.state = after
	if why := inner.basesFail(m); why != "" {
		return verdict{false, why}
	}
	for _, f := range slices.Sorted(maps.Keys(fields)) {
		if why := inner.relationFails(m, f, newField(fields[f])); why != "" {
			return blocked("its field %s: %s", f, why)
		}
	}
	return safe(newTable)
}

// basesFail says why a new model's bases may bring a foreign key to an older table: a model's child has one to it, and
// a class that isn't known may bring fields.
func (e *env) basesFail(m *model) string {
	for _, b := range m.bases {
		switch b := b.(type) {
		case ref:
			if b == "django.db.models.Model" || b == "django.db.models.base.Model" || b == "django.contrib.gis.db.models.Model" {
				continue
			}
			return fmt.Sprintf("its base %s may bring fields that are not known", b)
		case string:
			label, name, _ := strings.Cut(b, ".")
			if base := e.get(key(label, name)); !e.isNew(base) {
				return cannotDelete(b)
			}
		default:
			return "its bases are not constants"
		}
	}
	return ""
}

func cannotDelete(model string) string {
	return fmt.Sprintf("the older code doesn't know its foreign key to %s, and fails to DELETE what it refers to", model)
}

// relationFails says why a field of a table that may be new makes the older code's DELETE fail: by a foreign key to a
// table that the older code has.
func (e *env) relationFails(m *model, name string, f field) string {
	switch {
	case f.inexact:
		return "the field's arguments are not all constants"
	case plainColumns[f.call]:
		return ""
	case f.class == "":
		return fmt.Sprintf("whether its class %s brings a foreign key is not known", strings.TrimPrefix(f.call, "?"))
	case f.family != key1 && f.family != keyN:
		return ""
	}
	if enforced, known := f.flag("db_constraint", true); known && !enforced {
		return ""
	}
	if f.family == keyN && !f.ownTable() {
		return ""
	}
	if f.family == keyN && !e.isNew(m) {
		return cannotDelete(m.app + "." + m.name)
	}
	target, known := f.target(m.app, m.name)
	if known && e.isNew(e.get(target)) {
		return ""
	}
	if !known {
		target = fmt.Sprintf("%v", f.args["to"])
	}
	return cannotDelete(target)
}

func judgeDeleteModel(e *env, o Operation) verdict {
	if v, passes := e.pass(e.subjectModel(o)); passes {
		return v
	}
	return verdict{false, "the older code's table is gone"}
}

func judgeRenameModel(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	to, named := o.text("new_name")
	if e.isNew(m) && named {
		if _, given := m.options["db_table"]; !given {
			e.database.move(defaultTable(m.app, m.name), defaultTable(m.app, to))
		}
		return safe(newTable)
	}
	if e.untouched(m) {
		return safe(noTable)
	}
	m, then := e.sure(o)
	if m == nil {
		return verdict{false, notKnown}
	}
	table, known := m.table()
	_, given := m.options["db_table"].(string)
	if was, ok := then.table(); !known || !given || !ok || was != table {
		return verdict{false, "the older code's table gets another name"}
	}
	if why := e.renameReaches(m); why != "" {
		return verdict{false, why}
	}
	return safe(sameTable)
}

// renameReaches says what else of the database bears a model's name. Django before 4.1 renamed the columns of
// many-to-many tables even if the model's table kept its name.
func (e *env) renameReaches(m *model) (why string) {
	self := key(m.app, m.name)
	e.all(func(other *model) {
		for name, c := range other.fields {
			f := newField(c)
			target, known := f.target(other.app, other.name)
			of := key(other.app, other.name)
			switch {
			case f.ownTable() && (of == self || target == self || !known):
				why = fmt.Sprintf("the table of %s.%s has a column of the model's name", of, name)
			case target == "contenttypes.contenttype" && other.app != "auth" && other.app != "admin":
				why = fmt.Sprintf("its content type is renamed too, by which %s refers to it", of)
			}
		}
	})
	return why
}

func judgeAlterModelTable(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	if e.untouched(m) {
		return safe(noTable)
	}
	changed, named := o.args["table"].(string)
	if !named && o.args["table"] != nil {
		return verdict{false, unclear}
	}
	if changed == "" && m != nil {
		changed = defaultTable(m.app, m.name)
	}
	if e.isNew(m) {
		table, _ := m.table()
		e.database.move(table, changed)
		return safe(newTable)
	}
	m, then := e.sure(o)
	if m == nil {
		return verdict{false, notKnown}
	}
	now, ok := m.table()
	was, ok2 := then.table()
	if ok && ok2 && now == changed && was == changed {
		return safe(sameTable)
	}
	return verdict{false, "the older code's table gets another name"}
}

// move renames a table that the new migrations made.
func (d *database) move(from, to string) {
	delete(d.tables, from)
	d.tables[to] = true
}

func judgeOrder(e *env, o Operation) verdict {
	if v, passes := e.pass(e.subjectModel(o)); passes {
		return v
	}
	m, then := e.sure(o)
	if m == nil {
		return verdict{false, notKnown}
	}
	// Whatever it is by, it is one column.
	_, now := o.args["order_with_respect_to"].(string)
	if !now && o.args["order_with_respect_to"] != nil {
		return verdict{false, unclear}
	}
	for _, was := range []*model{m, then} {
		switch ordered := was.options["order_with_respect_to"] != nil; {
		case was.vague:
			return verdict{false, notKnown}
		case now && !ordered:
			return verdict{false, "it adds the column _order, NOT NULL without a default: the older code's INSERT fails"}
		case !now && ordered:
			return verdict{false, "the older code selects the column _order"}
		}
	}
	return safe(sameColumn)
}

// --- constraints and indexes

func judgeUniqueTogether(e *env, o Operation) verdict {
	if v, passes := e.pass(e.subjectModel(o)); passes {
		return v
	}
	m, then := e.sure(o)
	if m == nil {
		return verdict{false, notKnown}
	}
	now, ok := together(o.args[uniquePairs])
	for _, was := range []*model{m, then} {
		before, ok2 := together(was.options[uniquePairs])
		switch {
		case !ok || !ok2 || was.vague:
			return verdict{false, notKnown}
		case !includes(before, now):
			return verdict{false, "more must be unique together: the older code may write duplicates"}
		case !includes(now, before):
			return verdict{false, noUnique}
		}
	}
	return safe("nothing changes")
}

// together is unique_together or index_together as sets of columns, whose order doesn't matter: a list of lists, or one
// list of names (normalize_together).
func together(v value) (map[string]bool, bool) {
	sets := map[string]bool{}
	if c, is := v.(call); is && c.Name == "builtins.set" {
		if len(c.Args) == 0 {
			return sets, true
		}
		v = c.Args[0]
	}
	if v == nil {
		return sets, true
	}
	if d, is := v.(dict); is && len(d) == 0 {
		return sets, true
	}
	outer, is := v.([]value)
	if !is {
		return nil, false
	}
	if names, all := texts(outer); all && len(names) > 0 {
		sets[strings.Join(names, ",")] = true
		return sets, true
	}
	for _, one := range outer {
		l, is := one.([]value)
		names, all := texts(l)
		if !is || !all {
			return nil, false
		}
		sets[strings.Join(names, ",")] = true
	}
	return sets, true
}

// texts is a list of constant strings, sorted.
func texts(l []value) ([]string, bool) {
	var found []string
	for _, v := range l {
		s, is := v.(string)
		if !is {
			return nil, false
		}
		found = append(found, s)
	}
	slices.Sort(found)
	return found, true
}

func includes(all, some map[string]bool) bool {
	for k := range some {
		if !all[k] {
			return false
		}
	}
	return true
}

func judgeIndexTogether(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	if v, passes := e.pass(m); passes {
		return v
	}
	sets, ok := together(o.args["index_together"])
	if !ok {
		return verdict{false, unclear}
	}
	for s := range sets {
		if why := e.indexFails(m, strings.Split(s, ",")); why != "" {
			return verdict{false, why}
		}
	}
	return safe(indexOnly)
}

// indexClasses are Django's. Only B-trees refuse long values.
var indexClasses = map[string]bool{
	"django.db.models.Index": true, "django.db.models.indexes.Index": true,
	"django.contrib.postgres.indexes.BTreeIndex":  true,
	"django.contrib.postgres.indexes.BloomIndex":  false,
	"django.contrib.postgres.indexes.BrinIndex":   false,
	"django.contrib.postgres.indexes.GinIndex":    false,
	"django.contrib.postgres.indexes.GistIndex":   false,
	"django.contrib.postgres.indexes.HashIndex":   false,
	"django.contrib.postgres.indexes.SpGistIndex": false,
}

func judgeAddIndex(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	if v, passes := e.pass(m); passes {
		return v
	}
	index, is := o.args["index"].(call)
	btree, isDjangos := indexClasses[index.Name]
	switch {
	case !is || index.Open:
		return verdict{false, unclear}
	case !isDjangos:
		return blocked("what an index of the class %s does is not known", strings.TrimPrefix(index.Name, "?"))
	}
	for _, x := range index.Args {
		if !total(x) {
			return verdict{false, "the index computes something that may fail for what the older code writes"}
		}
	}
	if !btree {
		return safe(indexOnly)
	}
	names, constant := texts(list(index.Kw["fields"]))
	if fields, given := index.Kw["fields"]; given && (!constant || list(fields) == nil) {
		return verdict{false, unclear}
	}
	for _, x := range index.Args {
		names = append(names, sources(x)...)
	}
	if why := e.indexFails(m, names); why != "" {
		return verdict{false, why}
	}
	return safe(indexOnly)
}

// indexFails says why an index on some fields refuses what the older code writes. Those of columns that aren't known are
// taken for short: nobody indexes long texts with a B-tree.
func (e *env) indexFails(m *model, names []string) string {
	if m == nil {
		return ""
	}
	table, _ := m.table()
	for _, name := range names {
		c, has := m.fields[strings.TrimPrefix(name, "-")]
		if !has || e.database.columns[[2]string{table, name}] {
			continue
		}
		if why := newField(c).tooLongToIndex(); why != "" {
			return why
		}
	}
	return ""
}

// total tells whether an expression has a value for any row: arithmetic overflows, a cast fails, and a function that
// isn't known may do either.
func total(v value) bool {
	switch v := v.(type) {
	case string, nil, bool:
		return true
	case call:
		name, is := strings.CutPrefix(v.Name, "django.db.models.")
		if !is || v.Open {
			return false
		}
		switch name[strings.LastIndexByte(name, '.')+1:] {
		case "F", "Value":
			return true
		case "Lower", "Upper", "Concat", "Coalesce", "Trim", "LTrim", "RTrim", "OrderBy":
			return !slices.ContainsFunc(v.Args, func(a value) bool { return !total(a) })
		}
	}
	return false
}

// sources are the fields that an expression reads.
func sources(v value) []string {
	switch v := v.(type) {
	case string:
		return []string{strings.TrimPrefix(v, "-")}
	case call:
		var found []string
		if !strings.HasSuffix(v.Name, ".Value") {
			for _, a := range v.Args {
				found = append(found, sources(a)...)
			}
		}
		return found
	}
	return nil
}

func judgeAddConstraint(e *env, o Operation) verdict {
	if v, passes := e.pass(e.subjectModel(o)); passes {
		return v
	}
	return verdict{false, "the older code may write rows that the constraint refuses"}
}

func judgeRemoveConstraint(e *env, o Operation) verdict {
	if v, passes := e.pass(e.subjectModel(o)); passes {
		return v
	}
	name, _ := o.text("name")
	m, then := e.sure(o)
	if m == nil {
		return verdict{false, "whether it is a unique constraint, which an upsert of the older code may need, is not known"}
	}
	for _, was := range []*model{m, then} {
		class := was.constraints[name]
		switch {
		case class == "django.db.models.UniqueConstraint" || class == "django.db.models.constraints.UniqueConstraint":
			return verdict{false, noUnique}
		case !strings.HasSuffix(class, ".CheckConstraint") && !strings.HasSuffix(class, ".ExclusionConstraint"),
			!strings.HasPrefix(class, "django."):
			return verdict{false, "whether it is a unique constraint, which an upsert of the older code may need, is not known"}
		}
	}
	return safe("less is refused")
}

// --- fields

// fieldOf is the field that an operation gives.
func fieldOf(o Operation) (name string, f field, ok bool) {
	name, named := o.text("name")
	c, made := o.args["field"].(call)
	if !named || !made {
		return "", field{}, false
	}
	return name, newField(c), true
}

func judgeAddField(e *env, o Operation) verdict {
	name, f, ok := fieldOf(o)
	if !ok {
		return verdict{false, unclear}
	}
	m := e.subjectModel(o)
	if e.untouched(m) {
		return safe(noTable)
	}
	if m == nil { // of an app that isn't understood: an older table
		text, _ := o.text("model_name")
		m = &model{app: e.app, name: text, vague: true}
	}
	if then := e.older.get(key(m.app, m.name)); then != nil && !e.isNew(m) {
		column, known := f.column(name)
		if _, has := then.fields[name]; has || known && then.hasColumn(column) {
			return verdict{false, "the older code has this column too, so that what became of it is not known"}
		}
	}
	return e.judgeColumn(m, name, f)
}

// judgeColumn judges a column that the older code doesn't know: its INSERT must do without it.
func (e *env) judgeColumn(m *model, name string, f field) verdict {
	if f.family == keyN && !f.inexact && !f.ownTable() {
		return safe("it has no table of its own")
	}
	if !e.isNew(m) && f.class == "" && !plainColumns[f.call] {
		return blocked("what its class %s does to the table is not known", strings.TrimPrefix(f.call, "?"))
	}
	if why := e.relationFails(m, name, f); why != "" {
		return verdict{false, why}
	}
	if e.isNew(m) {
		return safe(newTable)
	}
	v := e.judgeNewColumn(m, f)
	table, known := m.table()
	if column, ok := f.column(name); v.safe && known && ok {
		e.database.columns[[2]string{table, column}] = true
	}
	return v
}

func (e *env) judgeNewColumn(m *model, f field) verdict {
	if f.family == keyN {
		return safe("its table refers to the older one without a constraint")
	}
	if !surely(false)(f.flag("primary_key", false)) {
		return verdict{false, "the primary key changes"}
	}
	nullable := surely(true)(f.isNull())
	unique := !surely(false)(f.isUnique())
	filled, hasDefault := f.args["db_default"]
	switch {
	case f.family == computed && unique:
		return verdict{false, "the older code may write rows for which the generated column is not unique"}
	case f.family == computed:
		return e.judgeGenerated(m, f)
	case hasDefault && filled != nil && unique:
		return verdict{false, "it is unique, and the older code's rows all get the same db_default"}
	case hasDefault && filled != nil:
		return safe(byDefault)
	case nullable:
		// Unique or not: PostgreSQL and SQLite take any number of NULLs for different ones.
		return safe(nullsOnly)
	case !surely(false)(f.isNull()):
		return verdict{false, "null is not a constant"}
	}
	return verdict{false, "the column is NOT NULL without a default in the database (Django drops default=): the older code's INSERT fails"}
}

// judgeGenerated lets pass what has a value for every row that the older code may write.
func (e *env) judgeGenerated(m *model, f field) verdict {
	output, _ := f.args["output_field"].(call)
	if !total(f.args["expression"]) || newField(output).family != text {
		return verdict{false, "the generated column may fail to be computed from what the older code writes"}
	}
	if surely(true)(f.isNull()) {
		return safe("it is computed from any row")
	}
	for _, source := range sources(f.args["expression"]) {
		c, has := m.fields[source]
		if !has || e.isLost(m.app) || !surely(false)(newField(c).isNull()) {
			return blocked("the generated column is NOT NULL, and %s may be NULL", source)
		}
	}
	return safe("it is computed from any row")
}

// isNewColumn tells whether the new migrations added a field's column to an older table.
func (e *env) isNewColumn(m *model, name string) bool {
	if m == nil || e.isLost(m.app) {
		return false
	}
	c, has := m.fields[name]
	table, known := m.table()
	column, ok := newField(c).column(name)
	return has && known && ok && e.database.columns[[2]string{table, column}]
}

func judgeRemoveField(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	name, named := o.text("name")
	if v, passes := e.pass(m); passes {
		return v
	}
	if !named {
		return verdict{false, unclear}
	}
	if e.isNewColumn(m, name) {
		return e.dropNewColumn(m, name)
	}
	if now, then := e.sure(o); now != nil {
		f, was := newField(now.fields[name]), newField(then.fields[name])
		if f.family == keyN && was.family == keyN && !f.ownTable() && !was.ownTable() && !f.inexact && !was.inexact {
			return safe("it has no table of its own")
		}
		if was.family == keyN {
			return verdict{false, "the older code's table of the relation is gone"}
		}
	}
	return verdict{false, "the older code selects the column"}
}

// dropNewColumn forgets it: a column that gets its name later is judged anew.
func (e *env) dropNewColumn(m *model, name string) verdict {
	table, _ := m.table()
	column, _ := newField(m.fields[name]).column(name)
	delete(e.database.columns, [2]string{table, column})
	return safe(newColumn)
}

func judgeAlterField(e *env, o Operation) verdict {
	name, f, ok := fieldOf(o)
	if !ok {
		return verdict{false, unclear}
	}
	m := e.subjectModel(o)
	switch {
	case e.untouched(m):
		return safe(noTable)
	case e.isNew(m), e.isNewColumn(m, name):
		return e.judgeColumn(m, name, f)
	}
	now, then := e.sure(o)
	if now == nil {
		return verdict{false, notKnown}
	}
	at := place{now.app, now.name, name}
	for _, was := range []*model{now, then} {
		c, has := was.fields[name]
		if !has {
			return verdict{false, notKnown}
		}
		if why := alter(at, newField(c), f); why != "" {
			return verdict{false, why}
		}
	}
	return safe(wider)
}

func judgeRenameField(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	from, ok := o.text("old_name")
	to, ok2 := o.text("new_name")
	if !ok || !ok2 {
		return verdict{false, unclear}
	}
	if v, passes := e.pass(m); passes {
		return v
	}
	if e.isNewColumn(m, from) {
		return e.renameNewColumn(m, from, to)
	}
	if m == nil || e.isLost(e.app) || e.older.isLost(e.app) {
		return verdict{false, notKnown}
	}
	return e.renameOlder(m, from, to)
}

func (e *env) renameNewColumn(m *model, from, to string) verdict {
	f := newField(m.fields[from])
	table, _ := m.table()
	was, _ := f.column(from)
	is, _ := f.column(to)
	delete(e.database.columns, [2]string{table, was})
	e.database.columns[[2]string{table, is}] = true
	return safe(newColumn)
}

// renameOlder lets pass what keeps its column, or has none.
func (e *env) renameOlder(m *model, from, to string) verdict {
	c, has := m.fields[from]
	f := newField(c)
	switch {
	case !has || f.inexact || f.class == "":
		return verdict{false, notKnown}
	case f.family == keyN && !f.ownTable():
		return safe("it has no table of its own")
	case f.family == keyN:
		if table, is := f.args["db_table"].(string); is && table != "" {
			return safe(sameTable)
		}
		return verdict{false, "the table of the relation gets another name"}
	}
	was, ok := f.column(from)
	is, ok2 := f.column(to)
	then := e.older.get(key(m.app, m.name))
	if ok && ok2 && was == is && then.hasColumn(is) {
		return safe(sameColumn)
	}
	return blocked("the column %s becomes %s, and the older code names it in every statement", was, is)
}

// hasColumn tells whether one of the model's fields surely has the column.
func (m *model) hasColumn(column string) bool {
	if m == nil {
		return false
	}
	for name, c := range m.fields {
		if has, known := newField(c).column(name); known && has == column {
			return true
		}
	}
	return false
}

// --- code

// noop tells whether a value is one of Django's that do nothing.
func noop(v value, of string) bool {
	r, is := v.(ref)
	if !is {
		return false
	}
	for _, m := range coreModules {
		if string(r) == m+of+".noop" {
			return true
		}
	}
	return false
}

func judgeRunPython(_ *env, o Operation) verdict {
	if noop(o.args["code"], "RunPython") {
		return safe(noopRun)
	}
	return verdict{false, "what its code does is not known"}
}

func judgeRunSQL(_ *env, o Operation) verdict {
	if noSQL(o.args["sql"]) {
		return safe(noopRun)
	}
	return verdict{false, "what its SQL does is not known"}
}

func noSQL(v value) bool {
	if l, is := v.([]value); is {
		return len(l) == 0
	}
	return v == "" || noop(v, "RunSQL")
}
