package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Site is one Django application on a machine: ROOT/{releases,current,shared},
// a gunicorn unit, and an nginx server in front. Several live on one machine
// if they differ in Name, Root, Unit, Bind, and in Port or ServerName.
type Site struct {
	Name       string // names its files below /etc
	Root       string
	Unit       string // ends in .service
	Bind       string // gunicorn's syntax: "unix:/run/NAME/FILE" or "HOST:PORT"
	Port       int    // that nginx listens on
	ServerName string // "" makes it the port's default server

	// Socket puts a systemd socket unit in front of a unix Bind, so that
	// connections wait while gunicorn restarts.
	Socket bool
	// Args are further arguments for gunicorn, such as "--threads 4".
	Args string
	// BehindTLS makes nginx pass on the client's X-Forwarded-Proto, as behind
	// a load balancer that ends TLS. Otherwise nginx says what it sees: http.
	BehindTLS bool
}

// DefaultSite returns the site that deploygate assumes when it is not
// configured at all.
func DefaultSite() Site {
	return Site{
		Name: "app",
		Root: "/srv/app",
		Unit: "gunicorn.service",
		Bind: "unix:/run/gunicorn/gunicorn.sock",
		Port: 80,
	}
}

// ReleaseDir returns the directory of a release, whether or not it exists.
func (s Site) ReleaseDir(version string) string { return path.Join(s.Root, "releases", version) }

// Upstream returns Bind in nginx's syntax.
func (s Site) Upstream() string {
	if socket, ok := strings.CutPrefix(s.Bind, "unix:"); ok {
		return "http://unix:" + socket
	}
	return "http://" + s.Bind
}

// Host returns the Host header that reaches the site.
func (s Site) Host() string {
	if s.ServerName == "" {
		return "localhost"
	}
	return s.ServerName
}

// SocketPath returns the path of a unix Bind, or "".
func (s Site) SocketPath() string {
	if socket, ok := strings.CutPrefix(s.Bind, "unix:"); ok {
		return socket
	}
	return ""
}

// SocketUnit returns the name of the unit that Socket adds.
func (s Site) SocketUnit() string { return strings.TrimSuffix(s.Unit, ".service") + ".socket" }

// RuntimeDirectory returns the directory below /run that the unit must make
// for its socket, or "". A socket unit makes its own, and must not lose it
// whenever the service stops.
func (s Site) RuntimeDirectory() string {
	if dir, ok := strings.CutPrefix(path.Dir(s.SocketPath()), "/run/"); ok && !s.Socket {
		return dir
	}
	return ""
}

func (s Site) url(path string) string {
	return "http://" + net.JoinHostPort(s.Host(), strconv.Itoa(s.Port)) + path
}

var serviceUnit = template.Must(template.New("service").Parse(`[Unit]
Description=gunicorn for {{.Name}}
After=network.target
{{- if .Socket}}
Requires={{.SocketUnit}}
{{- end}}

[Service]
Type=notify
User=www-data
Group=www-data
{{- with .RuntimeDirectory}}
RuntimeDirectory={{.}}
{{- end}}
WorkingDirectory={{.Root}}/current
EnvironmentFile=/etc/{{.Name}}.env
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/usr/bin/gunicorn --workers 2{{with .Args}} {{.}}{{end}} --bind {{.Bind}} project.wsgi:application
ExecReload=/bin/kill -s HUP $MAINPID
Restart=always
RestartSec=100ms
KillMode=mixed
TimeoutStopSec=10

[Install]
WantedBy=multi-user.target
`))

var socketUnit = template.Must(template.New("socket").Parse(`[Unit]
Description=socket of gunicorn for {{.Name}}

[Socket]
ListenStream={{.SocketPath}}
SocketUser=www-data

[Install]
WantedBy=sockets.target
`))

// The include is a pattern so that a release without one is fine.
var nginxServer = template.Must(template.New("nginx").Parse(`server {
	listen {{.Port}}{{if not .ServerName}} default_server{{end}};
	server_name {{or .ServerName "_"}};

	include {{.Root}}/current/deploy/nginx[.]conf;

	location / {
{{- if .BehindTLS}}
		proxy_set_header Host $host;
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		proxy_set_header X-Forwarded-Proto $http_x_forwarded_proto;
{{- else}}
		include proxy_params;
{{- end}}
		proxy_pass {{.Upstream}};
	}
}
`))

// InstallSite lays out a site without a release: directories, environment
// file, unit, nginx server. The unit is enabled but not started, as there is
// nothing to run; see [Machine.GoLive].
func (m *Machine) InstallSite(ctx context.Context, site Site) error {
	if err := m.installSite(ctx, site); err != nil {
		return fmt.Errorf("cannot install site %s: %w", site.Name, err)
	}
	return nil
}

func (m *Machine) installSite(ctx context.Context, site Site) error {
	for _, dir := range []string{"releases", "shared"} {
		if err := m.files.MkdirAll(inside(path.Join(site.Root, dir)), 0o755); err != nil {
			return err
		}
	}
	// The database is in shared/; SQLite wants to write beside it.
	if err := m.Exec(ctx, "chown", "www-data:www-data", path.Join(site.Root, "shared")).Err; err != nil {
		return err
	}
	env := fmt.Sprintf("SECRET_KEY=not-secret-%s\nALLOWED_HOSTS=localhost 127.0.0.1 %s\n", site.Name, site.ServerName)
	if err := m.WriteFile("/etc/"+site.Name+".env", env, 0o640); err != nil {
		return err
	}
	units := []string{site.Unit}
	if err := m.writeTemplate("/etc/systemd/system/"+site.Unit, serviceUnit, site); err != nil {
		return err
	}
	if site.Socket {
		units = append(units, site.SocketUnit())
		if err := m.writeTemplate("/etc/systemd/system/"+site.SocketUnit(), socketUnit, site); err != nil {
			return err
		}
	}
	if err := m.writeTemplate("/etc/nginx/sites-enabled/"+site.Name, nginxServer, site); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"systemctl", "daemon-reload"},
		append([]string{"systemctl", "enable", "--quiet"}, units...),
		{"nginx", "-q", "-t"},
		{"systemctl", "reload-or-restart", "nginx.service"},
	} {
		if err := m.Exec(ctx, argv...).Err; err != nil {
			return err
		}
	}
	if site.Socket {
		return m.Exec(ctx, "systemctl", "start", site.SocketUnit()).Err
	}
	return nil
}

// InstallBootUnits installs and enables the units that finish a deploy at boot, from the directory in which the project has
// them.
func (m *Machine) InstallBootUnits(ctx context.Context, dir string) error {
	units := []string{"deploygate-boot.service", "deploygate-recover.service"}
	for _, unit := range units {
		text, err := os.ReadFile(path.Join(dir, unit))
		if err == nil {
			err = m.WriteFile("/etc/systemd/system/"+unit, string(text), 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot install %s: %w", unit, err)
		}
	}
	return m.Exec(ctx, append([]string{"systemctl", "enable", "--quiet"}, units...)...).Err
}

func (m *Machine) writeTemplate(guest string, tmpl *template.Template, site Site) error {
	var text strings.Builder
	if err := tmpl.Execute(&text, site); err != nil {
		return err
	}
	return m.WriteFile(guest, text.String(), 0o644)
}

// Link returns what the site's current links to, "releases/VERSION".
func (m *Machine) Link(site Site) (string, error) {
	return m.files.Readlink(inside(path.Join(site.Root, "current")))
}

// SetLink makes version the site's current release, atomically. What runs
// goes on running.
func (m *Machine) SetLink(site Site, version string) error {
	link := inside(path.Join(site.Root, "current"))
	next := link + ".next"
	if err := m.files.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := m.files.Symlink("releases/"+version, next); err != nil {
		return err
	}
	return m.files.Rename(next, link)
}

// GoLive makes version the current release, restarts the unit, and waits for
// a healthy answer of it through nginx.
func (m *Machine) GoLive(ctx context.Context, site Site, version string) error {
	if err := m.SetLink(site, version); err != nil {
		return fmt.Errorf("cannot go live with %s: %w", version, err)
	}
	if err := m.Exec(ctx, "systemctl", "restart", site.Unit).Err; err != nil {
		return fmt.Errorf("cannot go live with %s: %w", version, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	last := "no answer"
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		status, header, body, err := m.Get(ctx, site, "/health/")
		if err == nil {
			last = fmt.Sprintf("status %d, %q", status, body)
		}
		return status == http.StatusOK && header.Get("X-Release") == version, nil
	})
	if err != nil {
		return fmt.Errorf("cannot go live with %s: %w; last answer: %s", version, err, last)
	}
	return nil
}

// Cwds returns the working directories, as the machine sees them, of the
// site's gunicorn processes: the master's first, then one for each worker.
func (m *Machine) Cwds(ctx context.Context, site Site) ([]string, error) {
	group, err := m.UnitProperty(ctx, site.Unit, "ControlGroup")
	if err != nil {
		return nil, err
	}
	if group == "" {
		return nil, nil // it is not running
	}
	// The ids are this host's, as it is this host that reads them.
	pids, err := m.ReadFile("/sys/fs/cgroup" + group + "/cgroup.procs")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it has just stopped
	}
	if err != nil {
		return nil, err
	}
	var cwds []string
	for pid := range strings.FieldsSeq(pids) {
		cwd, err := os.Readlink("/proc/" + pid + "/cwd")
		if err != nil {
			continue // the process has just ended
		}
		cwds = append(cwds, cwd)
	}
	return cwds, nil
}

// UnitProperty returns a property of a unit as `systemctl show` prints it.
func (m *Machine) UnitProperty(ctx context.Context, unit, name string) (string, error) {
	result := m.Exec(ctx, "systemctl", "show", "--value", "--property="+name, "--", unit)
	return strings.TrimSpace(result.Stdout), result.Err
}

func (m *Machine) mainPID(ctx context.Context, unit string) (int, error) {
	value, err := m.UnitProperty(ctx, unit, "MainPID")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(value)
}
