package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate"
)

func TestTheEnvironmentNamesDjangosSettings(t *testing.T) {
	var v evidence
	v.settings([]string{"A=b", "DJANGO_SETTINGS_MODULE=project.settings"})
	if v.Unit.SettingsModule != "project.settings" {
		t.Errorf("settings %q", v.Unit.SettingsModule)
	}
}

func TestAssignmentsOfAnEnvironmentFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# a comment\nA=1\n  B = \"two words\" \n#C=3\nnothing\nD='x=y'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=1", "B=two words", "D=x=y"}, assignments(file)); d != "" {
		t.Error(d)
	}
	if got := assignments(filepath.Dir(file)); got != nil {
		t.Errorf("a directory: %q", got)
	}
	if got := assignments(file + ".gone"); got != nil {
		t.Errorf("a missing file: %q", got)
	}
}

// What belongs to the start that was looked at, to crashed ones before it, and to later ones is kept.
func TestLatestStarts(t *testing.T) {
	line := func(invocation, text string) gate.LogLine { return gate.LogLine{Invocation: invocation, Text: text} }
	lines := []gate.LogLine{line("a", "1"), line("b", "2"), line("a", "3"), line("b", "4"), line("c", "5"), line("", "6"), line("d", "7")}
	for _, c := range []struct {
		invocation string
		restarts   int
		want       string
	}{
		{"d", 0, "7"}, {"c", 0, "567"}, {"c", 1, "24567"}, {"b", 0, "24567"}, {"b", 5, "1234567"}, {"gone", 0, "7"}, {"", 1, "567"},
	} {
		got := ""
		for _, l := range latestStarts(lines, gate.UnitState{InvocationID: c.invocation, NRestarts: c.restarts}) {
			got += l.Text
		}
		if got != c.want {
			t.Errorf("%s after %d restarts: %s, want %s", c.invocation, c.restarts, got, c.want)
		}
	}
}

func TestTheInterpreterOfAProgram(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"#!/srv/venv/bin/python3\nimport sys\n": "/srv/venv/bin/python3",
		"#!/usr/bin/python3 -I\n":               "/usr/bin/python3",
		"#!/usr/bin/env python3\n":              "",
		"\x7fELF":                               "",
		"":                                      "",
	} {
		file := filepath.Join(dir, "gunicorn")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := pythonOf(file); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := pythonOf("/srv/venv/bin/python3.11"); got != "/srv/venv/bin/python3.11" {
		t.Errorf("an interpreter itself: %q", got)
	}
}
