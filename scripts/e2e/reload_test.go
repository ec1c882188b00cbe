package e2e

import (
	"testing"

	"deploygate/scripts/testbed"
)

// chdir has gunicorn follow the link again at each reload.
const chdir = " --chdir /srv/app/current"

// A reload that truly reads the new release loses nobody's request, and no process of the old one is left.
func TestReload(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.reloading(chdir)
		h.add("v1")
		h.released("v1")
		h.add("v2")
		before := h.invocation()
		load := h.Load(h.t.Context(), h.site, "/health/", 50)
		h.released("v2")
		if failed, outage := testbed.Outage(load.Stop()); failed > 0 {
			h.t.Errorf("%d requests failed, outage %s", failed, outage)
		}
		if after := h.invocation(); after != before {
			h.t.Error("the unit was restarted")
		}
	})
}

// One that reads the old release once more is not taken for the new one, and nobody notices.
func TestReloadOfTheOldRelease(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.reloading("")
		h.add("v1")
		h.released("v1")
		before := h.invocation()
		h.add("v2")
		load := h.Load(h.t.Context(), h.site, "/health/", 50)
		v := h.deploy("release", "v2")
		if failed, outage := testbed.Outage(load.Stop()); failed > 0 {
			h.t.Errorf("%d requests failed, outage %s", failed, outage)
		}
		h.expect(v, "rolled_back", 3)
		h.failed(v, "release", "old_release_running", "the reload of gunicorn.service re-read the old release")
		h.live("v1")
		if after := h.invocation(); after != before {
			h.t.Error("the unit was restarted")
		}
	})
}

// A reload into a release that can't boot ends the server: the way back is a restart.
func TestReloadOfABrokenRelease(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.reloading(chdir)
		v := h.rolledBack(testbed.ImportError())
		h.failed(v, "app", "import_error", "payments")
	})
}

func TestReloadIsRefused(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.reloading(chdir)
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.dropIn("[Service]\nExecReload=")
		h.refuses("service", "can't be reloaded: it has no ExecReload=", "release", "v2")
		h.dropIn("")
		h.reconfigure("body =", "path =")
		h.reconfigure("\"ok {version}\"", "\"/health/\"")
		h.refuses("service", "can't be verified", "release", "v2")
	})
}

// A master that has loaded the app itself goes to the new directory and forks workers with the old code.
func TestReloadOfAPreloadedApp(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.reloading(chdir + " --preload")
		v := h.rolledBack()
		h.failed(v, "health", "unexpected_body", "")
	})
}

// Where the processes don't run in the link, only a restart is sure to bring the old release back.
func TestTheWayBackFromAReloadOutsideTheLink(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.reloading(" --pythonpath /srv/app/current")
		h.dropIn("[Service]\nWorkingDirectory=/srv/app\nExecStart=\nExecStart=/usr/bin/gunicorn --workers 2 --bind " + h.site.Bind +
			" --pythonpath /srv/app/current project.wsgi:application")
		h.add("v1")
		h.expect(h.deploy("release", "v1"), "released", 0)
		h.add("v2", testbed.Answer500())
		h.expect(h.deploy("release", "v2"), "rolled_back", 3)
		if _, header, body, err := h.Get(h.t.Context(), h.site, "/health/"); err != nil || body != "ok v1\n" {
			h.t.Errorf("a client gets %q of %q, %v", body, header.Get("X-Release"), err)
		}
	})
}

// What a worker from before the reload still does is no reason to fail it.
func TestAReloadWaitsForNobody(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.reloading(chdir)
		h.add("v1", testbed.Append("project/views.py", "def slow(request):\n    import subprocess\n    subprocess.run([\"sleep\", \"12\"])\n    return HttpResponse(\"slow\\n\")"),
			testbed.Append("project/urls.py", `urlpatterns.append(path("slow/", views.slow))`))
		h.released("v1")
		h.add("v2")
		slow := make(chan int, 1)
		go func() {
			status, _, _, _ := h.Get(h.t.Context(), h.site, "/slow/")
			slow <- status
		}()
		h.eventually(func() bool { return h.Exec(h.t.Context(), "pgrep", "-x", "sleep").Code == 0 })
		v := h.deploy("release", "v2")
		h.expect(v, "released", 0)
		if status := <-slow; status != 200 {
			h.t.Errorf("the slow request got %d", status)
		}
		h.eventually(func() bool { // its worker has nothing more to do
			cwds, err := h.Cwds(h.t.Context(), h.site)
			h.must(err)
			return len(cwds) == 3
		})
		h.live("v2")
	})
}

// reloading has the unit reloaded instead of restarted.
func (h *host) reloading(more string) {
	h.t.Helper()
	h.dropIn("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn --workers 2 --bind " + h.site.Bind + more + " project.wsgi:application")
	h.configure("deadline = \"8s\"\ngive_up = \"2s\"\nbody = \"ok {version}\"")
	h.reconfigure("[service]\n", "[service]\naction = \"reload\"\n")
}

func (h *host) invocation() string {
	h.t.Helper()
	id, err := h.UnitProperty(h.t.Context(), h.site.Unit, "InvocationID")
	h.must(err)
	return id
}
