package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file whose values are taken out one by one, so that every problem is found at once and each is
// told with its line and column. Keys are dotted; an element of an array of tables is KEY[N].
type document struct {
	file     string
	values   map[string]any
	places   map[string]place
	taken    map[string]bool
	problems []problem

	lists    bool // what is asked for is which keys there are
	settings []setting
}

type place struct{ line, column int }

type problem struct {
	place
	text string
}

// parseDocument fails only on what isn't TOML: nothing can be said of the rest then.
func parseDocument(file string, text []byte) (*document, error) {
	tree := map[string]any{}
	if err := toml.Unmarshal(text, &tree); err != nil {
		if de, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, column := de.Position()
			return nil, &Error{[]string{fmt.Sprintf("%s:%d:%d: %s", file, line, column, strings.TrimPrefix(de.Error(), "toml: "))}}
		}
		return nil, &Error{[]string{fmt.Sprintf("%s: %v", file, err)}}
	}
	d := &document{file: file, values: map[string]any{}, places: locate(text), taken: map[string]bool{}}
	d.flatten("", tree)
	return d, nil
}

// flatten gives every value its dotted key. Tables are noted too, so that an unknown one is found even if it is empty.
func (d *document) flatten(at string, value any) {
	if at != "" {
		d.values[at] = value
	}
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			d.flatten(join(at, key), child)
		}
	case []any:
		for i, child := range v {
			if _, isTable := child.(map[string]any); isTable {
				d.flatten(fmt.Sprintf("%s[%d]", at, i), child)
			}
		}
	}
}

// locate finds where each key stands. The text has been parsed without error before.
func locate(text []byte) map[string]place {
	places := map[string]place{}
	counts := map[string]int{}
	var p unstable.Parser
	p.Reset(text)
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table:
			table, _ = note(&p, places, counts, "", e.Key())
		case unstable.ArrayTable:
			key, at := note(&p, places, counts, "", e.Key())
			table = fmt.Sprintf("%s[%d]", key, counts[key])
			places[table] = at
			counts[key]++
		case unstable.KeyValue:
			key, _ := note(&p, places, counts, table, e.Key())
			noteValue(&p, places, counts, key, e.Value())
		default: // comments
		}
	}
	return places
}

// note notes every prefix of a dotted key that isn't known yet, and gives the whole key and where its last part stands.
// What lies below an array of tables lies below its latest element.
func note(p *unstable.Parser, places map[string]place, counts map[string]int, at string, key unstable.Iterator) (whole string, last place) {
	for key.Next() {
		if n := counts[at]; n > 0 {
			at = fmt.Sprintf("%s[%d]", at, n-1)
		}
		at = join(at, string(key.Node().Data))
		start := p.Shape(key.Node().Raw).Start
		last = place{start.Line, start.Column}
		if _, known := places[at]; !known {
			places[at] = last
		}
	}
	return at, last
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// join puts a key below another. One that needs quotes in TOML keeps them, so that "a.b" is not taken for a.b, and what
// it holds can be shown.
func join(at, key string) string {
	if !bareKey.MatchString(key) {
		key = strconv.Quote(key)
	}
	return strings.TrimPrefix(at+"."+key, ".")
}

// noteValue notes the keys inside an inline table, and inside inline tables in an array.
func noteValue(p *unstable.Parser, places map[string]place, counts map[string]int, at string, value *unstable.Node) {
	switch value.Kind {
	case unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			if kv := it.Node(); kv.Kind == unstable.KeyValue {
				key, _ := note(p, places, counts, at, kv.Key())
				noteValue(p, places, counts, key, kv.Value())
			}
		}
	case unstable.Array:
		for i, it := 0, value.Children(); it.Next(); i++ {
			if _, known := places[at]; known {
				element := fmt.Sprintf("%s[%d]", at, i)
				places[element] = places[at]
				noteValue(p, places, counts, element, it.Node())
			}
		}
	default: // holds no keys
	}
}

// take returns a key's value and notes that someone knows the key.
func (d *document) take(key string) (value any, ok bool) {
	d.taken[key] = true
	value, ok = d.values[key]
	return value, ok
}

func (d *document) problem(key, text string) {
	// The first sign is given: a value of the wrong type is also an invalid one.
	for _, p := range d.problems {
		if strings.HasPrefix(p.text, key+": ") {
			return
		}
	}
	d.problems = append(d.problems, problem{d.places[key], key + ": " + text})
}

// check notes what a validation says of a key that the file sets.
func (d *document) check(key string, valid func() error) {
	d.checkFirst(valid, key)
}

// checkFirst is check for what depends on several keys: the first that the file sets is told of.
func (d *document) checkFirst(valid func() error, keys ...string) {
	for _, key := range keys {
		if _, set := d.values[key]; !set {
			continue
		}
		if err := valid(); err != nil {
			d.problem(key, err.Error())
		}
		return
	}
}

// read takes a value of one TOML type.
func read[T any](d *document, key, kind string) (v T, ok bool) {
	value, set := d.take(key)
	if !set {
		return v, false
	}
	if v, ok = value.(T); !ok {
		d.problem(key, "it must be "+kind+", not "+describe(value))
	}
	return v, ok
}

func (d *document) text(key string, to *string) {
	d.list(key, "a string", *to)
	if v, ok := read[string](d, key, "a string"); ok {
		*to = v
	}
}

func (d *document) boolean(key string, to *bool) {
	d.list(key, "true or false", *to)
	if v, ok := read[bool](d, key, "true or false"); ok {
		*to = v
	}
}

func (d *document) integer(key string, to *int, least, most int64) {
	d.list(key, fmt.Sprintf("a number from %d to %d", least, most), *to)
	v, ok := read[int64](d, key, "a whole number")
	if !ok {
		return
	}
	if v < least || v > most {
		d.problem(key, fmt.Sprintf("it must be from %d to %d", least, most))
		return
	}
	*to = int(v)
}

func (d *document) duration(key string, to *time.Duration) {
	d.list(key, "a duration", *to)
	v, ok := read[string](d, key, `a duration like "30s"`)
	if !ok {
		return
	}
	t, err := time.ParseDuration(v)
	switch {
	case err != nil:
		d.problem(key, fmt.Sprintf("%q is not a duration; write it like \"30s\", \"1m30s\" or \"100ms\"", v))
	case t <= 0:
		d.problem(key, "it must be positive")
	case t > 24*time.Hour:
		d.problem(key, "it must be at most a day")
	default:
		*to = t
	}
}

// durationOrNone takes "" too, which is 0.
func (d *document) durationOrNone(key string, to *time.Duration) {
	if v, _ := d.take(key); v == "" {
		*to = 0
		return
	}
	d.duration(key, to)
}

func (d *document) path(key string, to *string) {
	d.list(key, "an absolute path", *to)
	v, ok := read[string](d, key, "a path")
	switch {
	case !ok:
	case !filepath.IsAbs(v):
		d.problem(key, fmt.Sprintf("%q is not an absolute path", v))
	default:
		*to = filepath.Clean(v)
	}
}

func (d *document) choice(key string, to *string, choices ...string) {
	d.list(key, `"`+strings.Join(choices, `" or "`)+`"`, *to)
	v, ok := read[string](d, key, "a string")
	if !ok {
		return
	}
	if slices.Contains(choices, v) {
		*to = v
		return
	}
	d.problem(key, fmt.Sprintf("%q is not one of %s", v, strings.Join(choices, ", ")))
}

func (d *document) strings(key string, to *[]string) {
	d.list(key, "a list of strings", *to)
	v, ok := read[[]any](d, key, "a list of strings")
	if !ok {
		return
	}
	list := []string{}
	for _, element := range v {
		s, isText := element.(string)
		if !isText {
			d.problem(key, "it must be a list of strings; one of them is "+describe(element))
			return
		}
		list = append(list, s)
	}
	*to = list
}

func (d *document) integers(key string, to *[]int, least, most int64) {
	d.list(key, fmt.Sprintf("a list of numbers from %d to %d", least, most), *to)
	v, ok := read[[]any](d, key, "a list of whole numbers")
	if !ok {
		return
	}
	var list []int
	for _, element := range v {
		n, isInt := element.(int64)
		if !isInt || n < least || n > most {
			d.problem(key, fmt.Sprintf("it must be a list of whole numbers from %d to %d", least, most))
			return
		}
		list = append(list, int(n))
	}
	if len(list) == 0 {
		d.problem(key, "it is empty")
		return
	}
	*to = list
}

func (d *document) table(key string, to *map[string]string) {
	d.list(key, "a table of strings", *to)
	v, ok := read[map[string]any](d, key, "a table of strings")
	if !ok {
		return
	}
	table := map[string]string{}
	for name, value := range v {
		d.taken[join(key, name)] = true
		s, isText := value.(string)
		if !isText {
			d.problem(join(key, name), "it must be a string, not "+describe(value))
			continue
		}
		table[name] = s
	}
	*to = table
}

// tables calls each for every element of an array of tables, with the element's key.
func (d *document) tables(key string, each func(at string)) {
	if d.lists {
		d.list(key, "table", "")
		each(key)
	}
	v, ok := read[[]any](d, key, "written as [["+key+"]]")
	if !ok {
		return
	}
	for i, element := range v {
		at := fmt.Sprintf("%s[%d]", key, i)
		if _, isTable := element.(map[string]any); !isTable {
			d.problem(key, "it must be written as [["+key+"]]")
			return
		}
		d.taken[at] = true
		each(at)
	}
}

// err returns every problem, unknown keys among them, in the order of the file.
func (d *document) err() error {
	for key, value := range d.values {
		_, isTable := value.(map[string]any)
		switch {
		case d.taken[key], isTable && (d.knownBelow(key) || d.unknownBelow(key)):
			continue // what is wrong below a table is told there
		case d.knownBelow(key):
			d.problem(key, "it must be a table, written as ["+key+"]")
			continue
		}
		d.problems = append(d.problems, problem{d.places[key], key + ": unknown key"})
	}
	if len(d.problems) == 0 {
		return nil
	}
	sort.Slice(d.problems, func(i, j int) bool {
		a, b := d.problems[i], d.problems[j]
		if a.line != b.line {
			return a.line < b.line
		}
		return a.column < b.column || a.column == b.column && a.text < b.text
	})
	e := &Error{}
	for _, p := range d.problems {
		e.Problems = append(e.Problems, fmt.Sprintf("%s:%d:%d: %s", d.file, p.line, p.column, p.text))
	}
	return e
}

// knownBelow reports whether a table holds keys that are known, so that the table itself is.
func (d *document) knownBelow(key string) bool {
	for known := range d.taken {
		if strings.HasPrefix(known, key+".") || strings.HasPrefix(known, key+"[") {
			return true
		}
	}
	return false
}

func (d *document) unknownBelow(key string) bool {
	for other := range d.values {
		if strings.HasPrefix(other, key+".") {
			return true
		}
	}
	return false
}

func describe(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("the string %q", v)
	case bool:
		return fmt.Sprintf("%t", v)
	case int64, float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return fmt.Sprintf("%v", v)
	}
}
