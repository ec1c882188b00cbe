package migrations

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"sync"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
	"deploygate/release/python"
)

const (
	// maxFile bounds what is read of one file, in bytes.
	maxFile = 1 << 20
	// maxText bounds what is read of one release, in bytes: all of it is kept until it is parsed.
	maxText = 256 << 20
)

// Read finds and reads the migrations of the release in dir, in Django's layout: a module directly in a package named
// migrations, whose name does not start with '_' or '~' (Django's MigrationLoader.load_disk). Nothing of the release
// is imported or executed, and no link is followed. A file that can't be read or understood is that migration's Problem.
//
// A link that may hide migrations, since it is named so or leads to a directory that holds some, is an error: nobody
// could say what they are. A directory that vanishes meanwhile is no error.
func Read(ctx context.Context, dir string) (*Set, error) {
	return NewReader().Read(ctx, dir)
}

// Reader reads releases that are compared with each other. It walks through each once, and has each text parsed once:
// the same text says the same. What couldn't be read isn't tried again. It is for one goroutine.
type Reader struct {
	python   string // the path of a python3, "" for none
	listings map[string]*listing
	answers  map[textKey]*answer
	jobs     []job // the answers that nobody has given yet
}

// textKey is what an answer depends on.
type textKey struct {
	kind byte
	sum  [sha256.Size]byte
}

// NewReader makes a reader that has read nothing.
func NewReader() *Reader { return newReader(python.Find()) }

func newReader(python string) *Reader {
	return &Reader{python: python, listings: map[string]*listing{}, answers: map[textKey]*answer{}}
}

// Read is the package's.
func (r *Reader) Read(ctx context.Context, dir string) (*Set, error) {
	l := r.list(ctx, dir)[0]
	if l.err == nil {
		r.parse(ctx, l)
	}
	return l.set, l.err
}

// Judge reads two releases and judges them as the package's Judge does. No text is parsed, and no process started, if
// each migration of newer is in older too, by its file and its app's label: none is new then, whatever they say. skip is
// asked for Judge's, given newer's migrations; it may be nil.
func (r *Reader) Judge(ctx context.Context, newer, older string, skip func(*Set) func(Name) bool) (Judgement, error) {
	both := r.list(ctx, newer, older)
	n, o := both[0], both[1]
	if n.err == nil && o.err == nil {
		if n.within(o) {
			return Judgement{}, nil
		}
		r.parse(ctx, both...)
	}
	if err := cmp.Or(n.err, o.err); err != nil {
		return Judgement{}, err
	}
	var skipped func(Name) bool
	if skip != nil {
		skipped = skip(n.set)
	}
	return Judge(n.set, o.set, skipped), nil
}

// Older reports whether the release in a is an older one than that in b by what its code knows: it brings no migration that
// b doesn't have, and in an app that has migrations in both it lacks one. An app that b alone has tells nothing, since an
// app that is given up takes its migrations with it. It is false where either can't be read.
func (r *Reader) Older(ctx context.Context, a, b string) bool {
	both := r.list(ctx, a, b)
	older, newer := both[0], both[1]
	if older.err != nil || newer.err != nil || !older.within(newer) {
		return false
	}
	shared := map[string]bool{}
	for _, f := range older.files {
		shared[f.app.key] = true
	}
	for key, f := range newer.files {
		if older.files[key] == nil && shared[f.app.key] {
			return true
		}
	}
	return false
}

// list walks through those releases that it hasn't yet.
func (r *Reader) list(ctx context.Context, dirs ...string) []*listing {
	found := make([]*listing, len(dirs))
	var wait sync.WaitGroup
	for i, dir := range dirs {
		if found[i] = r.listings[dir]; found[i] == nil {
			wait.Go(func() { found[i] = newListing(ctx, dir) })
		}
	}
	wait.Wait()
	for i, dir := range dirs {
		r.listings[dir] = found[i]
	}
	return found
}

// parse makes sets of listings, with one Python for all that is to be parsed.
func (r *Reader) parse(ctx context.Context, listings ...*listing) {
	for _, l := range listings {
		if l.set == nil {
			l.err = r.load(l)
		}
	}
	err := r.ask(ctx, r.jobs)
	r.jobs = nil
	for _, l := range listings {
		if l.set != nil {
			continue
		}
		if l.err = cmp.Or(l.err, err); l.err == nil {
			l.set = newSet(l)
		}
	}
}

// load reads a release's texts.
func (r *Reader) load(l *listing) error {
	root, err := untrusted.Within(l.dir, func() (*os.Root, error) { return os.OpenRoot(l.dir) })
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", l.dir, untrusted.Cause(err))
	}
	defer root.Close()
	for _, a := range l.sortedApps() {
		if len(a.config) > 0 {
			a.answer = r.answer('A', a.config, sha256.Sum256(a.config))
		}
		if a.modelsRaw != "" && !a.hasFiles {
			text, problem := l.readFile(root, a.modelsRaw)
			a.models = a.models || problem != "" || hasModels(text)
		}
	}
	for _, f := range l.sorted() {
		if f.problem != "" {
			continue
		}
		var text []byte
		if text, f.problem = l.readFile(root, f.path); f.problem == "" {
			f.sum = sha256.Sum256(text)
			f.answer = r.answer('M', text, f.sum)
		}
	}
	return nil
}

// answer is what Python says of a text, or will.
func (r *Reader) answer(kind byte, text []byte, sum [sha256.Size]byte) *answer {
	k := textKey{kind, sum}
	a := r.answers[k]
	if a == nil {
		a = &answer{Problem: "was not read"} // for as long as nobody has
		r.answers[k] = a
		r.jobs = append(r.jobs, job{kind: kind, text: text, answer: a})
	}
	return a
}

// classStatement finds whether a models.py may have models: startapp makes one that has none.
var classStatement = regexp.MustCompile(`(?m)^\s*(class|from|import)\s+(\S+)`)

// hasModels reports whether a models.py defines or imports more than startapp's import of django.db.models.
func hasModels(text []byte) bool {
	for _, m := range classStatement.FindAllSubmatch(text, -1) {
		if string(m[1]) != "from" && string(m[1]) != "import" || string(m[2]) != "django.db" && string(m[2]) != "__future__" {
			return true
		}
	}
	return false
}

// readFile reads a regular file of the release; problem says why it can't.
func (l *listing) readFile(root *os.Root, p string) (text []byte, problem string) {
	text, err := untrusted.Within(path.Join(l.dir, p), func() ([]byte, error) {
		// A fifo, put there since it was looked at, would make the reader wait for ever.
		f, err := root.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, cmp.Or(err, untrusted.ErrNotRegular)
		}
		return io.ReadAll(io.LimitReader(f, maxFile+1))
	})
	switch {
	case errors.Is(err, untrusted.ErrNotRegular):
		return nil, "is not a regular file"
	case err != nil:
		return nil, fmt.Sprintf("cannot be read: %v", untrusted.Cause(err))
	case len(text) > maxFile:
		return nil, fmt.Sprintf("is larger than %d MiB", maxFile>>20)
	case l.text+len(text) > maxText:
		return nil, fmt.Sprintf("was not read: the release has more than %d MiB of migrations", maxText>>20)
	}
	l.text += len(text)
	return text, ""
}
