package conf

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate/proxy"
)

func TestPathsBelowADirectory(t *testing.T) {
	const dump = `# configuration file /etc/nginx/nginx.conf:
http {
	ssl_certificate /etc/ssl/shop.pem;
	include /srv/app/current/deploy/extra.conf;
	include /srv/app/current/deploy/nginx[.]conf;
	server {
		ssl_certificate "/srv/app/current/tls/cert.pem";
		ssl_certificate_key data:$key;
		root /srv/app/current/public;
		location /static/ { alias /srv/app/current/static/; }
		location /again/ { alias /srv/app/current/static; }
		location ~ ^/media/(.*)$ { alias /srv/app/current/media/$1; }
		location ~ ^/page/(.*)$ { alias /srv/app/current/page-$1; }
		location /old/ { alias /srv/app/current-old/; }
		location /files/ { root files; }
		location /admin/ { auth_basic_user_file /srv/app/current/htpasswd; }
	}
}

# configuration file /srv/app/current/deploy/extra.conf:
server { location /docs/ { alias /srv/app/current/docs/; } }

# configuration file /srv/app/current/deploy/nginx.conf:
`
	config, err := Parse(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	const file = "/etc/nginx/nginx.conf:"
	want := []proxy.Path{
		{Directive: "include", Path: "/srv/app/current/deploy/extra.conf", At: file + "3", Dir: false, Loaded: true},
		{Directive: "ssl_certificate", Path: "/srv/app/current/tls/cert.pem", At: file + "6", Dir: false, Loaded: true},
		{Directive: "root", Path: "/srv/app/current/public", At: file + "8", Dir: true, Loaded: false},
		{Directive: "alias", Path: "/srv/app/current/static", At: file + "9", Dir: true, Loaded: false},
		{Directive: "alias", Path: "/srv/app/current/media", At: file + "11", Dir: true, Loaded: false},
		{Directive: "alias", Path: "/srv/app/current", At: file + "12", Dir: true, Loaded: false},
		{Directive: "auth_basic_user_file", Path: "/srv/app/current/htpasswd", At: file + "15", Dir: false, Loaded: false},
	}
	if d := cmp.Diff(want, config.Paths("/srv/app/current")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/etc/nginx/nginx.conf", "/srv/app/current/deploy/extra.conf"}, config.Files()); d != "" {
		t.Error(d)
	}
}
