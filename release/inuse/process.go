package inuse

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// use is what processes have to do with one directory.
type use struct {
	who, how string // the first process's unit or command, and what it does there
	pid      int
	more     int // processes
}

// view is how some processes see the host's files.
type view struct{ namespace, root string }

// mapsLimit bounds what is read of the memory maps of one process. The kernel allows it 65,530 of them.
const mapsLimit = 64 << 20

// viewLimit bounds how many mountinfo files are read.
const viewLimit = 4096

var (
	errTooMany = errors.New("there are too many mount namespaces")
	errAbove   = errors.New("a process has too many memory maps")
)

// unseen is an error that says which processes could not be looked at.
type unseen struct {
	pid, more int
	err       error
}

func (u *unseen) Error() string {
	others := ""
	if u.more > 0 {
		others = fmt.Sprintf(" and %d others", u.more)
	}
	return fmt.Sprintf("cannot look at process %d%s: %v", u.pid, others, u.err)
}

func (u *unseen) Unwrap() error { return u.err }

// processes looks at all processes but this one. Who can't be looked at may use any of the directories.
func (l *look) processes(ctx context.Context) error {
	l.uses = map[string]*use{}
	pids, err := numbers(l.proc)
	if err != nil {
		return err
	}
	var hidden *unseen
	for _, pid := range pids {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if pid == os.Getpid() {
			continue
		}
		switch err := l.process(pid); {
		case err == nil, gone(err):
		case errors.Is(err, fs.ErrPermission) && hidden != nil:
			hidden.more++
		case errors.Is(err, fs.ErrPermission):
			hidden = &unseen{pid: pid, err: untrusted.Cause(err)}
		default:
			return fmt.Errorf("cannot look at process %d: %w", pid, untrusted.Cause(err))
		}
	}
	for name, u := range l.uses {
		more := ""
		if u.more > 0 {
			more = fmt.Sprintf(" and %d more", u.more)
		}
		l.hold(name, Hold{Process, fmt.Sprintf("%s %s (pid %d%s)", u.who, u.how, u.pid, more)})
	}
	if hidden != nil {
		return hidden
	}
	return nil
}

// gone reports whether a process has ended meanwhile: it has no such files any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// numbers lists a directory's entries that are numbers, without a look at each.
func numbers(dir string) (all []int, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			all = append(all, n)
		}
	}
	return all, err
}

// process looks at one process.
func (l *look) process(pid int) error {
	p := filepath.Join(l.proc, strconv.Itoa(pid))
	root, err := os.Readlink(p + "/root")
	if err != nil {
		return err
	}
	parents, err := l.parents(pid, p, root)
	if err != nil {
		return err
	}
	found := map[string]string{} // how it uses each: the first way that is found
	note := func(name, how string) {
		if _, known := found[name]; !known {
			found[name] = how
		}
	}
	if err := l.directories(p, parents, note); err != nil {
		return err
	}
	switch exe, err := os.Readlink(p + "/exe"); {
	case err == nil:
		if name, file, in := l.inside(exe, parents); in {
			note(name, "runs "+file+" of it")
		}
	case !errors.Is(err, fs.ErrNotExist): // the kernel's own have none
		return err
	}
	if err := maps(p+"/maps", func(file string) {
		if name, file, in := l.inside(file, parents); in {
			note(name, "has "+file+" of it mapped")
		}
	}); err != nil {
		return err
	}
	if err := links(p+"/fd", func(file string) {
		if name, file, in := l.inside(file, parents); in {
			note(name, "has "+file+" of it open")
		}
	}); err != nil {
		return err
	}
	for name, how := range found {
		if u := l.uses[name]; u != nil {
			u.more++
		} else {
			l.uses[name] = &use{who: owner(p), how: how, pid: pid}
		}
	}
	return nil
}

// parents are the paths under which a process may see parent: by its own mounts, which are looked at too, and by ours.
func (l *look) parents(pid int, p, root string) ([]string, error) {
	namespace, err := os.Readlink(p + "/ns/mnt")
	if err != nil {
		return nil, err
	}
	v := view{namespace, root}
	if known, ok := l.views[v]; ok {
		return known, nil
	}
	if len(l.views) >= viewLimit {
		return nil, errTooMany
	}
	mounts, err := readMounts(p + "/mountinfo")
	if errors.Is(err, unix.EINVAL) { // it is about to end, and has no mounts any more
		return nil, unix.ESRCH
	}
	if err != nil {
		return nil, err
	}
	paths := l.place.names(mounts)
	whose := ""
	if own, err := os.Readlink(l.proc + "/self/ns/mnt"); err != nil || own != namespace {
		whose = fmt.Sprintf(" for %s (pid %d)", owner(p), pid)
	}
	l.mounts(mounts, paths, whose)
	// Its links are told by the root of its namespace, its mounts by its own root.
	if root != "/" {
		for _, path := range paths {
			paths = append(paths, filepath.Join(root, path))
		}
	}
	paths = append(paths, l.own...)
	l.views[v] = paths
	return paths, nil
}

// directories looks at the working and root directories of all threads, which may have their own.
func (l *look) directories(p string, parents []string, note func(name, how string)) error {
	threads, err := numbers(p + "/task")
	if err != nil {
		return err
	}
	for i, id := range threads {
		for _, d := range []struct{ link, how string }{{"cwd", "runs in it"}, {"root", "has its root directory in it"}} {
			link := filepath.Join(p, "task", strconv.Itoa(id), d.link)
			dir, err := os.Readlink(link)
			if gone(err) {
				continue // that thread has ended
			}
			if err != nil {
				return err
			}
			if name, _, in := l.inside(dir, parents); in {
				note(name, d.how)
			} else if i == 0 { // a path tells nothing once its mount was detached
				if name, in := l.ancestor(link); in {
					note(name, d.how)
				}
			}
		}
	}
	return nil
}

// ancestorLimit bounds how far is gone up from a directory.
const ancestorLimit = 64

// ancestor finds which of the directories a process's directory is, or lies below, by what they are and not by their names.
func (l *look) ancestor(link string) (name string, in bool) {
	fd, err := unix.Open(link, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	var last inode
	for range ancestorLimit {
		if err != nil {
			return "", false
		}
		id, statErr := inodeOf(fd)
		if name, in = l.ids[id]; in || statErr != nil || id == last {
			break
		}
		last = id
		up, upErr := unix.Openat(fd, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		_ = unix.Close(fd)
		fd, err = up, upErr
	}
	if err == nil {
		_ = unix.Close(fd)
	}
	return name, in
}

// maps hands out the files that a process has mapped.
func maps(name string, each func(file string)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := io.LimitedReader{R: f, N: mapsLimit}
	lines := bufio.NewReaderSize(&in, 64<<10)
	last := ""
	for {
		line, err := lines.ReadSlice('\n') // a path is at most 4 kB, and a newline in it is escaped
		if i := bytes.IndexByte(line, '/'); i >= 0 {
			if file := unescape(string(bytes.TrimSuffix(line[i:], []byte("\n")))); file != last {
				each(file)
				last = file
			}
		}
		switch {
		case errors.Is(err, io.EOF) && in.N == 0:
			return errAbove
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// links hands out where the links of a directory lead: a process's open files.
func links(dir string, each func(file string)) error {
	fds, err := numbers(dir)
	if err != nil {
		return err
	}
	for _, fd := range fds {
		file, err := os.Readlink(filepath.Join(dir, strconv.Itoa(fd)))
		switch {
		case gone(err):
		case err != nil:
			return err
		case strings.HasPrefix(file, "/"):
			each(file)
		}
	}
	return nil
}

// owner names a process by its unit or, where that is none that an operator knows, by its command.
func owner(p string) string {
	const limit = 4 << 10
	if text, err := head(p+"/cgroup", limit); err == nil {
		for line := range strings.Lines(text) {
			fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(fields) < 3 || fields[1] != "" && fields[1] != "name=systemd" {
				continue
			}
			for _, group := range slices.Backward(strings.Split(fields[2], "/")) {
				if strings.HasSuffix(group, ".service") && !strings.HasPrefix(group, "user@") {
					return group
				}
			}
		}
	}
	if text, err := head(p+"/comm", limit); err == nil && strings.TrimSpace(text) != "" {
		return strings.TrimSpace(text)
	}
	return "a process"
}

// head reads the beginning of a file.
func head(name string, limit int64) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit))
	return string(text), err
}
