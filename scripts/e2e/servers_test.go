package e2e

import (
	"fmt"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// asgi serves the site by uvicorn, with two workers.
func (h *host) asgi() {
	h.dropIn(`[Service]
Type=simple
ExecStart=
ExecStart=/usr/bin/uvicorn --workers 2 --uds /run/gunicorn/gunicorn.sock project.asgi:application`)
}

// asgiModule is project/asgi.py, with code that runs as it is loaded.
func asgiModule(code string) testbed.Mod {
	return testbed.File("project/asgi.py", `import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
`+code+`
from django.core.asgi import get_asgi_application
application = get_asgi_application()
`)
}

// Where an app listens is known from its unit's text or from its processes, however it is started, and nothing has to be
// configured for it.
func TestWhereTheAppListens(t *testing.T) {
	site := testbed.DefaultSite()
	site.Bind = "127.0.0.1:8000"
	const gunicorn = "/usr/bin/gunicorn -w 2 project.wsgi:application"
	started := func(command string) string { return "[Service]\nExecStart=\nExecStart=" + command }
	simple := func(command string) string { return "[Service]\nType=simple\nExecStart=\nExecStart=" + command }
	onAHost(t, site, func(h *host) {
		h.configure("deadline = \"20s\"\ngive_up = \"1s\"", "keep = 30")
		h.must(h.WriteFile("/etc/listen.env", "LISTEN=127.0.0.1:8000\n", 0o640))
		h.must(h.WriteFile("/etc/args.env", "GUNICORN_CMD_ARGS='--bind 127.0.0.1:8000'\n", 0o640))
		h.must(h.WriteFile("/etc/listen.py", "import os\nbind = os.environ.get('LISTEN', '127.0.0.1:' + str(7999 + 1))\n", 0o644))
		h.must(h.WriteFile("/usr/local/bin/gunicorn_start", "#!/bin/bash\n. /etc/listen.env\n/usr/bin/gunicorn -w 2 --bind=$LISTEN project.wsgi:application\n", 0o755))
		h.sh("chgrp www-data /etc/listen.env")
		h.add("v0", asgiModule(""))
		for i, c := range []struct{ name, unit string }{
			{"the default", started(gunicorn)},
			{"in its configuration file", started("/usr/bin/gunicorn -c /etc/listen.py -w 2 project.wsgi:application")},
			{"in a variable", started("/usr/bin/gunicorn -b ${LISTEN} -w 2 project.wsgi:application") + "\nEnvironmentFile=/etc/listen.env"},
			{"in GUNICORN_CMD_ARGS", started(gunicorn) + "\nEnvironmentFile=/etc/args.env"},
			{"in a shell's words", started("/bin/bash -c 'source /etc/listen.env && exec /usr/bin/gunicorn -w 2 --bind $LISTEN project.wsgi:application'")},
			{"in a script that stays", started("/usr/local/bin/gunicorn_start") + "\nNotifyAccess=all"},
			{"in a variable of several words", started("/usr/bin/gunicorn $OPTIONS project.wsgi:application") + "\nEnvironment=\"OPTIONS=-w 2 --bind 127.0.0.1:8000\""},
			{"behind env", started("/usr/bin/env PORT=8000 " + gunicorn)},
			{"uvicorn's default", simple("/usr/bin/uvicorn --workers 2 project.asgi:application")},
			{"uvicorn's port", simple("/usr/bin/python3 -m uvicorn --workers 2 --port ${PORT} project.asgi:application") + "\nEnvironment=PORT=8000"},
		} {
			h.dropIn(c.unit)
			h.must(h.GoLive(h.t.Context(), h.site, "v0"))
			h.eventually(func() bool { return h.reports("check").Code == 0 })
			good, bad := fmt.Sprintf("good%d", i), fmt.Sprintf("bad%d", i)
			h.add(good, asgiModule(""))
			h.released(good)
			h.add(bad, testbed.ImportError(), asgiModule("import payments"))
			v := h.deploy("release", bad)
			if v.Outcome != "rolled_back" && v.Outcome != "refused" || v.Failure == nil || v.Failure.Cause != "import_error" {
				h.t.Errorf("%s: %s, %+v", c.name, v.Outcome, v.Failure)
			}
			h.live(good)
		}
		// While nothing runs, it is where it was when the last deploy began: a broken release can be replaced, and a deploy that
		// is killed is finished.
		h.dropIn(started("/usr/bin/gunicorn --preload -c /etc/listen.py -w 2 project.wsgi:application"))
		h.must(h.GoLive(h.t.Context(), h.site, "good1"))
		h.eventually(func() bool { return h.reports("check").Code == 0 })
		h.released("good2")
		h.add("broken", testbed.ImportError())
		h.must(h.SetLink(h.site, "broken"))
		h.restart()
		h.eventually(func() bool {
			r := h.reports("check")
			return r.Code == 1 && r.Findings[0].Cause == "import_error"
		})
		h.released("good3")
		h.add("hang", testbed.HangAtImport())
		h.killed("hang", h.swapped("hang"))
		h.live("good3")
		// Two places: it could be either.
		h.must(h.WriteFile("/etc/listen.py", "bind = ['127.0.0.1:8000', '127.0.0.1:8001']\n", 0o644))
		h.dropIn(started("/usr/bin/gunicorn -c /etc/listen.py -w 2 project.wsgi:application"))
		h.must(h.GoLive(h.t.Context(), h.site, "v0"))
		h.eventually(func() bool {
			r := h.reports("check")
			return r.Code == 7 && len(r.Findings) == 1 && strings.Contains(r.Findings[0].Summary, "its processes listen on 127.0.0.1:8000 and 127.0.0.1:8001")
		})
		v := h.deploy("release", "good0")
		h.expect(v, "unknown", 7)
		h.live("v0")
		h.reconfigure(`stable = "600ms"`, "stable = \"600ms\"\nbind = \"127.0.0.1:8000\"")
		h.released("good0")
	})
}

// One of uvicorn's children dies each time it is started while the other answers: not healthy. (uvicorn before 0.30, as
// Debian 12 has it, doesn't replace them.)
func TestBeliefInUvicornsWorkers(t *testing.T) {
	onSuites(t, testbed.Suites[1:], testbed.DefaultSite(), func(h *host) {
		h.asgi()
		h.configure("deadline = \"60s\"")
		h.reconfigure(`stable = "600ms"`, `stable = "6s"`) // the other one's boot takes longer than that
		h.add("v1", asgiModule(""))
		h.released("v1")
		h.add("v2", asgiModule(`import fcntl
first = open("/tmp/first", "w")
try:
    fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    raise SystemExit("only one of us")`))
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		h.failed(v, "app", "worker_crash", "")
		h.blames(v, "release")
		h.live("v1")
		h.add("v3", asgiModule(""))
		h.released("v3")
	})
}

// gunicorn 26 replaces a dirty worker that can't load its app for ever, while the others answer.
func TestBeliefInDirtyWorkers(t *testing.T) {
	if !full {
		t.Skip("its host, Debian's testing, is built in scripts/soak only")
	}
	const app = `from gunicorn.dirty import DirtyApp
class App(DirtyApp):
    def __call__(self, action, *args, **kwargs):
        return action
    def close(self):
        pass
`
	site := testbed.DefaultSite()
	site.Args = "--dirty-workers 1 --dirty-app shop.dirty:App"
	onSuites(t, []string{testbed.Testing}, site, func(h *host) {
		h.configure("")
		h.add("v1", testbed.File("shop/dirty.py", app))
		h.released("v1")
		h.add("v2", testbed.File("shop/dirty.py", "import nowhere\n"+app))
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		h.failed(v, "app", "import_error", "nowhere is not installed (shop/dirty.py, line 1)")
		h.blames(v, "release")
		h.live("v1")
		h.must(h.GoLive(h.t.Context(), h.site, "v2"))
		h.eventually(func() bool {
			r := h.reports("check")
			return r.Code == 1 && len(r.Findings) > 0 && r.Findings[0].Layer == "app"
		})
		h.must(h.GoLive(h.t.Context(), h.site, "v1"))
		h.add("v3", testbed.File("shop/dirty.py", app))
		h.released("v3")
	})
}

// Each server says in its own words why it can't start.
func TestServersOwnWords(t *testing.T) {
	const (
		noModule    = "finds no module nowhere, which ExecStart of gunicorn.service names"
		noAttribute = "finds no nothing in plain"
		inUse       = "can't listen: "
		noDirectory = "can't make its socket /run/nowhere/app.sock: "
	)
	site := testbed.DefaultSite()
	site.Bind = "127.0.0.1:8000"
	onEachSuite(t, site, func(h *host) {
		h.configure("bind = \"127.0.0.1:8000\"")
		h.add("v1", testbed.File("plain.py", plain))
		h.must(h.GoLive(h.t.Context(), site, "v1"))
		h.sh("systemctl stop gunicorn.service; systemd-run --quiet --unit=squatter python3 -m http.server --bind 127.0.0.1 8000")
		for _, c := range []struct{ server, command, cause, summary string }{
			{"uvicorn", "uvicorn nowhere:app --port 8001", "import_error", "uvicorn " + noModule},
			{"uvicorn", "uvicorn plain:nothing --port 8001", "app_attribute", "uvicorn " + noAttribute},
			{"uvicorn", "uvicorn plain:asgi --port 8000", "port_in_use", "uvicorn " + inUse},
			{"uvicorn", "uvicorn plain:asgi --port 8000 --workers 2", "port_in_use", "uvicorn " + inUse},
			{"uvicorn", "uvicorn plain:asgi --uds /run/nowhere/app.sock", "socket_missing", "uvicorn " + noDirectory},
			{"uvicorn", "uvicorn plain:asgi --uds /run/nowhere/app.sock --workers 2", "socket_missing", "uvicorn " + noDirectory},
			{"uvicorn", "uvicorn plain:asgi --nonsense", "bad_option", "uvicorn "},
			{"hypercorn", "hypercorn nowhere:app -b 127.0.0.1:8001", "import_error", "nowhere"},
			{"hypercorn", "hypercorn plain:asgi -b 127.0.0.1:8000", "port_in_use", "hypercorn " + inUse},
			{"hypercorn", "hypercorn plain:asgi -b unix:/run/nowhere/app.sock", "socket_missing", "hypercorn " + noDirectory},
			{"hypercorn", "hypercorn plain:asgi --nonsense", "bad_option", "hypercorn "},
			{"daphne", "daphne nowhere:app -p 8001", "import_error", "daphne " + noModule},
			{"daphne", "daphne plain:nothing -p 8001", "app_attribute", "daphne " + noAttribute},
			{"daphne", "daphne plain:asgi -b 127.0.0.1 -p 8000", "port_in_use", "daphne " + inUse},
			{"daphne", "daphne plain:asgi -u /run/nowhere/app.sock", "socket_missing", "daphne " + noDirectory},
			{"daphne", "daphne plain:asgi --nonsense", "bad_option", "daphne "},
		} {
			bind := "127.0.0.1:8001"
			if strings.Contains(c.command, "8000") {
				bind = "127.0.0.1:8000"
			} else if strings.Contains(c.command, "/run/nowhere") {
				bind = "unix:/run/nowhere/app.sock"
			}
			h.configure("bind = \"" + bind + "\"")
			h.dropIn("[Service]\nType=simple\nRestart=no\nExecStart=\nExecStart=/usr/bin/" + c.command)
			h.sh("systemctl reset-failed gunicorn.service || true; systemctl restart gunicorn.service")
			h.eventually(func() bool {
				state, err := h.UnitProperty(h.t.Context(), "gunicorn.service", "ActiveState")
				return err == nil && (state == "failed" || state == "inactive")
			})
			r := h.reports("diagnose")
			if r.Code != 1 || r.Findings[0].Cause != c.cause || !strings.Contains(r.Findings[0].Summary, c.summary) {
				h.t.Errorf("%s: %s: %s, want %s: %s", c.command, r.Findings[0].Cause, r.Findings[0].Summary, c.cause, c.summary)
			}
		}
	})
}
