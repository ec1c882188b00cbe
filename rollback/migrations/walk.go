package migrations

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

const (
	// maxEntries bounds the walk through one release: a release with an environment of its own has some 30,000 files.
	maxEntries = 1_000_000
	// maxDepth bounds it too: each level keeps a directory open.
	maxDepth = 64
)

// listing is the migrations of one release as its files show them, and what gives them their labels. The rest is read
// and parsed where it is needed.
type listing struct {
	dir string
	// packages reports whether the release has its environment in it.
	packages bool
	files    map[string]*file // by key
	apps     map[string]*app  // by the key of their directory
	text     int              // bytes read

	set *Set // once they are parsed
	err error
}

// file is a module that is a migration by its name.
type file struct {
	path    string // relative to the release
	key     string // the same without the suffix, below site-packages if it is there
	app     *app
	stem    string
	problem string
	sum     [sha256.Size]byte // of its text
	answer  *answer
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
	answer    *answer
}

// newListing walks through the release in dir.
func newListing(ctx context.Context, dir string) *listing {
	l, err := untrusted.WithinLimit(dir, maxWalk, func() (*listing, error) { return walkThrough(ctx, dir), nil })
	if err != nil {
		return &listing{dir: dir, files: map[string]*file{}, apps: map[string]*app{}, err: err}
	}
	return l
}

// maxWalk is how long that may take: thousands of files on a disk that is slow.
const maxWalk = 30 * time.Second

func walkThrough(ctx context.Context, dir string) *listing {
	l := &listing{dir: dir, files: map[string]*file{}, apps: map[string]*app{}}
	root, err := os.OpenRoot(dir)
	if err != nil {
		l.err = fmt.Errorf("cannot read %s: %w", dir, untrusted.Cause(err))
		return l
	}
	defer root.Close()
	top, err := root.Open(".")
	if err != nil {
		l.err = fmt.Errorf("cannot read %s: %w", dir, untrusted.Cause(err))
		return l
	}
	defer top.Close()
	w := walk{ctx: ctx, listing: l}
	if l.err = w.inside(top, "", 0); l.err == nil {
		l.readConfigs(root)
	}
	return l
}

// within reports whether older has every migration of l, by its file's key and its app's label: then none is new, whatever
// is in the files, since Django applies none of the same name again (Set.New). A label is what the app's configuration
// says, and the same text says the same, or else the directory's name, which is in the key.
func (l *listing) within(older *listing) bool {
	for key, f := range l.files {
		was := older.files[key]
		if was == nil || !bytes.Equal(was.app.config, f.app.config) {
			return false
		}
	}
	return true
}

// readConfigs reads what may set a label.
func (l *listing) readConfigs(root *os.Root) {
	for _, a := range l.sortedApps() {
		if a.configRaw != "" && (a.hasFiles || a.modelsRaw != "" || a.models) {
			// A configuration that can't be read sets no label that could be known.
			a.config, _ = l.readFile(root, a.configRaw)
		}
	}
}

// sorted is the files by path, so that the same release always gives the same answers.
func (l *listing) sorted() []*file {
	return slices.SortedFunc(maps.Values(l.files), func(a, b *file) int { return strings.Compare(a.path, b.path) })
}

func (l *listing) sortedApps() []*app {
	return slices.SortedFunc(maps.Values(l.apps), func(a, b *app) int { return strings.Compare(a.key, b.key) })
}

// walk is the search through one release.
type walk struct {
	ctx     context.Context
	entries int
	*listing
}

// inside visits what is in a directory, p by its path, in the order of the names. It takes an entry's type from the
// directory, and opens directories from the one above: looking at each by its path takes five times as long.
func (w *walk) inside(d *os.File, p string, depth int) error {
	entries, err := d.ReadDir(-1)
	w.entries += len(entries)
	switch {
	case w.ctx.Err() != nil:
		return fmt.Errorf("cannot read %s: %w", w.dir, context.Cause(w.ctx))
	case errors.Is(err, fs.ErrNotExist) && p != "":
		return nil
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", path.Join(w.dir, p), untrusted.Cause(err))
	case w.entries > maxEntries:
		return fmt.Errorf("%s has more than %d files", w.dir, maxEntries)
	case depth > maxDepth && len(entries) > 0:
		return fmt.Errorf("%s has directories more than %d deep", w.dir, maxDepth)
	}
	inMigrations := path.Base(p) == "migrations"
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return e.Type().IsRegular() && !inMigrations && e.Name() != "apps.py" && e.Name() != "models.py"
	})
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := w.visit(d, e, path.Join(p, e.Name()), depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) visit(parent *os.File, e fs.DirEntry, p string, depth int) error {
	switch {
	case e.Type()&fs.ModeSymlink != 0 && hidesMigrations(path.Join(w.dir, p)):
		return fmt.Errorf("%s is a link to migrations, which are not followed", path.Join(w.dir, p))
	case e.IsDir():
		return w.enter(parent, e.Name(), p, depth)
	case e.Name() == "apps.py":
		w.app(path.Dir(p)).configRaw = p
	case e.Name() == "models.py":
		w.app(path.Dir(p)).modelsRaw = p
	default:
		w.add(p, e)
	}
	return nil
}

func (w *walk) enter(parent *os.File, name, p string, depth int) error {
	switch name {
	case "__pycache__", "node_modules", ".git":
		return nil
	case "models":
		w.app(path.Dir(p)).models = true
	case "site-packages", "dist-packages":
		w.packages = true
	}
	d, err := openDir(parent, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot read %s: %w", path.Join(w.dir, p), err)
	}
	defer d.Close()
	return w.inside(d, p, depth+1)
}

// openDir opens a directory in another one. A link that was put in its place meanwhile is not followed.
func openDir(parent *os.File, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.EINTR): // a network's file system may say so
		case err != nil:
			return nil, err
		default:
			return os.NewFile(uintptr(fd), name), nil
		}
	}
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
	f := &file{path: p, key: key, stem: stem, app: w.app(path.Dir(parent)), answer: &answer{}}
	f.app.hasFiles = true
	switch {
	case !source:
		f.problem = "is only compiled, so that it can't be read"
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
		w.apps[key] = &app{key: key, path: p, answer: &answer{}}
	}
	return w.apps[key]
}

// module reports whether a file is a module that Django takes for a migration. What pkgutil takes for one counts, which
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

// hidesMigrations reports whether a link is one to migrations, or to an app with some.
func hidesMigrations(link string) bool {
	info, err := untrusted.Stat(link)
	if err != nil || !info.IsDir() {
		return false
	}
	if path.Base(link) == "migrations" {
		return true
	}
	_, err = untrusted.Stat(path.Join(link, "migrations"))
	return err == nil
}
