// Package release is the directory layout of one app: ROOT/releases/VERSION and the live link ROOT/current.
//
// Guaranteed: every name is checked before it becomes a path; nothing below ROOT is reached through a link that
// leaves ROOT (os.Root); the link changes atomically and durably, so that at any instant, also after a power cut,
// it names either the old release or the new one.
//
// Not guaranteed: that a release's files stay as they are (whoever may write to releases/ may change them), and
// that two processes don't swap at the same time: the journal's lock is for that.
package release

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

const (
	currentName  = "current"
	releasesName = "releases"
	// tempName is fixed, so that a process that died in the middle of a swap leaves at most one stale link,
	// which the next swap takes away.
	tempName = ".current.deploygate"
	// reservedPrefix and a version name a link to that release that a swap can use without a new inode.
	reservedPrefix = ".current.deploygate-"
)

// Tree is one app's ROOT.
type Tree struct {
	root string
	dir  *os.Root
}

// Open opens the layout below root, an absolute path.
func Open(root string) (*Tree, error) {
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("root %q is not an absolute path", root)
	}
	if _, err := untrusted.Stat(root); err != nil { // which ends, whatever its file system does
		return nil, fmt.Errorf("cannot open root %s: %w", root, untrusted.Cause(err))
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open root %s: %w", root, untrusted.Cause(err))
	}
	return &Tree{root: filepath.Clean(root), dir: dir}, nil
}

// Close frees the handle on ROOT.
func (t *Tree) Close() error { return t.dir.Close() }

// Root is the path of the layout, as configured.
func (t *Tree) Root() string { return t.root }

// CurrentPath is the path of the live link.
func (t *Tree) CurrentPath() string { return filepath.Join(t.root, currentName) }

// Dir is the path of version's directory, which need not exist.
func (t *Tree) Dir(v Version) string { return filepath.Join(t.root, releasesName, string(v)) }

// RealDir is Dir with every link of ROOT resolved, as a process's working directory shows it.
func (t *Tree) RealDir(v Version) (string, error) {
	dir, err := untrusted.EvalSymlinks(t.Dir(v))
	if err != nil {
		return "", fmt.Errorf("cannot resolve %s: %w", t.Dir(v), untrusted.Cause(err))
	}
	return dir, nil
}

// Current reads the live link. There may be none yet: "" and no error. A real file or directory in its place, or a
// link that leads anywhere but to a direct child of releases/, is an error. The release it names need not exist.
func (t *Tree) Current() (Version, error) {
	info, err := t.dir.Lstat(currentName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("cannot read %s: %w", t.CurrentPath(), untrusted.Cause(err))
	case info.Mode()&fs.ModeSymlink == 0:
		return "", fmt.Errorf("%s is a %s, not a symbolic link; move it to %s/VERSION and link to it",
			t.CurrentPath(), kind(info), filepath.Join(t.root, releasesName))
	}
	target, err := t.dir.Readlink(currentName)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", t.CurrentPath(), untrusted.Cause(err))
	}
	v, ok := t.versionOf(target)
	if !ok {
		return "", fmt.Errorf("%s points to %q, which is not a release below %s",
			t.CurrentPath(), target, filepath.Join(t.root, releasesName))
	}
	return v, nil
}

// versionOf understands the relative target that Swap writes, and the absolute one that other tools write.
func (t *Tree) versionOf(target string) (Version, bool) {
	if !filepath.IsAbs(target) {
		target = filepath.Join(t.root, target)
	}
	parent, name := filepath.Split(filepath.Clean(target))
	releases := filepath.Join(t.root, releasesName)
	if parent = filepath.Clean(parent); parent != releases {
		real, err := untrusted.EvalSymlinks(parent)
		want, wantErr := untrusted.EvalSymlinks(releases)
		if err != nil || wantErr != nil || real != want {
			return "", false
		}
	}
	v, err := ParseVersion(name)
	return v, err == nil
}

// Releases lists the directories below releases/ whose names are versions, ordered by Compare. Anything else there
// (files, links, dot-directories) is not a release and is left out.
func (t *Tree) Releases() ([]Version, error) {
	entries, err := t.entries()
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", filepath.Join(t.root, releasesName), untrusted.Cause(err))
	}
	var vs []Version
	for _, e := range entries {
		if v, err := ParseVersion(e.Name()); err == nil && e.IsDir() {
			vs = append(vs, v)
		}
	}
	Sort(vs)
	return vs, nil
}

// entries reads the directory releases/. What os.Root opens stats each entry; by a descriptor of its own the same
// directory says by itself which are directories.
func (t *Tree) entries() ([]fs.DirEntry, error) {
	d, err := t.openReleases()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := unix.FcntlInt(d.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	same := os.NewFile(uintptr(fd), d.Name())
	defer same.Close()
	return same.ReadDir(-1)
}

func (t *Tree) openReleases() (*os.File, error) {
	return t.dir.OpenFile(releasesName, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// Inspect says why version can't be made live: it is missing, not a real directory, or lacks one of the required
// files (paths relative to the release; they may be links to what releases share).
func (t *Tree) Inspect(v Version, require []string) error {
	info, err := t.lookAt(v)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("release %s does not exist: there is no %s%s", v, t.Dir(v), t.present())
	case err != nil:
		return fmt.Errorf("cannot read release %s: %w", v, untrusted.Cause(err))
	case !info.IsDir():
		return fmt.Errorf("%s is a %s; a release is a real directory", t.Dir(v), kind(info))
	}
	var missing []string
	for _, name := range require {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("required file %q leaves the release; use a path relative to it", name)
		}
		switch _, err := untrusted.Stat(filepath.Join(t.Dir(v), name)); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			missing = append(missing, name)
		case err != nil:
			return fmt.Errorf("cannot read %s of release %s: %w", name, v, untrusted.Cause(err))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("release %s is partial: %s has no %s; upload it again", v, t.Dir(v), strings.Join(missing, ", "))
	}
	return nil
}

// lookAt is Lstat of version's directory. A file system may be mounted there that doesn't answer.
func (t *Tree) lookAt(v Version) (fs.FileInfo, error) {
	return untrusted.Within(t.Dir(v), func() (fs.FileInfo, error) { return t.dir.Lstat(path.Join(releasesName, string(v))) })
}

// present helps after a mistyped version: it names the newest releases that are there.
func (t *Tree) present() string {
	vs, err := t.Releases()
	if err != nil || len(vs) == 0 {
		return ""
	}
	const show = 5
	var names []string
	for _, v := range vs[max(0, len(vs)-show):] {
		names = append(names, string(v))
	}
	if more := len(vs) - len(names); more > 0 {
		return fmt.Sprintf("; there are %s and %d more", strings.Join(names, ", "), more)
	}
	return "; there are " + strings.Join(names, ", ")
}

// CanSwap says why the link could not be changed: no right to write in ROOT, or a read-only file system. It changes
// nothing, so it can't know of a disk that is full.
func (t *Tree) CanSwap() error {
	_, err := untrusted.Within(t.root, func() (struct{}, error) { return struct{}{}, unix.Access(t.root, unix.W_OK|unix.X_OK) })
	if err != nil {
		return fmt.Errorf("cannot change %s: %s: %w", t.CurrentPath(), t.root, err)
	}
	return nil
}

// Swap points the live link at version, unless it does already: a new link under a temporary name, renamed over the old one.
// Then the directory is fsynced.
//
// After an error the link may be old or new: rename(2) is atomic, but the fsync after it can fail. Ask Current.
func (t *Tree) Swap(v Version) error {
	d, err := t.openRelease(v)
	if err != nil {
		return fmt.Errorf("cannot point %s at %s: %w", t.CurrentPath(), v, err)
	}
	d.Close()
	if info, err := t.dir.Lstat(currentName); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("cannot point %s at %s: it is a %s, not a symbolic link", t.CurrentPath(), v, kind(info))
	}
	// Where it points there already, nothing is renamed: a link more may have no room. That it was written to disk isn't known.
	if current, err := t.Current(); err != nil || current != v {
		if err := t.rename(v); err != nil {
			return err
		}
	}
	root, err := t.dir.Open(".")
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", t.root, untrusted.Cause(err))
	}
	defer root.Close()
	if err := root.Sync(); err != nil {
		return fmt.Errorf("cannot write %s to disk: %w", t.root, untrusted.Cause(err))
	}
	return nil
}

// rename puts a link to version in the place of the live one: one that Reserve made, or a new one.
func (t *Tree) rename(v Version) error {
	link := t.reserved(v)
	if link == "" {
		link = tempName
		if err := t.replaceLink(link, v); err != nil {
			return err
		}
	}
	if err := t.dir.Rename(link, currentName); err != nil {
		_ = t.removeLink(tempName)
		return fmt.Errorf("cannot point %s at %s: %w", t.CurrentPath(), v, untrusted.Cause(err))
	}
	return nil
}

// Flush writes version's files to disk, so that a power cut after a swap can't leave the link on empty ones.
func (t *Tree) Flush(v Version) error {
	d, err := t.openRelease(v)
	if err != nil {
		return fmt.Errorf("cannot write release %s to disk: %w", v, err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("cannot write release %s to disk: %w", v, err)
	}
	return nil
}

// openRelease opens version's directory, and nothing else that may have been put in its place: a link may lead
// elsewhere, and opening a fifo would wait for ever.
func (t *Tree) openRelease(v Version) (*os.File, error) {
	name := path.Join(releasesName, string(v))
	info, err := t.dir.Lstat(name)
	if err != nil {
		return nil, untrusted.Cause(err)
	}
	if v == "" || !info.IsDir() {
		return nil, fmt.Errorf("%s is a %s, not a release", t.Dir(v), kind(info))
	}
	d, err := t.dir.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, untrusted.Cause(err)
	}
	return d, nil
}

// Reserve makes sure that a later Swap to any of some versions needs no new inode and no new block: on a disk that has
// become full meanwhile a rename still works. Free gives back what is not used.
func (t *Tree) Reserve(versions ...Version) error {
	for _, v := range versions {
		if err := t.replaceLink(reservedPrefix+string(v), v); err != nil {
			return err
		}
	}
	return nil
}

// reserved is the name of the link that Reserve has left for version; "" without one.
func (t *Tree) reserved(v Version) string {
	name := reservedPrefix + string(v)
	if target, err := t.dir.Readlink(name); err != nil || target != linkTo(v) {
		return ""
	}
	return name
}

// Free removes the links that Reserve made, also those of a process that died.
func (t *Tree) Free() error {
	root, err := t.dir.Open(".")
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", t.root, untrusted.Cause(err))
	}
	defer root.Close()
	names, err := root.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", t.root, untrusted.Cause(err))
	}
	for _, name := range names {
		if strings.HasPrefix(name, reservedPrefix) {
			err = cmp.Or(err, t.removeLink(name))
		}
	}
	return err
}

// Ours reports whether a path is of a link in ROOT that deploygate makes: the live one, or one that a swap takes.
func (t *Tree) Ours(link string) bool {
	name, in := strings.CutPrefix(link, t.root+"/")
	return in && (name == currentName || name == tempName || strings.HasPrefix(name, reservedPrefix))
}

// linkTo is the target of the live link.
func linkTo(v Version) string { return path.Join(releasesName, string(v)) }

// replaceLink makes a link to version, in the place of one that a process has left that died.
func (t *Tree) replaceLink(name string, v Version) error {
	err := t.dir.Symlink(linkTo(v), name)
	if errors.Is(err, fs.ErrExist) {
		if err = t.removeLink(name); err == nil {
			err = t.dir.Symlink(linkTo(v), name)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot create a link in %s: %w", t.root, untrusted.Cause(err))
	}
	return nil
}

// removeLink removes a link of deploygate's own; whatever else bears its name is someone's, and stays.
func (t *Tree) removeLink(name string) error {
	info, err := t.dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return untrusted.Cause(err)
	case info.Mode()&fs.ModeSymlink == 0:
		return fmt.Errorf("%s is in the way; it is not a link that deploygate made", filepath.Join(t.root, name))
	}
	if err := t.dir.Remove(name); err != nil {
		return fmt.Errorf("cannot remove %s: %w", filepath.Join(t.root, name), untrusted.Cause(err))
	}
	return nil
}

// sameFile follows links, which may lead from one name of a release to another.
func sameFile(a, b string) bool {
	one, err := untrusted.Stat(a)
	other, err2 := untrusted.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, other)
}

// kind names what stands where something else was expected.
func kind(info fs.FileInfo) string {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return "symbolic link"
	case info.IsDir():
		return "directory"
	case info.Mode().IsRegular():
		return "file"
	default:
		return "special file"
	}
}
