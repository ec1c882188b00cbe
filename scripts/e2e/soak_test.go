package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/release/journal"
	"deploygate/scripts/testbed"
)

// Two hundred releases of different versions at once: one runs at a time, the others are told so or wait, and the
// journal tells the true story.
func TestConcurrentReleases(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		const deploys, waiting, versions = 200, 4, 8
		h.configure("interval = \"50ms\"")
		h.reconfigure("600ms", "150ms")
		h.add("v0")
		h.released("v0")
		for n := range versions {
			h.add(fmt.Sprintf("c%d", n))
		}
		// Each is a process of its own; the shell notes their exit codes.
		h.sh(fmt.Sprintf(`mkdir /tmp/codes
for n in $(seq %d); do
	wait=0s; [ $n -gt %d ] || wait=120s
	(c=0; %s release c$((n %% %d)) --lock-wait $wait >/dev/null 2>&1 || c=$?; echo $c > /tmp/codes/$n) &
done
wait`, deploys, waiting, program, versions))
		codes := map[string]int{}
		r := h.Exec(h.t.Context(), "sh", "-c", "cat /tmp/codes/*")
		for code := range strings.FieldsSeq(r.Stdout) {
			codes[code]++
		}
		h.t.Logf("exit codes: %v", codes)
		if codes["0"]+codes["6"] != deploys || codes["0"] < waiting {
			h.t.Errorf("exit codes %v, want only 0 and 6, and at least %d times 0", codes, waiting)
		}
		link, err := h.Link(h.site)
		h.must(err)
		h.live(strings.TrimPrefix(link, "releases/"))
		h.oneAtATime()
	})
}

// oneAtATime asserts that in the journal no deploy begins before the one before it has finished, and that each went on
// from where the last one ended.
func (h *host) oneAtATime() {
	h.t.Helper()
	text, err := h.ReadFile("/var/lib/deploygate/" + h.site.Name + "/journal.jsonl")
	h.must(err)
	running, current := "", ""
	for line := range strings.Lines(text) {
		var r journal.Record
		h.must(json.Unmarshal([]byte(line), &r))
		switch {
		case r.Event == journal.Began && running != "":
			h.t.Errorf("deploy %s began while %s was running", r.Deploy, running)
		case r.Event == journal.Began:
			if current != "" && string(r.Previous) != current {
				h.t.Errorf("deploy %s began from %s, the last one ended with %s", r.Deploy, r.Previous, current)
			}
			running = r.Deploy
		case r.Deploy != running:
			h.t.Errorf("a record of deploy %s while %s was running", r.Deploy, running)
		case r.Event == journal.Finished:
			var v struct{ Current string }
			h.must(json.Unmarshal(r.Verdict, &v))
			running, current = "", v.Current
		}
	}
}

// A random soak: releases of random kinds, killed, interrupted or cut off at random, on one host. The seed is in the
// log, and DEPLOYGATE_SEED repeats it.
func TestSoak(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		deploys := 8
		if full {
			deploys = 160 // on each of two hosts
		}
		seed := uint64(time.Now().UnixNano())
		if s, err := strconv.ParseUint(os.Getenv("DEPLOYGATE_SEED"), 10, 64); err == nil {
			seed = s
		}
		h.t.Logf("DEPLOYGATE_SEED=%d", seed)
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it has to be repeatable, not secret
		h.onDisk(oneDisk)
		h.prepareKills()
		h.reconfigure("interval = \"50ms\"", "interval = \"50ms\"\ndeadline = \"3s\"")
		ended := map[string]int{}
		for n := range deploys {
			ended[h.accident(random, n)]++
		}
		h.t.Logf("%d deploys: %v", deploys, ended)
	})
}

var soakKinds = []struct {
	kind string // as well knows it
	mods []testbed.Mod
}{
	{"good", nil},
	{"good", []testbed.Mod{testbed.SlowBoot(time.Second)}},
	{"good", []testbed.Mod{testbed.NginxInclude("add_header X-Soak yes always;")}},
	{"bad", []testbed.Mod{testbed.ImportError()}},
	{"bad", []testbed.Mod{testbed.Answer500()}},
	{"bad", []testbed.Mod{testbed.MissingSetting("X_NOT_SET")}},
	{"bad", []testbed.Mod{testbed.NginxInclude("no_such_directive on;")}},
	{"blocked", []testbed.Mod{testbed.Marker(blocked)}},
}

// accident deploys a random release, lets something random happen to it, and asserts that all is well afterwards. It
// gives what happened, in short.
func (h *host) accident(random *rand.Rand, n int) string {
	h.t.Helper()
	k := soakKinds[random.IntN(len(soakKinds))]
	version := fmt.Sprintf("s%d", n)
	h.add(version, k.mods...)
	what := []string{"nothing", "killed", "signalled", "power cut"}[random.IntN(4)]
	point, delay := 1+random.IntN(45), time.Duration(random.IntN(1500))*time.Millisecond
	switch what {
	case "nothing":
		h.Exec(h.t.Context(), program, "release", version)
	case "killed":
		h.Exec(h.t.Context(), killat, strconv.Itoa(point), program, "release", version)
	case "signalled":
		cmd, _ := h.background(version)
		h.after(delay)
		_ = h.Signal(cmd, []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGKILL}[random.IntN(4)])
		_ = cmd.Wait()
	case "power cut":
		cmd, _ := h.background(version)
		h.after(delay)
		h.powerCut()
		_ = cmd.Wait()
		h.installKillat()
	}
	h.settled()
	h.well(k.kind, version, fmt.Sprintf("%s, point %d, delay %s, kind %s %d", what, point, delay, k.kind, len(k.mods)))
	h.backToV1()
	return what
}

// after waits: the accident happens at a random moment.
func (h *host) after(d time.Duration) {
	h.t.Helper()
	select {
	case <-time.After(d):
	case <-h.t.Context().Done():
	}
}
