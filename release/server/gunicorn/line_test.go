package gunicorn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release/server"
	"deploygate/scripts/assert"
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
		{"behind a variable that is known", server.Command{
			Args: argv("gunicorn --bind unix:${SOCKET} shop.wsgi"), Environment: []string{"SOCKET=/run/a.sock", "SOCKET=/run/b.sock"},
		}, "unix:/run/b.sock"},
		{"in a variable of several words", server.Command{
			Args: argv("gunicorn $OPTIONS shop.wsgi"), Environment: []string{"OPTIONS=-w 3 --bind  h:3"},
		}, "h:3"},
		{"the command line beats the environment", server.Command{
			Args: argv("gunicorn --bind h:2 shop.wsgi"), Environment: []string{"GUNICORN_CMD_ARGS=--bind=h:1"},
		}, "h:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, "Bind", Parse(c.d).Bind(), server.Bind{Addr: c.want})
		})
	}
}

func TestBindSaysWhatIsInTheWay(t *testing.T) {
	for _, c := range []struct {
		name, want string
		d          server.Command
	}{
		{"no gunicorn", "names no server", server.Command{Args: argv("/usr/bin/uwsgi --bind h:1")}},
		{"nothing", "names no server", server.Command{}},
		{"in a file", "its bind may be in /etc/g.py", server.Command{Args: argv("gunicorn -c /etc/g.py shop.wsgi")}},
		{"behind a variable", "has a variable", server.Command{Args: argv("gunicorn --bind ${BIND} shop.wsgi")}},
		{"part of it behind a variable", "has a variable", server.Command{Args: argv("gunicorn --bind=127.0.0.1:$PORT shop.wsgi")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if b := Parse(c.d).Bind(); b.Addr != "" || !strings.Contains(b.Why, c.want) {
				t.Errorf("%+v; want …%s…", b, c.want)
			}
		})
	}
}

func TestBindByDefault(t *testing.T) {
	dir := t.TempDir()
	assert.OK(t, os.WriteFile(filepath.Join(dir, "gunicorn.conf.py"), nil, 0o600))
	for _, c := range []struct {
		name string
		d    server.Command
		want string // "": it isn't known
	}{
		{"gunicorn's own", server.Command{Args: argv("gunicorn shop.wsgi")}, "127.0.0.1:8000"},
		{"the environment's port", server.Command{Args: argv("gunicorn shop.wsgi"), Environment: []string{"PORT=5000"}}, "0.0.0.0:5000"},
		{"a configuration file that is given", server.Command{Args: argv("gunicorn -c /etc/g.py shop.wsgi")}, ""},
		{"one that is read by default", server.Command{Args: argv("gunicorn shop.wsgi"), Dir: dir}, ""},
		{"another program", server.Command{Args: argv("/usr/bin/uwsgi")}, ""},
	} {
		b := Parse(c.d).Bind()
		assert.Equal(t, c.name, b, server.Bind{Addr: c.want, Default: c.want != "", Why: b.Why})
		assert.Equal(t, c.name+": why it isn't known", b.Why != "", c.want == "")
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
