package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A path leads where it will once the link names the other release, also by links within the releases.
func TestPathsLeadToTheRelease(t *testing.T) {
	root := t.TempDir()
	current := filepath.Join(root, "current")
	v1, v2 := filepath.Join(root, "releases/v1"), filepath.Join(root, "releases/v2")
	put := func(file, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, at string) {
		t.Helper()
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	put(root+"/shared/media/a", "", 0o644)
	for _, dir := range []string{v1, v2} {
		put(dir+"/manage.py", "", 0o644)
		link("../../shared/media", dir+"/media")
		put(dir+"/bin/plain", "#!/bin/sh\n", 0o644)
		put(dir+"/bin/moved", "#!/nowhere/python3 -u\n", 0o755)
		put(dir+"/bin/env", "#!/usr/bin/env nosuchpython\n", 0o755)
		put(dir+"/bin/env-options", "#!/usr/bin/env -S nosuchpython\n", 0o755)
		put(dir+"/bin/binary", "\x7fELF", 0o755)
	}
	put(v1+"/.env", "", 0o644)
	put(v1+"/venv/bin/python3", "\x7fELF", 0o755)
	put(v1+"/bin/own", "#!"+current+"/venv/bin/python3\n", 0o755)
	put(v2+"/bin/own", "#!"+current+"/venv/bin/python3\n", 0o755)
	link(current+"/venv", v2+"/environment")  // leads to v1 today, and to itself's neighbour then
	link(current+"/circle", v2+"/circle")     // a loop
	link("../../shared/uploads", v2+"/files") // nowhere
	link("releases/v1", current)

	for _, c := range []struct{ path, live, next string }{
		{"/.env", "", "does not exist"},
		{"/media/a", "", ""},
		{"/media/../manage.py", "does not exist", "does not exist"}, // .. is that of the shared directory
		{"/environment", "does not exist", "leads to " + v2 + "/venv, which does not exist"},
		{"/circle", "does not exist", "is a link that leads to itself"},
		{"/files", "does not exist", "leads to " + root + "/shared/uploads, which does not exist"},
		{"/manage.py/x", "does not exist", "does not exist"},
	} {
		for to, want := range map[string]string{v1: c.live, v2: c.next} {
			f := pathfinder{links: []string{current}, to: to}
			got := f.find(current + c.path).problem
			if c.path == "/media/../manage.py" {
				got = f.find(f.find(current+"/media").path + "/../manage.py").problem
			}
			if got != want {
				t.Errorf("%s for %s: %q, want %q", c.path, filepath.Base(to), got, want)
			}
		}
	}
	dirs := []string{"/usr/bin", "/bin"}
	for _, c := range []struct{ path, want string }{
		{"/bin/plain", "is not executable"},
		{"/bin/moved", "is there, but its interpreter /nowhere/python3 does not exist"},
		{"/bin/env", "is there, but its interpreter nosuchpython is not in the PATH"},
		{"/bin/env-options", ""},
		{"/bin/binary", ""},
		{"/bin", "is a directory"},
		{"/bin/own", "is there, but its interpreter " + current + "/venv/bin/python3 does not exist"},
	} {
		f := pathfinder{links: []string{current}, to: v2}
		if got := f.program(current+c.path, dirs); got != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	live := pathfinder{links: []string{current}, to: v1}
	if got := live.program(current+"/bin/own", dirs); got != "" {
		t.Errorf("the live release's own: %q", got)
	}
	for path, want := range map[string]string{current: ".", current + "/a/../b": "b", current + "-old": "", "current/a": "", root + "/shared": ""} {
		if rest, is := live.below(path); rest != want || is != (want != "") {
			t.Errorf("%s: %q, %t", path, rest, is)
		}
	}
	link(current+"/.env", root+"/shop.env")
	next := pathfinder{links: []string{current}, to: v2}
	for path, want := range map[string]string{root + "/shop.env": ".env", root + "/shared/media/a": "", current + "/media": "media"} {
		if rest, is := next.through(path); is != (want != "") || is && rest != want {
			t.Errorf("%s: %q, %t", path, rest, is)
		}
	}
	if strings.Contains(live.directory(current+"/bin"), "not") || live.directory(current+"/manage.py") != "is not a directory" {
		t.Error("directories are not told from files")
	}
}
