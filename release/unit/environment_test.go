package unit

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEnvironment(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"# a comment\nA=1\n  B = \"two words\" \n#C=3\nnothing\nD='x=y'\n; E=5\n", []string{"A=1", "B=two words", "D=x=y"}},
		{"KEY=\"-----BEGIN\nline two\n-----END\"\nB=2", []string{"KEY=-----BEGIN\nline two\n-----END", "B=2"}},
		{"A='it''s'\nB=it's\nC=\"a\\\"b\\$c\\d\"", []string{"A=its", "B=it's", `C=a"b$c\d`}},
		{"A=one\\\ntwo\nB=a\\ b  \nC=", []string{"A=onetwo", "B=a b", "C="}},
		{"A=inner  space \t\r\nB=2\r\n", []string{"A=inner  space", "B=2"}},
		{"# goes on \\\nA=1\nB=2", []string{"B=2"}},
		{"", nil},
	} {
		if d := cmp.Diff(c.want, ParseEnvironment(c.text)); d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

func FuzzParseEnvironment(f *testing.F) {
	f.Add("A=1\nB=\"x\\\"\n'")
	f.Fuzz(func(t *testing.T, text string) {
		total := 0
		for _, a := range ParseEnvironment(text) {
			total += len(a)
		}
		if total > len(text) {
			t.Errorf("%d bytes of %d", total, len(text))
		}
	})
}
