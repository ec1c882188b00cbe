package migrations

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/release/python"
	"deploygate/scripts/assert"
)

// contents are the files of a release: their text, or what else they are.
type contents map[string]string

const (
	fifo      = "\x00fifo"
	directory = "\x00directory"
	huge      = "\x00huge"
	linkTo    = "\x00link "
)

func (s contents) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range s {
		file := filepath.Join(dir, name)
		assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
		to, isLink := strings.CutPrefix(text, linkTo)
		switch {
		case isLink:
			assert.OK(t, os.Symlink(to, file))
		case text == fifo:
			assert.OK(t, unix.Mkfifo(file, 0o644))
		case text == directory:
			assert.OK(t, os.Mkdir(file, 0o755))
		case text == huge:
			assert.OK(t, os.WriteFile(file, nil, 0o644))
			assert.OK(t, os.Truncate(file, maxFile+1))
		default:
			assert.OK(t, os.WriteFile(file, []byte(text), 0o644))
		}
	}
	return dir
}

const (
	inVenv  = "venv/lib/python3.11/site-packages/"
	inVenv2 = "venv2/lib/python3.12/site-packages/"
)

// ordinary is a project with two apps, one of another label, and an environment with an app, twice.
func ordinary() contents {
	return contents{
		"manage.py": "", "shop/__init__.py": "", "shop/models.py": "class Order(models.Model):\n    pass\n",
		"shop/migrations/__init__.py":     "",
		"shop/migrations/0001_initial.py": written("", "", createOrder),
		"shop/migrations/0002_b.py":       written("shop.0001_initial", "", addB),
		"blog/apps.py":                    labelled("weblog"),
		"blog/migrations/0001_initial.py": written("shop.0001_initial", "", strings.ReplaceAll(createOrder, "Order", "Post")),
		"poll/models.py":                  "class Poll(models.Model):\n    pass\n",
		inVenv + "tag/apps.py":            labelled("tags"),
		inVenv + "tag/migrations/0001.py": written("", "", strings.ReplaceAll(createOrder, "Order", "Tag")),
		inVenv + "tag/migrations/0002.py": written("tags.0001", "", strings.ReplaceAll(addC, "order", "tag")),
	}
}

func labelled(label string) string {
	return fmt.Sprintf("from django.apps import AppConfig\n\n\nclass Config(AppConfig):\n    label = %q\n", label)
}

// change is one that a release may make to the one before.
type change struct {
	what string
	make func(*rand.Rand, contents)
}

var changes = []change{
	{"nothing", func(*rand.Rand, contents) {}},
	{"a file that is no migration", func(r *rand.Rand, s contents) { s["shop/views.py"] = fmt.Sprint(r.Uint64()) }},
	{"one byte of a migration", edit(func(text string) string { return text + "#" })},
	{"what a migration does", edit(func(text string) string { return strings.ReplaceAll(text, addB, dropA) })},
	{"what a migration needs", edit(func(text string) string { return strings.ReplaceAll(text, "shop", "blog") })},
	{"what a migration replaces", edit(func(text string) string {
		return strings.ReplaceAll(text, "replaces = []", `replaces = [("shop", "0002_b"), ("tags", "0002")]`)
	})},
	{"its author's word", edit(func(text string) string { return "# rollback-safe: I know\n" + text })},
	{"a migration is gone", func(r *rand.Rand, s contents) { delete(s, pick(r, s)) }},
	{"an app is gone", func(r *rand.Rand, s contents) { move(s, appOf(pick(r, s)), "") }},
	{"a migration more", add("shop/migrations/0003_c.py", written("shop.0002_b", "", addC))},
	{"a migration that blocks", add("shop/migrations/0003_a.py", written("shop.0002_b", "", dropA))},
	{"a migration of another app", add("blog/migrations/0002_c.py", written("weblog.0001_initial", "", strings.ReplaceAll(addC, "order", "post")))},
	{"an app's first migration", add("poll/migrations/0001_initial.py", written("", "", strings.ReplaceAll(createOrder, "Order", "Poll")))},
	{"a migration at the top", add("migrations/0001_top.py", plainText)},
	{"migrations in site-packages itself", add(inVenv+"migrations/0001.py", plainText)},
	{"migrations in another site-packages itself", add(inVenv2+"migrations/0001.py", plainText)},
	{"a label in site-packages itself", add(inVenv+"apps.py", labelled("packages"))},
	{"a squashed migration beside the rest", add("shop/migrations/0001_squashed.py", written("", "shop.0001_initial shop.0002_b", createOrder, addB))},
	{"a squashed migration for the rest", func(_ *rand.Rand, s contents) {
		delete(s, "shop/migrations/0001_initial.py")
		delete(s, "shop/migrations/0002_b.py")
		s["shop/migrations/0001_squashed.py"] = written("", "shop.0001_initial shop.0002_b", createOrder, addB)
	}},
	{"a squashed migration for what is not there", add("shop/migrations/0001_squashed.py", written("", "shop.0007 shop.0002_b", createOrder))},
	{"a label", func(r *rand.Rand, s contents) { s[appOf(pick(r, s))+"/apps.py"] = labelled("store") }},
	{"the label of another app", func(r *rand.Rand, s contents) { s[appOf(pick(r, s))+"/apps.py"] = labelled("shop") }},
	{"no label", func(r *rand.Rand, s contents) {
		s[appOf(pick(r, s))+"/apps.py"] = "from django.apps import AppConfig\n\n\nclass Config(AppConfig):\n    name = 'x'\n"
	}},
	{"two labels", func(r *rand.Rand, s contents) {
		s[appOf(pick(r, s))+"/apps.py"] = labelled("one") + labelled("two")
	}},
	{"no apps.py", func(r *rand.Rand, s contents) { delete(s, appOf(pick(r, s))+"/apps.py") }},
	{"an apps.py that can't be parsed", func(r *rand.Rand, s contents) { s[appOf(pick(r, s))+"/apps.py"] = labelled("x") + "(" }},
	{"an apps.py that can't be read", func(r *rand.Rand, s contents) { s[appOf(pick(r, s))+"/apps.py"] = fifo }},
	{"an apps.py that is a link", func(r *rand.Rand, s contents) {
		s["configuration.py"] = labelled("linked")
		s["shop/apps.py"] = linkTo + "../configuration.py"
	}},
	{"an apps.py that is a migration too", func(_ *rand.Rand, s contents) {
		s["shop/apps.py"] = labelled("both") + written("", "", addC)
		s["shop/migrations/0003_c.py"] = s["shop/apps.py"]
	}},
	{"an apps.py elsewhere", add("shop/sub/apps.py", labelled("nobody"))},
	{"a migration that is no Python", edit(func(string) string { return "<?php" })},
	{"an empty migration", edit(func(string) string { return "" })},
	{"a migration of another class", edit(func(text string) string { return strings.ReplaceAll(text, "(migrations.Migration)", "(Own)") })},
	{"a migration that is too large", edit(func(string) string { return huge })},
	{"a migration that is a fifo", edit(func(string) string { return fifo })},
	{"a migration that is a directory", edit(func(string) string { return directory })},
	{"a migration that is a link to nothing", edit(func(string) string { return linkTo + "nothing.py" })},
	{"a migration that is a link to another one", edit(func(string) string { return linkTo + "0001_initial.py" })},
	{"a migration that is only compiled", func(r *rand.Rand, s contents) {
		file := pick(r, s)
		s[strings.TrimSuffix(file, path.Ext(file))+".pyc"] = ""
		delete(s, file)
	}},
	{"a migration that is compiled too", func(r *rand.Rand, s contents) {
		file := pick(r, s)
		s[strings.TrimSuffix(file, path.Ext(file))+".pyc"] = ""
	}},
	{"a migration that is a library", add("shop/migrations/0003_l.cpython-311.so", "")},
	{"an app that moved", func(r *rand.Rand, s contents) {
		from := appOf(pick(r, s))
		move(s, from, "apps/"+path.Base(from))
	}},
	{"an app that was renamed", func(r *rand.Rand, s contents) { move(s, appOf(pick(r, s)), "store") }},
	{"an app that was copied", func(r *rand.Rand, s contents) { copyTo(s, appOf(pick(r, s)), "copy") }},
	{"an app of the same name", func(r *rand.Rand, s contents) {
		from := appOf(pick(r, s))
		copyTo(s, from, "lib/"+path.Base(from))
	}},
	{"an environment that moved", func(_ *rand.Rand, s contents) { move(s, path.Clean(inVenv), path.Clean(inVenv2)) }},
	{"a second environment", func(_ *rand.Rand, s contents) { copyTo(s, path.Clean(inVenv), path.Clean(inVenv2)) }},
	{"a second environment with another label", func(_ *rand.Rand, s contents) {
		copyTo(s, path.Clean(inVenv), path.Clean(inVenv2))
		s[inVenv2+"tag/apps.py"] = labelled("another")
	}},
	{"no environment", func(_ *rand.Rand, s contents) { move(s, path.Clean(inVenv), "") }},
	{"a link to migrations", add("linked", linkTo+"shop")},
	{"a link to something else", add("shop/linked", linkTo+"/usr")},
	{"migrations that are a link", add("poll/migrations", linkTo+"../shop/migrations")},
}

func add(file, text string) func(*rand.Rand, contents) {
	return func(_ *rand.Rand, s contents) { s[file] = text }
}

// edit changes one migration.
func edit(how func(string) string) func(*rand.Rand, contents) {
	return func(r *rand.Rand, s contents) {
		file := pick(r, s)
		s[file] = how(s[file])
	}
}

// pick chooses a migration.
func pick(r *rand.Rand, s contents) string {
	var all []string
	for file := range s {
		if _, _, ok := module(path.Base(file)); ok && path.Base(path.Dir(file)) == "migrations" {
			all = append(all, file)
		}
	}
	if len(all) == 0 {
		return "shop/migrations/0001_initial.py"
	}
	slices.Sort(all)
	return all[r.IntN(len(all))]
}

func appOf(file string) string { return path.Dir(path.Dir(file)) }

func move(s contents, from, to string) {
	for file, text := range maps.Clone(s) {
		if rest, below := strings.CutPrefix(file, from+"/"); below {
			delete(s, file)
			if to != "" {
				s[to+"/"+rest] = text
			}
		}
	}
}

func copyTo(s contents, from, to string) {
	for file, text := range maps.Clone(s) {
		if rest, below := strings.CutPrefix(file, from+"/"); below {
			s[to+"/"+rest] = text
		}
	}
}

// changed applies some changes, and says which.
func changed(r *rand.Rand, s contents, n int) (contents, []string) {
	s = maps.Clone(s)
	var what []string
	for range n {
		c := changes[r.IntN(len(changes))]
		c.make(r, s)
		what = append(what, c.what)
	}
	// What is below a file, or a link, can't be written.
	for file := range maps.Clone(s) {
		for other := range s {
			if strings.HasPrefix(other, file+"/") {
				delete(s, other)
			}
		}
	}
	return s, what
}

// TestReaderJudgesAsJudgeDoes compares the two ways to judge releases: Reader.Judge, which parses nothing where nothing is new,
// and each text once, with Judge on two releases that are read each by itself.
func TestReaderJudgesAsJudgeDoes(t *testing.T) {
	needPython(t)
	known, missed, parsed := 0, 0, 0
	count := func(a agreement) {
		switch {
		case a.known:
			known++
		case a.nothing:
			missed++
		default:
			parsed++
		}
	}
	for i, c := range changes {
		r := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // a test's choice
		older := ordinary()
		newer := maps.Clone(older)
		c.make(r, newer)
		newer, _ = changed(r, newer, 0)
		for _, a := range agree(t, c.what, newer, older) {
			count(a)
		}
	}
	for seed := range uint64(60) {
		for _, a := range generated(t, seed) {
			count(a)
		}
	}
	t.Logf("known by the files: %d; nothing new, but parsed: %d; parsed: %d", known, missed, parsed)
	if known < 50 || parsed < 50 {
		t.Error("one of the ways was hardly tried")
	}
}

func FuzzReaderJudgesAsJudgeDoes(f *testing.F) {
	if python.Find() == "" {
		f.Skip("no python3")
	}
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { generated(t, seed) })
}

// generated makes two releases that have some changes in common and differ in others.
func generated(t *testing.T, seed uint64) []agreement {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's choice
	common, what := changed(r, ordinary(), r.IntN(4))
	newer, brought := changed(r, common, r.IntN(4))
	older, had := changed(r, common, r.IntN(3))
	return agree(t, fmt.Sprintf("seed %d: both: %q; newer: %q; older: %q", seed, what, brought, had), newer, older)
}

// agreement is how Reader.Judge found its answer.
type agreement struct {
	known   bool // by the files
	nothing bool // nothing is new
}

// agree compares both ways, for a and b as the newer one.
func agree(t *testing.T, what string, a, b contents) []agreement {
	t.Helper()
	dirs := [2]string{a.write(t), b.write(t)}
	var sets [2]*Set
	var errs [2]error
	for i, dir := range dirs {
		sets[i], errs[i] = Read(t.Context(), dir)
	}
	reader := NewReader()
	var found []agreement
	for newer := range dirs {
		older := 1 - newer
		for _, skip := range []func(*Set) func(Name) bool{nil, skipSome} {
			var want Judgement
			wantErr := errs[newer]
			if wantErr == nil {
				wantErr = errs[older]
			}
			if wantErr == nil {
				var f func(Name) bool
				if skip != nil {
					f = skip(sets[newer])
				}
				want = Judge(sets[newer], sets[older], f)
			}
			got, err := reader.Judge(t.Context(), dirs[newer], dirs[older], skip)
			if fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Errorf("%s\n\terror %v, want %v", what, err, wantErr)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s\n%s", what, d)
			}
			if err == nil {
				found = append(found, agreement{
					known:   reader.listings[dirs[newer]].within(reader.listings[dirs[older]]),
					nothing: len(sets[newer].New(sets[older])) == 0,
				})
			}
		}
	}
	return found
}

func skipSome(of *Set) func(Name) bool {
	return func(n Name) bool { return of.Migrations[n] != nil && len(n.Name)%2 == 0 }
}
