package rollback

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/scripts/assert"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.OK(t, os.WriteFile(file, []byte(text), 0o644))
}

func TestParseMarker(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Marker
	}{
		{"safe", `rollback = "safe"`, Marker{Rollback: Safe}},
		{"blocked", "# why\nrollback = 'blocked'\nreason = \"drops é\"\nmigrations = [\"shop.0002_drop\",\n]\n", Marker{Rollback: Blocked, Reason: "drops é", Migrations: []string{"shop.0002_drop"}}},
		{"CRLF", "rollback = \"safe\"\r\nreason = \"\"\r\n", Marker{Rollback: Safe}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := ParseMarker([]byte(c.text))
			assert.OK(t, err)
			if d := cmp.Diff(&c.want, m); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAMarkerThatCannotBeUnderstoodIsAnError(t *testing.T) {
	for _, c := range []struct{ name, text, err string }{
		{"empty", "", `does not say rollback`},
		{"only a comment", "# rollback = \"safe\"\n", `does not say rollback`},
		{"only a reason", `reason = "x"`, `does not say rollback`},
		{"empty word", `rollback = ""`, `does not say rollback`},
		{"another word", `rollback = "yes"`, `"yes" is neither`},
		{"another case of the word", `rollback = "Safe"`, `"Safe" is neither`},
		{"a space in the word", `rollback = "safe "`, `is neither`},
		{"the verdict for no release", `rollback = "none"`, `is neither`},
		{"boolean", `rollback = true`, "line 1, column"},
		{"list", `rollback = ["safe"]`, "line 1, column"},
		{"unknown key", "rollback = \"safe\"\nroolback = \"blocked\"\n", `line 2, column 1: unknown key "roolback"`},
		{"unknown table", "rollback = \"safe\"\n[other]\na = 1\n", "unknown key"},
		{"in a table", "[marker]\nrollback = \"safe\"\n", "unknown key"},
		{"twice", "rollback = \"safe\"\nrollback = \"blocked\"\n", "line 2"},
		{"no quotes", "rollback = safe", "line 1, column"},
		{"cut off", `rollback = "sa`, "line 1, column"},
		{"migrations are no list", "rollback = \"safe\"\nmigrations = \"shop.0002\"\n", "line 2, column"},
		{"another case of the key", "rollback = \"blocked\"\nRollback = \"safe\"\n", `unknown key "Rollback"`},
		{"JSON", `{"rollback":"safe"}`, "line 1, column"},
		{"no UTF-8", "rollback = \"safe\"\nreason = \"\xff\"\n", "line 2"},
		{"NUL", "rollback = \"safe\"\x00", "line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := ParseMarker([]byte(c.text))
			if err == nil || m != nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("ParseMarker() = %+v, %v; want …%s…", m, err, c.err)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %q", err)
			}
		})
	}
}

func TestReadMarkerReadsOnlyASmallFileOfTheReleaseItself(t *testing.T) {
	const safe = `rollback = "safe"`
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, safe)
	for _, c := range []struct {
		name  string
		plant func(t *testing.T, file string)
		err   string
	}{
		{"link", func(t *testing.T, file string) { t.Helper(); assert.OK(t, os.Symlink(outside, file)) }, "symbolic link"},
		{"dangling link", func(t *testing.T, file string) { t.Helper(); assert.OK(t, os.Symlink("gone", file)) }, "symbolic link"},
		{"fifo, which would make a reader wait", func(t *testing.T, file string) { t.Helper(); assert.OK(t, unix.Mkfifo(file, 0o644)) }, "not a regular file"},
		{"directory", func(t *testing.T, file string) { t.Helper(); assert.OK(t, os.Mkdir(file, 0o755)) }, "not a regular file"},
		{"too large", func(t *testing.T, file string) {
			t.Helper()
			write(t, file, safe+"\n#"+strings.Repeat("x", maxMarker))
		}, "larger than 64 KiB"},
		{"endless", func(t *testing.T, file string) {
			t.Helper()
			write(t, file, safe)
			assert.OK(t, os.Truncate(file, 1<<40))
		}, "larger than 64 KiB"},
		{"empty", func(t *testing.T, file string) { t.Helper(); write(t, file, "") }, "does not say rollback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.plant(t, filepath.Join(dir, MarkerName))
			m, err := ReadMarker(dir)
			if err == nil || m != nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), MarkerName) {
				t.Errorf("ReadMarker() = %+v, %v; want …%s…", m, err, c.err)
			}
		})
	}
}

func TestReadMarker(t *testing.T) {
	dir := t.TempDir()
	if m, err := ReadMarker(dir); m != nil || err != nil {
		t.Errorf("none: %+v, %v", m, err)
	}
	if m, err := ReadMarker(filepath.Join(dir, "gone")); m != nil || err != nil {
		t.Errorf("no release: %+v, %v", m, err)
	}
	pad := strings.Repeat("#", maxMarker-len("rollback = \"safe\"\n"))
	write(t, filepath.Join(dir, MarkerName), "rollback = \"safe\"\n"+pad)
	if m, err := ReadMarker(dir); err != nil || m.Rollback != Safe {
		t.Errorf("as large as it may be: %+v, %v", m, err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, "")
	if m, err := ReadMarker(file); err == nil {
		t.Errorf("below a file: %+v", m)
	}
}

func FuzzParseMarker(f *testing.F) {
	for _, s := range []string{
		`rollback = "safe"`, "rollback = \"blocked\"\nmigrations = [\"a.1\"]", `rollback = "none"`, "[a]\nrollback=1", "\xff", `"rollback" = "safe"`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMarker(text)
		if (m == nil) == (err == nil) {
			t.Fatalf("%+v, %v", m, err)
		}
		if err == nil && m.Rollback != Safe && m.Rollback != Blocked {
			t.Errorf("%q is understood as %+v", text, m)
		}
	})
}
