package migrations

import (
	"fmt"
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

// judge returns the verdict on one operation, before it is applied.
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

// isNew reports whether a model's table was made by the new migrations.
func (e *env) isNew(m *model) bool {
	if m == nil || !m.hasTable() {
		return false
	}
	table, known := m.table()
	return known && e.database.tables[table]
}

// untouched reports whether Django surely leaves the database alone for a model.
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

// sure returns the model as it is and as the older code has it, if both are certain. They differ where a migration was
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
