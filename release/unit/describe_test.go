package unit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func argv(line string) []string { return strings.Fields(line) }

func TestBindIsWhereGunicornListens(t *testing.T) {
	for _, c := range []struct {
		name string
		d    Description
		want string
	}{
		{"--bind", Description{ExecStart: argv("/venv/bin/gunicorn --bind unix:/run/g.sock shop.wsgi")}, "unix:/run/g.sock"},
		{"--bind=", Description{ExecStart: argv("/venv/bin/gunicorn --bind=127.0.0.1:8000 shop.wsgi")}, "127.0.0.1:8000"},
		{"-b", Description{ExecStart: argv("/usr/bin/gunicorn3 -w 2 -b :80 shop.wsgi")}, ":80"},
		{"-b and its value in one word", Description{ExecStart: argv("gunicorn -b[::1]:8000 shop.wsgi")}, "[::1]:8000"},
		{"by an interpreter", Description{ExecStart: argv("/venv/bin/python -m gunicorn -b h:1 shop.wsgi")}, "h:1"},
		{"the first of several", Description{ExecStart: argv("gunicorn -b unix:/run/a.sock --bind 127.0.0.1:9 shop.wsgi")}, "unix:/run/a.sock"},
		{"beats the configuration file", Description{ExecStart: argv("gunicorn -c /etc/g.py -b h:1 shop.wsgi")}, "h:1"},
		{"relative to the working directory", Description{
			WorkingDirectory: "/srv/app/current", ExecStart: argv("gunicorn -b unix:g.sock shop.wsgi"),
		}, "unix:/srv/app/current/g.sock"},
		{"environment", Description{
			ExecStart: argv("gunicorn shop.wsgi"), Environment: []string{"A=1", "GUNICORN_CMD_ARGS=--workers 2 --bind h:1"},
		}, "h:1"},
		{"the command line beats the environment", Description{
			ExecStart: argv("gunicorn --bind h:2 shop.wsgi"), Environment: []string{"GUNICORN_CMD_ARGS=--bind=h:1"},
		}, "h:2"},
		{"its .socket unit beats everything", Description{
			ExecStart: argv("gunicorn --bind h:2 shop.wsgi"), Listen: "unix:/run/activated.sock",
		}, "unix:/run/activated.sock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if bind, why, ok := c.d.Bind(); bind != c.want || !ok {
				t.Errorf("Bind() = %q, %q, %v; want %q", bind, why, ok, c.want)
			}
		})
	}
}

func TestBindSaysWhatIsInTheWay(t *testing.T) {
	for _, c := range []struct {
		name, want string
		d          Description
	}{
		{"no gunicorn", "does not name gunicorn", Description{ExecStart: argv("/usr/bin/uwsgi --bind h:1")}},
		{"nothing", "does not name gunicorn", Description{}},
		{"no bind", "no --bind", Description{ExecStart: argv("gunicorn shop.wsgi")}},
		{"in a file", "its bind is in /etc/g.py", Description{ExecStart: argv("gunicorn -c /etc/g.py shop.wsgi")}},
		{"behind a variable", "is a variable", Description{ExecStart: argv("gunicorn --bind ${BIND} shop.wsgi")}},
		{"part of it behind a variable", "is a variable", Description{ExecStart: argv("gunicorn --bind=127.0.0.1:$PORT shop.wsgi")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if bind, why, ok := c.d.Bind(); ok || bind != "" || !strings.Contains(why, c.want) {
				t.Errorf("Bind() = %q, %q, %v; want …%s…", bind, why, ok, c.want)
			}
		})
	}
}

func TestEveryBindIsGiven(t *testing.T) {
	environment := []string{"A=b", "GUNICORN_CMD_ARGS='--bind h:1' -b h:2"}
	for _, c := range []struct {
		d    Description
		want []string
	}{
		{Description{ExecStart: argv("gunicorn -b unix:/run/a.sock --bind 127.0.0.1:9 shop.wsgi"), Environment: environment}, []string{"unix:/run/a.sock", "127.0.0.1:9"}},
		{Description{ExecStart: argv("gunicorn shop.wsgi"), Environment: environment}, []string{"h:1", "h:2"}},
		{Description{ExecStart: argv("gunicorn shop.wsgi")}, nil},
	} {
		if d := cmp.Diff(c.want, c.d.Binds()); d != "" {
			t.Errorf("%s: %s", c.d.ExecStart, d)
		}
	}
}

func TestOptionsAreReadAsGunicornReadsThem(t *testing.T) {
	d := Description{ExecStart: argv("gunicorn --chdir /a --chdir=/b -c x -cy --config z --bind")}
	for _, c := range []struct {
		long, short string
		want        []string
	}{
		{"--chdir", "", []string{"/a", "/b"}},
		{"--config", "-c", []string{"x", "y", "z"}},
		{"--bind", "-b", []string{""}},
		{"--workers", "-w", nil},
	} {
		if d := cmp.Diff(c.want, d.options(c.long, c.short)); d != "" {
			t.Errorf("%s: %s", c.long, d)
		}
	}
	if got := d.Option("--chdir", ""); got != "/b" {
		t.Errorf("the last --chdir counts, not %q", got)
	}
}

func TestWhetherAUnitGoesThroughTheLiveLink(t *testing.T) {
	root := t.TempDir()
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(root, alias); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(alias, "current") // the link need not exist: it comes with the first release
	for _, c := range []struct {
		name     string
		d        Description
		in, uses bool
	}{
		{"working directory", Description{WorkingDirectory: link}, true, true},
		{"below it", Description{WorkingDirectory: link + "/src/"}, true, true},
		{"by root's real name", Description{WorkingDirectory: filepath.Join(root, "current")}, true, true},
		{"--chdir", Description{WorkingDirectory: "/", ExecStart: []string{"gunicorn", "--chdir", link}}, true, true},
		{"--chdir=", Description{WorkingDirectory: "/", ExecStart: []string{"gunicorn", "--chdir=" + link}}, true, true},
		{"only the program", Description{WorkingDirectory: "/", ExecStart: []string{link + "/venv/bin/gunicorn"}}, false, true},
		{"only an option", Description{ExecStart: []string{"gunicorn", "--pythonpath=" + link}}, false, true},
		{"a neighbour with a longer name", Description{WorkingDirectory: link + "-old"}, false, false},
		{"climbing out of it", Description{WorkingDirectory: link + "/.."}, false, false},
		{"a release itself", Description{WorkingDirectory: filepath.Join(root, "releases/v41")}, false, false},
		{"relative", Description{WorkingDirectory: "current"}, false, false},
		{"nothing", Description{}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if in, uses := c.d.InLink(link), c.d.UsesLink(link); in != c.in || uses != c.uses {
				t.Errorf("InLink %v, UsesLink %v; want %v, %v", in, uses, c.in, c.uses)
			}
		})
	}
}
