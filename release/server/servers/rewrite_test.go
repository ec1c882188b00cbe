package servers_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/release/server"
	"deploygate/release/server/servers"
)

// Uvicorn, hypercorn and daphne beside the live release: each listens where it is told to alone.
func TestRewrite(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"releases/v1/venv/bin", "releases/v2/venv/bin", "bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("releases/v1", root+"/current"); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"bin/uvicorn": "#!/usr/bin/python3\n", "bin/hypercorn": "#!/usr/bin/python3\n", "bin/daphne": "#!/usr/bin/python3\n",
		"releases/v2/venv/bin/uvicorn": "#!" + root + "/current/venv/bin/python\n", "bin/odd/uvicorn": "#!/bin/sh\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fill := strings.NewReplacer("{u}", "{root}/bin/uvicorn", "{h}", "{root}/bin/hypercorn", "{d}", "{root}/bin/daphne")
	rooted := strings.NewReplacer("{root}", root, "{new}", root+"/releases/v2")
	const uvicorn, hypercorn, daphne = "--uds /run/x/app.sock --workers 1", "--bind unix:/run/x/app.sock --workers 1", "-u /run/x/app.sock"
	for _, c := range []struct {
		name, exec string
		env, files string // of one variable each
		want, why  string
		without    string // what the candidate's environment hasn't
	}{
		{name: "a socket", exec: "{u} --uds /run/app.sock project.asgi:application", want: "{u} " + uvicorn + " project.asgi:application"},
		{name: "a port", exec: "{u} project.asgi:application --host=0.0.0.0 --port 80", want: "{u} " + uvicorn + " project.asgi:application"},
		{name: "a socket unit's", exec: "{u} --fd 3 app:app", want: "{u} " + uvicorn + " app:app"},
		{name: "workers and reloading", exec: "{u} --workers 4 --reload --reload-dir /srv app:app", want: "{u} " + uvicorn + " app:app"},
		{name: "options that stay", exec: "{u} --proxy-headers --factory --root-path=/x app:make", want: "{u} " + uvicorn + " --proxy-headers --factory --root-path=/x app:make"},
		{name: "paths through the link", exec: "{u} --app-dir {root}/current/src --env-file={root}/current/.env app:app", want: "{u} " + uvicorn + " --app-dir {new}/src --env-file={new}/.env app:app"},
		{name: "TLS and logging", exec: "{u} --ssl-keyfile k --ssl-certfile c --log-config log.ini app:app", want: "{u} " + uvicorn + " app:app"},
		{name: "Python's module", exec: "/usr/bin/python3 -m uvicorn --port ${PORT} app:app", env: "PORT=80", want: "/usr/bin/python3 -m uvicorn " + uvicorn + " app:app"},
		{name: "behind env", exec: "/usr/bin/env A=1 {u} --port 80 app:app", want: "/usr/bin/env A=1 {u} " + uvicorn + " app:app"},
		{name: "behind uv", exec: "/usr/bin/uv run --frozen uvicorn --port 80 app:app", want: "/usr/bin/uv run --frozen uvicorn " + uvicorn + " app:app"},
		{name: "the release's own environment", exec: "{root}/current/venv/bin/uvicorn app:app", want: "{new}/venv/bin/python {new}/venv/bin/uvicorn " + uvicorn + " app:app"},
		{name: "a variable of several words", exec: "{u} $OPTIONS app:app", env: "OPTIONS=--port 80 --no-access-log", want: "{u} " + uvicorn + " --no-access-log app:app"},
		{name: "a variable that goes", exec: "{u} app:app", env: "UVICORN_FD=3", want: "{u} " + uvicorn + " app:app", without: "UVICORN_FD"},
		{name: "a variable that is beaten", exec: "{u} app:app", files: "UVICORN_PORT=80", want: "{u} " + uvicorn + " app:app"},
		{name: "a file's variable", exec: "{u} app:app", files: "UVICORN_RELOAD_DIRS=/srv", why: "its environment sets UVICORN_RELOAD_DIRS, which both releases would have"},
		{name: "a variable that isn't known", exec: "{u} $OPTIONS app:app", why: "its ExecStart has $OPTIONS, which may hold options"},
		{name: "wrappers' own variables", exec: "/usr/bin/env UVICORN_FD=3 {u} app:app", why: "its ExecStart sets UVICORN_FD before uvicorn's own arguments"},
		{name: "an app of the live release", exec: "{u} --app-dir {root}/releases/v1 app:app", why: "the directory of its app {root}/releases/v1 is the live release's, and does not go through {root}/current"},
		{name: "env takes variables away", exec: "/usr/bin/env -i {u} app:app", why: "its ExecStart has env with -i, which may take variables away"},
		{name: "another program takes variables away", exec: "/usr/bin/nice -n 5 env -u A {u} app:app", why: "its ExecStart has env with -u, which may take variables away"},
		{name: "behind env and nice", exec: "/usr/bin/env A=1 nice -n 5 {u} --port 80 app:app", want: "/usr/bin/env A=1 nice -n 5 {u} " + uvicorn + " app:app"},
		{name: "env has a $PATH of its own", exec: "/usr/bin/env PATH={root}/current/venv/bin uvicorn app:app", why: "its ExecStart runs uvicorn of {new}/venv/bin, whose Python may be the live release's"},
		{name: "a script of that name in $PATH", exec: "/usr/bin/env uvicorn app:app", env: "PATH={root}/bin/odd", why: "{root}/bin/odd/uvicorn is a script for sh, not uvicorn itself"},
		{name: "the live release's project", exec: "/usr/bin/uv run --project {root}/releases/v1 uvicorn app:app", why: "a directory in its ExecStart, {root}/releases/v1 is the live release's, and does not go through {root}/current"},
		{name: "a shell", exec: "/bin/sh -c {u}", why: "its ExecStart runs a shell, whose line is not rewritten"},
		{name: "a script of that name", exec: "{root}/bin/odd/uvicorn app:app", why: "{root}/bin/odd/uvicorn is a script for sh, not uvicorn itself"},

		{name: "hypercorn", exec: "{h} -b unix:/run/app.sock -w 4 -p /run/app.pid app:app", want: "{h} " + hypercorn + " app:app"},
		{name: "joined", exec: "{h} -b127.0.0.1:80 --bind=[::]:80 --access-logformat %(h)s app:app", want: "{h} " + hypercorn + " --access-logformat %(h)s app:app"},
		{name: "logs", exec: "{h} --access-log a --error-logfile e --log-level debug app:app", want: "{h} " + hypercorn + " --log-level debug app:app"},
		{name: "shortened", exec: "{h} --bin 0.0.0.0:80 app:app", why: "its ExecStart has --bin, which may be short for --bind"},
		{name: "a configuration file", exec: "{h} -c h.toml app:app", why: "its ExecStart has -c, whose file may say where it listens, and isn't read"},

		{name: "daphne", exec: "{d} -u /run/app.sock app:app", want: "{d} " + daphne + " app:app"},
		{name: "ports", exec: "{d} -b 0.0.0.0 -p 8001 --proxy-headers app:app", want: "{d} " + daphne + " --proxy-headers app:app"},
		{name: "endpoints", exec: "{d} -e ssl:443:privateKey=k app:app --access-log /var/log/a", want: "{d} " + daphne + " app:app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := func(s string) string { return rooted.Replace(fill.Replace(s)) }
			l := server.Live{Command: server.Command{Args: strings.Fields(text(c.exec)), Dir: root + "/current"}, Link: root + "/current"}
			if c.env != "" {
				l.Environment = []string{text(c.env)}
			}
			if c.files != "" {
				l.Files = []string{c.files}
			}
			to := server.Candidate{Release: root + "/releases/v2", Bind: "unix:/run/x/app.sock", PIDFile: "/run/x/app.pid"}
			got, err := servers.Of(l.Command).Rewrite(t.Context(), l, to)
			if err != nil || c.why != "" {
				if err == nil || err.Error() != text(c.why) {
					t.Fatalf("%q, %v, want %q", got.Args, err, text(c.why))
				}
				return
			}
			if args := strings.Join(got.Args, " "); args != text(c.want) || got.Dir != to.Release {
				t.Errorf("%q in %s, want %q", args, got.Dir, text(c.want))
			}
			for _, a := range got.Environment {
				if c.without != "" && strings.HasPrefix(a, c.without+"=") {
					t.Errorf("%q is left", a)
				}
			}
		})
	}
}
