package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// blames asserts whom a verdict blames.
func (h *host) blames(v verdict, whom string) {
	h.t.Helper()
	if v.Failure == nil || v.Failure.Blames != whom {
		h.t.Errorf("failure %+v, want it to blame %s", v.Failure, whom)
	}
}

// marked are the releases that the journal on disk has marked as failed.
func (h *host) marked() (versions []string) {
	h.t.Helper()
	text, err := h.ReadFile("/var/lib/deploygate/" + h.site.Name + "/journal.jsonl")
	h.must(err)
	for line := range strings.Lines(text) {
		var r struct{ Event, Version, Blames string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			h.t.Fatalf("%v: %s", err, line)
		}
		if r.Event == "failed" && r.Blames == "release" {
			versions = append(versions, r.Version)
		}
	}
	return versions
}

// rollbackTarget asserts what status offers as the way back; "" is none.
func (h *host) wayBack(version string) {
	h.t.Helper()
	var s struct {
		WayBack struct{ Version, Verdict string } `json:"way_back"`
	}
	r := h.run("status", "--output", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		h.t.Fatal(err)
	}
	if got := s.WayBack; got.Version != version || (got.Verdict == "none") != (version == "") {
		h.t.Errorf("way back %+v, want %q", got, version)
	}
}

// present asserts that the releases are on disk.
func (h *host) present(versions ...string) {
	h.t.Helper()
	for _, v := range versions {
		if _, err := h.ReadFile(h.site.ReleaseDir(v) + "/manage.py"); err != nil {
			h.t.Errorf("%s: %v", v, err)
		}
	}
}

// What every release on the host lacks is no release's fault: none loses its mark, none is pruned, and once it is there
// again each can be released.
func TestALostSecretIsNoReleasesFault(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("[[hooks.on_stuck]]\nrun = [\"/bin/sh\", \"-c\", \"echo $DEPLOYGATE_VERSION $DEPLOYGATE_OUTCOME >/srv/app/shared/called\"]", "keep = 1")
		needs := testbed.MissingSetting("API_KEY")
		env := "/etc/" + h.site.Name + ".env"
		h.sh("echo API_KEY=x >>" + env)
		for _, v := range []string{"05-01", "05-08"} {
			h.add(v, needs)
			h.released(v)
		}
		h.sh("sed -i /API_KEY/d " + env)
		h.add("05-15", needs)
		v := h.deploy("release", "05-15")
		h.expect(v, "stuck", 5)
		h.failed(v, "app", "env_var_missing", "API_KEY")
		h.blames(v, "host")
		if warned := strings.Join(v.Warnings, "\n"); !strings.Contains(warned, "05-08 fails as well, so the fault is in what it shares with 05-15") {
			h.t.Errorf("warnings %q", v.Warnings)
		}
		if n := strings.Count(v.Stderr, "rollback: "); n == 0 {
			h.t.Errorf("no word of the way back: %s", v.Stderr)
		}
		h.linked("05-08")
		h.answers(502)
		if called, err := h.ReadFile("/srv/app/shared/called"); err != nil || called != "05-15 stuck\n" {
			h.t.Errorf("on_stuck: %q, %v", called, err)
		}
		if marked := h.marked(); len(marked) > 0 {
			h.t.Errorf("marked as failed: %s", marked)
		}
		h.wayBack("05-01")
		h.run("prune")
		h.present("05-01", "05-08", "05-15")

		h.sh("echo API_KEY=x >>" + env)
		v = h.deploy("recover")
		h.expect(v, "rolled_back", 3)
		h.live("05-08")
		h.released("05-15")
		v = h.deploy("rollback")
		h.expect(v, "released", 0)
		h.live("05-08")
	})
}

// Only the release is at fault where the one before it passes: by comparison, whatever its cause says.
func TestTheReleaseIsBlamedWhereTheOlderOnePasses(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.MissingSetting("NEW_KEY"))
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		h.failed(v, "app", "env_var_missing", "NEW_KEY")
		h.blames(v, "release")
		h.live("v1")
		if marked := h.marked(); !slices.Equal(marked, []string{"v2"}) {
			h.t.Errorf("marked as failed: %s", marked)
		}
		// What can't be told from its own fault without one that passes is not marked.
		h.add("v3", testbed.MissingSetting("NEW_KEY"), testbed.Marker("rollback = \"blocked\"\n"))
		v = h.deploy("release", "v3")
		h.expect(v, "held", 4)
		h.blames(v, "unknown")
		if marked := h.marked(); !slices.Equal(marked, []string{"v2"}) {
			h.t.Errorf("marked as failed: %s", marked)
		}
		if r := h.run("status"); !strings.Contains(r.Stdout, "v3, did not pass its gate; that it is at fault is not proved") {
			h.t.Errorf("status: %s", r.Stdout)
		}
	})
}

// An interrupted release has not failed.
func TestInterruptedIsNotFailed(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.reconfigure("stable = \"600ms\"", "stable = \"4s\"")
		h.add("v1")
		h.must(h.GoLive(h.t.Context(), h.site, "v1"))
		h.add("v2")
		cmd, ends := h.background("v2")
		h.eventually(func() bool {
			_, header, _, _ := h.Get(h.t.Context(), h.site, "/health/")
			return header.Get("X-Release") == "v2"
		})
		h.must(h.Signal(cmd, 15))
		v := ends()
		h.expect(v, "rolled_back", 3)
		h.failed(v, "release", "interrupted", "SIGTERM")
		h.blames(v, "unknown")
		h.live("v1")
		if marked := h.marked(); len(marked) > 0 {
			h.t.Errorf("marked as failed: %s", marked)
		}
		h.released("v2")
	})
}

// A disk that is full after the preflight: what the way back needs was taken before.
func TestFullDiskDoesNotCloseTheWayBack(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		for name, fill := range map[string]string{
			"bytes":  "dd if=/dev/zero of=/srv/app/fill bs=64k 2>/dev/null; echo x >/srv/app/one 2>/dev/null && exit 1; exit 0",
			"inodes": "i=0; while touch /srv/app/releases/.fill-$i; do i=$((i+1)); done 2>/dev/null; exit 0",
		} {
			h.sub(name, func() {
				h.sh("systemctl stop gunicorn nginx; umount -q /srv/app || :; mount -t tmpfs -o size=8m,nr_inodes=600,mode=755 none /srv/app && " +
					"mkdir -p /srv/app/releases /srv/app/shared && chown www-data: /srv/app/shared; rm -rf /var/lib/deploygate; systemctl start nginx")
				h.configure(fmt.Sprintf("[[hooks.before_swap]]\nuser = \"root\"\nrun = [\"/bin/sh\", \"-c\", %q]", fill), `state_dir = "/srv/app/state"`)
				h.add("v1")
				h.must(h.GoLive(h.t.Context(), h.site, "v1"))
				h.add("v2", testbed.ImportError())
				v := h.deploy("release", "v2")
				h.expect(v, "rolled_back", 3)
				h.failed(v, "app", "import_error", "payments")
				h.live("v1")
				if r := h.run("history"); !strings.Contains(r.Stdout, "rolled back") {
					h.t.Errorf("the verdict is not on record: %s", r.Stdout)
				}
				h.sh("rm -f /srv/app/fill /srv/app/one /srv/app/releases/.fill-*")
				h.reconfigure("[[hooks.before_swap]]", "[[hooks.on_held]]")
				h.add("v3")
				h.released("v3")
				if left := h.output("find", "/srv/app", "-maxdepth", "1", "-name", ".current*"); left != "" {
					h.t.Errorf("left behind: %s", left)
				}
			})
		}
	})
}

// A root that becomes read-only after the swap: nothing is blamed, and recover finishes it.
func TestReadOnlyAfterTheSwap(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.sh("mount -t tmpfs -o size=8m,mode=755 none /srv/app && mkdir -p /srv/app/releases /srv/app/shared && chown www-data: /srv/app/shared")
		checks := "\n[[checks]]\nname = \"ro\"\nuser = \"root\"\nrequired = true\nrun = [\"/bin/mount\", \"-o\", \"remount,ro\", \"/srv/app\"]\n" +
			"[[checks]]\nname = \"smoke\"\nrequired = true\nrun = [\"/bin/false\"]\n"
		h.configure("")
		for _, v := range []string{"v0", "v1"} {
			h.add(v)
			h.released(v)
		}
		h.configure("" + checks)
		h.add("v2")
		v := h.deploy("release", "v2")
		h.expect(v, "stuck", 5)
		h.linked("v2")
		if advice := strings.Join(v.Failure.Advice, "\n"); !strings.Contains(advice, "read-only file system; remove that obstacle, then: deploygate recover") {
			h.t.Errorf("advice %q", v.Failure.Advice)
		}
		if marked := h.marked(); len(marked) > 0 {
			h.t.Errorf("marked as failed: %s", marked)
		}
		h.sh("mount -o remount,rw /srv/app")
		h.configure("")
		h.sh("systemctl stop gunicorn") // what is live and healthy by now would be the verdict
		v = h.deploy("recover")
		h.expect(v, "rolled_back", 3)
		h.live("v1")
		h.wayBack("v0")
	})
}

// rollback goes one release further back each time, never forward to what it came from.
func TestRollbackTwice(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		for _, v := range []string{"v1", "v2", "v3"} {
			h.add(v)
			h.released(v)
		}
		for _, want := range []string{"v2", "v1"} {
			r := h.run("rollback")
			if r.Code != 0 || !strings.HasPrefix(r.Stdout, "rolled back to "+want+": it is live and passed its gate") {
				h.t.Errorf("exit %d: %s", r.Code, r.Stdout)
			}
			h.live(want)
		}
		h.wayBack("")
		h.refuses("release", "there is nothing to roll back to", "rollback")
		// What was rolled back from is no way back for a release that fails either.
		h.add("v4", testbed.ImportError())
		v := h.deploy("release", "v4")
		h.expect(v, "rolled_back", 3)
		h.live("v1")
		h.released("v3")
		h.wayBack("v1")

		h.add("v0")
		h.refuses("release", "v0 was never live on this host, so there is no going back to it; deploygate release v0 makes it live", "rollback", "v0")
	})
}

// What a person has overridden is settled, and what is older is told by the code.
func TestOverrideIsRemembered(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		drop := testbed.Migration("0002_drop", dropLegacy)
		h.add("v2", drop)
		h.released("v2")
		h.add("copy") // v1's code by another name
		h.refuses("schema", "going back from v2 to copy is blocked", "release", "copy")
		h.refuses("schema", "going back from v2 to v1 is blocked", "rollback")
		v := h.deploy("rollback", "--override-marker", "restored the dump")
		h.expect(v, "released", 0)
		h.live("v1")
		h.released("v2")
	})
}

// What can't boot is refused before its hooks change the schema; where the hooks have closed the way back all the same,
// the host is not called untouched.
func TestHooksThatCloseTheWayBack(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("" + migrates + "\n[rehearse]\nenabled = true")
		h.add("v1")
		h.released("v1")
		drop := testbed.Migration("0002_drop", dropLegacy)
		h.add("v2", drop, testbed.ImportError())
		h.refuses("app", "payments", "release", "v2")
		if r := h.Manage(h.t.Context(), h.site, "v2", "migrate", "--check"); r.Code == 0 {
			h.t.Error("the migration was applied")
		}
		h.healthy()

		h.add("v3", drop, testbed.Answer500())
		v := h.deploy("release", "v3")
		h.expect(v, "stuck", 5)
		h.failed(v, "app", "app_error", "500")
		if advice := strings.Join(v.Failure.Advice, "\n"); !strings.Contains(advice, "v1 is live still, and its code can't run on the schema that the before_swap hooks left") ||
			!strings.Contains(advice, "migrate shop 0001_initial") {
			h.t.Errorf("advice %q", v.Failure.Advice)
		}
		h.live("v1") // its health doesn't need the column
		for _, command := range []string{"check", "diagnose"} {
			var d diagnosis
			r := h.run(command, "--output", "json")
			if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil || r.Code != 1 || d.Healthy ||
				!slices.ContainsFunc(d.Findings, func(f finding) bool { return f.Cause == "schema_ahead" && f.Layer == "schema" }) {
				h.t.Errorf("%s: exit %d, %v: %s", command, r.Code, err, r.Stdout)
			}
		}
		if r := h.run("status"); !strings.Contains(r.Stdout, "schema       v1 is live, and its code can't run") {
			h.t.Errorf("status: %s", r.Stdout)
		}
		// The way out that is named.
		h.must(h.Manage(h.t.Context(), h.site, "v3", "migrate", "shop", "0001_initial").Err)
		v = h.deploy("rollback", "v1", "--override-marker", "taken back")
		h.expect(v, "unchanged", 0)
		h.healthy()
	})
}

// A changed environment and unit file are brought in through the gate, and a change that breaks the app is held and said.
func TestRestart(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1", testbed.Append("project/views.py", "import os\n\n_health = health\n\n\ndef health(request):\n    answer = _health(request)\n    answer[\"X-Mode\"] = os.environ.get(\"MODE\", \"none\")\n    return answer"))
		h.released("v1")
		env := "/etc/" + h.site.Name + ".env"
		h.sh("echo MODE=new >>" + env + "; mkdir -p /etc/systemd/system/gunicorn.service.d; printf '[Service]\\nNice=5\\n' >/etc/systemd/system/gunicorn.service.d/nice.conf")
		before := h.touched()
		v := h.deploy("restart")
		h.expect(v, "released", 0)
		h.step(v, "restart", "passed")
		h.step(v, "swap", "")
		h.live("v1")
		if h.touched() == before {
			h.t.Error("it was not restarted")
		}
		if nice, err := h.UnitProperty(h.t.Context(), h.site.Unit, "Nice"); err != nil || nice != "5" {
			h.t.Errorf("the changed unit was not loaded: Nice=%s, %v", nice, err)
		}
		h.header("X-Mode", "new")

		h.sh("sed -i /SECRET_KEY/d " + env)
		v = h.deploy("restart")
		h.expect(v, "held", 4)
		h.linked("v1")
		if v.Failure.Cause != "secret_key" {
			h.t.Errorf("failure %+v", v.Failure)
		}
		h.blames(v, "unknown")
		h.sh("echo SECRET_KEY=back >>" + env)
		if r := h.run("restart"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "restarted: v1 is live and passed its gate in ") {
			h.t.Errorf("exit %d: %s", r.Code, r.Stdout)
		}
		h.live("v1")
	})
}

// Without rights nothing is known, and that is not called unhealthy.
func TestWithoutRightsNothingIsKnown(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		before := h.touched()
		for _, args := range [][]string{{"check"}, {"status"}, {"plan", "v2"}, {"release", "v2"}, {"rollback"}, {"restart"}, {"recover"}} {
			r := h.Exec(h.t.Context(), append([]string{"setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", program}, args...)...)
			if r.Code != 7 || strings.Contains(r.Stdout, "unhealthy") || strings.Contains(r.Stdout, "refused") {
				h.t.Errorf("%s: exit %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
			}
		}
		if after := h.touched(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.live("v1")
	})
}
