package migrations

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// place is where a field stands.
type place struct{ app, model, name string }

// alter says what the older code would miss if a column changed from was to is; "" for nothing. An older INSERT, UPDATE
// and SELECT must do on the new column what they did on the old one.
func alter(at place, was, is field) string {
	if was.inexact || is.inexact {
		return "the field's arguments are not all constants"
	}
	if was.class == "" || is.class == "" {
		return alterForeign(was, is)
	}
	if why := alterType(was, is); why != "" {
		return why
	}
	for _, arg := range arguments(was, is) {
		if harmless[arg] || typed[arg] {
			continue
		}
		if why := alterArgument(at, arg, was, is); why != "" {
			return why
		}
	}
	return ""
}

// alterForeign compares fields of classes that aren't Django's: they may make anything of their arguments.
func alterForeign(was, is field) string {
	if was.call != is.call || !known(is.call) {
		return fmt.Sprintf("what a change to the field's class %s does is not known", strings.TrimPrefix(is.call, "?"))
	}
	for _, arg := range arguments(was, is) {
		if !harmlessAnywhere[arg] && !equal(was.args[arg], is.args[arg]) {
			return fmt.Sprintf("what %s's argument %s does to the column is not known", is.call, arg)
		}
	}
	return ""
}

// arguments is what either was given, sorted.
func arguments(was, is field) []string {
	all := maps.Clone(was.args)
	maps.Copy(all, is.args)
	// They have values where they aren't given.
	for _, arg := range []string{"null", "unique", "db_index"} {
		all[arg] = nil
	}
	return slices.Sorted(maps.Keys(all))
}

func alterType(was, is field) string {
	change := fmt.Sprintf("the column's type changes from %s to %s", was.class, is.class)
	switch {
	case was.family == chars && is.family == text:
		return ""
	case was.family != is.family:
		return change
	}
	switch is.family {
	case chars:
		return alterLength(was, is)
	case integer, auto:
		switch {
		case is.rank < was.rank:
			return change + ", which takes smaller numbers only"
		case is.check && !was.check:
			return change + ", which takes no negative numbers"
		}
		return ""
	case decimal:
		return alterDecimal(was, is)
	case text, boolean:
		return ""
	case computed:
		if equal(was.args["expression"], is.args["expression"]) && equal(was.args["output_field"], is.args["output_field"]) {
			return ""
		}
		return "the generated column's expression changes"
	default:
	}
	if was.class != is.class {
		return change
	}
	return ""
}

func alterLength(was, is field) string {
	from, ok := was.maxLength()
	to, ok2 := is.maxLength()
	switch {
	case equal(was.args["max_length"], is.args["max_length"]) && was.class == is.class:
		return ""
	case !ok || !ok2:
		return "max_length is not a constant"
	case to < from:
		return fmt.Sprintf("max_length shrinks to %d: the older code writes longer values", to)
	}
	return ""
}

func alterDecimal(was, is field) string {
	digits, ok := was.number("max_digits", unlimited)
	newDigits, ok2 := is.number("max_digits", unlimited)
	switch {
	case !equal(was.args["decimal_places"], is.args["decimal_places"]):
		return "decimal_places changes"
	case equal(was.args["max_digits"], is.args["max_digits"]):
		return ""
	case !ok || !ok2:
		return "max_digits is not a constant"
	case newDigits < digits:
		return fmt.Sprintf("max_digits shrinks to %d: the older code writes larger numbers", newDigits)
	case newDigits > digits:
		return "the older code can't read numbers of more digits from SQLite"
	}
	return ""
}

// alterArgument judges one argument of classes that Django has.
func alterArgument(at place, arg string, was, is field) string {
	switch arg {
	case "null":
		return alterNull(was, is)
	case "unique":
		return alterUnique(was, is)
	case "db_index":
		return alterIndex(was, is)
	case "db_column":
		return alterColumn(at, was, is)
	case "to":
		return alterTarget(at, was, is)
	}
	from, to := was.args[arg], is.args[arg]
	if equal(from, to) {
		return ""
	}
	switch arg {
	case "on_delete":
		return alterOnDelete(from, to)
	case "db_default":
		if _, had := was.args[arg]; !had {
			return ""
		}
		return "db_default changes, which the older code's INSERT relies on"
	case "db_constraint":
		if kept, known := is.flag(arg, true); known && !kept {
			return ""
		}
		return "the database starts to enforce the relation"
	case "primary_key":
		return "the primary key changes"
	case "through", "db_table":
		return "the relation moves to another table"
	}
	return fmt.Sprintf("%s changes", arg)
}

func alterNull(was, is field) string {
	from, ok := was.isNull()
	to, ok2 := is.isNull()
	switch {
	case !ok || !ok2:
		if equal(was.args["null"], is.args["null"]) {
			return ""
		}
		return "null is not a constant"
	case from && !to:
		return "the column becomes NOT NULL: the older code may write NULL"
	}
	return ""
}

func alterUnique(was, is field) string {
	from, ok := was.isUnique()
	to, ok2 := is.isUnique()
	switch {
	case !ok || !ok2:
		if equal(was.args["unique"], is.args["unique"]) {
			return ""
		}
		return "unique is not a constant"
	case to && !from:
		return "the column becomes unique: the older code may write duplicates"
	case from && !to:
		return noUnique
	}
	return ""
}

// noUnique is why dropping what is unique is not safe: bulk_create(update_conflicts=True, unique_fields=...) becomes
// INSERT ... ON CONFLICT (column), which PostgreSQL and SQLite refuse without a unique index on just these columns.
const noUnique = "it is no longer unique: the older code may rely on that, and an upsert on it " +
	"(bulk_create with update_conflicts) fails"

// alterIndex minds only that PostgreSQL refuses long values in an index.
func alterIndex(was, is field) string {
	from, ok := was.flag("db_index", was.index)
	to, ok2 := is.flag("db_index", is.index)
	if ok && ok2 && (from || !to) {
		return ""
	}
	if equal(was.args["db_index"], is.args["db_index"]) && was.class == is.class {
		return ""
	}
	return is.tooLongToIndex()
}

func alterColumn(at place, was, is field) string {
	from, ok := was.column(at.name)
	to, ok2 := is.column(at.name)
	switch {
	case !ok || !ok2:
		if equal(was.args["db_column"], is.args["db_column"]) {
			return ""
		}
		return "db_column is not a constant"
	case from != to:
		return fmt.Sprintf("the column %s becomes %s, and the older code names it in every statement", from, to)
	}
	return ""
}

func alterTarget(at place, was, is field) string {
	from, ok := was.target(at.app, at.model)
	to, ok2 := is.target(at.app, at.model)
	if ok && ok2 && from == to || equal(was.args["to"], is.args["to"]) {
		return ""
	}
	return "the relation leads to another table"
}

// djangoOnDelete are the on_delete that Django carries out itself. Others may be the database's (DB_CASCADE, 6.1).
var djangoOnDelete = set("CASCADE", "PROTECT", "RESTRICT", "SET_NULL", "SET_DEFAULT", "DO_NOTHING", "SET")

func alterOnDelete(from, to value) string {
	for _, v := range []value{from, to} {
		var name string
		switch v := v.(type) {
		case ref:
			name = string(v)
		case call:
			name = v.Name
		}
		last := name[strings.LastIndexByte(name, '.')+1:]
		if !strings.HasPrefix(name, "django.db.models.") || !djangoOnDelete[last] {
			return "on_delete changes, and may be the database's"
		}
	}
	return ""
}
