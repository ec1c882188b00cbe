package nginx

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	want := []Path{
		{"include", "/srv/app/current/deploy/extra.conf", file + "3", false, true},
		{"ssl_certificate", "/srv/app/current/tls/cert.pem", file + "6", false, true},
		{"root", "/srv/app/current/public", file + "8", true, false},
		{"alias", "/srv/app/current/static", file + "9", true, false},
		{"alias", "/srv/app/current/media", file + "11", true, false},
		{"alias", "/srv/app/current", file + "12", true, false},
		{"auth_basic_user_file", "/srv/app/current/htpasswd", file + "15", false, false},
	}
	if d := cmp.Diff(want, config.Paths("/srv/app/current")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/etc/nginx/nginx.conf", "/srv/app/current/deploy/extra.conf"}, config.Files()); d != "" {
		t.Error(d)
	}
}
