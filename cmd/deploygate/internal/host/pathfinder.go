package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
)

// pathfinder follows paths as they will lead once the live link names another release. It only looks: nothing is opened but
// the first line of a program.
type pathfinder struct {
	links []string // the live link, as it is named and as it is reached
	to    string   // the release that it will name, every link resolved; "" follows it as it is
}

func (h *Host) pathfinder(to string) pathfinder {
	link := h.tree.CurrentPath()
	f := pathfinder{links: []string{link}, to: to}
	if dir, err := untrusted.EvalSymlinks(filepath.Dir(link)); err == nil {
		if real := filepath.Join(dir, filepath.Base(link)); real != link {
			f.links = append(f.links, real)
		}
	}
	return f
}

// below returns the rest of a path that goes through the live link.
func (f pathfinder) below(p string) (rest string, is bool) {
	if !filepath.IsAbs(p) {
		return "", false
	}
	p = filepath.Clean(p)
	for _, link := range f.links {
		if p == link {
			return ".", true
		}
		if rest, is = strings.CutPrefix(p, link+"/"); is {
			return rest, true
		}
	}
	return "", false
}

// pathEnd is where a path leads.
type pathEnd struct {
	path    string // without symlinks
	crossed bool   // the way there went through the live link
	info    fs.FileInfo
	problem string // "does not exist"; "" if it is there, or this process has no right to see it
}

// through is below, and sees as well that a path outside leads through the live link by a link of its own.
func (f pathfinder) through(p string) (rest string, is bool) {
	if rest, is = f.below(p); is || !filepath.IsAbs(p) {
		return rest, is
	}
	at := f.find(p)
	if rest, is = strings.CutPrefix(at.path, f.to+"/"); !is || f.to == "" {
		rest = p
	}
	return rest, at.crossed
}

// find follows a path, element by element.
func (f pathfinder) find(p string) (end pathEnd) {
	const maxLinks = 40
	at, rest, last := "/", filepath.Clean(p), ""
	var info fs.FileInfo
	crossed := false
	defer func() { end.crossed = crossed }()
	for links := 0; strings.Trim(rest, "/") != ""; {
		var name string
		name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		if name == "." {
			continue
		}
		if name == ".." {
			at, info = filepath.Dir(at), nil
			continue
		}
		next := filepath.Join(at, name)
		if slices.Contains(f.links, next) {
			crossed = true
			if f.to != "" {
				at, info = f.to, nil
				continue
			}
		}
		var err error
		info, err = untrusted.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			return pathEnd{path: next, problem: absent(next, last)}
		case err != nil:
			return pathEnd{path: next}
		case info.Mode()&fs.ModeSymlink == 0:
			at = next
			continue
		}
		to, err := untrusted.Readlink(next)
		if links++; links > maxLinks || err != nil {
			return pathEnd{path: next, problem: "is a link that leads to itself"}
		}
		if last = next; filepath.IsAbs(to) {
			at = "/"
		}
		info, rest = nil, to+"/"+rest
	}
	if info == nil {
		info, _ = untrusted.Lstat(at) // it was there a moment ago
	}
	return pathEnd{path: at, info: info}
}

func absent(p, link string) string {
	if link == "" {
		return "does not exist"
	}
	return fmt.Sprintf("leads to %s, which does not exist", p)
}

// directory says what is wrong with a directory.
func (f pathfinder) directory(p string) string {
	at := f.find(p)
	if at.problem == "" && at.info != nil && !at.info.IsDir() {
		return "is not a directory"
	}
	return at.problem
}

// program says why a program can't be executed. dirs are those where env(1) looks for an interpreter.
func (f pathfinder) program(p string, dirs []string) string {
	at := f.find(p)
	switch {
	case at.problem != "" || at.info == nil:
		return at.problem
	case at.info.IsDir():
		return "is a directory"
	case !at.info.Mode().IsRegular():
		return "is not a regular file"
	case at.info.Mode()&0o111 == 0:
		return "is not executable"
	}
	script, argument := shebang(at.path)
	switch {
	case script == "":
		return ""
	case filepath.Base(script) != "env":
		if problem := f.find(script).problem; problem != "" {
			return fmt.Sprintf("is there, but its interpreter %s %s", script, problem)
		}
	case argument != "" && !strings.ContainsAny(argument, "/-=") && !f.inPath(argument, dirs):
		return fmt.Sprintf("is there, but its interpreter %s is not in the PATH", argument)
	}
	return ""
}

// inPath reports whether a program is in one of some directories.
func (f pathfinder) inPath(name string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		at := f.find(filepath.Join(dir, name))
		return at.problem == "" && (at.info == nil || at.info.Mode().IsRegular() && at.info.Mode()&0o111 != 0)
	})
}

// enterProblem says why a user can't work in a directory.
func (f pathfinder) enterProblem(dir string, who socket.Identity) string {
	if problem := f.directory(dir); problem != "" || who.Name == "" {
		return problem
	}
	if w := socket.Reach(filepath.Join(f.find(dir).path, "x"), who); w.Denied != "" && w.Need == socket.NeedSearch {
		return fmt.Sprintf("can't be entered by %s (%s)", who.Name, w.Denied)
	}
	return ""
}

// shebang returns what a script's first line names, and the first word after it; "" for what is no script.
func shebang(program string) (interpreter, argument string) {
	const limit = 256 // as the kernel reads
	line, _, _ := strings.Cut(beginning(program, limit), "\n")
	words := strings.Fields(strings.TrimPrefix(line, "#!"))
	if !strings.HasPrefix(line, "#!") || len(words) == 0 {
		return "", ""
	}
	return words[0], strings.Join(words[1:min(len(words), 2)], "")
}

// head is the beginning of a small file.
func head(file string) string { return beginning(file, 64<<10) }

// beginning reads the first bytes of a regular file; "" if it can't be read.
func beginning(file string, limit int) string {
	text, _, _ := untrusted.ReadFile(file, int64(limit), nil) // what there is
	return string(text)
}
