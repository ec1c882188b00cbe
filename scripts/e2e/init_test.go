package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// booting lets the check that follows a start at once wait for the app to boot.
const booting = `timeout = "25s"`

// With a socket unit made by init no request is lost in a release, nginx reaches the app as before, and a bad release
// is noticed. The steps are those that are printed, word by word, and so are those back.
func TestInitSocket(t *testing.T) {
	tcp := testbed.DefaultSite()
	tcp.Bind = "127.0.0.1:8001"
	for name, site := range map[string]testbed.Site{"unix": testbed.DefaultSite(), "TCP": tcp} {
		t.Run(name, func(t *testing.T) {
			onAHost(t, site, func(h *host) {
				h.configure(booting)
				h.add("v1")
				h.released("v1")
				before := h.socketRights()
				shown := h.run("init", "--socket-activation", "--print")
				h.nothing("/etc/systemd/system/gunicorn.socket")
				r := h.run("init", "--socket-activation")
				if shown.Code != 0 || r.Code != 0 {
					h.t.Fatalf("exit %d and %d", shown.Code, r.Code)
				}
				there, back := commands(r.Stdout, "to switch to it"), commands(r.Stdout, "to go back")
				if got := commands(shown.Stdout, "to switch to it"); strings.Join(got, ";") != strings.Join(there, ";") || len(there) != 5 {
					h.t.Errorf("--print says %q, without it %q", got, there)
				}
				h.live("v1") // nothing has been switched yet
				h.follow(there)
				h.live("v1")
				h.listening("gunicorn.socket")
				if after := h.socketRights(); after != before {
					h.t.Errorf("the socket is %s, and was %s", after, before)
				}
				if r := h.run("init", "--socket-activation"); r.Code != 0 || !strings.Contains(r.Stdout, "gunicorn.socket listens on "+site.Bind+" for it; nothing to do") {
					h.t.Errorf("again: exit %d, %q", r.Code, r.Stdout)
				}

				h.add("v2")
				h.undisturbed("v2")
				h.add("v3", testbed.ImportError())
				v := h.deploy("release", "v3")
				h.expect(v, "rolled_back", 3)
				h.failed(v, "app", "import_error", "payments")
				h.live("v2")
				h.listening("gunicorn.socket")

				h.follow(back)
				h.live("v2")
				if after := h.socketRights(); after != before {
					h.t.Errorf("after going back the socket is %s, and was %s", after, before)
				}
				h.nothing("/etc/systemd/system/gunicorn.socket")
				if by, err := h.UnitProperty(h.t.Context(), "gunicorn.service", "TriggeredBy"); err != nil || by != "" {
					h.t.Errorf("it is still triggered by %q (%v)", by, err)
				}
				h.add("v4")
				h.released("v4")
			})
		})
	}
}

// The socket is there before the app after a boot, also where the power goes before the steps have been taken: then the
// files alone make the switch.
func TestInitSocketAfterBoot(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.onDisk(oneDisk)
		h.configure(booting)
		h.add("v1")
		h.released("v1")
		before := h.socketRights()
		if r := h.run("init", "--socket-activation"); r.Code != 0 {
			h.t.Fatalf("exit %d", r.Code)
		}
		h.powerCut()
		h.eventually(func() bool { r := h.run("check"); return r.Code == 0 })
		h.live("v1")
		h.listening("gunicorn.socket")
		if after := h.socketRights(); after != before {
			h.t.Errorf("the socket is %s, and was %s", after, before)
		}
		if owner := h.output("stat", "-c", "%U %a", "/run/gunicorn"); owner != "root 755" {
			h.t.Errorf("its directory is %s", owner)
		}
		h.add("v2")
		h.undisturbed("v2")
	})
}

// systemd may learn of the files by someone else's daemon-reload, before the steps are taken: a restart switches then.
func TestInitSocketLoadedEarly(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure(booting)
		h.add("v1")
		h.released("v1")
		r := h.run("init", "--socket-activation")
		if again := h.run("init", "--socket-activation"); again.Code != 0 || again.Stdout != strings.ReplaceAll(r.Stdout, "written: ", "written already: ") {
			h.t.Errorf("again: exit %d, %q, %q", again.Code, again.Stdout, again.Stderr)
		}
		if shown := h.run("init", "--socket-activation", "--print"); !strings.Contains(shown.Stdout, "ListenStream=") {
			h.t.Errorf("--print: exit %d, %q", shown.Code, shown.Stdout)
		}
		h.sh("systemctl daemon-reload")
		again := h.run("init", "--socket-activation")
		if again.Code != 0 || !strings.HasPrefix(again.Stdout, "gunicorn.service has a socket unit already, which is inactive: gunicorn.socket; nothing was written\n") ||
			strings.Join(commands(again.Stdout, "to switch to it"), ";") != strings.Join(commands(r.Stdout, "to switch to it"), ";") {
			h.t.Errorf("again: exit %d, %q", again.Code, again.Stdout)
		}
		h.add("v2")
		h.released("v2")
		h.listening("gunicorn.socket")
		h.follow(commands(r.Stdout, "to switch to it"))
		h.live("v2")
		h.listening("gunicorn.socket")
	})
}

// Whoever could not connect before can't afterwards, and nginx can, though the socket's directory is now open to all.
func TestInitSocketKeepsOthersOut(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure(booting)
		h.override("[Service]\nRuntimeDirectoryMode=0750\nRuntimeDirectory=gunicorn-more\n")
		h.add("v1")
		h.released("v1")
		stranger := func() bool {
			return h.Exec(h.t.Context(), "runuser", "-u", "nobody", "--", "curl", "--silent", "--fail", "--unix-socket", "/run/gunicorn/gunicorn.sock", "http://localhost/health/").Err == nil
		}
		if stranger() {
			h.t.Fatal("the directory keeps nobody out")
		}
		h.follow(commands(h.run("init", "--socket-activation").Stdout, "to switch to it"))
		h.live("v1")
		if stranger() {
			h.t.Errorf("a stranger can connect: %s", h.output("ls", "-la", "/run/gunicorn"))
		}
		if got := h.socketRights(); got != "www-data:www-data 770" {
			h.t.Errorf("the socket is %s", got)
		}
		if got := h.output("stat", "-c", "%U %a", "/run/gunicorn-more"); got != "www-data 750" {
			h.t.Errorf("the other runtime directory is %s", got)
		}
	})
}

// What a socket unit would break is refused in one line, and nothing is written.
func TestInitSocketRefused(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.must(h.WriteFile("/etc/gunicorn.py", "bind = '127.0.0.1:8001'\n", 0o644))
		h.must(h.WriteFile("/usr/local/bin/gunicorn-start", "#!/bin/sh\n/usr/bin/gunicorn \"$@\"\n", 0o755))
		h.sh("chmod 777 /srv/app/releases/v1") // for a socket in it
		const start = "ExecStart=\nExecStart=/usr/bin/gunicorn --bind unix:/run/gunicorn/gunicorn.sock "
		for _, c := range []struct{ name, unit, want string }{
			{"pid file", start + "--pid /run/gunicorn/pid project.wsgi", "pid is in /run/gunicorn beside the socket"},
			{"PIDFile=", "PIDFile=/run/gunicorn/pid\n" + start + "--pid /run/gunicorn/pid project.wsgi", "has its PIDFile= beside its socket"},
			{"worker files", start + "--worker-tmp-dir /run/gunicorn project.wsgi", "uses /run/gunicorn for more than its socket"},
			{"its socket is removed", "ExecStartPre=-/bin/rm -f /run/gunicorn/gunicorn.sock", "makes or removes something in /run/gunicorn"},
			{"several binds", start + "--bind 127.0.0.1:8001 project.wsgi", "has several binds"},
			{"a second bind in the environment", "Environment=\"GUNICORN_CMD_ARGS=--bind 127.0.0.1:8002 --bind 127.0.0.1:8003\"\nExecStart=\nExecStart=/usr/bin/gunicorn project.wsgi", "has several binds"},
			{"a wrapper", "NotifyAccess=all\nExecStart=\nExecStart=/usr/local/bin/gunicorn-start --bind unix:/run/gunicorn/gunicorn.sock project.wsgi", "start the server without a program between"},
			{"in the background", "Type=forking\n" + start + "--daemon project.wsgi", "Type=forking"},
			{"a symlink", "RuntimeDirectory=gunicorn:gunicorn-link", "RuntimeDirectory= with a symlink"},
			{"in the release", "ExecStart=\nExecStart=/usr/bin/gunicorn --bind unix:/srv/app/current/gunicorn.sock project.wsgi", "which the next one replaces"},
		} {
			h.override("[Service]\n" + c.unit + "\n")
			h.sh("systemctl reset-failed gunicorn.service")
			h.restart()
			h.t.Log(c.name)
			h.eventually(func() bool { // systemd says that it has started before it listens
				r := h.Exec(h.t.Context(), program, "init", "--socket-activation", "--print")
				return strings.Contains(r.Stderr, c.want)
			})
			if r := h.run("init", "--socket-activation"); r.Code != 1 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, c.want) {
				h.t.Errorf("%s: exit %d, %q%s, want …%s…", c.name, r.Code, r.Stdout, r.Stderr, c.want)
			}
			h.nothing("/etc/systemd/system/gunicorn.socket")
		}
		// What the unit doesn't say its processes show, and while there are none it is taken from the configuration.
		h.override("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn -c /etc/gunicorn.py project.wsgi\n")
		h.restart()
		h.eventually(func() bool {
			r := h.Exec(h.t.Context(), program, "init", "--socket-activation", "--print")
			return r.Code == 0 && strings.Contains(r.Stdout, "ListenStream=127.0.0.1:8001\n")
		})
		h.sh("systemctl stop gunicorn.service")
		if r := h.run("init", "--socket-activation"); r.Code != 1 || !strings.Contains(r.Stderr, "set health.bind to it") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.configure("bind = \"127.0.0.1:8001\"")
		if r := h.run("init", "--socket-activation", "--print"); r.Code != 0 || !strings.Contains(r.Stdout, "ListenStream=127.0.0.1:8001\n") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
		// A file that is there already stays, and the other one isn't made.
		h.override("")
		h.sh("systemctl reset-failed gunicorn.service; systemctl restart gunicorn.service")
		h.live("v1")
		h.configure("")
		for _, file := range []string{"gunicorn.socket", "gunicorn.service.d/zz-socket.conf"} {
			h.sh("echo '# mine' > /etc/systemd/system/" + file)
			r := h.run("init", "--socket-activation")
			if r.Code != 2 || !strings.Contains(r.Stderr, "nothing was written") || strings.Count(r.Stderr, "\n") != 1 {
				h.t.Errorf("%s: exit %d, %q", file, r.Code, r.Stderr)
			}
			h.sh("grep -qx '# mine' /etc/systemd/system/" + file + " && rm /etc/systemd/system/" + file)
			h.nothing("/etc/systemd/system/gunicorn.socket")
			h.nothing("/etc/systemd/system/gunicorn.service.d/zz-socket.conf")
		}
	})
}

// A process that dies leaves each file whole or not at all, and never the drop-in, which needs the socket unit, alone.
func TestInitSocketKilled(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.prepareKills()
		r := h.run("init", "--socket-activation", "--print", "--output", "json")
		var want struct{ Files []struct{ Path, Text string } }
		h.must(json.Unmarshal([]byte(r.Stdout), &want))
		points := 0
		for n := 1; ; n++ {
			r := h.Exec(h.t.Context(), killat, fmt.Sprint(n), program, "init", "--socket-activation")
			var there []bool
			for _, f := range want.Files {
				text, err := h.ReadFile(f.Path)
				there = append(there, err == nil)
				if err == nil && text != f.Text {
					h.t.Errorf("point %d (%s): %s is %q", n, lastChange(r.Stderr), f.Path, text)
				}
			}
			if there[1] && !there[0] {
				h.t.Errorf("point %d (%s): the drop-in is there alone", n, lastChange(r.Stderr))
			}
			h.sh("systemctl daemon-reload && systemctl restart gunicorn.service")
			h.live("v1")
			h.sh("systemctl stop gunicorn.service gunicorn.socket || true; rm -rf /etc/systemd/system/gunicorn.socket /etc/systemd/system/gunicorn.service.d; systemctl daemon-reload; systemctl start gunicorn.service; systemctl reset-failed")
			if r.Code == 0 {
				break
			}
			points = n
		}
		if points < 8 {
			h.t.Errorf("only %d points", points)
		}
	})
}

// The same for an app of a user's own service manager.
func TestInitSocketOfUser(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.sh(`useradd --create-home deploy
loginctl enable-linger deploy
mkdir -p /home/deploy/app/releases /home/deploy/app/shared /home/deploy/.config/systemd/user
cat > /home/deploy/.config/systemd/user/shop.service <<'UNIT'
[Service]
Type=notify
RuntimeDirectory=shop
WorkingDirectory=%h/app/current
Environment=SECRET_KEY=x ALLOWED_HOSTS=localhost PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/gunicorn --workers 2 --bind unix:/run/user/1000/shop/shop.sock project.wsgi:application
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
timeout = "25s"
[proxy]
kind = "none"
CONFIG`)
		home := h.site
		home.Root = "/home/deploy/app"
		h.must(h.AddRelease(home, "v1"))
		h.must(h.AddRelease(home, "v2"))
		h.sh("chown -R deploy: /home/deploy")
		h.eventually(func() bool { return h.Exec(h.t.Context(), "test", "-S", "/run/user/1000/bus").Err == nil })
		as := func(command string) testbed.Result {
			h.t.Helper()
			r := h.Exec(h.t.Context(), "runuser", "-u", "deploy", "--", "env", "HOME=/home/deploy", "XDG_RUNTIME_DIR=/run/user/1000",
				"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus", "sh", "-ec", command)
			h.t.Logf("%s: exit %d\n%s%s", command, r.Code, r.Stderr, r.Stdout)
			return r
		}
		h.must(as("deploygate --config ~/shop.toml release v1").Err)
		r := as("deploygate --config ~/shop.toml init --socket-activation")
		h.must(r.Err)
		for _, command := range commands(r.Stdout, "to switch to it") {
			h.must(as(command).Err)
		}
		if r := as("systemctl --user is-active shop.socket && stat -c %U:%a $XDG_RUNTIME_DIR/shop/shop.sock"); r.Stdout != "active\ndeploy:777\n" {
			h.t.Errorf("%q", r.Stdout)
		}
		h.must(as("deploygate --config ~/shop.toml release v2").Err)
		for _, command := range commands(r.Stdout, "to go back") {
			h.must(as(command).Err)
		}
	})
}

// init writes what differs from the defaults, and a deploy works with it.
func TestInit(t *testing.T) {
	site := testbed.Site{Name: "shop", Root: "/srv/shop", Unit: "shop.service", Bind: "unix:/run/shop/shop.sock", Port: 8080, ServerName: "shop.example"}
	onEachSuite(t, site, func(h *host) {
		h.add("v1")
		h.must(h.GoLive(h.t.Context(), site, "v1"))
		const want = `# Written by deploygate init from what this host's unit and nginx say. What isn't here has its default.

root = "/srv/shop" # WorkingDirectory= of shop.service goes through /srv/shop/current

[service]
unit = "shop.service" # the only service whose command runs a web application

[health]
# bind = "unix:/run/shop/shop.sock" # not needed: it is read from shop.service at each deploy
host = "shop.example" # a server_name of nginx's that the app answers to

[proxy]
url = "http://127.0.0.1:8080" # where the server at /etc/nginx/sites-enabled/shop:1 listens; the path is health.path
`
		const asked = `deploygate: asked shop.example/health/: 200
deploygate: asked http://127.0.0.1:8080/health/ as shop.example: 200
`
		if r := h.run("init", "--app", "shop", "--print"); r.Code != 0 || r.Stdout != want || r.Stderr != asked {
			h.t.Errorf("exit %d, %q, want %q", r.Code, r.Stdout, want)
		}
		h.nothing("/etc/deploygate")
		r := h.run("init", "--output", "json")
		var report struct {
			App, File, Text string
			Written         bool
		}
		h.must(json.Unmarshal([]byte(r.Stdout), &report))
		if report.App != "shop" || report.File != "/etc/deploygate/shop.toml" || report.Text != want || !report.Written {
			h.t.Errorf("%+v", report)
		}
		if got := h.output("stat", "-c", "%U:%G %a", "/etc/deploygate", "/etc/deploygate/shop.toml"); got != "root:root 755\nroot:root 644" {
			h.t.Errorf("made as %s", got)
		}
		h.add("v2")
		h.released("v2")
		for _, args := range [][]string{{"init"}, {"init", "--app", "shop"}, {"init", "--config", "/etc/deploygate/shop.toml"}} {
			if r := h.run(args...); r.Code != 2 || !strings.Contains(r.Stderr, "/etc/deploygate/shop.toml is there already and is left as it is") {
				h.t.Errorf("%q: exit %d, %q", args, r.Code, r.Stderr)
			}
		}
		// Where gunicorn's own configuration says where it listens, the process does.
		h.must(h.WriteFile("/etc/gunicorn.py", "bind = 'unix:/run/shop/shop.sock'\n", 0o644))
		h.override("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn -c /etc/gunicorn.py project.wsgi\n")
		h.sh("systemctl restart shop.service")
		h.eventually(func() bool {
			r := h.run("init", "--print")
			return strings.Contains(r.Stdout, "\nbind = \"unix:/run/shop/shop.sock\" # where the processes of shop.service listen") && strings.Contains(r.Stdout, "\nhost = \"shop.example\"")
		})
		h.sh("systemctl stop shop.service")
		if r := h.run("init", "--print"); r.Code != 0 || !strings.Contains(r.Stderr, "health.bind has to be set: it isn't known where shop.service listens: its bind may be in /etc/gunicorn.py") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.sh("cp /etc/systemd/system/shop.service /etc/systemd/system/blog.service; systemctl daemon-reload")
		h.sh("mv /etc/deploygate/shop.toml /root")
		if r := h.run("init"); r.Code != 2 || !strings.Contains(r.Stderr, "there are several services that run a web application: blog.service (gunicorn in /srv/shop), shop.service (gunicorn in /srv/shop)") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		// On a terminal it asks, until it is told.
		chosen := h.Exec(h.t.Context(), "sh", "-c", "printf '9\\nshop\\n' | script -qec '"+program+" init --print' /dev/null")
		if chosen.Code != 0 || strings.Count(chosen.Stdout, "which one is the app? 1 to 2: ") != 2 || !strings.Contains(chosen.Stdout, "unit = \"shop.service\" # as init was told") {
			h.t.Errorf("exit %d, %q", chosen.Code, chosen.Stdout)
		}
		h.sh("sed -i 's,/current$,,' /etc/systemd/system/blog.service; systemctl daemon-reload")
		if r := h.run("init", "--app", "blog", "--unit", "blog.service"); r.Code != 1 || !strings.Contains(r.Stderr, "blog.service runs /srv/shop, and goes through no link that is called current") ||
			!strings.Contains(r.Stdout, "    cp -a /srv/shop ") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.nothing("/etc/deploygate/blog.toml")
	})
}

// commands are the indented lines after a headline of what init prints.
func commands(text, headline string) (all []string) {
	_, after, _ := strings.Cut(text, "\n"+headline)
	_, after, _ = strings.Cut(after, "\n\n")
	for line := range strings.Lines(after) {
		command, is := strings.CutPrefix(line, "    ")
		if !is {
			break
		}
		all = append(all, strings.TrimSuffix(strings.TrimSuffix(command, "\n"), " &&"))
	}
	return all
}

// follow runs commands as someone who pastes them into a shell.
func (h *host) follow(all []string) {
	h.t.Helper()
	if len(all) == 0 {
		h.t.Fatal("there are no steps")
	}
	for _, command := range all {
		h.sh(command)
	}
}

// undisturbed deploys a release that must pass, while nobody may notice.
func (h *host) undisturbed(version string) {
	h.t.Helper()
	load := h.Load(h.t.Context(), h.site, "/health/", 50)
	h.released(version)
	samples := load.Stop()
	if failed, longest := testbed.Outage(samples); failed > 0 || len(samples) < 20 {
		h.t.Errorf("%d of %d requests failed, an outage of %s", failed, len(samples), longest)
	}
}

// socketRights are the owner and mode of the app's socket, "" on TCP.
func (h *host) socketRights() string {
	h.t.Helper()
	if h.site.SocketPath() == "" {
		return ""
	}
	return h.output("stat", "-c", "%U:%G %a", h.site.SocketPath())
}

func (h *host) output(argv ...string) string {
	h.t.Helper()
	r := h.Exec(h.t.Context(), argv...)
	h.must(r.Err)
	return strings.TrimSpace(r.Stdout)
}

// listening asserts that a socket unit is at its post and passes its connections on.
func (h *host) listening(unit string) {
	h.t.Helper()
	if state, err := h.UnitProperty(h.t.Context(), unit, "SubState"); err != nil || state != "running" {
		h.t.Errorf("%s is %s (%v)", unit, state, err)
	}
}

// nothing asserts that a file doesn't exist.
func (h *host) nothing(file string) {
	h.t.Helper()
	if h.Exec(h.t.Context(), "test", "-e", file, "-o", "-L", file).Err == nil {
		h.t.Errorf("there is a %s", file)
	}
}

// override replaces the test's own drop-in of the site's unit; "" takes it away.
func (h *host) override(text string) {
	h.t.Helper()
	h.must(h.WriteFile("/etc/systemd/system/"+h.site.Unit+".d/test.conf", text, 0o644))
	h.sh("systemctl daemon-reload")
}

// A second site doesn't get the name, and with it the records, of the first, which needs no configuration.
func TestInitOfASecondSite(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.add("v1")
		if r := h.run("release", "v1"); r.Code != 0 {
			h.t.Fatalf("exit %d\n%s", r.Code, r.Stderr)
		}
		h.sh(`cp -r /srv/app /srv/shop; sed s,/srv/app,/srv/shop,g /etc/systemd/system/gunicorn.service > /etc/systemd/system/shop.service
systemctl daemon-reload`)
		r := h.run("init", "--unit", "shop.service", "--app", "app")
		if r.Code != 2 || !strings.Contains(r.Stderr, "deploygate init --app NAME --unit shop.service") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.nothing("/etc/deploygate/app.toml")
		if r := h.run("init", "--unit", "shop.service"); r.Code != 0 {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.sh("test -e /etc/deploygate/shop.toml")
	})
}
