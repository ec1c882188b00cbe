package migrations

import "strings"

// Operation is one entry of a migration's operations.
type Operation struct {
	// Kind is the class's name if it is Django's own, as "AddField"; "" for any other.
	Kind string
	// Call is the class by its dotted path; it starts with '?' if that isn't known.
	Call string
	Line int
	// Database and State are the operations of a SeparateDatabaseAndState, and State those of a RunSQL.
	Database, State []Operation

	args map[string]value
	// inexact is set if the arguments can't be told apart: there are * or **, or more than Django knows.
	inexact bool
}

// maxNesting bounds SeparateDatabaseAndState in SeparateDatabaseAndState.
const maxNesting = 20

// Django's modules that have operations, by the kinds' package (django/db/migrations/operations/__init__.py and
// django/contrib/postgres/operations.py).
var (
	coreModules = []string{
		"django.db.migrations.", "django.db.migrations.operations.", "django.db.migrations.operations.models.",
		"django.db.migrations.operations.fields.", "django.db.migrations.operations.special.",
	}
	postgresModules = []string{"django.contrib.postgres.operations."}
)

func newOperation(c call, depth int) Operation {
	o := Operation{Call: c.Name, Line: c.Line, args: map[string]value{}}
	kind := c.Name[strings.LastIndexByte(c.Name, '.')+1:]
	r, is := rules[kind]
	if !is || !in(c.Name, kind, r.modules()) {
		return o
	}
	o.Kind = kind
	o.args, o.inexact = c.bind(r.args)
	if depth < maxNesting {
		o.Database = o.nested("database_operations", depth)
		o.State = o.nested("state_operations", depth)
	} else {
		o.inexact = true
	}
	return o
}

func in(name, kind string, modules []string) bool {
	for _, m := range modules {
		if name == m+kind {
			return true
		}
	}
	return false
}

// bind gives the arguments their names.
func (c call) bind(params []string) (args map[string]value, inexact bool) {
	args = map[string]value{}
	for i, v := range c.Args {
		if i >= len(params) {
			return args, true
		}
		args[params[i]] = v
	}
	for k, v := range c.Kw {
		if _, twice := args[k]; twice || !contains(params, k) {
			return args, true
		}
		args[k] = v
	}
	return args, c.Open
}

func contains(params []string, name string) bool {
	for _, p := range params {
		if strings.TrimPrefix(p, "*") == name {
			return true
		}
	}
	return false
}

// nested reads the operations in an argument; one that isn't a list makes the whole inexact.
func (o *Operation) nested(arg string, depth int) []Operation {
	v, given := o.args[arg]
	if !given || v == nil {
		return nil
	}
	list, is := v.([]value)
	if !is {
		o.inexact = true
		return nil
	}
	var found []Operation
	for _, e := range list {
		c, is := e.(call)
		if !is {
			c = call{Name: "?"}
		}
		found = append(found, newOperation(c, depth+1))
	}
	delete(o.args, arg)
	return found
}

// text is an argument that is a constant string.
func (o Operation) text(arg string) (string, bool) {
	s, is := o.args[arg].(string)
	return s, is
}

// String names the operation and what it is about: "RemoveField order.legacy".
func (o Operation) String() string {
	if o.Kind == "" {
		name := strings.TrimPrefix(o.Call, "?")
		if name == "" {
			return "an operation"
		}
		return name[strings.LastIndexByte(name, '.')+1:]
	}
	if subject := o.subject(); subject != "" {
		return o.Kind + " " + subject
	}
	return o.Kind
}

// subject is the model and, below it, the field, index or constraint.
func (o Operation) subject() string {
	model, of := o.text("model_name")
	name, named := o.text("name")
	from, renamed := o.text("old_name")
	to, _ := o.text("new_name")
	if renamed {
		name = from + " to " + to
	} else if to != "" {
		name = to
	}
	if !named && !renamed && to == "" {
		name = o.inner()
	}
	switch {
	case of && name != "":
		return strings.ToLower(model) + "." + name
	case of:
		return strings.ToLower(model)
	}
	return name
}

// inner is the name of an index or a constraint that is given as such.
func (o Operation) inner() string {
	for _, arg := range []string{"index", "constraint"} {
		if c, is := o.args[arg].(call); is {
			if name, is := c.Kw["name"].(string); is {
				return name
			}
		}
	}
	return ""
}
