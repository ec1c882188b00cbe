package program

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindIgnoresThePathOfTheCaller(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "sh")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got := Find("sh"); got == "" || strings.HasPrefix(got, dir) {
		t.Errorf("found %q", got)
	}
	if got := Find("no-such-program-here"); got != "" {
		t.Errorf("found %q", got)
	}
	other := filepath.Join(dir, "deploygate-test-program")
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Find("deploygate-test-program", dir); got != other {
		t.Errorf("found %q", got)
	}
	for name, change := range map[string]func() error{
		"others may write it": func() error { return os.Chmod(other, 0o757) },
		"nobody may run it":   func() error { return os.Chmod(other, 0o644) },
		"it is a directory":   func() error { _ = os.Remove(other); return os.Mkdir(other, 0o755) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got := Find("deploygate-test-program", dir); got != "" {
			t.Errorf("%s: found %q", name, got)
		}
	}
}

func TestNothingOfTheEnvironmentIsPassedOn(t *testing.T) {
	t.Setenv("LD_PRELOAD", "/nowhere/evil.so")
	t.Setenv("PYTHONPATH", "/nowhere")
	cmd := Command(t.Context(), Find("env"))
	var out strings.Builder
	cmd.Stdout = &out
	if err := Run(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if name, _, _ := strings.Cut(line, "="); name != "PATH" && name != "LC_ALL" {
			t.Errorf("it has %s", line)
		}
	}
}

func TestHeadKeepsTheBeginning(t *testing.T) {
	const limit = 1000
	h := Head{Limit: limit}
	for range 3 {
		n, err := fmt.Fprint(&h, strings.Repeat("x", limit/2+1))
		if n != limit/2+1 || err != nil {
			t.Errorf("Write() = %d, %v: a short write would end the program that writes", n, err)
		}
	}
	if len(h.String()) != limit {
		t.Errorf("%d bytes were kept", len(h.String()))
	}
}
