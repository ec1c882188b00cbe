package migrations

import (
	"slices"
	"strings"
)

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

// limit is what an index demands of the values that it is made of.
type limit int

const (
	none  limit = iota // it takes any: hashes and signatures of them
	entry              // they have to fit into an entry, all together
	items              // their parts have to
)

// indexClasses are Django's (PostgreSQL: "Index Types", and the limits that its access methods report).
var indexClasses = map[string]limit{
	"django.db.models.Index": entry, "django.db.models.indexes.Index": entry,
	"django.contrib.postgres.indexes.BTreeIndex":  entry,
	"django.contrib.postgres.indexes.BrinIndex":   entry,
	"django.contrib.postgres.indexes.BloomIndex":  none,
	"django.contrib.postgres.indexes.GinIndex":    items,
	"django.contrib.postgres.indexes.GistIndex":   none,
	"django.contrib.postgres.indexes.HashIndex":   none,
	"django.contrib.postgres.indexes.SpGistIndex": none,
}

func judgeAddIndex(e *env, o Operation) verdict {
	m := e.subjectModel(o)
	if v, passes := e.pass(m); passes {
		return v
	}
	index, is := o.args["index"].(call)
	demands, isDjangos := indexClasses[index.Name]
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
	names, ok := indexed(index)
	if !ok {
		return verdict{false, unclear}
	}
	why := ""
	switch demands {
	case entry:
		why = e.indexFails(m, names)
	case items:
		why = e.itemsFail(m, index, names)
	case none:
	}
	if why != "" {
		return verdict{false, why}
	}
	return safe(indexOnly)
}

// indexed lists the fields that an index reads, those that it only includes as well.
func indexed(index call) (names []string, ok bool) {
	for _, arg := range []string{"fields", "include"} {
		given, has := index.Kw[arg]
		if !has || given == nil {
			continue
		}
		more, constant := texts(list(given))
		if !constant || list(given) == nil {
			return nil, false
		}
		names = append(names, more...)
	}
	for _, x := range index.Args {
		names = append(names, sources(x)...)
	}
	return names, true
}

// indexFails says why an index on some fields refuses what the older code writes: all of them have to fit into one entry.
// Those of columns that aren't known are taken for short: nobody indexes long texts with a B-tree.
func (e *env) indexFails(m *model, names []string) string {
	bytes := 0
	for _, f := range e.olderFields(m, names) {
		n, bounded := f.entry()
		if bytes += n; !bounded || bytes > maxEntry {
			return entryTooLong
		}
	}
	return ""
}

// itemsFail says the same of a GIN index, which makes an entry of each part of a value: of a JSON's hash, of a text's
// trigram, but of an array's whole text.
func (e *env) itemsFail(m *model, index call, names []string) string {
	classes, constant := texts(list(index.Kw["opclasses"]))
	trigrams := constant && len(classes) > 0 && !slices.ContainsFunc(classes, func(c string) bool { return c != "gin_trgm_ops" })
	for _, f := range e.olderFields(m, names) {
		switch f.class[strings.LastIndexByte(f.class, '.')+1:] {
		case "JSONField", "SearchVectorField":
		default:
			if !trigrams {
				return entryTooLong
			}
		}
	}
	return ""
}

// olderFields are those of the named fields that the older code writes.
func (e *env) olderFields(m *model, names []string) (found []field) {
	if m == nil {
		return nil
	}
	table, _ := m.table()
	for _, name := range names {
		name = strings.TrimPrefix(name, "-")
		if c, has := m.fields[name]; has && !e.database.columns[[2]string{table, name}] {
			found = append(found, newField(c))
		}
	}
	return found
}

// total reports whether an expression has a value for any row: arithmetic overflows, a cast fails, and a function that
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
