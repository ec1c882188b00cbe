package main

import (
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/release/deploy"
	"deploygate/scripts/assert"
)

var update = flag.Bool("update", false, "write the manual pages")

// What is said of a command is all there, and its examples are commands that can be typed.
func TestManuals(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	names := map[string]bool{}
	for _, c := range app.Commands {
		names[c.Name] = true
		m := manuals[c.Name]
		if len(m.exits) == 0 || !c.Hidden && (len(m.examples) < 2 || c.Usage == "") {
			t.Errorf("%s: %+v", c.Name, m)
		}
		for _, e := range m.examples {
			if _, err := arrange(app, strings.Fields(e.command)); err != nil || !strings.HasPrefix(e.command, "deploygate "+c.Name) && c.Name != "version" {
				t.Errorf("%s: %v", e.command, err)
			}
			for word := range strings.FieldsSeq(e.command) {
				if name, is := strings.CutPrefix(word, "--"); is && find(append(app.Flags, c.Flags...), name) == nil && name != "version" {
					t.Errorf("%s: there is no flag --%s", e.command, name)
				}
			}
		}
	}
	for name := range manuals {
		if !names[name] {
			t.Errorf("there is no command %s", name)
		}
	}
	for _, c := range exitCodes {
		for _, o := range c.outcomes {
			if o != "usage" && o.ExitCode() != c.code {
				t.Errorf("%s is %d, not %d", o, o.ExitCode(), c.code)
			}
		}
	}
	if len(exitCodes) != deploy.Unknown.ExitCode()+1 {
		t.Error("an exit code is missing")
	}
}

// The manual pages are what the commands, and the keys of the configuration, say of themselves.
func TestManualPages(t *testing.T) {
	upToDate(t, "../../scripts/packaging/deploygate.1", string(md2man.Render([]byte(page(newApp(io.Discard, io.Discard))))))
	upToDate(t, "../../scripts/packaging/deploygate.toml.5", string(md2man.Render([]byte(config.Page()))))
}

// upToDate compares a file with what it should say, or writes it.
func upToDate(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		assert.OK(t, os.WriteFile(file, []byte(want), 0o644))
	}
	text, err := os.ReadFile(file)
	assert.OK(t, err)
	if string(text) != want {
		t.Errorf("%s is not up to date: go test %s -update", file, "./cmd/...")
	}
}
