package migrations

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
		if why := inner.relationFails(m, newField(fields[f])); why != "" {
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
func (e *env) relationFails(m *model, f field) string {
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

// renameReaches says what else of the database bears a model's name. Django renames the columns of many-to-many tables
// even where the model's table keeps its name: seen with 3.2 and 4.2.
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
