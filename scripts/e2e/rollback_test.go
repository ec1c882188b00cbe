package e2e

import (
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

const blocked = "rollback = \"blocked\"\nreason = \"shop.0002_drop removes order.legacy, which v1 reads\"\nmigrations = [\"shop.0002_drop\"]\n"

// A failed release whose marker forbids the way back stays, and the operator is told why.
func TestBlockedMarkerHolds(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"3s\"")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.Answer500(), testbed.Marker(blocked))
		v := h.deploy("release", "v2")
		h.expect(v, "held", 4)
		h.linked("v2")
		h.running("v2")
		h.answers(500)
		if v.WayBack.Verdict != "blocked" || !strings.Contains(v.WayBack.Reason, "order.legacy") {
			h.t.Errorf("way back %+v", v.WayBack)
		}
		h.step(v, "rollback", "")

		// A rollback is refused too, and changes nothing ...
		h.refuses("schema", "order.legacy", "rollback")
		// ... unless the marker is overridden, which is recorded.
		v = h.deploy("rollback", "--override-marker", "restored the column by hand")
		h.expect(v, "released", 0)
		h.live("v1")
		if r := h.run("history"); !strings.Contains(r.Stdout, "marker overridden: restored the column by hand") {
			h.t.Errorf("history: %s", r.Stdout)
		}
	})
}

// Without a marker a migration that the old code can't live with blocks the way back, by default.
func TestNewMigrationBlocks(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.ImportError(), testbed.Migration("0002_drop", dropLegacy))
		v := h.deploy("release", "v2")
		h.expect(v, "held", 4)
		if !strings.Contains(v.WayBack.Reason, "shop.0002_drop") {
			h.t.Errorf("way back %+v", v.WayBack)
		}
		h.linked("v2")
		h.answers(502)

		h.add("v3", testbed.Migration("0002_drop", dropLegacy))
		h.released("v3")
	})
}

// A marker that says safe lets a release with a migration be rolled back.
func TestSafeMarker(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.rolledBack(testbed.ImportError(), testbed.Migration("0002_drop", dropLegacy), testbed.Marker("rollback = \"safe\"\n"))
	})
}

// Every release that a rollback crosses counts, not only the one that is left.
func TestMarkerInBetween(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.add("v2", testbed.Marker(blocked))
		h.add("v3")
		for _, v := range []string{"v1", "v2", "v3"} {
			h.released(v)
		}
		h.refuses("schema", "v2's marker forbids it", "rollback", "v1")
		h.live("v3")
		v := h.deploy("rollback")
		h.expect(v, "released", 0)
		h.live("v2")
		h.refuses("schema", "v2's marker forbids it", "rollback", "v1")
		// release is no way round it.
		h.refuses("schema", "v2's marker forbids it", "release", "v1")
		h.live("v2")
	})
}

// What was live was not healthy before, and isn't on the way back: the next older good one is, and where that fails too, a
// person is needed. Of what was healthy before nothing older is tried.
func TestWayBackUnhealthy(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"10s\"")
		for _, v := range []string{"v1", "v2", "v3"} {
			h.add(v)
			h.released(v)
		}
		h.breakRelease("v3")
		h.restart()
		h.add("v4", testbed.ImportError())
		v := h.deploy("release", "v4")
		h.expect(v, "rolled_back", 3)
		h.live("v2")
		h.tried(v, "failed passed")

		h.breakRelease("v2")
		h.breakRelease("v1")
		h.add("v5", testbed.ImportError())
		v = h.deploy("release", "v5")
		h.expect(v, "stuck", 5)
		h.linked("v2")
		h.answers(502)
		h.tried(v, "failed")
		h.wayBack("v3") // v2 is live and the last that was healthy; v3 passed once, and nothing is proved of it

		h.add("v6", testbed.ImportError())
		v = h.deploy("release", "v6")
		h.expect(v, "stuck", 5)
		h.tried(v, "failed failed")
	})
}

// tried asserts how the ways back ended.
func (h *host) tried(v verdict, outcomes string) {
	h.t.Helper()
	var tried []string
	for _, s := range v.Steps {
		if s.Name == "rollback" {
			tried = append(tried, s.Outcome)
		}
	}
	if strings.Join(tried, " ") != outcomes {
		h.t.Errorf("the ways back ended %q, want %s", tried, outcomes)
	}
}

// breakRelease makes a release that was good fail at its next start.
func (h *host) breakRelease(version string) {
	h.t.Helper()
	file := h.site.ReleaseDir(version) + "/project/wsgi.py"
	text, err := h.ReadFile(file)
	h.must(err)
	h.must(h.WriteFile(file, "import payments\n"+text, 0o644))
}

// The first release ever has nothing to go back to.
func TestFirstReleaseEver(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1", testbed.ImportError())
		v := h.deploy("release", "v1")
		h.expect(v, "held", 4)
		h.linked("v1")
		h.answers(502)
		if v.WayBack.Verdict != "none" {
			h.t.Errorf("way back %+v", v.WayBack)
		}
		h.add("v2")
		h.released("v2")
		// The failed v1 is no way back from v2.
		h.refuses("release", "nothing to roll back to", "rollback")
	})
}

// A host that was deployed to by other means: what is live when deploygate comes is the way back.
func TestAdoptedHost(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.must(h.GoLive(h.t.Context(), h.site, "v1"))
		h.add("v2", testbed.ImportError())
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		h.live("v1")
	})
}

// The gate of a manual rollback is the same: a target that fails is not left in place.
func TestRollbackToUnhealthy(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.released("v2")
		h.breakRelease("v1")
		v := h.deploy("rollback")
		h.expect(v, "rolled_back", 3) // v1 failed, v2 is live again
		h.live("v2")
		h.refuses("release", "nothing to roll back to", "rollback")
	})
}

// What is wrong with the host or the configuration is no release's fault: the way back stays what it was.
func TestBothReleasesFailAlike(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("give_up = \"1s\"")
		for _, v := range []string{"v1", "v2"} {
			h.add(v)
			h.released(v)
		}
		h.configure("give_up = \"1s\"\npath = \"/healthz\"")
		h.add("v3")
		v := h.deploy("release", "v3")
		h.expect(v, "stuck", 5)
		if !strings.Contains(strings.Join(v.Warnings, "\n"), "v2 fails as well, so the fault is in what it shares with v3") {
			h.t.Errorf("warnings %q", v.Warnings)
		}
		h.linked("v2")
		h.running("v2")

		h.configure("")
		if r := h.run("rollback"); r.Code != 0 {
			h.t.Errorf("rollback: exit %d\n%s", r.Code, r.Stderr)
		}
		h.live("v1")
		h.add("v4")
		h.released("v4")
		h.released("v2") // it was not pruned
	})
}
