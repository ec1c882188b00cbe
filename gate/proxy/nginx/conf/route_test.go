package conf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"deploygate/gate/proxy"
)

func TestRouteOnDebian(t *testing.T) {
	const (
		shop     = "/etc/nginx/sites-enabled/shop"
		main     = "/var/log/nginx/error.log"
		shopLog  = "/var/log/nginx/shop.error.log"
		upstream = "http://shop"
	)
	socket := []string{"unix:/run/shop/gunicorn.sock"}
	for _, c := range []struct {
		name    string
		request proxy.Request
		want    proxy.Route
	}{
		{
			"nobody's name",
			proxy.Request{Port: 80, Host: "203.0.113.9", Path: "/"},
			proxy.Route{Known: true, Server: "/etc/nginx/sites-enabled/default:21", Location: "/etc/nginx/sites-enabled/default:48", Returns: "try_files =404", ErrorLogs: []string{main}, Tries: []proxy.Try{
				{Path: "/var/www/html/", At: "/etc/nginx/sites-enabled/default:51"}, {Path: "/var/www/html//", Dir: true, At: "/etc/nginx/sites-enabled/default:51"},
			}},
		},
		{
			"to https",
			proxy.Request{Port: 80, Addr: "127.0.0.1", Host: "www.shop.example", Path: "/health/?token=1"},
			proxy.Route{Known: true, Server: shop + ":5", Returns: "return 301 https://shop.example$request_uri", ErrorLogs: []string{main}},
		},
		{
			"the health path",
			proxy.Request{Port: 443, TLS: true, Host: "shop.example:443", Path: "/health/"},
			proxy.Route{
				Known: true, Server: shop + ":12", Location: shop + ":25", Pass: upstream, PassAt: shop + ":28", Targets: socket,
				ConnectTimeout: time.Minute, ReadTimeout: 5 * time.Second, ErrorLogs: []string{shopLog}, HostPassed: "$host", PathPassed: "/health/",
			},
		},
		{
			"any other path, over IPv6",
			proxy.Request{Port: 443, Addr: "[::1]", TLS: true, Host: "shop.example", Path: "/cart"},
			proxy.Route{
				Known: true, Server: shop + ":12", Location: shop + ":36", Pass: upstream, PassAt: shop + ":40", Targets: socket,
				ConnectTimeout: 2 * time.Second, ReadTimeout: 90 * time.Second, ErrorLogs: []string{shopLog}, HostPassed: "$host", PathPassed: "/cart",
				Tries: []proxy.Try{{Path: "/srv/shop/public/cart", At: shop + ":33"}},
			},
		},
		{
			"static files",
			proxy.Request{Port: 443, TLS: true, Host: "shop.example", Path: "/static/app.css"},
			proxy.Route{Known: true, Server: shop + ":12", Location: shop + ":20", ErrorLogs: []string{shopLog}},
		},
		{
			"a port that nothing listens on",
			proxy.Request{Port: 8080, Host: "shop.example", Path: "/"},
			proxy.Route{Why: "nginx listens nowhere on port 8080", ErrorLogs: []string{main}},
		},
		{
			"TLS where there is none",
			proxy.Request{Port: 80, TLS: true, Host: "shop.example", Path: "/"},
			proxy.Route{Why: "nginx listens on 0.0.0.0 port 80 with ssl: false, and the request's is: true", ErrorLogs: []string{main}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, captured(t, "debian-shop.txt").Route(c.request)); d != "" {
				t.Error(d)
			}
		})
	}
}

// routed asks for a route in a configuration in which servers and locations have names, "# name" behind their opening
// brace, so that tests need no line numbers.
func routed(t *testing.T, text string, r proxy.Request) (route proxy.Route, server, location string) {
	t.Helper()
	names := map[string]string{"": ""}
	for i, line := range strings.Split(text, "\n") {
		if _, name, ok := strings.Cut(line, "# "); ok {
			names[(&Directive{File: "/etc/nginx/nginx.conf", Line: i + 1}).at()] = name
		}
	}
	route = parse(t, dump(text)).Route(r)
	return route, names[route.Server], names[route.Location]
}

func TestServersAreChosenAsNginxDoes(t *testing.T) {
	const text = `http {
		server { listen 80; # first
			server_name example.com www.example.com; }
		server { listen 80 default_server; # default
			server_name _; }
		server { listen *:80; # head
			server_name *.example.com; }
		server { listen 0.0.0.0:80; # longer head
			server_name *.api.example.com; }
		server { listen 80; # tail
			server_name mail.*; }
		server { listen 80; # regex
			server_name "~^(?<user>\w+)\.Example\.net$" ~^second; }
		server { # unset listen
			server_name .dot.example; }
		server { listen 80; # no dot
			server_name *.dot.example; }
		server { listen 127.0.0.2:80; # address
			server_name other.example; }
		server { listen 127.0.0.2:80; # address second
			server_name third.example; }
		server { listen [::]:80; listen 8000-8010; listen unix:/run/n.sock; # ranges
			server_name v6.example; }
		server { listen [::]:81 ipv6only=off; # both
		}
		server { listen localhost:82; # localhost
		}
		server { listen 127.0.0.1:83; listen [::1]:83; # two addresses
		}
		server { listen 127.0.0.1:84; # one of two
		}
		server { listen 127.0.0.2:84; # other of two
		}
		server { listen db.internal:85; # named
		}
		server { listen 86; # empty
			server_name ""; }
		server { listen 86 default; # lookahead
			server_name ~^(?!x)y$; }
		server { listen 87 quic; listen 88; # quic
		}
		server { listen 89; # hostname
			server_name $hostname; }
	}`
	for _, c := range []struct {
		name string
		r    proxy.Request
		want string // the server, or "!" and a part of Why
	}{
		{"exact", proxy.Request{Port: 80, Host: "www.example.com"}, "first"},
		{"exact, as hosts may be written", proxy.Request{Port: 80, Host: "WWW.Example.Com.:80"}, "first"},
		{"a wildcard", proxy.Request{Port: 80, Host: "a.example.com"}, "head"},
		{"a wildcard, deeper", proxy.Request{Port: 80, Host: "a.b.example.com"}, "head"},
		{"the longest wildcard", proxy.Request{Port: 80, Host: "v1.api.example.com"}, "longer head"},
		{"not the wildcard's own", proxy.Request{Port: 80, Host: "api.example.com"}, "head"},
		{"a wildcard at the end", proxy.Request{Port: 80, Host: "mail.example.org"}, "tail"},
		{"in front before at the end", proxy.Request{Port: 80, Host: "mail.example.com"}, "head"},
		{"a regular expression, whose capital makes it ignore case", proxy.Request{Port: 80, Host: "joe.example.NET"}, "regex"},
		{"the second of its names", proxy.Request{Port: 80, Host: "second.org"}, "regex"},
		{"a dot stands for both", proxy.Request{Port: 80, Host: "dot.example"}, "unset listen"},
		{"the first of two that conflict", proxy.Request{Port: 80, Host: "x.dot.example"}, "unset listen"},
		{"the default server", proxy.Request{Port: 80, Host: "unknown.example"}, "default"},
		{"an IP as host", proxy.Request{Port: 80, Host: "[::1]:80"}, "default"},
		{"no host", proxy.Request{Port: 80}, "default"},
		{"a name that listens elsewhere", proxy.Request{Port: 80, Addr: "127.0.0.1", Host: "v6.example"}, "default"},
		{"a more specific address", proxy.Request{Port: 80, Addr: "127.0.0.2", Host: "example.com"}, "address"},
		{"its second name", proxy.Request{Port: 80, Addr: "127.0.0.2", Host: "third.example"}, "address second"},
		{"IPv6", proxy.Request{Port: 80, Addr: "::1", Host: "example.com"}, "ranges"},
		{"an IPv4 address written as IPv6", proxy.Request{Port: 80, Addr: "::ffff:127.0.0.2", Host: "example.com"}, "address"},
		{"a range of ports", proxy.Request{Port: 8010, Host: "example.com"}, "ranges"},
		{"behind the range", proxy.Request{Port: 8011, Host: "example.com"}, "!nowhere on port 8011"},
		{"a unix socket", proxy.Request{Addr: "unix:/run/n.sock", Host: "example.com"}, "ranges"},
		{"another unix socket", proxy.Request{Port: 80, Addr: "unix:/run/o.sock", Host: "example.com"}, "!nowhere on unix:/run/o.sock"},
		{"IPv4 through ipv6only=off", proxy.Request{Port: 81, Addr: "127.0.0.1"}, "both"},
		{"IPv4 through [::] alone", proxy.Request{Port: 81}, "both"},
		{"localhost", proxy.Request{Port: 82, Addr: "::1"}, "localhost"},
		{"localhost by name", proxy.Request{Port: 82, Addr: "localhost"}, "localhost"},
		{"another address than localhost", proxy.Request{Port: 82, Addr: "192.0.2.1"}, "!nowhere on 192.0.2.1:82"},
		{"any address of one server", proxy.Request{Port: 83}, "two addresses"},
		{"any address of two servers", proxy.Request{Port: 84}, "!127.0.0.1 or 127.0.0.2"},
		{"an address that a name may have", proxy.Request{Port: 85, Addr: "127.0.0.1"}, "!db.internal"},
		{"a name as address", proxy.Request{Port: 80, Addr: "db.internal"}, "!db.internal"},
		{"the empty name", proxy.Request{Port: 86}, "empty"},
		{"a regular expression that Go has not", proxy.Request{Port: 86, Host: "y"}, "!not understood"},
		{"QUIC is no TCP", proxy.Request{Port: 87}, "!nowhere on port 87"},
		{"the host's name, which a dump doesn't tell", proxy.Request{Port: 89, Host: "web1"}, "!$hostname"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.r.Path = "/"
			route, server, _ := routed(t, text, c.r)
			if why, bad := strings.CutPrefix(c.want, "!"); bad && (route.Known || !strings.Contains(route.Why, why)) || !bad && (!route.Known || server != c.want) {
				t.Errorf("%q, %+v; want %q", server, route, c.want)
			}
		})
	}
}

func TestTheHostsNameIsKnownOnTheHost(t *testing.T) {
	c := parse(t, dump("http { server { listen 80; } server { listen 80; server_name $hostname; } }"))
	c.Hostname = "Web1"
	if route := c.Route(proxy.Request{Port: 80, Host: "web1", Path: "/"}); !route.Known || route.Server != c.Directives[0].Block[1].at() {
		t.Errorf("%+v", route)
	}
}

func TestLocationsAreChosenAsNginxDoes(t *testing.T) {
	const text = `http { server {
		location = / { # exact
		}
		location / { # root
		}
		location /app/ { # app
			proxy_pass http://127.0.0.1:8000;
			location = /app/one { # nested exact
			}
			location ~ \.json$ { # nested regex
			}
			location /app/deep/ { # nested
			}
		}
		location ^~ /static/ { # static
			location ~* \.PNG$ { # nested in static
			}
		}
		location ~ \.(png|css)$ { # regex
		}
		location ~* "^/UP" { # no case
		}
		location ~ ^/up/second { # second
		}
		location =/glued { # glued
		}
		location = /health/ { # health
		}
		location /internal/ { # internal
			internal;
		}
		location /lua { # lua
			content_by_lua_block { ngx.exit(503) }
		}
	} }`
	for _, c := range []struct{ path, want string }{
		{"/", "exact"},
		{"/?a=b", "exact"},
		{"//", "exact"},
		{"/x", "root"},
		{"/x.css", "regex"},
		{"/app/x.css", "regex"},
		{"/app/one", "nested exact"},
		{"/app/x.json", "nested regex"},
		{"/app/deep/x.css", "regex"},
		{"/app/../static/x", "static"},
		{"/static/a.png", "nested in static"},
		{"/static/a.css", "static"},
		{"/st%61tic/a", "static"},
		{"/up/second", "no case"},
		{"/glued", "glued"},
		{"/health/", "health"},
		{"/%", "!no absolute path"},
		{"x", "!no absolute path"},
		{"", "!no absolute path"},
	} {
		t.Run(c.path, func(t *testing.T) {
			route, _, location := routed(t, text, proxy.Request{Port: 80, Path: c.path})
			if why, bad := strings.CutPrefix(c.want, "!"); bad && (route.Known || !strings.Contains(route.Why, why)) || !bad && (!route.Known || location != c.want) {
				t.Errorf("%q, %+v; want %q", location, route, c.want)
			}
		})
	}
}

// outcome says a route in a few words.
func outcome(r proxy.Route) string {
	switch {
	case !r.Known:
		return "unknown: " + r.Why
	case r.Returns != "":
		return r.Returns
	case r.Pass != "":
		return "to " + strings.Join(r.Targets, " ")
	}
	return "static"
}

func TestWhereARequestEnds(t *testing.T) {
	for _, c := range []struct{ name, http, want string }{
		{"a port", "server { location / { proxy_pass http://127.0.0.1:8000; } }", "to 127.0.0.1:8000"},
		{"the scheme's port", "server { location / { proxy_pass http://app.internal/x; } }", "to app.internal:80"},
		{"https", "server { location / { proxy_pass https://app.internal; } }", "to app.internal:443"},
		{"IPv6", "server { location / { proxy_pass http://[::1]/; } }", "to [::1]:80"},
		{"IPv6 with a port", "server { location / { proxy_pass http://[::1]:8000; } }", "to [::1]:8000"},
		{"localhost", "server { location / { proxy_pass http://localhost:8000/; } }", "to localhost:8000"},
		{"a socket", "server { location / { proxy_pass http://unix:/run/a.sock; } }", "to unix:/run/a.sock"},
		{"a socket with a path", "server { location / { proxy_pass http://unix:/run/a.sock:/x/; } }", "to unix:/run/a.sock"},
		{
			"an upstream", `upstream App { ip_hash; server unix:/run/a.sock fail_timeout=0; server 10.0.0.1:8000 weight=2; server 10.0.0.2 backup;
			server 10.0.0.3 down; } server { location / { proxy_pass http://app; } }`, "to unix:/run/a.sock 10.0.0.1:8000 10.0.0.2:80",
		},
		{"an upstream of code", "upstream a { server 0.0.0.1; balancer_by_lua_block { x } } server { location / { proxy_pass http://a; } }", "unknown: balancer_by_lua_block at F:1 decides by code"},
		{"uwsgi", "server { location / { uwsgi_pass unix:/run/u.sock; } }", "to unix:/run/u.sock"},
		{"fastcgi", "server { location / { fastcgi_pass 127.0.0.1:9000; } }", "to 127.0.0.1:9000"},
		{"grpc", "server { location / { grpc_pass grpcs://a; } }", "to a:443"},
		{"a variable that is set", "server { set $app http://127.0.0.1:8000; location / { proxy_pass $app; } }", "to 127.0.0.1:8000"},
		{"a variable that is set twice", "server { set $p 8000; set $app 127.0.0.1:${p}; location / { set $p 1; proxy_pass http://$app; } }", "to 127.0.0.1:8000"},
		{"a variable after the address", "upstream a { server unix:/a; } server { location / { proxy_pass http://a$request_uri; } }", "to unix:/a"},
		{"a variable after a socket", "server { location / { proxy_pass http://unix:/a:/$http_x; } }", "to unix:/a"},
		{"a variable that is not known", "map $host $app { default a; } server { location / { proxy_pass http://$app; } }", "unknown: proxy_pass at F:1 holds a variable whose value is not known"},
		{"a capture", "server { location ~ ^/(.*) { proxy_pass http://$1; } }", "unknown: proxy_pass at F:1 holds"},
		{"proxy_pass isn't inherited", "server { location / { proxy_pass http://a; location = /x { } } }", "static"},
		{"gunicorn's own example", `upstream app_server { server unix:/tmp/gunicorn.sock fail_timeout=0; }
			server { listen 80 default_server; return 444; }
			server { listen 80 deferred; server_name example.com; root /srv; location / { try_files $uri @proxy_to_app; }
			location @proxy_to_app { proxy_pass http://app_server; } error_page 500 /500.html; location = /500.html { root /srv; } }`, "to unix:/tmp/gunicorn.sock"},
		{"files, or not found", "server { location / { try_files $uri $uri/ =404; } }", "try_files =404"},
		{"files, or the one page", "server { location / { try_files $uri /index.html; } }", "static"},
		{"files, or a path", "server { location / { try_files $uri /app$uri?$args; } location /app/ { proxy_pass http://a; } }", "to a:80"},
		{"files, or an unknown path", "server { location / { try_files $uri $http_x; } }", "unknown: the fallback of try_files at F:1"},
		{"files beside a proxy", "server { location / { try_files $uri =404; proxy_pass http://a; } }", "unknown: try_files at F:1 decides by files"},
		{"files of a server", "server { try_files $uri @a; location @a { proxy_pass http://a; } }", "to a:80"},
		{"a named location that is missing", "server { location / { try_files $uri @a; } }", "unknown: the server at F:1 has no location @a"},
		{"a loop", "server { location / { try_files $uri /x/$uri; } }", "unknown: more than 10"},
		{"a return", "server { location / { return 503; proxy_pass http://a; } }", "return 503"},
		{"a text may be secret", "server { location / { return 200 secret; } }", "return 200"},
		{"a redirect by address alone", "server { location / { return https://b/?secret; } }", "return 302 https://b/"},
		{"a server's return", "server { return 301 https://$host$request_uri; location / { proxy_pass http://a; } }", "return 301 https://$host$request_uri"},
		{"a slash that is missing", "server { location /x/ { proxy_pass http://a; } }", "return 301 /x/"},
		{"an exact location without slash", "server { location /x/ { proxy_pass http://a; } location = /x { } }", "static"},
		{"an internal location", "server { location /x { internal; proxy_pass http://a; } }", "return 404"},
		{"an internal location inside", "server { location / { try_files $uri /y; } location /y { internal; proxy_pass http://a; } }", "to a:80"},
		{
			"certbot's redirect", "server { if ($host = www.example.com) { return 301 https://$host$request_uri; } listen 80; server_name example.com; return 404; }",
			"return 404",
		},
		{"certbot's redirect, taken", "server { if ($host = example.com) { return 301 https://$host$request_uri; } return 404; }", "return 301 https://$host$request_uri"},
		{"https alone", `server { if ($scheme != "https") { return 301 https://x; } }`, "return 301 https://x"},
		{"an if on the host's pattern", `server { if ($host !~* ^(EXAMPLE\.com)$ ) { return 444; } location / { proxy_pass http://a; } }`, "to a:80"},
		{"an if on a method", "server { location / { if ($request_method = POST) { return 405; } proxy_pass http://a; } }", "to a:80"},
		{"an if on an empty variable", `server { set $m ""; if ($m = "") { return 418; } }`, "return 418"},
		{"an if on a flag", "server { set $m 0; if ($m) { return 418; } return 204; }", "return 204"},
		{"an if on a file", "server { if (-f /srv/off) { return 503; } location / { proxy_pass http://a; } }", "unknown: what the if at F:1 decides"},
		{"an if on a header", "server { if ($http_x_forwarded_proto = http) { return 301 https://x; } }", "unknown: what the if at F:1"},
		{"an if on an agent that only sets", "server { if ($http_user_agent ~ bot) { set $bot 1; } location / { proxy_pass http://a; } }", "to a:80"},
		{"an if that sets what decides", "server { set $a b; if ($http_x) { set $a c; } location / { proxy_pass http://$a; } }", "unknown: proxy_pass"},
		{"an if that adds a header", "server { location / { if ($http_x) { add_header X y; } proxy_pass http://a; } }", "to a:80"},
		{"an if that takes try_files away", "server { location / { if ($http_x) { add_header X y; } try_files $uri @a; } location @a { } }", "unknown: what the if"},
		{"an if that passes on", "server { location / { if ($host = example.com) { proxy_pass http://b; } proxy_pass http://a; } }", "unknown: what the if"},
		{"an if whose pattern Go has not", "server { if ($host ~ (?!x)) { return 503; } }", "unknown: what the if"},
		{"a break", "server { location / { break; return 503; } }", "static"},
		{"a break in an if", "server { location / { if ($host) { break; } return 503; } }", "static"},
		{"a rewrite that applies", "server { rewrite ^/x$ /y; }", "unknown: the rewrite at F:1 is not followed"},
		{"a rewrite that doesn't", "server { rewrite ^/old$ /y; location / { proxy_pass http://a; } }", "to a:80"},
		{"a rewrite that Go can't tell", "server { rewrite ^(?!/x) /y; }", "unknown: the rewrite"},
		{"Lua for the content", "server { location / { content_by_lua_block { x } } }", "unknown: content_by_lua_block at F:1 decides by code"},
		{"Lua for access, above", "access_by_lua_file x; server { location / { proxy_pass http://a; } }", "unknown: access_by_lua_file at F:1 decides by code"},
		{"Lua that only logs", "server { location / { log_by_lua_block { x } proxy_pass http://a; } }", "to a:80"},
		{"a location whose pattern Go has not", "server { location ~(?!x)y { } }", "unknown: the regular expression of the location at F:1"},
		{"one that is reached before it", "server { location ^~ /x { } location ~ (?!x)y { } }", "static"},
		{"no location", "server { location /y { } }", "static"},
		{"no server", "", "unknown: nginx listens nowhere on port 80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			route := parse(t, dump("http { "+c.http+" }")).Route(proxy.Request{Port: 80, Host: "example.com", Path: "/x"})
			got := strings.ReplaceAll(outcome(route), "/etc/nginx/nginx.conf", "F")
			if got != c.want && (!strings.HasPrefix(c.want, "unknown: ") || !strings.HasPrefix(got, c.want)) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTheIndexOfADirectoryMayBelongToTheApp(t *testing.T) {
	for _, c := range []struct{ name, server, want string }{
		{"another location", `index index.php; location / { } location ~ \.php$ { fastcgi_pass unix:/p; }`, "unknown: the index file index.php would be passed on at"},
		{"a static one", `location / { index index.html; }`, "static"},
		{"one with a variable", `location / { index $x; }`, "unknown: the name of an index file"},
		{"an absolute one", `index /app; location / { } location = /app { proxy_pass http://a; }`, "unknown: the index file /app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := outcome(parse(t, dump("http { server { "+c.server+" } }")).Route(proxy.Request{Port: 80, Path: "/"}))
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestOnlyTLSIsRefusedAtTheHandshake(t *testing.T) {
	c := parse(t, dump("http { server { listen 443 ssl default_server; ssl_reject_handshake on; } server { listen 443; ssl on; server_name a; return 204; } }"))
	for host, want := range map[string]string{"b": "ssl_reject_handshake", "a": "return 204"} {
		if got := c.Route(proxy.Request{Port: 443, TLS: true, Host: host, Path: "/"}); got.Returns != want {
			t.Errorf("%s: %+v", host, got)
		}
	}
}

func TestInheritance(t *testing.T) {
	const proxied = "proxy_pass http://a; "
	for _, c := range []struct {
		name, text string
		want       proxy.Route
	}{
		{
			"the defaults", "http { server { location / { " + proxied + "} } }",
			proxy.Route{ConnectTimeout: time.Minute, ReadTimeout: time.Minute, HostPassed: "$proxy_host", ErrorLogs: []string{"/var/log/nginx/error.log"}},
		},
		{
			"from outside", "error_log /m; http { proxy_connect_timeout 5; proxy_read_timeout 1h; proxy_set_header HOST $http_host; server { proxy_read_timeout 1d; location / { " + proxied + "} } }",
			proxy.Route{ConnectTimeout: 5 * time.Second, ReadTimeout: 24 * time.Hour, HostPassed: "$http_host", ErrorLogs: []string{"/m"}},
		},
		{
			"the innermost wins", "error_log /m; http { error_log /h; proxy_set_header Host $host; server { error_log /s crit; error_log syslog:server=[::1]; location / { proxy_set_header X y; " + proxied + "} } }",
			proxy.Route{ConnectTimeout: time.Minute, ReadTimeout: time.Minute, HostPassed: "$proxy_host", ErrorLogs: []string{"/s", "syslog:server=[::1]"}},
		},
		{
			"a location's own", "http { error_log /h; server { location / { error_log stderr; proxy_set_header Host app; proxy_read_timeout 1x; " + proxied + "} } }",
			proxy.Route{ConnectTimeout: time.Minute, HostPassed: "app", ErrorLogs: []string{"stderr"}},
		},
		{
			"from the location around it", "http { server { location / { error_log /l; proxy_set_header Host x; location /x { proxy_read_timeout 500ms; " + proxied + "} } } }",
			proxy.Route{ConnectTimeout: time.Minute, ReadTimeout: 500 * time.Millisecond, HostPassed: "x", ErrorLogs: []string{"/l"}},
		},
		{
			"of another protocol", "http { uwsgi_read_timeout 7; server { location / { proxy_read_timeout 9; proxy_set_header Host x; uwsgi_pass unix:/a; } } }",
			proxy.Route{ConnectTimeout: time.Minute, ReadTimeout: 7 * time.Second, HostPassed: "$http_host", ErrorLogs: []string{"/var/log/nginx/error.log"}},
		},
		{
			"http and what its includes leave apart", "http { error_log /h; } error_log /m; http { server { location / { " + proxied + "} } }",
			proxy.Route{ConnectTimeout: time.Minute, ReadTimeout: time.Minute, HostPassed: "$proxy_host", ErrorLogs: []string{"/h"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parse(t, dump(c.text)).Route(proxy.Request{Port: 80, Path: "/x"})
			ignore := cmpopts.IgnoreFields(proxy.Route{}, "Server", "Location", "Pass", "PassAt", "Targets", "Known", "PathPassed")
			if d := cmp.Diff(c.want, got, ignore); d != "" || !got.Known {
				t.Error(d, got.Why)
			}
		})
	}
}

func TestUpstreams(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
		ok         bool
	}{
		{"none", "http { server { } }", nil, true},
		{"captured", "", []string{"unix:/run/shop/gunicorn.sock"}, true},
		{
			"several", `http { upstream b { server unix:/b; server 10.0.0.1; } server { location / { proxy_pass http://b; location /c { proxy_pass http://c:81; } }
			location /d { if ($http_x) { proxy_pass http://d; } limit_except GET { proxy_pass http://e; } uwsgi_pass unix:/b; } } }
			stream { upstream b { server 10.0.0.2:5432; } server { listen 1; proxy_pass b; } server { listen 2; proxy_pass 10.0.0.3:6; } }`,
			[]string{"10.0.0.1:80", "10.0.0.2:5432", "10.0.0.3:6", "c:81", "d:80", "e:80", "unix:/b"},
			true,
		},
		{"a constant", "http { server { set $a unix:/a; location / { set $b $a; proxy_pass http://$b:$request_uri; } } }", []string{"unix:/a"}, true},
		{"another location's constant", "http { server { location / { set $a b; location /x { proxy_pass http://$a; } } location /y { proxy_pass http://c; } } }", []string{"c:80"}, false},
		{"set under a condition", "http { server { set $a b; if ($http_x) { set $a c; } location / { proxy_pass http://$a; } } }", nil, false},
		{"a map's", "http { map $host $a { default b; } server { location / { proxy_pass http://$a; } } }", nil, false},
		{"set by code", "http { server { location / { set $a b; set_by_lua_block $a { x } proxy_pass http://$a; } } }", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := captured(t, "debian-shop.txt")
			if c.text != "" {
				config = parse(t, dump(c.text))
			}
			got, ok := config.Upstreams()
			if d := cmp.Diff(c.want, got); d != "" || ok != c.ok {
				t.Error(d, ok)
			}
		})
	}
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"90": 90 * time.Second, "90s": 90 * time.Second, "1m30s": 90 * time.Second, "1h 30m": 90 * time.Minute, "500ms": 500 * time.Millisecond,
		"2d": 48 * time.Hour, "1w": 168 * time.Hour, "1M": 720 * time.Hour, "1y": 8760 * time.Hour, "0": 0,
		"": -1, "x": -1, "1x": -1, "-1": -1, "1.5s": -1, "999999999y": -1, "9999999999": -1, "200y200y": -1,
	} {
		got, ok := parseTime(s)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("parseTime(%q) = %v, %v; want %v", s, got, ok, want)
		}
	}
}
