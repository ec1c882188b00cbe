package e2e

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// planned is the JSON that plan prints.
type planned struct {
	Code     int
	Refused  []finding
	Warnings []string
	Steps    []string
}

func (h *host) plan(version string) (p planned) {
	h.t.Helper()
	r := h.run("plan", version, "--app", h.site.Name, "--output", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &p); err != nil {
		h.t.Fatalf("the plan is not JSON: %v\n%s", err, r.Stdout)
	}
	p.Code = r.Code
	return p
}

// outlook is what diagnose says of what doesn't fail yet, a line each: cause and summary.
func (h *host) outlook() (lines []string) {
	h.t.Helper()
	var d struct{ Risks []finding }
	r := h.run("diagnose", "--app", h.site.Name, "--output", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil {
		h.t.Fatalf("the diagnosis is not JSON: %v\n%s", err, r.Stdout)
	}
	for _, f := range d.Risks {
		if len(f.Advice) == 0 || strings.ContainsAny(f.Summary+strings.Join(f.Advice, ""), "{}") {
			h.t.Errorf("incomplete: %+v", f)
		}
		lines = append(lines, f.Cause+": "+f.Summary)
	}
	return lines
}

func (h *host) check() diagnosis {
	h.t.Helper()
	return h.diagnosed(h.run("check", "--app", h.site.Name, "--output", "json"))
}

// says asserts that texts are exactly some, by parts of them.
func (h *host) says(who string, texts []string, parts ...string) {
	h.t.Helper()
	left := slices.Clone(texts)
	for _, part := range parts {
		i := slices.IndexFunc(left, func(text string) bool { return strings.Contains(text, part) })
		if i < 0 {
			h.t.Errorf("%s does not say …%s…, but %q", who, part, left)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		h.t.Errorf("%s says too much: %q", who, left)
	}
}

// risk asserts that whatever looks at the healthy host warns of the same, and nothing else: plan, check, diagnose, and a
// release of what is live.
func (h *host) risk(live string, parts ...string) {
	h.t.Helper()
	before := h.touched()
	h.says("plan", h.plan(live).Warnings, parts...)
	c := h.check()
	if !c.Healthy {
		h.t.Errorf("check: %+v", c.Findings)
	}
	h.says("check", c.Warnings, parts...)
	h.says("diagnose", h.outlook(), parts...)
	v := h.deploy("release", live)
	h.expect(v, "unchanged", 0)
	h.says("release", v.Warnings, parts...)
	if after := h.touched(); after != before {
		h.t.Errorf("before: %s\nafter:  %s", before, after)
	}
}

// lacks asserts that plan and release refuse a release alike, and that nothing is touched.
func (h *host) lacks(version, live, layer, cause, summary string) {
	h.t.Helper()
	p := h.plan(version)
	if p.Code != 1 || len(p.Refused) == 0 || p.Refused[0].Cause != cause || !strings.Contains(p.Refused[0].Summary, summary) {
		h.t.Errorf("plan: exit %d, %+v, want %s: …%s…", p.Code, p.Refused, cause, summary)
	}
	h.refuses(layer, summary, "release", version)
	h.live(live)
}

// A healthy host of the usual kinds is warned of nothing, by nobody.
func TestHealthyHostsAreWarnedOfNothing(t *testing.T) {
	socket := testbed.DefaultSite()
	socket.Socket = true
	port := testbed.DefaultSite()
	port.Bind, port.Args = "127.0.0.1:8001", "--threads 4"
	for name, site := range map[string]testbed.Site{"unix": testbed.DefaultSite(), "socket unit": socket, "port": port} {
		t.Run(name, func(t *testing.T) {
			onAHost(t, site, func(h *host) {
				h.configure(`
[[hooks.before_swap]]
run = ["/usr/bin/python3", "manage.py", "migrate", "--noinput"]
[[hooks.after_release]]
run = ["true"]
[[checks]]
name = "django"
run = ["/usr/bin/python3", "/srv/app/current/manage.py", "check"]
required = true
`)
				h.add("v1")
				h.says("the first release", h.released("v1").Warnings)
				h.add("v2")
				h.says("plan", h.plan("v2").Warnings)
				h.says("the second release", h.released("v2").Warnings)
				h.risk("v2")
				// What the app writes while it runs, and what changes no text, is no news.
				h.sh(`cd /srv/app/releases/v2
mkdir -p media logs project/__pycache__ .cache
echo x | tee media/upload.py logs/a.log db.sqlite3 project/__pycache__/wsgi.cpython-311.pyc .cache/x.py notes.txt > /dev/null
chmod 644 manage.py project/*.py; chown root:root project/wsgi.py; touch /etc/app.env; chmod 640 /etc/app.env /etc/systemd/system/gunicorn.service
chown root:root /etc/nginx/sites-enabled/app`)
				h.risk("v2")
				v := h.deploy("rollback")
				h.expect(v, "released", 0)
				h.says("rollback", v.Warnings)
				h.live("v1")
			})
		})
	}
}

// What was changed after the app was started is said by all, until it is brought in.
func TestChangedSinceTheStart(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1", testbed.File("gunicorn.conf.py", "keepalive = 3\n"))
		h.released("v1")
		restarted := func() {
			if v := h.deploy("restart"); v.Outcome != "released" || v.Code != 0 {
				h.t.Errorf("restart: %s, exit %d: %+v", v.Outcome, v.Code, v.Failure)
			}
			h.live("v1")
			h.says("plan", h.plan("v1").Warnings)
		}
		for _, c := range []struct{ name, change, says string }{
			{"environment", "echo FEATURE=on >> /etc/app.env", "EnvironmentFile= /etc/app.env changed at "},
			{"environment, a variable less", "sed -i /FEATURE/d /etc/app.env", "EnvironmentFile= /etc/app.env changed at "},
			{
				"environment, put there by a tool that keeps times", "(cat /etc/app.env; echo KEPT=1) > /etc/new.env; touch -d '2020-01-01' /etc/new.env; mv /etc/new.env /etc/app.env",
				"EnvironmentFile= /etc/app.env changed at ",
			},
			{"environment, another value", "sed -i s/KEPT=1/KEPT=2/ /etc/app.env", "EnvironmentFile= /etc/app.env changed at "},
			{"drop-in", "mkdir -p /etc/systemd/system/gunicorn.service.d; printf '[Service]\\nNice=1\\n' > /etc/systemd/system/gunicorn.service.d/nice.conf; systemctl daemon-reload", "the unit's file /etc/systemd/system/gunicorn.service.d/nice.conf changed at "},
			{"unit, not loaded", "sed -i s/Nice=1/Nice=2/ /etc/systemd/system/gunicorn.service.d/nice.conf", "the files of gunicorn.service were changed, and systemd still uses the old ones"},
			{"gunicorn's configuration", "echo 'keepalive = 4' > /srv/app/releases/v1/gunicorn.conf.py", "gunicorn's configuration /srv/app/current/gunicorn.conf.py changed at "},
			{"the release", "echo >> /srv/app/releases/v1/project/views.py", "the live release's /srv/app/releases/v1/project/views.py changed at "},
			{"the release, two files", "echo >> /srv/app/releases/v1/project/urls.py; sleep 0.05; echo >> /srv/app/releases/v1/shop/models.py", "shop/models.py (and 1 more) changed at "},
		} {
			h.sub(c.name, func() {
				h.sh("sleep 0.05; " + c.change)
				h.risk("v1", c.says)
				warning := h.plan("v1").Warnings[0]
				if !strings.Contains(warning, "deploygate restart") || strings.Count(warning, "changed at") == 1 && !strings.Contains(warning, "runs since") {
					h.t.Errorf("it says %q", warning)
				}
				restarted()
			})
		}
		h.sub("nginx", func() {
			h.sh("echo '# new' >> /etc/nginx/sites-enabled/app")
			h.risk("v1", "/etc/nginx/sites-enabled/app changed at ")
			h.sh("systemctl reload nginx")
			h.eventually(func() bool { return len(h.check().Warnings) == 0 })
		})
		h.sub("said by the release that brings it in", func() {
			h.sh("echo FEATURE=on >> /etc/app.env")
			h.add("v2", testbed.File("gunicorn.conf.py", "keepalive = 3\n"))
			v := h.deploy("release", "v2")
			h.expect(v, "released", 0)
			h.says("release", v.Warnings, "EnvironmentFile= /etc/app.env changed at ")
			h.live("v2")
			h.risk("v2")
		})
	})
}

// What the next start is certain to fail of is said while the host is healthy, and refuses a release that would need it.
func TestTheNextStartWouldFail(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.sh(`mkdir -p /opt/shop /srv/media
cp /usr/bin/gunicorn /opt/shop/gunicorn
printf '#!/bin/sh\nexit 0\n' > /opt/shop/prepare; chmod 755 /opt/shop/prepare
touch /opt/shop/enabled
useradd --system shopper
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n' > /etc/systemd/system/needed.service`)
		h.dropIn(`[Unit]
Requires=needed.service
After=needed.service
ConditionPathExists=/opt/shop/enabled
[Service]
SupplementaryGroups=shopper
ReadWritePaths=/srv/media
StandardOutput=append:/var/log/shop/app.log
ExecStartPre=/opt/shop/prepare
ExecStart=
ExecStart=/opt/shop/gunicorn --workers 2 --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application`)
		h.sh("mkdir -p /var/log/shop; systemctl restart gunicorn.service")
		h.booted()
		h.risk("v1")
		for _, c := range []struct{ name, breaks, mends, cause, says string }{
			{"environment file", "mv /etc/app.env /etc/away", "mv /etc/away /etc/app.env", "env_file_missing", "EnvironmentFile= /etc/app.env does not exist"},
			{"program", "mv /opt/shop/gunicorn /opt/away", "mv /opt/away /opt/shop/gunicorn", "exec_missing", "ExecStart= /opt/shop/gunicorn does not exist"},
			{"program, rights", "chmod 644 /opt/shop/gunicorn", "chmod 755 /opt/shop/gunicorn", "exec_missing", "ExecStart= /opt/shop/gunicorn is not executable"},
			{"what runs before it", "rm /opt/shop/prepare", "cp /bin/true /opt/shop/prepare", "exec_missing", "ExecStartPre= /opt/shop/prepare does not exist"},
			{"its interpreter", "printf '#!/nowhere/sh\n' > /opt/shop/prepare", "cp /bin/true /opt/shop/prepare", "exec_missing", "ExecStartPre= /opt/shop/prepare is there, but its interpreter /nowhere/sh does not exist"},
			{"sandbox", "rmdir /srv/media", "mkdir /srv/media", "sandbox_path_missing", "ReadWritePaths= /srv/media does not exist"},
			{"log", "rm -r /var/log/shop", "mkdir /var/log/shop", "log_target_missing", "StandardOutput= /var/log/shop does not exist"},
			{"condition", "rm /opt/shop/enabled", "touch /opt/shop/enabled", "service_stopped", "will be skipped: ConditionPathExists= /opt/shop/enabled does not exist"},
			{"required unit", "mv /etc/systemd/system/needed.service /etc/away; systemctl stop --job-mode=ignore-dependencies needed.service; systemctl daemon-reload", "mv /etc/away /etc/systemd/system/needed.service; systemctl daemon-reload; systemctl start needed.service", "dependency_missing", "it requires needed.service, which does not exist"},
		} {
			h.sub(c.name, func() {
				h.sh(c.breaks)
				h.risk("v1", c.says)
				h.lacks("v2", "v1", "service", c.cause, c.says)
				if v := h.deploy("restart"); v.Outcome != "refused" || !strings.Contains(v.Failure.Summary, c.says) {
					h.t.Errorf("restart: %s, %+v", v.Outcome, v.Failure)
				}
				h.live("v1")
				// It is true: the start fails.
				failed := h.Exec(h.t.Context(), "systemctl", "restart", h.site.Unit).Err
				if state, _ := h.UnitProperty(h.t.Context(), h.site.Unit, "ActiveState"); failed == nil && state == "active" {
					h.t.Error("the next start works")
				}
				h.sh(c.mends)
				h.sh("systemctl reset-failed gunicorn.service; systemctl restart gunicorn.service")
				h.booted()
				h.says("plan", h.plan("v1").Warnings)
			})
		}
		h.sub("user", func() {
			h.dropIn("[Service]\nUser=shopper\nGroup=www-data\nUMask=0002")
			h.sh("systemctl restart gunicorn.service")
			h.booted()
			h.sh("sed -i.bak /^shopper:/d /etc/passwd")
			h.risk("v1", "its user shopper does not exist")
			h.lacks("v2", "v1", "service", "user_missing", "its user shopper does not exist")
			h.sh("mv /etc/passwd.bak /etc/passwd")
			h.risk("v1")
		})
		// What breaks at boot alone refuses nothing.
		h.sub("at boot", func() {
			h.sh("systemctl disable -q gunicorn.service nginx.service")
			h.risk("v1", "gunicorn.service does not start at boot", "nginx does not start at boot")
			v := h.deploy("release", "v2")
			h.expect(v, "released", 0)
			h.says("release", v.Warnings, "gunicorn.service does not start at boot", "nginx does not start at boot")
			h.live("v2")
			h.sh("mkdir -p /etc/systemd/system/other.target.wants; ln -s ../gunicorn.service /etc/systemd/system/other.target.wants/; printf '[Unit]\\n' > /etc/systemd/system/other.target; systemctl daemon-reload; systemctl start other.target; systemctl enable -q nginx.service")
			h.risk("v2")
		})
	})
}

// What the unit, nginx and the app's environment need behind the live link is looked at in the candidate, before anything is
// touched, and beside the live release.
func TestTheCandidateIsLookedAt(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		const secret = "SECRET_KEY=from-the-release\n"
		env := testbed.File(".env", secret)
		whole := []testbed.Mod{
			env, testbed.File("deploy/gunicorn.py", "keepalive = 3\n"), testbed.File("static/site.css", "x"), testbed.File("htpasswd", "a:b\n"),
			testbed.File("data/x", ""), testbed.File("lib/shared_code.py", ""),
		}
		h.add("v1", whole...)
		h.sh(`cd /srv/app/releases/v1 && mkdir -p venv/bin ../../shared/media && ln -s ../../shared/media media &&
printf '#!/usr/bin/python3\nimport sys; from gunicorn.app.wsgiapp import run; sys.exit(run())\n' > venv/bin/gunicorn && chmod 755 venv/bin/gunicorn`)
		h.dropIn(`[Service]
EnvironmentFile=/srv/app/current/.env
Environment=DJANGO_SETTINGS_MODULE=project.settings PYTHONPATH=/srv/app/current/lib
ReadWritePaths=/srv/app/current/data
ExecStart=
ExecStart=/srv/app/current/venv/bin/gunicorn -c deploy/gunicorn.py --workers 2 --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application`)
		server("location / {", `location /static/ { alias /srv/app/current/static/; }
	location /media/ { alias /srv/app/current/media/; }
	location /private/ { auth_basic x; auth_basic_user_file /srv/app/current/htpasswd; }
	location / {`)(h)
		v := h.deploy("release", "v1")
		h.expect(v, "released", 0)
		h.live("v1")
		h.risk("v1")

		good := `cp -a /srv/app/releases/v1/venv RELEASE/ && ln -s ../../shared/media RELEASE/media`
		for i, c := range []struct{ name, breaks, cause, says string }{
			{"environment file", "rm RELEASE/.env", "env_file_missing", ".env of release VERSION does not exist: EnvironmentFile= of gunicorn.service leads there; v1 has it"},
			{"environment file, a link", "ln -sf ../../shared/.env RELEASE/.env", "env_file_missing", ".env of release VERSION leads to /srv/app/shared/.env, which does not exist"},
			{"program", "rm -r RELEASE/venv", "exec_missing", "venv/bin/gunicorn of release VERSION does not exist: ExecStart="},
			{"program, rights", "chmod 644 RELEASE/venv/bin/gunicorn", "exec_missing", "venv/bin/gunicorn of release VERSION is not executable"},
			{"program, built elsewhere", "sed -i 's|^#!.*|#!/build/venv/bin/python3|' RELEASE/venv/bin/gunicorn", "exec_missing", "is there, but its interpreter /build/venv/bin/python3 does not exist"},
			{"program, a link through current", "rm -r RELEASE/venv; ln -s /srv/app/current/venv RELEASE/venv", "exec_missing", "venv/bin/gunicorn of release VERSION is a link that leads to itself"},
			{"gunicorn's configuration", "rm -r RELEASE/deploy", "bad_option", "deploy/gunicorn.py of release VERSION does not exist: --config in ExecStart="},
			{"sandbox", "rm -r RELEASE/data", "sandbox_path_missing", "data of release VERSION does not exist: ReadWritePaths="},
			{"rights", "chmod 700 RELEASE", "working_directory_missing", "can't be entered by www-data"},
			{"the app's module", "rm RELEASE/project/wsgi.py", "partial_release", "project/wsgi.py of release VERSION does not exist: ExecStart= of gunicorn.service names project.wsgi; v1 has it"},
			{"the settings", "rm RELEASE/project/settings.py", "partial_release", "project/settings.py of release VERSION does not exist: DJANGO_SETTINGS_MODULE"},
			{"static files", "rm -r RELEASE/static", "partial_release", "static of release VERSION does not exist: nginx's alias (/etc/nginx/sites-enabled/app:"},
			{"passwords", "rm RELEASE/htpasswd", "partial_release", "htpasswd of release VERSION does not exist: nginx's auth_basic_user_file"},
			{"uploads", "ln -sfn ../../shared/medai RELEASE/media", "partial_release", "media of release VERSION leads to /srv/app/shared/medai, which does not exist"},
		} {
			h.sub(c.name, func() {
				version := "bad" + strconv.Itoa(i)
				h.add(version, whole...)
				in := strings.NewReplacer("RELEASE", h.site.ReleaseDir(version), "VERSION", version).Replace
				h.sh(in(good))
				h.sh(in(c.breaks))
				h.lacks(version, "v1", "release", c.cause, in(c.says))
				h.sh("rm -r " + h.site.ReleaseDir(version))
			})
		}
		// What may be meant so is said, and released.
		h.sub("doubtful", func() {
			h.add("v2", whole...)
			h.sh(strings.ReplaceAll(good+"; rm -r RELEASE/lib", "RELEASE", h.site.ReleaseDir("v2")))
			const says = "lib of release v2 does not exist: PYTHONPATH in the environment of gunicorn.service leads there; v1 has it"
			h.says("plan", h.plan("v2").Warnings, says)
			v := h.deploy("release", "v2")
			h.expect(v, "released", 0)
			h.says("release", v.Warnings, says)
			h.live("v2")
		})
		// The way back is looked at alike.
		h.sub("rollback", func() {
			h.sh("mv /srv/app/releases/v1/.env /srv/app/away")
			h.refuses("release", ".env of release v1 does not exist: EnvironmentFile= of gunicorn.service leads there; v2 has it", "rollback")
			h.live("v2")
			h.sh("mv /srv/app/away /srv/app/releases/v1/.env")
			v := h.deploy("rollback")
			h.expect(v, "released", 0)
			h.live("v1")
		})
		// A directory that the app made itself while it was live is no part of a release.
		h.sub("made by the app", func() {
			h.add("v3", whole...)
			h.sh(strings.ReplaceAll(good, "RELEASE", h.site.ReleaseDir("v3")))
			h.released("v3")
			h.sh("install -d -o www-data /srv/app/current/thumbnails")
			server("location /static/", "location /thumbnails/ { alias /srv/app/current/thumbnails/; }\n\tlocation /static/")(h)
			h.add("v4", whole...)
			h.sh(strings.ReplaceAll(good, "RELEASE", h.site.ReleaseDir("v4")))
			v := h.deploy("release", "v4")
			h.expect(v, "released", 0)
			h.says("release", v.Warnings, "thumbnails of release v4 does not exist: nginx's alias")
			h.live("v4")
		})
	})
}

// What a before_swap hook may still make is looked at after it, and not before.
func TestWhatHooksMake(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		collect := []testbed.Mod{testbed.File("static/site.css", "x")}
		h.configure("")
		h.add("v1", collect...)
		server("location / {", "location /static/ { alias /srv/app/current/static/; }\n\tlocation / {")(h)
		h.released("v1")
		h.dropIn("[Service]\nEnvironmentFile=/srv/app/current/.env")
		h.sh("echo A=b > /srv/app/releases/v1/.env; systemctl restart gunicorn.service")
		h.booted()
		h.configure(`
[[hooks.before_swap]]
run = ["/usr/bin/python3", "manage.py", "migrate", "--noinput"]
[[hooks.before_swap]]
run = ["deploy/make"]
[[hooks.before_swap]]
run = ["made/tool"]
`)
		make := func(script string) testbed.Mod { return testbed.File("deploy/make", "#!/bin/sh -e\n"+script) }
		upload := func(version, script string) {
			h.t.Helper()
			h.add(version, make(script))
			h.sh("cd " + h.site.ReleaseDir(version) + "; chmod 755 deploy/make; chown -R www-data .")
		}
		const tool = "mkdir made; printf '#!/bin/sh\\n' > made/tool; chmod 755 made/tool\n"
		upload("v2", tool+"mkdir static; echo A=b > .env\n")
		if p := h.plan("v2"); p.Code != 0 || len(p.Refused) > 0 {
			h.t.Errorf("plan: %+v", p.Refused)
		}
		h.released("v2")

		upload("v3", tool+"echo A=b > .env\n")
		h.refuses("release", "static of release v3 does not exist: nginx's alias", "release", "v3")
		h.live("v2")
		upload("v4", tool+"mkdir static\n")
		h.refuses("release", ".env of release v4 does not exist: EnvironmentFile=", "release", "v4")
		h.live("v2")

		// Migrations make no file: what is lacking is known before they run.
		h.configure("\n[[hooks.before_swap]]\nrun = [\"/usr/bin/python3\", \"manage.py\", \"migrate\", \"--noinput\"]\n")
		upload("v5", "")
		h.sh("rm -f /srv/app/shared/db.sqlite3")
		h.lacks("v5", "v2", "release", "env_file_missing", ".env of release v5 does not exist")
		h.must(h.Exec(h.t.Context(), "test", "!", "-e", "/srv/app/shared/db.sqlite3").Err)
	})
}

// A hook or a check whose program isn't there is known before anything is touched.
func TestTasksWithoutTheirProgram(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.File("bin/plain", "#!/bin/sh\n"), testbed.File("bin/moved", "#!/build/python3\n"))
		h.sh("chmod 755 /srv/app/releases/v2/bin/moved; mkdir -m 700 /opt/closed; cp /bin/true /opt/closed/")
		const first = "[[hooks.before_swap]]\nrun = [\"/usr/bin/python3\", \"manage.py\", \"migrate\", \"--noinput\"]\n"
		for _, c := range []struct{ name, task, says string }{
			{"before_swap", "[[hooks.before_swap]]\nrun = [\"/opt/nothere\", \"x\"]", `/opt/nothere does not exist: the before_swap hook "/opt/nothere x" runs it`},
			{"a bare name", "[[hooks.before_swap]]\nrun = [\"nosuchprogram\"]", "nosuchprogram is in none of the directories of programs"},
			{"of the release, rights", "[[hooks.before_swap]]\nrun = [\"bin/plain\"]", "bin/plain of release v2 is not executable"},
			{"of the release, interpreter", "[[hooks.before_swap]]\nrun = [\"./bin/moved\"]", "bin/moved of release v2 is there, but its interpreter /build/python3 does not exist"},
			{"of the live release", "[[hooks.before_swap]]\nrun = [\"/srv/app/current/bin/moved\"]", "/srv/app/current/bin/moved leads to /srv/app/releases/v1/bin, which does not exist"},
			{"closed to its user", "[[hooks.before_swap]]\nrun = [\"/opt/closed/true\"]", "/opt/closed/true can't be reached by www-data (/opt/closed)"},
			{"a required check", "[[checks]]\nname = \"smoke\"\nrun = [\"/srv/app/current/bin/smoke\"]\nrequired = true", `/srv/app/current/bin/smoke does not exist: the check "smoke" runs it`},
			{"rehearsal", "[rehearse]\nenabled = true\nrun = [\"{release}/bin/start\", \"{bind}\"]", "bin/start of release v2 does not exist: the [rehearse] run"},
		} {
			h.sub(c.name, func() {
				h.configure("\n" + first + c.task + "\n")
				h.sh("rm -f /srv/app/shared/db.sqlite3")
				h.lacks("v2", "v1", "release", "exec_missing", c.says)
				h.must(h.Exec(h.t.Context(), "test", "!", "-e", "/srv/app/shared/db.sqlite3").Err)
			})
		}
		h.configure(`
[[hooks.before_swap]]
run = ["/opt/closed/true"]
user = "root"
[[hooks.after_release]]
run = ["/opt/nothere"]
[[hooks.on_held]]
run = ["/opt/nothere", "held"]
[[checks]]
name = "advisory"
run = ["/opt/nothere", "check"]
[[checks]]
name = "the candidate's"
run = ["/srv/app/current/bin/moved2"]
required = true
`)
		h.sh("cp /bin/true /srv/app/releases/v2/bin/moved2")
		parts := []string{`the after_release hook "/opt/nothere" runs it`, `the on_held hook "/opt/nothere held" runs it`, `the check "advisory" runs it`}
		h.says("plan", h.plan("v2").Warnings, parts...)
		v := h.deploy("release", "v2")
		h.expect(v, "released", 0)
		h.live("v2")
		h.says("release", v.Warnings, append(parts, "advisory failed", "/opt/nothere failed")...)
	})
}

// The processes are the truth about where the app runs; the unit's text is a hint.
func TestWhereTheAppRuns(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("bind = \"unix:/run/gunicorn/gunicorn.sock\"\n")
		const bind = "--workers 2 --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application"
		starts := func(text string) {
			h.t.Helper()
			h.dropIn("[Service]\nWorkingDirectory=/\nExecStart=\nExecStart=" + text)
			h.sh("systemctl restart gunicorn.service")
			h.booted()
			// A unit that was just started may not be where it stays yet.
			h.eventually(func() bool {
				return !strings.Contains(strings.Join(h.plan("v1").Warnings, ""), "nothing shows")
			})
		}
		h.add("v1")
		h.released("v1")
		h.sh("printf '#!/bin/sh\\ncd \"$(cat /opt/where)\"\\nexec /usr/bin/gunicorn " + bind + "\\n' > /opt/start; chmod 755 /opt/start; echo /srv/app/current > /opt/where")
		h.sub("a start script", func() {
			starts("/opt/start")
			h.risk("v1")
			h.add("v2")
			h.released("v2")
			h.add("v3", testbed.ImportError())
			v := h.deploy("release", "v3")
			h.expect(v, "rolled_back", 3)
			h.live("v2")
			h.risk("v2")
		})
		h.sub("stopped, so that nothing shows it", func() {
			h.sh("systemctl stop gunicorn.service")
			h.add("v4")
			v := h.deploy("release", "v4")
			h.expect(v, "released", 0)
			h.says("release", v.Warnings, "nothing shows that gunicorn.service goes through the live link")
			h.live("v4")
		})
		h.sub("chdir in gunicorn's configuration", func() {
			h.must(h.WriteFile("/etc/shop.conf.py", "chdir = '/srv/app/current'\n", 0o644))
			starts("/usr/bin/gunicorn -c /etc/shop.conf.py " + bind)
			h.risk("v4")
			h.add("v5")
			h.released("v5")
		})
		h.sub("by the environment alone", func() {
			h.must(h.WriteFile("/opt/start2", "#!/bin/sh\nexport PYTHONPATH=/srv/app/current\nexec /usr/bin/gunicorn "+bind+"\n", 0o755))
			starts("/opt/start2")
			h.add("v6")
			v := h.deploy("release", "v6")
			h.expect(v, "released", 0)
			h.linked("v6")
		})
		h.sub("a release itself", func() {
			h.dropIn("[Service]\nWorkingDirectory=/srv/app/releases/v6")
			h.sh("systemctl restart gunicorn.service")
			h.booted()
			h.add("v7")
			h.refuses("service", "gunicorn.service names /srv/app/releases/v6 itself and does not go through /srv/app/current", "release", "v7")
		})
	})
}

// A refusal for what is wrong with the host is said as diagnose says it.
func TestRefusalsAreDiagnosed(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		for _, c := range []struct{ name, breaks, mends, cause string }{
			{"nginx stopped", "systemctl stop nginx", "systemctl start nginx", "proxy_stopped"},
			{"configuration", "echo 'no_such on;' > /etc/nginx/conf.d/x.conf", "rm /etc/nginx/conf.d/x.conf", "proxy_config_invalid"},
			{"sent elsewhere", "sed -i s/gunicorn.sock/other.sock/ /etc/nginx/sites-enabled/app; nginx -s reload; sleep 0.5", "sed -i s/other.sock/gunicorn.sock/ /etc/nginx/sites-enabled/app; nginx -s reload; sleep 0.5", "bind_mismatch"},
			{"answered by nginx", "sed -i 's/location \\/ {/location \\/ { return 503;/' /etc/nginx/sites-enabled/app; nginx -s reload; sleep 0.5", "sed -i 's/ return 503;//' /etc/nginx/sites-enabled/app; nginx -s reload; sleep 0.5", "unexpected_status"},
		} {
			h.sub(c.name, func() {
				h.sh(c.breaks)
				d := h.diagnose()
				if len(d.Findings) == 0 || d.Findings[0].Cause != c.cause {
					h.t.Fatalf("diagnose: %+v", d.Findings)
				}
				before := h.touched()
				v := h.deploy("release", "v2")
				h.expect(v, "refused", 1)
				want := d.Findings[0]
				if f := v.Failure; f.Cause != want.Cause || f.Layer != want.Layer || f.Summary != "before this release already: "+want.Summary ||
					len(f.Evidence) == 0 || len(f.Advice) == 0 || f.Advice[0] != want.Advice[0] {
					h.t.Errorf("release: %+v\ndiagnose: %+v", f, want)
				}
				if p := h.plan("v2"); len(p.Refused) == 0 || p.Refused[0].Summary != v.Failure.Summary {
					h.t.Errorf("plan: %+v", p.Refused)
				}
				if after := h.touched(); after != before {
					h.t.Errorf("before: %s\nafter:  %s", before, after)
				}
				h.sh(c.mends)
				h.eventually(func() bool { return h.diagnose().Healthy })
			})
		}
		h.live("v1")
	})
}
