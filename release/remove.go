package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// trashName begins the names of what is being removed. It can't begin a version's, so that a process that dies here leaves
// no release that looks whole and is not.
const trashName = ".removing.deploygate"

// Trash is the directory of a release that is to be removed, under a name that no release has.
type Trash struct {
	Name     string  // below releases/
	Version  Version // "": a deploygate that didn't say it has left it
	Identity Identity
}

func trashOf(v Version) string { return trashName + "." + string(v) }

// Leftovers lists what removals that broke off have left, or what someone has put under such a name: a directory that is
// none has no identity.
func (t *Tree) Leftovers() ([]Trash, error) {
	entries, err := t.entries()
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", filepath.Join(t.root, releasesName), untrusted.Cause(err))
	}
	var left []Trash
	for _, e := range entries {
		rest, is := strings.CutPrefix(e.Name(), trashName)
		v, err := ParseVersion(strings.TrimPrefix(rest, "."))
		if !is || rest != "" && (err != nil || rest[0] != '.') {
			continue
		}
		trash := Trash{Name: e.Name(), Version: v}
		releases, err := t.openReleases()
		if err != nil {
			return nil, fmt.Errorf("cannot open %s: %w", filepath.Join(t.root, releasesName), untrusted.Cause(err))
		}
		trash.Identity, err = identify(int(releases.Fd()), e.Name())
		releases.Close()
		if err != nil && !errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("cannot look at %s: %w", t.trashPath(trash), err)
		}
		left = append(left, trash)
	}
	slices.SortFunc(left, func(a, b Trash) int { return strings.Compare(a.Name, b.Name) })
	return left, nil
}

func (t *Tree) trashPath(trash Trash) string { return filepath.Join(t.root, releasesName, trash.Name) }

// live says whether v's directory is what the live link leads to, by whichever name, and an error where that isn't known.
func (t *Tree) live(v Version) error {
	current, err := t.Current()
	if err != nil {
		return err
	}
	if v == current || sameFile(t.CurrentPath(), t.Dir(v)) {
		return fmt.Errorf("release %s is live and is not removed", v)
	}
	return nil
}

// SetAside is the first half of a removal: version's directory gets a name that no release has, and nothing of it is
// deleted yet, so that whoever comes to use it meanwhile can be looked for; then follows Delete or PutBack. The live one is
// never set aside, whatever the caller thinks, nor is any directory but the one whose identity is given.
func (t *Tree) SetAside(v Version, is Identity) (Trash, error) {
	trash := Trash{Name: trashOf(v), Version: v, Identity: is}
	cannot := func(err error) (Trash, error) {
		return Trash{}, fmt.Errorf("cannot remove release %s: %w", v, untrusted.Cause(err))
	}
	if err := t.live(v); err != nil {
		return Trash{}, err
	}
	releases, err := t.openReleases()
	if err != nil {
		return cannot(err)
	}
	defer releases.Close()
	fd := int(releases.Fd())
	if err := isStill(fd, string(v), is); err != nil {
		return cannot(err)
	}
	_, dangled := os.Stat(t.CurrentPath())
	if err := rename(fd, string(v), trash.Name); err != nil {
		return cannot(err)
	}
	// Someone without the lock may have changed either meanwhile.
	_, dangles := os.Stat(t.CurrentPath())
	current, err := t.Current()
	if err == nil {
		err = isStill(fd, trash.Name, is)
	}
	if err == nil && (current == v || dangled == nil && dangles != nil) {
		err = errors.New("it has just become live")
	}
	if err == nil {
		return trash, nil
	}
	if back := rename(fd, trash.Name, string(v)); back != nil {
		err = fmt.Errorf("%w, and it can't be put back (%w): it is %s", err, back, t.trashPath(trash))
	}
	return cannot(err)
}

// isStill says why a directory, open or by its name in an open one, is not the one that was looked at.
func isStill(fd int, name string, is Identity) error {
	now, err := identify(fd, name)
	if err == nil && now != is {
		err = errors.New("it is another directory than the one that was looked at")
	}
	return err
}

// PutBack undoes SetAside.
func (t *Tree) PutBack(trash Trash) error {
	releases, err := t.openReleases()
	if err == nil {
		defer releases.Close()
		err = rename(int(releases.Fd()), trash.Name, string(trash.Version))
	}
	if err != nil {
		return fmt.Errorf("cannot put release %s back: %w: it is %s", trash.Version, untrusted.Cause(err), t.trashPath(trash))
	}
	return nil
}

// rename gives a directory another name, and puts it in nothing's place.
func rename(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // NFS can't
		var s unix.Stat_t
		if err := unix.Fstatat(dir, to, &s, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.ENOENT) {
			if err == nil {
				err = unix.EEXIST
			}
			return fmt.Errorf("%s: %w", to, err)
		}
		return unix.Renameat(dir, from, dir, to)
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", to, err)
	}
	return err
}

// Delete is the second half of a removal. It never goes through a mount or onto another device, also if that appears while
// it runs: it stops there, and what is left is named by the next Leftovers.
func (t *Tree) Delete(ctx context.Context, trash Trash) error {
	cannot := func(err error) error {
		return fmt.Errorf("cannot remove all of release %s: %w; what is left is %s", orOld(trash.Version), err, t.trashPath(trash))
	}
	if sameFile(t.CurrentPath(), t.trashPath(trash)) {
		return cannot(errors.New("it is live"))
	}
	releases, err := t.openReleases()
	if err != nil {
		return cannot(untrusted.Cause(err))
	}
	defer releases.Close()
	d := &deletion{ctx: ctx}
	top, err := d.open(int(releases.Fd()), trash.Name)
	if err != nil {
		return cannot(err)
	}
	defer top.Close()
	if err := isStill(int(top.Fd()), "", trash.Identity); err != nil {
		return cannot(err)
	}
	if d.empty(top, ""); d.err != nil {
		return cannot(d.err)
	}
	if err := unix.Unlinkat(int(releases.Fd()), trash.Name, unix.AT_REMOVEDIR); err != nil {
		return cannot(err)
	}
	return nil
}

func orOld(v Version) string {
	if v == "" {
		return "of an earlier removal"
	}
	return string(v)
}

// deletion empties one directory.
type deletion struct {
	ctx           context.Context
	device, mount uint64 // of the directory
	err           error  // the first
	stop          bool   // there is a mount: someone uses what is being removed
}

func (d *deletion) failed(name string, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", name, err)
	}
}

var errMount = errors.New("a mount is there")

// open opens a directory below another one for reading; through no link, and nothing that a mount or another device has
// there. A bind mount has the same device, and a subvolume the same mount.
func (d *deletion) open(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	var s unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_MNT_ID, &s)
	device := unix.Mkdev(s.Dev_major, s.Dev_minor)
	switch {
	case err != nil:
	case s.Mask&unix.STATX_MNT_ID == 0:
		err = errors.New("the kernel doesn't tell where mounts are (Linux 5.8 and later do)")
	case d.mount == 0:
		d.device, d.mount = device, s.Mnt_id
	case s.Mnt_id != d.mount:
		err = errMount
	case device != d.device:
		err = errors.New("it is on another device")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// batch is how many entries are read at a time.
const batch = 1024

// empty deletes all that is in a directory. What can't be deleted stays, and the rest goes all the same.
func (d *deletion) empty(dir *os.File, name string) {
	fd := int(dir.Fd())
	for kept := map[string]bool{}; !d.stop; {
		// From the start each time: what is deleted while a directory is read may hide what is there.
		if _, err := dir.Seek(0, 0); err != nil {
			d.failed(name, err)
			return
		}
		names, _ := dir.Readdirnames(batch + len(kept))
		deleted := 0
		for _, entry := range names {
			if kept[entry] {
				continue
			}
			if d.ctx.Err() != nil {
				d.failed(path.Join(name, entry), context.Cause(d.ctx))
				d.stop = true
			}
			if d.stop {
				return
			}
			if err := d.entry(fd, entry, path.Join(name, entry)); err != nil {
				d.failed(path.Join(name, entry), err)
				kept[entry] = true
				continue
			}
			deleted++
		}
		if deleted == 0 {
			return
		}
	}
}

// entry deletes one entry of a directory.
func (d *deletion) entry(dir int, entry, name string) error {
	err := unix.Unlinkat(dir, entry, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EBUSY):
		d.stop = true // a mount on a file
		return errMount
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return err
	}
	below, openErr := d.open(dir, entry)
	if errors.Is(openErr, unix.ENOTDIR) || errors.Is(openErr, unix.ELOOP) {
		return err
	}
	if openErr != nil {
		d.stop = errors.Is(openErr, errMount)
		return openErr
	}
	d.empty(below, name)
	below.Close()
	if d.stop {
		return nil
	}
	err = unix.Unlinkat(dir, entry, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.EBUSY) {
		d.stop = true
		return errMount
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
