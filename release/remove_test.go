package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/scripts/assert"
)

// remove removes a release as it is found.
func remove(t *testing.T, tree *Tree, v Version) error {
	t.Helper()
	id, err := tree.Identify(v)
	if err != nil {
		return err
	}
	trash, err := tree.SetAside(v, id)
	if err != nil {
		return err
	}
	return tree.Delete(t.Context(), trash)
}

// leftovers names what removals have left.
func leftovers(t *testing.T, tree *Tree) (names []string) {
	t.Helper()
	left, err := tree.Leftovers()
	assert.OK(t, err)
	for _, l := range left {
		names = append(names, l.Name)
	}
	return names
}

func TestRemovalDeletesOnlyThatRelease(t *testing.T) {
	tree := layout(t, "v1", "v2", "v3")
	outside := t.TempDir()
	write(t, filepath.Join(outside, "file"), "precious")
	assert.OK(t, os.Symlink(outside, filepath.Join(tree.Dir("v1"), "media")))
	assert.OK(t, os.Link(filepath.Join(tree.Dir("v2"), "manage.py"), filepath.Join(tree.Dir("v1"), "shared.py")))
	assert.OK(t, unix.Mkfifo(filepath.Join(tree.Dir("v1"), "fifo"), 0o600))
	for n := range batch + 100 { // more than are read at a time
		write(t, filepath.Join(tree.Dir("v1"), "many", fmt.Sprint(n)), "")
	}
	assert.OK(t, tree.Swap("v3"))
	assert.OK(t, remove(t, tree, "v1"))
	left, err := tree.Releases()
	assert.OK(t, err)
	if d := cmp.Diff([]Version{"v2", "v3"}, left); d != "" {
		t.Error(d)
	}
	if !exists(filepath.Join(outside, "file")) || !exists(filepath.Join(tree.Dir("v2"), "manage.py")) {
		t.Error("a link in the release was followed")
	}
	if left := leftovers(t, tree); left != nil {
		t.Errorf("left: %q", left)
	}
	check(t, remove(t, tree, "v1"), "cannot look at release v1")
}

// Under the name is another directory, or none, than the one that was looked at.
func TestOnlyWhatWasLookedAtIsRemoved(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, dir string){
		"uploaded again": func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.RemoveAll(dir))
			write(t, filepath.Join(dir, "manage.py"), "again")
		},
		"a link to another release": func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.RemoveAll(dir))
			assert.OK(t, os.Symlink("v2", dir))
		},
		"a link to itself under another name": func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Rename(dir, dir+"-moved"))
			assert.OK(t, os.Symlink("v1-moved", dir))
		},
		"a file": func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.RemoveAll(dir))
			write(t, dir, "")
		},
		"nothing": func(t *testing.T, dir string) { t.Helper(); assert.OK(t, os.RemoveAll(dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			tree := layout(t, "v1", "v2", "v3")
			assert.OK(t, tree.Swap("v3"))
			id, err := tree.Identify("v1")
			assert.OK(t, err)
			replace(t, tree.Dir("v1"))
			before := listing(t, tree.Root())
			_, err = tree.SetAside("v1", id)
			check(t, err, "cannot remove release v1")
			if d := cmp.Diff(before, listing(t, tree.Root())); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDeleteIsOfWhatWasSetAside(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	id, err := tree.Identify("v1")
	assert.OK(t, err)
	trash, err := tree.SetAside("v1", id)
	assert.OK(t, err)
	dir := filepath.Join(tree.Root(), releasesName, trash.Name)
	assert.OK(t, os.Rename(dir, dir+"-moved"))
	write(t, filepath.Join(dir, "file"), "someone's")
	check(t, tree.Delete(t.Context(), trash), "it is another directory than the one that was looked at")
	if !exists(filepath.Join(dir, "file")) || !exists(filepath.Join(dir+"-moved", "manage.py")) {
		t.Error("something is gone")
	}
}

func TestTheLiveReleaseIsNeverRemoved(t *testing.T) {
	for name, link := range map[string]func(t *testing.T, tree *Tree){
		"relative": func(t *testing.T, tree *Tree) {
			t.Helper()
			assert.OK(t, os.Symlink("releases/v1", tree.CurrentPath()))
		},
		"absolute": func(t *testing.T, tree *Tree) {
			t.Helper()
			assert.OK(t, os.Symlink(tree.Dir("v1"), tree.CurrentPath()))
		},
		"unknown": func(t *testing.T, tree *Tree) { t.Helper(); assert.OK(t, os.Symlink("/etc", tree.CurrentPath())) },
		"by another name": func(t *testing.T, tree *Tree) {
			t.Helper()
			assert.OK(t, os.Symlink("v1", filepath.Join(tree.Root(), "releases/stable")))
			assert.OK(t, os.Symlink("releases/stable", tree.CurrentPath()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := layout(t, "v1")
			link(t, tree)
			before := listing(t, tree.Root())
			if err := remove(t, tree, "v1"); err == nil {
				t.Error("it was removed")
			}
			if d := cmp.Diff(before, listing(t, tree.Root())); d != "" {
				t.Error(d)
			}
		})
	}
}

// Someone changes the live link all the time, without a lock: what it leads to is there, at whatever moment.
func TestARemovalBesideSwaps(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 60 {
			_ = tree.Swap([]Version{"v1", "v2"}[i%2]) // of one that is set aside it fails
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		id, err := tree.Identify("v1")
		if err != nil {
			continue
		}
		if trash, err := tree.SetAside("v1", id); err == nil {
			assert.OK(t, tree.PutBack(trash))
		}
	}
	for _, v := range []string{"v1", "v2"} {
		if !exists(filepath.Join(tree.Root(), releasesName, v, "manage.py")) {
			t.Errorf("%s is gone: %q", v, leftovers(t, tree))
		}
	}
}

func TestPutBackRestoresIt(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	before := listing(t, tree.Root())
	id, err := tree.Identify("v1")
	assert.OK(t, err)
	trash, err := tree.SetAside("v1", id)
	assert.OK(t, err)
	if exists(tree.Dir("v1")) {
		t.Error("it is still there")
	}
	if left := leftovers(t, tree); len(left) != 1 || left[0] != trashName+".v1" {
		t.Errorf("leftovers %q", left)
	}
	assert.OK(t, tree.PutBack(trash))
	if d := cmp.Diff(before, listing(t, tree.Root())); d != "" {
		t.Error(d)
	}
	trash, err = tree.SetAside("v1", id)
	assert.OK(t, err)
	write(t, tree.Dir("v1"), "uploaded meanwhile")
	check(t, tree.PutBack(trash), "cannot put release v1 back")
	if text, _ := os.ReadFile(tree.Dir("v1")); string(text) != "uploaded meanwhile" {
		t.Errorf("it is %q now", text)
	}
}

// Nothing is put in the place of what has the name already.
func TestSetAsideReplacesNothing(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	assert.OK(t, os.Mkdir(filepath.Join(tree.Root(), releasesName, trashName+".v1"), 0o700))
	check(t, remove(t, tree, "v1"), "cannot remove release v1: .removing.deploygate.v1: file exists")
	if !exists(filepath.Join(tree.Dir("v1"), "manage.py")) {
		t.Error("it is gone")
	}
}

func TestLeftovers(t *testing.T) {
	tree := layout(t, "v1", trashName, trashName+".v7", trashName+".v-8_", trashName+"x", trashName+".", trashName+"..v1", ".removing")
	write(t, filepath.Join(tree.Root(), releasesName, trashName+".file"), "")
	left, err := tree.Leftovers()
	assert.OK(t, err)
	var got []string
	for _, l := range left {
		got = append(got, fmt.Sprintf("%s of %s, a directory: %t", l.Name, l.Version, l.Identity != Identity{}))
	}
	if d := cmp.Diff([]string{
		".removing.deploygate of , a directory: true", ".removing.deploygate.file of file, a directory: false",
		".removing.deploygate.v-8_ of v-8_, a directory: true", ".removing.deploygate.v7 of v7, a directory: true",
	}, got); d != "" {
		t.Error(d)
	}
}

// What can't be deleted stays, is named, and keeps nothing else from going.
func TestARemovalThatFailsHalfWay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a file that can't be deleted takes root to make")
	}
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	stubborn := filepath.Join(tree.Dir("v1"), "a/b/stubborn")
	write(t, stubborn, "")
	write(t, filepath.Join(tree.Dir("v1"), "z/file"), "")
	immutable(t, stubborn, true)
	err := remove(t, tree, "v1")
	stubborn = filepath.Join(tree.Root(), releasesName, trashName+".v1/a/b/stubborn")
	immutable(t, stubborn, false)
	check(t, err, "cannot remove all of release v1: a/b/stubborn: operation not permitted; what is left is "+tree.Root())
	left, err := tree.Leftovers()
	assert.OK(t, err)
	if len(left) != 1 || !exists(stubborn) || exists(filepath.Join(tree.Root(), releasesName, trashName+".v1/z")) {
		t.Errorf("left: %v", listing(t, tree.Root()))
	}
	assert.OK(t, tree.Delete(t.Context(), left[0])) // the next time it can be
	if left := leftovers(t, tree); left != nil {
		t.Errorf("left: %q", left)
	}
}

func immutable(t *testing.T, file string, on bool) {
	t.Helper()
	f, err := os.Open(file)
	assert.OK(t, err)
	defer f.Close()
	const flag = 0x10 // FS_IMMUTABLE_FL
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		if flags &^= flag; on {
			flags |= flag
		}
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	if err != nil {
		t.Skipf("no immutable files here: %v", err)
	}
}

// inOwnMounts runs the rest of a test where its mounts are seen by nobody else.
func inOwnMounts(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting takes root")
	}
	runtime.LockOSThread() // the thread ends with the test
	if err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
}

// A mount that appears after every look stops the removal where it is: nothing behind it is deleted.
func TestARemovalNeverGoesThroughAMount(t *testing.T) {
	for name, mount := range map[string]func(at, uploads string) error{
		"bind":  func(at, uploads string) error { return unix.Mount(uploads, at, "", unix.MS_BIND, "") },
		"tmpfs": func(at, _ string) error { return unix.Mount("tmpfs", at, "tmpfs", 0, "") },
	} {
		for _, where := range []string{"", "media", "a/b/c"} {
			t.Run(name+" at "+where, func(t *testing.T) {
				inOwnMounts(t)
				tree := layout(t, "v1", "v2")
				assert.OK(t, tree.Swap("v2"))
				uploads := t.TempDir()
				write(t, filepath.Join(uploads, "photo"), "precious")
				assert.OK(t, os.MkdirAll(filepath.Join(tree.Dir("v1"), where), 0o755))
				id, err := tree.Identify("v1")
				assert.OK(t, err)
				trash, err := tree.SetAside("v1", id)
				assert.OK(t, err)
				at := filepath.Join(tree.Root(), releasesName, trash.Name, where)
				assert.OK(t, mount(at, uploads))
				defer func() { assert.OK(t, unix.Unmount(at, 0)) }()
				write(t, filepath.Join(at, "new"), "precious")
				err = tree.Delete(t.Context(), trash)
				check(t, err, map[bool]string{true: "another directory", false: where + ": a mount is there"}[where == ""])
				if !exists(filepath.Join(at, "new")) || !exists(filepath.Join(uploads, "photo")) {
					t.Error("something behind the mount is gone")
				}
			})
		}
	}
}

func TestARemovalStopsAtAMountedFile(t *testing.T) {
	inOwnMounts(t)
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "precious")
	at := filepath.Join(tree.Dir("v1"), ".env")
	write(t, at, "")
	assert.OK(t, unix.Mount(secret, at, "", unix.MS_BIND, ""))
	err := remove(t, tree, "v1")
	assert.OK(t, unix.Unmount(filepath.Join(tree.Root(), releasesName, trashName+".v1/.env"), 0))
	check(t, err, ".env: a mount is there")
	if !exists(secret) {
		t.Error("the file is gone")
	}
}

func TestARemovalEndsWithItsContext(t *testing.T) {
	tree := layout(t, "v1", "v2")
	assert.OK(t, tree.Swap("v2"))
	id, err := tree.Identify("v1")
	assert.OK(t, err)
	trash, err := tree.SetAside("v1", id)
	assert.OK(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted by SIGTERM"))
	check(t, tree.Delete(ctx, trash), "interrupted by SIGTERM; what is left is")
	if left := leftovers(t, tree); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

func TestIdentities(t *testing.T) {
	for _, c := range []struct {
		name        string
		a, b        Identity
		same, known bool
	}{
		{"one", Identity{8, 12, 1000, ""}, Identity{8, 12, 1000, ""}, true, true},
		{"its device has another number since the host booted", Identity{8, 12, 1000, ""}, Identity{259, 12, 1000, ""}, true, true},
		{"its number was given again", Identity{8, 12, 1000, ""}, Identity{8, 12, 2000, ""}, false, true},
		{"another one", Identity{8, 12, 1000, ""}, Identity{8, 13, 1000, ""}, false, true},
		{"no birth is known", Identity{8, 12, 0, ""}, Identity{8, 12, 0, ""}, true, false},
		{"not of both", Identity{8, 12, 1000, ""}, Identity{8, 12, 0, ""}, false, false},
		{"another one without a birth", Identity{8, 12, 0, ""}, Identity{8, 13, 0, ""}, false, true},
		{"by its handle", Identity{8, 12, 0, "0c01"}, Identity{9, 12, 0, "0c01"}, true, true},
		{"another handle", Identity{8, 12, 0, "0c01"}, Identity{8, 12, 0, "0c02"}, false, true},
		{"a handle, and a birth", Identity{8, 12, 0, "0c01"}, Identity{8, 12, 1000, ""}, false, false},
		{"nothing is known", Identity{}, Identity{8, 12, 1000, ""}, false, false},
	} {
		if same, known := c.a.Is(c.b); known != c.known || known && same != c.same {
			t.Errorf("%s: %t, known: %t", c.name, same, known)
		}
	}
}

func TestADirectoryKeepsItsIdentityWhateverItIsCalled(t *testing.T) {
	tree := layout(t, "v1", "v2")
	id, err := tree.Identify("v1")
	assert.OK(t, err)
	assert.OK(t, os.Rename(tree.Dir("v1"), filepath.Join(tree.Root(), "backup")))
	_, err = tree.Identify("v1")
	check(t, err, "no such file")
	assert.OK(t, os.Rename(filepath.Join(tree.Root(), "backup"), tree.Dir("v1")))
	if now, err := tree.Identify("v1"); err != nil || now != id {
		t.Errorf("%+v, %v; it was %+v", now, err, id)
	}
	assert.OK(t, os.RemoveAll(tree.Dir("v1")))
	write(t, filepath.Join(tree.Dir("v1"), "manage.py"), "v1")
	now, err := tree.Identify("v1")
	assert.OK(t, err)
	if same, known := id.Is(now); id.Born != 0 && (same || !known) {
		t.Errorf("uploaded again it is taken for what it was: %+v, %+v", id, now)
	}
	assert.OK(t, os.Symlink("v1", tree.Dir("link")))
	_, err = tree.Identify("link")
	check(t, err, "not a directory")
}

func TestChangedAfter(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string
	}{
		"nothing":  {func(*testing.T, string) {}, ""},
		"replaced": {func(t *testing.T, dir string) { t.Helper(); write(t, filepath.Join(dir, "a/b/c.py"), "corrected") }, "a/b/c.py"},
		"with the time that it had elsewhere": {func(t *testing.T, dir string) {
			t.Helper()
			write(t, filepath.Join(dir, "new.py"), "")
			assert.OK(t, os.Chtimes(filepath.Join(dir, "new.py"), time.Time{}, time.Unix(1, 0)))
		}, "new.py"},
		"compiled": {func(t *testing.T, dir string) { t.Helper(); write(t, filepath.Join(dir, "a/__pycache__/c.pyc"), "") }, ""},
		"linked to by the next release": {func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Link(filepath.Join(dir, "manage.py"), filepath.Join(dir, "../v2/copy.py")))
		}, ""},
		"a link": {func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Symlink("/etc", filepath.Join(dir, "a/etc")))
		}, "a/etc"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := layout(t, "v1", "v2")
			write(t, filepath.Join(tree.Dir("v1"), "a/b/c.py"), "")
			var now time.Time
			for deadline := time.Now().Add(5 * time.Second); ; { // the kernel's clock ticks
				probe := filepath.Join(t.TempDir(), "tick")
				write(t, probe, "")
				info, err := os.Stat(probe)
				assert.OK(t, err)
				if now.IsZero() {
					now = info.ModTime()
				}
				if info.ModTime().After(now) || time.Now().After(deadline) {
					break
				}
			}
			c.change(t, tree.Dir("v1"))
			if got := tree.ChangedAfter("v1", now); got != c.want {
				t.Errorf("%q was changed, want %q", got, c.want)
			}
		})
	}
	if got := layout(t).ChangedAfter("gone", time.Time{}); got != "" {
		t.Errorf("%q", got)
	}
}
