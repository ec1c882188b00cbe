package diagnosis

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate"
	"deploygate/gate/proxy"
	"deploygate/gate/socket"
)

// healthy is a host on which everything is as it should be.
func healthy() *Facts {
	return &Facts{
		Asked: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), Path: "/health/", Host: "shop.example",
		Unit: Unit{
			Name: "shop.service", File: "/etc/systemd/system/shop.service", FileState: "enabled", Restart: "always",
			State:              gate.UnitState{Unit: "shop.service", ActiveState: "active", SubState: "running", Result: "success", MainPID: 7},
			RuntimeDirectories: []string{"shop"}, Timeout: 30 * time.Second,
			Paths: []Path{{Cause: gate.ExecMissing, What: "ExecStart=", Path: "/usr/bin/gunicorn"}},
		},
		Release: Release{Version: "v2", Dir: "/srv/app/releases/v2", Root: "/srv/app"},
		Bind:    "unix:/run/shop/shop.sock",
		Direct:  Asked{Answer: &gate.Answer{Status: 200, Took: 20 * time.Millisecond}},
		Proxied: Asked{Answer: &gate.Answer{Status: 200}},
		Socket:  Socket{Reach: &socket.Walk{IsSocket: true}},
		Proxy: Proxy{
			Program: "/usr/sbin/nginx", Host: "shop.example", URL: "http://127.0.0.1/health/", Unit: "nginx.service",
			Running: true, State: "active (running)", User: "www-data",
			Route: &proxy.Route{ //nolint:gosec // PassAt is no password
				Known: true, Server: "/etc/nginx/shop:1", Location: "/etc/nginx/shop:7", Pass: "http://unix:/run/shop/shop.sock", PassAt: "/etc/nginx/shop:9",
				Targets: []string{"unix:/run/shop/shop.sock"}, ConnectTimeout: time.Minute, ReadTimeout: time.Minute, HostPassed: "$host",
			},
		},
	}
}

// answers has nginx answer with a status, and the gate find that wrong.
func (f *Facts) answers(status int, body string) {
	x := gate.Want{Where: "GET http://127.0.0.1/health/", URL: f.Proxy.URL, Host: f.Host, Status: []int{200}, Proxy: true, Setting: "proxy"}
	a := gate.Answer{Status: status, Body: body}
	if status == 0 {
		a = gate.Answer{Err: syscall.ECONNREFUSED}
	}
	f.Proxied = Asked{&a, x.Judge(a)}
}

func (f *Facts) logs(e proxy.Entry) {
	e.Raw = "2026/11/21 03:00:00 [error] 1#1: *1 " + e.Text
	f.Proxy.Log = append(f.Proxy.Log, e)
}

const own = "<hr><center>nginx/1.22.1</center>"

func TestWhatLiesBetweenAHealthyAppAndItsClients(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*Facts)
		want   []string // LAYER/CAUSE
		says   string
	}{
		"nothing": {func(*Facts) {}, nil, ""},
		"nginx is stopped": {func(f *Facts) {
			f.Proxy.Running, f.Proxy.State = false, "inactive (dead)"
			f.answers(0, "")
		}, []string{"proxy/proxy_stopped"}, "nginx is not running"},
		"nginx listens elsewhere": {func(f *Facts) { f.answers(0, "") }, []string{"proxy/unknown"}, "does not listen where it is asked"},
		"nginx leads elsewhere": {func(f *Facts) {
			f.Proxy.Route.Targets, f.Proxy.Route.Pass = []string{"unix:/run/other.sock"}, "http://unix:/run/other.sock"
			f.answers(502, own)
		}, []string{"proxy/bind_mismatch"}, "sends requests to unix:/run/other.sock, and the app listens at unix:/run/shop/shop.sock"},
		"nginx leads to a name of the loopback": {func(f *Facts) {
			f.Bind, f.Proxy.Route.Targets = "127.0.0.1:8000", []string{"localhost:8000"}
			f.answers(502, own)
		}, []string{"proxy/unknown"}, "502"},
		"nobody knows where nginx leads": {func(f *Facts) {
			f.Proxy.Route.Known, f.Proxy.Route.Targets = false, []string{"unix:/run/other.sock"}
			f.answers(502, own)
		}, []string{"proxy/unknown"}, "502"},
		"nginx leads everything elsewhere": {func(f *Facts) {
			f.Proxy.Route.Known, f.Proxy.Upstreams = false, []string{"127.0.0.1:8000", "unix:/run/other.sock"}
			f.answers(502, own)
		}, []string{"proxy/bind_mismatch"}, "sends requests to 127.0.0.1:8000, unix:/run/other.sock"},
		"a directory is closed": {func(f *Facts) {
			f.Socket.Reach = &socket.Walk{Denied: "/run/shop", Need: socket.NeedSearch}
			f.answers(502, own)
			f.logs(proxy.Entry{Text: "connect() to unix:/run/shop/shop.sock failed (13: Permission denied)", Errno: 13, Upstream: "http://unix:/run/shop/shop.sock:/health/"})
		}, []string{"socket/socket_permission"}, "www-data may not enter /run/shop"},
		"nginx may not connect, for what the file system doesn't show": {func(f *Facts) {
			f.answers(502, own)
			f.logs(proxy.Entry{Text: "connect() failed (13: Permission denied)", Errno: 13, Upstream: "http://unix:/run/shop/shop.sock:/health/"})
		}, []string{"socket/socket_permission"}, "nginx may not connect"},
		"the socket is closed to nginx, which nobody has noticed yet": {func(f *Facts) {
			f.Socket.Reach = &socket.Walk{Denied: "/run/shop/shop.sock", Need: socket.NeedWrite}
		}, nil, ""},
		"the backlog is full": {func(f *Facts) {
			f.answers(502, own)
			f.logs(proxy.Entry{Text: "connect() failed (11: Resource temporarily unavailable)", Errno: 11, Upstream: "http://unix:/run/shop/shop.sock:/health/"})
		}, []string{"socket/backlog_full"}, "full"},
		"nginx is impatient": {func(f *Facts) {
			f.Proxy.Route.ReadTimeout = time.Second
			f.answers(504, own)
			f.logs(proxy.Entry{Text: "upstream timed out (110: Connection timed out)", Errno: 110, Upstream: "http://unix:/run/shop/shop.sock:/health/"})
		}, []string{"proxy/proxy_timeout"}, "gives up after 1s"},
		"an app's own 504": {func(f *Facts) { f.answers(504, "gateway of the app") }, []string{"proxy/unknown"}, "504"},
		"connections are cut": {func(f *Facts) {
			f.answers(502, own)
			f.logs(proxy.Entry{Text: "upstream prematurely closed connection", Upstream: "http://unix:/run/shop/shop.sock:/health/"})
		}, []string{"app/worker_crash"}, "without an answer"},
		"nginx returns by itself": {func(f *Facts) {
			f.Proxy.Route.Returns, f.Proxy.Route.Targets = "return 503", nil
			f.answers(503, own)
		}, []string{"proxy/unexpected_status"}, "nginx answers 503 itself, without asking the app: return 503"},
		"nginx limits requests": {func(f *Facts) {
			f.answers(503, own)
			f.logs(proxy.Entry{Text: `limiting requests, excess: 0.9 by zone "clients"`, Request: "GET /health/ HTTP/1.1"})
		}, []string{"proxy/unexpected_status"}, "limiting requests"},
		"the app's own 503": {func(f *Facts) { f.answers(503, "maintenance") }, []string{"proxy/unknown"}, "503"},
		"nginx changes the Host": {func(f *Facts) {
			f.Proxy.Route.HostPassed = "$proxy_host"
			f.answers(400, "<h1>Bad Request (400)</h1>")
		}, []string{"health/disallowed_host"}, "proxy_set_header Host $proxy_host"},
		"the configuration is broken and nginx still runs": {func(f *Facts) {
			f.Proxy.Test = gate.NewFinding(gate.LayerProxy, gate.ProxyConfigInvalid, "nginx's configuration is not valid").Advise("correct it")
		}, []string{"proxy/proxy_config_invalid"}, "not valid"},
		"the configuration is broken and nginx is down": {func(f *Facts) {
			f.Proxy.Test = gate.NewFinding(gate.LayerProxy, gate.ProxyConfigInvalid, "nginx's configuration is not valid").Advise("correct it")
			f.Proxy.Running = false
			f.answers(0, "")
		}, []string{"proxy/proxy_config_invalid"}, "not valid"},
		"three at once": {func(f *Facts) {
			f.Unit.State.ActiveState, f.Unit.State.SubState = "activating", "auto-restart"
			f.Direct = Asked{&gate.Answer{Err: syscall.ENOENT}, gate.NewFinding(gate.LayerApp, gate.Unknown, "crashed")}
			f.Failed = f.Direct.Finding
			for _, text := range []string{
				"[2026-11-21 03:54:04 +0000] [9] [ERROR] Exception in worker process", tracebackStart,
				`  File "/srv/app/releases/v2/project/wsgi.py", line 1, in <module>`, "    import payments", "ModuleNotFoundError: No module named 'payments'",
			} {
				f.Log = append(f.Log, gate.LogLine{PID: 9, Text: text})
			}
			f.Bind = "unix:/run/shop/wrong.sock"
			f.Proxy.Running = false
			f.answers(0, "")
		}, []string{"app/import_error", "proxy/bind_mismatch", "proxy/proxy_stopped"}, "payments"},
		"what nginx says of an app that is down": {func(f *Facts) {
			f.Unit.State.ActiveState = "inactive"
			f.Direct = Asked{&gate.Answer{Err: syscall.ENOENT}, gate.NewFinding(gate.LayerSocket, gate.SocketMissing, "gone")}
			f.Failed = f.Direct.Finding
			f.answers(502, own)
			f.logs(proxy.Entry{Text: "connect() failed (2: No such file or directory)", Errno: 2, Upstream: "http://unix:/run/shop/shop.sock:/health/"})
		}, []string{"service/service_stopped"}, "shop.service is not running"},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			c.breaks(f)
			found := Diagnose(f)
			var got []string
			for _, one := range found {
				got = append(got, string(one.Layer)+"/"+string(one.Cause))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Fatalf("%s\n%s", d, show(found))
			}
			if len(found) > 0 && !strings.Contains(found[0].Summary, c.says) {
				t.Errorf("%s\nwant …%s…", show(found), c.says)
			}
			if strings.ContainsAny(show(found), "{}") {
				t.Errorf("a word is missing: %s", show(found))
			}
		})
	}
}

// Without its log, an app that is just crashing can't be told from one that listens nowhere.
func TestWhatCannotBeReadIsNotGuessed(t *testing.T) {
	for name, c := range map[string]struct {
		sees func(*Facts)
		want gate.Cause
	}{
		"the log is read":         {func(*Facts) {}, gate.SocketMissing},
		"it can't be":             {func(f *Facts) { f.LogUnread = true }, gate.Unknown},
		"it can't be, and loops":  {func(f *Facts) { f.LogUnread = true; f.Unit.State.NRestarts, f.Unit.State.Started = 3, f.Asked }, gate.Unknown},
		"it listens elsewhere":    {func(f *Facts) { f.LogUnread = true; f.Socket.Elsewhere = []Listener{{Addr: "127.0.0.1:1"}} }, gate.SocketMissing},
		"long after it restarted": {func(f *Facts) { f.Unit.State.NRestarts, f.Unit.State.Started = 3, f.Asked.Add(-time.Hour) }, gate.SocketMissing},
	} {
		f := healthy()
		f.Direct = Asked{&gate.Answer{Err: syscall.ENOENT}, gate.NewFinding(gate.LayerSocket, gate.SocketMissing, "gone")}
		f.Failed = f.Direct.Finding
		c.sees(f)
		if found := Diagnose(f); len(found) != 1 || found[0].Cause != c.want {
			t.Errorf("%s: %s, want %s", name, show(found), c.want)
		}
	}
}

func TestRisks(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(*Facts)
		want   gate.Cause
		says   string
	}{
		"none": {func(*Facts) {}, "", ""},
		"an environment file is gone": {func(f *Facts) {
			f.Unit.Paths = append(f.Unit.Paths, Path{Cause: gate.EnvFileMissing, What: "EnvironmentFile=", Path: "/etc/shop.env", Problem: "does not exist"})
		}, gate.EnvFileMissing, "the next start of shop.service will fail: EnvironmentFile= /etc/shop.env does not exist"},
		"not enabled":           {func(f *Facts) { f.Unit.FileState = "disabled" }, gate.NotEnabled, "does not start at boot"},
		"started by its socket": {func(f *Facts) { f.Unit.FileState, f.Unit.SocketUnit = "disabled", true }, "", ""},
		"whose socket is not enabled": {func(f *Facts) {
			f.Unit.FileState, f.Unit.SocketUnit = "disabled", true
			f.Unit.Sockets = []SocketUnit{{Name: "shop.socket", FileState: "disabled"}}
		}, gate.NotEnabled, "it is not enabled, and neither is shop.socket"},
		"whose socket is enabled": {func(f *Facts) {
			f.Unit.FileState, f.Unit.SocketUnit = "disabled", true
			f.Unit.Sockets = []SocketUnit{{Name: "shop.socket", FileState: "enabled"}}
		}, "", ""},
		"not enabled, and wanted":       {func(f *Facts) { f.Unit.FileState, f.Unit.WantedBy = "disabled", []string{"site.target"} }, "", ""},
		"enabled until the next boot":   {func(f *Facts) { f.Unit.FileState, f.Unit.WantedBy = "enabled-runtime", []string{"multi-user.target"} }, gate.NotEnabled, "at boot"},
		"static":                        {func(f *Facts) { f.Unit.FileState = "static" }, "", ""},
		"static, and nothing wants it":  {func(f *Facts) { f.Unit.FileState, f.Unit.Looked = "static", true }, gate.NotEnabled, "nothing asks for it"},
		"static, of a user's manager":   {func(f *Facts) { f.Unit.FileState, f.Unit.Looked, f.Unit.OfUser = "static", true, true }, "", ""},
		"nginx is not enabled":          {func(f *Facts) { f.Proxy.Running, f.Proxy.FileState = true, "disabled" }, gate.NotEnabled, "nginx does not start at boot"},
		"nginx is not enabled, and off": {func(f *Facts) { f.Proxy.Running, f.Proxy.FileState = false, "disabled" }, "", ""},
		"its user is gone":              {func(f *Facts) { f.Unit.NoUser = "user shop" }, gate.UserMissing, "its user shop does not exist"},
		"a unit it needs is gone":       {func(f *Facts) { f.Unit.Missing = []string{"db.service"} }, gate.DependencyMissing, "it requires db.service"},
		"its condition isn't met": {func(f *Facts) {
			f.Unit.Paths = []Path{{Cause: gate.ServiceStopped, What: "ConditionPathExists=", Path: "/etc/on", Problem: "does not exist", Skips: true}}
		}, gate.ServiceStopped, "the next start of shop.service will be skipped: ConditionPathExists= /etc/on does not exist"},
		"the live release's own, and another one comes": {func(f *Facts) {
			f.Next = &Candidate{}
			f.Unit.Paths = []Path{{Cause: gate.EnvFileMissing, What: "EnvironmentFile=", Path: "/srv/shop/current/.env", Problem: "does not exist", InLink: true}}
		}, "", ""},
		"its file is gone":       {func(f *Facts) { f.Unit.StaleOnDisk, f.Unit.FileGone = true, true }, gate.UnitChanged, "is gone"},
		"nobody knows its place": {func(f *Facts) { f.Unit.Unplaced = true }, gate.Unknown, "nothing shows that shop.service goes through the live link"},
		"an environment file is newer": {func(f *Facts) {
			f.Unit.Since = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
			f.Newer = []Newer{{gate.EnvChanged, "EnvironmentFile=", "/etc/shop.env", f.Unit.Since.Add(time.Hour), 0}}
		}, gate.EnvChanged, "EnvironmentFile= /etc/shop.env changed at 2026-11-21 04:00:00.000, and shop.service runs since 2026-11-21 03:00:00.000"},
		"files of the release are newer": {func(f *Facts) {
			f.Newer = []Newer{{gate.ReleaseChanged, "the live release's", "/srv/shop/releases/v2/a.py", f.Asked, 2}}
		}, gate.ReleaseChanged, "the live release's /srv/shop/releases/v2/a.py (and 2 more) changed at "},
		"nginx's configuration is newer": {func(f *Facts) {
			f.Proxy.Changed = &Newer{Path: "/etc/nginx/nginx.conf", At: f.Asked}
		}, gate.ProxyChanged, "/etc/nginx/nginx.conf changed at "},
		"no restart":                    {func(f *Facts) { f.Unit.Restart = "no" }, gate.NoRestart, "Restart=no"},
		"no RuntimeDirectory":           {func(f *Facts) { f.Unit.RuntimeDirectories = nil }, gate.SocketMissing, "nothing makes /run/shop at boot"},
		"another RuntimeDirectory":      {func(f *Facts) { f.Unit.RuntimeDirectories = []string{"sho"} }, gate.SocketMissing, "/run/shop"},
		"tmpfiles.d makes it":           {func(f *Facts) { f.Unit.RuntimeDirectories, f.Socket.Tmpfiles = nil, true }, "", ""},
		"a socket outside of /run":      {func(f *Facts) { f.Unit.RuntimeDirectories, f.Bind = nil, "unix:/srv/app/shop.sock" }, "", ""},
		"a port":                        {func(f *Facts) { f.Unit.RuntimeDirectories, f.Bind = nil, "127.0.0.1:8000" }, "", ""},
		"changed on disk":               {func(f *Facts) { f.Unit.StaleOnDisk = true }, gate.UnitChanged, "systemd still uses the old ones"},
		"nginx is less patient":         {func(f *Facts) { f.Proxy.Route.ReadTimeout = 10 * time.Second }, gate.ProxyTimeout, "proxy_read_timeout 10s"},
		"nobody knows how patient":      {func(f *Facts) { f.Unit.Timeout = 0; f.Proxy.Route.ReadTimeout = time.Second }, "", ""},
		"a disk is full":                {func(f *Facts) { f.Disks = []Disk{{"/srv/app", "inodes"}} }, gate.DiskFull, "/srv/app has no inodes left"},
		"nginx's configuration unknown": {func(f *Facts) { f.Proxy.Route = nil }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			c.breaks(f)
			found := Risks(f)
			switch {
			case c.want == "" && len(found) == 0:
			case len(found) != 1 || found[0].Cause != c.want || !strings.Contains(found[0].Summary, c.says) || len(found[0].Advice) == 0:
				t.Errorf("%s\nwant %s: …%s…", show(found), c.want, c.says)
			case strings.ContainsAny(show(found), "{}"):
				t.Errorf("a word is missing: %s", show(found))
			}
		})
	}
}
