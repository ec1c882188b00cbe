package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

// Two apps on one host know nothing of each other.
func TestTwoApps(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		other := &host{Machine: h.Machine, t: h.t, site: testbed.Site{
			Name: "shop", Root: "/srv/shop", Unit: "shop.service", Bind: "unix:/run/shop/shop.sock", Port: 8080, ServerName: "shop.example",
		}}
		h.must(h.InstallSite(h.t.Context(), other.site))
		other.configure("")
		other.add("a1")
		other.released("a1")
		before := h.touched()
		other.add("a2", testbed.ImportError())
		v := other.deploy("release", "a2")
		other.expect(v, "rolled_back", 3)
		other.live("a1")
		h.live("v1")
		if after := h.touched(); after != before {
			h.t.Errorf("the other app: before: %s\nafter:  %s", before, after)
		}
		// With two of them, one has to be named.
		if r := h.run("status"); r.Code != 2 || !strings.Contains(r.Stderr, "say which with --app NAME (there are: app, shop)") {
			h.t.Errorf("exit %d: %s", r.Code, r.Stderr)
		}
	})
}

// Hooks run in the candidate's directory with the app's user and environment; one that fails stops the deploy before
// anything is swapped.
func TestHooks(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure(`
[[hooks.before_swap]]
run = ["/usr/bin/python3", "manage.py", "migrate", "--noinput"]
[[hooks.after_release]]
run = ["/usr/bin/sh", "-c", "echo $DEPLOYGATE_VERSION $(id -un) $PWD > /srv/app/shared/after_release"]
[[hooks.after_rollback]]
run = ["/usr/bin/sh", "-c", "echo $DEPLOYGATE_VERSION > /srv/app/shared/after_rollback"]
`)
		h.add("v1")
		h.released("v1")
		if got, err := h.ReadFile("/srv/app/shared/after_release"); err != nil || got != "v1 www-data /srv/app/releases/v1\n" {
			h.t.Errorf("after_release wrote %q (%v)", got, err)
		}
		h.must(h.Exec(h.t.Context(), "test", "-s", "/srv/app/shared/db.sqlite3").Err) // migrated, with SECRET_KEY from the unit

		h.add("v2", testbed.File("shop/migrations/0002_broken.py", "raise RuntimeError('no such migration')\n"))
		h.refuses("release", "manage.py migrate --noinput failed: exit status 1", "release", "v2")
		h.live("v1")

		h.add("v3", testbed.ImportError())
		v := h.deploy("release", "v3")
		h.expect(v, "rolled_back", 3)
		h.live("v1")
		if got, err := h.ReadFile("/srv/app/shared/after_rollback"); err != nil || got != "v1\n" {
			h.t.Errorf("after_rollback wrote %q (%v)", got, err)
		}
	})
}

// What was broken before is said, and not blamed on the release.
func TestBrokenBefore(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.must(h.Exec(h.t.Context(), "systemctl", "stop", h.site.Unit).Err)
		h.add("v2")
		v := h.deploy("release", "v2")
		h.expect(v, "released", 0)
		h.live("v2")
		if len(v.Before) != 1 || v.Before[0].Cause != "service_stopped" {
			h.t.Errorf("before: %+v", v.Before)
		}
	})
}

// An interruption after the swap is a failed gate, never a deploy left half-way.
func TestInterrupted(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(20*time.Second))
		cmd := h.Command(h.t.Context(), program, "release", "v2", "--output", "json")
		var out strings.Builder
		cmd.Stdout = &out
		h.must(cmd.Start())
		h.eventually(func() bool { link, _ := h.Link(h.site); return link == "releases/v2" })
		h.must(h.Signal(cmd, unix.SIGINT))
		h.must(h.Signal(cmd, unix.SIGTERM)) // a second one changes nothing
		_ = cmd.Wait()
		var v verdict
		h.must(json.Unmarshal([]byte(out.String()), &v))
		v.Code = cmd.ProcessState.ExitCode()
		h.expect(v, "rolled_back", 3)
		h.failed(v, "release", "interrupted", "interrupted by SIG")
		h.live("v1")
	})
}

// eventually waits for something to happen. Its limit is for what never does, on a machine that is busy with other things.
func (h *host) eventually(done func() bool) {
	h.t.Helper()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			h.t.Fatal("it does not happen")
		}
	}
}

// One deploy at a time; the second is told who is at it.
func TestLocked(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(2*time.Second))
		h.add("v3")
		cmd := h.Command(h.t.Context(), program, "release", "v2")
		h.must(cmd.Start())
		h.eventually(func() bool { link, _ := h.Link(h.site); return link == "releases/v2" })
		v := h.deploy("release", "v3")
		h.expect(v, "locked", 6)
		if !strings.Contains(v.Failure.Summary, "release v2 (pid ") {
			h.t.Errorf("failure %+v", v.Failure)
		}
		v = h.deploy("release", "v3", "--lock-wait", "20s")
		h.expect(v, "released", 0)
		h.must(cmd.Wait())
		if v.Previous != "v2" {
			h.t.Errorf("previous is %s, want v2", v.Previous)
		}
		h.live("v3")
	})
}

// prune keeps what the way back needs, and failed releases don't push good ones out.
func TestPrune(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("", "keep = 2")
		for _, v := range []string{"v1", "v2"} {
			h.add(v)
			h.released(v)
		}
		for _, v := range []string{"bad1", "bad2"} {
			h.add(v, testbed.ImportError())
			h.expect(h.deploy("release", v), "rolled_back", 3)
		}
		h.add("staged") // not deployed yet: none of prune's business
		h.add("v3")
		h.released("v3")
		r := h.Exec(h.t.Context(), "ls", h.site.Root+"/releases")
		h.must(r.Err)
		if got := strings.Fields(r.Stdout); strings.Join(got, " ") != "bad2 staged v2 v3" {
			h.t.Errorf("releases left: %q", got)
		}
		v := h.deploy("rollback")
		h.expect(v, "released", 0)
		h.live("v2")
	})
}

// status, history and plan say what is, and change nothing.
func TestLooking(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		before := h.touched()
		for _, args := range [][]string{{"plan", "v2"}, {"release", "v2", "--dry-run"}, {"status"}, {"history"}, {"--output", "json", "plan", "v2"}} {
			if r := h.run(args...); r.Code != 0 || r.Stdout == "" {
				h.t.Errorf("%q: exit %d, %q", args, r.Code, r.Stdout)
			}
		}
		if r := h.run("plan", "v9"); r.Code != 1 || !strings.HasPrefix(r.Stdout, "would be refused: release: release v9 does not exist") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
		if after := h.touched(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
	})
}
