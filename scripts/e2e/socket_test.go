package e2e

import (
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

func withSocket() testbed.Site {
	site := testbed.DefaultSite()
	site.Socket = true
	return site
}

// Behind a socket unit connections wait while gunicorn restarts: a good release loses none.
func TestAGoodReleaseBehindASocketUnit(t *testing.T) {
	onEachSuite(t, withSocket(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		load := h.Load(h.t.Context(), h.site, "/health/", 100)
		h.released("v2")
		if failed, outage := testbed.Outage(load.Stop()); failed > 0 {
			h.t.Errorf("%d requests failed, outage %s", failed, outage)
		}
	})
}

// There a connection proves nothing: it is made whatever the app does.
func TestABadReleaseBehindASocketUnit(t *testing.T) {
	onAHost(t, withSocket(), func(h *host) {
		h.configure("deadline = \"5s\"\ntimeout = \"1s\"")
		h.failed(h.rolledBack(testbed.ImportError()), "app", "import_error", "")
		h.add("v3", testbed.HangAtImport())
		v := h.deploy("release", "v3")
		h.expect(v, "rolled_back", 3)
		h.failed(v, "app", "boot_hang", "")
		h.live("v1")
	})
}

// A socket unit gives up when its service has crashed too often. A service that doesn't require it doesn't bring it back.
func TestASocketUnitThatGaveUp(t *testing.T) {
	onAHost(t, withSocket(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.sh("sed -i -e /^Requires=/d -e 's/ --bind [^ ]*//' /etc/systemd/system/" + h.site.Unit)
		h.dropIn("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2")
		h.add("v2", testbed.ImportError())
		h.must(h.SetLink(h.site, "v2"))
		h.restart()
		h.eventually(func() bool {
			_, _, _, _ = h.Get(h.t.Context(), h.site, "/health/")
			state, err := h.UnitProperty(h.t.Context(), h.site.SocketUnit(), "ActiveState")
			h.must(err)
			return state == "failed"
		})
		h.add("v3")
		v := h.deploy("release", "v3")
		h.expect(v, "released", 0)
		h.live("v3")
		if state, _ := h.UnitProperty(h.t.Context(), h.site.SocketUnit(), "ActiveState"); state != "active" {
			h.t.Errorf("the socket unit is %s", state)
		}
		if listens := h.Exec(h.t.Context(), "ss", "-lxp").Stdout; strings.Count(listens, h.site.SocketPath()) != 1 {
			h.t.Errorf("who listens: %s", listens)
		}
	})
}

// Who only looks starts nothing: an app that is stopped behind its socket unit is reported, not asked.
func TestLookingDoesNotStartWhatIsStopped(t *testing.T) {
	onAHost(t, withSocket(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.sh("systemctl stop " + h.site.Unit)
		for _, command := range []string{"check", "diagnose", "status"} {
			r := h.run(command)
			if command != "status" && (r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, h.site.Unit+" is not running")) {
				h.t.Errorf("%s: exit %d\n%s%s", command, r.Code, r.Stdout, r.Stderr)
			}
			state, err := h.UnitProperty(h.t.Context(), h.site.Unit, "ActiveState")
			h.must(err)
			if state != "inactive" {
				h.t.Fatalf("%s: the app is %s", command, state)
			}
		}
	})
}
