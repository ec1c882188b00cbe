package migrations

import (
	"maps"
	"slices"
	"strings"
)

// state is the models as Django's ProjectState has them after some migrations.
type state struct {
	parent *state            // what this one changes, nil for none
	models map[string]*model // by key; nil for one that is deleted
	// lost has the apps of which a migration isn't understood: what their models are is not certain.
	lost    map[string]bool
	allLost bool
}

type model struct {
	app, name string
	fields    map[string]call
	options   map[string]value
	// vague is set if the options aren't constants.
	vague bool
	bases []value
	// constraints by name, with their class's dotted path.
	constraints map[string]string
}

func newState() *state {
	return &state{models: map[string]*model{}, lost: map[string]bool{}}
}

// child is a copy that can be changed without s.
func (s *state) child() *state {
	c := newState()
	c.parent = s
	return c
}

// key is how Django compares models: the app's label as it is, the name in lower case.
func key(app, name string) string { return app + "." + strings.ToLower(name) }

func (s *state) get(key string) *model {
	for ; s != nil; s = s.parent {
		if m, has := s.models[key]; has {
			return m
		}
	}
	return nil
}

// edit returns a model that may be changed in s.
func (s *state) edit(key string) *model {
	if m, has := s.models[key]; has {
		return m
	}
	m := s.get(key)
	if m == nil {
		return nil
	}
	c := *m
	c.fields, c.options, c.constraints = maps.Clone(m.fields), maps.Clone(m.options), maps.Clone(m.constraints)
	s.models[key] = &c
	return &c
}

func (s *state) isLost(app string) bool {
	for ; s != nil; s = s.parent {
		if s.allLost || s.lost[app] {
			return true
		}
	}
	return false
}

// all calls f for every model, in order.
func (s *state) all(f func(*model)) {
	keys := map[string]bool{}
	for l := s; l != nil; l = l.parent {
		for k := range l.models {
			keys[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if m := s.get(k); m != nil {
			f(m)
		}
	}
}

// flag is an option that is true or false; it is known if it is a constant.
func (m *model) flag(option string, otherwise bool) (is, known bool) {
	v, given := m.options[option]
	if !given {
		return otherwise, !m.vague
	}
	b, known := v.(bool)
	return b, known && !m.vague
}

// hasTable reports whether Django changes the model's table (Options.can_migrate): not that of a proxy, nor one that it
// doesn't manage. What isn't known counts as changed.
func (m *model) hasTable() bool {
	if managed, known := m.flag("managed", true); known && !managed {
		return false
	}
	proxy, known := m.flag("proxy", false)
	return !known || !proxy
}

// table is the name of the model's table; known is false if it isn't a constant.
func (m *model) table() (name string, known bool) {
	v, given := m.options["db_table"]
	if m.vague {
		return "", false
	}
	if !given || v == nil || v == "" {
		return defaultTable(m.app, m.name), true
	}
	name, known = v.(string)
	return name, known
}

// defaultTable is Options.contribute_to_class's.
func defaultTable(app, model string) string { return app + "_" + strings.ToLower(model) }

// apply changes the state as an operation of an app's migration does (Operation.state_forwards). One that isn't
// understood loses the app.
func (s *state) apply(app string, o Operation) {
	switch {
	case o.Kind == "SeparateDatabaseAndState", o.Kind == "RunSQL":
		if o.inexact {
			s.lost[app] = true
		}
		for _, inner := range o.State {
			s.apply(app, inner)
		}
		return
	case o.Kind == "" || o.inexact:
		s.lost[app] = true
		return
	}
	if r := rules[o.Kind]; r.apply != nil && !r.apply(s, app, o) {
		s.lost[app] = true
	}
}

// lose notes what a migration that isn't understood may have changed.
func (s *state) lose(m *Migration) {
	s.lost[m.Name.App] = true
	if m.anywhere {
		s.allLost = true
	}
}

// replay applies migrations in order.
func (s *state) replay(set *Set, names []Name) {
	for _, n := range names {
		m := set.Migrations[n]
		if m.Problem != "" {
			s.lose(m)
			continue
		}
		for _, o := range m.Operations {
			s.apply(n.App, o)
		}
	}
}

// The changes below tell whether they understood the operation.

func applyCreateModel(s *state, app string, o Operation) bool {
	name, named := o.text("name")
	fields, listed := fieldList(o.args["fields"])
	if !named || !listed {
		return false
	}
	m := &model{app: app, name: name, fields: fields, options: map[string]value{}, constraints: map[string]string{}}
	m.setOptions(o.args["options"])
	m.bases, _ = o.args["bases"].([]value)
	for _, c := range list(m.options["constraints"]) {
		m.addConstraint(c)
	}
	s.models[key(app, name)] = m
	return true
}

// fieldList reads a CreateModel's fields, pairs of a name and a call.
func fieldList(v value) (map[string]call, bool) {
	pairs, is := v.([]value)
	fields := map[string]call{}
	for _, p := range pairs {
		pair, isPair := p.([]value)
		if !isPair || len(pair) != 2 {
			return nil, false
		}
		name, named := pair[0].(string)
		field, made := pair[1].(call)
		if !named || !made {
			return nil, false
		}
		fields[name] = field
	}
	return fields, is
}

func list(v value) []value {
	l, _ := v.([]value)
	return l
}

func (m *model) setOptions(v value) {
	switch v := v.(type) {
	case nil:
	case dict:
		for _, i := range v {
			k, is := i.Key.(string)
			if !is {
				m.vague = true
			}
			m.options[k] = i.Value
		}
	default:
		m.vague = true
	}
}

func (m *model) addConstraint(v value) bool {
	c, is := v.(call)
	if !is {
		return false
	}
	name, named := c.Kw["name"].(string)
	if named {
		m.constraints[name] = c.Name
	}
	return named
}

func applyDeleteModel(s *state, app string, o Operation) bool {
	name, is := o.text("name")
	s.models[key(app, name)] = nil
	return is
}

func applyRenameModel(s *state, app string, o Operation) bool {
	from, ok := o.text("old_name")
	to, ok2 := o.text("new_name")
	m := s.edit(key(app, from))
	if !ok || !ok2 || m == nil {
		return false
	}
	s.models[key(app, from)] = nil
	m.name = to
	s.models[key(app, to)] = m
	s.repoint(key(app, from), app+"."+to)
	return true
}

// repoint changes the fields that refer to a model that got another name.
func (s *state) repoint(from, to string) {
	type place struct{ model, field string }
	var places []place
	s.all(func(m *model) {
		for name, f := range m.fields {
			if target, is := newField(f).target(m.app, m.name); is && target == from {
				places = append(places, place{key(m.app, m.name), name})
			}
		}
	})
	for _, p := range places {
		m := s.edit(p.model)
		f := m.fields[p.field]
		f.Kw = maps.Clone(f.Kw)
		f.Kw["to"] = to
		if len(f.Args) > 0 {
			f.Args = append([]value{to}, f.Args[1:]...)
			delete(f.Kw, "to")
		}
		m.fields[p.field] = f
	}
}

func applyField(s *state, app string, o Operation) bool {
	name, named := o.text("name")
	f, made := o.args["field"].(call)
	m := s.ofOperation(app, o)
	if m == nil || !named || !made {
		return false
	}
	m.fields[name] = f
	return true
}

// ofOperation is the model that an operation on a field names.
func (s *state) ofOperation(app string, o Operation) *model {
	name, is := o.text("model_name")
	if !is {
		name, is = o.text("name")
	}
	if !is {
		return nil
	}
	return s.edit(key(app, name))
}

func applyRemoveField(s *state, app string, o Operation) bool {
	name, named := o.text("name")
	m := s.ofOperation(app, o)
	if m == nil || !named {
		return false
	}
	delete(m.fields, name)
	return true
}

func applyRenameField(s *state, app string, o Operation) bool {
	from, ok := o.text("old_name")
	to, ok2 := o.text("new_name")
	m := s.ofOperation(app, o)
	if m == nil || !ok || !ok2 {
		return false
	}
	f, has := m.fields[from]
	if !has {
		return false
	}
	delete(m.fields, from)
	m.fields[to] = f
	for _, option := range []string{"unique_together", "index_together"} {
		if v, given := m.options[option]; given {
			m.options[option] = renamed(v, from, to)
		}
	}
	return true
}

// renamed replaces a name in nested lists.
func renamed(v value, from, to string) value {
	switch v := v.(type) {
	case string:
		if v == from {
			return to
		}
	case []value:
		l := make([]value, 0, len(v))
		for _, e := range v {
			l = append(l, renamed(e, from, to))
		}
		return l
	}
	return v
}

// applyOption is for the operations that set one of the model's options.
func applyOption(option, arg string) func(*state, string, Operation) bool {
	return func(s *state, app string, o Operation) bool {
		m := s.ofOperation(app, o)
		if m == nil {
			return false
		}
		m.options[option] = o.args[arg]
		return true
	}
}

// applyOptions is AlterModelOptions's: of what it may set, only managed matters here; what it doesn't mention is unset.
func applyOptions(s *state, app string, o Operation) bool {
	m := s.ofOperation(app, o)
	options, is := o.args["options"].(dict)
	if m == nil || !is {
		return false
	}
	delete(m.options, "managed")
	for _, i := range options {
		if i.Key == "managed" {
			m.options["managed"] = i.Value
		}
		if _, is := i.Key.(string); !is {
			m.vague = true
		}
	}
	return true
}

func applyAddConstraint(s *state, app string, o Operation) bool {
	m := s.ofOperation(app, o)
	return m != nil && m.addConstraint(o.args["constraint"])
}

func applyRemoveConstraint(s *state, app string, o Operation) bool {
	m := s.ofOperation(app, o)
	name, named := o.text("name")
	if m == nil || !named {
		return false
	}
	delete(m.constraints, name)
	return true
}
