package diagnosis

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"deploygate/gate"
	"deploygate/gate/socket"
)

var errCut = errors.New("EOF")

// What a direct request comes to.
var (
	gone    = gate.Answer{Err: syscall.ENOENT}
	refused = gate.Answer{Err: syscall.ECONNREFUSED}
	hanging = gate.Answer{Err: os.ErrDeadlineExceeded, Timeout: true}
	cut     = gate.Answer{Err: errCut}
	error5  = gate.Answer{Status: 500}
)

// load reads a log of testdata, as a real host wrote it: its first line is the unit's state, the others begin with time,
// process, invocation and message id.
func load(t *testing.T, file string) *Facts {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file+".log"))
	if err != nil {
		t.Fatal(err)
	}
	f := &Facts{
		Unit: Unit{
			Name: "gunicorn.service", File: "/etc/systemd/system/gunicorn.service", User: "www-data",
			Program: "/usr/bin/gunicorn", Server: "gunicorn", WorkingDirectory: "/srv/app/current",
		},
		Release: Release{
			Version: "v2", Dir: "/srv/app/releases/v2", Root: "/srv/app", Files: project(), Previous: "v1", Before: project(),
		},
		Bind: "unix:/run/gunicorn/gunicorn.sock", Path: "/health/",
	}
	head, rest, _ := strings.Cut(string(text), "\n")
	if strings.Contains(rest, "/srv/app/releases/v1/") { // it was that one's first start
		f.Release.Version, f.Release.Dir = "v1", "/srv/app/releases/v1"
	}
	state := map[string]string{}
	for word := range strings.FieldsSeq(head) {
		name, value, _ := strings.Cut(word, "=")
		state[name] = value
	}
	st := &f.Unit.State
	st.Unit, st.ActiveState, st.SubState, st.Result = f.Unit.Name, state["ActiveState"], state["SubState"], state["Result"]
	st.NRestarts, _ = strconv.Atoi(state["NRestarts"])
	st.ExecMainStatus, _ = strconv.Atoi(state["ExecMainStatus"])
	for line := range strings.SplitSeq(strings.TrimSuffix(rest, "\n"), "\n") {
		part := strings.SplitN(line, " ", 5)
		part = append(part, make([]string, 5-len(part))...)
		at, _ := strconv.ParseFloat(part[0], 64)
		pid, _ := strconv.Atoi(part[1])
		f.Log = append(f.Log, gate.LogLine{At: time.UnixMilli(int64(at * 1000)), PID: pid, Invocation: part[2], Text: part[4]})
	}
	f.Asked = f.Log[0].At
	return f
}

func project() fstest.MapFS {
	files := fstest.MapFS{}
	for _, name := range []string{"manage.py", "project/__init__.py", "project/settings.py", "project/urls.py", "project/wsgi.py", "project/middleware.py"} {
		files[name] = &fstest.MapFile{}
	}
	return files
}

func (f *Facts) directly(a gate.Answer) *Facts {
	f.Direct = Asked{&a, gate.NewFinding(gate.LayerApp, gate.Unknown, "what the gate says")}
	f.Failed = f.Direct.Finding
	return f
}

// Every log of testdata was written by a host with that failure.
func TestCausesAreFoundInRealLogs(t *testing.T) {
	for _, c := range []struct {
		file    string
		direct  gate.Answer
		facts   func(*Facts) // what else was seen
		layer   gate.Layer
		cause   gate.Cause
		summary string
	}{
		{"trixie/env_file_missing", gone, pathGone(gate.EnvFileMissing, "EnvironmentFile=", "/etc/app.env"), gate.LayerService, gate.EnvFileMissing, "can't be read: /etc/app.env"},
		{"bookworm/env_file_missing", gone, nil, gate.LayerService, gate.EnvFileMissing, "an environment file can't be read"},
		{"trixie/exec_missing", gone, nil, gate.LayerService, gate.ExecMissing, "/usr/bin/gunicorn does not exist or can't be executed"},
		{"bookworm/exec_missing", gone, nil, gate.LayerService, gate.ExecMissing, "does not exist"},
		{"trixie/exec_missing-a-moved-venv", gone, pathGone(gate.ExecMissing, Shebang, "/old/venv/bin/python"), gate.LayerService, gate.ExecMissing, "its interpreter /old/venv/bin/python isn't"},
		{"bookworm/exec_missing-a-moved-venv", gone, pathGone(gate.ExecMissing, Shebang, "/old/venv/bin/python"), gate.LayerService, gate.ExecMissing, "its interpreter"},
		{"trixie/working_directory_missing-a-link-to-nowhere", gone, nil, gate.LayerService, gate.WorkingDirectoryMissing, "/srv/app/current can't be entered"},
		{"trixie/working_directory_missing-no-rights", gone, nil, gate.LayerService, gate.WorkingDirectoryMissing, "can't be entered"},
		{"trixie/user_missing", gone, nil, gate.LayerService, gate.UserMissing, "its user www-data does not exist"},
		{"bookworm/user_missing", gone, nil, gate.LayerService, gate.UserMissing, "its user"},
		{"trixie/user_missing-the-group", gone, nil, gate.LayerService, gate.UserMissing, "its group"},
		{"bookworm/user_missing-the-group", gone, nil, gate.LayerService, gate.UserMissing, "its group"},
		{"trixie/sandbox_path_missing", gone, nil, gate.LayerService, gate.SandboxPathMissing, "/srv/app/media"},
		{"bookworm/sandbox_path_missing", gone, nil, gate.LayerService, gate.SandboxPathMissing, ": /srv/app/media"},
		{"trixie/log_target_missing", gone, nil, gate.LayerService, gate.LogTargetMissing, "where it is to log"},
		{"trixie/start_limit_hit", gone, nil, gate.LayerService, gate.StartLimitHit, "systemd has given up"},
		{"bookworm/start_limit_hit", gone, nil, gate.LayerService, gate.StartLimitHit, "systemd has given up"},
		{"trixie/start_limit_hit-by-hand", gone, nil, gate.LayerService, gate.StartLimitHit, "systemd has given up"},
		{"trixie/bad_option-flag", gone, nil, gate.LayerService, gate.BadOption, "unrecognized arguments: --worker-classes"},
		{"trixie/bad_option-configuration-file", gone, nil, gate.LayerService, gate.BadOption, "'/etc/gunicorn/shop.py' doesn't exist"},
		{"trixie/bad_option-worker-class", gone, nil, gate.LayerService, gate.BadOption, "class uri 'gevent' invalid or not found"},
		{"trixie/bad_option--chdir", gone, nil, gate.LayerService, gate.BadOption, "can't chdir to '/srv/shop'"},
		{"trixie/bad_option-pid-file", gone, nil, gate.LayerService, gate.BadOption, "Can't create pidfile"},
		{"trixie/bad_option-log-file", gone, nil, gate.LayerService, gate.BadOption, "isn't writable"},

		{"trixie/import_error-a-third-party-s", gone, nil, gate.LayerApp, gate.ImportError, "payments is not installed (project/wsgi.py, line 1)"},
		{"trixie/import_error-a-module-of-its-own", gone, nil, gate.LayerApp, gate.ImportError, "the release has no module project.pricing (project/wsgi.py"},
		{"trixie/import_error-a-missing-name", gone, nil, gate.LayerApp, gate.ImportError, "cannot import name 'BUILD'"},
		{"trixie/import_error-circular", gone, nil, gate.LayerApp, gate.ImportError, "circular import"},
		{"bookworm/import_error-circular", gone, nil, gate.LayerApp, gate.ImportError, "circular import"},
		{"trixie/import_error-the-unit-names-another-project", gone, nil, gate.LayerApp, gate.ImportError, "shop_project, which ExecStart"},
		{"trixie/partial_release", gone, without("project/middleware.py"), gate.LayerRelease, gate.PartialRelease, "no module project.middleware, which v1 has"},
		{"trixie/partial_release-the-settings", gone, without("project/settings.py"), gate.LayerRelease, gate.PartialRelease, "no module project.settings, which v1 has"},
		{"trixie/partial_release-seen-on-a-request", error5, without("project/urls.py"), gate.LayerRelease, gate.PartialRelease, "no module project.urls, which v1 has"},
		{"trixie/settings_module", gone, nil, gate.LayerApp, gate.SettingsModule, "project.settings_production"},
		{"trixie/app_attribute", gone, nil, gate.LayerApp, gate.AppAttribute, "no app in project.wsgi"},
		{"bookworm/app_attribute", gone, nil, gate.LayerApp, gate.AppAttribute, "no app in project.wsgi"},
		{"trixie/syntax_error", gone, nil, gate.LayerApp, gate.SyntaxError, "SyntaxError in the release (project/wsgi.py, line 9)"},
		{"trixie/syntax_error-indentation", gone, nil, gate.LayerApp, gate.SyntaxError, "IndentationError in the release (project/wsgi.py, line 10)"},
		{"trixie/release_unreadable", gone, nil, gate.LayerRelease, gate.ReleaseUnreadable, "www-data may not read /srv/app/releases/v2/project/settings.py"},
		{"trixie/release_unreadable-a-directory", gone, closed("/srv/app/releases/v2/project"), gate.LayerRelease, gate.ReleaseUnreadable, "/srv/app/releases/v2/project is closed to it"},
		{"trixie/env_var_missing", gone, nil, gate.LayerApp, gate.EnvVarMissing, "PAYMENTS_URL is not set (project/settings.py, line 30)"},
		{"trixie/secret_key-missing", gone, nil, gate.LayerApp, gate.SecretKey, "no SECRET_KEY (project/settings.py"},
		{"trixie/secret_key-empty", error5, nil, gate.LayerApp, gate.SecretKey, "no SECRET_KEY"},
		{"trixie/static_manifest", error5, nil, gate.LayerApp, gate.StaticManifest, "no manifest entry for shop.css"},
		{"trixie/app_error-logged", error5, nil, gate.LayerApp, gate.AppError, "RuntimeError: the health view is broken (project/views.py"},
		{"trixie/app_error-not-logged", error5, nil, gate.LayerApp, gate.AppError, "logs no traceback"},

		{"trixie/database_unreachable-at-boot", gone, nil, gate.LayerApp, gate.DatabaseUnreachable, "port 5432 failed: Connection refused"},
		{"trixie/database_unreachable-on-a-request", error5, nil, gate.LayerApp, gate.DatabaseUnreachable, "Connection refused"},
		{"trixie/database_unreachable-unknown-host", gone, nil, gate.LayerApp, gate.DatabaseUnreachable, "could not translate host name"},
		{"trixie/database_refused-password-at-boot", gone, nil, gate.LayerApp, gate.DatabaseRefused, "password authentication failed"},
		{"trixie/database_refused-password-on-a-request", error5, nil, gate.LayerApp, gate.DatabaseRefused, "password authentication failed"},
		{"trixie/database_refused-no-such-database", gone, nil, gate.LayerApp, gate.DatabaseRefused, `database "warehouse" does not exist`},
		{"trixie/database_refused-no-connection-left", gone, nil, gate.LayerApp, gate.DatabaseRefused, "remaining connection slots"},
		{"trixie/database_refused-the-role-s-limit", gone, nil, gate.LayerApp, gate.DatabaseRefused, "too many connections for role"},
		{"trixie/migration_unapplied-postgresql-at-boot", gone, nil, gate.LayerSchema, gate.MigrationUnapplied, `relation "shop_order" does not exist`},
		{"trixie/migration_unapplied-postgresql-table", error5, nil, gate.LayerSchema, gate.MigrationUnapplied, `relation "shop_order" does not exist`},
		{"trixie/migration_unapplied-postgresql-column", error5, nil, gate.LayerSchema, gate.MigrationUnapplied, "column shop_order.number does not exist"},
		{"trixie/migration_unapplied-sqlite-table", error5, nil, gate.LayerSchema, gate.MigrationUnapplied, "no such table: shop_order"},
		{"trixie/migration_unapplied-sqlite-column", error5, nil, gate.LayerSchema, gate.MigrationUnapplied, "no such column: shop_order.number"},

		{"trixie/port_in_use", refused, nil, gate.LayerSocket, gate.PortInUse, "('127.0.0.1', 8001)"},
		{"bookworm/port_in_use", refused, nil, gate.LayerSocket, gate.PortInUse, "('127.0.0.1', 8001)"},
		{"trixie/port_in_use-after-gunicorn-gave-up", gate.Answer{Status: 404}, heldBy("python3"), gate.LayerSocket, gate.PortInUse, "is in use by python3 (pid 77)"},

		{"trixie/worker_crash-sigsegv", cut, nil, gate.LayerApp, gate.WorkerCrash, "killed by SIGSEGV"},
		{"bookworm/worker_crash-sigsegv", cut, nil, gate.LayerApp, gate.WorkerCrash, "killed by signal 11"},
		{"trixie/worker_crash-exit", cut, nil, gate.LayerApp, gate.WorkerCrash, "exited with status 1"},
		{"bookworm/worker_crash-exit", cut, nil, gate.LayerApp, gate.WorkerCrash, "a new worker is booted"},
		{"trixie/worker_crash-sigsegv-at-boot", hanging, waiting(3, 0), gate.LayerApp, gate.WorkerCrash, "killed by SIGSEGV"},
		{"bookworm/worker_crash-sigsegv-at-boot", hanging, waiting(3, 0), gate.LayerApp, gate.WorkerCrash, "killed by signal 11"},
		{"trixie/worker_timeout", error5, nil, gate.LayerApp, gate.WorkerTimeout, "longer than gunicorn allows"},
		{"bookworm/worker_timeout", cut, nil, gate.LayerApp, gate.WorkerTimeout, "longer than gunicorn allows"},
		{"trixie/boot_hang", hanging, waiting(3, 0), gate.LayerApp, gate.BootHang, "hangs while it loads"},
		{"bookworm/boot_hang", hanging, waiting(3, 0), gate.LayerApp, gate.BootHang, "hangs while it loads"},
		{"trixie/app_error-not-logged", hanging, waiting(1, 2), gate.LayerApp, gate.NoAnswer, "takes the request and gives no answer"},
		{"trixie/oom", cut, nil, gate.LayerResources, gate.OOM, "lack of memory"},
		{"bookworm/oom", cut, nil, gate.LayerApp, gate.WorkerCrash, "killed by signal 9"}, // gunicorn 20 doesn't guess
		{"bookworm/oom", cut, kernelKilled, gate.LayerResources, gate.OOM, "lack of memory"},
	} {
		t.Run(c.file, func(t *testing.T) {
			f := load(t, c.file).directly(c.direct)
			if c.facts != nil {
				c.facts(f)
			}
			found := Diagnose(f)
			if len(found) != 1 || found[0].Layer != c.layer || found[0].Cause != c.cause || !strings.Contains(found[0].Summary, c.summary) {
				t.Fatalf("found %s\nwant %s/%s: …%s…", show(found), c.layer, c.cause, c.summary)
			}
			if len(found[0].Evidence) == 0 || len(found[0].Advice) == 0 {
				t.Errorf("no evidence or no advice: %s", show(found))
			}
			if strings.ContainsAny(show(found), "{}") {
				t.Errorf("a word is missing: %s", show(found))
			}
		})
	}
}

func show(found []*gate.Finding) string {
	var s strings.Builder
	for _, f := range found {
		fmt.Fprintf(&s, "%s/%s: %s\n", f.Layer, f.Cause, f.Summary)
		for _, e := range f.Evidence {
			fmt.Fprintf(&s, "  %s: %s\n", e.Source, e.Text)
		}
		for _, a := range f.Advice {
			fmt.Fprintf(&s, "  -> %s\n", a)
		}
	}
	return s.String()
}

func pathGone(cause gate.Cause, what, path string) func(*Facts) {
	return func(f *Facts) {
		f.Unit.Paths = []Path{{Cause: cause, What: what, Path: path, Problem: "does not exist"}}
	}
}

// without has a release lack a file that the one before it has.
func without(file string) func(*Facts) {
	return func(f *Facts) {
		files := project()
		delete(files, file)
		f.Release.Files = files
	}
}

func closed(dir string) func(*Facts) {
	return func(f *Facts) { f.Release.Closed = func(string) string { return dir } }
}

func waiting(n, accepted int) func(*Facts) {
	return func(f *Facts) { f.Socket.Waiting, f.Socket.Busy = n, accepted }
}

func heldBy(name string) func(*Facts) {
	return func(f *Facts) {
		f.Socket.Listens = []Listener{{"127.0.0.1:8001", []socket.Holder{{PID: 77, Name: name}}}}
		f.Unit.State.ActiveState = "activating"
	}
}

// kernelKilled is a record of the kernel about the first worker that gunicorn says was killed.
func kernelKilled(f *Facts) {
	pid := logged(`Worker with pid (?P<pid>\d+) was terminated due to signal 9`)(f).words["pid"]
	f.Killed = []gate.LogLine{{Text: "Memory cgroup out of memory: Killed process " + pid + " (gunicorn) total-vm:1234kB"}}
}

// What a rehearsal shows is fixed where its settings come from: its own unit is gone when its diagnosis is read.
func TestARehearsalIsMendedInTheLiveUnit(t *testing.T) {
	for file, want := range map[string]string{
		"trixie/env_file_missing": "in /etc/systemd/system/gunicorn.service; then release it again",
		"trixie/env_var_missing":  "set PAYMENTS_URL where gunicorn.service gets its environment: systemctl cat gunicorn.service | grep Environment",
		"trixie/settings_module":  "systemctl cat gunicorn.service",
		"trixie/oom":              "MemoryPeak gunicorn.service",
		"trixie/user_missing":     "correct User= in /etc/systemd/system/gunicorn.service",
	} {
		f := load(t, file).directly(gone)
		f.Unit.Name, f.Unit.RehearsedFor = "deploygate-rehearsal-shop.service", f.Unit.Name
		var advice []string
		for _, found := range Diagnose(f) {
			advice = append(advice, found.Advice...)
		}
		text := strings.Join(advice, "\n")
		if !strings.Contains(text, want) || strings.Contains(text, f.Unit.Name) {
			t.Errorf("%s: advice %q; want %q", file, text, want)
		}
	}
}
