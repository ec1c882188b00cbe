package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// prints runs a script that must pass, and gives what it prints.
func (h *host) prints(script string) string {
	h.t.Helper()
	r := h.Exec(context.WithoutCancel(h.t.Context()), "/bin/sh", "-ec", script)
	if r.Code != 0 {
		h.t.Fatalf("%s: exit %d\n%s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// What a failing hook prints, an error says or a command line holds may have the app's secrets in it. None leaves: not to a
// terminal, not as JSON, not to the disk.
func TestSecretsOfAFailingHook(t *testing.T) {
	hidden := map[string]string{ //nolint:gosec // nobody's
		"SECRET_KEY":   "dj-0x&2#key!not-for-eyes",
		"DATABASE_URL": "pw%40in-the-url",
		"LATE_TOKEN":   "only-in-the-candidates-file",
		"LIVE_API_KEY": "only-in-the-live-process",
	}
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure(`
[[hooks.before_swap]]
run = ["/usr/bin/sh", "-c", 'env; cat .env; for i in $(seq 3000); do echo "line $i $SECRET_KEY"; done; echo "postgres://x:$(echo cHctb2YtYS1ob29r | base64 -d)@db/x"; exit 3']
[[hooks.after_rollback]]
run = ["/usr/bin/sh", "-c", "echo $SECRET_KEY >&2; exit 1"]
`)
		file := "/etc/" + h.site.Name + ".env"
		settings, err := h.ReadFile(file)
		h.must(err)
		h.must(h.WriteFile(file, settings+"\nSECRET_KEY='"+hidden["SECRET_KEY"]+"'\nDATABASE_URL=postgres://shop:"+hidden["DATABASE_URL"]+
			"@db/shop\nLIVE_API_KEY="+hidden["LIVE_API_KEY"]+"\n", 0o600))
		h.dropIn("[Service]\nEnvironmentFile=-/srv/app/current/.env\n")
		h.reconfigure("[[hooks.before_swap]]", "[[checks]]\nname = \"off\"\nrequired = false")
		h.add("v1")
		h.released("v1")
		h.sh("sed -i '/LIVE_API_KEY/d' /etc/" + h.site.Name + ".env") // the process still has it
		h.reconfigure("[[checks]]\nname = \"off\"\nrequired = false", "[[hooks.before_swap]]")
		h.add("v2", testbed.File(".env", "LATE_TOKEN="+hidden["LATE_TOKEN"]+"\n"), testbed.File("key", hidden["LIVE_API_KEY"]))
		var said strings.Builder
		for _, args := range [][]string{{"release", "v2"}, {"release", "v2", "--output=json", "--log-level=debug"}, {"history"}, {"history", "--output=json"}, {"status", "--output=json"}, {"diagnose", "--output=json"}} {
			r := h.run(args...)
			said.WriteString(r.Stdout + r.Stderr)
		}
		if !strings.Contains(said.String(), "[value of SECRET_KEY]") {
			h.t.Error("the hook's output isn't shown at all")
		}
		state := h.prints("cat /var/lib/deploygate/app/*; journalctl -o cat -u 'deploygate-guard*'")
		if !strings.Contains(state, "before_swap") {
			h.t.Errorf("the journal has no word of the hook: %s", state)
		}
		for name, value := range hidden {
			if strings.Contains(said.String(), value) {
				h.t.Errorf("%s is said", name)
			}
			if strings.Contains(state, value) {
				h.t.Errorf("%s is on disk", name)
			}
		}
		if strings.Contains(said.String()+state, "pw-of-a-hook") {
			h.t.Error("the password of an address is shown")
		}
		h.live("v1")
	})
}

// Hooks and checks are what the app is: its user, groups, umask, limits and sandbox, but for the release's own directory.
func TestHooksAreInTheAppsSandbox(t *testing.T) {
	const look = `{ grep -E '^(Uid|Gid|Groups|Umask|NoNewPrivs|Seccomp|CapBnd|CapEff):' /proc/self/status; ulimit -n;` +
		` for f in /etc/planted /srv/app/planted /srv/app/releases/v1/var/kept $PWD/made /srv/app/shared/made /run/gunicorn/made; do (: > $f) 2>/dev/null && echo "may $f" || echo "may not $f"; done;` +
		` ls /tmp | wc -l; echo "$CODE"; }`
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1", testbed.File("var/keep", ""))
		h.sh("chmod 777 /srv/app/releases/v1/var")
		h.released("v1")
		h.dropIn(`[Service]
SupplementaryGroups=adm
UMask=0027
LimitNOFILE=4321
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
SystemCallFilter=@system-service
ProtectSystem=strict
PrivateTmp=yes
ReadWritePaths=/srv/app/shared
Environment=CODE=/srv/app/current/lib
`)
		h.sh("systemctl restart " + h.site.Unit + "; touch /tmp/of-the-host; chmod 777 /srv/app /srv/app/releases/*")
		h.configure(fmt.Sprintf("[[hooks.before_swap]]\nrun = [\"/bin/sh\", \"-c\", %q]\n[[hooks.before_swap]]\nrun = [\"/bin/sh\", \"-c\", \"id -un > /root/other; touch /etc/by-root\"]\nuser = \"root\"\n[[checks]]\nname = \"same\"\nrun = [\"/bin/sh\", \"-c\", %q]\nrequired = true\n",
			look+" > /srv/app/shared/hook", look+" > /srv/app/shared/check"))
		h.add("v2")
		h.sh("chmod 777 /srv/app/releases/v2")
		h.released("v2")
		pid := strings.TrimSpace(h.prints("systemctl show -P MainPID " + h.site.Unit))
		app := h.prints("grep -E '^(Uid|Gid|Groups|Umask|NoNewPrivs|Seccomp|CapBnd|CapEff):' /proc/"+pid+"/status") + "4321\n"
		want := app + `may not /etc/planted
may not /srv/app/planted
may not /srv/app/releases/v1/var/kept
may /srv/app/releases/v2/made
may /srv/app/shared/made
may /run/gunicorn/made
0
/srv/app/releases/v2/lib
`
		for _, name := range []string{"hook", "check"} {
			if got := h.prints("cat /srv/app/shared/" + name); got != want {
				h.t.Errorf("the %s:\n%swant\n%s", name, got, want)
			}
		}
		if got := h.prints("cat /root/other; ls /etc/by-root"); got != "root\n/etc/by-root\n" {
			h.t.Errorf("a hook of another user: %q", got)
		}
	})
}

// A dynamic user exists as long as something runs as it: a hook is the same one.
func TestHooksOfADynamicUser(t *testing.T) {
	site := testbed.DefaultSite()
	site.Bind = "127.0.0.1:8000"
	onAHost(t, site, func(h *host) {
		h.must(h.WriteFile("/etc/systemd/system/"+h.site.Unit+".d/dynamic.conf", "[Service]\nUser=\nGroup=\nDynamicUser=yes\nStateDirectory=shop\n", 0o644))
		h.sh("systemctl daemon-reload")
		h.configure("[[hooks.before_swap]]\nrun = [\"/bin/sh\", \"-c\", \"id -u > /var/lib/shop/hook\"]\n")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.released("v2")
		uid := h.prints("stat -c %u /proc/$(systemctl show -P MainPID " + h.site.Unit + ")")
		if got := h.prints("cat /var/lib/shop/hook"); got != uid || uid == "0\n" {
			h.t.Errorf("the hook ran as %q, the app runs as %q", got, uid)
		}
	})
}

// A fifo anywhere in a release, a unit or a log holds nobody up.
func TestFifosHoldNobodyUp(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.dropIn("[Service]\nExecStart=\nExecStart=/srv/app/current/bin/gunicorn --workers 2 --bind " + h.site.Bind + " project.wsgi:application\n")
		good := testbed.File("bin/gunicorn", "#!/usr/bin/python3\nimport sys\nfrom gunicorn.app.wsgiapp import run\nsys.argv[0] = 'gunicorn'\nsys.exit(run())\n")
		h.add("v1", good)
		h.sh("chmod 755 /srv/app/releases/v1/bin/gunicorn")
		h.released("v1")

		for i, file := range []string{"bin/gunicorn", "gunicorn.conf.py", ".migration-compat.toml", "shop/migrations/0002_x.py", "manage.py", "pyvenv.cfg"} {
			version := fmt.Sprintf("f%d", i)
			h.add(version, good)
			h.sh("cd /srv/app/releases/" + version + "; chmod 755 bin/gunicorn; rm -f " + file + "; mkfifo -m 666 " + file)
			h.run("plan", version)
			switch v := h.deploy("release", version, "--no-rehearse"); {
			case file == "bin/gunicorn":
				h.expect(v, "refused", 1)
				h.failed(v, "release", "exec_missing", "is not a regular file")
			case file == "gunicorn.conf.py": // gunicorn itself waits for it
				if v.Outcome != "refused" {
					h.expect(v, "rolled_back", 3)
				}
			case file == ".migration-compat.toml":
				h.expect(v, "refused", 1)
			case v.Outcome == "released":
				h.run("rollback", "v1", "--override-marker=test")
			}
			h.live("v1")
			h.sh("rm -r /srv/app/releases/" + version)
		}

		for name, script := range map[string]string{
			"an environment file": "mkfifo /run/env; printf '[Service]\\nEnvironmentFile=-/run/env\\n' > /etc/systemd/system/gunicorn.service.d/fifo.conf; systemctl daemon-reload",
			"its .env":            "mkfifo /srv/app/releases/v1/.env",
		} {
			h.sh(script)
			h.sub(name, func() {
				if r := h.run("check"); r.Code != 0 {
					h.t.Errorf("check: exit %d", r.Code)
				}
				if r := h.run("diagnose"); r.Code != 0 {
					h.t.Errorf("diagnose: exit %d", r.Code)
				}
			})
		}
		h.sh("systemctl stop " + h.site.Unit)
		if r := h.run("diagnose"); r.Code != 1 {
			h.t.Errorf("diagnose: exit %d", r.Code)
		}
	})
}

// gunicorn's log is the app user's to replace. What it leads to is read with that user's rights, or not at all.
func TestALogThatLeadsElsewhere(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.sh("mkdir -p /srv/app/log; chown www-data /srv/app/log")
		h.dropIn("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn --workers 2 --error-logfile /srv/app/log/gunicorn.log --bind " + h.site.Bind + " project.wsgi:application\n")
		h.add("v1")
		h.released("v1")
		h.must(h.WriteFile("/root/secret", "Traceback (most recent call last):\n  File \"/srv/app/releases/v1/x.py\", line 1, in load_wsgiapp\nRuntimeError: root-only-text\n", 0o600))
		h.sh("date '+[%Y-%m-%d %H:%M:%S %z] [1] [ERROR] Exception in worker process' | cat - /root/secret > /root/secret2; chmod 600 /root/secret2; rm /srv/app/log/gunicorn.log; runuser -u www-data -- ln -s /root/secret2 /srv/app/log/gunicorn.log")
		h.sh("systemctl stop " + h.site.Unit)
		r := h.run("diagnose", "--output=json")
		if strings.Contains(r.Stdout+r.Stderr, "root-only-text") {
			h.t.Error("a file that only root may read is shown")
		}
		if !strings.Contains(r.Stdout, "gunicorn's log") || !strings.Contains(r.Stdout, "permission denied") {
			h.t.Error("it isn't said that the log could not be read")
		}
		// The same for nginx's, where the link isn't root's.
		h.sh("rm -f /var/log/nginx/error.log; ln -s /root/secret2 /var/log/nginx/error.log; chown -h www-data /var/log/nginx/error.log")
		if r := h.run("diagnose"); strings.Contains(r.Stdout+r.Stderr, "root-only-text") || !strings.Contains(r.Stdout, "nginx's error log: cannot read /var/log/nginx/error.log: permission denied") {
			h.t.Errorf("nginx's log was read, or it isn't said that it wasn't")
		}
	})
}

// A log of one worker's death after the other took minutes.
func TestALogOfNothingButDeaths(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.Prepend("project/wsgi.py", `import sys
for start in range(4):
    sys.stderr.write("".join("Worker (pid:%d) was sent SIGKILL! Perhaps out of memory?\n" % (start * 3300 + i) for i in range(3300)))
    sys.stderr.flush()
raise RuntimeError("the reason")
`))
		v := h.deploy("release", "v2", "--no-rehearse")
		h.expect(v, "rolled_back", 3)
		h.live("v1")
	})
}

// What a look waits for in a file system that doesn't answer is left behind: every command comes to an end.
func TestAFileSystemThatDoesNotAnswer(t *testing.T) {
	const hang = `import ctypes, os, sys, time
r, w = os.pipe()
options = "fd=%d,pgrp=%d,minproto=5,maxproto=5,indirect" % (w, os.getpgrp())
if ctypes.CDLL(None, use_errno=True).mount(b"hung", sys.argv[1].encode(), b"autofs", 0, options.encode()):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
os.system("systemd-notify --ready")
time.sleep(1e6)
`
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.must(h.WriteFile("/root/hang.py", hang, 0o644))
		h.sh("mkdir /mnt/hung")
		for i, dir := range []string{"/mnt/hung", "/srv/app/releases/v2"} {
			h.sh(fmt.Sprintf("systemd-run -q -p Type=notify -p NotifyAccess=all -u hang%d python3 /root/hang.py %s", i, dir))
		}
		h.dropIn("[Service]\nEnvironmentFile=-/mnt/hung/env\n")
		if r := h.run("check"); r.Code != 0 {
			h.t.Errorf("check: exit %d", r.Code)
		}
		if r := h.run("diagnose"); r.Code != 0 || !strings.Contains(r.Stdout, "/mnt/hung/env could not be looked at within 2s") {
			h.t.Errorf("diagnose: exit %d", r.Code)
		}
		h.run("plan", "v2")
		h.refuses("release", "could not be looked at within 2s", "release", "v2")
		for command, said := range map[string]string{
			"check": "7\ndeploygate: interrupted by SIGTERM\n", "diagnose": "7\ndeploygate: interrupted by SIGTERM\n",
			"plan v2": "7\ndeploygate: interrupted by SIGTERM\n", "release v2": "refused: interrupted by SIGTERM; v1 stays live, untouched\n",
		} {
			if got := h.prints(program + " " + command + " >/tmp/said 2>&1 & sleep 0.5; kill -TERM $!; wait $! || echo $?; cat /tmp/said"); !strings.HasSuffix(got, said) {
				h.t.Errorf("%s, and SIGTERM: %s", command, got)
			}
		}
		h.sh("systemctl kill -s KILL hang0 hang1; umount -l /mnt/hung /srv/app/releases/v2")
		h.live("v1")
	})
}

// Who can write the configuration or the state can have root run what they like.
func TestWhatOthersCanWriteIsNotUsed(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("[[hooks.on_stuck]]\nuser = \"root\"\nrun = [\"/bin/sh\", \"/opt/hooks/page\"]")
		h.sh("mkdir /opt/hooks; echo true > /opt/hooks/page")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.sh("runuser -u www-data -- sh -c 'cp /etc/deploygate/app.toml /tmp/evil.toml'; groupadd deployers")
		for name, c := range map[string]struct{ spoil, fix, says string }{
			"the configuration's group": {"chgrp deployers /etc/deploygate/app.toml; chmod g+w /etc/deploygate/app.toml", "chgrp root /etc/deploygate/app.toml; chmod g-w /etc/deploygate/app.toml", "chmod g-w /etc/deploygate/app.toml"},
			"its directory":             {"chown www-data /etc/deploygate", "chown root /etc/deploygate", "chown -h root /etc/deploygate"},
			"the state":                 {"chmod o+w /var/lib/deploygate/app", "chmod o-w /var/lib/deploygate/app", "chmod o-w /var/lib/deploygate/app"},
			"a root hook's script":      {"chown www-data /opt/hooks/page", "chown root /opt/hooks/page", "the on_stuck hook's program /opt/hooks/page is not used"},
			"a root hook's directory":   {"chmod o+w /opt/hooks", "chmod o-w /opt/hooks", "chmod o-w /opt/hooks"},
			"one above":                 {"chmod o+w /var/lib", "chmod o-w /var/lib", "chmod o-w /var/lib"},
		} {
			h.sh(c.spoil)
			before := h.touched()
			r := h.run("release", "v2")
			if r.Code != 2 || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, c.says) || r.Stdout != "" || h.touched() != before {
				h.t.Errorf("%s: exit %d, %s%s", name, r.Code, r.Stderr, r.Stdout)
			}
			h.sh(c.fix)
		}
		if r := h.run("release", "v2", "--config", "/tmp/evil.toml", "--app", "app"); r.Code != 2 || !strings.Contains(r.Stderr, "/tmp/evil.toml") {
			h.t.Errorf("a configuration of www-data: exit %d", r.Code)
		}
		h.live("v1")
		h.released("v2")
	})
}

// Whose PATH and environment root has is of no matter.
func TestTheCallersPathIsNotUsed(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.sh("mkdir /tmp/bin; for p in journalctl nginx python3 systemctl; do printf '#!/bin/sh\\ntouch /tmp/ran-'$p'\\n' > /tmp/bin/$p; chmod 755 /tmp/bin/$p; done; systemctl stop " + h.site.Unit)
		h.sh("printf 'open(\"/tmp/ran-sitecustomize\", \"w\")\\n' > /tmp/bin/sitecustomize.py")
		h.add("v2", testbed.File("shop/migrations/0002_x.py", "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n"))
		for _, args := range []string{"diagnose", "plan v2", "release v2"} {
			h.Exec(h.t.Context(), "/bin/sh", "-c", "PATH=/tmp/bin:$PATH PYTHONPATH=/tmp/bin PYTHONSTARTUP=/tmp/bin/sitecustomize.py "+program+" "+args)
		}
		if ran := h.prints("ls /tmp | grep ran- || true"); ran != "" {
			h.t.Errorf("root ran what the caller's environment names: %s", ran)
		}
		h.live("v2")
	})
}

// What another release's start logged, before or after, is no evidence: neither in the journal nor in a file of gunicorn's own,
// nor when systemd has forgotten the start.
func TestEvidenceIsOfOneStart(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.sh("mkdir -p /srv/app/log; chown www-data /srv/app/log")
		// Each start says in the log which release it is, at once and at its end.
		says := func(version string) testbed.Mod {
			return testbed.Prepend("project/wsgi.py", fmt.Sprintf("import sys, atexit\nsys.stderr.write('ValueError: word of %s\\n')\natexit.register(lambda: sys.stderr.write('ValueError: end of %s\\n'))", version, version))
		}
		h.add("v1", says("v1"))
		h.released("v1")
		for i, log := range []string{"", " --error-logfile /srv/app/log/gunicorn.log --capture-output"} {
			h.dropIn("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn --workers 2" + log + " --bind " + h.site.Bind + " project.wsgi:application\n")
			h.sh("systemctl restart " + h.site.Unit)
			h.running("v1")
			bad := fmt.Sprintf("bad%d", i)
			h.add(bad, testbed.ImportError(), says(bad))
			v := h.deploy("release", bad, "--no-rehearse")
			h.expect(v, "rolled_back", 3)
			h.failed(v, "app", "import_error", "payments")
			h.noWordOf(fmt.Sprint(v.Failure), "v1")

			hangs := fmt.Sprintf("hangs%d", i)
			h.add(hangs, testbed.Hang(), says(hangs))
			v = h.deploy("release", hangs, "--no-rehearse")
			h.expect(v, "rolled_back", 3)
			h.noWordOf(fmt.Sprint(v.Failure), "v1", bad)
			h.live("v1")
			if r := h.run("diagnose"); r.Code != 0 {
				h.t.Errorf("diagnose: exit %d", r.Code)
			}
			h.sh("systemctl stop " + h.site.Unit + "; systemctl daemon-reload; systemctl reset-failed")
			r := h.run("diagnose", "--output=json")
			h.noWordOf(r.Stdout, bad, hangs)
			if !strings.Contains(r.Stdout, `"cause":"service_stopped"`) {
				h.t.Error("it is stopped")
			}
			h.sh("systemctl start " + h.site.Unit)
			h.running("v1")
		}
	})
}

// noWordOf asserts that a text quotes nothing of some releases.
func (h *host) noWordOf(text string, versions ...string) {
	h.t.Helper()
	for _, version := range versions {
		for _, quote := range []string{"word of " + version, "end of " + version, "releases/" + version} {
			if strings.Contains(text, quote) {
				h.t.Errorf("%q stands in %s", quote, text)
			}
		}
	}
}
