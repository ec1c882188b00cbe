package e2e

import (
	"strings"
	"testing"
	"time"

	"deploygate/scripts/testbed"
)

// ownPath answers at /healthz alone.
func ownPath() testbed.Mod {
	return testbed.Append("project/urls.py", `urlpatterns = [path("", views.home), path("healthz", views.health)]`)
}

// strict redirects to https what didn't come by it, and answers one host.
func strict(mods ...testbed.Mod) []testbed.Mod {
	return append([]testbed.Mod{
		testbed.RedirectHTTPS(), testbed.AllowedHosts("shop.example"), ownPath(),
		testbed.Append("project/settings.py", `SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")`),
	}, mods...)
}

// odd is a host that nothing of is as the defaults have it.
func (h *host) odd() {
	h.certificate(0, 90*24*time.Hour)
	h.sh(`systemctl disable --quiet --now web.service
cat > /etc/systemd/system/web.service <<'UNIT'
[Service]
User=www-data
WorkingDirectory=/opt/www/shop/current
EnvironmentFile=/etc/shop.env
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/gunicorn -c /etc/shop/gunicorn.conf.py project.wsgi:application
Restart=always
UNIT
mkdir -p /etc/shop
printf 'bind = "127.0.0.1:8003"\nworkers = 2\n' > /etc/shop/gunicorn.conf.py
systemctl daemon-reload`)
	h.nginxServer(`server { listen 80 default_server; server_name _; return 301 https://$host$request_uri; }
server {
	listen 443 ssl;
	server_name shop.example www.shop.example;
	ssl_certificate /etc/nginx/shop.cert;
	ssl_certificate_key /etc/nginx/shop.key;
	location /static/ { root /opt/www/shop/current; }
	location / { proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme; proxy_pass http://127.0.0.1:8003; }
}`)
}

// asked is what a client of the site gets over TLS.
func (h *host) asked() string {
	h.t.Helper()
	return h.Exec(h.t.Context(), "curl", "--silent", "--insecure", "--fail", "--resolve", "shop.example:443:127.0.0.1", "https://shop.example/healthz").Stdout
}

// On a host of an odd layout four commands lead to a released app, and nothing is edited by hand.
func TestNewcomer(t *testing.T) {
	site := testbed.Site{Name: "shop", Root: "/opt/www/shop", Unit: "web.service", Bind: "127.0.0.1:8003", Port: 80, ServerName: "shop.example"}
	onEachSuite(t, site, func(h *host) {
		h.add("v1", strict()...)
		h.must(h.SetLink(site, "v1"))
		h.sh("systemctl start web.service")
		h.odd()
		h.sh("systemctl restart web.service")
		h.eventually(func() bool { return h.asked() == "ok v1\n" })

		if r := h.run("check"); r.Code != 2 || !strings.Contains(r.Stderr, "there is no configuration, and there is no /srv/app; web.service (gunicorn in /opt/www/shop) runs a web application: deploygate init") {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		if r := h.run("init"); r.Code != 0 || r.Stdout != "written: /etc/deploygate/shop.toml, for web.service in /opt/www/shop; whether it fits: deploygate check\n" {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
		text, err := h.ReadFile("/etc/deploygate/shop.toml")
		h.must(err)
		for _, want := range []string{
			"\nroot = \"/opt/www/shop\" # ", "\nunit = \"web.service\" # ", "\nbind = \"127.0.0.1:8003\" # ", "\npath = \"/healthz\" # ", "\nhost = \"shop.example\" # ",
			"\nurl = \"https://127.0.0.1\" # ",
		} {
			if !strings.Contains(text, want) {
				h.t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if r := h.run("check"); r.Code != 0 || r.Stdout != "healthy: v1 passes its gate\n" {
			h.t.Errorf("exit %d, %q, %q", r.Code, r.Stdout, r.Stderr)
		}
		h.add("v2", strict()...)
		if r := h.run("plan", "v2"); r.Code != 0 {
			h.t.Errorf("exit %d", r.Code)
		}
		if r := h.run("release", "v2"); r.Code != 0 || h.asked() != "ok v2\n" {
			h.t.Errorf("exit %d, %q", r.Code, h.asked())
		}
		h.add("v3", strict(testbed.ImportError())...)
		if r := h.run("release", "v3"); r.Code != 3 || h.asked() != "ok v2\n" {
			h.t.Errorf("exit %d, %q", r.Code, h.asked())
		}
	})
}

// A host without releases gets the steps to them, word by word, and then a configuration.
func TestInitWithoutReleases(t *testing.T) {
	site := testbed.Site{Name: "shop", Root: "/srv/shop-site", Unit: "shop.service", Bind: "127.0.0.1:8003", Port: 80, ServerName: "shop.example"}
	onAHost(t, site, func(h *host) {
		h.add("v0")
		h.sh(`mkdir -p /srv/shop; cp -a /srv/shop-site/releases/v0/. /srv/shop/; rm -r /srv/shop-site
cat > /etc/systemd/system/shop.service <<'UNIT'
[Service]
User=www-data
EnvironmentFile=/etc/shop.env
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/gunicorn --workers 2 --chdir /srv/shop --bind 127.0.0.1:8003 project.wsgi:application
UNIT
systemctl daemon-reload; systemctl restart shop.service`)
		h.eventually(func() bool {
			status, _, _, err := h.Get(h.t.Context(), site, "/health/")
			return err == nil && status == 200
		})
		r := h.run("init")
		if r.Code != 1 || !strings.Contains(r.Stderr, "shop.service runs /srv/shop, and goes through no link that is called current") {
			h.t.Fatalf("exit %d, %q", r.Code, r.Stderr)
		}
		h.nothing("/srv/shop-site")
		steps := commands(r.Stdout, "to lay it out in releases")
		h.follow(steps[:len(steps)-1])
		h.eventually(func() bool { return h.asked80() == "ok v1\n" })
		h.follow(steps[len(steps)-1:])
		if r := h.run("check"); r.Code != 0 {
			h.t.Errorf("exit %d, %q", r.Code, r.Stderr)
		}
		h.add("v2")
		if r := h.run("release", "v2"); r.Code != 0 || h.asked80() != "ok v2\n" {
			h.t.Errorf("exit %d, %q", r.Code, h.asked80())
		}
	})
}

func (h *host) asked80() string {
	h.t.Helper()
	_, _, body, _ := h.Get(h.t.Context(), h.site, "/health/")
	return body
}
