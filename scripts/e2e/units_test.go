package e2e

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"testing"

	"deploygate/scripts/testbed"
)

// unitFile is a kind of unit file that people write, for an app that is no more than it has to be.
type unitFile struct {
	name    string
	service string            // the lines of [Service], beside those that all have
	unit    string            // "" is gunicorn.service
	install string            // a command that runs before it is loaded
	files   map[string]string // further files of every release
	unix    bool              // it listens on /run/gunicorn/gunicorn.sock, else on port 8000 of 127.0.0.1
	socket  bool              // a socket unit listens in its place
	django  bool              // it serves Django
	newest  bool              // only the testing suite's server can do that

	silent    bool   // it doesn't log why it can't start, in every version
	rehearsal string // why it isn't rehearsed; "" if it is
	activated string // why it gets no socket unit; "" if it does
	init      string // why init writes nothing; "" if it does
}

// plain is an app without a framework, for either kind of server.
const plain = `import os
import time

VERSION = os.path.basename(os.path.dirname(os.path.realpath(__file__)))
HEADERS = [("Content-Type", "text/plain"), ("X-Release", VERSION)]


def health():
    return "ok " + VERSION + "\n"


def wsgi(environ, start_response):
    found = environ["PATH_INFO"] == "/health/"
    body = (health() if found else "no such page\n").encode()
    start_response("200 OK" if found else "404 Not Found", HEADERS + [("Content-Length", str(len(body)))])
    return [body]


def make():
    return wsgi


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    found = scope["path"] == "/health/"
    body = (health() if found else "no such page\n").encode()
    headers = [(k.lower().encode(), v.encode()) for k, v in HEADERS] + [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
`

const flask = `import os

from flask import Flask

import plain

app = Flask(__name__)


@app.route("/health/")
def health():
    return plain.health(), 200, {"X-Release": plain.VERSION, "Content-Type": "text/plain"}


def create_app():
    return app
`

const onSocket = "RuntimeDirectory=gunicorn\n"

// unitFiles are the kinds: gunicorn's own examples, those of tutorials and of cookie-cutter templates, and those of other servers.
var unitFiles = []unitFile{
	{name: "gunicorn on a unix socket, Type=notify", unix: true, service: onSocket + "Type=notify\nExecStart=/usr/bin/gunicorn --bind unix:/run/gunicorn/gunicorn.sock --workers 2 plain:wsgi"},
	{name: "gunicorn behind a socket unit", unix: true, socket: true, service: "Type=notify\nExecStart=/usr/bin/gunicorn plain:wsgi", activated: "has a socket unit already"},
	{name: "gunicorn with a pid file, Type=forking", unix: true, service: onSocket + "Type=forking\nPIDFile=/run/gunicorn/pid\nExecStart=/usr/bin/gunicorn --daemon --pid /run/gunicorn/pid -b unix:/run/gunicorn/gunicorn.sock plain:wsgi", silent: true, activated: "Type=forking"},
	{name: "gunicorn and Django, three workers and an access log", unix: true, django: true, service: onSocket + "ExecStart=/usr/bin/gunicorn --access-logfile - --workers 3 --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application"},
	{name: "gunicorn from the directory above, --chdir", unix: true, service: onSocket + "WorkingDirectory=/\nExecStart=/usr/bin/gunicorn --chdir /srv/app/current -b unix:/run/gunicorn/gunicorn.sock plain:wsgi"},
	{name: "a virtual environment in the release", unix: true, service: onSocket + "ExecStart=/srv/app/current/venv/bin/gunicorn --bind unix:/run/gunicorn/gunicorn.sock plain:wsgi", files: map[string]string{
		"venv/bin/gunicorn": "#!/srv/app/current/venv/bin/python3\nimport sys\nfrom gunicorn.app.wsgiapp import run\nsys.exit(run())\n",
		"venv/pyvenv.cfg":   "home = /usr/bin\ninclude-system-site-packages = true\n",
	}, install: "for bin in /srv/app/releases/*/venv/bin; do chmod +x $bin/gunicorn; ln -sfn /usr/bin/python3 $bin/python3; done"},
	{name: "uvicorn on a unix socket", unix: true, service: onSocket + "ExecStart=/usr/bin/uvicorn --uds /run/gunicorn/gunicorn.sock plain:asgi"},
	{name: "uvicorn with workers on a unix socket", unix: true, service: onSocket + "ExecStart=/usr/bin/uvicorn --uds /run/gunicorn/gunicorn.sock --workers 2 plain:asgi"},
	{name: "uvicorn behind a socket unit, --fd 3", unix: true, socket: true, service: "ExecStart=/usr/bin/uvicorn --fd 3 plain:asgi", activated: "has a socket unit already"},
	{name: "hypercorn on a unix socket", unix: true, service: onSocket + "ExecStart=/usr/bin/hypercorn --bind unix:/run/gunicorn/gunicorn.sock plain:asgi"},
	{name: "daphne on a unix socket", unix: true, service: onSocket + "ExecStart=/usr/bin/daphne -u /run/gunicorn/gunicorn.sock plain:asgi", activated: "takes no unix socket of systemd"},

	{name: "gunicorn without a bind", service: "ExecStart=/usr/bin/gunicorn plain:wsgi"},
	{name: "gunicorn, $PORT of the environment", service: "Environment=PORT=8000\nExecStart=/usr/bin/gunicorn plain:wsgi"},
	{name: "gunicorn, ${PORT} of an environment file", service: "EnvironmentFile=/etc/port.env\nExecStart=/usr/bin/gunicorn --bind 127.0.0.1:${PORT} plain:wsgi", install: "echo PORT=8000 > /etc/port.env"},
	{name: "gunicorn, $OPTIONS of an environment file", service: "EnvironmentFile=/etc/options.env\nExecStart=/usr/bin/gunicorn $OPTIONS plain:wsgi", install: "echo OPTIONS='-w 2 -b 127.0.0.1:8000' > /etc/options.env"},
	{name: "gunicorn, GUNICORN_CMD_ARGS of an environment file", service: "EnvironmentFile=/etc/args.env\nExecStart=/usr/bin/gunicorn plain:wsgi", install: "echo 'GUNICORN_CMD_ARGS=--bind 127.0.0.1:8000' > /etc/args.env"},
	{name: "gunicorn.conf.py in the release", service: "ExecStart=/usr/bin/gunicorn plain:wsgi", files: map[string]string{"gunicorn.conf.py": "bind = '127.0.0.1:8000'\nworkers = 2\n"}},
	{name: "a configuration file elsewhere", service: "ExecStart=/usr/bin/gunicorn -c /etc/gunicorn.py plain:wsgi", install: "echo \"bind = '127.0.0.1:8000'\" > /etc/gunicorn.py"},
	{name: "a shell line that sources .env", service: "ExecStart=/bin/bash -c 'source /etc/port.env && exec gunicorn --bind 127.0.0.1:$PORT plain:wsgi'", install: "echo PORT=8000 > /etc/port.env", rehearsal: "its ExecStart runs a shell"},
	{name: "a shell line that stays", service: "ExecStart=/bin/sh -c 'cd /srv/app/current && gunicorn --bind 127.0.0.1:8000 plain:wsgi; true'", rehearsal: "its ExecStart runs a shell", activated: "without a program between"},
	{name: "a start script in the release", service: "ExecStart=/srv/app/current/bin/start", files: map[string]string{"bin/start": "#!/bin/sh\nexec gunicorn --bind 127.0.0.1:8000 --workers 2 plain:wsgi\n"}, install: "chmod +x /srv/app/releases/*/bin/start", rehearsal: "its ExecStart runs start, which is no server that is known"},
	{name: "a start script elsewhere that stays", service: "ExecStart=/usr/local/bin/start", install: "printf '#!/bin/bash\\ncd /srv/app/current\\ngunicorn -b 127.0.0.1:8000 plain:wsgi\\n' > /usr/local/bin/start; chmod +x /usr/local/bin/start", rehearsal: "its ExecStart runs start, which is no server that is known", activated: "without a program between"},
	{name: "Python's module", service: "ExecStart=/usr/bin/python3 -u -m gunicorn -b 127.0.0.1:8000 plain:wsgi"},
	{name: "behind env and nice", service: "ExecStart=/usr/bin/env A=1 nice -n 5 gunicorn -b 127.0.0.1:8000 plain:wsgi"},
	{name: "behind tini", service: "ExecStart=/usr/bin/tini -- /usr/bin/gunicorn -b 127.0.0.1:8000 plain:wsgi", activated: "without a program between"},
	{name: "threads", service: "ExecStart=/usr/bin/gunicorn -k gthread --threads 4 -b 127.0.0.1:8000 plain:wsgi"},
	{name: "preloaded", service: "ExecStart=/usr/bin/gunicorn --preload -w 2 -b 127.0.0.1:8000 plain:wsgi"},
	{name: "gunicorn with uvicorn's worker", service: "ExecStart=/usr/bin/gunicorn -k uvicorn.workers.UvicornWorker -b 127.0.0.1:8000 plain:asgi"},
	{name: "Flask's factory", service: "ExecStart=/usr/bin/gunicorn -b 127.0.0.1:8000 'shop_web:create_app()'", files: map[string]string{"shop_web.py": flask}},
	{name: "an instance of a template", unit: "web@shop.service", service: "ExecStart=/usr/bin/gunicorn -b 127.0.0.1:8000 -n %i plain:wsgi"},
	{name: "DynamicUser=yes", service: "User=\nDynamicUser=yes\nExecStart=/usr/bin/gunicorn -b 127.0.0.1:8000 plain:wsgi"},
	{name: "uvicorn without a bind", service: "ExecStart=/usr/bin/uvicorn plain:asgi"},
	{name: "uvicorn, --host and --port, workers", service: "ExecStart=/usr/bin/uvicorn plain:asgi --host 127.0.0.1 --port 8000 --workers 2"},
	{name: "uvicorn as Python's module", service: "Environment=PORT=8000\nExecStart=/usr/bin/python3 -m uvicorn --port ${PORT} plain:asgi"},
	{name: "uvicorn and Django", django: true, service: "ExecStart=/usr/bin/uvicorn --port 8000 project.asgi:application"},
	{name: "hypercorn with workers", service: "ExecStart=/usr/bin/hypercorn -b 127.0.0.1:8000 -w 2 plain:asgi"},
	{name: "daphne on a port", service: "ExecStart=/usr/bin/daphne -b 127.0.0.1 -p 8000 plain:asgi"},
	{name: "waitress", service: "ExecStart=/usr/bin/waitress-serve --listen=127.0.0.1:8000 plain:wsgi", silent: true, rehearsal: "its ExecStart runs waitress-serve, which is no server that is known", activated: "no server that is known"},
	{name: "Django's own server", django: true, service: "ExecStart=/usr/bin/python3 manage.py runserver 127.0.0.1:8000 --noreload", rehearsal: "its ExecStart runs manage.py, which is no server that is known", activated: "no server that is known"},
	{name: "gunicorn 25 and later with dirty workers", newest: true, service: "ExecStart=/usr/bin/gunicorn -w 2 --dirty-app heavy:Heavy --dirty-workers 1 -b 127.0.0.1:8000 plain:wsgi", files: map[string]string{
		"heavy.py": "from gunicorn.dirty.app import DirtyApp\n\n\nclass Heavy(DirtyApp):\n    def double(self, n):\n        return 2 * n\n",
	}},
}

// seenUnits collects the rows of the table.
type seenUnits struct {
	mu    sync.Mutex
	cells map[string][][]string // of each unit file, what each suite has shown
}

const unitColumns = 9

func (s *seenUnits) add(name string, cells []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cells[name] = append(s.cells[name], cells)
}

// rows are those of the document. One is whole if every suite has shown all of its cells.
func (s *seenUnits) rows(suites int) (rows []tableRow) {
	for _, u := range unitFiles {
		want := suites
		if u.newest {
			want = 1
		}
		row := tableRow{whole: len(s.cells[u.name]) == want}
		cells := make([]string, unitColumns)
		for _, of := range s.cells[u.name] {
			for i, cell := range of {
				row.whole = row.whole && cell != "" && (cells[i] == "" || cells[i] == cell)
				cells[i] = cmp.Or(cells[i], cell)
			}
		}
		row.text = "| " + u.name + " | " + strings.Join(cells, " | ") + " |"
		rows = append(rows, row)
	}
	return rows
}

// Whatever unit file serves an app, its first check is right, a good release goes live, a bad one doesn't, and what isn't possible
// is refused with the reason before anything is touched.
func TestUnitFiles(t *testing.T) {
	seen := &seenUnits{cells: map[string][][]string{}}
	suites := testbed.Suites
	if full {
		suites = append([]string{testbed.Testing}, suites...)
	}
	const shards = 4
	t.Run("on hosts", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				site := testbed.DefaultSite()
				site.Bind = "127.0.0.1:8000"
				chosen := suites
				if !full {
					chosen = suitesOf(shard)
				}
				onSuites(t, chosen, site, func(h *host) {
					for i, u := range unitFiles {
						if i%shards == shard && (!u.newest || h.Suite == testbed.Testing) {
							seen.add(u.name, (&unitTrial{host: h, unitFile: u, id: fmt.Sprint(i)}).try())
						}
					}
				})
			})
		}
	})
	if !t.Failed() && len(seen.cells) > 0 {
		document(t, "scripts/e2e/UNITS.md", seen.rows(len(suites)))
	}
}

// unitTrial is one unit file on one host.
type unitTrial struct {
	*host
	unitFile
	id string
}

func (u *unitTrial) version(kind string) string { return kind + "-" + u.id }

func (u *unitTrial) release(kind string, mods ...testbed.Mod) string {
	u.t.Helper()
	if !u.django {
		mods = append(mods, testbed.Remove("manage.py"))
	}
	all := []testbed.Mod{testbed.File("plain.py", plain), asgiModule("")}
	for name, text := range u.files {
		all = append(all, testbed.File(name, text))
	}
	u.add(u.version(kind), append(all, mods...)...)
	if u.install != "" {
		u.sh(u.install)
	}
	return u.version(kind)
}

// broken is what goes wrong in one of the kinds of app.
func (u *unitTrial) broken(inPlain, django testbed.Mod) testbed.Mod {
	if u.django {
		return django
	}
	return inPlain
}

// begin has the unit serve a first release.
func (u *unitTrial) begin() {
	u.t.Helper()
	u.site.Unit, u.site.Bind = cmp.Or(u.unit, "gunicorn.service"), "127.0.0.1:8000"
	if u.unix {
		u.site.Bind = "unix:/run/gunicorn/gunicorn.sock"
	}
	u.sh(`rm -rf /etc/deploygate /var/lib/deploygate/app /etc/systemd/system/gunicorn.service.d
for unit in gunicorn.socket gunicorn.service web@shop.service; do systemctl stop $unit 2>/dev/null || true; done
rm -f /etc/systemd/system/gunicorn.socket /etc/systemd/system/gunicorn.service /etc/systemd/system/web@.service`)
	first := u.release("v")
	text := "[Service]\nUser=www-data\nGroup=www-data\nWorkingDirectory=/srv/app/current\nEnvironment=PYTHONDONTWRITEBYTECODE=1\nEnvironmentFile=/etc/app.env\n" +
		"Restart=always\nRestartSec=100ms\nKillMode=mixed\nTimeoutStopSec=10\n" + u.service + "\n"
	u.must(u.WriteFile("/etc/systemd/system/"+strings.Replace(u.site.Unit, "@shop", "@", 1), text, 0o644))
	if u.socket {
		u.must(u.WriteFile("/etc/systemd/system/gunicorn.socket", "[Socket]\nListenStream=/run/gunicorn/gunicorn.sock\nSocketUser=www-data\n", 0o644))
	}
	u.nginxServer("server { listen 80 default_server; location / { include proxy_params; proxy_pass " + u.site.Upstream() + "; } }")
	u.must(u.SetLink(u.site, first))
	u.sh("systemctl daemon-reload; systemctl reset-failed")
	if u.socket {
		u.sh("systemctl start gunicorn.socket")
	}
	u.must(u.GoLive(u.t.Context(), u.site, first))
}

// serves asserts which release a client of nginx gets.
func (u *unitTrial) serves(version string) {
	u.t.Helper()
	u.linked(version)
	status, header, _, err := u.Get(u.t.Context(), u.site, "/health/")
	if err != nil || status != 200 || header.Get("X-Release") != version {
		u.t.Errorf("%s: a client of nginx gets %d of %q (%v), want 200 of %s", u.name, status, header.Get("X-Release"), err, version)
	}
}

func (u *unitTrial) try() (cells []string) {
	u.t.Helper()
	u.t.Logf("=== %s", u.name)
	u.begin()
	cells = append(cells, u.firstCheck(), u.initiates())
	u.configure("deadline = \"6s\"\ngive_up = \"1s\"", "keep = 50")
	live := u.release("good")
	v := u.deploy("release", live)
	u.expect(v, "released", 0)
	u.serves(live)
	cells = append(cells, v.Outcome)
	for _, bad := range []struct {
		kind, cause string
		mod         testbed.Mod
		slow        bool
	}{
		{"import", "import_error", u.broken(testbed.Prepend("plain.py", "import payments"), testbed.Prepend("project/release.py", "import payments")), false},
		{"error", "", u.broken(testbed.Append("plain.py", "def health():\n    raise RuntimeError(\"broken\")"), testbed.Answer500()), false},
		{"hang", "", u.broken(testbed.Append("plain.py", "def health():\n    time.sleep(3600)"), testbed.Hang()), true},
	} {
		if bad.slow && !full {
			cells = append(cells, "")
			continue
		}
		version := u.release(bad.kind, bad.mod)
		v := u.deploy("release", version)
		u.expect(v, "rolled_back", 3)
		if bad.cause != "" && !u.silent && v.Failure.Cause != bad.cause {
			u.t.Errorf("%s, %s: %s: %s", u.name, bad.kind, v.Failure.Cause, v.Failure.Summary)
		}
		u.serves(live)
		cells = append(cells, "rolled back")
	}
	good, refused := u.rehearses(live)
	return append(cells, good, refused, u.activates())
}

// firstCheck is the first one, without a configuration: healthy, or what isn't known is said.
func (u *unitTrial) firstCheck() string {
	u.t.Helper()
	args := []string{"check", "--output", "json"}
	if u.unit != "" { // nothing names it but a configuration
		r := u.Exec(u.t.Context(), program, "check")
		if r.Code != 2 || !strings.Contains(r.Stderr, u.unit) || !strings.Contains(r.Stderr, "deploygate init") {
			u.t.Errorf("%s: exit %d, %s", u.name, r.Code, r.Stderr)
		}
		return "names init"
	}
	r := u.run(args...)
	if r.Code != 0 {
		u.t.Errorf("%s: the first check: exit %d, %s", u.name, r.Code, r.Stdout)
	}
	return "healthy"
}

// initiates is init: what it would write fits, and has deploygate find the app where it is.
func (u *unitTrial) initiates() string {
	u.t.Helper()
	args := []string{"init", "--app", "app"}
	if u.init != "" {
		args = append(args, "--unit", u.site.Unit)
	}
	r := u.run(args...)
	if r.Code != 0 {
		u.t.Errorf("%s: init: exit %d, %s", u.name, r.Code, r.Stderr)
		return ""
	}
	if c := u.run("check"); c.Code != 0 {
		u.t.Errorf("%s: a check with what init wrote: exit %d, %s", u.name, c.Code, c.Stderr)
	}
	if u.init != "" {
		return "with " + u.init
	}
	return "written"
}

// rehearses is a rehearsal of a good and of a bad release, or the reason against it, before anything is touched.
func (u *unitTrial) rehearses(live string) (good, bad string) {
	u.t.Helper()
	if u.rehearsal != "" {
		before := u.touched()
		v := u.deploy("release", u.release("rehearsed"), "--rehearse")
		u.expect(v, "refused", 1)
		if v.Failure == nil || !strings.Contains(v.Failure.Summary, u.rehearsal) || u.touched() != before {
			u.t.Errorf("%s: %+v", u.name, v.Failure)
		}
		return "refused: " + u.rehearsal, "refused: the same"
	}
	version := u.release("rehearsed")
	v := u.deploy("release", version, "--rehearse")
	u.expect(v, "released", 0)
	u.step(v, "rehearse", "passed")
	u.serves(version)
	before := u.touched()
	v = u.deploy("release", u.release("unfit", u.broken(testbed.Prepend("plain.py", "import payments"), testbed.Prepend("project/release.py", "import payments"))), "--rehearse")
	u.expect(v, "refused", 1)
	u.step(v, "rehearse", "failed")
	if v.Failure == nil || v.Failure.Cause != "import_error" || u.touched() != before {
		u.t.Errorf("%s: %+v", u.name, v.Failure)
	}
	u.serves(version)
	return "released", "refused: import_error"
}

// activates is a socket unit in front of it, or the reason against it.
func (u *unitTrial) activates() string {
	u.t.Helper()
	r := u.run("init", "--socket-activation")
	text := r.Stdout + r.Stderr
	switch {
	case u.activated == "" && r.Code == 0:
	case u.activated == "" || !strings.Contains(text, u.activated):
		u.t.Errorf("%s: a socket unit: exit %d, %s", u.name, r.Code, text)
		return ""
	default:
		return "refused: " + u.activated
	}
	u.follow(commands(r.Stdout, "to switch to it"))
	u.listening(u.site.SocketUnit())
	version := u.release("activated")
	v := u.deploy("release", version)
	u.expect(v, "released", 0)
	u.serves(version)
	u.follow(commands(r.Stdout, "to go back"))
	u.serves(version)
	return "switched, and back"
}
