package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"deploygate/scripts/testbed"
)

// The machine loses its power in the middle of a deploy. When it is up again the app has been started on the
// known-good release, without anybody typing anything.
func TestPowerCut(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.onDisk(oneDisk)
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(30*time.Second))
		cmd := h.Command(h.t.Context(), program, "release", "v2")
		h.must(cmd.Start())
		h.eventually(h.restarted("v2"))
		h.powerCut()
		_ = cmd.Wait()
		h.settled()
		h.live("v1")
		if o := h.lastOutcome(); o != "rolled_back" {
			h.t.Errorf("outcome %q", o)
		}
		// It was on v1 from its first start: nothing had to restart it.
		if app, recover := h.started(h.site.Unit), h.started("deploygate-recover.service"); app > recover {
			h.t.Errorf("the app was started %d µs after the boot, after deploygate-recover at %d", app, recover)
		}
	})
}

// The same with a marker that forbids the way back: the new release is started and gated.
func TestPowerCutWithoutWayBack(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.onDisk(oneDisk)
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(2*time.Second), testbed.Marker(blocked))
		cmd := h.Command(h.t.Context(), program, "release", "v2")
		h.must(cmd.Start())
		h.eventually(h.restarted("v2"))
		h.powerCut()
		_ = cmd.Wait()
		h.settled()
		h.live("v2")
		if o := h.lastOutcome(); o != "released" {
			h.t.Errorf("outcome %q", o)
		}
	})
}

// restarted reports whether the app's processes run a version: then the swap to it is on disk.
func (h *host) restarted(version string) func() bool {
	return func() bool {
		cwds, err := h.Cwds(h.t.Context(), h.site)
		return err == nil && slices.Contains(cwds, h.site.ReleaseDir(version))
	}
}

// started is when a unit's main process was started, in microseconds since the boot.
func (h *host) started(unit string) int {
	h.t.Helper()
	at, err := h.UnitProperty(h.t.Context(), unit, "ExecMainStartTimestampMonotonic")
	h.must(err)
	n, err := strconv.Atoi(at)
	h.must(err)
	if n == 0 {
		h.t.Errorf("%s was never started", unit)
	}
	return n
}

// installUnits installs the units that the project ships for the boot.
func (h *host) installUnits() {
	h.t.Helper()
	h.must(h.InstallBootUnits(h.t.Context(), "../packaging"))
}

// settled waits until no deploy runs or is unfinished.
func (h *host) settled() {
	h.t.Helper()
	h.eventually(func() bool {
		r := h.Exec(h.t.Context(), program, "status", "--app", h.site.Name, "--output", "json")
		return r.Err == nil && strings.Contains(r.Stdout, `"running":null,"unfinished":null`)
	})
}
