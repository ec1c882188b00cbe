package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"deploygate/scripts/testbed"
)

// failure is one way in which a host fails, and what must be found.
type failure struct {
	layer, cause string
	variant      string // tells failures of one cause apart
	// unproved is what is found instead, as LAYER/CAUSE, on a suite that doesn't show what proves the cause.
	unproved map[string]string

	postgres bool
	site     func(*testbed.Site)
	config   string // goes on in [health]

	// What a release brings along: v2's changes, and what is done to the host, or to v2's files, before it goes live.
	// Such a failure is both released and, for diagnose, produced by hand.
	mods    []testbed.Mod
	prepare func(h *host)
	refused bool // before the swap, so that there is nothing to diagnose
	// produce breaks a host on which v1 is live, whatever is released.
	produce func(h *host)
	// await is what the log of the unit or of nginx shows when the failure is there. "" waits until a client of nginx
	// doesn't get a 200 any more, "-" doesn't wait.
	await string
}

func (f failure) name() string {
	if f.variant == "" {
		return f.cause
	}
	return f.cause + ", " + f.variant
}

// onTCP has gunicorn listen on a port.
func onTCP(s *testbed.Site) { s.Bind = "127.0.0.1:8001" }

// dropIn adds to the app's unit.
func (h *host) dropIn(text string) {
	h.t.Helper()
	h.must(h.WriteFile("/etc/systemd/system/"+h.site.Unit+".d/failure.conf", text+"\n", 0o644))
	h.sh("systemctl daemon-reload")
}

// restart restarts the app's unit, which may fail.
func (h *host) restart() {
	h.t.Helper()
	_ = h.Exec(h.t.Context(), "systemctl", "restart", h.site.Unit)
}

// unit changes the app's unit and restarts it.
func unit(text string) func(h *host) {
	return func(h *host) {
		h.dropIn("[Service]\n" + text)
		h.restart()
	}
}

// reload has gunicorn replace its workers, and waits until all are new.
func (h *host) reload() {
	h.t.Helper()
	before := h.booted()
	h.sh("systemctl reload " + h.site.Unit)
	h.eventually(func() bool {
		for pid := range h.booted() {
			if before[pid] {
				return false
			}
		}
		return true
	})
}

// gunicorn changes gunicorn's command line, of which BIND is the site's own, and restarts it.
func gunicorn(args string) func(h *host) {
	return func(h *host) {
		h.command(args)
		h.restart()
	}
}

// command changes gunicorn's command line.
func (h *host) command(args string) {
	h.t.Helper()
	h.dropIn("[Service]\nExecStart=\nExecStart=/usr/bin/gunicorn " + strings.ReplaceAll(args, "BIND", "--bind "+h.site.Bind))
}

// setenv adds to the app's environment.
func (h *host) setenv(lines ...string) {
	h.t.Helper()
	env, err := h.ReadFile(h.site.EnvFile())
	h.must(err)
	h.must(h.WriteFile(h.site.EnvFile(), env+strings.Join(lines, "\n")+"\n", 0o640))
}

// environment adds to the app's environment before a release.
func environment(lines ...string) func(h *host) {
	return func(h *host) { h.setenv(lines...) }
}

// script runs a shell script, in which RELEASE is v2's directory.
func script(text string) func(h *host) {
	return func(h *host) {
		h.t.Helper()
		h.sh(strings.ReplaceAll(text, "RELEASE", h.site.ReleaseDir("v2")))
	}
}

// server changes nginx's configuration of the site, and reloads it.
func server(old, new string) func(h *host) {
	return func(h *host) {
		h.t.Helper()
		name := "/etc/nginx/sites-enabled/" + h.site.Name
		text, err := h.ReadFile(name)
		h.must(err)
		if !strings.Contains(text, old) {
			h.t.Fatalf("%s has no %q", name, old)
		}
		h.must(h.WriteFile(name, strings.ReplaceAll(text, old, new), 0o644))
		h.reloadNginx()
	}
}

// reloadNginx has nginx take its configuration, and waits until no worker serves the old one.
func (h *host) reloadNginx() {
	h.t.Helper()
	h.sh(`nginx -q -t
old=$(pgrep -P $(cat /run/nginx.pid))
systemctl reload nginx
for pid in $old; do while [ -e /proc/$pid ]; do sleep 0.01; done; done`)
}

// inServer adds directives to nginx's server.
func inServer(directives string) func(h *host) {
	return server("location / {", directives+"\n\tlocation / {")
}

// ask requests /health/ through nginx, times times, and forgets the answers.
func ask(times int) func(h *host) {
	return func(h *host) {
		h.sh(fmt.Sprintf("for i in $(seq %d); do curl -s -m 3 -o /dev/null -H Host:%s http://127.0.0.1:%d/health/ || true; done", times, h.site.Host(), h.site.Port))
	}
}

func all(steps ...func(h *host)) func(h *host) {
	return func(h *host) {
		h.t.Helper()
		for _, step := range steps {
			step(h)
		}
	}
}

// asShop has the app run as a user that shares nothing with nginx's.
const asShop = "User=shop\nGroup=shop\n"

// stopPostgres stops the database.
func stopPostgres(h *host) {
	h.t.Helper()
	name, err := h.PostgresUnit()
	h.must(err)
	h.sh("systemctl stop " + name)
}

// sql runs statements in the app's database.
func sql(statements string) func(h *host) {
	return func(h *host) {
		h.t.Helper()
		_, err := h.SQL(h.t.Context(), testbed.PostgresDatabase, statements)
		h.must(err)
	}
}

// fillSlots leaves no connection to the database for the app.
func fillSlots(h *host) {
	h.t.Helper()
	name, err := h.PostgresUnit()
	h.must(err)
	_, err = h.SQL(h.t.Context(), "postgres", "ALTER SYSTEM SET max_connections = 5; ALTER SYSTEM SET superuser_reserved_connections = 3; ALTER SYSTEM SET max_parallel_workers = 1;")
	h.must(err)
	h.sh("systemctl restart " + name + `
for i in 1 2; do
	systemd-run --quiet --unit=slot$i --property=Restart=always --setenv=PGPASSWORD=` + testbed.PostgresPassword + ` psql -h 127.0.0.1 -U shop shop -c 'SELECT pg_sleep(3600)'
done
until [ "$(runuser -u postgres -- env -C / psql -Atc "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop'" postgres)" = 2 ]; do sleep 0.1; done`)
}

// squatted has another program take the app's port.
func squatted(h *host) {
	h.t.Helper()
	h.sh(`systemctl stop gunicorn
systemd-run --quiet --unit=squatter python3 -m http.server --bind 127.0.0.1 8001
until ss -ltn | grep -q :8001; do sleep 0.1; done`)
	h.restart()
}

// occupied has gunicorn's only worker busy with a client that says nothing, and its queue full of others.
func occupied(connect string) func(h *host) {
	return func(h *host) {
		h.t.Helper()
		gunicorn("--workers 1 --timeout 600 --backlog 1 BIND project.wsgi:application")(h)
		h.eventually(func() bool {
			status, _, _, err := h.Get(h.t.Context(), h.site, "/health/")
			return err == nil && status == 200
		})
		h.must(h.WriteFile("/opt/occupy.py", `import errno, socket, time
def connect():
    `+connect+`
held = [connect() for i in range(8)]
open("/run/occupied", "w").close()
time.sleep(3600)
`, 0o644))
		h.sh("systemd-run --quiet --unit=occupy python3 /opt/occupy.py; until [ -e /run/occupied ]; do sleep 0.1; done")
	}
}

const memoryGroups = "/sys/fs/cgroup/memory" // of version 1

// outOfMemory puts gunicorn into a group of its own, with less memory than the health view wants. A machine has no
// memory controller of version 2; where the kernel has version 1, its limits are as good.
func outOfMemory(h *host) {
	h.t.Helper()
	dir, err := os.MkdirTemp(memoryGroups, "deploygate-oom-")
	h.must(err)
	t := h.t
	t.Cleanup(func() {
		if err := h.disband(dir); err != nil {
			t.Error(err)
		}
	})
	h.must(os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("80M"), 0))
	group, err := h.UnitProperty(t.Context(), h.site.Unit, "ControlGroup")
	h.must(err)
	// The master too, so that the next workers are born in it; one that was born meanwhile is moved by the next pass.
	for moved := map[string]bool{}; ; {
		pids, err := h.ReadFile("/sys/fs/cgroup" + group + "/cgroup.procs")
		h.must(err)
		before := len(moved)
		for pid := range strings.FieldsSeq(pids) {
			h.must(os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(pid), 0))
			moved[pid] = true
		}
		if len(moved) == before {
			return
		}
	}
}

// disband stops what runs in a group of outOfMemory and removes it, which the kernel allows once all of it is gone.
func (h *host) disband(dir string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for {
		// The test's context is done: it is cleaning up.
		_ = h.Exec(context.Background(), "systemctl", "kill", "--signal=KILL", h.site.Unit)
		_ = h.Exec(context.Background(), "systemctl", "stop", h.site.Unit)
		err := os.Remove(dir)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-limit:
			return err
		}
	}
}

// slow answers, and takes its time.
var slow = testbed.HealthView(`time.sleep(1.5)
return HttpResponse(f"ok {VERSION}\n", content_type="text/plain")`)

// dies begins the code of a view that ends its worker.
const dies = "import ctypes, os, signal\n"

// catalogue has every failure of the catalogue, in its order.
var catalogue = []failure{
	{layer: "service", cause: "service_stopped", produce: script("systemctl stop gunicorn")},
	{layer: "service", cause: "service_stopped", variant: "killed, without Restart=", produce: all(unit("Restart=no"), script("systemctl kill -s KILL gunicorn"))},
	{layer: "service", cause: "exec_missing", await: inStart, produce: unit("ExecStart=\nExecStart=/srv/app/venv/bin/gunicorn --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application")},
	{layer: "service", cause: "exec_missing", await: inStart, variant: "a moved venv", produce: all(
		script("mkdir -p /srv/app/venv/bin && echo '#!/srv/old/venv/bin/python3' > /srv/app/venv/bin/gunicorn && chmod 755 /srv/app/venv/bin/gunicorn"),
		unit("ExecStart=\nExecStart=/srv/app/venv/bin/gunicorn --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application"))},
	{layer: "service", cause: "exec_missing", await: inStart, variant: "and it isn't known where it listens", produce: unit("ExecStart=\nExecStart=/srv/app/venv/bin/gunicorn -c /etc/shop.py project.wsgi:application")},
	{layer: "service", cause: "working_directory_missing", await: inStart, variant: "a link to nowhere", produce: all(script("ln -sfn releases/v0 /srv/app/current"), (*host).restart)},
	{layer: "service", cause: "working_directory_missing", await: inStart, variant: "no rights", produce: all(script("chmod 700 /srv/app/releases/v1"), (*host).restart)},
	{layer: "service", cause: "env_file_missing", await: inStart, produce: all(script("rm /etc/app.env"), (*host).restart)},
	{layer: "service", cause: "user_missing", await: inStart, produce: unit("User=nosuchuser")},
	{layer: "service", cause: "user_missing", await: inStart, variant: "the group", produce: unit("Group=nosuchgroup")},
	{layer: "service", cause: "sandbox_path_missing", await: inStart, produce: unit("ProtectSystem=strict\nReadWritePaths=/srv/app/media")},
	{layer: "service", cause: "log_target_missing", await: inStart, produce: unit("StandardOutput=append:/var/log/shop/app.log")},
	{layer: "service", cause: "start_limit_hit", produce: unit("ExecStart=\nExecStart=/usr/bin/false gunicorn --bind unix:/run/gunicorn/gunicorn.sock"), await: "Start request repeated too quickly"},
	{layer: "service", cause: "start_limit_hit", variant: "by hand", produce: func(h *host) {
		h.dropIn("[Unit]\nStartLimitBurst=3\nStartLimitIntervalSec=60")
		h.sh("for i in 1 2 3 4; do systemctl restart gunicorn || true; done")
	}, await: "Start request repeated too quickly"},
	{layer: "service", cause: "bad_option", await: inStart, variant: "flag", produce: gunicorn("--workers 2 BIND --worker-classes sync project.wsgi:application")},
	{layer: "service", cause: "bad_option", await: inStart, variant: "configuration file", produce: gunicorn("-c /etc/gunicorn/shop.py BIND project.wsgi:application")},
	{layer: "service", cause: "bad_option", await: inStart, variant: "worker class", produce: gunicorn("-k gevent BIND project.wsgi:application")},
	{layer: "service", cause: "bad_option", await: inStart, variant: "--chdir", produce: gunicorn("--chdir /srv/shop BIND project.wsgi:application")},
	{layer: "service", cause: "bad_option", await: inStart, variant: "pid file", produce: gunicorn("--pid /run/shop/gunicorn.pid BIND project.wsgi:application")},
	{layer: "service", cause: "bad_option", await: inStart, variant: "log file", produce: gunicorn("--error-logfile /var/log/shop/error.log BIND project.wsgi:application")},
	{layer: "app", cause: "import_error", await: inWorker, variant: "a third party's", mods: []testbed.Mod{testbed.ImportError()}},
	{layer: "app", cause: "import_error", await: inWorker, variant: "a module of its own", mods: []testbed.Mod{testbed.Prepend("project/wsgi.py", "import project.pricing")}},
	{layer: "app", cause: "import_error", await: inWorker, variant: "circular", mods: []testbed.Mod{
		testbed.File("project/a.py", "from project.b import B\n\nA = 1\n"), testbed.File("project/b.py", "from project.a import A\n\nB = 1\n"),
		testbed.Prepend("project/wsgi.py", "import project.a"),
	}},
	{layer: "app", cause: "import_error", await: inWorker, variant: "a missing name", mods: []testbed.Mod{testbed.Prepend("project/wsgi.py", "from project.release import BUILD")}},
	{layer: "app", cause: "import_error", await: inWorker, variant: "the unit names another project", produce: gunicorn("--workers 2 BIND shop_project.wsgi:application")},
	{layer: "release", cause: "partial_release", await: inWorker, mods: []testbed.Mod{testbed.Remove("project/middleware.py")}},
	{layer: "release", cause: "partial_release", await: inWorker, variant: "the settings", mods: []testbed.Mod{testbed.Remove("project/settings.py")}},
	{layer: "release", cause: "partial_release", variant: "seen on a request", mods: []testbed.Mod{testbed.Remove("project/urls.py")}},
	{layer: "app", cause: "settings_module", await: inWorker, produce: unit("Environment=DJANGO_SETTINGS_MODULE=project.settings_production")},
	{layer: "app", cause: "app_attribute", await: "Failed to find attribute", produce: gunicorn("--workers 2 BIND project.wsgi:app")},
	{layer: "app", cause: "syntax_error", await: inWorker, mods: []testbed.Mod{testbed.SyntaxError()}},
	{layer: "app", cause: "syntax_error", await: inWorker, variant: "indentation", mods: []testbed.Mod{testbed.Append("project/wsgi.py", "def f():\nreturn 1")}},
	{layer: "release", cause: "release_unreadable", await: inWorker, prepare: script("chmod 600 RELEASE/project/settings.py"), mods: []testbed.Mod{}},
	{layer: "release", cause: "release_unreadable", await: inWorker, variant: "a directory", prepare: script("chmod 700 RELEASE/project"), mods: []testbed.Mod{}},
	{layer: "app", cause: "env_var_missing", await: inWorker, mods: []testbed.Mod{testbed.MissingSetting("PAYMENTS_URL")}},
	{layer: "app", cause: "secret_key", await: inWorker, variant: "missing", produce: all(script("sed -i /SECRET_KEY/d /etc/app.env"), (*host).restart)},
	{layer: "app", cause: "secret_key", variant: "empty", mods: []testbed.Mod{
		testbed.LogToConsole(),
		testbed.Append("project/settings.py", `SECRET_KEY = ""`),
		testbed.HealthView("from django.core import signing\nreturn HttpResponse(signing.dumps(1))"),
	}},
	{layer: "app", cause: "boot_hang", config: `timeout = "1s"`, mods: []testbed.Mod{testbed.HangAtImport()}},
	{layer: "app", cause: "no_answer", config: `timeout = "1s"`, mods: []testbed.Mod{testbed.Hang()}},
	{layer: "app", cause: "worker_timeout", mods: []testbed.Mod{testbed.Hang()}, prepare: func(h *host) { h.command("--workers 2 --timeout 1 BIND project.wsgi:application") }},
	{layer: "app", cause: "worker_crash", variant: "SIGSEGV", mods: []testbed.Mod{testbed.HealthView(dies + "ctypes.string_at(0)")}},
	{layer: "app", cause: "worker_crash", variant: "exit", mods: []testbed.Mod{testbed.HealthView(dies + "os._exit(1)")}},
	{layer: "app", cause: "worker_crash", variant: "SIGSEGV at boot", config: `timeout = "1s"`, mods: []testbed.Mod{testbed.Append("project/wsgi.py", dies+"os.kill(os.getpid(), signal.SIGSEGV)")}},
	{layer: "app", cause: "app_error", variant: "not logged", mods: []testbed.Mod{testbed.Answer500()}},
	{layer: "app", cause: "app_error", variant: "logged", mods: []testbed.Mod{testbed.Answer500(), testbed.LogToConsole()}},
	{postgres: true, layer: "app", cause: "database_unreachable", await: inWorker, variant: "at boot", mods: []testbed.Mod{testbed.Postgres(), testbed.QueryAtBoot()}, prepare: stopPostgres},
	{postgres: true, layer: "app", cause: "database_unreachable", variant: "on a request", mods: []testbed.Mod{testbed.Postgres(), testbed.LogToConsole(), testbed.QueryOnHealth()}, prepare: stopPostgres},
	{postgres: true, layer: "app", cause: "database_unreachable", await: inWorker, variant: "unknown host", mods: []testbed.Mod{testbed.Postgres(), testbed.QueryAtBoot()}, prepare: environment("DATABASE_HOST=db.invalid")},
	{postgres: true, layer: "app", cause: "database_refused", await: inWorker, variant: "password, at boot", mods: []testbed.Mod{testbed.Postgres(), testbed.QueryAtBoot()}, prepare: environment("DATABASE_PASSWORD=not-it")},
	{postgres: true, layer: "app", cause: "database_refused", variant: "password, on a request", mods: []testbed.Mod{testbed.Postgres(), testbed.LogToConsole(), testbed.QueryOnHealth()}, prepare: environment("DATABASE_PASSWORD=not-it")},
	{postgres: true, layer: "app", cause: "database_refused", await: inWorker, variant: "no such database", mods: []testbed.Mod{testbed.Postgres(), testbed.QueryAtBoot()}, prepare: environment("DATABASE_NAME=warehouse")},
	{postgres: true, layer: "app", cause: "database_refused", await: inWorker, variant: "no connection left", mods: []testbed.Mod{testbed.Postgres(), testbed.QueryAtBoot()}, prepare: fillSlots},
	{postgres: true, layer: "app", cause: "database_refused", await: inWorker, variant: "the role's limit", mods: []testbed.Mod{testbed.Postgres(), testbed.QueryAtBoot()}, prepare: sql("ALTER ROLE shop CONNECTION LIMIT 0")},
	{postgres: true, layer: "schema", cause: "migration_unapplied", variant: "PostgreSQL, table", mods: []testbed.Mod{testbed.Postgres(), testbed.LogToConsole(), testbed.QueryOnHealth()}, prepare: sql("DROP TABLE IF EXISTS shop_order")},
	{postgres: true, layer: "schema", cause: "migration_unapplied", variant: "PostgreSQL, column", mods: []testbed.Mod{testbed.Postgres(), testbed.LogToConsole(), testbed.QueryOnHealth()}, prepare: sql("DROP TABLE IF EXISTS shop_order; CREATE TABLE shop_order (id bigint); ALTER TABLE shop_order OWNER TO shop")},
	{postgres: true, layer: "schema", cause: "migration_unapplied", await: inWorker, variant: "PostgreSQL, at boot", mods: []testbed.Mod{testbed.Postgres(), testbed.Append("project/wsgi.py", "from shop.models import Order\n\nlist(Order.objects.all())")}, prepare: sql("DROP TABLE IF EXISTS shop_order")},
	{layer: "schema", cause: "migration_unapplied", variant: "SQLite, table", mods: []testbed.Mod{testbed.LogToConsole(), testbed.QueryOnHealth()}, prepare: script("rm -f /srv/app/shared/db.sqlite3")},
	{
		layer: "schema", cause: "migration_unapplied", variant: "SQLite, column", mods: []testbed.Mod{testbed.LogToConsole(), testbed.QueryOnHealth()},
		prepare: script("rm -f /srv/app/shared/db.sqlite3 && runuser -u www-data -- python3 -c 'import sqlite3; sqlite3.connect(\"/srv/app/shared/db.sqlite3\").execute(\"CREATE TABLE shop_order (id integer)\")'"),
	},
	{layer: "schema", cause: "migration_failed", variant: "SQL", refused: true, config: migrates, mods: []testbed.Mod{testbed.Migration("0002_total", `migrations.RunSQL("UPDATE no_such_table SET total = 0")`)}},
	{layer: "schema", cause: "migration_failed", variant: "two leaf nodes", refused: true, config: migrates, mods: []testbed.Mod{
		testbed.File("shop/migrations/0002_a.py", leaf), testbed.File("shop/migrations/0002_b.py", leaf),
	}},
	{layer: "socket", cause: "socket_missing", variant: "no RuntimeDirectory=", await: "Can't connect to", produce: func(h *host) {
		h.dropIn("[Service]\nRuntimeDirectory=")
		h.sh("systemctl stop gunicorn; rm -rf /run/gunicorn; systemctl start --no-block gunicorn")
	}},
	{layer: "socket", cause: "socket_missing", variant: "removed", produce: script("rm /run/gunicorn/gunicorn.sock")},
	{layer: "socket", cause: "socket_stale", variant: "killed", produce: all(unit("Restart=no\nRuntimeDirectoryPreserve=yes"), script("systemctl kill -s KILL gunicorn"))},
	{layer: "socket", cause: "socket_stale", variant: "another took it and died", produce: script(`python3 -c '
import os, socket
path = "/run/gunicorn/gunicorn.sock"
os.unlink(path)
socket.socket(socket.AF_UNIX).bind(path)
os.chmod(path, 0o777)'`)},
	{layer: "socket", cause: "socket_permission", variant: "umask", produce: func(h *host) {
		h.dropIn("[Service]\n" + asShop + "ExecStart=\nExecStart=/usr/bin/gunicorn --umask 077 --bind " + h.site.Bind + " project.wsgi:application")
		h.restart()
	}},
	{layer: "socket", cause: "socket_permission", variant: "directory", produce: unit(asShop + "RuntimeDirectoryMode=0700")},
	{layer: "proxy", cause: "bind_mismatch", variant: "unix, the unit", produce: gunicorn("--workers 2 --bind unix:/run/gunicorn/app.sock project.wsgi:application")},
	{layer: "proxy", cause: "bind_mismatch", variant: "unix, the proxy", produce: server("/run/gunicorn/gunicorn.sock", "/run/gunicorn/shop.sock")},
	{layer: "proxy", cause: "bind_mismatch", variant: "TCP, the proxy", site: onTCP, produce: server("127.0.0.1:8001", "127.0.0.1:8002")},
	{layer: "proxy", cause: "bind_mismatch", variant: "TCP, the unit", site: onTCP, produce: gunicorn("--workers 2 --bind 127.0.0.1:8003 project.wsgi:application")},
	{layer: "socket", cause: "port_in_use", site: onTCP, produce: squatted, await: "Connection in use"},
	{layer: "socket", cause: "port_in_use", variant: "after gunicorn gave up", site: onTCP, produce: squatted, await: "Can't connect to"},
	{layer: "socket", cause: "backlog_full", variant: "unix", produce: occupied(`s = socket.socket(socket.AF_UNIX)
    s.setblocking(False)
    for i in range(100):
        try:
            s.connect("/run/gunicorn/gunicorn.sock")
            break
        except BlockingIOError:
            time.sleep(0.01)
    return s`)},
	{layer: "socket", cause: "backlog_full", variant: "TCP", site: onTCP, config: `timeout = "1s"`, produce: occupied(`s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("127.0.0.1", 8001))
    time.sleep(0.1)
    return s`)},
	{layer: "proxy", cause: "proxy_stopped", produce: script("systemctl stop nginx")},
	{layer: "proxy", cause: "proxy_stopped", variant: "killed", produce: script("systemctl kill -s KILL nginx")},
	{layer: "proxy", cause: "proxy_config_invalid", await: "-", produce: script("echo 'no_such_directive on;' > /etc/nginx/conf.d/failure.conf")},
	{layer: "proxy", cause: "proxy_config_invalid", variant: "a certificate is missing", await: "-", produce: script("echo 'ssl_certificate /etc/ssl/shop.pem; server { listen 443 ssl; ssl_certificate_key /etc/ssl/shop.key; }' > /etc/nginx/conf.d/failure.conf")},
	{layer: "proxy", cause: "proxy_config_invalid", variant: "and nginx stopped", produce: script("echo 'no_such_directive on;' > /etc/nginx/conf.d/failure.conf; systemctl restart nginx || true")},
	{layer: "proxy", cause: "proxy_config_invalid", variant: "of the release", mods: []testbed.Mod{testbed.NginxInclude("no_such_directive on;")}, await: "-"},
	{layer: "proxy", cause: "proxy_timeout", config: "timeout = \"3s\"\ndeadline = \"6s\"", mods: []testbed.Mod{slow}, prepare: inServer("proxy_read_timeout 1s;")},
	// gunicorn 20 doesn't tell why a worker was killed, and a container's journal has no word of the kernel.
	{layer: "resources", cause: "oom", unproved: map[string]string{"bookworm": "app/worker_crash"}, mods: []testbed.Mod{testbed.HealthView(`x = bytearray(300 << 20)
return HttpResponse(str(len(x)))`)}, produce: all((*host).swap, outOfMemory)},
	{
		layer: "release", cause: "old_release_running", variant: "not restarted", mods: []testbed.Mod{}, await: "-",
		produce: func(h *host) { h.must(h.SetLink(h.site, "v2")) },
	},
	{
		layer: "release", cause: "old_release_running", variant: "reloaded", mods: []testbed.Mod{}, await: "-",
		produce: func(h *host) {
			h.must(h.SetLink(h.site, "v2"))
			h.reload()
		},
	},
	{layer: "health", cause: "disallowed_host", mods: []testbed.Mod{testbed.AllowedHosts("example.org")}},
	{layer: "health", cause: "disallowed_host", variant: "logged", mods: []testbed.Mod{testbed.AllowedHosts("example.org"), testbed.LogToConsole()}},
	{layer: "health", cause: "disallowed_host", variant: "through nginx alone", produce: server("include proxy_params;", "proxy_set_header Host app.internal;")},
	{layer: "health", cause: "redirect", config: "headers = {}", mods: []testbed.Mod{testbed.RedirectHTTPS()}},
	{layer: "health", cause: "redirect", variant: "through nginx alone", mods: []testbed.Mod{testbed.RedirectHTTPS()}},
	{layer: "proxy", cause: "redirect", variant: "by nginx", produce: inServer("return 301 https://$host$request_uri;")},
	{layer: "app", cause: "static_manifest", mods: []testbed.Mod{
		testbed.LogToConsole(), testbed.Append("project/settings.py", `INSTALLED_APPS += ["django.contrib.staticfiles"]
STATIC_URL = "/static/"
STATIC_ROOT = RELEASE_DIR / "static"
STATICFILES_STORAGE = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"`),
		testbed.HealthView("from django.templatetags.static import static\nreturn HttpResponse(static(\"shop.css\"))"),
	}},
	{layer: "health", cause: "unexpected_status", mods: []testbed.Mod{testbed.Status(418, "teapot")}},
	{layer: "health", cause: "unexpected_status", variant: "404", mods: []testbed.Mod{testbed.Status(404, "no health here")}},
	{layer: "health", cause: "unexpected_status", variant: "503", mods: []testbed.Mod{testbed.Status(503, "down for maintenance")}},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: 503 by return", produce: inServer("return 503;")},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: 503 by limit_req", produce: all(
		script("echo 'limit_req_zone $binary_remote_addr zone=clients:1m rate=1r/m;' > /etc/nginx/conf.d/failure.conf"), inServer("limit_req zone=clients;"), ask(2)), await: "limiting requests"},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: 404", produce: inServer("location /health/ { root /var/www/html; }")},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: 403", produce: inServer("deny all;")},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: 500, a rewrite loop", produce: inServer("location /health/ { rewrite ^ /health/again last; }")},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: 400, TLS expected", produce: server("listen 80 default_server;", "listen 80 ssl default_server;\nssl_certificate /etc/ssl/certs/ssl-cert-snakeoil.pem;\nssl_certificate_key /etc/ssl/private/ssl-cert-snakeoil.key;")},
	{layer: "proxy", cause: "unexpected_status", variant: "nginx: its default page", produce: all(
		script("echo 'server { listen 80 default_server; root /var/www/html; }' > /etc/nginx/conf.d/failure.conf"), server("listen 80 default_server;\n\tserver_name _;", "listen 80;\n\tserver_name shop.example;"))},
	{layer: "health", cause: "unexpected_body", config: `body = "ok {version}"`, mods: []testbed.Mod{testbed.Status(200, "ok v1")}, await: "-"},
	{layer: "health", cause: "too_slow", config: "timeout = \"1s\"\ndeadline = \"8s\"", mods: []testbed.Mod{slow}, await: "-"},
}

// What gunicorn logs of an app that it can't load, and systemd of a start that failed.
const (
	inWorker = "Exception in worker process"
	inStart  = "Failed with result"
)

// migrates has migrations run before a swap.
const migrates = `[[hooks.before_swap]]
run = ["/usr/bin/python3", "manage.py", "migrate", "--noinput"]`

const leaf = `from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = []
`
