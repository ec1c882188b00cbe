package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// An app of a user's own service manager, deployed by that user, without root.
func TestUserManager(t *testing.T) {
	site := testbed.DefaultSite() // its own unit stays stopped
	onEachSuite(t, site, func(h *host) {
		h.sh(`useradd --create-home deploy
loginctl enable-linger deploy
mkdir -p /home/deploy/app/releases /home/deploy/app/shared /home/deploy/.config/systemd/user
cat > /home/deploy/.config/systemd/user/shop.service <<'UNIT'
[Service]
Type=notify
WorkingDirectory=%h/app/current
Environment=SECRET_KEY=x ALLOWED_HOSTS=localhost PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/gunicorn --workers 2 --bind 127.0.0.1:8001 project.wsgi:application
Restart=always
UNIT
cat > /home/deploy/shop.toml <<'CONFIG'
root = "/home/deploy/app"
state_dir = "/home/deploy/state"
[service]
unit = "shop.service"
manager = "user"
[health]
stable = "600ms"
[proxy]
kind = "none"
[[checks]]
name = "who"
run = ["/usr/bin/sh", "-c", "id -un > ../../shared/who; test -n \"$SECRET_KEY\""]
required = true
CONFIG`)
		home := site
		home.Root = "/home/deploy/app"
		h.must(h.AddRelease(home, "v1"))
		h.must(h.AddRelease(home, "v2", testbed.ImportError()))
		h.sh("chown -R deploy: /home/deploy")
		h.eventually(func() bool { return h.Exec(h.t.Context(), "test", "-S", "/run/user/1000/bus").Err == nil })

		deploy := func(version string) verdict {
			h.t.Helper()
			r := h.Exec(h.t.Context(), "runuser", "-u", "deploy", "--", "env", "XDG_RUNTIME_DIR=/run/user/1000",
				"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus",
				program, "release", version, "--config", "/home/deploy/shop.toml", "--output", "json")
			h.t.Logf("release %s: exit %d\n%s%s", version, r.Code, r.Stderr, r.Stdout)
			return h.verdict(r)
		}
		v := deploy("v1")
		if v.Outcome != "released" || v.Code != 0 {
			h.t.Errorf("outcome %s, exit %d", v.Outcome, v.Code)
		}
		h.says("release", v.Warnings, "deploygate-boot.service and deploygate-recover.service are not installed: install -Dm 644 -t ~/.config/systemd/user ")
		if v := deploy("v2"); v.Outcome != "rolled_back" || v.Code != 3 || v.Failure.Cause != "import_error" {
			h.t.Errorf("outcome %s, exit %d, failure %+v", v.Outcome, v.Code, v.Failure)
		}
		h.must(h.AddRelease(home, "v3"))
		h.sh(`cat > /home/deploy/.config/systemd/user/deployer.service <<'UNIT'
[Unit]
PartOf=shop.service
[Service]
ExecStart=/usr/bin/sh -c 'test -e once || { touch once; ` + program + ` release v3 --config shop.toml --output json >out 2>err; }; exec sleep infinity'
WorkingDirectory=%h
UNIT
chown -R deploy: /home/deploy
runuser -u deploy -- env XDG_RUNTIME_DIR=/run/user/1000 systemctl --user start deployer.service`)
		// It stops with the app, and so would the deploy that it has started.
		var moved verdict
		h.eventually(func() bool {
			out, err := h.ReadFile("/home/deploy/out")
			return err == nil && json.Unmarshal([]byte(out), &moved) == nil
		})
		progress, err := h.ReadFile("/home/deploy/err")
		if err != nil || moved.Outcome != "released" || !strings.Contains(progress, "this command runs in deployer.service, which the restart of shop.service stops: moving it to deploygate-shop-") {
			h.t.Errorf("outcome %s, failure %+v: %s (%v)", moved.Outcome, moved.Failure, progress, err)
		}
		link, err := os.Readlink(h.Path("/home/deploy/app/current"))
		if err != nil || link != "releases/v3" {
			h.t.Errorf("current links to %q (%v)", link, err)
		}
		r := h.Exec(h.t.Context(), "curl", "--silent", "http://localhost:8001/health/")
		if r.Stdout != "ok v3\n" {
			h.t.Errorf("the app answers %q", r.Stdout)
		}
		if who, err := h.ReadFile("/home/deploy/app/shared/who"); err != nil || who != "deploy\n" {
			h.t.Errorf("the check ran as %q (%v)", who, err)
		}
	})
}

// With the defaults, a user's configuration and state are in the user's own directories, and all works as it does for root: init,
// rehearsal, guard, and what finishes a deploy when the user's service manager comes up again.
func TestUserManagerByDefaults(t *testing.T) {
	site := testbed.DefaultSite()
	onAHost(t, site, func(h *host) {
		h.sh(`useradd --create-home deploy
loginctl enable-linger deploy
mkdir -p /home/deploy/shop/releases /home/deploy/.config/systemd/user
cat > /home/deploy/.config/systemd/user/shop.service <<'UNIT'
[Service]
WorkingDirectory=%h/shop/current
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/uvicorn --port 8001 plain:asgi
Restart=always
[Install]
WantedBy=default.target
UNIT`)
		for _, name := range []string{"deploygate-boot.service", "deploygate-recover.service"} {
			text, err := os.ReadFile("../packaging/user/" + name)
			h.must(err)
			h.must(h.WriteFile("/home/deploy/.config/systemd/user/"+name, strings.ReplaceAll(string(text), "/usr/local/bin/deploygate", program), 0o644))
		}
		home := site
		home.Root = "/home/deploy/shop"
		for version, mods := range map[string][]testbed.Mod{
			"v1": nil, "v2": nil, "v3": {testbed.Prepend("plain.py", "import payments")}, "v4": {testbed.Prepend("plain.py", "import time; time.sleep(3600)")},
			"v5": {testbed.Prepend("plain.py", "import time; time.sleep(3600)")},
		} {
			h.must(h.AddRelease(home, version, append([]testbed.Mod{testbed.File("plain.py", plain), testbed.Remove("manage.py")}, mods...)...))
		}
		h.sh("ln -s releases/v1 /home/deploy/shop/current; chown -R deploy: /home/deploy")
		h.eventually(func() bool { return h.Exec(h.t.Context(), "test", "-S", "/run/user/1000/bus").Err == nil })
		as := func(command string) testbed.Result {
			h.t.Helper()
			r := h.Exec(h.t.Context(), "runuser", "-u", "deploy", "--", "env", "-u", "DBUS_SESSION_BUS_ADDRESS", "HOME=/home/deploy", "XDG_RUNTIME_DIR=/run/user/1000", "sh", "-ec", command)
			h.t.Logf("%s: exit %d\n%s%s", command, r.Code, r.Stderr, r.Stdout)
			return r
		}
		answers := func(version string) func() bool {
			return func() bool {
				return h.Exec(h.t.Context(), "curl", "--silent", "http://127.0.0.1:8001/health/").Stdout == "ok "+version+"\n"
			}
		}
		h.must(as("systemctl --user daemon-reload; systemctl --user enable --now shop.service deploygate-boot.service deploygate-recover.service").Err)
		h.eventually(answers("v1"))
		h.sh("systemctl stop nginx.service; mv /usr/sbin/nginx /usr/sbin/nginx.away")
		h.must(as(program + " init").Err)
		h.sh("test -e /home/deploy/.config/deploygate/shop.toml; printf 'stable = \"600ms\"\ndeadline = \"60s\"\n' > /tmp/short; sed -i '/^\\[health\\]/r /tmp/short' /home/deploy/.config/deploygate/shop.toml")
		r := as(program + " check")
		if r.Code != 0 || strings.Contains(r.Stderr, "warning") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.must(as(program + " release v2 --rehearse").Err)
		h.sh("test -e /home/deploy/.local/state/deploygate/shop/journal.jsonl")
		if r := as(program + " release v3 --rehearse"); r.Code != 1 || !strings.Contains(r.Stderr, "payments is not installed") {
			h.t.Errorf("exit %d", r.Code)
		}
		if r := as(program + " release v3"); r.Code != 3 || !answers("v2")() {
			h.t.Errorf("exit %d", r.Code)
		}
		linked := func(version string) func() bool {
			return func() bool {
				link, err := os.Readlink(h.Path("/home/deploy/shop/current"))
				return err == nil && link == "releases/"+version
			}
		}
		// The deploy's process is killed, and the guard finishes it.
		h.must(as("systemd-run --user --quiet --unit=cut " + program + " release v4").Err)
		h.eventually(linked("v4"))
		h.must(as("systemctl --user kill --signal=KILL cut.service").Err)
		h.eventually(answers("v2"))
		h.eventually(linked("v2"))
		// All that the user has running is killed, as by a power cut.
		h.eventually(func() bool { return as(program+" status").Code == 0 })
		h.must(as("systemd-run --user --quiet --unit=cut5 " + program + " release v5 --lock-wait 60s").Err)
		h.eventually(linked("v5"))
		h.sh("systemctl kill --signal=KILL user@1000.service; sleep 1; systemctl reset-failed user@1000.service; systemctl start user@1000.service")
		h.eventually(answers("v2"))
		h.eventually(func() bool {
			r := as(program + " status")
			return r.Code == 0 && !strings.Contains(r.Stdout, "unfinished") && strings.Contains(r.Stdout, "rolled back")
		})
		h.eventually(linked("v2"))
	})
}

// Without root what can be known is said, what can't is not known, and a group may be let read the record.
func TestWithoutRoot(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.sh("useradd --create-home ops; groupadd watchers")
		h.configure("")
		h.add("v1")
		h.released("v1")
		as := func(args ...string) testbed.Result {
			h.t.Helper()
			r := h.Exec(h.t.Context(), append([]string{"runuser", "-u", "ops", "--", program}, args...)...)
			h.t.Logf("%v: exit %d\n%s%s", args, r.Code, r.Stderr, r.Stdout)
			return r
		}
		if r := as("status"); r.Code != 7 || !strings.Contains(r.Stdout, "live         v1\nnot known    cannot read the journal /var/lib/deploygate/app/journal.jsonl: permission denied") ||
			!strings.Contains(r.Stdout, "gunicorn.service active (running)") {
			h.t.Errorf("exit %d", r.Code)
		}
		if r := as("history"); r.Code != 7 {
			h.t.Errorf("exit %d", r.Code)
		}
		for _, command := range []string{"check", "diagnose"} {
			if r := as(command); r.Code != 7 || !strings.Contains(r.Stdout, "not known: v1: ") || !strings.Contains(r.Stdout+r.Stderr, "GET /health/ on unix:/run/gunicorn/gunicorn.sock answers 200") {
				h.t.Errorf("%s: exit %d", command, r.Code)
			}
		}
		h.reconfigure("root = ", "state_group = \"watchers\"\nroot = ")
		h.add("v2")
		h.released("v2")
		if r := as("history"); r.Code != 7 {
			h.t.Errorf("someone else reads it: exit %d", r.Code)
		}
		h.sh("usermod -aG watchers ops")
		if r := as("status"); r.Code != 0 || !strings.Contains(r.Stdout, "live         v2, passed its gate\n") {
			h.t.Errorf("exit %d", r.Code)
		}
		if r := as("history"); r.Code != 0 || strings.Count(r.Stdout, "\n") != 2 {
			h.t.Errorf("exit %d", r.Code)
		}
		h.add("v3")
		h.released("v3") // the directory's group doesn't make it untrusted
		h.sh("chmod 600 /etc/deploygate/app.toml")
		if r := as("status"); r.Code != 7 && r.Code != 2 {
			h.t.Errorf("exit %d", r.Code)
		}
	})
}
