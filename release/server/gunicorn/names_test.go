package gunicorn

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release/server"
)

func TestWhatACommandNames(t *testing.T) {
	const current = "/srv/app/current"
	for name, c := range map[string]struct {
		command, dir string
		environment  []string
		want         server.Names
	}{
		"a plain one": {
			command: "/usr/bin/gunicorn --workers 2 --bind unix:/run/g/g.sock project.wsgi:application", dir: current,
			want: server.Names{Dir: current, Config: current + "/gunicorn.conf.py", App: "project.wsgi:application", Outputs: []string{"/run/g/g.sock"}},
		},
		"by its Python, elsewhere": {
			command: "/srv/app/current/venv/bin/python -m gunicorn -b 127.0.0.1:8000 --chdir src -c ../conf.py --pythonpath lib,/opt/x shop:app", dir: current,
			want: server.Names{Dir: current + "/src", Chdir: true, Config: "/srv/app/conf.py", Given: true, Path: []string{current + "/src/lib", "/opt/x"}, App: "shop:app"},
		},
		"by the variable": {
			command: "/usr/bin/gunicorn", dir: current, environment: []string{"GUNICORN_CMD_ARGS=--chdir=/srv/app/current/web -p run/g.pid shop:app"},
			want: server.Names{Dir: current + "/web", Chdir: true, Config: current + "/gunicorn.conf.py", App: "shop:app", Outputs: []string{current + "/web/run/g.pid"}},
		},
		"a variable that is not known": {
			command: "/usr/bin/gunicorn -c /etc/${CONF}.py --error-logfile - shop:app", dir: current,
			want: server.Names{Dir: current, App: "shop:app"},
		},
		"a module for its configuration": {
			command: "/usr/bin/gunicorn -c python:conf shop:app", dir: current,
			want: server.Names{Dir: current, App: "shop:app"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := server.Live{Command: server.Command{Args: strings.Fields(c.command), Dir: c.dir, Environment: c.environment}, Link: current}
			got, err := Read(l)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	_, err := Read(server.Live{Command: server.Command{Args: []string{"/srv/app/current/start", "shop:app"}, Dir: current}, Link: current})
	if _, is := errors.AsType[*server.Uncertain](err); !is {
		t.Errorf("a wrapper: %v", err)
	}
}
