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
		h.says("release", v.Warnings, "deploygate-recover.service can't reach a user's service manager: deploygate recover, after a power cut")
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
