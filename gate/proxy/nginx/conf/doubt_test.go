package conf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate/proxy"
)

// in is a configuration with one server that has these directives.
func inServer(directives string) string {
	return "http {\nserver {\nlisten 80;\nroot /srv/www;\n" + directives + "\n}\n}"
}

func TestWhatMayAnswerInsteadOfTheServerThatIsPassedTo(t *testing.T) {
	const upstream = "proxy_pass http://unix:/run/g.sock;"
	for _, c := range []struct {
		name, text    string
		status        int
		cache, masks  bool
		known, passed bool
		tries         []string
	}{
		{name: "nothing", text: "location / { " + upstream + " }", known: true, passed: true},
		{name: "a cache", text: "location / { proxy_cache zone; " + upstream + " }", cache: true, known: true, passed: true},
		{name: "a cache from outside", text: "proxy_cache zone; location / { " + upstream + " }", cache: true, known: true, passed: true},
		{name: "a cache that is off here", text: "proxy_cache zone; location / { proxy_cache off; " + upstream + " }", known: true, passed: true},
		{name: "another protocol's cache", text: "uwsgi_cache zone; location / { " + upstream + " }", known: true, passed: true},

		{name: "an error page that keeps the status", text: "error_page 500 502 503 504 /50x.html; location / { " + upstream + " }", known: true, passed: true},
		{name: "502 =200", text: "error_page 502 =200 /ok.html; location / { " + upstream + " }", masks: true, known: true, passed: true},
		{name: "502 =200, in the location", text: "location / { error_page 502 504 =200 @ok; " + upstream + " } location @ok { return 200; }", masks: true, known: true, passed: true},
		{name: "502 =, whatever the page answers", text: "error_page 502 = @ok; location / { " + upstream + " } location @ok { return 200; }", status: 200, masks: true, known: true, passed: true},
		{name: "502 =503", text: "error_page 502 =503 /down.html; location / { " + upstream + " }", status: 200, known: true, passed: true},
		{name: "502 =204, and it was 200", text: "error_page 502 =204 /down.html; location / { " + upstream + " }", status: 200, known: true, passed: true},
		{name: "502 =200, replaced in the location", text: "error_page 502 =200 /ok.html; location / { error_page 404 /404.html; " + upstream + " }", known: true, passed: true},
		{name: "404 =200, which only nginx's own would be", text: "error_page 404 =200 /index.html; location / { " + upstream + " }", known: true, passed: true},
		{name: "404 =200 with interception", text: "proxy_intercept_errors on; error_page 404 =200 /index.html; location / { " + upstream + " }", masks: true, known: true, passed: true},

		{name: "files first", text: "location / { try_files $uri $uri/ /down.html @app; } location @app { " + upstream + " }", tries: []string{"/srv/www/health/", "/srv/www/health// dir", "/srv/www/down.html"}, known: true, passed: true},
		{name: "files of an alias", text: "location / { alias /srv/other/; try_files $uri @app; } location @app { " + upstream + " }", tries: []string{""}, known: true, passed: true},
		{name: "files by a variable", text: "location / { root /srv/$http_x; try_files $uri @app; } location @app { " + upstream + " }", tries: []string{""}, known: true, passed: true},

		{name: "a maintenance page", text: "location / { if (-f /srv/down) { return 503; } " + upstream + " }", status: 200, known: true, passed: true},
		{name: "a maintenance page, and the status isn't known", text: "location / { if (-f /srv/down) { return 503; } " + upstream + " }"},
		{name: "a page that would have answered the same", text: "location / { if (-f /srv/up) { return 200; } " + upstream + " }", status: 200},
		{name: "a redirect that wasn't", text: "location / { if ($cookie_x) { return https://other.example; } " + upstream + " }", status: 200, known: true, passed: true},
		{name: "a rewrite that may have been", text: "location / { if (-f /srv/up) { rewrite ^ /ok.html break; } " + upstream + " }", status: 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := parse(t, dump(inServer(c.text))).Route(proxy.Request{Port: 80, Host: "x", Path: "/health/", Status: c.status})
			var tries []string
			for _, f := range r.Tries {
				if f.Dir {
					f.Path += " dir"
				}
				tries = append(tries, f.Path)
			}
			at := func(s string) bool { return strings.Contains(s, " at /etc/nginx/nginx.conf:5") }
			if at(r.Cache) != c.cache || at(r.Masks) != c.masks || r.Known != c.known || (r.Pass != "") != c.passed {
				t.Errorf("%+v", r)
			}
			if d := cmp.Diff(c.tries, tries); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestThePathThatIsPassedOn(t *testing.T) {
	for text, want := range map[string]string{
		"location / { proxy_pass http://127.0.0.1:81; }":                                      "/shop/health/",
		"location / { proxy_pass http://127.0.0.1:81/; }":                                     "/shop/health/",
		"location /shop/ { proxy_pass http://127.0.0.1:81/; }":                                "/health/",
		"location ^~ /shop/ { proxy_pass http://127.0.0.1:81/inner/; }":                       "/inner/health/",
		"location = /shop/health/ { proxy_pass http://127.0.0.1:81/ok; }":                     "/ok",
		"location /shop/ { proxy_pass http://unix:/run/g.sock:/; }":                           "/health/",
		"location /shop/ { proxy_pass http://unix:/run/g.sock; }":                             "/shop/health/",
		"location ~ ^/shop/ { proxy_pass http://127.0.0.1:81; }":                              "/shop/health/",
		"location /shop/ { proxy_pass http://127.0.0.1:81$request_uri; }":                     "",
		"location /shop/ { proxy_pass http://$http_x; }":                                      "",
		"location / { return 200; }":                                                          "",
		"location / { try_files /x @app; } location @app { proxy_pass http://127.0.0.1:81; }": "/shop/health/",
	} {
		if got := parse(t, dump(inServer(text))).Route(proxy.Request{Port: 80, Host: "x", Path: "/shop/health/"}).PathPassed; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestPathsOfASite(t *testing.T) {
	c := parse(t, dump(inServer(`location = /health/ { return 200; }
location /static/ { root /srv; }
location ^~ /api { proxy_pass http://127.0.0.1:81; }
location ~ ^/x { return 404; }
location @app { return 404; }
location / { return 404; }`)))
	if d := cmp.Diff([]string{"/", "/health/", "/static/", "/api"}, c.Locations(proxy.Request{Port: 80, Host: "x", Path: "/health/"})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/"}, c.Locations(proxy.Request{Port: 81, Host: "x", Path: "/health/"})); d != "" {
		t.Error(d)
	}
}
