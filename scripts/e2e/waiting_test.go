package e2e

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

// showed asserts that the progress of a deploy said something.
func (h *host) showed(v verdict, texts ...string) {
	h.t.Helper()
	for _, text := range texts {
		if !strings.Contains(v.Stderr, text) {
			h.t.Errorf("it doesn't say %q", text)
		}
	}
}

// unhurried has the health view take as long as it is asked to.
func unhurried() testbed.Mod {
	return testbed.HealthView(`time.sleep(float(request.GET.get("for", 0)))
return HttpResponse(f"ok {VERSION}\n", content_type="text/plain")`)
}

// Requests that are being answered, commands before the start and units that stop with the app take the time that systemd gives
// them, and it is said what is waited for.
func TestARestartTakesWhatTheUnitAllows(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1", unhurried())
		h.released("v1")
		h.must(h.WriteFile("/etc/systemd/system/celery.service", `[Unit]
PartOf=`+h.site.Unit+`
After=`+h.site.Unit+`
[Service]
ExecStart=/usr/bin/sh -c 'trap "sleep 4; exit 0" TERM; touch /run/celery.ready; while :; do sleep 0.1; done'
TimeoutStopSec=150
`, 0o644))
		h.dropIn("[Service]\nExecStartPre=/usr/bin/sleep 3\nTimeoutStartSec=600\nTimeoutStopSec=200")
		h.sh("systemctl start celery.service")
		h.eventually(func() bool { return h.Exec(t.Context(), "test", "-e", "/run/celery.ready").Err == nil })
		h.add("v2")

		var client sync.WaitGroup
		client.Go(func() { // it is being answered when gunicorn is asked to stop
			status, _, body, err := h.Get(t.Context(), h.site, "/health/?for=9")
			if err != nil || status != 200 || body != "ok v1\n" {
				h.t.Errorf("the request from before the restart got %d %q (%v)", status, body, err)
			}
		})
		h.eventually(func() bool { return h.accepted() > 0 })
		v := h.deploy("release", "v2")
		client.Wait()
		h.expect(v, "released", 0)
		h.live("v2")
		h.showed(v,
			"restart: gunicorn.service waits for celery.service, which stops: its processes may finish what they are doing (TimeoutStopSec= allows 2m30s)\n",
			"restart: gunicorn.service stops: its processes may finish what they are doing (TimeoutStopSec= allows 3m20s)\n",
			"restart: gunicorn.service starts: ExecStartPre=/usr/bin/sleep runs (TimeoutStartSec= allows 10m0s)\n")
		if state, err := h.UnitProperty(t.Context(), "celery.service", "ActiveState"); err != nil || state != "active" {
			h.t.Errorf("celery.service is %s (%v)", state, err)
		}
	})
}

// What hangs is killed on the way back, and the units that stop with the app come back with it.
func TestWhatStopsWithAHangingRelease(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"5s\"")
		h.add("v1")
		h.released("v1")
		h.must(h.WriteFile("/etc/systemd/system/celery.service", "[Unit]\nPartOf="+h.site.Unit+"\nAfter="+h.site.Unit+"\n[Service]\nExecStart=/usr/bin/sleep infinity\n", 0o644))
		h.dropIn("[Service]\nTimeoutStopSec=infinity")
		h.sh("systemctl start celery.service")
		h.restart()
		h.add("v2", testbed.Hang())
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		if len(v.Warnings) > 0 {
			h.t.Errorf("warnings %q", v.Warnings)
		}
		h.live("v1")
		h.eventually(func() bool {
			state, err := h.UnitProperty(t.Context(), "celery.service", "ActiveState")
			return err == nil && state == "active"
		})
	})
}

// accepted counts the connections to the app's socket that are being served.
func (h *host) accepted() int {
	h.t.Helper()
	r := h.Exec(h.t.Context(), "ss", "--no-header", "--unix", "state", "connected", "src", h.site.SocketPath())
	h.must(r.Err)
	return strings.Count(r.Stdout, "\n")
}

// A release whose program was never executed has not failed: the wait before it was too long.
func TestARestartThatNeverTookPlace(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.dropIn("[Service]\nExecStartPre=/usr/bin/sh -c 'exec sleep $(cat pause)'\nTimeoutStartSec=infinity")
		h.add("v1", testbed.File("pause", "0"))
		h.released("v1")
		h.add("v2", testbed.File("pause", "1000"))
		before := h.boots()

		// The bound that the configuration sets.
		h.reconfigure("[proxy]", "restart_timeout = \"10s\"\n[proxy]")
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		h.failed(v, "service", "unknown", "gunicorn.service did not restart within 10s (service.restart_timeout): gunicorn.service starts: ExecStartPre=/usr/bin/sh runs")
		h.showed(v, "(TimeoutStartSec= sets no limit)")
		h.live("v1")

		// Without one it is waited for, and a signal ends that.
		h.reconfigure("restart_timeout = \"10s\"", "restart_timeout = \"\"")
		cmd, ended := h.background("v2")
		h.eventually(func() bool {
			sub, err := h.UnitProperty(t.Context(), h.site.Unit, "SubState")
			return err == nil && sub == "start-pre"
		})
		h.must(h.Signal(cmd, unix.SIGTERM))
		v = ended()
		h.expect(v, "rolled_back", 3)
		h.failed(v, "release", "interrupted", "interrupted by SIGTERM")
		h.live("v1")
		if n := h.boots() - before; n != 2 {
			h.t.Errorf("the app was started %d times, want v1 twice", n)
		}

		// It is still a release like any other.
		journal, err := h.ReadFile("/var/lib/deploygate/app/journal.jsonl")
		if err != nil || !strings.Contains(journal, `"blames":"unknown"`) || strings.Contains(journal, `"blames":"release"`) {
			h.t.Errorf("the journal (%v):\n%s", err, journal)
		}
		h.must(h.WriteFile(h.site.ReleaseDir("v2")+"/pause", "0", 0o644))
		h.released("v2")
	})
}

// A unit that the app needs and that can't be started keeps it from being started, which is no release's fault.
func TestWhatTheAppNeedsCannotBeStarted(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.must(h.WriteFile("/etc/systemd/system/needed.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/test -e /run/there\n", 0o644))
		h.dropIn("[Unit]\nRequires=needed.service\nAfter=needed.service")
		h.add("v2")
		v := h.deploy("release", "v2")
		if v.Failure == nil || v.Failure.Layer != "service" ||
			!strings.Contains(v.Failure.Summary, "gunicorn.service was not started, since a unit that it needs could not be started: needed.service (failed)") {
			h.t.Errorf("failure %+v", v.Failure)
		}
		h.sh("touch /run/there")
		h.released("v2")
	})
}

// outsiders are units whose server is not in their control group.
var outsiders = []struct{ name, unit, where string }{
	{"systemd-run", `Type=exec
ExecStart=
ExecStart=/usr/bin/systemd-run --wait --collect --unit=inner --working-directory=/srv/app/current -p EnvironmentFile=/etc/app.env /usr/bin/gunicorn --bind BIND project.wsgi:application
ExecStopPost=-/usr/bin/systemctl stop inner.service`, "inner.service"},
	{"scope", `Type=exec
ExecStart=
ExecStart=/usr/bin/systemd-run --scope --collect --unit=inner /usr/bin/gunicorn --bind BIND project.wsgi:application`, "inner.scope"},
	{"daemon in a scope", `Type=forking
PIDFile=/run/inner.pid
ExecStart=
ExecStart=/usr/bin/sh -ec 'systemd-run --scope --collect --unit=inner gunicorn --daemon --pid /run/inner.pid --bind BIND project.wsgi:application; until test -s /run/inner.pid; do sleep 0.1; done'`, "inner.scope"},
}

// What can't be proved of the live release can't be of the next: refused before anything is touched.
func TestServerOutsideOfTheUnit(t *testing.T) {
	for _, bind := range []string{testbed.DefaultSite().Bind, "127.0.0.1:8001"} {
		t.Run(bind, func(t *testing.T) {
			site := testbed.DefaultSite()
			site.Bind = bind
			onAHost(t, site, func(h *host) {
				h.configure("bind = \"" + bind + "\"")
				h.add("v1")
				h.add("v2")
				h.add("v3", testbed.ImportError())
				for _, o := range outsiders {
					h.sub(o.name, func() {
						h.dropIn("[Service]\nUser=root\nRestart=no\n" + strings.ReplaceAll(o.unit, "BIND", bind))
						h.must(h.GoLive(h.t.Context(), h.site, "v1"))
						for _, version := range []string{"v2", "v3"} {
							h.refuses("service", "which listens on "+bind+", is in "+o.where+" and not in gunicorn.service, so it can't be proved which release answers", "release", version)
						}
						h.linked("v1")
						h.answers(200)
						r := h.run("check")
						if r.Code != 1 || !strings.Contains(r.Stdout, "is in "+o.where+" and not in gunicorn.service") {
							h.t.Errorf("check: exit %d, %s", r.Code, r.Stdout)
						}
						// Nothing answers: then nothing is known against the unit.
						h.sh("systemctl stop gunicorn.service")
						if r := h.run("plan", "v2"); r.Code != 0 {
							h.t.Errorf("plan: exit %d", r.Code)
						}
					})
				}
			})
		})
	}
}

// A unit that starts what serves and is done has no process of which anything could be proved.
func TestOneshotUnit(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.dropIn(`[Service]
Type=oneshot
RemainAfterExit=yes
Restart=no
ExecStart=
ExecStart=/usr/bin/gunicorn --daemon --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application`)
		h.configure("")
		h.add("v1")
		h.must(h.GoLive(t.Context(), h.site, "v1"))
		h.add("v2")
		h.refuses("service", "gunicorn.service is of Type=oneshot and has no main process", "release", "v2")
		h.linked("v1")
		h.answers(200)
	})
}

// deploying has the health view start a deploy, as a page for the site's administrators might.
func deploying() testbed.Mod {
	return testbed.HealthView(`if "release" in request.GET:
    import subprocess
    version = request.GET["release"]
    with open("/srv/app/shared/" + version + ".out", "w") as out, open("/srv/app/shared/" + version + ".err", "w") as err:
        command = "` + program + ` --app app release $0 --output json; echo $? >/srv/app/shared/$0.code"
        subprocess.Popen(["/bin/sh", "-c", command, version], stdout=out, stderr=err, start_new_session=True)
return HttpResponse(f"ok {VERSION}\n", content_type="text/plain")`)
}

// A deploy that is started by the app itself isn't killed by the restart that it asks for.
func TestStartedByTheAppItself(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		root := "[Service]\nUser=root\nGroup=root\n"
		h.dropIn(root)
		for _, version := range []string{"v1", "v2", "v3", "v4"} {
			h.add(version, deploying())
		}
		h.add("v5", deploying(), testbed.ImportError())
		h.released("v1")
		by := func(version string) {
			h.t.Helper()
			if _, _, _, err := h.Get(h.t.Context(), h.site, "/health/?release="+version); err != nil {
				h.t.Fatal(err)
			}
		}
		h.sub("KillMode=mixed", func() {
			by("v2")
			h.wentOn("v2", "gunicorn.service", "released")
			h.live("v2")
		})
		h.sub("KillMode=control-group", func() {
			h.dropIn(root + "KillMode=control-group")
			by("v3")
			h.wentOn("v3", "gunicorn.service", "released")
			h.live("v3")
			progress, err := h.ReadFile("/srv/app/shared/v3.err")
			if err != nil || !strings.Contains(progress, "no longer waiting for it: see deploygate status") {
				h.t.Errorf("%s (%v)", progress, err)
			}
		})
		h.sub("in a sandbox", func() {
			h.dropIn(root + "NoNewPrivileges=yes\nPrivateTmp=yes\nProtectSystem=strict\nReadWritePaths=/srv/app/shared")
			h.restart()
			h.eventually(func() bool {
				status, _, _, err := h.Get(h.t.Context(), h.site, "/health/")
				return err == nil && status == 200
			})
			by("v4")
			h.wentOn("v4", "gunicorn.service", "released")
			h.live("v4")
		})
		h.sub("a bad release, and who started it lives on", func() {
			h.dropIn(root + "KillMode=process")
			by("v5")
			h.wentOn("v5", "gunicorn.service", "rolled_back")
			h.live("v4")
			h.eventually(func() bool {
				code, err := h.ReadFile("/srv/app/shared/v5.code")
				return err == nil && code == "3\n"
			})
		})
		h.sub("in a unit that stops with it", func() {
			h.must(h.WriteFile("/etc/systemd/system/deployer.service", `[Unit]
PartOf=middle.service
[Service]
ExecStart=/usr/bin/sh -c 'test -e /run/done || { touch /run/done; `+program+` --app app release v3 --output json >/srv/app/shared/v3.out 2>/srv/app/shared/v3.err; }; exec sleep infinity'
`, 0o644))
			h.must(h.WriteFile("/etc/systemd/system/middle.service", "[Unit]\nBindsTo=gunicorn.service\n[Service]\nExecStart=/usr/bin/sleep infinity\n", 0o644))
			h.sh("systemctl daemon-reload; rm /srv/app/shared/v3.*; systemctl start middle.service deployer.service")
			h.wentOn("v3", "deployer.service", "released")
			h.live("v3")
		})
	})
}

// wentOn waits for the verdict of a deploy that had to leave a unit.
func (h *host) wentOn(version, unit, outcome string) {
	h.t.Helper()
	var v verdict
	h.eventually(func() bool {
		out, err := h.ReadFile("/srv/app/shared/" + version + ".out")
		return err == nil && json.Unmarshal([]byte(out), &v) == nil
	})
	progress, err := h.ReadFile("/srv/app/shared/" + version + ".err")
	h.must(err)
	h.t.Logf("release %s:\n%s", version, progress)
	if v.Outcome != outcome || !strings.Contains(progress, "this command runs in "+unit+", which the restart of gunicorn.service stops: moving it to deploygate-app-") {
		h.t.Errorf("outcome %s, failure %+v", v.Outcome, v.Failure)
	}
	if last := h.lastOutcome(); last != outcome {
		h.t.Errorf("the history ends with %s", last)
	}
	h.noGuards()
	// The unit of its own is forgotten, whatever its exit code.
	h.eventually(func() bool {
		r := h.Exec(h.t.Context(), "systemctl", "list-units", "--all", "--no-legend", "--plain", "deploygate-app-*")
		return r.Err == nil && r.Stdout == ""
	})
}
