package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

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
