package testbed

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// The project every release starts from. "all:" is for __init__.py.
//
//go:embed all:django
var project embed.FS

// files are those of a release: content by path below its directory.
type files map[string]string

// Mod changes a release before it is written.
type Mod func(files)

// AddRelease writes a release: a Django project, readable by everyone, whose
// /health/ answers "ok VERSION", and whose every answer has the headers
// X-Release and X-Pid. VERSION is the directory that the running code was
// loaded from. The models of its application, shop, need `manage.py migrate`;
// its pages don't.
func (m *Machine) AddRelease(site Site, version string, mods ...Mod) error {
	if err := m.addRelease(site.ReleaseDir(version), mods); err != nil {
		return fmt.Errorf("cannot add release %s: %w", version, err)
	}
	return nil
}

func (m *Machine) addRelease(dir string, mods []Mod) error {
	release := make(files)
	base, err := fs.Sub(project, "django")
	if err != nil {
		return err
	}
	err = fs.WalkDir(base, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(base, name)
		release[name] = string(content)
		return err
	})
	if err != nil {
		return err
	}
	for _, mod := range mods {
		mod(release)
	}
	// It is an error that the release exists: it might be running.
	if err := m.files.Mkdir(inside(dir), 0o755); err != nil {
		return err
	}
	for name, content := range release {
		if err := m.WriteFile(path.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

const (
	settingsFile = "project/settings.py"
	viewsFile    = "project/views.py"
	wsgiFile     = "project/wsgi.py" // the workers import it, manage.py doesn't
)

// File writes a file of any name.
func File(name, content string) Mod {
	return func(f files) { f[name] = content }
}

// Remove leaves out a file.
func Remove(name string) Mod {
	return func(f files) { delete(f, name) }
}

// Prepend puts Python code at the start of a file.
func Prepend(name, code string) Mod {
	return func(f files) { f[name] = code + "\n" + f[name] }
}

// Append puts Python code at the end of a file, where it overrides.
func Append(name, code string) Mod {
	return func(f files) { f[name] += "\n\n" + code + "\n" }
}

func seconds(d time.Duration) string { return fmt.Sprintf("%g", d.Seconds()) }

// ImportError has the workers import a module that does not exist.
func ImportError() Mod { return Prepend(wsgiFile, "import payments") }

// SyntaxError puts one into a file that the workers import.
func SyntaxError() Mod { return Append(wsgiFile, "def broken(:") }

// MissingSetting has the settings read an environment variable that is not set.
func MissingSetting(name string) Mod {
	return Append(settingsFile, fmt.Sprintf("X = os.environ[%q]", name))
}

// Answer500 has the health view raise an exception.
func Answer500() Mod {
	return Append(viewsFile, `def health(request):
    raise RuntimeError("the health view is broken")`)
}

// Status has the health view answer with a status and a text of its own.
func Status(code int, body string) Mod {
	return Append(viewsFile, fmt.Sprintf(`def health(request):
    return HttpResponse(%q, status=%d)`, body, code))
}

// Hang has the health view wait for an hour.
func Hang() Mod {
	return Append(viewsFile, `def health(request):
    time.sleep(3600)`)
}

// HangAtImport has the workers wait for an hour as they boot.
func HangAtImport() Mod { return SlowBoot(time.Hour) }

// SlowBoot has each worker take d longer to boot.
func SlowBoot(d time.Duration) Mod {
	return Prepend(wsgiFile, "import time\n\ntime.sleep("+seconds(d)+")")
}

// HealthyFor has each worker answer 500 to health requests once d has passed
// since it was first asked.
func HealthyFor(d time.Duration) Mod {
	return Append(viewsFile, `_health = health
_asked = []


def health(request):
    _asked.append(time.monotonic())
    if _asked[-1] - _asked[0] > `+seconds(d)+`:
        return HttpResponse("no longer healthy\n", status=500)
    return _health(request)`)
}

// CrashAfter has a worker kill gunicorn's master with SIGKILL once d has
// passed since it booted, and end itself.
func CrashAfter(d time.Duration) Mod {
	return Append(wsgiFile, `import signal
import threading


def crash():
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(1)


timer = threading.Timer(`+seconds(d)+`, crash)
timer.daemon = True
timer.start()`)
}

// HealthView replaces what the health view does: Python statements that see
// the request, and what project/views.py imports.
func HealthView(code string) Mod {
	return Append(viewsFile, "def health(request):\n    "+strings.ReplaceAll(code, "\n", "\n    "))
}

// LogToConsole has everything that Django logs go to standard error, and so
// into the journal. By default a production site mails its errors, or loses
// them.
func LogToConsole() Mod {
	return Append(settingsFile, `LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}`)
}

// RedirectHTTPS has Django redirect every plain HTTP request.
func RedirectHTTPS() Mod { return Append(settingsFile, "SECURE_SSL_REDIRECT = True") }

// AllowedHosts replaces the hosts the site answers to; it answers 400 to others.
func AllowedHosts(hosts ...string) Mod {
	quoted := make([]string, len(hosts))
	for i, host := range hosts {
		quoted[i] = fmt.Sprintf("%q", host)
	}
	return Append(settingsFile, "ALLOWED_HOSTS = ["+strings.Join(quoted, ", ")+"]")
}

// Partial is a release whose upload was cut off: it lacks manage.py.
func Partial() Mod { return Remove("manage.py") }

// NginxInclude adds directives to the site's nginx server.
func NginxInclude(text string) Mod { return File("deploy/nginx.conf", text+"\n") }

// Marker writes the release's migration-compatibility marker.
func Marker(text string) Mod { return File(".migration-compat.toml", text) }

// Migration adds a migration of that name to the application shop, after
// those it has. Operations are Python expressions such as
// `migrations.RemoveField("order", "legacy")`; there may be none.
func Migration(name string, operations ...string) Mod {
	const dir = "shop/migrations/"
	return func(f files) {
		var previous []string
		for file := range f {
			if base, ok := strings.CutPrefix(file, dir); ok && base != "__init__.py" {
				previous = append(previous, strings.TrimSuffix(base, ".py"))
			}
		}
		var text strings.Builder
		text.WriteString("from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n")
		fmt.Fprintf(&text, "    dependencies = [(\"shop\", %q)]\n", slices.Max(previous))
		text.WriteString("    operations = [\n")
		for _, operation := range operations {
			fmt.Fprintf(&text, "        %s,\n", operation)
		}
		text.WriteString("    ]\n")
		f[dir+name+".py"] = text.String()
	}
}
