package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/release/deploy"
	"deploygate/scripts/assert"
)

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, want, err string }{
		{"/srv/app/venv/bin/python", "/srv/app/venv/bin/python", ""},
		{"/nowhere/at/all", "/nowhere/at/all", ""}, // systemd says what is wrong with it
		{"./manage.py", filepath.Join(dir, "manage.py"), ""},
		{"bin/run", filepath.Join(dir, "bin/run"), ""},
		{"no-such-program", "", "there is no program no-such-program"},
	} {
		got, err := findProgram(c.name, dir)
		if c.err == "" {
			assert.OK(t, err)
		} else if err == nil || err.Error() != c.err {
			t.Errorf("%s: error %v", c.name, err)
		}
		assert.Equal(t, c.name, got, c.want)
	}
	// It isn't looked for in PATH, which may be anybody's, nor in the release.
	assert.OK(t, os.WriteFile(filepath.Join(dir, "own-program"), nil, 0o700))
	t.Setenv("PATH", dir)
	if got, err := findProgram("own-program", dir); err == nil {
		t.Errorf("found %s", got)
	}
	got, err := findProgram("sh", dir)
	assert.OK(t, err)
	if !filepath.IsAbs(got) || strings.HasPrefix(got, dir) {
		t.Errorf("sh is %s", got)
	}
}

func TestRunnerWithoutProgram(t *testing.T) {
	err := runner{app: "shop"}.Run(t.Context(), deploy.Task{Run: []string{"no-such-program"}, Dir: t.TempDir()})
	if err == nil || err.Error() != "there is no program no-such-program" {
		t.Errorf("error %v", err)
	}
}
