package config

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

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

// setting is a key that read takes, with what it may be and its default.
type setting struct {
	key, kind string
	fallback  any
}

// list notes what a key may be, where that is what is asked for.
func (d *document) list(key, kind string, fallback any) {
	if d.lists {
		d.settings = append(d.settings, setting{key, kind, fallback})
	}
}
