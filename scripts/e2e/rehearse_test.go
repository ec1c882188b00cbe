package e2e

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

const rehearsal = "deploygate-rehearsal-app.service"

// rehearsed is what of the live release must be as it was whatever a rehearsal does: beside what touched gives, its
// socket and its pid file.
func (h *host) rehearsed() string {
	h.t.Helper()
	r := h.Exec(h.t.Context(), "stat", "-c", "%n %i %U:%G %a", h.site.SocketPath())
	h.must(r.Err)
	pid, _ := h.ReadFile("/run/gunicorn/pid")
	return h.touched() + "; " + r.Stdout + pid
}

// nothingBeside asserts that a rehearsal has left neither unit nor directory.
func (h *host) nothingBeside() {
	h.t.Helper()
	if units := h.Exec(h.t.Context(), "systemctl", "list-units", "--all", "--plain", "--no-legend", "deploygate-rehearsal*").Stdout; units != "" {
		h.t.Errorf("left behind: %s", units)
	}
	if left := h.Exec(h.t.Context(), "find", "/run", "-name", "deploygate-rehearsal*").Stdout; left != "" {
		h.t.Errorf("left behind: %s", left)
	}
}

// beside has a release refused by its rehearsal while users ask the site, none of whom notices.
func (h *host) beside(version, layer, cause string, mods ...testbed.Mod) verdict {
	h.t.Helper()
	h.add(version, mods...)
	before := h.rehearsed()
	load := h.Load(h.t.Context(), h.site, "/health/", 50)
	v := h.deploy("release", version, "--rehearse")
	failed, outage := testbed.Outage(load.Stop())
	if failed > 0 {
		h.t.Errorf("%d requests failed, outage %s", failed, outage)
	}
	h.expect(v, "refused", 1)
	h.step(v, "rehearse", "failed")
	h.failed(v, layer, cause, "")
	if v.Changed {
		h.t.Error("the verdict says that something was changed")
	}
	for _, advice := range v.Failure.Advice {
		if strings.Contains(advice, "systemctl") && strings.Contains(advice, "deploygate-rehearsal") {
			h.t.Errorf("it advises something for a unit that is gone: %s", advice)
		}
	}
	if after := h.rehearsed(); after != before {
		h.t.Errorf("before: %s\nafter:  %s", before, after)
	}
	h.nothingBeside()
	h.live("v1")
	return v
}

// Whatever a release does wrong, its rehearsal finds it, by its cause, and costs nobody a request.
func TestABadReleaseIsRehearsed(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.dropIn("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn --timeout 59 -p /run/gunicorn/pid -w 2 -b " + h.site.Bind + " --chdir /srv/app/current project.wsgi:application")
		h.configure("deadline = \"8s\"\ngive_up = \"1s\"\ntimeout = \"1s\"\n[rehearse]\nenabled = true")
		h.add("v1")
		v := h.released("v1")
		h.step(v, "rehearse", "passed")
		h.nothingBeside()
		h.beside("import", "app", "import_error", testbed.ImportError())
		h.beside("error", "app", "app_error", testbed.Answer500())
		h.beside("hang", "app", "no_answer", testbed.Hang())
		h.beside("boot", "app", "boot_hang", testbed.HangAtImport())
		h.beside("setting", "app", "env_var_missing", testbed.MissingSetting("PAYMENTS_KEY"))
		h.beside("crash", "app", "unknown", testbed.CrashAfter(500*time.Millisecond))
		// It wants the live socket and pid file for itself, and can't have them.
		h.beside("thief", "app", "app_error", testbed.Answer500(), testbed.Prepend("project/wsgi.py", `import os, socket
for path in "/run/gunicorn/gunicorn.sock", "/run/gunicorn/pid":
    try:
        os.unlink(path)
    except OSError:
        pass
    try:
        open(path, "w").close()
    except OSError:
        pass
try:
    taken = socket.socket(socket.AF_UNIX)
    taken.bind("/run/gunicorn/gunicorn.sock")
    taken.listen()
except OSError:
    pass
`))
		h.add("v2")
		v = h.released("v2")
		h.step(v, "rehearse", "passed")
		h.nothingBeside()
	})
}

// A release is rehearsed as its unit will run it: what a process can see of the unit's settings is the same.
func TestARehearsalRunsAsTheUnitDoes(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"15s\"\ngive_up = \"1s\"")
		h.must(h.WriteFile("/etc/more.env", "COLOUR=blue\n", 0o640))
		h.dropIn(`[Service]
LimitNOFILE=1234:4321
LimitSTACK=4M:infinity
UMask=0027
Nice=3
OOMScoreAdjust=77
SupplementaryGroups=adm
ProtectSystem=strict
ReadWritePaths=/srv/app/shared
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_UNIX AF_INET
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
TasksMax=99
StateDirectory=shop
EnvironmentFile=/etc/more.env
EnvironmentFile=-/etc/nowhere.env
Environment=FRUIT=apple "QUOTED=a b$c"
TemporaryFileSystem=/mnt
BindReadOnlyPaths=/etc/debian_version:/mnt/there
LoadCredential=key:/etc/debian_version`)
		see := testbed.HealthView(`import grp, os, resource, socket, subprocess
def refused(f, *args):
    try:
        f(*args)
    except OSError as e:
        return e.errno
umask = os.umask(0)
os.umask(umask)
status = open("/proc/self/status").read()
seen = [
    resource.getrlimit(resource.RLIMIT_NOFILE) == (1234, 4321),
    resource.getrlimit(resource.RLIMIT_STACK) == (4 << 20, resource.RLIM_INFINITY),
    umask == 0o027, os.nice(0) == 3, open("/proc/self/oom_score_adj").read() == ("1000\n" if "DEPLOYGATE_REHEARSAL" in os.environ else "77\n"),
    "adm" in [grp.getgrgid(g).gr_name for g in os.getgroups()], os.getuid() == 33,
    refused(open, "/etc/x", "w") == 30, refused(os.listdir, "/home") == 13,
    not os.path.exists("/dev/kmsg"), "NoNewPrivs:\t1" in status, "CapBnd:\t0000000000000000" in status, "Seccomp:\t2" in status,
    refused(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0) == 97, refused(os.chroot, "/") == 1,
    os.access("/var/lib/shop", os.W_OK), os.access("/srv/app/shared", os.W_OK), not os.access("/srv/app/releases", os.W_OK),
    os.environ["COLOUR"] == "blue", os.environ["FRUIT"] == "apple", os.environ["QUOTED"] == "a b$c", os.environ["SECRET_KEY"] != "",
    os.path.exists("/mnt/there"), os.path.exists(os.environ["CREDENTIALS_DIRECTORY"] + "/key"),
]
if "DEPLOYGATE_REHEARSAL" in os.environ:
    seen += [os.path.basename(os.getcwd()) == "v2", os.environ["RUNTIME_DIRECTORY"] == "/run/deploygate-rehearsal-app"]
return HttpResponse("ok v2\n" if all(seen) else repr(seen), status=200 if all(seen) else 500)`)
		h.add("v1")
		h.released("v1")
		h.add("v2", see)
		h.released("v2") // what is asserted is so for the unit itself
		h.released("v1")
		v := h.deploy("release", "v2", "--rehearse")
		h.step(v, "rehearse", "passed")
		h.expect(v, "released", 0)
		h.nothingBeside()
	})
}

// A command that isn't gunicorn's own is not guessed at.
func TestAWrapperIsRehearsedAsItIsTold(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.must(h.WriteFile("/srv/app/start", "#!/bin/sh\nexec /usr/bin/gunicorn --workers 2 --bind \"${1:-unix:/run/gunicorn/gunicorn.sock}\" project.wsgi:application\n", 0o755))
		h.dropIn("[Service]\nExecStart=\nExecStart=/srv/app/start")
		h.reconfigure("[health]", "[health]\nbind = \"unix:/run/gunicorn/gunicorn.sock\"")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.ImportError())
		h.refuses("service", "cannot rehearse v2", "release", "v2", "--rehearse")
		v := h.deploy("release", "v2", "--rehearse")
		if advice := strings.Join(v.Failure.Advice, "\n"); !strings.Contains(advice, "[rehearse] run") {
			h.t.Errorf("advice: %s", advice)
		}
		h.reconfigure("[health]", "[rehearse]\nrun = [\"/srv/app/start\", \"{bind}\"]\n[health]")
		h.beside("v3", "app", "import_error", testbed.ImportError())
		h.add("v4")
		v = h.deploy("release", "v4", "--rehearse")
		h.expect(v, "released", 0)
		h.step(v, "rehearse", "passed")
		h.live("v4")
		h.nothingBeside()
	})
}

// A port is no more touched than a socket.
func TestARehearsalBesideAPort(t *testing.T) {
	site := testbed.DefaultSite()
	site.Bind = "127.0.0.1:8000"
	onEachSuite(t, site, func(h *host) {
		h.configure("deadline = \"15s\"\ngive_up = \"1s\"")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.Answer500())
		load := h.Load(h.t.Context(), h.site, "/health/", 50)
		before := h.touched()
		v := h.deploy("release", "v2", "--rehearse")
		if failed, _ := testbed.Outage(load.Stop()); failed > 0 {
			h.t.Errorf("%d requests failed", failed)
		}
		h.expect(v, "refused", 1)
		h.failed(v, "app", "app_error", "")
		if after := h.touched(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.nothingBeside()
		h.add("v3")
		h.step(h.deploy("release", "v3", "--rehearse"), "rehearse", "passed")
		h.live("v3")
	})
}

// A deploy that is killed while it rehearses leaves nothing: its guard sees to it, and without a guard the next deploy.
func TestKilledInARehearsal(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("[rehearse]\nenabled = true")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(20*time.Second))
		boots := func() bool {
			state, err := h.UnitProperty(h.t.Context(), rehearsal, "ActiveState")
			h.must(err)
			return state == "active"
		}
		before := h.rehearsed()
		h.killed("v2", boots)
		if after := h.rehearsed(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.nothingBeside()
		if o := h.lastOutcome(); o != "refused" {
			h.t.Errorf("outcome %q", o)
		}

		cmd := h.Command(h.t.Context(), program, "release", "v2")
		h.must(cmd.Start())
		h.eventually(boots)
		h.must(h.Exec(h.t.Context(), "systemctl", "stop", "deploygate-guard-*").Err)
		h.must(h.Signal(cmd, unix.SIGKILL))
		_ = cmd.Wait()
		h.add("v3")
		h.released("v3")
		h.nothingBeside()
	})
}

// An interruption ends it too.
func TestInterruptedInARehearsal(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("[rehearse]\nenabled = true")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.SlowBoot(20*time.Second))
		before := h.rehearsed()
		cmd := h.Command(h.t.Context(), program, "release", "v2")
		h.must(cmd.Start())
		h.eventually(func() bool {
			state, err := h.UnitProperty(h.t.Context(), rehearsal, "ActiveState")
			h.must(err)
			return state == "active"
		})
		h.must(h.Signal(cmd, unix.SIGTERM))
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			h.t.Errorf("exit %d", code)
		}
		if after := h.rehearsed(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.nothingBeside()
		h.live("v1")
	})
}

// With hooks the schema that a release is rehearsed on is the new one, or with before_hooks the present one.
func TestRehearsalAndHooks(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"15s\"\ngive_up = \"1s\"\n[rehearse]\nenabled = true\n[[hooks.before_swap]]\nrun = [\"/usr/bin/touch\", \"/srv/app/shared/migrated\"]")
		migrated := testbed.HealthView(`import os
return HttpResponse("x", status=200 if os.path.exists("/srv/app/shared/migrated") else 503)`)
		h.add("v1")
		h.released("v1")
		h.must(h.Exec(h.t.Context(), "rm", "/srv/app/shared/migrated").Err)
		h.reconfigure("enabled = true", "enabled = true\nbefore_hooks = true")
		h.add("v2", migrated)
		v := h.deploy("release", "v2")
		h.expect(v, "refused", 1)
		h.step(v, "rehearse", "failed")
		h.step(v, "before_swap", "")
		if h.Exec(h.t.Context(), "test", "-e", "/srv/app/shared/migrated").Code == 0 {
			h.t.Error("the hook ran")
		}
		h.reconfigure("before_hooks = true", "before_hooks = false")
		v = h.deploy("release", "v2")
		h.expect(v, "released", 0)
		h.step(v, "rehearse", "passed")
	})
}
