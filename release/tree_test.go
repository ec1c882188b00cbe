package release

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/scripts/assert"
)

// layout makes a ROOT with whole releases and opens it.
func layout(t *testing.T, versions ...string) *Tree {
	t.Helper()
	root := t.TempDir()
	assert.OK(t, os.Mkdir(filepath.Join(root, releasesName), 0o755))
	for _, v := range versions {
		write(t, filepath.Join(root, releasesName, v, "manage.py"), v)
	}
	return open(t, root)
}

func open(t *testing.T, root string) *Tree {
	t.Helper()
	tree, err := Open(root)
	assert.OK(t, err)
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

func write(t *testing.T, file, text string) {
	t.Helper()
	assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.OK(t, os.WriteFile(file, []byte(text), 0o644))
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// check compares an error with the part that it must contain; "" is none.
func check(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want …%s…", err, want)
	}
}

func TestOpenWantsAnAbsoluteDirectoryThatExists(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, root := range []string{"", ".", "srv/app", file, filepath.Join(t.TempDir(), "gone")} {
		if tree, err := Open(root); err == nil {
			_ = tree.Close()
			t.Errorf("Open(%q) succeeded", root)
		}
	}
}

func TestCurrentIsADirectChildOfReleases(t *testing.T) {
	link := func(target string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			t.Helper()
			assert.OK(t, os.Symlink(strings.ReplaceAll(target, "ROOT", root), filepath.Join(root, currentName)))
		}
	}
	for _, c := range []struct {
		name  string
		plant func(*testing.T, string)
		want  Version
		err   string
	}{
		{name: "nothing yet", plant: func(*testing.T, string) {}},
		{name: "relative", plant: link("releases/v1"), want: "v1"},
		{name: "relative, untidy", plant: link("./releases//v1/"), want: "v1"},
		{name: "absolute", plant: link("ROOT/releases/v1"), want: "v1"},
		{name: "dangling", plant: link("releases/gone"), want: "gone"},
		{name: "no version", plant: link("releases/.v1"), err: "not a release"},
		{name: "releases itself", plant: link("releases"), err: "not a release"},
		{name: "ROOT itself", plant: link("."), err: "not a release"},
		{name: "below a release", plant: link("releases/v1/src"), err: "not a release"},
		{name: "beside releases", plant: link("v1"), err: "not a release"},
		{name: "outside, absolute", plant: link("/etc"), err: "not a release"},
		{name: "outside, relative", plant: link("../../etc"), err: "not a release"},
		{name: "outside, climbing", plant: link("releases/../../releases/v1"), err: "not a release"},
		{name: "hostile target is quoted", plant: link("\x1b[2J"), err: `\x1b[2J`},
		{name: "directory", plant: func(t *testing.T, root string) {
			t.Helper()
			assert.OK(t, os.Mkdir(filepath.Join(root, currentName), 0o755))
		}, err: "is a directory, not a symbolic link"},
		{name: "file", plant: func(t *testing.T, root string) {
			t.Helper()
			write(t, filepath.Join(root, currentName), "v1")
		}, err: "is a file, not a symbolic link"},
		{name: "fifo", plant: func(t *testing.T, root string) {
			t.Helper()
			assert.OK(t, unix.Mkfifo(filepath.Join(root, currentName), 0o644))
		}, err: "is a special file, not a symbolic link"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := layout(t, "v1")
			c.plant(t, tree.Root())
			v, err := tree.Current()
			check(t, err, c.err)
			if v != c.want {
				t.Errorf("Current() = %q, want %q", v, c.want)
			}
		})
	}
}

func TestCurrentUnderstandsATargetThroughAnotherNameOfRoot(t *testing.T) {
	tree := layout(t, "v1")
	alias := filepath.Join(t.TempDir(), "alias")
	assert.OK(t, os.Symlink(tree.Root(), alias))
	assert.OK(t, os.Symlink(filepath.Join(tree.Root(), "releases/v1"), tree.CurrentPath()))
	byAlias := open(t, alias)
	if v, err := byAlias.Current(); v != "v1" || err != nil {
		t.Errorf("Current() = %q, %v", v, err)
	}
	real, err := filepath.EvalSymlinks(tree.Dir("v1"))
	assert.OK(t, err)
	if dir, err := byAlias.RealDir("v1"); dir != real || err != nil {
		t.Errorf("RealDir() = %q, %v, want %q", dir, err, real)
	}
	_, err = byAlias.RealDir("gone")
	check(t, err, "cannot resolve")
}

func TestReleasesAreDirectoriesNamedLikeVersions(t *testing.T) {
	tree := layout(t, "v10", "v9", ".hidden", trashName, "with space")
	write(t, filepath.Join(tree.Root(), "releases/file"), "")
	assert.OK(t, os.Symlink("v9", filepath.Join(tree.Root(), "releases/link")))
	got, err := tree.Releases()
	assert.OK(t, err)
	if d := cmp.Diff([]Version{"v9", "v10"}, got); d != "" {
		t.Error(d)
	}
	assert.OK(t, os.RemoveAll(filepath.Join(tree.Root(), releasesName)))
	_, err = tree.Releases()
	check(t, err, "cannot list")
}

func TestInspectRefusesWhatCannotGoLive(t *testing.T) {
	for _, c := range []struct {
		name    string
		version Version
		require []string
		plant   func(t *testing.T, dir string)
		err     string
	}{
		{name: "whole", version: "v1", require: []string{"manage.py"}},
		{name: "nothing required", version: "v1"},
		{name: "missing, and what there is instead", version: "v7", err: "release v7 does not exist"},
		{name: "newest names are offered", version: "v7", err: "there are v1, v2"},
		{name: "partial", version: "v1", require: []string{"manage.py", "a.py", "b/c.py"}, err: "has no a.py, b/c.py"},
		{name: "partial below a file", version: "v1", require: []string{"manage.py/x"}, err: "has no manage.py/x"},
		{name: "required file leaves the release", version: "v1", require: []string{"../v2/manage.py"}, err: "leaves the release"},
		{name: "required file is absolute", version: "v1", require: []string{"/etc/passwd"}, err: "leaves the release"},
		{name: "required file is a link to what releases share", version: "v1", require: []string{"settings.py"}, plant: func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Symlink("../../shared/settings.py", filepath.Join(dir, "v1/settings.py")))
			write(t, filepath.Join(dir, "../shared/settings.py"), "")
		}},
		{name: "required file is a dangling link", version: "v1", require: []string{"settings.py"}, plant: func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Symlink("gone", filepath.Join(dir, "v1/settings.py")))
		}, err: "has no settings.py"},
		{name: "required file is a loop", version: "v1", require: []string{"settings.py"}, plant: func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Symlink("settings.py", filepath.Join(dir, "v1/settings.py")))
		}, err: "cannot read settings.py"},
		{name: "release is a link", version: "v3", plant: func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Symlink("v1", filepath.Join(dir, "v3")))
		}, err: "is a symbolic link; a release is a real directory"},
		{name: "release is a link out of ROOT", version: "v3", plant: func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Symlink("/etc", filepath.Join(dir, "v3")))
		}, err: "is a symbolic link; a release is a real directory"},
		{name: "release is a file", version: "v3", plant: func(t *testing.T, dir string) {
			t.Helper()
			write(t, filepath.Join(dir, "v3"), "")
		}, err: "is a file; a release is a real directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := layout(t, "v1", "v2")
			if c.plant != nil {
				c.plant(t, filepath.Join(tree.Root(), releasesName))
			}
			check(t, tree.Inspect(c.version, c.require), c.err)
		})
	}
}

func TestNothingIsReachedThroughALinkThatLeavesRoot(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "v1/manage.py"), "precious")
	root := t.TempDir()
	assert.OK(t, os.Symlink(outside, filepath.Join(root, releasesName)))
	tree := open(t, root)
	if vs, err := tree.Releases(); err == nil {
		t.Errorf("Releases() = %v", vs)
	}
	for name, do := range map[string]func() error{
		"Inspect": func() error { return tree.Inspect("v1", nil) },
		"Swap":    func() error { return tree.Swap("v1") },
		"Remove":  func() error { return remove(t, tree, "v1") },
	} {
		if err := do(); err == nil {
			t.Errorf("%s followed the link", name)
		}
	}
	if !exists(filepath.Join(outside, "v1/manage.py")) || exists(tree.CurrentPath()) {
		t.Error("something was changed")
	}
}

// target reads the live link as it is.
func target(t *testing.T, tree *Tree) string {
	t.Helper()
	to, err := os.Readlink(tree.CurrentPath())
	assert.OK(t, err)
	return to
}

func TestSwapWritesARelativeLink(t *testing.T) {
	tree := layout(t, "v1", "v2")
	for _, v := range []Version{"v1", "v2", "v2", "v1"} {
		assert.OK(t, tree.Swap(v))
		if got := target(t, tree); got != "releases/"+string(v) {
			t.Errorf("current → %q after Swap(%s)", got, v)
		}
		if exists(filepath.Join(tree.Root(), tempName)) {
			t.Error("the temporary link was left")
		}
	}
}

// After a power cut the boot has the reserved link in its place, and there may be no room for one more.
func TestSwapToWhatIsLiveNeedsNoLink(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v1"))
	write(t, filepath.Join(tree.Root(), tempName), "in the way")
	assert.OK(t, tree.Swap("v1"))
	if err := tree.Swap("v2"); err == nil {
		t.Error("a link was made although something is in its way")
	}
}

func TestSwapReplacesALeftoverTemporaryLink(t *testing.T) {
	tree := layout(t, "v1")
	outside := t.TempDir()
	assert.OK(t, os.Symlink(outside, filepath.Join(tree.Root(), tempName)))
	assert.OK(t, tree.Swap("v1"))
	if got := target(t, tree); got != "releases/v1" {
		t.Errorf("current → %q", got)
	}
	if !exists(outside) {
		t.Error("what the leftover pointed at is gone")
	}
}

func TestSwapThatCannotBeDoneChangesNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		to    Version
		plant func(t *testing.T, root string)
		err   string
	}{
		{"missing release", "gone", nil, "at gone: no such file"},
		{"release leads out of ROOT", "evil", func(t *testing.T, root string) {
			t.Helper()
			assert.OK(t, os.Symlink("/etc", filepath.Join(root, "releases/evil")))
		}, "evil is a symbolic link, not a release"},
		{"a file under the temporary name", "v2", func(t *testing.T, root string) {
			t.Helper()
			write(t, filepath.Join(root, tempName), "mine")
		}, "is in the way"},
		{"a directory under the temporary name", "v2", func(t *testing.T, root string) {
			t.Helper()
			write(t, filepath.Join(root, tempName, "file"), "mine")
		}, "is in the way"},
		{"current is a directory", "v2", func(t *testing.T, root string) {
			t.Helper()
			assert.OK(t, os.Remove(filepath.Join(root, currentName)))
			write(t, filepath.Join(root, currentName, "file"), "mine")
		}, "cannot point"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := layout(t, "v1", "v2")
			assert.OK(t, tree.Swap("v1"))
			if c.plant != nil {
				c.plant(t, tree.Root())
			}
			before := listing(t, tree.Root())
			check(t, tree.Swap(c.to), c.err)
			if d := cmp.Diff(before, listing(t, tree.Root())); d != "" {
				t.Error(d)
			}
		})
	}
}

// listing maps every file below root to its text or target.
func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	assert.OK(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		found[p] = e.Type().String()
		if to, err := os.Readlink(p); err == nil {
			found[p] = to
		} else if text, err := os.ReadFile(p); err == nil { //nolint:gosec // nobody else writes there
			found[p] = string(text)
		}
		return nil
	}))
	return found
}

func TestSwapIsAtomicForWhoeverReadsTheLink(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v1"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 40 {
			if err := tree.Swap([]Version{"v2", "v1"}[i%2]); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for {
		text, err := os.ReadFile(filepath.Join(tree.CurrentPath(), "manage.py"))
		if err != nil || string(text) != "v1" && string(text) != "v2" {
			t.Fatalf("a reader saw %q, %v", text, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestCanSwapChangesNothing(t *testing.T) {
	tree := layout(t, "v1")
	before := listing(t, tree.Root())
	assert.OK(t, tree.CanSwap())
	if d := cmp.Diff(before, listing(t, tree.Root())); d != "" {
		t.Error(d)
	}
	assert.OK(t, os.RemoveAll(tree.Root()))
	check(t, tree.CanSwap(), "cannot change")
}

func TestCanSwapSaysThatThereIsNoRight(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	tree := layout(t)
	assert.OK(t, os.Chmod(tree.Root(), 0o555))
	check(t, tree.CanSwap(), "permission denied")
}

func TestNothingElseIsTakenForARelease(t *testing.T) {
	tree := layout(t, "v1")
	assert.OK(t, tree.Swap("v1"))
	assert.OK(t, unix.Mkfifo(tree.Dir("fifo"), 0o644))
	write(t, tree.Dir("file"), "")
	for _, v := range []Version{"fifo", "file", ""} {
		check(t, tree.Swap(v), "cannot point")
		check(t, tree.Flush(v), "cannot write release")
	}
	if got := target(t, tree); got != "releases/v1" {
		t.Errorf("current is %s", got)
	}
}

func BenchmarkReleases(b *testing.B) {
	root := b.TempDir()
	for n := range 1000 {
		if err := os.MkdirAll(filepath.Join(root, releasesName, fmt.Sprintf("2026.11.%d-%07x", n, n*7919)), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	tree, err := Open(root)
	if err != nil {
		b.Fatal(err)
	}
	defer tree.Close()
	b.ReportAllocs()
	for b.Loop() {
		if vs, err := tree.Releases(); err != nil || len(vs) != 1000 {
			b.Fatal(len(vs), err)
		}
	}
}
