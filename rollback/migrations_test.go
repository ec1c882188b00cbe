package rollback

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMigrationsAreFoundByTheirFileNames(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{
		"manage.py", "shop/models.py", "shop/migrations.py", "migrations/README.py.txt",
		"shop/migrations/__init__.py", "shop/migrations/0001_initial.py", "shop/migrations/0002_x.pyc",
		"shop/migrations/_helpers.py", "shop/migrations/~0003_backup.py", "shop/migrations/.py", "shop/migrations/notes.txt",
		"shop/migrations/__pycache__/0004_gone.cpython-312.pyc", "shop/migrations/sql/0005_x.py",
		"shop/migrations/__init__/0006_x.py", "shop/old_migrations/0007_x.py", "shop/migrationsx/0008_x.py",
		"deep/er/blog/migrations/squashed.py",
		"venv/lib/python3.11/site-packages/django/contrib/auth/migrations/0001_initial.py",
		"node_modules/a/migrations/0001_js.py", ".git/migrations/0001_git.py",
	} {
		write(t, filepath.Join(dir, file), "")
	}
	must(t, os.Symlink(t.TempDir(), filepath.Join(dir, "media")))
	must(t, os.Symlink("gone.py", filepath.Join(dir, "shop/migrations/0010_dangling.py")))
	must(t, os.MkdirAll(filepath.Join(dir, "shop/migrations/0011_package.py"), 0o755))
	got, err := Migrations(dir)
	must(t, err)
	want := map[string]string{
		"shop/migrations/0001_initial":                              "shop.0001_initial",
		"shop/migrations/0002_x":                                    "shop.0002_x",
		"shop/migrations/0010_dangling":                             "shop.0010_dangling",
		"deep/er/blog/migrations/squashed":                          "blog.squashed",
		"site-packages/django/contrib/auth/migrations/0001_initial": "auth.0001_initial",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestMigrationsBehindALinkAreNotKnown(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "migrations/0009_outside.py"), "")
	for _, link := range []struct{ name, to string }{
		{"shop", outside}, // an app
		{"shop/migrations", filepath.Join(outside, "migrations")}, // its migrations
		{"shop/migrations", "../db"},                              // somewhere else in the release
	} {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "db"), 0o755))
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, link.name)), 0o755))
		must(t, os.Symlink(link.to, filepath.Join(dir, link.name)))
		if m, err := Migrations(dir); err == nil {
			t.Errorf("%s -> %s: %v, want an error", link.name, link.to, m)
		}
	}
}

func TestMigrationsTooDeepAreNotKnown(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, strings.Repeat("d/", maxDepth+5)), 0o755))
	if _, err := Migrations(dir); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("error %v", err)
	}
}

func TestAnotherPythonMakesNoMigrationNew(t *testing.T) {
	var found []map[string]string
	for _, python := range []string{"venv/lib/python3.11", ".venv/lib64/python3.13"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, python, "site-packages/app/migrations/0001_initial.py"), "")
		m, err := Migrations(dir)
		must(t, err)
		found = append(found, m)
	}
	if d := cmp.Diff(found[0], found[1]); d != "" || len(found[0]) != 1 {
		t.Error(found, d)
	}
}

func TestMigrationsOfWhatCannotBeReadAreNotKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, dir := range []string{file, filepath.Join(t.TempDir(), "gone")} {
		if m, err := Migrations(dir); err == nil {
			t.Errorf("Migrations(%s) = %v", dir, m)
		}
	}
}
