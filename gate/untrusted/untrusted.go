// Package untrusted looks at files that others may write: those of a release, of the app's user, of a log.
//
// Guaranteed: nothing is opened but a regular file, so that no fifo, device or terminal notices; nothing is read with more
// rights than whoever put it in its place; every look ends within Limit, whatever the file system does. One that didn't is
// left behind, and what lies in the same directory isn't looked at again until it has ended.
//
// Not guaranteed: that what was read is what is there a moment later.
package untrusted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Limit is how long one look may take. A file system that takes longer is as good as gone: nobody is served from it.
const Limit = 2 * time.Second

// ErrNotRegular is what a directory, fifo, socket or device is refused with.
var ErrNotRegular = errors.New("it is not a regular file")

// SlowError is what a look ends with whose file system doesn't answer.
type SlowError struct {
	Path  string
	Limit time.Duration
}

func (e *SlowError) Error() string {
	return fmt.Sprintf("%s could not be looked at within %s: its file system does not answer", e.Path, e.Limit)
}

// stuck are the directories in which a look has not come back.
var stuck = struct {
	sync.Mutex
	dirs map[string]int
}{dirs: map[string]int{}}

// isStuck reports whether a path lies in such a directory.
func isStuck(file string) bool {
	stuck.Lock()
	defer stuck.Unlock()
	for dir := range stuck.dirs {
		if file == dir || strings.HasPrefix(file, strings.TrimSuffix(dir, "/")+"/") {
			return true
		}
	}
	return false
}

// Within looks at something below a path, in Limit.
func Within[T any](file string, look func() (T, error)) (T, error) {
	return within(file, Limit, look, func(T) {})
}

// WithinLimit is Within for a look at many files.
func WithinLimit[T any](file string, limit time.Duration, look func() (T, error)) (T, error) {
	return within(file, limit, look, func(T) {})
}

// within has what comes too late discarded.
func within[T any](file string, limit time.Duration, look func() (T, error), discard func(T)) (none T, _ error) {
	if isStuck(file) {
		return none, &SlowError{file, limit}
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := look()
		done <- result{value, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
	}
	dir := path.Dir(file)
	if dir == "/" {
		dir = file
	}
	mark := func(n int) {
		stuck.Lock()
		defer stuck.Unlock()
		if stuck.dirs[dir] += n; stuck.dirs[dir] == 0 {
			delete(stuck.dirs, dir)
		}
	}
	mark(1)
	go func() {
		if r := <-done; r.err == nil {
			discard(r.value)
		}
		mark(-1)
	}()
	return none, &SlowError{file, limit}
}

// Stat is os.Stat.
func Stat(file string) (fs.FileInfo, error) {
	return Within(file, func() (fs.FileInfo, error) { return os.Stat(file) })
}

// Lstat is os.Lstat.
func Lstat(file string) (fs.FileInfo, error) {
	return Within(file, func() (fs.FileInfo, error) { return os.Lstat(file) })
}

// Readlink is os.Readlink.
func Readlink(file string) (string, error) {
	return Within(file, func() (string, error) { return os.Readlink(file) })
}

// ReadDir is os.ReadDir.
func ReadDir(dir string) ([]fs.DirEntry, error) {
	return Within(dir, func() ([]fs.DirEntry, error) { return os.ReadDir(dir) })
}

// EvalSymlinks is filepath.EvalSymlinks.
func EvalSymlinks(file string) (string, error) {
	return Within(file, func() (string, error) { return filepath.EvalSymlinks(file) })
}

// Glob is filepath.Glob.
func Glob(pattern string) ([]string, error) {
	return Within(pattern, func() ([]string, error) { return filepath.Glob(pattern) })
}

// Open opens a regular file to read it, with the rights of a user. Nil stands for this process's own, but where a symlink on
// the way belongs to someone else than root: then it is theirs, since they decide what is read.
func Open(file string, as *User) (*os.File, error) {
	return within(file, Limit, func() (*os.File, error) { return open(file, as) }, func(f *os.File) { f.Close() })
}

// ReadFile reads at most limit bytes from the beginning of a regular file, and reports whether there are more.
func ReadFile(file string, limit int64, as *User) (text []byte, more bool, err error) {
	f, err := Open(file, as)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	text, err = Within(file, func() ([]byte, error) { return io.ReadAll(io.LimitReader(f, limit+1)) })
	return text[:min(len(text), int(limit))], len(text) > int(limit), err
}

// FS is a directory's files, as os.DirFS gives them, to ask which are there.
func FS(dir string) fs.StatFS { return dirFS(dir) }

type dirFS string

func (d dirFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.ErrUnsupported}
}

func (d dirFS) Stat(name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	return Stat(filepath.Join(string(d), filepath.FromSlash(name)))
}

// Cause drops the operation and the path that package os puts before the cause: the caller's sentence has them.
func Cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}

// SyncDir writes the names in a directory to disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
