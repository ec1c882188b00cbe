package rollback

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"deploygate/release"
)

// maxEntries bounds the walk through one release: a release with an environment of its own has some 30,000 files.
const maxEntries = 1_000_000

// maxDepth bounds it too: each level is looked up from the top.
const maxDepth = 64

// Migrations finds the migrations of the release in dir by their file names alone, in Django's layout: a module
// directly in a package named migrations, whose name does not start with '_' or '~' (Django's
// MigrationLoader.load_disk). Each is keyed by its path without the suffix; what lies in a site-packages directory,
// by its path below that, so that another Python version doesn't make every one of them new.
//
// Links are not followed. One that may hide migrations, since it is named so or leads to a directory that holds
// some, is an error: nobody could say what they are. A directory that vanishes meanwhile is no error.
func Migrations(dir string) (map[string]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", dir, release.Reason(err))
	}
	defer root.Close()
	found := map[string]string{}
	entries := 0
	err = fs.WalkDir(root.FS(), ".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && p != ".":
			return nil
		case err != nil:
			return fmt.Errorf("cannot read %s: %w", path.Join(dir, p), release.Reason(err))
		case entries > maxEntries:
			return fmt.Errorf("%s has more than %d files", dir, maxEntries)
		case strings.Count(p, "/") > maxDepth:
			return fmt.Errorf("%s has directories more than %d deep", dir, maxDepth)
		case e.Type()&fs.ModeSymlink != 0 && hidesMigrations(path.Join(dir, p)):
			return fmt.Errorf("%s is a link to migrations, which are not followed", path.Join(dir, p))
		}
		entries++
		if e.IsDir() {
			if name := e.Name(); p != "." && (name == "__pycache__" || name == "node_modules" || name == ".git") {
				return fs.SkipDir
			}
			return nil
		}
		if key, name, ok := migration(p); ok {
			found[key] = name
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// migration tells whether the file at p, relative to a release, is one, and gives its key and its name as app.name.
func migration(p string) (key, name string, ok bool) {
	base := path.Base(p)
	stem, isSource := strings.CutSuffix(base, ".py")
	if !isSource {
		if stem, ok = strings.CutSuffix(base, ".pyc"); !ok {
			return "", "", false
		}
	}
	parent := path.Dir(p)
	if path.Base(parent) != "migrations" || stem == "" || stem[0] == '_' || stem[0] == '~' {
		return "", "", false
	}
	key = path.Join(parent, stem)
	if i := strings.LastIndex(key, "site-packages/"); i >= 0 {
		key = key[i:]
	}
	name = stem
	if app := path.Dir(parent); app != "." {
		name = path.Base(app) + "." + stem
	}
	return key, name, true
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

var errUnknown = errors.New("its directory is gone, and the record has no word of it")
