package e2e

import (
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

// One of uvicorn's children dies each time it is started while the other answers: not healthy. (uvicorn before 0.30, as
// Debian 12 has it, doesn't replace them.)
func TestBeliefInUvicornsWorkers(t *testing.T) {
	onSuites(t, testbed.Suites[1:], testbed.DefaultSite(), func(h *host) {
		h.asgi()
		h.configure("bind = \"unix:/run/gunicorn/gunicorn.sock\"\ndeadline = \"60s\"")
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
