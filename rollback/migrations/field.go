package migrations

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// family is the kind of column that a field makes. Within one, and from one to a wider one, a column can change without
// an older statement failing.
type family string

const (
	other    family = ""         // a type of its own: one class, one type
	chars    family = "chars"    // varchar(max_length)
	text     family = "text"     // text
	integer  family = "integer"  // smallint, integer, bigint; rank says which
	auto     family = "auto"     // the same with a sequence
	boolean  family = "boolean"  //
	decimal  family = "decimal"  // numeric(max_digits, decimal_places)
	key1     family = "fk"       // a column and a foreign key
	keyN     family = "m2m"      // a table of its own
	computed family = "computed" // a generated column
)

// fieldClass is what a class of Django's own makes in the database (its get_internal_type and the data_types of
// django/db/backends/{postgresql,sqlite3}/base.py).
type fieldClass struct {
	family family
	rank   int  // the size of an integer
	check  bool // PostgreSQL and SQLite check that it is not negative
	length int  // max_length if it isn't given
	index  bool // db_index if it isn't given
	unique bool // unique if it isn't given
	null   bool // null if it isn't given
}

const unlimited = math.MaxInt

var fieldClasses = map[string]fieldClass{
	"CharField":                  {family: chars, length: unlimited},
	"CommaSeparatedIntegerField": {family: chars, length: unlimited},
	"SlugField":                  {family: chars, length: 50, index: true},
	"EmailField":                 {family: chars, length: 254},
	"URLField":                   {family: chars, length: 200},
	"FileField":                  {family: chars, length: 100},
	"ImageField":                 {family: chars, length: 100},
	"FilePathField":              {family: chars, length: 100},
	"TextField":                  {family: text},
	"SmallIntegerField":          {family: integer, rank: 1},
	"IntegerField":               {family: integer, rank: 2},
	"BigIntegerField":            {family: integer, rank: 3},
	"PositiveSmallIntegerField":  {family: integer, rank: 1, check: true},
	"PositiveIntegerField":       {family: integer, rank: 2, check: true},
	"PositiveBigIntegerField":    {family: integer, rank: 3, check: true},
	"SmallAutoField":             {family: auto, rank: 1},
	"AutoField":                  {family: auto, rank: 2},
	"BigAutoField":               {family: auto, rank: 3},
	"BooleanField":               {family: boolean},
	"NullBooleanField":           {family: boolean, null: true},
	"DecimalField":               {family: decimal},
	"ForeignKey":                 {family: key1, index: true},
	"OneToOneField":              {family: key1, index: true, unique: true},
	"ManyToManyField":            {family: keyN},
	"GeneratedField":             {family: computed},

	"BinaryField": {}, "DateField": {}, "DateTimeField": {}, "DurationField": {}, "FloatField": {},
	"GenericIPAddressField": {}, "IPAddressField": {}, "JSONField": {}, "TimeField": {}, "UUIDField": {},

	// django.contrib.postgres.fields and .search. The CI fields are of the type citext.
	"ArrayField": {}, "HStoreField": {}, "CICharField": {}, "CIEmailField": {}, "CITextField": {},
	"BigIntegerRangeField": {}, "DateRangeField": {}, "DateTimeRangeField": {}, "DecimalRangeField": {},
	"FloatRangeField": {}, "IntegerRangeField": {}, "SearchVectorField": {},

	// django.contrib.gis.db.models.
	"GeometryField": {}, "PointField": {}, "LineStringField": {}, "PolygonField": {}, "MultiPointField": {},
	"MultiLineStringField": {}, "MultiPolygonField": {}, "GeometryCollectionField": {}, "RasterField": {},
}

// fieldModules are where Django keeps its classes: as one writes them, and as makemigrations does.
var fieldModules = []string{
	"django.db.models.", "django.db.models.fields.", "django.db.models.fields.related.", "django.db.models.fields.files.",
	"django.db.models.fields.json.", "django.db.models.fields.generated.",
	"django.contrib.postgres.fields.", "django.contrib.postgres.fields.array.", "django.contrib.postgres.fields.citext.",
	"django.contrib.postgres.fields.hstore.", "django.contrib.postgres.fields.jsonb.",
	"django.contrib.postgres.fields.ranges.", "django.contrib.postgres.search.",
	"django.contrib.gis.db.models.", "django.contrib.gis.db.models.fields.",
}

// plainColumns are classes of well-known packages that make one column, without a relation or a constraint. A class
// that isn't known may do anything, a foreign key included.
var plainColumns = map[string]bool{
	"django_countries.fields.CountryField":                  true,
	"phonenumber_field.modelfields.PhoneNumberField":        true,
	"timezone_field.fields.TimeZoneField":                   true,
	"wagtail.fields.RichTextField":                          true,
	"wagtail.fields.StreamField":                            true,
	"wagtail.core.fields.RichTextField":                     true,
	"wagtail.core.fields.StreamField":                       true,
	"django_extensions.db.fields.CreationDateTimeField":     true,
	"django_extensions.db.fields.ModificationDateTimeField": true,
	"model_utils.fields.AutoCreatedField":                   true,
	"model_utils.fields.AutoLastModifiedField":              true,
	"model_utils.fields.StatusField":                        true,
	"ckeditor.fields.RichTextField":                         true,
	"ckeditor_uploader.fields.RichTextUploadingField":       true,
	"colorfield.fields.ColorField":                          true,
}

// field is a call of a field's class with its arguments by name.
type field struct {
	class   string // one of fieldClasses, or ""
	call    string
	args    map[string]value
	inexact bool
	fieldClass
}

var relationArgs = map[string][]string{
	"ForeignKey": {
		"to", "on_delete", "related_name", "related_query_name", "limit_choices_to", "parent_link", "to_field", "db_constraint",
	},
	"OneToOneField":   {"to", "on_delete", "to_field"},
	"ManyToManyField": {"to", "related_name", "related_query_name", "limit_choices_to", "symmetrical", "through"},
	"ArrayField":      {"base_field", "size"},
}

func newField(c call) field {
	f := field{call: c.Name, inexact: c.Open, args: maps.Clone(c.Kw)}
	if f.args == nil {
		f.args = map[string]value{}
	}
	class := c.Name[strings.LastIndexByte(c.Name, '.')+1:]
	if kind, is := fieldClasses[class]; is && in(c.Name, class, fieldModules) {
		f.class, f.fieldClass = class, kind
	}
	params, is := relationArgs[f.class]
	if !is {
		params = []string{"verbose_name"}
	}
	for i, v := range c.Args {
		if i >= len(params) {
			f.inexact = true
			break
		}
		f.args[params[i]] = v
	}
	return f
}

// flag is an argument that is true or false; it is known if it is a constant.
func (f field) flag(arg string, otherwise bool) (is, known bool) {
	v, given := f.args[arg]
	if !given {
		return otherwise, true
	}
	is, known = v.(bool)
	return is, known
}

// isNull, isUnique, isIndex are the flags that decide most, with the defaults of the class.
func (f field) isNull() (is, known bool)   { return f.flag("null", f.null) }
func (f field) isUnique() (is, known bool) { return f.flag("unique", f.unique) }

// surely reports whether a flag is known to have a value.
func surely(want bool) func(is, known bool) bool {
	return func(is, known bool) bool { return known && is == want }
}

// number is an argument that is a constant integer.
func (f field) number(arg string, otherwise int) (n int, known bool) {
	v, given := f.args[arg]
	if !given || v == nil {
		return otherwise, true
	}
	text, is := v.(json.Number)
	if !is {
		return 0, false
	}
	long, err := text.Int64()
	return int(long), err == nil
}

// maxLength is that of a varchar; None is no limit (Django 4.2).
func (f field) maxLength() (n int, known bool) {
	if v, given := f.args["max_length"]; given && v == nil {
		return unlimited, true
	}
	return f.number("max_length", f.length)
}

// column is the name of the field's column (Field.get_attname_column); known is false if it isn't a constant.
func (f field) column(name string) (column string, known bool) {
	if v, given := f.args["db_column"]; given && v != nil {
		column, known = v.(string)
		return column, known
	}
	if f.family == key1 {
		return name + "_id", f.class != ""
	}
	return name, f.class != ""
}

// target is the key of the model that the field refers to; known is false if it isn't a constant, as with a setting.
func (f field) target(app, model string) (target string, known bool) {
	to, is := f.args["to"].(string)
	switch {
	case !is || to == "":
		return "", false
	case to == "self":
		return key(app, model), true
	}
	if label, name, has := strings.Cut(to, "."); has {
		return key(label, name), true
	}
	return key(app, to), true
}

// ownTable reports whether a ManyToManyField makes its table: not if a model is given for it.
func (f field) ownTable() bool {
	through, given := f.args["through"]
	return f.family == keyN && (!given || through == nil)
}

// harmless are the arguments that don't reach the database (Field.non_db_attrs), or only as an index, a comment or a
// default that Django itself fills in. What isn't here and not among those that alter judges is not known.
var harmless = set(
	"verbose_name", "help_text", "choices", "validators", "editable", "default", "blank", "related_name",
	"related_query_name", "limit_choices_to", "error_messages", "db_comment", "serialize", "auto_now", "auto_now_add",
	"unique_for_date", "unique_for_month", "unique_for_year", "upload_to", "storage", "width_field", "height_field", "path",
	"match", "recursive", "allow_files", "allow_folders", "allow_unicode", "protocol", "unpack_ipv4", "encoder", "decoder",
	"symmetrical", "through_fields", "auto_created",
)

// harmlessAnywhere are those of them that say nothing to a class that is not known either.
var harmlessAnywhere = set("verbose_name", "help_text", "validators", "editable", "blank", "default", "error_messages")

// typed are the arguments that belong to the column's type.
var typed = set("max_length", "max_digits", "decimal_places")

func set(names ...string) map[string]bool {
	found := map[string]bool{}
	for _, n := range names {
		found[n] = true
	}
	return found
}

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

// maxEntry is how many bytes surely fit into an entry of PostgreSQL's B-tree (BTMaxItemSize). BRIN takes more, and is held
// to the same.
const maxEntry = 2704

const entryTooLong = "PostgreSQL indexes no values longer than 2,704 bytes, which the older code may write"

// tooLongToIndex says why a new index on the field would refuse values that the older code writes.
func (f field) tooLongToIndex() string {
	if n, bounded := f.entry(); bounded && n <= maxEntry {
		return ""
	}
	return entryTooLong
}

// shortFields are those of a class of their own whose values have a small size.
var shortFields = map[string]bool{
	"DateField": true, "DateTimeField": true, "TimeField": true, "DurationField": true, "FloatField": true,
	"UUIDField": true, "GenericIPAddressField": true, "IPAddressField": true,
}

// entry is how many bytes a value takes in an index at most; a character takes up to 4 of them.
func (f field) entry() (bytes int, bounded bool) {
	const short = 40
	switch f.family {
	case chars:
		n, known := f.maxLength()
		return 4 * n, known && n < unlimited/4
	case integer, auto, boolean, key1:
		return short, true
	case decimal:
		digits, known := f.number("max_digits", unlimited)
		return short + digits, known && digits < maxEntry
	case other:
		return short, shortFields[f.class[strings.LastIndexByte(f.class, '.')+1:]]
	case text, keyN, computed:
	}
	return 0, false
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
