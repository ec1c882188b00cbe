package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"deploygate/scripts/testbed"
)

// The power is cut in the middle of a release, with the state directory elsewhere, on a file system that isn't there before the local ones, and the app's
// configuration among those of others, one of which was never deployed.
func TestPowerCutWithStateElsewhere(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.onDisk(oneDisk)
		h.state = "/volume/deploy/state" // which is mounted at /data
		h.configure("", `state_dir = "/data/deploy/state"`)
		h.must(h.WriteFile("/etc/deploygate/never.toml", "root = \"/srv/never\"\n", 0o644))
		h.mountAtBoot("/data", "nofail")
		h.add("v1")
		h.must(h.Exec(h.t.Context(), program, "release", "v1", "--app", h.site.Name).Err)
		h.live("v1")
		h.repaired("does not wait for data.mount")
		h.add("v2", testbed.SlowBoot(30*time.Second))
		cmd := h.Command(h.t.Context(), program, "release", "v2", "--app", h.site.Name)
		h.must(cmd.Start())
		h.eventually(h.restarted("v2"))
		h.powerCut()
		_ = cmd.Wait()
		h.settled()
		h.live("v1")
		if o := h.lastOutcome(); o != "rolled_back" {
			h.t.Errorf("outcome %q", o)
		}
		boot, app, recover := h.started("deploygate-boot.service"), h.started(h.site.Unit), h.started("deploygate-recover.service")
		if boot > app || app > recover {
			h.t.Errorf("deploygate-boot was started %d µs after the boot, the app at %d, deploygate-recover at %d", boot, app, recover)
		}
		for _, unit := range []string{"deploygate-boot.service", "deploygate-recover.service"} {
			if result, err := h.UnitProperty(h.t.Context(), unit, "Result"); err != nil || result != "success" {
				h.t.Errorf("%s: %s (%v)", unit, result, err)
			}
		}
		h.nothing("/var/lib/deploygate")
	})
}

// check says in one line why a power cut would not be put right, with the command that fixes it.
func TestCheckNamesMissingRecovery(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.sh("systemctl disable --quiet deploygate-boot.service deploygate-recover.service; rm /etc/systemd/system/deploygate-*.service; systemctl daemon-reload")
		if w := h.recoveryWarning(); !strings.Contains(w, "deploygate-boot.service and deploygate-recover.service are not installed") {
			h.t.Errorf("check warns %q", w)
		}
		h.installUnits()
		if w := h.recoveryWarning(); w != "" {
			h.t.Errorf("check warns %q", w)
		}
		h.sh("systemctl disable --quiet deploygate-boot.service")
		h.repaired("deploygate-boot.service is not enabled")
		h.sh("rm /etc/systemd/system/deploygate-recover.service; systemctl mask --quiet deploygate-recover.service")
		if w := h.recoveryWarning(); !strings.Contains(w, "deploygate-recover.service is masked") {
			h.t.Errorf("check warns %q", w)
		}
		h.sh("rm /etc/systemd/system/deploygate-recover.service")
		h.installUnits()
		h.sh("systemctl daemon-reload; cp /etc/deploygate/app.toml /root/elsewhere.toml")
		r := h.run("check", "--config", "/root/elsewhere.toml")
		if !strings.Contains(r.Stderr, "this one is /root/elsewhere.toml: mv /root/elsewhere.toml /etc/deploygate/NAME.toml") {
			h.t.Errorf("check warns %q", r.Stderr)
		}
		h.sh("sed -i /^Condition/d /etc/systemd/system/deploygate-boot.service; sed -i '/^RequiresMountsFor/aConditionDirectoryNotEmpty=/var/lib/deploygate' /etc/systemd/system/deploygate-boot.service; systemctl daemon-reload")
		if w := h.recoveryWarning(); w != "" {
			h.t.Errorf("an older unit fits the default: check warns %q", w)
		}
		h.reconfigure("[service]", "state_dir = \"/data/state\"\n[service]")
		if w := h.recoveryWarning(); !strings.Contains(w, "has ConditionDirectoryNotEmpty=/var/lib/deploygate, and the state directory is /data/state") {
			h.t.Errorf("check warns %q", w)
		}
	})
}

// recoveryWarning is what check warns of that would keep a power cut from being put right; "" for nothing.
func (h *host) recoveryWarning() string {
	h.t.Helper()
	r := h.run("check", "--app", h.site.Name, "--output", "json")
	var report struct{ Warnings []string }
	h.must(json.Unmarshal([]byte(r.Stdout), &report))
	for _, w := range report.Warnings {
		if strings.HasPrefix(w, "after a power cut") {
			return w
		}
	}
	return ""
}

// repaired asserts such a warning, and that the command that it names fixes it.
func (h *host) repaired(want string) {
	h.t.Helper()
	w := h.recoveryWarning()
	_, rest, found := strings.Cut(w, want)
	if _, fix, is := strings.Cut(rest, ": "); found && is {
		h.sh(fix)
	} else {
		h.t.Errorf("check warns %q, want …%s…", w, want)
	}
	if w := h.recoveryWarning(); w != "" {
		h.t.Errorf("after that check warns %q", w)
	}
}

// mountAtBoot has a file system mounted there, now and at each boot.
func (h *host) mountAtBoot(dir, options string) {
	h.t.Helper()
	h.sh("mkdir -p /volume " + dir + "; echo '/volume " + dir + " none bind," + options + " 0 0' >> /etc/fstab; systemctl daemon-reload; systemctl start " + strings.TrimPrefix(dir, "/") + ".mount")
}
