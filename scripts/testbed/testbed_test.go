package testbed

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bootAndWait, if set, has the test binary boot a machine of that suite, say
// so on standard output, and wait to be killed.
const bootAndWait = "TESTBED_BOOT_AND_WAIT"

func TestMain(m *testing.M) {
	if suite := os.Getenv(bootAndWait); suite != "" {
		machine, err := Boot(context.Background(), suite, Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("leader", machine.Leader())
		select {}
	}
	os.Exit(m.Run())
}

func need(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots machines")
	}
	if missing := Missing(); missing != "" {
		t.Skip(missing)
	}
}

func boot(t *testing.T, suite string, opts Options) *Machine {
	t.Helper()
	m, err := Boot(t.Context(), suite, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until try returns "", and fails with what it returned last.
func eventually(t *testing.T, limit time.Duration, try func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	last := ""
	if err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		last = try()
		return last == "", nil
	}); err != nil {
		t.Fatalf("after %v still: %s", limit, last)
	}
}

func TestMachine(t *testing.T) {
	need(t)
	for _, suite := range Suites {
		t.Run(suite, func(t *testing.T) {
			start := time.Now()
			m := boot(t, suite, Options{Name: "shop1", Bind: []string{"/etc/hostname:/mnt/hostname"}})
			t.Logf("booted in %v", time.Since(start).Round(time.Millisecond))
			site := DefaultSite()
			check(t, m.InstallSite(t.Context(), site))
			check(t, m.AddRelease(site, "v1"))
			check(t, m.GoLive(t.Context(), site, "v1"))

			t.Run("Site", func(t *testing.T) { testSite(t, m, site) })
			t.Run("SecondSite", func(t *testing.T) { testSecondSite(t, m, site) })
			t.Run("Commands", func(t *testing.T) { testCommands(t, m) })
			t.Run("Files", func(t *testing.T) { testFiles(t, m) })
			t.Run("Migrate", func(t *testing.T) { testMigrate(t, m, site) })
			t.Run("Postgres", func(t *testing.T) { testPostgres(t, m, site) })
			t.Run("Load", func(t *testing.T) { testLoad(t, m, site) })
			t.Run("Mods", func(t *testing.T) { testMods(t, m, site) })
			t.Run("Close", func(t *testing.T) { testClose(t, m) })
		})
	}
}

func testSite(t *testing.T, m *Machine, site Site) {
	status, header, body, err := m.Get(t.Context(), site, "/health/")
	check(t, err)
	if status != http.StatusOK || body != "ok v1\n" || header.Get("X-Release") != "v1" {
		t.Errorf("health answers %d %q with %v", status, body, header)
	}
	if _, err := strconv.Atoi(header.Get("X-Pid")); err != nil {
		t.Errorf("X-Pid: %v", err)
	}
	if _, _, body, _ := m.Get(t.Context(), site, "/"); !strings.Contains(body, "v1") {
		t.Errorf("the home page does not name the version: %q", body)
	}
	if link, err := m.Link(site); err != nil || link != "releases/v1" {
		t.Errorf("current links to %q, %v", link, err)
	}
	cwds, err := m.Cwds(t.Context(), site)
	check(t, err)
	if got := strings.Join(cwds, " "); got != "/srv/app/releases/v1 /srv/app/releases/v1 /srv/app/releases/v1" {
		t.Errorf("a master and two workers should be in /srv/app/releases/v1, not %s", got)
	}
	if master, err := m.NginxMaster(t.Context()); err != nil || master <= 1 {
		t.Errorf("nginx's master is %d, %v", master, err)
	}

	before, err := m.NginxReloads()
	check(t, err)
	check(t, m.Exec(t.Context(), "systemctl", "reload", "nginx").Err)
	check(t, m.Exec(t.Context(), "nginx", "-s", "reload").Err)
	eventually(t, 5*time.Second, func() string {
		if after, err := m.NginxReloads(); err != nil || after != before+2 {
			return fmt.Sprintf("%d reloads after 2 more than %d, %v", after, before, err)
		}
		return ""
	})
}

func testSecondSite(t *testing.T, m *Machine, first Site) {
	second := Site{
		Name: "blog", Root: "/srv/blog", Unit: "blog.service",
		Bind: "127.0.0.1:8001", Port: 80, ServerName: "blog.example.org",
	}
	check(t, m.InstallSite(t.Context(), second))
	check(t, m.AddRelease(second, "b7"))
	check(t, m.GoLive(t.Context(), second, "b7"))
	for site, want := range map[Site]string{first: "ok v1\n", second: "ok b7\n"} {
		if status, _, body, err := m.Get(t.Context(), site, "/health/"); status != 200 || body != want {
			t.Errorf("%s answers %d %q, %v", site.Name, status, body, err)
		}
	}
	check(t, m.Exec(t.Context(), "systemctl", "disable", "--now", second.Unit).Err)
	if cwds, err := m.Cwds(t.Context(), second); err != nil || len(cwds) != 0 {
		t.Errorf("a stopped unit has processes in %v, %v", cwds, err)
	}
}

func testCommands(t *testing.T, m *Machine) {
	got := m.Exec(t.Context(), "GREETING=hello", "sh", "-c", `echo "$GREETING $HOME $(hostname) $(pwd)"; echo no >&2; exit 7`)
	if got.Stdout != "hello /root shop1 /\n" || got.Stderr != "no\n" || got.Code != 7 || got.Err == nil {
		t.Errorf("%+v", got)
	}
	if got := m.Exec(t.Context(), "env"); strings.Count(got.Stdout, "\n") != 3 {
		t.Errorf("the environment of this process leaks: %s", got.Stdout)
	}
	if got := m.Exec(t.Context(), "cat", "/proc/self/cgroup"); !strings.Contains(got.Stdout, "0::/testbed\n") {
		t.Errorf("a command is outside of the machine: %s", got.Stdout)
	}

	// A signal reaches the program itself, and its end is seen.
	cmd := m.Command(t.Context(), "sh", "-c", `trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done`)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	lines.Scan()
	check(t, m.Signal(cmd, unix.SIGTERM))
	lines.Scan()
	if err := cmd.Wait(); lines.Text() != "caught" || cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("after SIGTERM: %q, %v", lines.Text(), err)
	}
	if err := m.Signal(cmd, unix.SIGTERM); err == nil {
		t.Error("a command that has ended was signalled")
	}

	cmd = m.Command(t.Context(), "sleep", "1000")
	check(t, cmd.Start())
	check(t, m.Signal(cmd, unix.SIGUSR1)) // SIGHUP is ignored below nohup
	if err := cmd.Wait(); err == nil || err.Error() != "signal: user defined signal 1" {
		t.Errorf("after SIGUSR1: %v", err)
	}

	// So does the end of the context.
	ctx, cancel := context.WithCancel(t.Context())
	cmd = m.Command(ctx, "sleep", "1001")
	check(t, cmd.Start())
	pid, err := m.Pid(cmd)
	check(t, err)
	cancel()
	_ = cmd.Wait()
	if alive(pid) {
		t.Errorf("process %d outlives its context", pid)
	}
}

func testFiles(t *testing.T, m *Machine) {
	check(t, m.WriteFile("/opt/a/b.txt", "text", 0o666))
	if got := m.Exec(t.Context(), "stat", "-c", "%a %s", "/opt/a/b.txt").Stdout; got != "666 4\n" {
		t.Errorf("written as %q", got)
	}
	if got, err := os.ReadFile(m.Path("/opt/a/b.txt")); err != nil || string(got) != "text" {
		t.Errorf("read as %q, %v", got, err)
	}
	want, err := os.ReadFile("/etc/hostname")
	check(t, err)
	if got, err := m.ReadFile("/mnt/hostname"); err != nil || got != string(want) {
		t.Errorf("the bound file reads %q, %v", got, err)
	}
	if m.Exec(t.Context(), "sh", "-c", "echo x >/mnt/hostname").Err == nil {
		t.Error("a bound file can be written")
	}
	// /var/run is an absolute link to /run: it must not lead to this host's.
	if err := m.WriteFile("/var/run/escaped", "", 0o600); err == nil {
		t.Error("a link was followed out of the machine")
	}
}

func testMigrate(t *testing.T, m *Machine, site Site) {
	check(t, m.AddRelease(site, "v2", Migration("0002_drop", `migrations.RemoveField("order", "legacy")`), Migration("0003_nothing")))
	result := m.Exec(t.Context(), "env", "-C", site.ReleaseDir("v2"), "SECRET_KEY=x", "ALLOWED_HOSTS=",
		"setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", "python3", "manage.py", "migrate")
	check(t, result.Err)
	for _, name := range []string{"0001_initial", "0002_drop", "0003_nothing"} {
		if !strings.Contains(result.Stdout, "Applying shop."+name+"... OK") {
			t.Errorf("%s was not applied:\n%s", name, result.Stdout)
		}
	}
	if err := m.AddRelease(site, "v2"); err == nil {
		t.Error("a release was overwritten")
	}
}

func testPostgres(t *testing.T, m *Machine, site Site) {
	unit, err := m.PostgresUnit()
	check(t, err)
	if state, err := m.UnitProperty(t.Context(), unit, "ActiveState"); err != nil || state != "inactive" {
		t.Errorf("before it is started, %s is %q, %v", unit, state, err)
	}
	start := time.Now()
	check(t, m.StartPostgres(t.Context()))
	t.Logf("started in %v", time.Since(start).Round(time.Millisecond))
	check(t, m.AddRelease(site, "pg", Postgres(), QueryAtBoot(), QueryOnHealth()))
	check(t, m.Manage(t.Context(), site, "pg", "migrate", "--noinput").Err)
	const insert = "INSERT INTO shop_order (number, legacy) VALUES ('1', '')"
	if _, err := m.SQL(t.Context(), PostgresDatabase, insert); err != nil {
		t.Error(err)
	}
	check(t, m.StartPostgres(t.Context())) // nothing is lost
	if got, err := m.SQL(t.Context(), PostgresDatabase, "SELECT number, tableowner FROM shop_order, pg_tables WHERE tablename = 'shop_order'"); err != nil || got != "1|shop" {
		t.Errorf("the orders are %q, %v", got, err)
	}
	if _, err := m.SQL(t.Context(), PostgresDatabase, "SELECT nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a statement that fails: %v", err)
	}
	check(t, m.GoLive(t.Context(), site, "pg"))

	// What the environment says goes first, for the app and for manage.py.
	env, err := m.ReadFile(site.EnvFile())
	check(t, err)
	check(t, m.WriteFile(site.EnvFile(), env+"DATABASE_NAME=elsewhere\n", 0o640))
	if got := m.Manage(t.Context(), site, "pg", "showmigrations"); got.Err == nil || !strings.Contains(got.Stderr, `database "elsewhere" does not exist`) {
		t.Errorf("%+v", got)
	}
	check(t, m.WriteFile(site.EnvFile(), env, 0o640))
	check(t, m.Exec(t.Context(), "systemctl", "stop", unit).Err)
	check(t, m.GoLive(t.Context(), site, "v1"))
}

func testLoad(t *testing.T, m *Machine, site Site) {
	load := m.Load(t.Context(), site, "/health/", 50)
	seen := func(at time.Time) {
		t.Helper()
		eventually(t, 20*time.Second, func() string {
			for _, s := range load.Samples() {
				if s.Good() && s.At.After(at) {
					return ""
				}
			}
			return "no good answer"
		})
	}
	seen(time.Now())
	check(t, m.Exec(t.Context(), "systemctl", "restart", site.Unit).Err)
	seen(time.Now())
	samples := load.Stop()
	failed, longest := Outage(samples)
	t.Logf("restart: %d of %d requests failed, in %v", failed, len(samples), longest.Round(time.Millisecond))
	if failed == 0 || longest == 0 || longest > 20*time.Second {
		t.Error("a restart should fail some requests for a moment")
	}

	queued := Site{
		Name: "queued", Root: "/srv/queued", Unit: "queued.service", Socket: true,
		Bind: "unix:/run/queued/gunicorn.sock", Port: 8080,
	}
	check(t, m.InstallSite(t.Context(), queued))
	check(t, m.AddRelease(queued, "v1"))
	check(t, m.GoLive(t.Context(), queued, "v1"))
	load = m.Load(t.Context(), queued, "/health/", 50)
	seen(time.Now())
	check(t, m.Exec(t.Context(), "systemctl", "restart", queued.Unit).Err)
	seen(time.Now())
	samples = load.Stop()
	if failed, longest := Outage(samples); failed != 0 {
		t.Errorf("restart behind a socket unit: %d of %d requests failed, in %v", failed, len(samples), longest)
	}
	check(t, m.Exec(t.Context(), "systemctl", "disable", "--now", queued.SocketUnit(), queued.Unit).Err)
}

// testMods checks that each Mod has, for real, the effect that it is named for.
func testMods(t *testing.T, m *Machine, site Site) {
	answers := func(path string, status int, text string) func(*testing.T, time.Time) {
		return func(t *testing.T, _ time.Time) {
			t.Helper()
			eventually(t, 15*time.Second, func() string {
				got, _, body, err := m.Get(t.Context(), site, path)
				if err != nil || got != status || !strings.Contains(body, text) {
					return fmt.Sprintf("%d %q, %v", got, body, err)
				}
				return ""
			})
		}
	}
	// The journal says why, users get 502, and gunicorn ends. gunicorn 20 at
	// times takes 30 s for that, the unit being active all the while: it waits
	// for a worker that it does not notice has died. Only its master is left.
	crashes := func(text string) func(*testing.T, time.Time) {
		return func(t *testing.T, since time.Time) {
			t.Helper()
			eventually(t, 20*time.Second, func() string {
				journal := m.Exec(t.Context(), "journalctl", "--unit="+site.Unit, fmt.Sprintf("--since=@%d", since.Unix()), "--output=cat")
				if !strings.Contains(journal.Stdout, text) {
					return fmt.Sprintf("%q is not in the journal:\n%s", text, lastLines(journal.Stdout, 40))
				}
				restarts, err := m.UnitProperty(t.Context(), site.Unit, "NRestarts")
				check(t, err)
				cwds, err := m.Cwds(t.Context(), site)
				check(t, err)
				if restarts == "0" && len(cwds) != 1 {
					return fmt.Sprintf("no restarts, processes in %v", cwds)
				}
				return ""
			})
			answers("/health/", http.StatusBadGateway, "")(t, since)
		}
	}
	logs := func(text string) func(*testing.T, time.Time) {
		return func(t *testing.T, since time.Time) {
			t.Helper()
			eventually(t, 5*time.Second, func() string {
				journal := m.Exec(t.Context(), "journalctl", "--unit="+site.Unit, fmt.Sprintf("--since=@%d", since.Unix()), "--output=cat")
				if !strings.Contains(journal.Stdout, text) {
					return fmt.Sprintf("%q is not in the journal:\n%s", text, lastLines(journal.Stdout, 40))
				}
				return ""
			})
		}
	}
	hangs := func(t *testing.T, _ time.Time) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if status, _, _, err := m.Get(ctx, site, "/health/"); err == nil {
			t.Errorf("an answer came: %d", status)
		}
	}
	present := func(name, content string) func(*testing.T, time.Time) {
		return func(t *testing.T, since time.Time) {
			t.Helper()
			link, err := m.Link(site)
			check(t, err)
			got, err := m.ReadFile(site.Root + "/" + link + "/" + name)
			if err != nil || got != content {
				t.Errorf("%s is %q, %v", name, got, err)
			}
			answers("/health/", http.StatusOK, "ok ")(t, since)
		}
	}
	sequence := func(steps ...func(*testing.T, time.Time)) func(*testing.T, time.Time) {
		return func(t *testing.T, since time.Time) {
			t.Helper()
			for _, step := range steps {
				step(t, since)
			}
		}
	}

	for _, test := range []struct {
		name   string
		mod    Mod
		effect func(t *testing.T, since time.Time)
	}{
		{"ImportError", ImportError(), crashes("ModuleNotFoundError: No module named 'payments'")},
		{"SyntaxError", SyntaxError(), crashes("SyntaxError")},
		{"MissingSetting", MissingSetting("PAYMENTS_URL"), crashes("KeyError: 'PAYMENTS_URL'")},
		{"CrashAfter", CrashAfter(time.Second), sequence(answers("/health/", http.StatusOK, "ok "), crashes("status=9/KILL"))},
		{"Answer500", Answer500(), sequence(answers("/health/", http.StatusInternalServerError, "Server Error"), answers("/", http.StatusOK, "Shop"))},
		{"LogToConsole", func(f files) { Answer500()(f); LogToConsole()(f) }, sequence(answers("/health/", http.StatusInternalServerError, ""), logs("RuntimeError: the health view is broken"))},
		{"HealthView", HealthView("text = \"two\"\nreturn HttpResponse(text + \" lines\")"), answers("/health/", http.StatusOK, "two lines")},
		{"Status", Status(http.StatusTeapot, "teapot\n"), answers("/health/", http.StatusTeapot, "teapot\n")},
		{"Hang", Hang(), sequence(answers("/", http.StatusOK, "Shop"), hangs)},
		{"HangAtImport", HangAtImport(), hangs},
		{"SlowBoot", SlowBoot(2 * time.Second), func(t *testing.T, since time.Time) {
			answers("/health/", http.StatusOK, "ok ")(t, since)
			if took := time.Since(since); took < 2*time.Second {
				t.Errorf("it answered after %v", took)
			}
		}},
		{"HealthyFor", HealthyFor(2 * time.Second), sequence(answers("/health/", http.StatusOK, "ok "), answers("/health/", http.StatusInternalServerError, "no longer"), answers("/", http.StatusOK, "Shop"))},
		{"RedirectHTTPS", RedirectHTTPS(), answers("/health/", http.StatusMovedPermanently, "")},
		{"AllowedHosts", AllowedHosts("example.org"), answers("/health/", http.StatusBadRequest, "Bad Request")},
		{"Partial", Partial(), func(t *testing.T, _ time.Time) {
			if _, err := fs.Stat(m.files.FS(), inside(site.ReleaseDir("Partial")+"/manage.py")); err == nil {
				t.Error("manage.py is there")
			}
		}},
		{"Marker", Marker("rollback = \"safe\"\n"), present(".migration-compat.toml", "rollback = \"safe\"\n")},
		{"NginxInclude", NginxInclude("location = /extra { return 418; }"), func(t *testing.T, since time.Time) {
			check(t, m.Exec(t.Context(), "systemctl", "reload", "nginx").Err)
			answers("/extra", http.StatusTeapot, "")(t, since)
		}},
		{"NginxIncludeBroken", NginxInclude("no_such_directive on;"), func(t *testing.T, _ time.Time) {
			if got := m.Exec(t.Context(), "nginx", "-t"); got.Code != 1 || !strings.Contains(got.Stderr, "deploy/nginx.conf:1") {
				t.Errorf("%+v", got)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			check(t, m.AddRelease(site, test.name, test.mod))
			check(t, m.SetLink(site, test.name))
			// A worker that hangs would take its 10 s to stop.
			_ = m.Exec(t.Context(), "systemctl", "kill", "--signal=SIGKILL", site.Unit)
			check(t, m.Exec(t.Context(), "systemctl", "stop", site.Unit).Err)
			check(t, m.Exec(t.Context(), "systemctl", "reset-failed", site.Unit).Err)
			since := time.Now()
			check(t, m.Exec(t.Context(), "systemctl", "start", site.Unit).Err)
			test.effect(t, since)
		})
	}
}

func testClose(t *testing.T, m *Machine) {
	pids := members(t, m.cgroup)
	if len(pids) < 5 {
		t.Fatalf("a machine of %d processes", len(pids))
	}
	start := time.Now()
	check(t, m.Close())
	t.Logf("closed in %v", time.Since(start).Round(time.Millisecond))
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
	if _, err := os.Stat(m.cgroup); err == nil {
		t.Errorf("%s is left", m.cgroup)
	}
	check(t, m.Close())
	if m.Exec(t.Context(), "true").Err == nil {
		t.Error("a closed machine runs commands")
	}
}

// members returns the processes in a control group and those below it.
func members(t *testing.T, cgroup string) (pids []int) {
	t.Helper()
	check(t, filepath.WalkDir(cgroup, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // cgroupfs holds no links
		for word := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(word)
			check(t, err)
			pids = append(pids, pid)
		}
		return err
	}))
	return pids
}

// TestIsolation runs two machines at once, of the same root.
func TestIsolation(t *testing.T) {
	need(t)
	suite := Suites[len(Suites)-1]
	a, b := boot(t, suite, Options{Name: "a"}), boot(t, suite, Options{Name: "b"})
	site := DefaultSite()
	for i, m := range []*Machine{a, b} {
		version := fmt.Sprintf("v%d", i)
		check(t, m.InstallSite(t.Context(), site))
		check(t, m.AddRelease(site, version))
		check(t, m.GoLive(t.Context(), site, version))
	}
	check(t, a.Exec(t.Context(), "systemctl", "kill", "--signal=SIGKILL", site.Unit).Err)
	check(t, a.Exec(t.Context(), "systemctl", "stop", site.Unit).Err)
	check(t, a.Close())
	if status, _, body, err := b.Get(t.Context(), site, "/health/"); status != 200 || body != "ok v1\n" {
		t.Errorf("the other machine answers %d %q, %v", status, body, err)
	}
	if cwds, err := b.Cwds(t.Context(), site); err != nil || len(cwds) != 3 {
		t.Errorf("the other machine's processes are in %v, %v", cwds, err)
	}
}

// TestKilled kills a process that has a machine, which then must die too.
func TestKilled(t *testing.T) {
	need(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), bootAndWait+"="+Suites[0])
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	lines.Scan()
	text, ok := strings.CutPrefix(lines.Text(), "leader ")
	if !ok {
		t.Fatal(lines.Text())
	}
	leader, err := strconv.Atoi(text)
	check(t, err)
	mount, err := cgroupMount()
	check(t, err)
	groups, err := filepath.Glob(filepath.Join(mount, fmt.Sprintf("%s%d-*", cgroupPrefix, cmd.Process.Pid)))
	check(t, err)
	if len(groups) != 1 {
		t.Fatalf("control groups %v", groups)
	}
	pids := members(t, groups[0])
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	eventually(t, 10*time.Second, func() string {
		for _, pid := range append(pids, leader) {
			if alive(pid) {
				return fmt.Sprintf("process %d lives", pid)
			}
		}
		return ""
	})
	sweepCgroups(mount)
	if _, err := os.Stat(groups[0]); err == nil {
		t.Errorf("%s is left", groups[0])
	}
}

// TestBootFails boots a machine that can't be: the reason is told at once, and
// nothing is left.
func TestBootFails(t *testing.T) {
	need(t)
	_, err := Root(t.Context(), Suites[0], nil) // building it takes its time
	check(t, err)
	start := time.Now()
	m, err := Boot(t.Context(), Suites[0], Options{Bind: []string{"/nonexistent:/mnt"}})
	if err == nil {
		_ = m.Close()
		t.Fatal("it booted")
	}
	if took := time.Since(start); took > 20*time.Second || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("after %v: %v", took, err)
	}
	mount, err := cgroupMount()
	check(t, err)
	if left, _ := filepath.Glob(filepath.Join(mount, fmt.Sprintf("%s%d-*", cgroupPrefix, os.Getpid()))); len(left) != 0 {
		t.Errorf("%v are left", left)
	}
}

func TestRootOfUnknownSuite(t *testing.T) {
	if _, err := Root(t.Context(), "../etc", nil); err == nil {
		t.Error("it was built")
	}
}

func TestOutage(t *testing.T) {
	start := time.Now()
	sample := func(at, took int, good bool) Sample {
		s := Sample{At: start.Add(time.Duration(at) * time.Second), Took: time.Duration(took) * time.Second, Status: http.StatusOK}
		if !good {
			s.Status = http.StatusBadGateway
		}
		return s
	}
	for _, test := range []struct {
		name    string
		samples []Sample
		failed  int
		longest time.Duration
	}{
		{"none", nil, 0, 0},
		{"all good", []Sample{sample(0, 1, true), sample(2, 9, true)}, 0, 0},
		{"all failed", []Sample{sample(0, 1, false), sample(2, 3, false)}, 2, 5 * time.Second},
		{"in the middle", []Sample{sample(0, 1, true), sample(2, 1, false), sample(4, 2, true)}, 1, 5 * time.Second},
		{"at the end", []Sample{sample(0, 1, true), sample(2, 1, false)}, 1, 2 * time.Second},
		{"unsorted, two", []Sample{sample(8, 1, true), sample(2, 1, false), sample(0, 1, true), sample(3, 1, true), sample(6, 1, false)}, 2, 5 * time.Second},
		{"a slow good one before", []Sample{sample(0, 9, true), sample(2, 1, false), sample(4, 1, true)}, 1, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			failed, longest := Outage(test.samples)
			if failed != test.failed || longest != test.longest {
				t.Errorf("got %d, %v; want %d, %v", failed, longest, test.failed, test.longest)
			}
		})
	}
}
