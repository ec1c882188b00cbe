package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
)

func TestWhetherATextIsNewer(t *testing.T) {
	const since = 1000
	stat := func(changed, written, made int64) *unix.Statx_t {
		st := &unix.Statx_t{Mask: unix.STATX_BASIC_STATS}
		st.Ctime.Sec, st.Mtime.Sec, st.Btime.Sec = changed, written, made
		if made != 0 {
			st.Mask |= unix.STATX_BTIME
		}
		return st
	}
	for name, c := range map[string]struct {
		st *unix.Statx_t
		at int64 // 0: it isn't
	}{
		"older":         {stat(900, 900, 900), 0},
		"written since": {stat(1100, 1100, 900), 1100},
		"written since, where births are unknown":  {stat(1100, 1100, 0), 1100},
		"put there since, with its old time":       {stat(1100, 500, 1100), 1100},
		"rights changed since":                     {stat(1100, 900, 900), 0},
		"rights changed since, births are unknown": {stat(1100, 900, 0), 0},
		"written before, with a time to come":      {stat(900, 5000, 900), 0},
		"written since, with a time to come":       {stat(1100, 5000, 900), 1100},
	} {
		at, is := newerThan(c.st, time.Unix(since, 0))
		if is != (c.at != 0) || is && at.Unix() != c.at {
			t.Errorf("%s: %v, %t", name, at, is)
		}
	}
}

func TestEnvironmentsAreCompared(t *testing.T) {
	want := map[string]string{"SECRET_KEY": "a", "HOSTS": "one two"}
	for environ, same := range map[string]bool{
		"SECRET_KEY=a\x00HOSTS=one two\x00PATH=/bin\x00INVOCATION_ID=x\x00RUNTIME_DIRECTORY=/run/g\x00": true,
		"SECRET_KEY=b\x00HOSTS=one two\x00":               false, // another value
		"SECRET_KEY=a\x00":                                false, // one that is new in the file
		"SECRET_KEY=a\x00HOSTS=one two\x00FEATURE=on\x00": false, // one that was in the file
	} {
		if got := sameVariables(environ, want); got != same {
			t.Errorf("%q: %t", environ, got)
		}
	}
}

// Code and settings count, and what the app writes while it runs doesn't.
func TestFilesOfARelease(t *testing.T) {
	dir := t.TempDir()
	v := evidence{}
	v.Release.Dir = dir
	v.Unit = diagnosis.Unit{State: gate.UnitState{Processes: []gate.Process{{Dir: dir + "/src"}}}}
	past := time.Now().Add(-time.Hour)
	edit := func(names ...string) {
		t.Helper()
		for _, name := range names {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	edit("project/__pycache__/a.py", "venv/lib/x.py", "own-venv/pyvenv.cfg", "own-venv/lib/x.py", "node_modules/a/setup.cfg", "media/upload.py",
		".git/hooks/x.py", ".migration-compat.toml", "logs/a.log", "db.sqlite3", "a.pyc", "notes.txt", "static/a.py", "project/a.py.swp", "data.json")
	if err := os.Symlink("/etc", filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	if file, _, more := v.editedRelease("", past); file != "" || more != 0 {
		t.Errorf("%s and %d more", file, more)
	}
	edit("gunicorn.conf.py", "src/project/settings.py", ".env", "pyproject.toml")
	file, at, more := v.editedRelease(filepath.Join(dir, "gunicorn.conf.py"), past)
	if !strings.HasPrefix(file, dir) || more != 2 || at.Before(past) {
		t.Errorf("%s at %s and %d more", file, at, more)
	}
	if file, _, _ := v.editedRelease("", time.Now().Add(time.Hour)); file != "" {
		t.Errorf("older: %s", file)
	}
	v.Unit.State.Processes[0].Dir = dir + "-old"
	if file, _, _ := v.editedRelease("", past); file != "" {
		t.Errorf("no process works in it: %s", file)
	}
}

func TestWhenAProcessWasStarted(t *testing.T) {
	at := processStart(os.Getpid())
	if age := time.Since(at); age < -tick || age > time.Hour {
		t.Errorf("this process is %s old", age)
	}
	if at := processStart(1 << 30); !at.IsZero() {
		t.Errorf("a process that isn't there: %s", at)
	}
}
