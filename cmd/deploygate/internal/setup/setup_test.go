package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate/proxy/nginx/conf"
	"deploygate/release/unit"
	"deploygate/scripts/assert"
)

func TestInitFindsTheRoot(t *testing.T) {
	argv := func(line string) []string { return strings.Fields(line) }
	for _, c := range []struct {
		name, root, at string
		d              unit.Description
	}{
		{"working directory", "/srv/shop", "WorkingDirectory=", unit.Description{WorkingDirectory: "/srv/shop/current"}},
		{"below the link", "/srv/shop", "WorkingDirectory=", unit.Description{WorkingDirectory: "/srv/shop/current/src"}},
		{"the first of two", "/srv", "WorkingDirectory=", unit.Description{WorkingDirectory: "/srv/current/current"}},
		{"--chdir", "/srv/shop", "--chdir", unit.Description{WorkingDirectory: "/", ExecStart: argv("gunicorn --chdir /srv/shop/current x")}},
		{"program", "/srv/shop", "ExecStart=", unit.Description{Program: "/srv/shop/current/venv/bin/gunicorn"}},
		{"option", "/srv/shop", "ExecStart=", unit.Description{ExecStart: argv("gunicorn --pythonpath=/srv/shop/current x")}},
		{"a shell's words", "/srv/shop", "ExecStart=", unit.Description{ExecStart: []string{"sh", "-c", "cd /srv/shop/current; exec gunicorn x"}}},
		{"environment", "/srv/shop", "Environment=", unit.Description{Environment: []string{"A=b", "PYTHONPATH=/lib:/srv/shop/current:/x"}}},
		{"a longer name", "", "", unit.Description{WorkingDirectory: "/srv/shop/current-old"}},
		{"a name that ends so", "", "", unit.Description{WorkingDirectory: "/srv/shop/notcurrent"}},
		{"a release itself", "", "", unit.Description{WorkingDirectory: "/srv/shop/releases/v1"}},
		{"in the root directory", "", "", unit.Description{WorkingDirectory: "/current"}},
		{"relative", "", "", unit.Description{WorkingDirectory: "srv/current"}},
		{"nothing", "", "", unit.Description{}},
	} {
		root, at := rootOf(c.d)
		assert.Equal(t, c.name, root, c.root)
		if !strings.HasPrefix(at, c.at) {
			t.Errorf("%s: found in %q, want %s", c.name, at, c.at)
		}
	}
}

func TestInitFindsTheWayThroughNginx(t *testing.T) {
	const app = "location / { proxy_pass http://unix:/run/shop.sock; }"
	for _, c := range []struct{ name, config, host, url string }{
		{"the defaults", "server { listen 80 default_server; server_name _; " + app + " }", "localhost", "http://127.0.0.1"},
		{"no listen at all", "server { " + app + " }", "localhost", "http://127.0.0.1"},
		{"a name", "server { listen 80; server_name Shop.example www.shop.example; " + app + " }", "shop.example", "http://127.0.0.1"},
		{"the first that is a name", "server { listen 80; server_name *.shop.example ~^x $hostname shop.example; " + app + " }", "shop.example", "http://127.0.0.1"},
		{"a port", "server { listen 8080; server_name shop.example; " + app + " }", "shop.example", "http://127.0.0.1:8080"},
		{"an address", "server { listen 10.0.0.5:8080; server_name shop.example; " + app + " }", "shop.example", "http://10.0.0.5:8080"},
		{"IPv6", "server { listen [::1]:8080; server_name shop.example; " + app + " }", "shop.example", "http://[::1]:8080"},
		{"every IPv6 address", "server { listen [::]:80; server_name shop.example; " + app + " }", "shop.example", "http://[::1]"},
		{"another app's server first", "server { listen 80; server_name blog.example; location / { proxy_pass http://127.0.0.1:9000; } } server { listen 80; server_name shop.example; " + app + " }", "shop.example", "http://127.0.0.1"},
		{"an upstream", "upstream shop { server unix:/run/shop.sock; } server { listen 80; server_name shop.example; location / { proxy_pass http://shop; } }", "shop.example", "http://127.0.0.1"},
		{"a redirect to TLS", "server { listen 80; server_name shop.example; return 301 https://$host$request_uri; } server { listen 443 ssl; server_name shop.example; " + app + " }", "shop.example", "https://127.0.0.1"},
		{"TLS the old way", "server { listen 8443; ssl on; server_name shop.example; " + app + " }", "shop.example", "https://127.0.0.1:8443"},
		{"without TLS before with it", "server { listen 443 ssl; listen 8080; server_name shop.example; " + app + " }", "shop.example", "http://127.0.0.1:8080"},
		{"only for a balancer", "server { listen 80 proxy_protocol; listen 8081; server_name shop.example; " + app + " }", "shop.example", "http://127.0.0.1:8081"},
		{"only the path of the app", "server { listen 80; server_name shop.example; location / { return 404; } location /health/ { proxy_pass http://unix:/run/shop.sock; } }", "shop.example", "http://127.0.0.1"},
		{"none", "server { listen 80; server_name shop.example; location / { proxy_pass http://127.0.0.1:9000; } }", "", ""},
		{"no server", "", "", ""},
		{"over a socket alone", "server { listen unix:/run/nginx.sock; server_name shop.example; " + app + " }", "", ""},
	} {
		config, err := conf.Parse(strings.NewReader("# configuration file /etc/nginx/nginx.conf:\nevents {}\nhttp { " + c.config + " }\n"))
		assert.OK(t, err)
		host, url := "", ""
		if ways := waysTo(config, "unix:/run/shop.sock"); len(ways) > 0 {
			host, url = ways[0].request.Host, ways[0].url()
		}
		assert.Equal(t, c.name+": host", host, c.host)
		assert.Equal(t, c.name+": url", url, c.url)
	}
}

func TestSameAddress(t *testing.T) {
	dir := t.TempDir()
	assert.OK(t, os.Symlink(dir, filepath.Join(dir, "link")))
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:8000", "127.0.0.1:8000", true},
		{"localhost:8000", ":8000", true},
		{"[::1]:8000", "0.0.0.0:8000", true},
		{"127.0.0.1:8000", "127.0.0.1:8001", false},
		{"unix:" + dir + "/a", "unix:" + dir + "/link/a", true},
		{"unix:" + dir + "/a", "unix:" + dir + "/b", false},
		{"unix:a", "unix:a", false},
	} {
		assert.Equal(t, c.a+" "+c.b, sameAddress(c.a, c.b), c.want)
	}
}

func TestNewConfig(t *testing.T) {
	dir := t.TempDir()
	at := func(app string) string { return filepath.Join(dir, app+".toml") }
	assert.OK(t, os.WriteFile(at("shop"), nil, 0o600))
	for _, c := range []struct {
		name            string
		file, app       string
		look            bool
		wantApp, wanted string
		err             string
	}{
		{name: "nothing is said", wantApp: "blog", wanted: at("blog")},
		{name: "an app", app: "news", wantApp: "news", wanted: at("news")},
		{name: "a file", file: "/x/news.toml", wantApp: "news", wanted: "/x/news.toml"},
		{name: "an app in a file", file: "/x/y.conf", app: "news", wantApp: "news", wanted: "/x/y.conf"},
		{name: "a bad name", app: "../x", err: `"../x" is not a name for an app`},
		{name: "a file with a bad name", file: "/x/a b.toml", err: `"a b" is not a name for an app`},
		{name: "one that is there", app: "shop", err: at("shop") + " is there already and is left as it is"},
		{name: "the same file", file: at("shop"), err: at("shop") + " is there already and is left as it is"},
		{name: "one that is there, to look", app: "shop", look: true, wantApp: "shop", wanted: at("shop")},
	} {
		app, file, err := File(c.file, c.app, "blog", dir, c.look)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || err == nil && (app != c.wantApp || file != c.wanted) {
			t.Errorf("%s: %q, %q, %v", c.name, app, file, err)
		}
	}
}

func TestWhatAnAppIsCalled(t *testing.T) {
	for _, c := range []struct{ root, unit, want string }{
		{"/srv/app", "gunicorn.service", "app"},
		{"/srv/shop", "gunicorn.service", "shop"},
		{"/srv/shop/app", "gunicorn.service", "shop"},
		{"/opt/www/shop", "web.service", "shop"},
		{"/srv/app", "shop.service", "shop"},
		{"/home/deploy/app", "shop-web.service", "shop-web"},
		{"/srv/app", "gunicorn@shop.service", "shop"},
		{"/srv/app", "gunicorn@1.service", "app"},
		{"/srv/a b", "gunicorn.service", "app"},
		{"/var/www/example.com", "gunicorn.service", "example.com"},
	} {
		assert.Equal(t, c.root+" "+c.unit, nameOf(c.root, c.unit), c.want)
	}
}

func TestWhichAppIsMeant(t *testing.T) {
	app := func(name, config string) App {
		return App{Unit: unit.Description{Name: name + ".service"}, Server: "gunicorn", Root: "/srv/" + name, Config: config}
	}
	asked := func(apps []App) (App, error) { return App{}, Several(apps) }
	for _, c := range []struct {
		name  string
		apps  []App
		named string
		look  bool
		want  string
		err   string
	}{
		{name: "to look", apps: []App{app("shop", "/etc/deploygate/shop.toml")}, look: true, want: "shop.service"},
		{name: "the only one", apps: []App{app("shop", "")}, want: "shop.service"},
		{name: "the only one that isn't configured", apps: []App{app("blog", ""), app("shop", "/etc/deploygate/shop.toml")}, want: "blog.service"},
		{name: "the one that is named", apps: []App{app("blog", ""), app("shop", "")}, named: "shop.service", want: "shop.service"},
		{name: "one of a server that isn't known", apps: []App{app("blog", "")}, named: "odd.service"},
		{name: "several", apps: []App{app("blog", ""), app("shop", "")}, err: "several services that run a web application: blog.service (gunicorn in /srv/blog), shop.service (gunicorn in /srv/shop); say which with --unit UNIT"},
		{name: "none", err: "no service here runs gunicorn, uvicorn, hypercorn or daphne"},
		{name: "it is configured", apps: []App{app("shop", "/etc/deploygate/shop.toml")}, err: "/etc/deploygate/shop.toml is there already and is left as it is: it configures shop.service"},
		{name: "all are", apps: []App{app("blog", "/b"), app("shop", "/s")}, err: "every service that runs a web application is configured already: blog.service (gunicorn in /srv/blog, configured in /b)"},
	} {
		got, err := Choose(c.apps, c.named, c.look, asked)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || got.Unit.Name != c.want {
			t.Errorf("%s: %q, %v", c.name, got.Unit.Name, err)
		}
	}
}

// The steps to releases are words that a shell, and systemd, read as they are meant.
func TestSteps(t *testing.T) {
	for _, c := range []struct {
		name string
		d    unit.Description
		want string
	}{
		{"code in its directory", unit.Description{WorkingDirectory: "/opt/code", Program: "/opt/code/venv/bin/gunicorn", ExecStart: []string{"gunicorn", "-b", ":80", "shop:app"}}, `'[Service]' WorkingDirectory=/srv/code-x/current`},
		{"named once more", unit.Description{WorkingDirectory: "/opt/code", Program: "/opt/code/venv/bin/gunicorn", ExecStart: []string{"gunicorn", "--chdir", "/opt/code/src", "--pythonpath=/opt/code", "a b", "100%", "shop:app"}}, `'[Service]' WorkingDirectory=/srv/code-x/current ExecStart= 'ExecStart=/opt/code/venv/bin/gunicorn --chdir /srv/code-x/current/src --pythonpath=/srv/code-x/current "a b" 100%% shop:app'`},
		{"behind another program, whose words may be secret", unit.Description{WorkingDirectory: "/opt/code", Program: "/usr/bin/env", ExecStart: []string{"env", "A=s3cret", "gunicorn", "--chdir", "/opt/code", "shop:app"}}, `'[Service]' WorkingDirectory=/srv/code-x/current`},
		{"another directory that begins so", unit.Description{WorkingDirectory: "/opt/code", Program: "/usr/bin/gunicorn", ExecStart: []string{"gunicorn", "-c", "/opt/code.py", "shop:app"}}, `'[Service]' WorkingDirectory=/srv/code-x/current`},
	} {
		dir := filepath.Join(t.TempDir(), "code-x")
		assert.OK(t, os.Mkdir(dir, 0o755))
		c.d.Name, c.d.Program = "code-x.service", strings.ReplaceAll(c.d.Program, "/opt/code", dir)
		for i, word := range c.d.ExecStart {
			c.d.ExecStart[i] = strings.ReplaceAll(word, "/opt/code", dir)
		}
		c.want = strings.ReplaceAll(c.want, "/opt/code", dir)
		layout, is := errors.AsType[*LayoutError](newLayout(App{Unit: c.d, Dir: dir}, unit.System))
		if !is || len(layout.Steps) != 8 {
			t.Fatalf("%s: %+v", c.name, layout)
		}
		assert.Equal(t, c.name, layout.Steps[4], `printf '%s\n' `+c.want+` > /etc/systemd/system/code-x.service.d/current.conf`)
	}
	layout, is := errors.AsType[*LayoutError](newLayout(App{Unit: unit.Description{Name: "x.service"}}, unit.System))
	if !is || len(layout.Steps) > 0 || !strings.Contains(layout.Error(), "where its code is isn't known") {
		t.Errorf("%+v", layout)
	}
	layout, is = errors.AsType[*LayoutError](newLayout(App{Unit: unit.Description{Name: "x.service"}, Dir: "/srv"}, unit.System))
	if _, err := os.Stat("/srv"); err == nil && (!is || len(layout.Steps) > 0) {
		t.Errorf("%+v", layout)
	}
}

func TestNaming(t *testing.T) {
	for _, c := range []struct{ app, file, want string }{
		{"app", "", ""},
		{"app", "/etc/deploygate/app.toml", ""},
		{"shop", "/etc/deploygate/shop.toml", " --app shop"},
		{"shop", "/x/shop.toml", " --config /x/shop.toml"},
		{"shop", "/x/y.toml", " --config /x/y.toml --app shop"},
	} {
		assert.Equal(t, c.file, Flags(c.app, c.file), c.want)
	}
}

// below lists everything below a directory but its own name.
func below(t *testing.T, dir string) (names []string) {
	t.Helper()
	assert.OK(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return names
}

func TestCreate(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077)) // what is made is for others, too
	dir := t.TempDir()
	assert.OK(t, Create(socketunit.File{Path: dir + "/x.socket", Text: "one\n"}, socketunit.File{Path: dir + "/d/x.service.d/y.conf", Text: "two\n"}))
	assert.Equal(t, "files", below(t, dir), []string{"d", "d/x.service.d", "d/x.service.d/y.conf", "x.socket"})
	for file, want := range map[string]fs.FileMode{"x.socket": 0o644, "d": fs.ModeDir | 0o755, "d/x.service.d/y.conf": 0o644} {
		info, err := os.Lstat(filepath.Join(dir, file))
		assert.OK(t, err)
		assert.Equal(t, file, info.Mode(), want)
	}
	text, err := os.ReadFile(dir + "/d/x.service.d/y.conf")
	assert.OK(t, err)
	assert.Equal(t, "text", string(text), "two\n")
}

// Whatever is in the way, it stays as it is and nothing else is left.
func TestCreateAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(dir string) error
		second  string
		err     string
		exists  bool
	}{
		{"the first is there", func(dir string) error { return os.WriteFile(dir+"/a", []byte("mine"), 0o600) }, "d/b", "/a is there already and is left as it is; nothing was written", true},
		{"the second is there", func(dir string) error { return os.WriteFile(dir+"/b", []byte("mine"), 0o600) }, "b", "/b is there already", true},
		{"a link to nowhere is there", func(dir string) error { return os.Symlink("/nowhere/at/all", dir+"/b") }, "b", "/b is there already", true},
		{"the second comes meanwhile", func(string) error { return nil }, "a", "/a is there already", true}, // as the first one does
		{"a file for a directory", func(dir string) error { return os.WriteFile(dir+"/d", []byte("mine"), 0o600) }, "d/b", "/d/b: not a directory", false},
		{"a link to nowhere for a directory", func(dir string) error { return os.Symlink("/nowhere/at/all", dir+"/d") }, "d/b", "cannot write", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			assert.OK(t, c.prepare(dir))
			before := below(t, dir)
			err := Create(socketunit.File{Path: dir + "/a", Text: "one"}, socketunit.File{Path: filepath.Join(dir, c.second), Text: "two"})
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, want …%s…", err, c.err)
			}
			_, exists := errors.AsType[*InputError](err)
			assert.Equal(t, "an inputError", exists, c.exists)
			assert.Equal(t, "files", below(t, dir), before)
			for _, name := range before {
				if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(text) != "mine" {
					t.Errorf("%s is %q", name, text)
				}
			}
		})
	}
}

func TestInitWritesWhatDiffersFromTheDefaults(t *testing.T) {
	usual := found{
		Unit: "gunicorn.service", unitAt: "the default", Root: "/srv/app", rootAt: "WorkingDirectory=",
		bind: "unix:/run/gunicorn/gunicorn.sock", bindAt: "not needed", bindRead: true, host: "localhost", url: "http://127.0.0.1",
	}
	const head = "# Written by deploygate init from what this host's unit and nginx say. What isn't here has its default.\n"
	other := found{
		Unit: "shop.service", unitAt: "the only one", Root: "/srv/shop", rootAt: "WorkingDirectory= of\nshop.service",
		bind: "127.0.0.1:8000", bindAt: "where process 7 listens", host: "shop.example", hostAt: "the server_name", url: "https://127.0.0.1:8443", urlAt: "the server", path: "/healthz", pathAt: "asked",
	}
	unknown := usual
	unknown.bind, unknown.bindAt, unknown.bindRead, unknown.host, unknown.url = "", "an example", false, "", ""
	unknown.Open = []string{"health.bind has to be set:\nnobody knows"}
	for _, c := range []struct {
		name string
		f    found
		want string
	}{
		{"the defaults", usual, head + "\n[health]\n# bind = \"unix:/run/gunicorn/gunicorn.sock\" # not needed\n"},
		{"all else", other, head + `
root = "/srv/shop" # WorkingDirectory= of shop.service

[service]
unit = "shop.service" # the only one

[health]
bind = "127.0.0.1:8000" # where process 7 listens
path = "/healthz" # asked
host = "shop.example" # the server_name

[proxy]
url = "https://127.0.0.1:8443" # the server; the path is health.path
`},
		{"unknown", unknown, head + "\n[health]\n# bind = \"unix:/run/gunicorn/gunicorn.sock\" # an example\n\n# health.bind has to be set: nobody knows\n"},
	} {
		assert.Equal(t, c.name, c.f.text(), c.want)
		assert.OK(t, loads("x.toml", c.f.text()))
	}
}

// Whatever a host is called, the file loads and says the same.
func TestInitQuotesWhatItFinds(t *testing.T) {
	for _, odd := range []string{`/srv/a"b`, `/srv/a\b`, "/srv/a\nkeep = 1", "/srv/a\tb\x7f", "/srv/ä #x", `/srv/"""`} {
		f := found{Unit: "gunicorn.service", Root: odd, rootAt: assert.Hostile, bindAt: assert.Hostile, Open: []string{assert.Hostile}}
		text := f.text()
		assert.Harmless(t, odd, text)
		assert.OK(t, loads("x.toml", text))
		var values map[string]any
		assert.OK(t, toml.Unmarshal([]byte(text), &values))
		assert.Equal[any](t, "root", values["root"], odd)
		assert.Equal(t, "keys", len(values), 2) // and [health]
	}
	if err := loads("x.toml", "root = \"srv\"\n"); err == nil || !strings.Contains(err.Error(), "makes no configuration") {
		t.Errorf("error %v", err)
	}
}
