package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"deploygate/scripts/testbed"
)

// With no configuration file at all, on a host laid out as the defaults say.
func TestNoConfiguration(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.add("v1")
		h.add("v2")
		r := h.run("release", "v1")
		if r.Code != 0 || !strings.HasPrefix(r.Stdout, "released: v1 is live") || strings.Count(r.Stdout, "\n") != 1 {
			h.t.Errorf("exit %d, stdout %q", r.Code, r.Stdout)
		}
		h.live("v1")
		v := h.released("v2")
		if !v.Changed || v.Previous != "v1" || v.WayBack.Version != "v1" || v.WayBack.Verdict != "safe" {
			h.t.Errorf("verdict %+v", v)
		}
		for _, step := range []string{"preflight", "swap", "restart", "health", "proxy", "commit"} {
			h.step(v, step, "passed")
		}
	})
}

func TestSameReleaseAgain(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		before := h.touched()
		v := h.deploy("release", "v1")
		h.expect(v, "unchanged", 0)
		if v.Changed {
			h.t.Error("the verdict says that something was changed")
		}
		if after := h.touched(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.live("v1")
	})
}

// rolledBack deploys v2 over a good v1 and wants v1 back.
func (h *host) rolledBack(mods ...testbed.Mod) verdict {
	h.t.Helper()
	h.add("v1")
	h.released("v1")
	h.add("v2", mods...)
	v := h.deploy("release", "v2")
	h.expect(v, "rolled_back", 3)
	h.step(v, "rollback", "passed")
	if !v.Changed || v.WayBack.Verdict != "safe" {
		h.t.Errorf("verdict %+v", v)
	}
	h.live("v1")
	return v
}

func TestImportErrorAtBoot(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		v := h.rolledBack(testbed.ImportError())
		h.failed(v, "app", "import_error", "payments is not installed (project/wsgi.py, line 1)")
	})
}

func TestViewAnswers500(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"4s\"")
		v := h.rolledBack(testbed.Answer500())
		h.failed(v, "app", "app_error", "answers 500")
	})
}

func TestAppHangs(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"5s\"\ntimeout = \"1s\"")
		v := h.rolledBack(testbed.Hang())
		h.failed(v, "app", "no_answer", "takes the request and gives no answer")
		h.wasKilled()
	})
}

// So many wait for an app that hangs that nobody can get into the line any more.
func TestAppHangsAndItsBacklogIsFull(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.command("--workers 2 --backlog 5 BIND project.wsgi:application")
		h.configure("deadline = \"5s\"")
		load := h.Load(t.Context(), h.site, "/health/", 50)
		defer load.Stop()
		v := h.rolledBack(testbed.Hang())
		h.failed(v, "socket", "backlog_full", "")
		h.wasKilled()
	})
}

// wasKilled makes sure that nobody waited for a release to end: one that gives no answer doesn't, when it is asked to.
func (h *host) wasKilled() {
	h.t.Helper()
	log := h.Exec(h.t.Context(), "journalctl", "--unit", h.site.Unit, "--output", "cat", "--quiet").Stdout
	if !strings.Contains(log, "code=killed, status=9/KILL") {
		h.t.Errorf("it was not killed:\n%s", log)
	}
	if strings.Contains(log, "timed out") {
		h.t.Errorf("its end was waited for:\n%s", log)
	}
}

func TestSlowBootPasses(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(5*time.Second))
		h.released("v2")
	})
}

func TestHealthyForASecond(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"6s\"\ngive_up = \"1h\"") // it is the deadline that ends it
		h.reconfigure("600ms", "2s")
		v := h.rolledBack(testbed.HealthyFor(time.Second))
		h.failed(v, "app", "app_error", "answers 500")
		if e := v.Failure.Evidence; len(e) == 0 || !regexp.MustCompile(`not healthy for 2s within \d+s, though it was for a while`).MatchString(e[len(e)-1].Text) {
			h.t.Errorf("evidence %q", e)
		}
	})
}
