package migrations

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written returns a migration's text: what it depends on and replaces, as "app.name", and its operations.
func written(dependencies, replaces string, operations ...string) string {
	return fmt.Sprintf(`
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [%s]
    replaces = [%s]
    operations = [%s]
`, pairs(dependencies), pairs(replaces), strings.Join(operations, ",\n        "))
}

func pairs(names string) string {
	var all []string
	for n := range strings.FieldsSeq(names) {
		app, name, _ := strings.Cut(n, ".")
		all = append(all, fmt.Sprintf("(%q, %q)", app, name))
	}
	return strings.Join(all, ", ")
}

const (
	createOrder = `migrations.CreateModel("Order", [("id", models.AutoField(primary_key=True)), ("a", models.CharField(max_length=9))])`
	addB        = `migrations.AddField("order", "b", models.IntegerField(null=True))`
	addC        = `migrations.AddField("order", "c", models.IntegerField(null=True))`
	dropA       = `migrations.RemoveField("order", "a")`
	run         = `migrations.RunPython(f)`
)

// archive understands "app.name: dependencies" lines: a release whose migrations have no operations.
func archive(lines string) map[string]string {
	files := map[string]string{}
	for line := range strings.Lines(lines) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		needs, replaces, _ := strings.Cut(rest, "replaces")
		app, module, _ := strings.Cut(name, ".")
		files[app+"/migrations/"+module+".py"] = written(needs, replaces)
	}
	return files
}

func TestNew(t *testing.T) {
	needPython(t)
	const three = `
		shop.0001:
		shop.0002: shop.0001
		shop.0003: shop.0002
	`
	for _, c := range []struct{ what, newer, older, want string }{
		{"none", three, three, ""},
		{"all", three, "", "shop.0001 shop.0002 shop.0003"},
		{"one", three, "shop.0001:\nshop.0002:", "shop.0003"},
		{"fewer", "shop.0001:", three, ""},
		{"the order of dependencies, not of names", "shop.1_a: blog.2_b\nblog.2_b: shop.3_c\nshop.3_c:", "", "shop.3_c blog.2_b shop.1_a"},
		{"a merge", "shop.a:\nshop.b: shop.a\nshop.c: shop.a\nshop.d: shop.b shop.c", "shop.a:", "shop.b shop.c shop.d"},
		{"a circle", "shop.a: shop.b\nshop.b: shop.a\nshop.c:", "", "shop.b shop.a shop.c"},
		{"itself", "shop.a: shop.a", "", "shop.a"},
		{"the first of an app", "shop.a: z.__first__\nz.2: z.1\nz.1:", "", "z.1 shop.a z.2"},
		{"the latest of an app", "shop.a: z.__latest__\nz.2: z.1\nz.1:", "", "z.1 z.2 shop.a"},
		{"an app that isn't there", "shop.a: auth.0001 auth.__first__ auth.__latest__", "", "shop.a"},
		{"squashed, all known", three + "shop.s: replaces shop.0001 shop.0002 shop.0003", three, ""},
		{"squashed, all known and gone", "shop.s: replaces shop.0001 shop.0002 shop.0003", three, ""},
		{"squashed, none known", three + "shop.s: replaces shop.0001 shop.0002 shop.0003", "", "shop.s"},
		{"squashed, some known", three + "shop.s: replaces shop.0001 shop.0002 shop.0003", "shop.0001:", "shop.0002 shop.0003"},
		{"squashed, some known, the rest gone", "shop.0001:\nshop.s: replaces shop.0001 shop.0002 shop.0003", "shop.0001:", "shop.s"},
		{"older has the squashed one", three, "shop.s: replaces shop.0001 shop.0002 shop.0003", ""},
		{"both have it", "shop.s: replaces shop.0001", "shop.s: replaces shop.0001\nshop.0001:", ""},
		{"squashed twice", "shop.t: replaces shop.s shop.0003\nshop.s: replaces shop.0001 shop.0002\n" + three, three, ""},
		{"squashed twice, some known", "shop.t: replaces shop.s shop.0003\nshop.s: replaces shop.0001 shop.0002\n" + three, "shop.0001:\nshop.0002:", "shop.0003"},
		{"squashed twice, none known", "shop.t: replaces shop.s shop.0003\nshop.s: replaces shop.0001 shop.0002\n" + three, "", "shop.t"},
		{"what needs a replaced one", three + "shop.s: replaces shop.0001 shop.0002 shop.0003\nblog.a: shop.0002", "", "shop.s blog.a"},
		{"replaces itself", "shop.a: replaces shop.a", "", "shop.a"},
		{"replace each other", "shop.a: replaces shop.b\nshop.b: replaces shop.a\nshop.c: replaces shop.b", "", "shop.b shop.c"},
	} {
		t.Run(c.what, func(t *testing.T) {
			newer, older := read(t, archive(c.newer)), read(t, archive(c.older))
			var got []string
			for _, n := range newer.New(older) {
				got = append(got, n.String())
			}
			if c.what == "replace each other" { // nobody could apply them; none may vanish without a trace
				if len(got) == 0 {
					t.Error("they vanish")
				}
				return
			}
			if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRunBefore(t *testing.T) {
	needPython(t)
	files := archive("shop.a:\nblog.z:")
	files["blog/migrations/z.py"] = strings.Replace(written("", ""), "operations", `run_before = [("shop", "a")]; operations`, 1)
	files["auth/migrations/b.py"] = strings.Replace(written("", ""), "operations", `run_before = [("shop", "a")]; operations`, 1)
	got := fmt.Sprint(read(t, files).New(&Set{}))
	if want := "[auth.b blog.z shop.a]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestReleases judges whole releases; what blocks is named by the operation or the reason, in order.
func TestReleases(t *testing.T) {
	needPython(t)
	first := map[string]string{"shop/migrations/0001_initial.py": written("", "", createOrder)}
	more := func(files ...string) map[string]string {
		all := map[string]string{}
		maps.Copy(all, first)
		for i := 0; i < len(files); i += 2 {
			all[files[i]] = files[i+1]
		}
		return all
	}
	const second, third = "shop/migrations/0002_b.py", "shop/migrations/0003_a.py"
	squash := written("", "shop.0001_initial shop.0002_b", createOrder, addB)
	for _, c := range []struct {
		what         string
		newer, older map[string]string
		skip         string
		want         []string
	}{
		{"nothing new", first, first, "", nil},
		{"a column more", more(second, written("shop.0001_initial", "", addB)), first, "", nil},
		{"a column less", more(second, written("shop.0001_initial", "", dropA)), first, "", []string{"RemoveField order.a"}},
		{"a column less, not applied", more(second, written("", "", dropA)), first, "shop.0002_b", nil},
		{
			"a column less, not applied, but perhaps a part of it", more(second, strings.Replace(written("", "", dropA), "replaces", "atomic = False; replaces", 1)),
			first, "shop.0002_b",
			[]string{"RemoveField order.a"},
		},
		{"only the applied one counts", more(second, written("", "", dropA), third, written("shop.0001_initial", "", addB)), first, "shop.0002_b", nil},
		{"its author says so", more(second, "# rollback-safe: unused since v3\n"+written("", "", dropA, run)), first, "", nil},
		{"its author says so of what nobody can read", more(second, "# rollback-safe: unused since v3\n("), first, "", []string{"is not Python"}},
		{"all of a new app", more("blog/migrations/0001_initial.py", written("", "", createOrder, dropA)), first, "", nil},
		{"a squash of what is known, and more", map[string]string{
			"shop/migrations/0001_squashed.py": squash, third: written("shop.0001_squashed", "", dropA),
		}, more(second, written("shop.0001_initial", "", addB)), "", []string{"RemoveField order.a"}},
		{"a squash of which some is known, the rest gone", map[string]string{
			"shop/migrations/0001_squashed.py": squash,
		}, first, "", []string{"CreateModel Order"}},
		{"a squash that lost what it replaces", map[string]string{
			"shop/migrations/0001_squashed.py": written("", "", createOrder, addB),
			third:                              written("shop.0001_squashed", "", dropA),
		}, more(second, written("shop.0001_initial", "", addB)), "", []string{"CreateModel Order", "AddField order.b", "RemoveField order.a"}},
		{"a squash of which a part is applied isn't skipped", map[string]string{
			"shop/migrations/0001_initial.py":  first["shop/migrations/0001_initial.py"],
			"shop/migrations/0002_squashed.py": written("", "shop.0002_b shop.0003_a", dropA),
		}, first, "shop.0002_squashed", []string{"RemoveField order.a"}},
		{"an app that moved", map[string]string{"apps/shop/migrations/0001_initial.py": first["shop/migrations/0001_initial.py"]}, first, "", nil},
		{
			"an app that moved and was changed",
			map[string]string{"apps/shop/migrations/0001_initial.py": written("", "", createOrder, dropA)},
			first, "",
			[]string{"another file"},
		},
		{"an edited migration", map[string]string{"shop/migrations/0001_initial.py": written("", "", createOrder, dropA)}, first, "", nil},
		{
			"an app with another label", more("shop/apps.py", "class ShopConfig(AppConfig):\n    label = 'store'\n"), first, "",
			[]string{"the file that the older release has for shop.0001_initial"},
		},
		{"an app with another name", map[string]string{
			"store/migrations/0001_initial.py": first["shop/migrations/0001_initial.py"],
			"store/migrations/0002_a.py":       written("", "", dropA),
		}, first, "", []string{"the same file as the older release's shop.0001_initial", "RemoveField order.a"}},
		{"an app with another name, of two that were the same", map[string]string{
			"store/migrations/0001_initial.py": first["shop/migrations/0001_initial.py"],
		}, more("blog/migrations/0001_initial.py", first["shop/migrations/0001_initial.py"]), "", []string{"the older release's shop.0001_initial"}},
		{"a copy of an app", more("store/migrations/0001_initial.py", first["shop/migrations/0001_initial.py"]), first, "", nil},
		{"two of the same name", more("lib/shop/migrations/0001_initial.py", written("", "", createOrder)), first, "", nil},
		{
			"two of the same name, another text", more("lib/shop/migrations/0001_initial.py", written("", "", createOrder, addC)), first, "",
			[]string{"is not the only shop.0001_initial"},
		},
		{
			"new ones of the same name", more(second, written("", "", addB), "lib/"+second, written("", "", addC)), first, "",
			[]string{"is not the only shop.0002_b"},
		},
		{
			"an app that had models without migrations", first,
			map[string]string{"shop/models.py": "class Order(models.Model):\n    pass\n"},
			"",
			[]string{"CreateModel Order"},
		},
		{"an app that had a package of models", first, map[string]string{"shop/models/order.py": ""}, "", []string{"CreateModel Order"}},
		{"an app that startapp made", first, map[string]string{"shop/models.py": "from django.db import models\n\n# Create your models here.\n"}, "", nil},
		{
			"packages that moved into the release", more("venv/lib/python3.11/site-packages/tag/migrations/0001.py", written("", "", createOrder),
				second, written("tag.0001", "", `migrations.AddField("order", "t", models.ForeignKey("tag.order", models.CASCADE, null=True))`)),
			first, "",
			[]string{"from outside of its release", "fails to DELETE"},
		},
		{
			"an app that moved into the release", more("tag/migrations/0001.py", written("", "", createOrder, dropA), third, written("tag.0001", "", addB)),
			map[string]string{"shop/migrations/0001_initial.py": first["shop/migrations/0001_initial.py"], "shop/migrations/0002_b.py": written("tag.0001", "")},
			"",
			[]string{"from outside of its release", "RemoveField order.a"},
		},
		{
			"a new package", more("venv/lib/python3.11/site-packages/tag/migrations/0001.py", written("", "", createOrder)),
			more("venv/lib/python3.11/site-packages/tag.py", ""), "", nil,
		},
		{"an older migration that isn't understood, of the field", more(second, "(", third, written("", "",
			`migrations.AlterField("order", "a", models.CharField(max_length=20))`)), more(second, "("), "", []string{"AlterField order.a"}},
		{"an older migration that isn't understood, and a column", more(second, "(", third, written("", "", addB)), more(second, "("), "", nil},
		{"an older migration that isn't understood, of another app", more("blog/migrations/0001.py", "(", third, written("", "",
			`migrations.AlterField("order", "a", models.CharField(max_length=20))`)), more("blog/migrations/0001.py", "("), "", nil},
		{
			"an older migration that may be of any app", more("blog/migrations/0001.py", "class Migration(Other): pass", third, written("", "",
				`migrations.AlterField("order", "a", models.CharField(max_length=20))`)),
			more("blog/migrations/0001.py", "class Migration(Other): pass"), "",
			[]string{"AlterField order.a"},
		},
		{"a field that was edited where it was made", map[string]string{
			"shop/migrations/0001_initial.py": strings.Replace(written("", "", createOrder), "=9", "=5", 1),
			second:                            written("", "", `migrations.AlterField("order", "a", models.CharField(max_length=7))`),
		}, first, "", []string{"AlterField order.a"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			j := Judge(read(t, c.newer), read(t, c.older), func(n Name) bool { return n.String() == c.skip })
			var got []string
			for _, r := range j.Blocking {
				got = append(got, r.String())
			}
			t.Log(got)
			if len(got) != len(c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i := range got {
				if !strings.Contains(got[i], c.want[i]) {
					t.Errorf("%q, want %q", got[i], c.want[i])
				}
			}
		})
	}
}

func TestNotSeenAndReverse(t *testing.T) {
	needPython(t)
	first := map[string]string{"shop/migrations/0001.py": written("", "", createOrder)}
	newer := map[string]string{"shop/migrations/0001.py": first["shop/migrations/0001.py"], "shop/migrations/0002.py": strings.Replace(
		written("shop.0001 auth.0001_initial sites.__first__", "", addB, dropA, run, "migrations.RunPython(f, migrations.RunPython.noop)",
			"migrations.RunPython(f, f)", `migrations.RunSQL("x", "y")`, `migrations.RunSQL("x")`, "other.Own()",
			"migrations.SeparateDatabaseAndState([migrations.RunSQL('x')])", `migrations.RenameField("order", "b", "c")`),
		"dependencies = [", "dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL), ", 1)}
	j := Judge(read(t, newer), read(t, first), nil)
	if d := cmp.Diff([]string{"auth", "sites"}, j.NotSeen); d != "" {
		t.Error(d)
	}
	var got []string
	for _, r := range append(j.Safe, j.Blocking...) {
		got = append(got, fmt.Sprintf("%s: %v %s", r.Operation, r.Reversible, r.Reverse))
	}
	want := []string{
		"AddField order.b: true the column is dropped with what is in it",
		"RemoveField order.a: true the column comes back without its values: the data is lost",
		"RunPython: false it has no reverse_code",
		"RunPython: true its reverse_code changes nothing back",
		"RunPython: true ",
		"RunSQL: true ",
		"RunSQL: false it has no reverse_sql",
		"Own: false whether it can be reversed is not known",
		"SeparateDatabaseAndState: false it has no reverse_sql",
		"RenameField order.b to c: true ", // which are not known after that one
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
