package migrations

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/release"
)

const (
	// maxEntries bounds the walk through one release: a release with an environment of its own has some 30,000 files.
	maxEntries = 1_000_000
	// maxDepth bounds it too: each level is looked up from the top.
	maxDepth = 64
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
	return reader{python: findPython()}.read(ctx, dir)
}

// reader reads releases; tests give it another Python.
type reader struct {
	python string // the path of a python3, "" for none
}

func (r reader) read(ctx context.Context, dir string) (*Set, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", dir, release.Reason(err))
	}
	defer root.Close()
	w := walk{ctx: ctx, dir: dir, root: root, files: map[string]*file{}, apps: map[string]*app{}}
	if err := fs.WalkDir(root.FS(), ".", w.visit); err != nil {
		return nil, err
	}
	w.load()
	if err := r.parse(ctx, w.jobs()); err != nil {
		return nil, err
	}
	return newSet(&w), nil
}

// walk is the search through one release.
type walk struct {
	ctx     context.Context
	dir     string
	root    *os.Root
	entries int
	text    int // bytes read
	// packages tells whether the release has its environment in it.
	packages bool
	files    map[string]*file // by key
	apps     map[string]*app  // by the key of their directory
}

// file is a module that is a migration by its name.
type file struct {
	path    string // relative to the release
	key     string // the same without the suffix, below site-packages if it is there
	app     *app
	stem    string
	text    []byte
	sum     [sha256.Size]byte
	problem string
	answer  answer
}

// app is a Django app as its directory shows it.
type app struct {
	key       string
	path      string
	config    []byte // apps.py
	models    bool   // it has models.py with a class, or a package of models
	hasFiles  bool   // migrations
	modelsRaw string // the path of models.py, to be looked into
	configRaw string // the path of apps.py
	answer    answer
}

func (w *walk) visit(p string, e fs.DirEntry, err error) error {
	switch {
	case w.ctx.Err() != nil:
		return fmt.Errorf("cannot read %s: %w", w.dir, context.Cause(w.ctx))
	case errors.Is(err, fs.ErrNotExist) && p != ".":
		return nil
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", path.Join(w.dir, p), release.Reason(err))
	case w.entries > maxEntries:
		return fmt.Errorf("%s has more than %d files", w.dir, maxEntries)
	case strings.Count(p, "/") > maxDepth:
		return fmt.Errorf("%s has directories more than %d deep", w.dir, maxDepth)
	case e.Type()&fs.ModeSymlink != 0 && hidesMigrations(path.Join(w.dir, p)):
		return fmt.Errorf("%s is a link to migrations, which are not followed", path.Join(w.dir, p))
	}
	w.entries++
	if e.IsDir() {
		return w.enter(p, e.Name())
	}
	switch e.Name() {
	case "apps.py":
		w.app(path.Dir(p)).configRaw = p
	case "models.py":
		w.app(path.Dir(p)).modelsRaw = p
	default:
		w.add(p, e)
	}
	return nil
}

func (w *walk) enter(p, name string) error {
	switch name {
	case "__pycache__", "node_modules", ".git":
		if p != "." {
			return fs.SkipDir
		}
	case "models":
		w.app(path.Dir(p)).models = true
	case "site-packages", "dist-packages":
		w.packages = true
	}
	return nil
}

// add notes a file that is a migration by its name.
func (w *walk) add(p string, e fs.DirEntry) {
	stem, source, ok := module(path.Base(p))
	parent := path.Dir(p)
	if !ok || path.Base(parent) != "migrations" {
		return
	}
	key := keyOf(path.Join(parent, stem))
	if known := w.files[key]; known != nil && known.problem == "" {
		return // Python prefers the source to what was compiled from it
	}
	f := &file{path: p, key: key, stem: stem, app: w.app(path.Dir(parent))}
	f.app.hasFiles = true
	switch {
	case !source:
		f.problem = "is only compiled, so that nobody can read it"
	case e.Type()&fs.ModeSymlink != 0:
		f.problem = "is a symbolic link, which is not followed"
	case !e.Type().IsRegular():
		f.problem = "is not a regular file"
	}
	w.files[key] = f
}

func (w *walk) app(p string) *app {
	key := keyOf(p)
	if w.apps[key] == nil {
		w.apps[key] = &app{key: key, path: p}
	}
	return w.apps[key]
}

// module tells whether a file is a module that Django takes for a migration. What pkgutil takes for one counts, which
// includes what was compiled, by Python or to a library.
func module(base string) (stem string, source, ok bool) {
	switch path.Ext(base) {
	case ".py":
		stem, source = strings.TrimSuffix(base, ".py"), true
	case ".pyc":
		stem = strings.TrimSuffix(base, ".pyc")
	case ".so":
		stem, _, _ = strings.Cut(base, ".")
	}
	return stem, source, stem != "" && stem[0] != '_' && stem[0] != '~'
}

// keyOf makes a path independent of where the release's environment lies and of its Python's version.
func keyOf(p string) string {
	if i := strings.LastIndex("/"+p, "/site-packages/"); i >= 0 {
		return p[i:]
	}
	return p
}

// hidesMigrations tells whether a link is one to migrations, or to an app with some.
func hidesMigrations(link string) bool {
	info, err := os.Stat(link)
	if err != nil || !info.IsDir() {
		return false
	}
	if path.Base(link) == "migrations" {
		return true
	}
	_, err = os.Stat(path.Join(link, "migrations"))
	return err == nil
}

// classStatement finds whether a models.py may have models: startapp makes one that has none.
var classStatement = regexp.MustCompile(`(?m)^\s*(class|from|import)\s+(\S+)`)

// load reads the texts.
func (w *walk) load() {
	for _, f := range w.sorted() {
		if f.problem == "" {
			f.text, f.problem = w.readFile(f.path)
			f.sum = sha256.Sum256(f.text)
		}
	}
	for _, a := range w.apps {
		if a.configRaw != "" && (a.hasFiles || a.modelsRaw != "" || a.models) {
			// A configuration that can't be read sets no label that could be known.
			a.config, _ = w.readFile(a.configRaw)
		}
		if a.modelsRaw != "" && !a.hasFiles {
			text, problem := w.readFile(a.modelsRaw)
			a.models = a.models || problem != "" || hasModels(text)
		}
	}
}

// hasModels tells whether a models.py defines or imports more than startapp's import of django.db.models.
func hasModels(text []byte) bool {
	for _, m := range classStatement.FindAllSubmatch(text, -1) {
		if string(m[1]) != "from" && string(m[1]) != "import" || string(m[2]) != "django.db" && string(m[2]) != "__future__" {
			return true
		}
	}
	return false
}

// sorted is the files by path, so that the same release always gives the same answers.
func (w *walk) sorted() []*file {
	var files []*file
	for _, f := range w.files {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return files
}

// readFile reads a regular file of the release; problem says why it can't.
func (w *walk) readFile(p string) (text []byte, problem string) {
	// A fifo, put there since it was looked at, would make the reader wait for ever.
	f, err := w.root.OpenFile(p, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Sprintf("cannot be read: %v", release.Reason(err))
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Sprintf("cannot be read: %v", release.Reason(err))
	case !info.Mode().IsRegular():
		return nil, "is not a regular file"
	}
	text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Sprintf("cannot be read: %v", release.Reason(err))
	case len(text) > maxFile:
		return nil, fmt.Sprintf("is larger than %d MiB", maxFile>>20)
	case w.text+len(text) > maxText:
		return nil, fmt.Sprintf("was not read: the release has more than %d MiB of migrations", maxText>>20)
	}
	w.text += len(text)
	return text, ""
}

// jobs is what Python is to look at.
func (w *walk) jobs() []job {
	var jobs []job
	for _, f := range w.sorted() {
		if f.problem == "" {
			jobs = append(jobs, job{kind: 'M', text: f.text, answer: &f.answer})
		}
	}
	for _, a := range w.apps {
		if len(a.config) > 0 {
			jobs = append(jobs, job{kind: 'A', text: a.config, answer: &a.answer})
		}
	}
	return jobs
}
