package e2e

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

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

// reports runs check, diagnose or plan.
func (h *host) reports(args ...string) (r report) {
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
	case text == "" && slices.ContainsFunc(warnings, func(w string) bool {
		return strings.Contains(w, "proves nothing") || strings.Contains(w, "be told whether")
	}):
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
	onAHost(t, testbed.DefaultSite(), func(h *host) {
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
			{"a static file", server("root /srv/www;\nlocation = /health/ { try_files /ok.html =404; }\nlocation / { " + pass + " }"), "", detour, "nginx serves it from /srv/www/ok.html (try_files at " + file + ":5)", 200},
			{"a static directory", server("location /health/ { root /srv/www; }\nlocation / { " + pass + " }"), "", detour, "nginx itself answers it, and passes it on to nothing (" + file + ":4)", 200},
			{"a file before the app", server("root /srv/www;\nlocation / { try_files /ok.html @app; }\nlocation @app { " + pass + " }\nlocation /live/ { " + pass + " }"), "", strings.Replace(detour, "GET / answers 200", "GET /live/ answers 404", 1), "nginx serves it from /srv/www/ok.html (try_files at " + file + ":5)", 200},
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
				h.warned("plan", h.reports("plan", version).Warnings, c.warns)
				v := h.deploy("release", version)
				h.expect(v, "released", 0)
				if got := v.detail("proxy"); got != c.proxy {
					h.t.Errorf("proxy: %s; want %s", got, c.proxy)
				}
				h.warned("release", v.Warnings, c.warns)
				h.linked(version)
				r := h.reports("check")
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
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		for _, c := range []struct{ name, nginx, prepare, repair, layer, cause, says string }{
			{
				"led elsewhere", "location = /health/ { return 200; }\nlocation / { include proxy_params; proxy_pass http://unix:/run/old.sock; }", "", "",
				"proxy", "bind_mismatch", "the site is down: GET / answers 502, since nginx sends it to unix:/run/old.sock, by /etc/nginx/sites-enabled/app:5",
			},
			{
				"closed to nginx", "location = /health/ { return 200; }\nlocation / { " + pass + " }", "chmod 000 /run/gunicorn", "chmod 755 /run/gunicorn; sleep 1", // nginx logs whole seconds: what follows must not be in the same one
				"socket", "socket_permission", "nginx's user www-data may not enter /run/gunicorn",
			},
			{
				"another port", "location = /health/ { return 200; }\nlocation / { include proxy_params; proxy_pass http://127.0.0.1:9; }", "", "",
				"proxy", "bind_mismatch", "since nginx sends it to 127.0.0.1:9",
			},
		} {
			h.sub(c.name, func() {
				h.nginxServer("server {\nlisten 80 default_server;\nserver_name _;\n" + c.nginx + "\n}\n")
				h.sh(c.prepare)
				h.answers(200)
				if status, _, _, err := h.Get(h.t.Context(), h.site, "/"); err != nil || status != 502 {
					h.t.Fatalf("the site answers %d, %v", status, err)
				}
				h.refuses(c.layer, "before this release already: ", "release", "v2")
				for _, command := range []string{"check", "diagnose"} {
					r := h.reports(command)
					if r.Code != 1 || r.Healthy || len(r.Findings) != 1 || r.Findings[0].Cause != c.cause || !strings.Contains(fmt.Sprint(r.Findings), c.says) {
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

// Only a whole answer is one, whatever its status says.
func TestBeliefInWholeAnswers(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		for i, c := range []struct {
			name, view, body string
			cause, says      string // "" is released
		}{
			{"a large page", "return HttpResponse('ok' + 3_000_000 * ' ')", "", "", ""},
			{"packed though nobody asked", "import gzip\nr = HttpResponse(gzip.compress(bytes(2_000_000)))\nr['Content-Encoding'] = 'gzip'\nreturn r", "", "", ""},
			{"packed, where a text is wanted", "import gzip\nr = HttpResponse(gzip.compress(b'ok'))\nr['Content-Encoding'] = 'gzip'\nreturn r", "ok", "unexpected_body", "its body is encoded (gzip)"},
			{"without an end", "import itertools\nfrom django.http import StreamingHttpResponse\nreturn StreamingHttpResponse(itertools.repeat(65536 * b'x'))", "", "incomplete_answer", "the app answers 200, but its body is not whole"},
			{"drop by drop", "import itertools\nfrom django.http import StreamingHttpResponse\nreturn StreamingHttpResponse((time.sleep(0.1) or b'.') for _ in itertools.count())", "", "incomplete_answer", "it has no end within 2s"},
			{"shorter than it says", "r = HttpResponse(b'half')\nr['Content-Length'] = '100'\nreturn r", "", "incomplete_answer", "unexpected EOF"},
			{"broken off", "from django.http import StreamingHttpResponse\ndef parts():\n    yield b'half'\n    raise RuntimeError('no more')\nreturn StreamingHttpResponse(parts())", "", "", ""},
		} {
			h.sub(c.name, func() {
				h.configure(fmt.Sprintf("deadline = \"8s\"\nbody = %q", c.body))
				version := fmt.Sprintf("v%d", i+2)
				h.add(version, testbed.HealthView(c.view))
				v := h.deploy("release", version)
				switch {
				case c.name == "broken off":
					// The view raised an exception, which says more than that its answer has no end.
					h.expect(v, "rolled_back", 3)
				case c.cause == "":
					h.expect(v, "released", 0)
					h.linked(version)
					h.must(h.GoLive(h.t.Context(), h.site, "v1"))
				default:
					h.expect(v, "rolled_back", 3)
					h.failed(v, map[string]string{"incomplete_answer": "app", "unexpected_body": "health"}[c.cause], c.cause, c.says)
				}
				h.configure("")
				h.live("v1")
			})
		}
	})
}

// squatter answers for an app, on a port that it shares with whoever else wants it.
const squatter = `import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")
Server(("127.0.0.1", 8001), Handler).serve_forever()
`

// No answer counts where another process may have given it than one of this start of the unit.
func TestBeliefInThisStartOfTheUnit(t *testing.T) {
	site := testbed.DefaultSite()
	site.Bind, site.Args = "127.0.0.1:8001", "--reuse-port"
	onAHost(t, site, func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2")
		h.must(h.WriteFile("/srv/squatter.py", squatter, 0o644))
		squat := func() {
			h.sh("systemd-run --quiet --unit=squatter --uid=www-data python3 /srv/squatter.py")
			h.eventually(func() bool {
				return strings.Count(h.Exec(h.t.Context(), "ss", "-Hltn", "sport = :8001").Stdout, "LISTEN") > 1
			})
		}
		stray := func(says string) {
			h.t.Helper()
			for _, command := range []string{"check", "diagnose"} {
				r := h.reports(command)
				if r.Code != 1 || r.Healthy || len(r.Findings) == 0 || r.Findings[0].Cause != "stray_process" || !strings.Contains(r.Findings[0].Summary, says) {
					h.t.Errorf("%s: %+v", command, r)
				}
			}
		}
		h.sub("another unit shares the port", func() {
			squat()
			stray("of squatter.service listens at 127.0.0.1:8001, and is not one of gunicorn.service")
			h.configure("deadline = \"8s\"")
			v := h.deploy("release", "v2")
			h.configure("")
			if v.Code == 0 || v.Failure == nil || v.Failure.Cause != "stray_process" || !strings.Contains(v.Failure.Summary, "squatter.service") {
				h.t.Errorf("release: %+v", v)
			}
			h.sh("systemctl stop squatter.service")
			h.must(h.GoLive(h.t.Context(), h.site, "v1"))
			if r := h.reports("check"); r.Code != 0 {
				h.t.Errorf("without it: %+v", r)
			}
		})
		h.sub("an earlier start left it in the unit", func() {
			squat()
			h.must(h.GoLive(h.t.Context(), h.site, "v1"))
			h.sh("systemctl show -p MainPID --value squatter.service >/sys/fs/cgroup/system.slice/gunicorn.service/cgroup.procs")
			stray("is left over from an earlier start of gunicorn.service")
			h.must(h.GoLive(h.t.Context(), h.site, "v1")) // KillMode=mixed takes it with the rest
			if r := h.reports("check"); r.Code != 0 {
				h.t.Errorf("without it: %+v", r)
			}
		})
		h.add("v3")
		h.released("v3")
	})
}

// A unit that is up between two crashes isn't healthy; one that crashed once is.
func TestBeliefBetweenTwoCrashes(t *testing.T) {
	for _, kind := range []string{"notify", "simple"} {
		t.Run(kind, func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.must(h.WriteFile("/etc/systemd/system/gunicorn.service.d/type.conf", "[Service]\nType="+kind+"\nRestartSec=1s\n", 0o644))
				h.sh("systemctl daemon-reload")
				h.configure("")
				h.add("v1")
				h.released("v1")
				restarts := func(n string) func() bool {
					return func() bool {
						got, err := h.UnitProperty(h.t.Context(), h.site.Unit, "NRestarts")
						status, _, _, err2 := h.Get(h.t.Context(), h.site, "/health/")
						return err == nil && got == n && err2 == nil && status == 200
					}
				}
				h.sh("systemctl kill -s KILL gunicorn.service")
				h.eventually(restarts("1"))
				if r := h.reports("check"); r.Code != 0 {
					h.t.Errorf("it crashed once: %+v", r)
				}
				h.add("v2", testbed.CrashAfter(6_000_000_000))
				h.add("v3")
				h.must(h.GoLive(h.t.Context(), h.site, "v2"))
				h.eventually(restarts("1"))
				h.eventually(restarts("2"))
				r := h.reports("check")
				if r.Code != 1 || r.Healthy || len(r.Findings) == 0 || !strings.Contains(fmt.Sprint(r.Findings), "crashe") {
					h.t.Errorf("check: %+v", r)
				}
				if d := h.diagnose(); d.Healthy {
					h.t.Errorf("diagnose: %+v", d)
				}
				h.released("v3")
				if r := h.reports("check"); r.Code != 0 {
					h.t.Errorf("another release: %+v", r)
				}
			})
		})
	}
}

// Workers that fail and are replaced for ever are a failure, though others answer. Helpers, workers that have done their
// share, and one that failed once are none.
func TestBeliefInWorkers(t *testing.T) {
	const (
		dirty = `import os, time
def when_ready(server):
    if os.fork() == 0:
        while True:
            pid = os.fork()
            if pid == 0:
                time.sleep(0.3)
                server.log.error("Dirty worker failed to boot (pid:%d)", os.getpid())
                os._exit(3)
            os.waitpid(pid, 0)
`
		dies = `import os, time
preload_app = True
def post_worker_init(worker):
    if worker.age > 1:
        time.sleep(0.3)
        os._exit(1)
`
		diesOnce = `import os
def post_worker_init(worker):
    if worker.age == 2:
        os._exit(1)
`
		killed = `import os, signal, time
def post_worker_init(worker):
    if worker.age > 1:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGSEGV)
`
		conf = "gunicorn.conf.py"
	)
	helpers := testbed.HealthView(`import multiprocessing, subprocess
subprocess.run(["/bin/true"], check=True)
p = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.05,))
p.start()
p.join()
return HttpResponse(f"ok {VERSION}\n")`)
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.reconfigure(`stable = "600ms"`, `stable = "2s"`) // on a busy machine a process takes long to be started and to fail
		h.add("v1")
		h.released("v1")
		for i, c := range []struct {
			name  string
			mod   testbed.Mod
			fails bool
		}{
			{"children of a child", testbed.File(conf, dirty), true},
			{"workers of gunicorn's, with --preload", testbed.File(conf, dies), true},
			{"killed by a signal", testbed.File(conf, killed), true},
			{"once", testbed.File(conf, diesOnce), false},
			{"max_requests", testbed.File(conf, "preload_app = True\nmax_requests = 2\n"), false},
			{"max_requests, and a quiet log", testbed.File(conf, "preload_app = True\nmax_requests = 2\nloglevel = \"warning\"\n"), false},
			{"helpers", helpers, false},
		} {
			h.sub(c.name, func() {
				version := fmt.Sprintf("v%d", i+2)
				h.add(version, c.mod)
				v := h.deploy("release", version)
				if !c.fails {
					h.expect(v, "released", 0)
					h.linked(version)
					if r := h.reports("check"); r.Code != 0 {
						h.t.Errorf("check: %+v", r)
					}
					h.must(h.GoLive(h.t.Context(), h.site, "v1"))
					return
				}
				h.expect(v, "rolled_back", 3)
				h.failed(v, "app", "worker_crash", "")
				h.live("v1")
				h.must(h.GoLive(h.t.Context(), h.site, version))
				h.answers(200)
				h.eventually(func() bool {
					r := h.reports("check")
					return r.Code == 1 && len(r.Findings) > 0 && r.Findings[0].Cause == "worker_crash"
				})
				h.must(h.GoLive(h.t.Context(), h.site, "v1"))
			})
		}
	})
}

// certificate writes one for shop.example that was made so long ago and lives from then on for so long.
func (h *host) certificate(age, life time.Duration) {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	begin := time.Now().Add(-age)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop.example"}, DNSNames: []string{"shop.example", "localhost"},
		NotBefore: begin, NotAfter: begin.Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	h.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	h.must(err)
	for file, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: secret}} {
		h.must(h.WriteFile("/etc/nginx/shop."+file, string(pem.EncodeToMemory(block)), 0o600))
	}
}

// A certificate near its end is a risk of the host, which keeps no release from going live.
func TestBeliefInCertificates(t *testing.T) {
	const day = 24 * time.Hour
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.sh("sed -i 's/^ALLOWED_HOSTS=.*/ALLOWED_HOSTS=*/' /etc/app.env")
		h.add("v1")
		h.released("v1")
		h.reconfigure("http://127.0.0.1:80/", "https://127.0.0.1/")
		host := "localhost"
		for i, c := range []struct {
			name      string
			age, life time.Duration
			host      string
			says      string // "" is no risk
		}{
			{"new", day, 90 * day, "localhost", ""},
			{"of six days, three of them left", 3 * day, 6 * day, "shop.example", ""},
			{"of another name", day, 90 * day, "www.shop.example", "is not for www.shop.example"},
			{"of six days, in its last one", 5*day + time.Hour, 6 * day, "shop.example", "expires in 2"},
			{"five days left", 85*day - time.Hour, 90 * day, "shop.example", "expires in 5 days"},
			{"expired", 91 * day, 90 * day, "shop.example", "expired at"},
		} {
			h.sub(c.name, func() {
				h.certificate(c.age, c.life)
				h.nginxServer("server {\nlisten 443 ssl default_server;\nlisten 80 default_server;\nssl_certificate /etc/nginx/shop.cert;\nssl_certificate_key /etc/nginx/shop.key;\n" +
					"location / { include proxy_params; proxy_pass http://unix:/run/gunicorn/gunicorn.sock; }\n}\n")
				h.reconfigure("[proxy]\nhost = \""+host+"\"", "[proxy]\nhost = \""+c.host+"\"")
				host = c.host
				version := fmt.Sprintf("v%d", i+2)
				h.add(version)
				risks := func(what string, warnings []string) {
					h.t.Helper()
					found := 0
					for _, w := range warnings {
						if strings.Contains(w, "certificate") {
							found++
						}
						if strings.Contains(w, "certificate") && !strings.Contains(w, cmp.Or(c.says, "none")) {
							h.t.Errorf("%s warns %q", what, w)
						}
					}
					if want := min(len(c.says), 1); found != want {
						h.t.Errorf("%s warns %d times: %q", what, found, warnings)
					}
				}
				risks("plan", h.reports("plan", version).Warnings)
				v := h.deploy("release", version)
				h.expect(v, "released", 0)
				risks("release", v.Warnings)
				r := h.reports("check")
				risks("check", r.Warnings)
				if r.Code != 0 || !r.Healthy {
					h.t.Errorf("check: %+v", r)
				}
				if got := h.Exec(h.t.Context(), "curl", "-ks", "https://localhost/health/").Stdout; got != "ok "+version+"\n" {
					h.t.Errorf("a client that doesn't look at the certificate gets %q", got)
				}
			})
		}
	})
}
