// Package inuse says which directories of a host must not be removed, whatever anybody's records say of them: a mount
// lies below them, a process lives in them, or what stays needs them.
//
// Guaranteed: it only looks, and opens nothing that blocks; it ends within a time limit whatever becomes of the host's
// file systems; what it couldn't look at is an error and never "not in use". Mounts and processes count whichever mount
// namespace or root directory they have, also where the directory has another path there.
//
// Not guaranteed: that nothing begins to use a directory a moment later, so who removes one renames it first and
// looks again; that processes of another PID namespace are seen, which is what a container can't see of its host; that a
// path is found which a program puts together while it runs.
package inuse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Reason is the kind of a Hold.
type Reason string

// The reasons.
const (
	Mounted Reason = "mount"  // a mount lies below it, or it is one, or is mounted elsewhere
	Process Reason = "in_use" // a process lives in it
	Needed  Reason = "needed" // something that stays leads into it
)

// Hold is why a directory must stay, in words that go on after its name.
type Hold struct {
	Reason Reason
	Why    string
}

// limit is how long a look may take. It takes some milliseconds for each hundred processes.
const limit = 20 * time.Second

// bounded does something that may hang, like a look at a file system whose server is gone.
func bounded[T any](ctx context.Context, what string, do func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
	defer cancel()
	done := make(chan result, 1)
	go func() {
		value, err := do(ctx)
		done <- result{value, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		r.err = fmt.Errorf("cannot tell %s: %w", what, r.err)
	}
	return r.value, r.err
}

// Held finds the mounts and processes that hold some of parent's directories, by name. parent has every link resolved.
func Held(ctx context.Context, parent string, names []string) (map[string]Hold, error) {
	return bounded(ctx, "what uses "+parent, func(ctx context.Context) (map[string]Hold, error) {
		l := &look{proc: "/proc", parent: parent, held: map[string]Hold{}, ids: map[inode]string{}, views: map[view][]string{}}
		if err := l.begin(names); err != nil {
			return nil, err
		}
		return l.held, l.processes(ctx)
	})
}

// look is one look at the host.
type look struct {
	proc   string
	parent string
	names  map[string]bool
	ids    map[inode]string // the directories that names are of
	place  place            // parent's

	own   []string          // parent's paths as this process sees them
	views map[view][]string // and as others do
	uses  map[string]*use
	held  map[string]Hold
}

type inode struct{ device, number uint64 }

func inodeOf(fd int) (inode, error) {
	var s unix.Stat_t
	err := unix.Fstat(fd, &s)
	return inode{s.Dev, s.Ino}, err
}

// openDir opens a directory to look at it, and neither a link nor anything that would wait.
func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// begin finds the directories, and what this process's own mounts say of them.
func (l *look) begin(names []string) error {
	l.names = map[string]bool{}
	mounts, err := readMounts(l.proc + "/self/mountinfo")
	if err != nil {
		return err
	}
	d, err := openDir(l.parent)
	if err != nil {
		return err
	}
	defer d.Close()
	if l.place, err = locate(d, l.parent, mounts); err != nil {
		return err
	}
	top, err := inodeOf(int(d.Fd()))
	if err != nil {
		return err
	}
	on, err := mountID(int(d.Fd()))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := l.add(name, top.device, on); err != nil {
			return err
		}
	}
	l.own = append(l.place.names(mounts), l.parent)
	l.mounts(mounts, l.own, "")
	return nil
}

// add looks at one directory. What isn't there, or is none, is in nobody's use.
func (l *look) add(name string, device uint64, mount int) error {
	d, err := openDir(filepath.Join(l.parent, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	id, err := inodeOf(int(d.Fd()))
	if err != nil {
		return err
	}
	on, err := mountID(int(d.Fd()))
	if err != nil {
		return err
	}
	l.names[name], l.ids[id] = true, name
	switch {
	case on != mount:
		l.hold(name, Hold{Mounted, "it is a mount point"})
	case id.device != device:
		l.hold(name, Hold{Mounted, "it is on another device"})
	}
	return nil
}

// hold notes why a directory must stay; the first reason is kept.
func (l *look) hold(name string, h Hold) {
	if _, known := l.held[name]; !known {
		l.held[name] = h
	}
}

// mounts notes the directories that have to do with some mounts. parents are parent's paths among them, whose says whose
// they are, "" for everybody.
func (l *look) mounts(all []mount, parents []string, whose string) {
	for _, m := range all {
		switch name, rest, in := l.inside(m.point, parents); {
		case in && rest == "":
			l.hold(name, Hold{Mounted, "it is a mount point" + whose})
		case in:
			l.hold(name, Hold{Mounted, fmt.Sprintf("a mount lies below it: %s%s", rest, whose)})
		}
		if m.device == l.place.device {
			if name, rest, in := l.inside(m.root, []string{l.place.path}); in {
				l.hold(name, Hold{Mounted, fmt.Sprintf("%s is mounted at %s%s", filepath.Join(name, rest), m.point, whose)})
			}
		}
		if name, in := l.layer(m.options, parents); in {
			l.hold(name, Hold{Mounted, fmt.Sprintf("it is a layer of the mount %s%s", m.point, whose)})
		}
	}
}

// layer finds a directory that an overlay's options name.
func (l *look) layer(options string, parents []string) (name string, in bool) {
	if !strings.Contains(options, "dir") {
		return "", false
	}
	for _, word := range strings.FieldsFunc(options, func(r rune) bool { return strings.ContainsRune(",:=", r) }) {
		if name, _, in := l.inside(word, parents); in {
			return name, true
		}
	}
	return "", false
}

// inside finds the directory that a path is or lies below, and the rest of the path. The kernel adds a word to what was
// deleted: where a directory is there again under the name, its user still goes by that name.
func (l *look) inside(p string, parents []string) (name, rest string, in bool) {
	p = strings.TrimSuffix(p, " (deleted)")
	for _, parent := range parents {
		if below, in := within(p, parent); in {
			if name, rest, _ = strings.Cut(below, "/"); l.names[name] {
				return name, rest, true
			}
		}
	}
	return "", "", false
}
