package host

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/proxy"
	"deploygate/gate/proxy/nginx"
	"deploygate/gate/proxy/nginx/conf"
	"deploygate/gate/socket"
)

// listen is a server's socket of this process.
func listen(t *testing.T, network, at string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestWhereARequestEnds(t *testing.T) {
	dir := t.TempDir()
	app := filepath.Join(dir, "run", "app.sock")
	for _, d := range []string{"run", "www/health"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	listen(t, "unix", app)
	port := listen(t, "tcp", "127.0.0.1:0").Addr().String()
	for link, to := range map[string]string{"var": "run", "link.sock": app} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"www/down.html"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, number, err := net.SplitHostPort(port)
	if err != nil {
		t.Fatal(err)
	}
	all, err := socket.Listeners("")
	if err != nil {
		t.Fatal(err)
	}
	pass := "proxy_pass http://unix:" + app + ";"
	for _, c := range []struct {
		name, bind, config string
		want               string // "app", or what stands in the way
		known              bool
	}{
		{"the socket", "unix:" + app, "location / { " + pass + " }", "app", true},
		{"through a symlink in the path", "unix:" + app, "location / { proxy_pass http://unix:" + dir + "/var/app.sock; }", "app", true},
		{"through a symlink to it", "unix:" + app, "location / { proxy_pass http://unix:" + dir + "/link.sock; }", "app", true},
		{"by another way to write the path", "unix:" + app, "location / { proxy_pass http://unix:" + dir + "/run/../run//app.sock; }", "app", true},
		{"a port", port, "location / { proxy_pass http://" + port + "; }", "app", true},
		{"by the name of this host", port, "location / { proxy_pass http://localhost:" + number + "; }", "app", true},
		{"an upstream", port, "location / { proxy_pass http://one; }", "app", true},

		{"an upstream with another server", port, "location / { proxy_pass http://two; }", "may pass it to another server than the app", false},
		{"an upstream without any", port, "location / { proxy_pass http://none; }", "passes it to no server", true},
		{"a socket that isn't there", "unix:" + app, "location / { proxy_pass http://unix:" + dir + "/old.sock; }", "where nothing listens", true},
		{"another program's", "unix:" + app, "location / { proxy_pass http://" + port + "; }", "and not app.service", false},
		{"another machine", "unix:" + app, "location / { proxy_pass http://192.0.2.1:80; }", "who listens there is not known", false},
		{"a name", "unix:" + app, "location / { proxy_pass http://app.internal; }", "who listens there is not known", false},
		{"nginx itself", "unix:" + app, "location = /health/ { return 200; } location / { " + pass + " }", "nginx itself answers it (return 200 at /etc/nginx/nginx.conf:7)", true},
		{"a file", "unix:" + app, "root " + dir + "/www; location / { try_files /down.html @app; } location @app { " + pass + " }", "serves it from " + dir + "/www/down.html", true},
		{"a directory", "unix:" + app, "root " + dir + "/www; location / { try_files $uri $uri/ @app; } location @app { " + pass + " }", "serves it from " + dir + "/www/health/", true},
		{"a file that isn't there", "unix:" + app, "root " + dir + "/www; location / { try_files /up.html @app; } location @app { " + pass + " }", "app", true},
		{"a file that may be anywhere", "unix:" + app, "root " + dir + "/$http_x; location / { try_files $uri @app; } location @app { " + pass + " }", "may serve a file instead", false},
		{"files", "unix:" + app, "location / { root /srv; }", "passes it on to nothing", true},
		{"a cache", "unix:" + app, "location / { proxy_cache z; " + pass + " }", "from its cache", true},
		{"an error page", "unix:" + app, "error_page 502 =200 /ok; location / { " + pass + " }", "as well where the app doesn't", true},
		{"a variable", "unix:" + app, "location / { proxy_pass http://$http_x; }", "is not known", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf("# configuration file /etc/nginx/nginx.conf:\nhttp {\nupstream one { server %s; }\nupstream two { server %s; server 192.0.2.1; }\nupstream none { server %s down; }\nserver { listen 80;\n\n%s\n}\n}\n", port, port, port, c.config)
			effective, err := conf.Parse(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			f := follower{routes: routes{config: config.Defaults("app"), proxy: &nginx.Nginx{Program: "/usr/sbin/nginx"}, bind: c.bind, name: "app.service"}, config: effective, listeners: all}
			way := f.follow(proxy.Request{Port: 80, Host: "localhost", Path: "/health/", Status: 200}, 0)
			if way.App != (c.want == "app") || way.Known != c.known && !way.App || !way.App && !strings.Contains(way.Text, c.want) {
				t.Errorf("%+v, want …%s…", way, c.want)
			}
		})
	}
}

func TestWhoHoldsASocket(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app.sock")
	listen(t, "unix", file)
	port := listen(t, "tcp", "127.0.0.1:0").Addr().String()
	for _, c := range []struct {
		at     probe.Address
		remote string
		want   bool
	}{
		{probe.Address{Network: "unix", Addr: file}, file, true},
		{probe.Address{Network: "tcp", Addr: "localhost:1"}, port, true}, // what counts is where the connection went
		{probe.Address{Network: "unix", Addr: file + "x"}, file + "x", false},
	} {
		var ours []gate.Holder
		for _, h := range holders(c.at)(c.remote) {
			if h.PID == os.Getpid() && h.Born > 0 && h.At == c.remote {
				ours = append(ours, h)
			}
		}
		if (len(ours) == 1) != c.want {
			t.Errorf("%v: %+v", c.at, ours)
		}
	}
}
