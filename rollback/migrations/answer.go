package migrations

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// answer is what inspect.py says of one file.
type answer struct {
	Fatal        string      `json:"fatal"`   // this Python can't look at any
	Problem      string      `json:"problem"` // why the file isn't plainly a migration
	Anywhere     bool        `json:"anywhere"`
	Label        string      `json:"label"`
	Word         string      `json:"word"`
	Initial      *bool       `json:"initial"`
	Atomic       *bool       `json:"atomic"`
	Dependencies [][2]string `json:"dependencies"`
	Replaces     [][2]string `json:"replaces"`
	RunBefore    [][2]string `json:"run_before"`
	Operations   []any       `json:"operations"`

	calls []call
}

// A value of a migration's text is nil, a bool, a string, a json.Number, []value, or one of these.
type (
	value any

	// call is a call of something by its dotted path; it starts with '?' if that isn't known.
	call struct {
		Name string
		Args []value
		Kw   map[string]value
		Open bool // there are more arguments, by * or **
		Line int
	}

	// ref is something imported, by its dotted path: equal paths are equal things, in one release.
	ref string

	// raw is a constant of another type, by its repr.
	raw string

	// dict is in the order of the text.
	dict []item

	// unknown is what is not constant, and equals nothing.
	unknown string
)

type item struct{ Key, Value value }

// parseAnswer understands a line of inspect.py. Python isn't trusted with it: the texts it looks at are anybody's.
func parseAnswer(line []byte) (answer, error) {
	var a answer
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(&a); err != nil {
		return answer{}, err
	}
	if d.More() {
		return answer{}, errors.New("more than one document")
	}
	for _, o := range a.Operations {
		v, err := convert(o)
		if err != nil {
			return answer{}, err
		}
		c, ok := v.(call)
		if !ok {
			return answer{}, fmt.Errorf("%T is not an operation", v)
		}
		a.calls = append(a.calls, c)
	}
	a.Operations = nil
	return a, nil
}

func convert(v any) (value, error) {
	switch v := v.(type) {
	case []any:
		return convertList(v)
	case map[string]any:
		return convertObject(v)
	default: // null, a bool, a number, a string
		return v, nil
	}
}

func convertList(list []any) ([]value, error) {
	values := make([]value, 0, len(list))
	for _, e := range list {
		v, err := convert(e)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

func convertObject(o map[string]any) (value, error) {
	if _, is := o["call"]; is {
		return convertCall(o)
	}
	if pairs, is := o["dict"].([]any); is {
		return convertDict(pairs)
	}
	if name, is := o["ref"].(string); is {
		return ref(name), nil
	}
	if text, is := o["const"].(string); is {
		return raw(text), nil
	}
	if text, is := o["unknown"].(string); is {
		return unknown(text), nil
	}
	return nil, errors.New("an object that is no value")
}

func convertCall(o map[string]any) (call, error) {
	name, named := o["call"].(string)
	if !named {
		return call{}, errors.New("a call without a name")
	}
	c := call{Name: name}
	c.Open, _ = o["open"].(bool)
	if line, is := o["line"].(json.Number); is {
		n, err := line.Int64()
		if err != nil {
			return call{}, err
		}
		c.Line = int(n)
	}
	var err error
	if args, is := o["args"].([]any); is {
		if c.Args, err = convertList(args); err != nil {
			return call{}, err
		}
	}
	kw, _ := o["kw"].(map[string]any)
	c.Kw = make(map[string]value, len(kw))
	for k, e := range kw {
		if c.Kw[k], err = convert(e); err != nil {
			return call{}, err
		}
	}
	return c, nil
}

func convertDict(pairs []any) (dict, error) {
	d := make(dict, 0, len(pairs))
	for _, p := range pairs {
		pair, is := p.([]any)
		if !is || len(pair) != 2 {
			return nil, errors.New("an item that is no pair")
		}
		k, err := convert(pair[0])
		if err != nil {
			return nil, err
		}
		v, err := convert(pair[1])
		if err != nil {
			return nil, err
		}
		d = append(d, item{k, v})
	}
	return d, nil
}

// equal reports whether two values of one release are surely the same.
func equal(a, b value) bool {
	switch a := a.(type) {
	case unknown:
		return false
	case []value:
		b, is := b.([]value)
		return is && equalLists(a, b)
	case dict:
		b, is := b.(dict)
		return is && equalDicts(a, b)
	case call:
		b, is := b.(call)
		return is && equalCalls(a, b)
	default:
		switch b.(type) {
		case unknown, []value, dict, call:
			return false
		}
		return a == b
	}
}

func equalLists(a, b []value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func equalDicts(a, b dict) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !equal(a[i].Key, b[i].Key) || !equal(a[i].Value, b[i].Value) {
			return false
		}
	}
	return true
}

func equalCalls(a, b call) bool {
	if !known(a.Name) || a.Name != b.Name || a.Open || b.Open || len(a.Kw) != len(b.Kw) || !equalLists(a.Args, b.Args) {
		return false
	}
	for k, v := range a.Kw {
		other, has := b.Kw[k]
		if !has || !equal(v, other) {
			return false
		}
	}
	return true
}

// known reports whether a dotted path leads to something that was imported.
func known(name string) bool { return name != "" && name[0] != '?' }
