package gunicorn

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release/server"
)

func argv(line string) []string { return strings.Fields(line) }

func TestBindIsWhereGunicornListens(t *testing.T) {
	for _, c := range []struct {
		name string
		d    server.Command
		want string
	}{
		{"--bind", server.Command{Args: argv("/venv/bin/gunicorn --bind unix:/run/g.sock shop.wsgi")}, "unix:/run/g.sock"},
		{"--bind=", server.Command{Args: argv("/venv/bin/gunicorn --bind=127.0.0.1:8000 shop.wsgi")}, "127.0.0.1:8000"},
		{"-b", server.Command{Args: argv("/usr/bin/gunicorn3 -w 2 -b :80 shop.wsgi")}, ":80"},
		{"-b and its value in one word", server.Command{Args: argv("gunicorn -b[::1]:8000 shop.wsgi")}, "[::1]:8000"},
		{"by an interpreter", server.Command{Args: argv("/venv/bin/python -m gunicorn -b h:1 shop.wsgi")}, "h:1"},
		{"the first of several", server.Command{Args: argv("gunicorn -b unix:/run/a.sock --bind 127.0.0.1:9 shop.wsgi")}, "unix:/run/a.sock"},
		{"beats the configuration file", server.Command{Args: argv("gunicorn -c /etc/g.py -b h:1 shop.wsgi")}, "h:1"},
		{"relative to the working directory", server.Command{
			Dir: "/srv/app/current", Args: argv("gunicorn -b unix:g.sock shop.wsgi"),
		}, "unix:/srv/app/current/g.sock"},
		{"environment", server.Command{
			Args: argv("gunicorn shop.wsgi"), Environment: []string{"A=1", "GUNICORN_CMD_ARGS=--workers 2 --bind h:1"},
		}, "h:1"},
		{"the command line beats the environment", server.Command{
			Args: argv("gunicorn --bind h:2 shop.wsgi"), Environment: []string{"GUNICORN_CMD_ARGS=--bind=h:1"},
		}, "h:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if bind, why, ok := Parse(c.d).Bind(); bind != c.want || !ok {
				t.Errorf("Bind() = %q, %q, %v; want %q", bind, why, ok, c.want)
			}
		})
	}
}

func TestBindSaysWhatIsInTheWay(t *testing.T) {
	for _, c := range []struct {
		name, want string
		d          server.Command
	}{
		{"no gunicorn", "does not name gunicorn", server.Command{Args: argv("/usr/bin/uwsgi --bind h:1")}},
		{"nothing", "does not name gunicorn", server.Command{}},
		{"no bind", "no --bind", server.Command{Args: argv("gunicorn shop.wsgi")}},
		{"in a file", "its bind is in /etc/g.py", server.Command{Args: argv("gunicorn -c /etc/g.py shop.wsgi")}},
		{"behind a variable", "is a variable", server.Command{Args: argv("gunicorn --bind ${BIND} shop.wsgi")}},
		{"part of it behind a variable", "is a variable", server.Command{Args: argv("gunicorn --bind=127.0.0.1:$PORT shop.wsgi")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if bind, why, ok := Parse(c.d).Bind(); ok || bind != "" || !strings.Contains(why, c.want) {
				t.Errorf("Bind() = %q, %q, %v; want …%s…", bind, why, ok, c.want)
			}
		})
	}
}

func TestEveryBindIsGiven(t *testing.T) {
	environment := []string{"A=b", "GUNICORN_CMD_ARGS=--bind 'h:1' -b h:2"}
	for _, c := range []struct {
		d    server.Command
		want []string
	}{
		{server.Command{Args: argv("gunicorn -b unix:/run/a.sock --bind 127.0.0.1:9 shop.wsgi"), Environment: environment}, []string{"unix:/run/a.sock", "127.0.0.1:9"}},
		{server.Command{Args: argv("gunicorn shop.wsgi"), Environment: environment}, []string{"h:1", "h:2"}},
		{server.Command{Args: argv("gunicorn shop.wsgi")}, nil},
	} {
		if d := cmp.Diff(c.want, Parse(c.d).Binds()); d != "" {
			t.Errorf("%s: %s", c.d.Args, d)
		}
	}
}

func TestOptionsAreReadAsGunicornReadsThem(t *testing.T) {
	d := server.Command{Args: argv("gunicorn --chdir /a --chdir=/b -c x -cy --config z --bind")}
	for _, c := range []struct {
		long string
		want []string
	}{
		{"--chdir", []string{"/a", "/b"}},
		{"--config", []string{"x", "y", "z"}},
		{"--bind", nil}, // it is no option without a value
		{"--workers", nil},
	} {
		if d := cmp.Diff(c.want, valuesOf(Parse(d).own, c.long)); d != "" {
			t.Errorf("%s: %s", c.long, d)
		}
	}
	if got := Parse(d).Option("--chdir"); got != "/b" {
		t.Errorf("the last --chdir counts, not %q", got)
	}
}
