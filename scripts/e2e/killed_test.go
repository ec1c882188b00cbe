package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

// killed starts a release, kills its process as soon as when says so, and waits until someone else has brought it to
// an end. Nothing is typed meanwhile.
func (h *host) killed(version string, when func() bool) {
	h.t.Helper()
	cmd := h.Command(h.t.Context(), program, "release", version, "--app", h.site.Name)
	h.must(cmd.Start())
	h.eventually(when)
	h.must(h.Signal(cmd, unix.SIGKILL))
	_ = cmd.Wait()
	h.settled()
	h.noGuards()
}

func (h *host) swapped(version string) func() bool {
	return func() bool { link, _ := h.Link(h.site); return link == "releases/"+version }
}

// history returns the outcome of the last deploy.
func (h *host) lastOutcome() string {
	h.t.Helper()
	r := h.run("history", "--limit", "1", "--app", h.site.Name, "--output", "json")
	h.must(r.Err)
	var history struct{ Deploys []struct{ Outcome string } }
	h.must(json.Unmarshal([]byte(r.Stdout), &history))
	return history.Deploys[0].Outcome
}

// A deploy that is killed is finished by its guard: the way back, where there is one.
func TestKilled(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(20*time.Second))
		h.killed("v2", h.swapped("v2"))
		h.live("v1")
		if o := h.lastOutcome(); o != "rolled_back" {
			h.t.Errorf("outcome %q", o)
		}
		h.add("v3")
		h.released("v3")
	})
}

// Where the marker forbids the way back, it goes forward.
func TestKilledWithoutWayBack(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(2*time.Second), testbed.Marker(blocked))
		h.killed("v2", h.swapped("v2"))
		h.live("v2")
		if o := h.lastOutcome(); o != "released" {
			h.t.Errorf("outcome %q", o)
		}
	})
}

// With the guard gone too, the next deploy finishes the last one first.
func TestKilledWithGuard(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(20*time.Second))
		cmd := h.Command(h.t.Context(), program, "release", "v2")
		h.must(cmd.Start())
		h.eventually(h.swapped("v2"))
		h.must(h.Exec(h.t.Context(), "systemctl", "stop", "deploygate-guard-*").Err)
		h.must(h.Signal(cmd, unix.SIGKILL))
		_ = cmd.Wait()
		h.linked("v2")
		if r := h.run("status"); !strings.Contains(r.Stdout, "unfinished") {
			h.t.Errorf("status: %s", r.Stdout)
		}
		h.add("v3")
		v := h.released("v3")
		if v.Previous != "v1" || !strings.Contains(v.Stderr, "finished the last deploy first: rolled back: v1 is live again") {
			h.t.Errorf("previous %s; %s", v.Previous, v.Stderr)
		}
		if r := h.run("recover"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "nothing to recover") {
			h.t.Errorf("exit %d, %s", r.Code, r.Stdout)
		}
	})
}
