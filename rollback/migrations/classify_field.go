package migrations

import (
	"strings"
)

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
	if why := e.relationFails(m, f); why != "" {
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

// isNewColumn reports whether the new migrations added a field's column to an older table.
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

// dropNewColumn forgets it: a column that gets its name later is judged again.
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

// hasColumn reports whether one of the model's fields surely has the column.
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
