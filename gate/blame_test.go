package gate

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// Every cause has to say what it proves: one that is forgotten would count as unknown.
func TestEachCauseSaysWhomItBlames(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "finding.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	causes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Cause" {
			return true
		}
		for i, name := range spec.Names {
			value, _ := spec.Values[i].(*ast.BasicLit)
			slug, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			causes++
			if blames[Cause(slug)] == "" {
				t.Errorf("%s (%s) has no row in blames", name.Name, slug)
			}
		}
		return true
	})
	if causes < 50 || causes != len(blames) {
		t.Errorf("%d causes in finding.go, %d rows in blames", causes, len(blames))
	}
}

func TestBlame(t *testing.T) {
	for name, c := range map[string]struct {
		f    Finding
		want Blame
	}{
		"by its cause":                     {Finding{Cause: DiskFull}, BlamesHost},
		"by comparison":                    {Finding{Cause: ImportError, Blames: BlamesRelease}, BlamesRelease},
		"never started":                    {Finding{Cause: SyntaxError, NeverStarted: true}, BlamesUnknown},
		"a cause of a newer deploygate's":  {Finding{Cause: "new"}, BlamesUnknown},
		"what it proves isn't what it was": {Finding{Cause: DiskFull, Blames: BlamesUnknown}, BlamesUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.f.Blame(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			for _, v := range []any{c.f, &c.f} {
				text, err := json.Marshal(v)
				var back Finding
				if err != nil || json.Unmarshal(text, &back) != nil || back.Blames != c.want || back.Cause != c.f.Cause {
					t.Errorf("%s, %v", text, err)
				}
			}
		})
	}
}
