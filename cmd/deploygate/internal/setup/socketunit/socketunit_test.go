package socketunit

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release/unit"
)

func argv(line string) []string { return strings.Fields(line) }

// site is a unit as gunicorn's documentation has it, that runs.
func site(change ...func(*Facts)) Facts {
	f := Facts{
		Service: unit.Description{
			Name: "shop.service", Type: "notify", User: "app", Group: "web", RuntimeDirectories: []string{"shop"},
			RuntimeDirectoryMode: 0o755, RuntimeDirectoryPreserve: "no",
			ExecStart: argv("/venv/bin/gunicorn --bind unix:/run/shop/shop.sock shop.wsgi"),
		},
		Scope: unit.System, Server: "gunicorn", Listen: "/run/shop/shop.sock", Releases: "/srv/shop/releases", Runtime: "/run", Dir: "/etc/systemd/system",
		Seen: &Seen{Socket: Rights{"app", "web", 0o777}, Directory: Rights{"app", "web", 0o755}},
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func tcp(listen string) func(*Facts) {
	return func(f *Facts) {
		f.Listen, f.Seen = listen, &Seen{}
		f.Service.ExecStart = argv("gunicorn --bind " + listen + " shop.wsgi")
	}
}

func TestThePairIsWhole(t *testing.T) {
	p, err := Make(site())
	if err != nil {
		t.Fatal(err)
	}
	want := Pair{
		Socket: "shop.socket",
		Files: []File{
			{"/etc/systemd/system/shop.socket", `# Made by deploygate init: connections wait here while shop.service restarts.
[Unit]
Description=socket of shop.service

[Socket]
ListenStream=/run/shop/shop.sock
SocketUser=app
SocketGroup=web
SocketMode=0777
DirectoryMode=0755
# Not every server replaces a socket that is there.
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
`},
			{"/etc/systemd/system/shop.service.d/zz-socket.conf", `# Made by deploygate init: shop.socket listens, and gunicorn takes its socket instead of its own.
[Unit]
Requires=shop.socket
After=shop.socket

[Service]
# Not the socket's: it would go, with the socket in it, whenever the service stops.
RuntimeDirectory=
`},
		},
		Steps: []string{
			"systemctl stop shop.service", "systemctl daemon-reload", "systemctl enable --now shop.socket", "systemctl start shop.service",
		},
		Back: []string{
			"systemctl stop shop.service shop.socket", "systemctl disable shop.socket",
			"rm /etc/systemd/system/shop.socket /etc/systemd/system/shop.service.d/zz-socket.conf",
			"systemctl daemon-reload", "systemctl start shop.service",
		},
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
}

func TestWhatTheFilesSay(t *testing.T) {
	for _, c := range []struct {
		name      string
		f         Facts
		has, lack []string // lines
	}{
		{
			"other runtime directories stay, with their mode, which a reset forgets",
			site(func(f *Facts) {
				f.Service.RuntimeDirectories, f.Service.RuntimeDirectoryMode = []string{"shop", "cache", "a%b"}, 0o700
				f.Seen.Directory.Mode = 0o700
			}),
			[]string{"RuntimeDirectory=", "RuntimeDirectory=cache", "RuntimeDirectory=a%%b", "RuntimeDirectoryMode=0700", "SocketMode=0700"},
			[]string{"RuntimeDirectory=shop"},
		},
		{
			"one that outlives a stop stays the service's",
			site(func(f *Facts) {
				f.Service.RuntimeDirectoryPreserve, f.Seen.Beside, f.Service.PIDFile = "yes", []string{"pid"}, "/run/shop/pid"
			}),
			[]string{"SocketMode=0777"},
			[]string{"[Service]", "RuntimeDirectory="},
		},
		{
			"one that outlives a restart alone doesn't",
			site(func(f *Facts) { f.Service.RuntimeDirectoryPreserve = "restart" }),
			[]string{"RuntimeDirectory="},
			nil,
		},
		{
			"a directory above the socket's goes, too",
			site(func(f *Facts) { f.Listen = "/run/shop/sub/shop.sock" }),
			[]string{"RuntimeDirectory="},
			nil,
		},
		{
			"a neighbour with a name that begins alike stays",
			site(func(f *Facts) { f.Listen = "/run/shop2/shop.sock"; f.Service.PIDFile = "/run/shop2/pid" }),
			nil,
			[]string{"[Service]"},
		},
		{
			"a port needs no rights",
			site(tcp("127.0.0.1:8000")),
			[]string{"ListenStream=127.0.0.1:8000"},
			[]string{"[Service]", "SocketMode=", "FreeBind=yes", "DirectoryMode=0755"},
		},
		{"every address", site(tcp("0.0.0.0:8000")), []string{"ListenStream=0.0.0.0:8000"}, []string{"FreeBind=yes"}},
		{"every IPv6 address", site(tcp("[::]:8000")), []string{"ListenStream=[::]:8000"}, []string{"FreeBind=yes"}},
		{"an address that comes later at boot", site(tcp("10.0.0.5:8000")), []string{"ListenStream=10.0.0.5:8000", "FreeBind=yes"}, nil},
		{
			"an instance of a template",
			site(func(f *Facts) { f.Service.Name = "shop@one.service" }),
			[]string{"Requires=shop@one.socket", "Description=socket of shop@one.service"},
			nil,
		},
		{
			"only root gives files away",
			site(func(f *Facts) {
				f.Scope, f.Runtime, f.Listen = unit.User, "/run/user/1000", "/run/user/1000/shop/shop.sock"
				f.Service.ExecStart = argv("gunicorn --bind unix:/run/user/1000/shop/shop.sock shop.wsgi")
			}),
			[]string{"SocketMode=0777", "RuntimeDirectory="},
			[]string{"SocketUser=app", "SocketGroup=web"},
		},
		{
			"unseen: as the unit and gunicorn's options say",
			site(func(f *Facts) {
				f.Seen = nil
				f.Service.ExecStart = argv("/usr/bin/python3 -u -m gunicorn -m 0o027 -u shop -g www-data --bind unix:/run/shop/shop.sock shop.wsgi")
			}),
			[]string{"SocketUser=shop", "SocketGroup=www-data", "SocketMode=0750"},
			nil,
		},
		{
			"unseen: root's",
			site(func(f *Facts) { f.Seen, f.Service.User, f.Service.Group = nil, "", "" }),
			[]string{"SocketMode=0777"},
			[]string{"SocketUser=", "SocketGroup="},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Make(c.f)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(p.Files[0].Text+p.Files[1].Text, "\n")
			count := func(want string) (n int) {
				for _, l := range lines {
					if l == want {
						n++
					}
				}
				return n
			}
			for _, want := range c.has {
				if count(want) != 1 {
					t.Errorf("%d lines %q in\n%s", count(want), want, strings.Join(lines, "\n"))
				}
			}
			for _, not := range c.lack {
				if count(not) > 0 {
					t.Errorf("there is %q in\n%s", not, strings.Join(lines, "\n"))
				}
			}
			if unseen := c.f.Seen == nil; unseen != (len(p.Notes) > 0) {
				t.Errorf("seen %v, and the notes are %q", !unseen, p.Notes)
			}
		})
	}
}

// The directory of the socket is everybody's to enter afterwards: whom it kept out, the socket has to.
func TestTheSocketKeepsOutWhomItsDirectoryDid(t *testing.T) {
	own := Rights{"app", "web", 0}
	with := func(r Rights, mode fs.FileMode) Rights { r.Mode = mode; return r }
	for _, c := range []struct {
		dir, socket, want Rights
		refused           string
	}{
		{with(own, 0o755), with(own, 0o777), with(own, 0o777), ""},
		{with(own, 0o711), with(own, 0o666), with(own, 0o666), ""},
		{with(own, 0o750), with(own, 0o777), with(own, 0o770), ""},
		{with(own, 0o710), with(own, 0o766), with(own, 0o760), ""},
		{with(own, 0o700), with(own, 0o777), with(own, 0o700), ""},
		{with(own, 0o744), with(own, 0o777), with(own, 0o700), ""}, // it could be listed, and not entered
		{Rights{"root", "root", 0o755}, with(own, 0o777), with(own, 0o777), ""},
		{Rights{"app", "app", 0o750}, with(own, 0o777), Rights{}, "keeps out others than the socket itself"},
		{Rights{"root", "web", 0o750}, with(own, 0o777), Rights{}, "keeps out others than the socket itself"},
	} {
		f := site(func(f *Facts) { f.Seen.Directory, f.Seen.Socket = c.dir, c.socket })
		got, err := f.rights(true)
		switch {
		case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%v in %v: %v, want …%s…", c.socket, c.dir, err, c.refused)
		case c.refused == "" && (err != nil || got != c.want):
			t.Errorf("%v in %v: %v (%v), want %v", c.socket, c.dir, got, err, c.want)
		}
		if got, err := f.rights(false); err != nil || got != c.socket {
			t.Errorf("its directory stays, and it gets %v (%v), want %v", got, err, c.socket)
		}
	}
}

func TestWhatASocketUnitWouldBreakIsRefused(t *testing.T) {
	bind := func(options string) func(*Facts) {
		return func(f *Facts) {
			f.Service.ExecStart = argv("gunicorn --bind unix:/run/shop/shop.sock " + options + " shop.wsgi")
		}
	}
	for _, c := range []struct {
		name string
		f    Facts
		want string
	}{
		{"no gunicorn", site(func(f *Facts) { f.Server = "" }), "runs no server that is known"},
		{"forking", site(func(f *Facts) { f.Service.Type = "forking" }), "Type=forking"},
		{"oneshot", site(func(f *Facts) { f.Service.Type = "oneshot" }), "Type=oneshot"},
		{"--daemon", site(bind("--daemon")), "--daemon"},
		{"-D", site(bind("-D")), "--daemon"},
		{"a prefix", site(func(f *Facts) {
			f.Command, f.Service.ExecStartPrefix = argv("/venv/bin/uvicorn --fd 3 shop:app"), "privileged"
		}), "a prefix (privileged)"},
		{"two binds", site(bind("-b 127.0.0.1:8000")), "several binds"},
		{"two binds in one word", site(func(f *Facts) { f.Service.ExecStart = argv("gunicorn -b :8000,:8001 shop.wsgi") }), "several binds"},
		{"another listener", site(func(f *Facts) { f.Seen.More = []string{"127.0.0.1:9000"} }), "also listens on 127.0.0.1:9000"},
		{"a space in the path", site(func(f *Facts) { f.Listen = "/run/my shop/shop.sock" }), "would need quoting"},
		{"a specifier in the path", site(func(f *Facts) { f.Listen = "/run/%i/shop.sock" }), "would need quoting"},
		{"a second line in the path", site(func(f *Facts) { f.Listen = "/run/shop.sock\nExecStartPre=/bin/evil" }), "would need quoting"},
		{"a name for an address", site(tcp("db.example:8000")), "resolve names"},
		{"in a release", site(func(f *Facts) { f.Listen = "/srv/shop/releases/v1/shop.sock" }), "in a release"},
		{"a root of its own", site(func(f *Facts) { f.Service.OwnRoot = true }), "root directory of its own"},
		{"rm before", site(func(f *Facts) { f.Service.Around = [][]string{argv("/bin/rm -f /run/shop/shop.sock")} }), "take it out: /bin/rm -f /run/shop/shop.sock"},
		{"rm by a shell", site(func(f *Facts) { f.Service.Around = [][]string{{"/bin/sh", "-c", "true;rm -f /run/shop/*.sock"}} }), "makes or removes something"},
		{"rm of the directory", site(func(f *Facts) { f.Service.Around = [][]string{argv("/bin/rm -rf /run/shop")} }), "makes or removes something"},
		{"mkdir that wants to be first", site(func(f *Facts) { f.Service.Around = [][]string{argv("/bin/mkdir /run/shop")} }), "makes or removes something"},
		{"DynamicUser=", site(func(f *Facts) { f.Service.DynamicUser = true }), "DynamicUser=yes"},
		{"a runtime directory with a link", site(func(f *Facts) { f.Service.RuntimeDirectoryLinks = true }), "with a symlink"},
		{"PIDFile=", site(func(f *Facts) { f.Service.PIDFile = "/run/shop/pid" }), "PIDFile="},
		{"a pid file is there", site(func(f *Facts) { f.Seen.Beside = []string{"pid", "x"} }), "pid is in /run/shop beside the socket"},
		{"a pid file will be there", site(bind("--pid=/run/shop/pid")), "uses /run/shop for more than its socket"},
		{"in the environment", site(func(f *Facts) { f.Service.Environment = []string{"SECRET=geheim CACHE=/run/shop/cache"} }), "uses /run/shop for more"},
		{"a umask that isn't one", site(bind("--umask $UMASK"), func(f *Facts) { f.Seen = nil }), "--umask $UMASK is not understood"},
		{"an owner that can't be written", site(func(f *Facts) { f.Seen.Socket.Owner = "a\nb" }), "can't be written into a unit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Make(c.f)
			switch {
			case err == nil:
				t.Errorf("it is made: %v", p)
			case !strings.Contains(err.Error(), c.want):
				t.Errorf("%q, want …%s…", err, c.want)
			case strings.Contains(err.Error(), "geheim"):
				t.Errorf("a secret is told: %q", err)
			case len(p.Files) > 0:
				t.Errorf("and there are files: %v", p.Files)
			}
		})
	}
}

func TestWhatDoesNoHarmIsLetThrough(t *testing.T) {
	for name, f := range map[string]Facts{
		"mkdir -p before": site(func(f *Facts) {
			f.Service.Around = [][]string{argv("/bin/mkdir -p /run/shop"), argv("/bin/chown app /run/shop")}
		}),
		"rm elsewhere":            site(func(f *Facts) { f.Service.Around = [][]string{argv("/bin/rm -rf /run/shop2 /var/cache/shop")} }),
		"a root, and a port":      site(tcp("127.0.0.1:8000"), func(f *Facts) { f.Service.OwnRoot, f.Service.DynamicUser = true, true }),
		"a pid file elsewhere":    site(func(f *Facts) { f.Service.PIDFile = "/run/shop.pid" }),
		"the directory isn't its": site(func(f *Facts) { f.Service.RuntimeDirectories = nil; f.Seen.Beside = []string{"x"} }),
		"the bind in the environment": site(func(f *Facts) {
			f.Service.ExecStart, f.Service.Environment = argv("gunicorn shop.wsgi"), []string{"GUNICORN_CMD_ARGS=--bind unix:/run/shop/shop.sock"}
		}),
	} {
		if _, err := Make(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStepsAreQuotedForAShell(t *testing.T) {
	p, err := Make(site(func(f *Facts) {
		f.Service.Name, f.Scope, f.Dir = `my\x2dshop.service`, unit.User, "/home/o'neil x/.config/systemd/user"
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Steps[0], `systemctl --user stop 'my\x2dshop.service'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	want := `rm '/home/o'\''neil x/.config/systemd/user/my\x2dshop.socket' '/home/o'\''neil x/.config/systemd/user/my\x2dshop.service.d/zz-socket.conf'`
	if got := p.Back[2]; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestListenStreamIsWhereGunicornListens(t *testing.T) {
	for bind, want := range map[string]string{
		"unix:/run/shop/../shop/shop.sock": "/run/shop/shop.sock",
		"unix:///run/shop.sock":            "/run/shop.sock",
		"127.0.0.1:8001":                   "127.0.0.1:8001",
		"tcp://127.0.0.1:8001":             "127.0.0.1:8001",
		"127.0.0.1":                        "127.0.0.1:8000",
		"localhost":                        "127.0.0.1:8000",
		"LOCALHOST:80":                     "127.0.0.1:80",
		":8001":                            "0.0.0.0:8001",
		"0.0.0.0:8001":                     "0.0.0.0:8001",
		"[::1]:8001":                       "[::1]:8001",
		"[::]":                             "[::]:8000",
		"unix:shop.sock":                   "",
		"shop.example:8001":                "",
		"127.0.0.1:http":                   "",
		"127.0.0.1:0":                      "",
		"fd://3":                           "",
	} {
		got, err := ListenStream(bind)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q (%v), want %q", bind, got, err, want)
		}
	}
}

func TestWordIsOneOfAUnitFile(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "": `""`, "a b": `"a b"`, `a"b\`: `"a\"b\\"`, "two\nlines": `"two\nlines"`, "100%": "100%%",
	} {
		if got := Word(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
