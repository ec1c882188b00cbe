package e2e

import (
	"fmt"
	"strconv"
	"testing"

	"deploygate/scripts/testbed"
)

// obstacles stand in the way back: they are there from the first start of the bad release on. lift takes them away.
var obstacles = map[string]struct{ raise, lift string }{
	"full": {`os.makedirs(root + "/filler", exist_ok=True)
with open(root + "/filler/blocks", "ab") as f:
    size = 1 << 30
    while size >= 512:
        try:
            os.posix_fallocate(f.fileno(), f.seek(0, 2), size)
        except OSError:
            size //= 2
try:
    for n in range(1 << 20):
        os.close(os.open(f"{root}/filler/{n}", os.O_CREAT))
except OSError:
    pass
`, "rm -rf /srv/app/filler"},
	"read-only": {`subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
`, "mount -o remount,bind,rw /srv/app"},
}

// obstruct makes every start of a bad release raise an obstacle.
func (h *host) obstruct(obstacle string) {
	h.t.Helper()
	h.must(h.WriteFile("/usr/local/bin/obstruct", `#!/usr/bin/python3
import os, subprocess
root = "`+h.site.Root+`"
if os.readlink(root + "/current").startswith("releases/bad"):
    exec("""`+obstacles[obstacle].raise+`""")
`, 0o755))
	h.dropIn("[Service]\nExecStartPre=+/usr/local/bin/obstruct")
}

// A bad release is killed at each change, and its host loses its power there, while something stands in the way back: the
// file system of the releases is full, or has become read-only. Where that doesn't keep the link from being renamed nothing is
// typed; else recover is, once it is gone. Nobody is blamed but the bad release.
func TestCutOffAnywhereObstructed(t *testing.T) {
	for obstacle := range obstacles {
		for _, accident := range []string{"killed", "power cut"} {
			t.Run(obstacle+" and "+accident, func(t *testing.T) {
				onSuites(t, cutSuites(), testbed.DefaultSite(), func(h *host) {
					root := "ext4"
					if h.Suite != testbed.Suites[0] {
						root = "xfs"
					}
					h.onDisk(layout{"ext4", "ext4", root})
					h.prepareKills()
					h.obstruct(obstacle)
					points := h.obstructedChanges(obstacle)
					cuts := 0
					for n := h.firstPoint(); n <= points; n += h.stride(13) {
						version := fmt.Sprintf("bad-%d", n)
						h.add(version, kinds["bad"]...)
						var at string
						if accident == "killed" {
							r := h.Exec(h.t.Context(), killat, strconv.Itoa(n), program, "release", version)
							at = lastChange(r.Stderr)
						} else {
							at = h.cutAt(n, h.release("bad", version))
							h.installKillat()
						}
						h.noGuards()
						if obstacle == "full" {
							h.settled()
							h.linked("v1")
						}
						h.unobstructed(obstacle)
						h.well("bad", version, accident+" with a disk that is "+obstacle+", at point "+at)
						if o := h.lastOutcome(); o == "stuck" {
							h.t.Fatalf("%s: it is still stuck", at)
						}
						h.backToV1()
						h.sh("rm -rf " + h.site.ReleaseDir(version)) // a power cut may have taken it
						cuts++
					}
					h.t.Logf("%s on %s: %d times %s", obstacle, root, cuts, accident)
				})
			})
		}
	}
}

// obstructedChanges counts the changes of the host that a bad release makes with an obstacle in its way back.
func (h *host) obstructedChanges(obstacle string) int {
	h.t.Helper()
	h.add("bad-0", kinds["bad"]...)
	r := h.Exec(h.t.Context(), killat, "0", program, "release", "bad-0")
	n := len(change.FindAllString(r.Stderr, -1))
	h.t.Logf("%s: %d changes of the host, exit %d", obstacle, n, r.Code)
	if obstacle == "full" && r.Code != 3 {
		h.t.Fatalf("exit %d: the way back needs room on a disk that is full\n%s", r.Code, r.Stderr)
	}
	h.unobstructed(obstacle)
	h.live("v1")
	h.sh("rm -r " + h.site.ReleaseDir("bad-0"))
	return n
}

// unobstructed takes an obstacle away, and has what is left of the deploy finished.
func (h *host) unobstructed(obstacle string) {
	h.t.Helper()
	// systemd may start the bad release once more in between, which raises the obstacle again, also after the way back.
	lift := func() { h.Exec(h.t.Context(), "sh", "-c", obstacles[obstacle].lift) } // after a boot there may be none
	for range 10 {
		lift()
		if r := h.run("recover"); r.Code != 5 {
			break
		}
	}
	h.settled()
	lift()
}
