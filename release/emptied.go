package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// Emptied is what a release has of files without content, as a power cut leaves those that were not on disk yet: of no
// length, or of nothing but zeros.
type Emptied struct {
	Vital []string // that can't be empty: what is loaded or run by name
	Lost  []string // that have content in the other release, Vital or not; at most maxNamed
	Count int      // of Lost
	Kept  int      // files with content
	Fresh int      // without, that the other release hasn't, and of a kind that means something only with content
}

const (
	maxNamed = 3
	// maxFiles and maxWalk bound a look: a release may bring a whole Python with it.
	maxFiles = 50_000
	maxWalk  = 3 * time.Second
)

// Problem is why the release can't be whole; "" if it may be.
func (e Emptied) Problem() string {
	switch {
	case len(e.Vital) > 0:
		return strings.Join(e.Vital, ", ") + " has no content"
	case e.Count > e.Kept, e.Kept == 0 && e.Fresh > 0:
		return fmt.Sprintf("%d of its %d files have no content", e.Count+e.Fresh, e.Count+e.Fresh+e.Kept)
	}
	return ""
}

// Emptied compares version's files with those of another release, "" for none. Vital are paths in the release, of which
// those that aren't there don't count. What couldn't be looked at in time counts neither way.
func (t *Tree) Emptied(version, other Version, vital []string) (Emptied, error) {
	return untrusted.WithinLimit(t.Dir(version), maxWalk+untrusted.Limit, func() (Emptied, error) { return t.emptied(version, other, vital) })
}

func (t *Tree) emptied(version, other Version, vital []string) (Emptied, error) {
	var e Emptied
	root := t.Dir(version)
	counterpart := func(name string) (content, known bool) {
		if other == "" || other == version {
			return false, false
		}
		file := filepath.Join(t.Dir(other), name)
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() {
			return false, false
		}
		return hasContent(file, info, false), true
	}
	until := time.Now().Add(maxWalk)
	seen := 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if seen++; seen > maxFiles || seen%256 == 0 && time.Now().After(until) {
			return fs.SkipAll
		}
		if err != nil || !entry.Type().IsRegular() {
			return skipped(entry, err, file == root)
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // it is gone, as if it had never been there
		}
		isVital := slices.Contains(vital, name) || migration.MatchString(name)
		if hasContent(file, info, isVital) {
			e.Kept++
			return nil
		}
		content, known := counterpart(name)
		switch {
		case content:
			if e.Count++; len(e.Lost) < maxNamed {
				e.Lost = append(e.Lost, name)
			}
		case !known && !meaningful(name):
			e.Fresh++
		}
		// A package that is named may have all that it is in its modules.
		if isVital && (content || !known && path.Base(name) != "__init__.py") {
			e.Vital = append(e.Vital, name)
		}
		return nil
	})
	if err != nil {
		return Emptied{}, fmt.Errorf("cannot read release %s: %w", version, untrusted.Cause(err))
	}
	return e, nil
}

// skipped passes over what can't be read, and over what isn't the release's own.
func skipped(entry fs.DirEntry, err error, top bool) error {
	switch {
	case top:
		return err
	case err != nil && entry != nil && entry.IsDir():
		return fs.SkipDir
	case err == nil && entry.IsDir() && slices.Contains([]string{".git", "node_modules", "__pycache__"}, entry.Name()):
		return fs.SkipDir
	}
	return nil
}

// migration is a file that Django refuses to load without content.
var migration = regexp.MustCompile(`(^|/)migrations/[0-9]{4}_\w+\.py$`)

// meaningful reports whether a file means something by its name alone.
func meaningful(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, ".") || slices.Contains([]string{"__init__.py", "py.typed", "REQUESTED"}, base)
}

// hasContent reports whether a regular file has any but zeros. Only what takes no room on disk is read for that, or what
// the caller wants to have read.
func hasContent(file string, info fs.FileInfo, read bool) bool {
	if info.Size() == 0 {
		return false
	}
	if st, is := info.Sys().(*syscall.Stat_t); !read && is && st.Blocks != 0 {
		return true
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return true // not known to be empty
	}
	defer f.Close()
	if now, err := f.Stat(); err != nil || !now.Mode().IsRegular() {
		return true
	}
	start := make([]byte, 4096)
	n, err := io.ReadFull(f, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	return len(bytes.Trim(start[:n], "\x00")) > 0
}
