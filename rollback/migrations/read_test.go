package migrations

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/release/python"
	"deploygate/scripts/assert"
)

const plainText = `
from django.db import migrations, models
class Migration(migrations.Migration):
    operations = []
`

func TestMigrationsAreFoundByTheirFileNames(t *testing.T) {
	files := map[string]string{}
	for _, file := range []string{
		"manage.py", "shop/models.py", "shop/migrations.py", "migrations/README.py.txt",
		"shop/migrations/__init__.py", "shop/migrations/0001_initial.py", "shop/migrations/0002_x.pyc",
		"shop/migrations/0003_x.cpython-312-x86_64-linux-gnu.so", "shop/migrations/0001_initial.pyc",
		"shop/migrations/_helpers.py", "shop/migrations/~0003_backup.py", "shop/migrations/.py", "shop/migrations/notes.txt",
		"shop/migrations/__pycache__/0004_gone.cpython-312.pyc", "shop/migrations/sql/0005_x.py",
		"shop/migrations/__init__/0006_x.py", "shop/old_migrations/0007_x.py", "shop/migrationsx/0008_x.py",
		"deep/er/blog/migrations/squashed.py", "migrations/0001_top.py",
		"venv/lib/python3.11/site-packages/django/contrib/auth/migrations/0001_initial.py",
		"node_modules/a/migrations/0001_js.py", ".git/migrations/0001_git.py",
	} {
		files[file] = plainText
	}
	dir := tree(t, files)
	assert.OK(t, os.Symlink("gone.py", filepath.Join(dir, "shop/migrations/0010_dangling.py")))
	assert.OK(t, os.MkdirAll(filepath.Join(dir, "shop/migrations/0011_package.py"), 0o755))
	s, err := Read(t.Context(), dir)
	assert.OK(t, err)
	got := map[string]string{}
	for n, m := range s.Migrations {
		got[n.String()] = strings.Join(m.keys, " ") + " " + m.Problem
	}
	want := map[string]string{
		"shop.0001_initial":  "shop/migrations/0001_initial ",
		"shop.0002_x":        "shop/migrations/0002_x is only compiled, so that it can't be read",
		"shop.0003_x":        "shop/migrations/0003_x is only compiled, so that it can't be read",
		"shop.0010_dangling": "shop/migrations/0010_dangling is a symbolic link, which is not followed",
		"blog.squashed":      "deep/er/blog/migrations/squashed ",
		"0001_top":           "migrations/0001_top ",
		"auth.0001_initial":  "site-packages/django/contrib/auth/migrations/0001_initial ",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if m := s.Migrations[Name{"auth", "0001_initial"}]; !m.ThirdParty || s.Migrations[Name{"blog", "squashed"}].ThirdParty {
		t.Error("what lies in site-packages is a third party's, and nothing else")
	}
}

func TestMigrationsBehindALinkAreNotKnown(t *testing.T) {
	outside := tree(t, map[string]string{"migrations/0009_outside.py": plainText})
	for _, link := range []struct{ name, to string }{
		{"shop", outside}, // an app
		{"shop/migrations", filepath.Join(outside, "migrations")}, // its migrations
		{"shop/migrations", "../db"},                              // somewhere else in the release
	} {
		dir := t.TempDir()
		assert.OK(t, os.MkdirAll(filepath.Join(dir, "db"), 0o755))
		assert.OK(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, link.name)), 0o755))
		assert.OK(t, os.Symlink(link.to, filepath.Join(dir, link.name)))
		if s, err := Read(t.Context(), dir); err == nil {
			t.Errorf("%s -> %s: %v, want an error", link.name, link.to, s)
		}
	}
}

func TestReleasesThatCannotBeRead(t *testing.T) {
	deep := t.TempDir()
	assert.OK(t, os.MkdirAll(filepath.Join(deep, strings.Repeat("d/", maxDepth+5)), 0o755))
	for _, dir := range []string{deep, filepath.Join(t.TempDir(), "none")} {
		if s, err := Read(t.Context(), dir); err == nil {
			t.Errorf("%s: %v, want an error", dir, s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Read(ctx, tree(t, map[string]string{"shop/migrations/0001.py": plainText})); err == nil {
		t.Errorf("after the time limit: %v, want an error", s)
	}
}

// hostile files, and the problem of each; "" for none.
var hostile = map[string]struct{ text, problem string }{
	"not_python":       {"<?php echo 1;", "is not Python"},
	"nothing":          {"", "has no plain class Migration"},
	"null_byte":        {"x = '\x00'\n" + plainText, ""},
	"not_utf8":         {"x = '\xff'\n" + plainText, "is not Python"},
	"bom":              {"\ufeff" + plainText, ok},
	"latin1":           {"# -*- coding: latin-1 -*-\nx = '\xff'\n" + plainText, ok},
	"windows":          {"# coding: cp1252\nx = '\x80'\n" + plainText, ok},
	"no_such_coding":   {"# coding: frobnicate\n" + plainText, "is not Python"},
	"crlf":             {strings.ReplaceAll(plainText, "\n", "\r\n"), ok},
	"tabs":             {strings.ReplaceAll(plainText, "    ", "\t"), ok},
	"parentheses":      {"x = " + strings.Repeat("(", 5000) + strings.Repeat(")", 5000), ""},
	"brackets":         {"x = " + strings.Repeat("[", 60) + strings.Repeat("]", 60) + plainText, ok},
	"unary":            {"x = " + strings.Repeat("-", 200_000) + "1\n" + plainText, ""},
	"not":              {"x = " + strings.Repeat("not ", 200_000) + "1\n" + plainText, ""},
	"lambdas":          {"x = " + strings.Repeat("lambda:", 140_000) + "1\n" + plainText, ""},
	"attributes":       {"x = a" + strings.Repeat(".a", 400_000) + "\n" + plainText, ""},
	"sum":              {"x = 1" + strings.Repeat("+1", 400_000) + "\n" + plainText, ""},
	"operations_sum":   {"from django.db import migrations\nclass Migration(migrations.Migration):\n    operations = []" + strings.Repeat("+[]", 300_000), ""},
	"power":            {"x = 9**9**9**9\n" + plainText, ok},
	"huge_number":      {"x = " + strings.Repeat("9", 900_000) + "\n" + plainText, ""},
	"many_operations":  {"from django.db import migrations as m\nclass Migration(m.Migration):\n    operations = [" + strings.Repeat("m.A(),", 150_000) + "]", "has more than 10000 operations"},
	"much_to_say":      {"from django.db import migrations as m\nclass Migration(m.Migration):\n    operations = [m.A(" + strings.Repeat("-x,", 330_000) + ")]", "says more than can be judged"},
	"larger":           {"# " + strings.Repeat("x", 2<<20), "is larger than 1 MiB"},
	"surrogates":       {"x = '\\ud800'\n" + plainText, ok},
	"fstrings":         {"x = f'" + strings.Repeat("{f\"", 30) + "'\n" + plainText, ""},
	"after":            {plainText, ok},
	"zzz_another_good": {plainText, ok},
}

// ok is for no problem, "" for one that depends on the version of Python.
const ok = "ok"

func TestHostileFilesHaveAProblemAndTheOthersAreRead(t *testing.T) {
	needPython(t)
	files := map[string]string{}
	for name, h := range hostile {
		files["shop/migrations/"+name+".py"] = h.text
	}
	dir := tree(t, files)
	assert.OK(t, unix.Mkfifo(filepath.Join(dir, "shop/migrations/fifo.py"), 0o644))
	assert.OK(t, os.Symlink("/etc/passwd", filepath.Join(dir, "shop/migrations/link.py")))
	assert.OK(t, os.Truncate(filepath.Join(dir, "shop/migrations/larger.py"), 50<<20))
	before := time.Now()
	s, err := Read(t.Context(), dir)
	assert.OK(t, err)
	t.Log(time.Since(before))
	for name, h := range hostile {
		m := s.Migrations[Name{"shop", name}]
		t.Logf("%-20s %.120s", name, m.Problem)
		switch h.problem {
		case "":
		case ok:
			if m.Problem != "" {
				t.Errorf("%s has the problem %q", name, m.Problem)
			}
		default:
			if !strings.Contains(m.Problem, h.problem) {
				t.Errorf("%s has the problem %q, want %q", name, m.Problem, h.problem)
			}
		}
	}
	for name, want := range map[string]string{"fifo": "is not a regular file", "link": "is a symbolic link, which is not followed"} {
		if m := s.Migrations[Name{"shop", name}]; m.Problem != want {
			t.Errorf("%s has the problem %q, want %q", name, m.Problem, want)
		}
	}
}

func TestNothingIsExecuted(t *testing.T) {
	needPython(t)
	dir := t.TempDir()
	assert.OK(t, os.Chmod(dir, 0o777)) // so that nobody could write to it, were it executed
	proof := filepath.Join(dir, "executed")
	text := fmt.Sprintf("open(%q, 'w')\n__import__('os').system('touch %s')\n%s\nopen(%q, 'w')\n", proof, proof, plainText, proof)
	for _, file := range []string{
		"shop/migrations/0001_initial.py", "shop/migrations/__init__.py", "shop/__init__.py", "shop/apps.py", "sitecustomize.py",
		"ast.py", "json.py",
	} {
		write(t, filepath.Join(dir, file), text)
	}
	t.Chdir(dir)
	s, err := Read(t.Context(), dir)
	assert.OK(t, err)
	if m := s.Migrations[Name{"shop", "0001_initial"}]; m.Problem != "" {
		t.Error(m.Problem)
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("a migration was executed")
	}
}

func TestPythons(t *testing.T) {
	dir := tree(t, map[string]string{
		"shop/migrations/0001_initial.py": plainText, "shop/migrations/0002_next.py": plainText,
		"shop/migrations/0003_old.pyc": plainText,
	})
	script := func(text string) string { return script(t, text) }
	for _, c := range []struct{ what, python, problem string }{
		{"none", "", noPython},
		{"gone", "/nonexistent/python3", "cannot run /nonexistent/python3"},
		{"does not start", script("echo no libpython >&2; exit 127"), "it does not start: exit status 127: it says nothing: no libpython"},
		{"dies", script("echo {}; exit 1"), deadly},
		{"talks", script("echo {}; echo hello; cat"), deadly},
		{"chatters", script("yes '{}'"), ""}, // more answers than asked for
		{"old", script(`echo '{"fatal":"python3 is older than 3.8"}'`), "python3 is older than 3.8"},
		{"endless", script("echo {}; while :; do printf xxxxxxxxxxxxxxxx; done"), deadly},
		{"odd", script(`echo {}; echo '{"operations":["x"]}'`), deadly},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, err := newReader(c.python).Read(t.Context(), dir)
			assert.OK(t, err)
			for _, name := range []string{"0001_initial", "0002_next"} {
				if m := s.Migrations[Name{"shop", name}]; !strings.Contains(m.Problem, c.problem) {
					t.Errorf("%s has the problem %q, want %q", name, m.Problem, c.problem)
				}
			}
			if m := s.Migrations[Name{"shop", "0003_old"}]; m.Problem != "is only compiled, so that it can't be read" {
				t.Error(m.Problem)
			}
		})
	}
	t.Run("is nobody", func(t *testing.T) {
		python := script(`echo {}; while read -r line; do :; done; echo "{\"problem\":\"$(id -u) $(id -G) $(pwd) $HOME$PATH\"}"; cat`)
		t.Setenv("HOME", "/secret")
		s, err := newReader(python).Read(t.Context(), dir)
		assert.OK(t, err)
		if got := s.Migrations[Name{"shop", "0001_initial"}].Problem; os.Geteuid() == 0 && !strings.HasPrefix(got, "65534 65534 / ") ||
			strings.Contains(got, "secret") {
			t.Errorf("runs as %q", got)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if s, err := newReader(script("exec tail -f /dev/null")).Read(ctx, dir); err == nil {
			t.Errorf("%v, want an error", s)
		}
	})
}

// script stands for a Python, where nobody can run it.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join("/tmp", fmt.Sprintf("deploygate-python-%d-%d", os.Getpid(), time.Now().UnixNano()))
	assert.OK(t, os.WriteFile(file, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	t.Cleanup(func() { _ = os.Remove(file) })
	return file
}

func TestManyDeadlyFilesAreNotAllTried(t *testing.T) {
	var jobs []job
	answers := make([]answer, maxDeaths+30)
	for i := range answers {
		jobs = append(jobs, job{'M', nil, &answers[i]})
	}
	assert.OK(t, newReader(script(t, "echo {}")).ask(t.Context(), jobs))
	if first, last := answers[0].Problem, answers[len(answers)-1].Problem; first != deadly || last != tooMany {
		t.Errorf("%q and %q", first, last)
	}
}

// styles are ways to write a migration, and what is read of them: operations, or the problem.
var styles = map[string]struct{ text, want string }{
	"plain": {`
from django.db import migrations, models
class Migration(migrations.Migration):
    """What it does."""
    atomic = False
    operations = [migrations.AddField(model_name="Order", name="x", field=models.IntegerField())]
`, "AddField order.x"},
	"imported": {`
from django.db.migrations import AddField, Migration as Base, RunSQL as SQL
from django.db.models import IntegerField
class Migration(Base):
    operations: list = (AddField("order", "x", IntegerField()), SQL("x"))
`, "AddField order.x, RunSQL"},
	"modules": {`
import django.db.migrations as m
import django.db.models
class Migration(m.Migration):
    operations = [m.RemoveField("order", "x")] + [m.operations.AddIndex("order", index=django.db.models.Index(name="i"))] + []
`, "RemoveField order.x, AddIndex order.i"},
	"a name for an operation": {`
from django.db import migrations
drop = migrations.DeleteModel("Order")
class Migration(migrations.Migration):
    operations = [drop, migrations.RenameField("order", "a", "b"), shop.ops.Own()]
`, "drop, RenameField order.a to b, Own"},
	"a name bound twice": {`
from django.db import migrations
try:
    from shop import migrations
except ImportError:
    pass
class Migration(migrations.Migration):
    operations = []
`, "its class Migration is built on another one"},
	"an operation's name bound twice": {`
from django.db import migrations
from django.db.migrations import DeleteModel
class DeleteModel(DeleteModel):
    pass
class Migration(migrations.Migration):
    operations = [DeleteModel("x")]
`, "DeleteModel?"},
	"names bound in odd ways": {`
from django.db import migrations
from django.db.migrations import DeleteModel, AddIndex, AddField, RunSQL, RunPython, RemoveField
for AddIndex in []: pass
with x as (AddField, RunSQL): pass
def f():
    global RunPython
if (RemoveField := 1): pass
DeleteModel.database_forwards = f
class Migration(migrations.Migration):
    operations = [DeleteModel("x"), AddIndex("x"), AddField("x"), RunSQL("x"), RunPython("x"), RemoveField("x")]
`, "DeleteModel?, AddIndex?, AddField?, RunSQL?, RunPython?, RemoveField?"},
	"a local name doesn't matter": {`
from django.db import migrations
def f():
    migrations = 1
    Migration, y = 2, (z := 3)
class Migration(migrations.Migration):
    operations = [migrations.DeleteModel("x")]
`, "its operations are built by code"}, // nobody calls a variable Migration
	"a star": {`
from django.db import migrations
from shop.helpers import *
class Migration(migrations.Migration):
    operations = []
`, "imports everything of shop.helpers"},
	"another class": {`
from django.db import migrations
class Base(migrations.Migration):
    operations = []
class Migration(Base):
    pass
`, "its class Migration is built on another one"},
	"a method": {`
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("shop", "0001")]
    def __init__(self, name, app_label):
        super().__init__(name, "auth")
`, "its class Migration has code of its own"},
	"a loop": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = []
    for x in "abc":
        operations.append(migrations.DeleteModel(x))
`, "its operations are built by code"},
	"a comprehension": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = [migrations.DeleteModel(x) for x in "abc"]
`, "its operations are built by code"},
	"a star in the list": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = [*more]
`, "its operations are built by code"},
	"a condition": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = [migrations.DeleteModel("x")] if DEBUG else []
`, "its operations are built by code"},
	"added": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = []
    operations += [migrations.DeleteModel("x")]
`, "its operations are built by code"},
	"twice": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = []
    operations = [migrations.DeleteModel("x")]
`, "sets operations twice"},
	"changed afterwards": {`
from django.db import migrations
class Migration(migrations.Migration):
    operations = []
Migration.operations.append(migrations.DeleteModel("x"))
`, "its operations are built by code"},
	"under a condition": {`
from django.db import migrations
if True:
    class Migration(migrations.Migration):
        operations = []
`, "has no plain class Migration"},
	"decorated": {`
from django.db import migrations
@more
class Migration(migrations.Migration):
    operations = []
`, "its class Migration is built on another one"},
	"dependencies built by code": {`
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("shop", NAME)]
    operations = []
`, "its dependencies are built by code"},
	"a shadow in the class": {`
from django.db import migrations, models
class Migration(migrations.Migration):
    models = 1
    operations = [migrations.AddField("order", "x", models.IntegerField())]
`, "AddField order.x"},
	"no operations": {`
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("shop", "0001"), ("shop", "0002")]
`, ""},
}

func TestStyles(t *testing.T) {
	needPython(t)
	files := map[string]string{}
	for name, s := range styles {
		files["shop/migrations/"+name+".py"] = s.text
	}
	set := read(t, files)
	for name, s := range styles {
		m := set.Migrations[Name{"shop", name}]
		var got []string
		for _, o := range m.Operations {
			is := o.String()
			if o.Kind == "" && rules[is].args != nil {
				is += "?"
			}
			got = append(got, is)
		}
		if all := m.Problem + strings.Join(got, ", "); all != s.want && (s.want == "" || !strings.HasPrefix(m.Problem, s.want)) {
			t.Errorf("%s: got %q, want %q", name, all, s.want)
		}
	}
	if m := set.Migrations[Name{"shop", "plain"}]; m.Atomic || m.Operations[0].Line != 6 {
		t.Errorf("%+v", m)
	}
	if m := set.Migrations[Name{"shop", "a method"}]; !m.anywhere || len(m.Dependencies) != 1 {
		t.Errorf("%+v", m)
	}
}

func TestWords(t *testing.T) {
	needPython(t)
	const class = "from django.db import migrations\nclass Migration(migrations.Migration):\n    operations = [migrations.RunPython(f)]\n"
	for text, want := range map[string]string{
		"# rollback-safe: fills x only\n" + class:                     "fills x only",
		class + "    # rollback-safe: fills x only \n":                "fills x only",
		class + "    rollback_safe = 'fills x only'\n":                "fills x only",
		class + "    rollback_safe = ''\n":                            "",
		class + "    rollback_safe = True\n":                          "",
		class + "    rollback_safe = reason()\n":                      "",
		"# rollback-safe:\n" + class:                                  "",
		"# rollback-safe\n" + class:                                   "",
		"x = 1 # rollback-safe: not on its own\n" + class:             "",
		"'''\n# rollback-safe: in a string\n'''\n" + class:            "",
		"# is it rollback-safe: no\n" + class:                         "",
		"# rollback-safe:\n# rollback-safe: the second one\n" + class: "the second one",
	} {
		s := read(t, map[string]string{"shop/migrations/0001_x.py": text})
		m := s.Migrations[Name{"shop", "0001_x"}]
		if m.Word != want || m.Problem != "" {
			t.Errorf("%s\n\tgives %q (%s), want %q", text, m.Word, m.Problem, want)
		}
		j := Judge(s, &Set{}, nil)
		if safe := len(j.Blocking) == 0 && len(j.Safe) == 1 && strings.Contains(j.Safe[0].Why, want); safe != (want != "") {
			t.Errorf("%s\n\tis judged %v", text, j)
		}
	}
}

func TestLabels(t *testing.T) {
	needPython(t)
	for config, want := range map[string]string{
		"": "shop",
		"from django.apps import AppConfig\nclass C(AppConfig):\n    name = 'x'\n":                                        "shop",
		"from django.apps import AppConfig\nclass C(AppConfig):\n    label = 'store'\n":                                   "store",
		"import django.apps as a\nclass C(a.AppConfig):\n    label: str = 'store'\n":                                      "store",
		"from oscar.core.application import OscarConfig\nclass C(OscarConfig):\n    label = 'store'\n":                    "store",
		"from django.apps import AppConfig\nclass C(AppConfig):\n    label = 'a'\nclass D(AppConfig):\n    label = 'b'\n": "shop",
		"from django.apps import AppConfig\nclass C(AppConfig):\n    label = x()\n":                                       "shop",
		"class C:\n    label = 'store'\n": "shop",
		"not Python":                      "shop",
	} {
		s := read(t, map[string]string{"shop/migrations/0001_x.py": plainText, "shop/apps.py": config})
		if s.Migrations[Name{want, "0001_x"}] == nil {
			t.Errorf("%s\n\tis not %s", config, want)
		}
	}
}

// TestTheSameTextSaysTheSame has a text in several places: an app's configuration may be a migration's text, too.
func TestTheSameTextSaysTheSame(t *testing.T) {
	needPython(t)
	text := labelled("store") + written("", "", addB)
	s := read(t, map[string]string{
		"shop/apps.py": text, "shop/migrations/0001_x.py": text, "shop/migrations/0002_y.py": text, "blog/migrations/0001_z.py": text,
	})
	for _, n := range []Name{{"store", "0001_x"}, {"store", "0002_y"}, {"blog", "0001_z"}} {
		if m := s.Migrations[n]; m == nil || m.Problem != "" || fmt.Sprint(m.Operations) != "[AddField order.b]" {
			t.Errorf("%s: %+v", n, m)
		}
	}
}

// TestWhatIsStarted counts Pythons: none where nothing is new, one for both releases, none for what was parsed before.
func TestWhatIsStarted(t *testing.T) {
	needPython(t)
	// Python runs as nobody, and says each start with a byte.
	counting := script(t, fmt.Sprintf("printf x >>$0.started; exec %s \"$@\"", python.Find()))
	started := counting + ".started"
	assert.OK(t, os.WriteFile(started, nil, 0o666))
	assert.OK(t, os.Chmod(started, 0o666))
	t.Cleanup(func() { _ = os.Remove(started) })
	first := map[string]string{"shop/apps.py": labelled("store"), "shop/migrations/0001_initial.py": written("", "", createOrder)}
	more := maps.Clone(first)
	more["shop/migrations/0002_a.py"] = written("store.0001_initial", "", dropA)
	v1, same, v2, v3 := tree(t, first), tree(t, first), tree(t, more), tree(t, more)
	r := newReader(counting)
	for _, c := range []struct {
		what         string
		newer, older string
		starts       int // by then
		blocking     int
	}{
		{"nothing new", same, v1, 0, 0},
		{"fewer", v1, v2, 0, 0},
		{"both at once", v2, v1, 1, 1},
		{"the same pair", v2, v1, 1, 1},
		{"the same texts elsewhere", v3, same, 1, 1},
	} {
		j, err := r.Judge(t.Context(), c.newer, c.older, nil)
		assert.OK(t, err)
		if len(j.Blocking) != c.blocking {
			t.Errorf("%s: %v", c.what, j)
		}
		starts, err := os.ReadFile(started)
		assert.OK(t, err)
		if len(starts) != c.starts {
			t.Errorf("%s: %d Pythons were started by now, want %d", c.what, len(starts), c.starts)
		}
	}
}

// TestAnErrorIsNoAnswer has the time run out while Python runs: what it didn't say isn't taken for nothing.
func TestAnErrorIsNoAnswer(t *testing.T) {
	first := map[string]string{"shop/migrations/0001_initial.py": plainText}
	more := maps.Clone(first)
	more["shop/migrations/0002_a.py"] = plainText + "#"
	v1, v2, v3 := tree(t, first), tree(t, more), tree(t, more)
	r := newReader(script(t, "exec tail -f /dev/null"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for range 2 {
		if j, err := r.Judge(ctx, v2, v1, nil); err == nil {
			t.Errorf("%v, want an error", j)
		}
	}
	s, err := r.Read(t.Context(), v3)
	assert.OK(t, err)
	for n, m := range s.Migrations {
		if m.Problem == "" {
			t.Errorf("%s is taken for read", n)
		}
	}
}

func TestALinkInPlaceOfADirectoryIsNotFollowed(t *testing.T) {
	dir := tree(t, map[string]string{"real/migrations/0001.py": plainText})
	assert.OK(t, os.Symlink("real", filepath.Join(dir, "link")))
	top, err := os.Open(dir)
	assert.OK(t, err)
	defer top.Close()
	if d, err := openDir(top, "link"); err == nil {
		d.Close()
		t.Error("it is")
	}
	d, err := openDir(top, "real")
	assert.OK(t, err)
	d.Close()
}

// TestRealPackages reads what Debian packages; each operation must have a verdict that is meant.
func TestRealPackages(t *testing.T) {
	needPython(t)
	roots, _ := filepath.Glob("/var/cache/deploygate-testbed/*/usr/lib/python3/dist-packages/django/contrib")
	if len(roots) == 0 {
		t.Skip("no Debian roots")
	}
	seen := map[string]bool{}
	for _, dir := range roots {
		release, _, _ := strings.Cut(filepath.Base(strings.Split(dir, "/usr/")[0]), "-")
		if seen[release] {
			continue
		}
		seen[release] = true
		s, err := Read(t.Context(), dir)
		assert.OK(t, err)
		for _, m := range s.Migrations {
			if m.Problem != "" {
				t.Errorf("%s %s", m.File, m.Problem)
			}
		}
		for _, line := range verdicts(s) {
			t.Log(release, line)
		}
	}
}

// verdicts judges each of a set's migrations as the one that is new.
func verdicts(s *Set) []string {
	var lines []string
	for _, n := range s.sorted() {
		older := without(s, n)
		j := Judge(s, older, func(other Name) bool { return other != n })
		for _, r := range j.Safe {
			lines = append(lines, fmt.Sprintf("%s %s: safe: %s", n, r.Operation, r.Why))
		}
		for _, r := range j.Blocking {
			lines = append(lines, fmt.Sprintf("%s %s: blocked: %s", n, r.Operation, r.Why))
		}
	}
	return lines
}

// without is a set without n and what needs it, as the release before had it.
func without(s *Set, n Name) *Set {
	gone := map[Name]bool{n: true}
	for again := true; again; {
		again = false
		for other, m := range s.Migrations {
			if !gone[other] && slices.ContainsFunc(m.Dependencies, func(d Name) bool { return gone[d] }) {
				gone[other], again = true, true
			}
		}
	}
	older := &Set{Migrations: map[Name]*Migration{}, apps: s.apps, byKey: map[string]Name{}, packages: s.packages}
	for other, m := range s.Migrations {
		if !gone[other] {
			older.Migrations[other] = m
		}
	}
	return older
}

// FuzzAnswer reads what a Python that was taken over might say.
func FuzzAnswer(f *testing.F) {
	for _, line := range []string{
		`{"problem":"x"}`, `{"operations":[{"call":"django.db.migrations.AddField","line":3,"args":["a","b",{"call":"x"}]}]}`,
		`{"operations":[{"call":"django.db.migrations.CreateModel","kw":{"name":"A","fields":[["id",{"call":"?"}]],"options":{"dict":[["db_table",{"const":"1.5"}]]},"bases":[{"ref":"x"}]}}]}`,
		`{"operations":[{"call":"django.db.migrations.SeparateDatabaseAndState","args":[[{"call":"django.db.migrations.RunSQL","open":true}],{"unknown":"x"}]}]}`,
		`{"operations":[{"call":"django.db.migrations.RenameModel","args":["A","B"]},{"call":"django.db.migrations.AlterField","args":["B","x",{"call":"django.db.models.CharField","kw":{"max_length":3}}]}]}`,
		`{"replaces":[["shop","0001_x"]],"dependencies":[["shop","__first__"]]}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(_ *testing.T, line []byte) {
		a, err := parseAnswer(line)
		if err != nil {
			return
		}
		shop := &app{key: "shop", path: "shop", hasFiles: true, answer: &answer{}}
		l := &listing{apps: map[string]*app{"shop": shop}, files: map[string]*file{
			"1": {path: "shop/migrations/0001_x.py", key: "1", app: shop, stem: "0001_x", answer: &a},
			"2": {path: "shop/migrations/0002_x.py", key: "2", app: shop, stem: "0002_x", answer: &a},
		}}
		s := newSet(l)
		Judge(s, &Set{}, nil)
		Judge(s, without(s, Name{"shop", "0002_x"}), nil)
		Judge(without(s, Name{"shop", "0001_x"}), s, nil)
	})
}

// typical is as long as most.
const typical = `from django.db import migrations, models
import django.db.models.deletion


class Migration(migrations.Migration):

    dependencies = [
        ('shop', '0013_order_paid_at'),
    ]

    operations = [
        migrations.CreateModel(
            name='Invoice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.CharField(max_length=20, unique=True)),
                ('issued', models.DateField(blank=True, null=True)),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='shop.order')),
            ],
            options={'ordering': ['-issued']},
        ),
        migrations.AlterField(
            model_name='order',
            name='state',
            field=models.CharField(choices=[('new', 'New'), ('paid', 'Paid')], default='new', max_length=10),
        ),
    ]
`
