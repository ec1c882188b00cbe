package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"deploygate": main})
}

// The binary as people run it, on a machine without systemd.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// Nothing of the machine that the tests run on.
			const nobody = "unix:path=/nonexistent/bus"
			e.Setenv("DBUS_SYSTEM_BUS_ADDRESS", nobody)
			e.Setenv("DBUS_SESSION_BUS_ADDRESS", nobody)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // a second for each run otherwise
			return inWork(e.WorkDir)
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, errors.New("unknown")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "oneline": oneline, "tree": tree},
	})
}

// inWork lets the configurations of a script name its directory as $WORK.
func inWork(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.toml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "$WORK", dir)), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// exits runs a command and compares its exit code: exits CODE COMMAND…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit %d, want %d", got, want)
	}
}

// oneline asserts that something is one line, neither less nor more: oneline stdout|stderr
func oneline(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oneline stdout|stderr")
	}
	if text := ts.ReadFile(args[0]); strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") || text == "\n" {
		ts.Fatalf("not one line: %q", text)
	}
}

// tree lists everything below a directory in a file, to compare: tree DIR FILE
func tree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: tree DIR FILE")
	}
	var all strings.Builder
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			link, _ := os.Readlink(file)
			all.WriteString(strings.Join([]string{file, info.Mode().String(), info.ModTime().String(), link, "\n"}, " "))
		}
		return err
	}))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(all.String()), 0o600))
}
