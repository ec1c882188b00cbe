package e2e

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

// stateDisk is a small disk of its own for the state directory.
func (h *host) stateDisk() {
	h.t.Helper()
	h.sh("mkdir -p /var/lib/deploygate/app && mount -t tmpfs -o size=256k,mode=755 tmpfs /var/lib/deploygate/app")
}

// sh runs a shell script on the host, as an operator would.
func (h *host) sh(script string) {
	h.t.Helper()
	if r := h.Exec(h.t.Context(), "sh", "-ec", script); r.Err != nil {
		h.t.Fatalf("%s: %v\n%s%s", script, r.Err, r.Stdout, r.Stderr)
	}
}

// background starts a release and gives, once it has ended, its verdict.
func (h *host) background(version string) (*exec.Cmd, func() verdict) {
	h.t.Helper()
	cmd := h.Command(h.t.Context(), program, "release", version, "--app", h.site.Name, "--output", "json")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	h.must(cmd.Start())
	return cmd, func() (v verdict) {
		h.t.Helper()
		_ = cmd.Wait()
		h.t.Logf("release %s:\n%s%s", version, &stderr, &out)
		h.must(json.Unmarshal(out.Bytes(), &v))
		v.Code, v.Stderr = cmd.ProcessState.ExitCode(), stderr.String()
		return v
	}
}

// What goes wrong before the swap refuses the deploy.
func TestStateDirectoryUnusable(t *testing.T) {
	for name, script := range map[string]string{
		// The journal is filled up to the end of its page, which is what a file of a full tmpfs may still grow to.
		"full": `cd /var/lib/deploygate/app
head -c $((4096 - $(stat -c %s journal.jsonl) % 4096)) /dev/zero | tr '\0' '\n' >> journal.jsonl
head -c 1M /dev/zero > filler || true`,
		"read-only": "mount -o remount,ro /var/lib/deploygate/app",
	} {
		t.Run(name, func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.stateDisk()
				h.configure("")
				h.add("v1")
				h.released("v1")
				h.sh(script)
				h.add("v2")
				h.refuses("release", "/var/lib/deploygate/app", "release", "v2")
				h.live("v1")
			})
		})
	}
}

// faults are what may happen to a host while a deploy waits for the new release.
var faults = map[string]string{
	"state disk full":        "head -c 1M /dev/zero > /var/lib/deploygate/app/filler || true",
	"state disk read-only":   "umount -l /var/lib/deploygate/app; mount -t tmpfs -o ro,mode=755 tmpfs /var/lib/deploygate/app",
	"state directory gone":   "umount -l /var/lib/deploygate/app; rm -rf /var/lib/deploygate",
	"no rights":              "chmod 000 /var/lib/deploygate/app /var/lib/deploygate",
	"D-Bus restarts":         "systemctl restart dbus.service",
	"systemd is re-executed": "systemctl daemon-reexec",
	"units are reloaded":     "systemctl daemon-reload",
}

// Whatever happens after the swap, a bad release is replaced by the good one, and a good one is recognised.
func TestFaultsMeanwhile(t *testing.T) {
	for name, script := range faults {
		t.Run(name, func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.stateDisk()
				h.configure("deadline = \"6s\"")
				h.add("v1")
				h.released("v1")
				h.add("bad", testbed.SlowBoot(time.Second), testbed.Answer500())
				_, wait := h.background("bad")
				h.eventually(h.swapped("bad"))
				h.sh(script)
				h.expect(wait(), "rolled_back", 3)
				h.live("v1")
			})
		})
	}
	for _, name := range []string{"D-Bus restarts", "systemd is re-executed"} {
		t.Run("good release, "+name, func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.configure("")
				h.add("v1")
				h.released("v1")
				h.add("v2", testbed.SlowBoot(2*time.Second))
				_, wait := h.background("v2")
				h.eventually(h.swapped("v2"))
				h.sh(faults[name])
				h.expect(wait(), "released", 0)
				h.live("v2")
			})
		})
	}
}

// Signals after the swap are a failed gate, and a second one doesn't disturb the way back.
func TestSignals(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.configure("")
				h.add("v1")
				h.released("v1")
				h.add("v2", testbed.SlowBoot(20*time.Second))
				cmd, wait := h.background("v2")
				h.eventually(h.swapped("v2"))
				h.must(h.Signal(cmd, signal))
				h.eventually(h.swapped("v1"))
				h.must(h.Signal(cmd, signal))
				v := wait()
				h.expect(v, "rolled_back", 3)
				h.failed(v, "release", "interrupted", "interrupted by "+unix.SignalName(signal))
				h.live("v1")
				h.noGuards()
			})
		})
	}
}

// While a deploy is under way a shutdown waits a little for it, and not longer.
func TestShutdownIsDelayed(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1", testbed.SlowBoot(2*time.Second))
		delays := func() bool {
			r := h.Exec(h.t.Context(), "busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1",
				"org.freedesktop.login1.Manager", "DelayInhibited")
			h.must(r.Err)
			return strings.Contains(r.Stdout, "shutdown")
		}
		if delays() {
			h.t.Fatal("a shutdown is delayed before the deploy")
		}
		_, wait := h.background("v1")
		h.eventually(h.swapped("v1"))
		if !delays() {
			h.t.Error("a shutdown is not delayed")
		}
		h.expect(wait(), "released", 0)
		h.eventually(func() bool { return !delays() }) // logind sees the end of the process a little later
	})
}

// Nobody reads any more: neither the pipe nor the terminal. The deploy goes on.
func TestNobodyReads(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.ImportError())
		h.sh(program + " release v2 --log-level debug 2>&1 | true")
		h.settled()
		h.live("v1")
		if o := h.lastOutcome(); o != "rolled_back" {
			h.t.Errorf("outcome %q", o)
		}
	})
}

// guard = "required" refuses a deploy that nobody would finish; by default that is said.
func TestWithoutGuard(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("[rollback]\nguard = \"required\"")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		// A program that systemd may not start can't be its own guard.
		h.sh("cp " + program + " /tmp/deploygate")
		move := func() verdict {
			h.t.Helper()
			return h.verdict(h.Exec(h.t.Context(), "unshare", "--mount", "sh", "-c",
				"mount -t tmpfs tmpfs /mnt && cp /tmp/deploygate /mnt/ && exec /mnt/deploygate release v2 --output json"))
		}
		before := h.touched()
		v := move()
		h.expect(v, "refused", 1)
		h.failed(v, "release", "unknown", "cannot start the guard")
		if after := h.touched(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.reconfigure("\"required\"", "\"auto\"")
		v = move()
		h.expect(v, "released", 0)
		if len(v.Warnings) == 0 {
			h.t.Error("nothing is said of the missing guard")
		}
		h.live("v2")
	})
}
