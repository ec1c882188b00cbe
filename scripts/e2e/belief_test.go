package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// report is what check and plan say.
type report struct {
	Code     int
	Healthy  bool
	Findings []finding
	Refused  []finding
	Warnings []string
}

// says runs check, diagnose or plan.
func (h *host) says(args ...string) (r report) {
	h.t.Helper()
	out := h.run(append(args, "--app", h.site.Name, "--output", "json")...)
	if err := json.Unmarshal([]byte(out.Stdout), &r); err != nil {
		h.t.Fatalf("%v\n%s%s", err, out.Stdout, out.Stderr)
	}
	r.Code = out.Code
	return r
}

func (h *host) warned(what string, warnings []string, text string) {
	h.t.Helper()
	n := 0
	for _, w := range warnings {
		if strings.Contains(w, text) {
			n++
		}
	}
	switch {
	case text == "" && slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, "proves nothing") || strings.Contains(w, "be told whether") }):
		h.t.Errorf("%s warns: %q", what, warnings)
	case text != "" && n != 1:
		h.t.Errorf("%s warns %d times of …%s…: %q", what, n, text, warnings)
	}
}

// detail is what a step did.
func (v verdict) detail(name string) string {
	for _, s := range v.Steps {
		if s.Name == name {
			return s.Detail
		}
	}
	return ""
}

// nginxServer replaces the site's server in nginx.
func (h *host) nginxServer(text string) {
	h.t.Helper()
	h.must(h.WriteFile("/etc/nginx/sites-enabled/"+h.site.Name, text, 0o644))
	workers := func() []string {
		return strings.Fields(h.Exec(h.t.Context(), "sh", "-c", "pgrep -P $(cat /run/nginx.pid)").Stdout)
	}
	old := workers()
	h.sh("nginx -t && systemctl reload nginx")
	h.eventually(func() bool {
		now := workers()
		return len(now) > 0 && !slices.ContainsFunc(now, func(pid string) bool { return slices.Contains(old, pid) })
	})
}

// A good answer through nginx is believed as far as nginx's configuration leads the request to the app.
func TestBeliefThroughNginx(t *testing.T) {
	const (
		pass   = "include proxy_params; proxy_pass http://unix:/run/gunicorn/gunicorn.sock;"
		whole  = "configuration valid, healthy through it"
		detour = "configuration valid, the app is reached through it: GET / answers 200, as the app itself does"
		open   = "configuration valid, not proved that it reaches the app"
	)
	server := func(directives string) string {
		return "server {\nlisten 80 default_server;\nserver_name _;\n" + directives + "\n}\n"
	}
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		const file = "/etc/nginx/sites-enabled/app"
		h.must(h.WriteFile("/srv/www/health/index.html", "fine\n", 0o644))
		h.must(h.WriteFile("/srv/www/ok.html", "fine\n", 0o644))
		h.sh("ln -s /run/gunicorn/gunicorn.sock /srv/www/link.sock")
		n := 1
		for _, c := range []struct {
			name, nginx string
			body        string
			proxy       string // the step's detail
			warns       string
			status      int // of the health path through nginx
		}{
			{"as it is", server("location / { " + pass + " }"), "", whole, "", 200},
			{"nginx itself", server("location = /health/ { return 200; }\nlocation / { " + pass + " }"), "", detour, "nginx itself answers it (return 200 at " + file + ":4)", 200},
			{"a static file", server("root /srv/www;\nlocation = /health/ { try_files /ok.html =404; }\nlocation / { " + pass + " }"), "", detour, "nginx itself answers it (try_files =404 at " + file + ":5)", 200},
			{"a static directory", server("location /health/ { root /srv/www; }\nlocation / { " + pass + " }"), "", detour, "nginx itself answers it, and passes it to nobody (" + file + ":4)", 200},
			{"a file before the app", server("root /srv/www;\nlocation / { try_files /ok.html @app; }\nlocation @app { " + pass + " }\nlocation /live/ { " + pass + " }"), "", strings.Replace(detour, "GET /", "GET /live/", 1), "nginx serves it from /srv/www/ok.html (try_files at " + file + ":5)", 200},
			{"a file before the app that isn't there", server("root /srv/www;\nlocation / { try_files /down.html @app; }\nlocation @app { " + pass + " }"), "", whole, "", 200},
			{"an error page that says 200", server("root /srv/www;\nerror_page 502 =200 /ok.html;\nlocation = /ok.html { }\nlocation / { " + pass + " }"), "", open, "nginx answers as well where the app doesn't (error_page at " + file + ":5)", 200},
			{"and a body that names the version", server("root /srv/www;\nerror_page 502 =200 /ok.html;\nlocation = /ok.html { }\nlocation / { " + pass + " }"), "ok {version}", whole, "", 200},
			{"a maintenance page", server("location / { if (-f /srv/down) { return 503; } " + pass + " }"), "", whole, "", 200},
			{"a rewrite by what the client says", server("location / { if ($http_user_agent ~ x) { rewrite ^ /other/ break; } " + pass + " }"), "", open, "what the if at " + file + ":4 decides is not known", 200},
			{"a variable that only the request knows", server("location / { include proxy_params; resolver 127.0.0.1; proxy_pass http://unix:/run/gunicorn/gunicorn.sock:$arg_x$request_uri; }"), "", whole, "", 200},
			{"a map", "map $host $to { default unix:/run/gunicorn/gunicorn.sock; }\n" + server("location / { include proxy_params; proxy_pass http://$to; }"), "", open, "it can't be told whether the app answers", 200},
			{"a symlink to the socket", server("location / { include proxy_params; proxy_pass http://unix:/srv/www/link.sock; }"), "", whole, "", 200},
			{"/var/run", server("location / { include proxy_params; proxy_pass http://unix:/var/run/gunicorn/gunicorn.sock; }"), "", whole, "", 200},
			{"an upstream with another server", "upstream both { server unix:/run/gunicorn/gunicorn.sock; server 127.0.0.1:9 backup; }\n" + server("location / { include proxy_params; proxy_pass http://both; }"), "", open, "nginx may pass it to another server than the app (http://both at " + file + ":5)", 200},
			{"nginx behind nginx", server("location / { proxy_set_header Host $host; proxy_pass http://127.0.0.1:8080; }") + "server {\nlisten 127.0.0.1:8080;\nlocation / { " + pass + " }\n}\n", "", whole, "", 200},
			{"nginx behind nginx that answers itself", server("location / { proxy_set_header Host $host; proxy_pass http://127.0.0.1:8080; }") + "server {\nlisten 127.0.0.1:8080;\nlocation = /health/ { return 200; }\nlocation / { " + pass + " }\n}\n", "", detour, "nginx itself answers it (return 200 at " + file + ":8)", 200},
			{"an inner nginx by a path of its own", server("location / { proxy_set_header Host inner; proxy_pass http://127.0.0.1:8080/x/; }") + "server {\nlisten 127.0.0.1:8080;\nserver_name inner;\nlocation /x/ { proxy_set_header Host localhost; proxy_pass http://unix:/run/gunicorn/gunicorn.sock:/; }\n}\n", "", whole, "", 200},
		} {
			h.sub(c.name, func() {
				h.nginxServer(c.nginx)
				h.configure(fmt.Sprintf("body = %q", c.body))
				h.answers(c.status)
				n++
				version := fmt.Sprintf("v%d", n)
				h.add(version)
				h.warned("plan", h.says("plan", version).Warnings, c.warns)
				v := h.deploy("release", version)
				h.expect(v, "released", 0)
				if got := v.detail("proxy"); got != c.proxy {
					h.t.Errorf("proxy: %s; want %s", got, c.proxy)
				}
				h.warned("release", v.Warnings, c.warns)
				h.linked(version)
				r := h.says("check")
				h.warned("check", r.Warnings, c.warns)
				if r.Code != 0 || !r.Healthy {
					h.t.Errorf("check: %+v", r)
				}
			})
		}
	})
}

// The health path answers and the site is down: that isn't health, and isn't the release's doing.
func TestTheSiteIsDownThoughItsHealthPathAnswers(t *testing.T) {
	const pass = "include proxy_params; proxy_pass http://unix:/run/gunicorn/gunicorn.sock;"
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		for _, c := range []struct{ name, nginx, prepare, repair, cause, says string }{
			{
				"led elsewhere", "location = /health/ { return 200; }\nlocation / { include proxy_params; proxy_pass http://unix:/run/old.sock; }", "", "",
				"bind_mismatch", "the site is down: GET / answers 502, since nginx sends it to unix:/run/old.sock, by /etc/nginx/sites-enabled/app:5",
			},
			{
				"closed to nginx", "location = /health/ { return 200; }\nlocation / { " + pass + " }", "chmod 700 /run/gunicorn", "chmod 755 /run/gunicorn",
				"", "502",
			},
			{
				"another port", "location = /health/ { return 200; }\nlocation / { include proxy_params; proxy_pass http://127.0.0.1:9; }", "", "",
				"bind_mismatch", "since nginx sends it to 127.0.0.1:9",
			},
		} {
			h.sub(c.name, func() {
				h.nginxServer("server {\nlisten 80 default_server;\nserver_name _;\n" + c.nginx + "\n}\n")
				h.sh(c.prepare)
				h.answers(200)
				if status, _, _, err := h.Get(h.t.Context(), h.site, "/"); err != nil || status != 502 {
					h.t.Fatalf("the site answers %d, %v", status, err)
				}
				h.refuses("proxy", "before this release already: the site is down: GET / answers 502", "release", "v2")
				for _, command := range []string{"check", "diagnose"} {
					r := h.says(command)
					if r.Code != 1 || r.Healthy || len(r.Findings) != 1 || c.cause != "" && r.Findings[0].Cause != c.cause || !strings.Contains(fmt.Sprint(r.Findings), c.says) {
						h.t.Errorf("%s: %+v", command, r)
					}
				}
				h.sh(c.repair)
			})
		}
		h.nginxServer("server {\nlisten 80 default_server;\nserver_name _;\nlocation / { " + pass + " }\n}\n")
		h.released("v2")
	})
}
