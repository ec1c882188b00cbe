package e2e

import (
	"path"
	"strconv"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// All of these are refused, and touch nothing.
func TestRefused(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("partial", testbed.Partial())
		h.add("bad-marker", testbed.Marker("rollback = \"perhaps\"\n"))
		h.add("v2")

		h.refuses("release", "release v9 does not exist: there is no /srv/app/releases/v9", "release", "v9")
		h.refuses("release", "has no manage.py", "release", "partial")
		h.refuses("release", `"perhaps" is neither "safe" nor "blocked"`, "release", "bad-marker")
		for _, name := range []string{"../v1", "v1/../../etc", ".hidden", "/etc", "a b"} {
			h.refuses("release", "version", "release", name)
		}
		h.refuses("release", "nothing to roll back to", "rollback")

		// A release that is a link, even to a real one, is none.
		h.must(h.Exec(h.t.Context(), "ln", "-s", "v2", path.Join(h.site.Root, "releases/link")).Err)
		h.refuses("release", "is a symbolic link", "release", "link")
		h.live("v1")
	})
}

func TestRefusedWithoutTheUnit(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.reconfigure("gunicorn.service", "nothere.service")
		h.refuses("service", "there is no unit nothere.service", "release", "v2")
		// A unit that doesn't go through the link would not notice a swap.
		h.reconfigure("nothere.service", "nginx.service")
		h.refuses("service", "nginx.service does not go through /srv/app/current", "release", "v2")

		h.reconfigure("nginx.service", "gunicorn.service")
		h.sh("mv " + h.site.EnvFile() + " /etc/away.env")
		h.refuses("service", "the next start of gunicorn.service will fail: EnvironmentFile= "+h.site.EnvFile()+" does not exist", "release", "v2")
		h.sh("mv /etc/away.env " + h.site.EnvFile())
		h.must(h.Exec(h.t.Context(), "ln", "-sf", "/dev/null", "/etc/systemd/system/"+h.site.Unit).Err)
		h.must(h.Exec(h.t.Context(), "systemctl", "daemon-reload").Err)
		h.refuses("service", "gunicorn.service is masked", "release", "v2")
		h.live("v1")
	})
}

func TestRefusedWithCurrentADirectory(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.must(h.Exec(h.t.Context(), "cp", "-r", h.site.ReleaseDir("v1"), h.site.Root+"/current").Err)
		v := h.deploy("release", "v1")
		if v.Code != 1 || v.Outcome != "refused" {
			h.t.Errorf("exit %d, %s", v.Code, v.Outcome)
		}
		h.failed(v, "release", "unknown", "/srv/app/current is a directory, not a symbolic link")
		h.must(h.Exec(h.t.Context(), "test", "-d", h.site.Root+"/current", "-a", "!", "-L", h.site.Root+"/current").Err)
	})
}

func TestRefusedWithNginxBroken(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.must(h.WriteFile("/etc/nginx/conf.d/broken.conf", "no_such_directive on;\n", 0o644))
		h.refuses("proxy", `nginx's configuration is not valid: unknown directive "no_such_directive" in /etc/nginx/conf.d/broken.conf:1`, "release", "v2")
		h.live("v1")

		// A proxy that doesn't reach a healthy app is not the release's doing either.
		h.must(h.Exec(h.t.Context(), "rm", "/etc/nginx/conf.d/broken.conf").Err)
		h.must(h.Exec(h.t.Context(), "systemctl", "stop", "nginx.service").Err)
		h.refuses("proxy", "before this release already: nginx is not running", "release", "v2")

		// With broken_before = "warn" the deploy goes on, and it is said.
		h.reconfigure("[proxy]", "[proxy]\nbroken_before = \"warn\"")
		v := h.deploy("release", "v2")
		h.expect(v, "released", 0)
		h.linked("v2")
		h.running("v2")
		if len(v.Before) != 1 || v.Before[0].Cause != "proxy_stopped" || len(v.Warnings) == 0 {
			h.t.Errorf("before %+v, warnings %q", v.Before, v.Warnings)
		}
	})
}

// The power is cut before an upload was on disk: its files are there by name, and empty. Whatever is asked says to upload
// it again, and nothing is touched until that is done.
func TestRefusesWhatAPowerCutEmptied(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.onDisk(oneDisk)
		h.prepareKills()
		n := h.changeCalled("syncfs")
		h.add("v2", bulk())
		if at := h.cutAt(n, h.release("good", "v2")); !strings.Contains(at, "syncfs") {
			h.t.Fatalf("the power was cut at point %s, want it before the release is written to disk", at)
		}
		h.settled()
		h.live("v1")
		for _, file := range []string{"manage.py", "project/wsgi.py", "static/app.js"} {
			if text, err := h.ReadFile(h.site.ReleaseDir("v2") + "/" + file); err != nil || text != "" {
				h.t.Fatalf("%s has %d bytes (%v): the power cut has emptied nothing", file, len(text), err)
			}
		}
		if o := h.lastOutcome(); o != "refused" {
			h.t.Errorf("outcome %q", o)
		}
		for _, command := range [][]string{{"status"}, {"plan", "v2"}} {
			if r := h.run(command...); !strings.Contains(r.Stdout+r.Stderr, "upload") {
				h.t.Errorf("%s doesn't say to upload it again", command)
			}
		}
		h.refuses("release", "release v2 is partial: manage.py, project/wsgi.py", "release", "v2")
		h.sh("rm -r " + h.site.ReleaseDir("v2"))
		h.add("v2")
		h.released("v2")

		// Less than all, and none of what must have content: it may be meant, and is said.
		h.add("v3", testbed.File("project/middleware.py", ""))
		if r := h.run("plan", "v3"); !strings.Contains(r.Stdout, "1 files of v3 are empty that have content in v2 (project/middleware.py)") {
			h.t.Error("plan doesn't say which file is empty")
		}
		h.add("v4", testbed.File("shop/migrations/0002_more.py", ""))
		h.refuses("release", "release v4 is partial: shop/migrations/0002_more.py", "release", "v4")
	})
}

// changeCalled is the first change of a good release that is a system call of a name.
func (h *host) changeCalled(call string) int {
	h.t.Helper()
	h.add("first")
	r := h.Exec(h.t.Context(), killat, "0", program, "release", "first")
	for _, m := range change.FindAllStringSubmatch(r.Stderr, -1) {
		if number, what, _ := strings.Cut(m[1], ": "); strings.HasPrefix(what, call+" ") {
			n, err := strconv.Atoi(number)
			h.must(err)
			h.backToV1()
			return n
		}
	}
	h.t.Fatalf("it makes no call of %s:\n%s", call, r.Stderr)
	return 0
}
