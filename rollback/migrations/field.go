package migrations

import (
	"encoding/json"
	"maps"
	"math"
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
func (f field) isNull() (is, known bool) { return f.flag("null", f.null) }

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
