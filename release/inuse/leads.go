package inuse

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Lead is a way into a directory.
type Lead struct {
	To  string // its name
	How string // what leads there, like "v6/venv/bin/python leads into it"
}

// Leads finds what leads into directories below Parent: symbolic links, the interpreters of virtual environments, and
// paths that are written down where programs look them up.
//
// It looks near the top of a release, where these things stand, and not into the code: at links down to four levels, at the
// files that lie in the release itself, and at each virtual environment that it comes by.
type Leads struct {
	Parent string   // of the directories, with every link resolved
	Paths  []string // what Parent is called in files
	Names  []string // of the directories
}

// Of finds what leads from the directory name into others.
func (l Leads) Of(ctx context.Context, name string) ([]Lead, error) {
	return bounded(ctx, "what "+name+" needs", func(ctx context.Context) ([]Lead, error) {
		s := l.search(ctx)
		s.tree(filepath.Join(l.Parent, name))
		return slices.DeleteFunc(s.found, func(x Lead) bool { return x.To == name }), s.err
	})
}

// Around finds what leads into the directories from the links in dirs that count, and from what a service is run with: words
// of its command, its directories and its environment.
func (l Leads) Around(ctx context.Context, dirs []string, counts func(link string) bool, service string, words []string) ([]Lead, error) {
	return bounded(ctx, "what leads into "+l.Parent, func(ctx context.Context) ([]Lead, error) {
		s := l.search(ctx)
		for _, dir := range dirs {
			for _, e := range s.list(dir) {
				if file := filepath.Join(dir, e.Name()); e.Type() == fs.ModeSymlink && counts(file) {
					s.leads(file, file)
				}
			}
		}
		for i, word := range words {
			s.text(word, service)
			if !filepath.IsAbs(word) {
				continue
			}
			if to, found := s.leads(word, service); found && i == 0 {
				s.program(word, to)
			}
		}
		return s.found, s.err
	})
}

// search is one search for leads.
type search struct {
	Leads
	ctx     context.Context
	left    int // entries that may yet be looked at
	visited map[string]bool
	found   []Lead
	err     error // the first; what can't be looked at may lead anywhere
}

const (
	entryLimit = 50_000
	depthLimit = 4
	fileLimit  = 64 << 10 // of a file that may name paths
	scriptHead = 512      // of a script, whose first lines name its interpreter
	hopLimit   = 40       // links on the way of one path, as in the kernel
)

func (l Leads) search(ctx context.Context) *search {
	return &search{Leads: l, ctx: ctx, left: entryLimit, visited: map[string]bool{}}
}

// failed notes an error, but for what leads nowhere.
func (s *search) failed(err error) {
	for _, nowhere := range []error{fs.ErrNotExist, unix.ENOTDIR, unix.ENAMETOOLONG} {
		if errors.Is(err, nowhere) {
			return
		}
	}
	s.err = cmp.Or(s.err, err)
}

// add notes that what, a path or a service, leads into a directory.
func (s *search) add(to, what, verb string) {
	if rest, in := within(what, s.Parent); in && strings.Contains(rest, "/") {
		what = rest
	}
	if !slices.ContainsFunc(s.found, func(l Lead) bool { return l.To == to }) {
		s.found = append(s.found, Lead{to, what + " " + verb + " it"})
	}
}

// tree looks through a release, the upper levels first.
func (s *search) tree(top string) {
	type dir struct {
		path  string
		depth int
	}
	for queue := []dir{{top, 1}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, e := range s.list(at.path) {
			file := filepath.Join(at.path, e.Name())
			switch {
			case e.Name() == "pyvenv.cfg":
				s.environment(at.path)
			case e.Type() == fs.ModeSymlink:
				if to, found := s.leads(file, file); found {
					s.environment(to)
				}
			case e.IsDir() && at.depth < depthLimit && !slices.Contains([]string{".git", "node_modules", "__pycache__"}, e.Name()):
				queue = append(queue, dir{file, at.depth + 1})
			case e.Type().IsRegular() && at.depth == 1:
				s.text(s.read(file, fileLimit), file)
			}
		}
	}
}

// list reads a directory as far as the limit allows.
func (s *search) list(dir string) []fs.DirEntry {
	if s.ctx.Err() != nil || s.left <= 0 {
		s.failed(context.Cause(s.ctx))
		return nil
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		s.failed(err)
		return nil
	}
	defer f.Close()
	entries, err := f.ReadDir(s.left)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed(err)
	}
	s.left -= len(entries)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries
}

// read returns the beginning of a regular file; "" for anything else.
func (s *search) read(file string, limit int64) string {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
	if err != nil {
		if !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENXIO) {
			s.failed(err)
		}
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(f, limit))
	s.failed(err)
	return string(text)
}

// text notes the directories that a text names by their paths.
func (s *search) text(text, what string) {
	for _, path := range s.Paths {
		for rest := text; ; {
			_, after, found := strings.Cut(rest, path+"/")
			if !found {
				break
			}
			rest = after
			name := after
			if end := strings.IndexFunc(after, func(r rune) bool {
				return !strings.ContainsRune("._+-", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
			}); end >= 0 {
				name = after[:end]
			}
			// A full stop may end a sentence.
			for ; name != ""; name = strings.TrimSuffix(name, ".") {
				if slices.Contains(s.Names, name) {
					s.add(name, what, "names")
					break
				}
				if !strings.HasSuffix(name, ".") {
					break
				}
			}
		}
	}
}

// leads follows a path as the kernel does and notes the directories that it comes through, also on the way: a link in one
// of them may lead on into another. It gives where the path ends, and whether something is there.
func (s *search) leads(path, what string) (end string, found bool) {
	at, rest := "/", strings.Split(path, "/")
	for hops := 0; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		switch word {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, word)
		if below, in := within(next, s.Parent); in && below != "." {
			if name, _, _ := strings.Cut(below, "/"); slices.Contains(s.Names, name) {
				s.add(name, what, "leads into")
			}
		}
		info, err := os.Lstat(next)
		if err != nil {
			s.failed(err)
			return next, false
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			s.failed(err)
			return next, false
		}
		if hops++; hops > hopLimit {
			return next, false
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, true
}

// environment looks at a Python virtual environment, wherever it is; what has no pyvenv.cfg is none.
func (s *search) environment(dir string) {
	if s.visited[dir] {
		return
	}
	s.visited[dir] = true
	file := filepath.Join(dir, "pyvenv.cfg")
	settings := s.read(file, fileLimit)
	if settings == "" {
		return
	}
	for line := range strings.Lines(settings) {
		// "command" says how it was made, and isn't used.
		if key, value, ok := strings.Cut(line, "="); ok && strings.TrimSpace(key) != "command" && filepath.IsAbs(strings.TrimSpace(value)) {
			s.leads(strings.TrimSpace(value), file)
		}
	}
	bin := filepath.Join(dir, "bin")
	for _, e := range s.list(bin) {
		s.program(filepath.Join(bin, e.Name()), filepath.Join(bin, e.Name()))
	}
	for _, lib := range []string{"lib", "lib64"} {
		for _, e := range s.list(filepath.Join(dir, lib)) {
			if e.IsDir() {
				s.packages(filepath.Join(dir, lib, e.Name(), "site-packages"))
			}
		}
	}
}

// packages looks at what leads out of a directory of Python packages: links, and the files of editable installations.
func (s *search) packages(dir string) {
	for _, e := range s.list(dir) {
		file, ext := filepath.Join(dir, e.Name()), filepath.Ext(e.Name())
		switch {
		case e.Type() == fs.ModeSymlink:
			s.leads(file, file)
		case ext == ".pth" || ext == ".egg-link":
			text := s.read(file, fileLimit)
			s.text(text, file)
			for line := range strings.Lines(text) {
				line = strings.TrimSpace(line)
				if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "import") {
					continue
				}
				if !filepath.IsAbs(line) {
					line = dir + "/" + line
				}
				s.leads(line, file)
			}
		case strings.HasPrefix(e.Name(), "__editable__") && ext == ".py":
			s.text(s.read(file, fileLimit), file)
		}
	}
}

// program looks at a program: where it really is, the interpreter that its first lines name, and the virtual environment
// whose it is.
func (s *search) program(file, what string) {
	to, found := s.leads(file, what)
	if !found || s.visited[to] {
		return
	}
	s.visited[to] = true
	if text := s.read(to, scriptHead); strings.HasPrefix(text, "#!") {
		s.text(text, what)
		line, _, _ := strings.Cut(text[2:], "\n")
		if words := strings.Fields(line); len(words) > 0 && filepath.IsAbs(words[0]) {
			s.program(words[0], what)
		}
	}
	s.environment(filepath.Dir(filepath.Dir(file)))
}
