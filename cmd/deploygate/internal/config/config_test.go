package config

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"deploygate/release/deploy"
	"deploygate/release/unit"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// parsed is what a document says, and every problem of it.
func parsed(text string) (*Config, []string) {
	c, err := Parse("F", "shop", []byte(text))
	if problems, ok := errors.AsType[*Error](err); ok {
		return c, problems.Problems
	}
	if err != nil {
		return c, []string{err.Error()}
	}
	return c, nil
}

// contractExample is the configuration of the public interface.
//
//go:embed testdata/contract.toml
var contractExample string

// What the contract shows are the defaults, but for what is read from the host or the live release, and the tasks.
func TestContractExample(t *testing.T) {
	got, problems := parsed(contractExample)
	assert.Equal(t, "problems", problems, nil)
	want, problems := parsed("")
	assert.Equal(t, "problems of nothing", problems, nil)
	want.Health.Bind, want.Proxy.Kind = "unix:/run/gunicorn/gunicorn.sock", "nginx"
	want.Release.Require = []string{"manage.py"}
	want.Hooks[deploy.BeforeSwap] = []deploy.Task{{
		Name: "/srv/app/venv/bin/python manage.py migrate --noinput", User: "www-data", Timeout: 5 * time.Minute,
		Run: []string{"/srv/app/venv/bin/python", "manage.py", "migrate", "--noinput"},
	}}
	want.Checks = []deploy.Check{{Task: deploy.Task{
		Name: "django", Timeout: 5 * time.Minute, Run: []string{"/srv/app/venv/bin/python", "manage.py", "check", "--deploy"},
	}}}
	assert.Equal(t, "configuration", got, want)

	none, err := Load("", "", t.TempDir())
	assert.OK(t, err)
	want, _ = parsed("")
	want.App, want.StateDir = "app", "/var/lib/deploygate/app"
	assert.Equal(t, "without a file", none, want)
}

// Every value reaches its place.
func TestConfigValues(t *testing.T) {
	for _, c := range []struct {
		text string
		got  func(*Config) any
		want any
	}{
		{`root = "/srv/shop/"`, func(c *Config) any { return c.Root }, "/srv/shop"},
		{`state_dir = "/var/x"`, func(c *Config) any { return c.StateDir }, "/var/x"},
		{`keep = 1`, func(c *Config) any { return c.Keep }, 1},
		{`release.require = []`, func(c *Config) any { return c.Release.Require }, []string{}},
		{`release = { require = ["a", "b/c"] }`, func(c *Config) any { return c.Release.Require }, []string{"a", "b/c"}},
		{"[service]\nunit = 'shop@1.service'", func(c *Config) any { return c.Service.Unit }, "shop@1.service"},
		{`service.manager = "user"`, func(c *Config) any { return c.Service.Manager }, unit.User},
		{`service.restart_timeout = ""`, func(c *Config) any { return c.Service.RestartTimeout }, time.Duration(0)},
		{`service.restart_timeout = "1m30s"`, func(c *Config) any { return c.Service.RestartTimeout }, 90 * time.Second},
		{`health.bind = "127.0.0.1:8000"`, func(c *Config) any { return c.Health.Bind }, "127.0.0.1:8000"},
		{`health.path = "/up?full=1"`, func(c *Config) any { return c.Health.Path }, "/up?full=1"},
		{`health.path = "/up"`, func(c *Config) any { return c.Proxy.URL }, "http://127.0.0.1/up"},
		{`health.host = "example.org"`, func(c *Config) any { return c.Proxy.Host }, "example.org"},
		{"health.host = 'a'\nproxy.host = 'b'", func(c *Config) any { return c.Proxy.Host }, "b"},
		{`health.headers = {}`, func(c *Config) any { return c.Health.Headers }, map[string]string{}},
		{"[health.headers]\nX-A = '1'\n\"X-B\" = '2'", func(c *Config) any { return c.Health.Headers }, map[string]string{"X-A": "1", "X-B": "2"}},
		{`health.status = [200, 204]`, func(c *Config) any { return c.Health.Status }, []int{200, 204}},
		{`health.body = "ok {version}"`, func(c *Config) any { return c.Health.Body }, "ok {version}"},
		{`health.timeout = "5s"`, func(c *Config) any { return c.Health.Timeout }, 5 * time.Second},
		{`health.interval = "50ms"`, func(c *Config) any { return c.Health.Interval }, 50 * time.Millisecond},
		{`health.stable = "4s"`, func(c *Config) any { return c.Health.Stable }, 4 * time.Second},
		{`health.deadline = "24h"`, func(c *Config) any { return c.Health.Deadline }, 24 * time.Hour},
		{`proxy.kind = "none"`, func(c *Config) any { return c.Proxy.Kind }, KindNone},
		{`proxy.url = "http://127.0.0.1:8080"`, func(c *Config) any { return c.Proxy.URL }, "http://127.0.0.1:8080/health/"},
		{`proxy.url = ""`, func(c *Config) any { return c.Proxy.URL }, ""},
		{`proxy.reload = "never"`, func(c *Config) any { return c.Proxy.Reload }, ReloadNever},
		{`proxy.broken_before = "warn"`, func(c *Config) any { return c.Proxy.BrokenBefore }, brokenWarn},
		{`proxy.error_log = "/var/log/e"`, func(c *Config) any { return c.Proxy.ErrorLog }, "/var/log/e"},
		{`rollback.automatic = false`, func(c *Config) any { return c.Rollback.Automatic }, false},
		{`rollback.no_marker = "block"`, func(c *Config) any { return c.Rollback.NoMarker }, rollback.Block},
		{`rollback.guard = "required"`, func(c *Config) any { return c.Rollback.Guard }, GuardRequired},
		{"[[hooks.on_held]]\nrun = ['a', 'b']\n[[hooks.on_held]]\nrun = ['c']\ntimeout = '1s'", func(c *Config) any { return c.Hooks[deploy.OnHeld] }, []deploy.Task{
			{Name: "a b", Run: []string{"a", "b"}, Timeout: 5 * time.Minute}, {Name: "c", Run: []string{"c"}, Timeout: time.Second},
		}},
		{"checks = [{ run = ['a'], required = true }]", func(c *Config) any { return c.Checks }, []deploy.Check{
			{Task: deploy.Task{Name: "a", Run: []string{"a"}, Timeout: 5 * time.Minute}, Required: true},
		}},
	} {
		got, problems := parsed(c.text)
		assert.Equal(t, c.text+": problems", problems, nil)
		assert.Equal(t, c.text, c.got(got), c.want)
	}
}

func TestConfigProblems(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		// Unknown keys, wherever they stand.
		{"at the top", "root = '/a'\nroots = '/a'", []string{"F:2:1: roots: unknown key"}},
		{"in a section", "[health]\n  pth = '/'", []string{"F:2:3: health.pth: unknown key"}},
		{"dotted", "health.pth = '/'", []string{"F:1:8: health.pth: unknown key"}},
		{"in an inline table", "health = { path = '/', pth = 1 }", []string{"F:1:24: health.pth: unknown key"}},
		{"in a hook", "[[hooks.before_swap]]\nrun = ['a']\nrnu = 1", []string{"F:3:1: hooks.before_swap[0].rnu: unknown key"}},
		{"in a later hook", "[[hooks.on_held]]\nrun = ['a']\n[[hooks.on_held]]\nrun = ['a']\nshell = true", []string{"F:5:1: hooks.on_held[1].shell: unknown key"}},
		{"in a hook of an inline list", "hooks.on_held = [{ run = ['a'] }, { run = ['a'], x = 1 }]", []string{"F:1:50: hooks.on_held[1].x: unknown key"}},
		{"a section", "[helth]\npath = '/'", []string{"F:2:1: helth.path: unknown key"}},
		{"an empty section", "[helth]", []string{"F:1:2: helth: unknown key"}},
		{"a section in a section", "[health.deep]\nx = 1", []string{"F:2:1: health.deep.x: unknown key"}},
		{"a hook", "[[hooks.after_swap]]\nrun = ['a']", []string{"F:1:9: hooks.after_swap: unknown key", "F:2:1: hooks.after_swap[0].run: unknown key"}},
		{"quoted", "\"my key\" = 1", []string{"F:1:1: \"my key\": unknown key"}},

		// Wrong types.
		{"number for a text", "[health]\nhost = 1", []string{"F:2:1: health.host: it must be a string, not the number 1"}},
		{"text for a number", "keep = '5'", []string{`F:1:1: keep: it must be a whole number, not the string "5"`}},
		{"broken number", "keep = 1.5", []string{"F:1:1: keep: it must be a whole number, not the number 1.5"}},
		{"text for a truth", "rollback.automatic = 'yes'", []string{`F:1:10: rollback.automatic: it must be true or false, not the string "yes"`}},
		{"truth for a text", "health.host = true", []string{"F:1:8: health.host: it must be a string, not true"}},
		{"text for a list", "release.require = 'manage.py'", []string{`F:1:9: release.require: it must be a list of strings, not the string "manage.py"`}},
		{"list of something else", "release.require = ['a', 1]", []string{"F:1:9: release.require: it must be a list of strings; one of them is the number 1"}},
		{"list for a text", "health.host = []", []string{"F:1:8: health.host: it must be a string, not a list"}},
		{"table for a text", "[root]", []string{"F:1:2: root: it must be a path, not a table"}},
		{"number for a duration", "health.timeout = 2", []string{`F:1:8: health.timeout: it must be a duration like "30s", not the number 2`}},
		{"text for a table", "health.headers = 'X: 1'", []string{`F:1:8: health.headers: it must be a table of strings, not the string "X: 1"`}},
		{"number in a table", "health.headers = { X = 1 }", []string{"F:1:20: health.headers.X: it must be a string, not the number 1"}},
		{"one hook, not a list of them", "[hooks.on_held]\nrun = ['a']", []string{
			"F:1:8: hooks.on_held: it must be written as [[hooks.on_held]], not a table", "F:2:1: hooks.on_held.run: unknown key",
		}},
		{"hooks as texts", "hooks.on_held = ['a']", []string{"F:1:7: hooks.on_held: it must be written as [[hooks.on_held]]"}},
		{"a section as a value", "health = '/health/'", []string{"F:1:1: health: it must be a table, written as [health]"}},
		{"hooks as a value", "hooks = true", []string{"F:1:1: hooks: it must be a table, written as [hooks]"}},
		{"a date", "root = 2026-11-21", []string{"F:1:1: root: it must be a path, not 2026-11-21"}},

		// Bad values.
		{"no duration", "health.timeout = '2 seconds'", []string{`F:1:8: health.timeout: "2 seconds" is not a duration; write it like "30s", "1m30s" or "100ms"`}},
		{"a duration without unit", "health.timeout = '2'", []string{`F:1:8: health.timeout: "2" is not a duration; write it like "30s", "1m30s" or "100ms"`}},
		{"nothing", "health.stable = '0s'", []string{"F:1:8: health.stable: it must be positive"}},
		{"less than nothing", "health.stable = '-1s'", []string{"F:1:8: health.stable: it must be positive"}},
		{"for ever", "health.deadline = '25h'", []string{"F:1:8: health.deadline: it must be at most a day"}},
		{"shorter than stable", "health.deadline = '2s'", []string{"F:1:8: health.deadline: health.deadline (2s) must be longer than health.stable (2s)"}},
		{"shorter than another stable", "[health]\nstable = '50s'\ndeadline = '40s'", []string{"F:3:1: health.deadline: health.deadline (40s) must be longer than health.stable (50s)"}},
		{"relative root", "root = 'srv/app'", []string{`F:1:1: root: "srv/app" is not an absolute path`}},
		{"keep nothing", "keep = 0", []string{"F:1:1: keep: it must be from 1 to 10000"}},
		{"leaves the release", "release.require = ['../x']", []string{`F:1:9: release.require: "../x" leaves the release; use paths relative to it`}},
		{"no service", "service.unit = 'gunicorn'", []string{`F:1:9: service.unit: "gunicorn" is not the name of a service; it ends in .service`}},
		{"not yet", "service.manager = 'compose'", []string{`F:1:9: service.manager: "compose" is not one of system, user`}},
		{"bind", "health.bind = 'unix:relative'", []string{`F:1:8: health.bind: bind "unix:relative" is not an absolute path; write unix:/run/…`}},
		{"path", "health.path = 'health'", []string{`F:1:8: health.path: "health" does not start with /`}},
		{"path with a space", "health.path = '/a b'", []string{`F:1:8: health.path: "/a b" is not the path of a URL`}},
		{"path with an escape", `health.path = "/\u001b"`, []string{`F:1:8: health.path: "/\x1b" is not the path of a URL`}},
		{"host", "health.host = 'a/b'", []string{`F:1:8: health.host: "a/b" is not the name of a host`}},
		{"header", "health.headers = { \"X Y\" = 'a' }", []string{`F:1:8: health.headers: "X Y" is not the name of a header`}},
		{"header for host", "health.headers = { host = 'a' }", []string{"F:1:8: health.headers: the Host header is health.host"}},
		{"header with a line break", `health.headers = { X = "a\nY: b" }`, []string{"F:1:8: health.headers: the value of X has a control character"}},
		{"status", "health.status = [99]", []string{"F:1:8: health.status: it must be a list of whole numbers from 100 to 599"}},
		{"no status", "health.status = []", []string{"F:1:8: health.status: it is empty"}},
		{"kind", "proxy.kind = 'caddy'", []string{`F:1:7: proxy.kind: "caddy" is not one of nginx, none`}},
		{"url", "proxy.url = '127.0.0.1/health/'", []string{`F:1:7: proxy.url: it is neither "" nor an address like http://127.0.0.1/health/`}},
		{"url of something else", "proxy.url = 'ftp://a/'", []string{`F:1:7: proxy.url: it is neither "" nor an address like http://127.0.0.1/health/`}},
		{"a rehearsal of nothing", "rehearse.run = []", []string{`F:1:10: rehearse.run: it names no program; write ["PROGRAM", "--bind", "{bind}", …]`}},
		{"a rehearsal of a name", `rehearse.run = ["gunicorn", "-b", "{bind}"]`, []string{`F:1:10: rehearse.run: "gunicorn" is not an absolute path; {release} stands for the release's directory`}},
		{"a rehearsal that listens nowhere", `rehearse.run = ["{release}/venv/bin/uvicorn", "app:app"]`, []string{"F:1:10: rehearse.run: it doesn't say where to listen: {bind} stands for gunicorn's --bind, {socket} for the path of that unix socket"}},
		{"a rehearsal without workers", "rehearse.workers = 0", []string{"F:1:10: rehearse.workers: it must be from 1 to 1000"}},
		{"an action", `service.action = "stop"`, []string{`F:1:9: service.action: "stop" is not one of restart, reload`}},
		{"no run", "[[checks]]\nname = 'a'", []string{`F:1:3: checks[0]: it has no run = ["PROGRAM", "ARGUMENT", …]`}},
		{"empty run", "[[checks]]\nrun = []", []string{`F:2:1: checks[0].run: it names no program; write ["PROGRAM", "ARGUMENT", …]`}},
		{"run of nothing", "[[checks]]\nrun = ['']", []string{`F:2:1: checks[0].run: it names no program; write ["PROGRAM", "ARGUMENT", …]`}},

		{"all at once, in the order of the file", `
colour = 1
keep = 0
[health]
status = ["200"]
stable = "soon"
[[checks]]
run = ["a"]
name = 1
[proxy]
port = 80
reload = "always"
`, []string{
			"F:2:1: colour: unknown key",
			"F:3:1: keep: it must be from 1 to 10000",
			"F:5:1: health.status: it must be a list of whole numbers from 100 to 599",
			`F:6:1: health.stable: "soon" is not a duration; write it like "30s", "1m30s" or "100ms"`,
			"F:9:1: checks[0].name: it must be a string, not the number 1",
			"F:11:1: proxy.port: unknown key",
			`F:12:1: proxy.reload: "always" is not one of when-changed, never`,
		}},
		{"two on a line", "health = { b = 1, a = 1 }", []string{"F:1:12: health.b: unknown key", "F:1:19: health.a: unknown key"}},
		{"Windows line ends", "keep = 5\r\nroots = '/a'\r\n", []string{"F:2:1: roots: unknown key"}},

		// What isn't TOML: nothing can be said of the rest.
		{"no TOML", "root = /srv/app\nkeep = 0", []string{"F:1:8: "}},
		{"no end", "[health]\nstatus = [200", []string{"F:2:"}},
		{"twice", "keep = 1\nkeep = 2", []string{"F:2:1: "}},
		{"a section twice", "[health]\n[proxy]\n[health]\n", []string{"F:3:"}},
		{"no UTF-8", "root = \"\xff\"", []string{"F:1:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := parsed(c.text)
			if len(c.want) == 1 && len(got) == 1 && !strings.Contains(c.want[0][4:], ": ") || strings.HasSuffix(c.want[0], ": ") {
				// The library's own words, of which only the place is ours.
				if len(got) != 1 || !strings.HasPrefix(got[0], c.want[0]) || strings.Contains(got[0], "\n") {
					t.Errorf("%q, want %s…", got, c.want[0])
				}
				return
			}
			assert.Equal(t, "problems", got, c.want)
		})
	}
}

var position = regexp.MustCompile(`^F:(\d+):(\d+): .`)

// Whatever a configuration says, every problem has a place inside the file, and what has none can be used.
func FuzzConfig(f *testing.F) {
	f.Add(contractExample)
	for _, seed := range []string{
		"", "[[checks]]\nrun = ['a']\n[[checks]]\nx = 1", "a.b.c = 1", "hooks = [[{ run = 1 }]]", "[a]\n[a.b]\nc = [{}, {d = 1}]",
		"\"a\\nb\" = 1", "[health]\nheaders = { X.Y = 1 }", "root = '''\n/a'''", "[[hooks.on_held.x]]\n[hooks.on_held.x.y]\nz = 1", "'' = 1",
		"[['']]", "checks = [1, { run = ['a'] }]", "\xef\xbb\xbfkeep = 1", "keep = 0x5\nroot = \"/\\u0000\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := parsed(text)
		lines := strings.Split(text, "\n")
		for _, p := range problems {
			m := position.FindStringSubmatch(p)
			if m == nil {
				t.Fatalf("no place: %q", p)
			}
			line, _ := strconv.Atoi(m[1])
			column, _ := strconv.Atoi(m[2])
			if line < 1 || line > len(lines) || column < 1 || column > len(lines[line-1])+1 {
				t.Fatalf("not in the file: %q", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		if !filepath.IsAbs(c.Root) || !filepath.IsAbs(c.StateDir) || c.Keep < 1 || c.Health.Interval <= 0 || c.Health.Timeout <= 0 ||
			c.Health.Stable <= 0 || len(c.Health.Status) == 0 || ValidUnit(c.Service.Unit) != nil || ValidPath(c.Health.Path) != nil {
			t.Fatalf("taken without a problem: %+v", c)
		}
		for _, check := range c.Checks {
			if len(check.Run) == 0 || check.Run[0] == "" || check.Timeout <= 0 {
				t.Fatalf("taken without a problem: %+v", check)
			}
		}
	})
}

func TestLoadConfig(t *testing.T) {
	files := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			t.Helper()
			for _, n := range names {
				assert.OK(t, os.WriteFile(filepath.Join(dir, n), []byte("root = '/srv/"+n+"'\n"), 0o600))
			}
		}
	}
	for _, c := range []struct {
		name      string
		given     func(*testing.T, string)
		file, app string // DIR stands for the directory
		want      string // app and root
		err       string // DIR as well
	}{
		{"none", files(), "", "", "app /srv/app", ""},
		{"none, and the default app", files(), "", "app", "app /srv/app", ""},
		{"none, and an app", files(), "", "shop", "", `there is no configuration DIR/shop.toml for app "shop"`},
		{"one", files("shop.toml"), "", "", "shop /srv/shop.toml", ""},
		{"one, and its app", files("shop.toml"), "", "shop", "shop /srv/shop.toml", ""},
		{"one, and another app", files("shop.toml"), "", "blog", "", `there is no configuration DIR/blog.toml for app "blog" (there are: shop)`},
		{"one, and the default app", files("shop.toml"), "", "app", "", `there is no configuration DIR/app.toml for app "app" (there are: shop)`},
		{"several", files("shop.toml", "blog.toml"), "", "", "", "there are several apps; say which with --app NAME (there are: blog, shop)"},
		{"several, and one of them", files("shop.toml", "blog.toml"), "", "blog", "blog /srv/blog.toml", ""},
		{"other files", files("shop.toml", "shop.toml.bak", "README"), "", "", "shop /srv/shop.toml", ""},
		{"a file", files("shop.toml", "blog.toml"), "DIR/blog.toml", "", "blog /srv/blog.toml", ""},
		{"a file of another name", files("x.conf"), "DIR/x.conf", "", "x.conf /srv/x.conf", ""},
		{"a file and an app", files("shop.toml"), "DIR/shop.toml", "blog", "blog /srv/shop.toml", ""},
		{"a file whose name is no app's", files("a b.toml"), "DIR/a b.toml", "", "", `DIR/a b.toml: "a b" is not a name for an app; use letters, digits, '.', '_' and '-'; name the app with --app`},
		{"the same, with an app", files("a b.toml"), "DIR/a b.toml", "ab", "ab /srv/a b.toml", ""},
		{"an app that leaves the directory", files("shop.toml"), "", "../shop", "", `"../shop" is not a name for an app; use letters, digits, '.', '_' and '-'`},
		{"a file that is not there", files(), "DIR/shop.toml", "", "", "cannot read the configuration DIR/shop.toml: no such file or directory"},
		{
			"a directory", func(t *testing.T, dir string) {
				t.Helper()
				assert.OK(t, os.Mkdir(filepath.Join(dir, "shop.toml"), 0o755))
			},
			"", "", "", "cannot read the configuration DIR/shop.toml: it is not a file",
		},
		{"huge", func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.WriteFile(filepath.Join(dir, "shop.toml"), make([]byte, maxConfig+1), 0o600))
		}, "", "", "", "cannot read the configuration DIR/shop.toml: it is larger than 1024 KiB"},
		{
			"a link to nothing", func(t *testing.T, dir string) {
				t.Helper()
				assert.OK(t, os.Symlink("gone", filepath.Join(dir, "shop.toml")))
			},
			"", "", "", "cannot read the configuration DIR/shop.toml: no such file or directory",
		},
		{"a bad one", func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.WriteFile(filepath.Join(dir, "shop.toml"), []byte("keep = 0\nx = 1\n"), 0o600))
		}, "", "", "", "DIR/shop.toml:1:1: keep: it must be from 1 to 10000\nDIR/shop.toml:2:1: x: unknown key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.given(t, dir)
			at := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			got, err := Load(at(c.file), c.app, dir)
			switch {
			case c.err != "" && (err == nil || err.Error() != at(c.err)):
				t.Errorf("error %v\nwant  %s", err, at(c.err))
			case c.err == "" && err != nil:
				t.Errorf("error %v", err)
			case c.err == "":
				assert.Equal(t, "configuration", got.App+" "+got.Root, c.want)
				assert.Equal(t, "state", got.StateDir, "/var/lib/deploygate/"+got.App)
			}
		})
	}
}

func TestConfigDirThatIsNotThere(t *testing.T) {
	c, err := Load("", "", filepath.Join(t.TempDir(), "gone"))
	assert.OK(t, err)
	assert.Equal(t, "app", c.App, "app")
}

func TestValidNames(t *testing.T) {
	for _, c := range []struct {
		valid func(string) error
		good  []string
		bad   []string
	}{
		{ValidApp, []string{"shop", "a.b-c_d", "9", strings.Repeat("a", 64)}, []string{"", ".", "..", "-a", "a/b", "a b", "ä", strings.Repeat("a", 65), "a\n"}},
		{ValidUnit, []string{"a.service", "a@.service", "a@b:c.service", `a\x2db.service`}, []string{"", "a", ".service", "a.socket", "../a.service", "a b.service", "a.service\n", "*.service"}},
		{ValidPath, []string{"/", "/health/", "/a?b=c"}, []string{"", "a", "http://a/", "/a b", "/a#b", "/%zz", "/\n"}},
		{validHost, []string{"localhost", "example.org:8000", "[::1]"}, []string{"", "a b", "a/b", "u@h", "a\r\nX: 1"}},
		{validURL, []string{"", "http://a/", "https://a:1/b?c"}, []string{"a", "/a", "http://", "file:///etc/passwd", "http://a b/", ":"}},
	} {
		for _, s := range c.good {
			if err := c.valid(s); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
		for _, s := range c.bad {
			if c.valid(s) == nil {
				t.Errorf("%q is taken", s)
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{{"a", `the string "a"`}, {int64(1), "the number 1"}, {1.5, "the number 1.5"}, {true, "true"}, {[]any{}, "a list"}, {map[string]any{}, "a table"}} {
		assert.Equal(t, fmt.Sprint(c.v), describe(c.v), c.want)
	}
}
