package testbed

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// What [Machine.StartPostgres] makes, and releases with [Postgres] use.
const (
	PostgresDatabase = "shop"
	PostgresRole     = "shop" // owns the database; superuser of nothing
	PostgresPassword = "shop-password"
)

// StartPostgres starts PostgreSQL, which a fresh machine has but doesn't run,
// on 127.0.0.1:5432 and on the socket in /run/postgresql, and returns when it
// answers queries. The first time it makes a role that can log in with a
// password, and a database that it owns.
func (m *Machine) StartPostgres(ctx context.Context) error {
	if err := m.startPostgres(ctx); err != nil {
		return fmt.Errorf("cannot start PostgreSQL: %w", err)
	}
	return nil
}

func (m *Machine) startPostgres(ctx context.Context) error {
	unit, err := m.PostgresUnit()
	if err != nil {
		return err
	}
	if err := m.Exec(ctx, "systemctl", "start", unit).Err; err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var last error
	if err := poll(wait, 50*time.Millisecond, func() (bool, error) {
		last = m.Exec(ctx, "pg_isready", "--quiet", "--host=127.0.0.1").Err
		return last == nil, nil
	}); err != nil {
		return errors.Join(err, last)
	}
	// CREATE has no IF NOT EXISTS for these, and can't be part of a block.
	_, err = m.SQL(ctx, "postgres", fmt.Sprintf(`SELECT 'CREATE ROLE %[1]s LOGIN PASSWORD ''%[2]s'''
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '%[1]s') \gexec
SELECT 'CREATE DATABASE %[3]s OWNER %[1]s'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '%[3]s') \gexec
`, PostgresRole, PostgresPassword, PostgresDatabase))
	return err
}

// PostgresUnit returns the systemd unit that [Machine.StartPostgres] starts,
// for those who stop it.
func (m *Machine) PostgresUnit() (string, error) {
	const dir = "/etc/postgresql" // has a directory for each version, and that one for each cluster
	versions, err := m.readDir(dir)
	if err != nil {
		return "", err
	}
	if len(versions) != 1 {
		return "", fmt.Errorf("%s has %q instead of one version", dir, versions)
	}
	return "postgresql@" + versions[0] + "-main.service", nil
}

// SQL runs a psql script as PostgreSQL's superuser and returns the values that
// it selects: a line for each row, and | between its columns.
func (m *Machine) SQL(ctx context.Context, database, script string) (string, error) {
	cmd := m.Command(ctx, "runuser", "-u", "postgres", "--", "env", "-C", "/", "psql", "--quiet", "--no-psqlrc",
		"--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname="+database)
	cmd.Stdin = strings.NewReader(script)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, lastLines(stderr.String(), 5))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Postgres has a release use the database of [Machine.StartPostgres] instead
// of SQLite. DATABASE_NAME, DATABASE_USER, DATABASE_PASSWORD, DATABASE_HOST
// and DATABASE_PORT in the environment (see [Site.EnvFile]) say otherwise.
func Postgres() Mod {
	return Append(settingsFile, fmt.Sprintf(`DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("DATABASE_NAME", %q),
        "USER": os.environ.get("DATABASE_USER", %q),
        "PASSWORD": os.environ.get("DATABASE_PASSWORD", %q),
        "HOST": os.environ.get("DATABASE_HOST", "127.0.0.1"),
        "PORT": os.environ.get("DATABASE_PORT", "5432"),
    }
}`, PostgresDatabase, PostgresRole, PostgresPassword))
}

// QueryAtBoot has the workers connect to the database as they boot.
func QueryAtBoot() Mod {
	return Append(wsgiFile, `from django.db import connection

connection.ensure_connection()`)
}

// QueryOnHealth has the health view read all columns of the orders.
func QueryOnHealth() Mod {
	return HealthView(`from shop.models import Order
list(Order.objects.all())
return HttpResponse(f"ok {VERSION}\n", content_type="text/plain")`)
}

// Manage runs manage.py of a release, as the app's user and in the app's
// environment.
func (m *Machine) Manage(ctx context.Context, site Site, version string, args ...string) Result {
	return m.Exec(ctx, append([]string{
		"systemd-run", "--quiet", "--wait", "--pipe", "--collect",
		"--uid=www-data", "--gid=www-data", "--working-directory=" + site.ReleaseDir(version),
		"--property=EnvironmentFile=" + site.EnvFile(), "python3", "manage.py",
	}, args...)...)
}

// EnvFile returns the path of the environment file of the site's unit.
func (s Site) EnvFile() string { return path.Join("/etc", s.Name+".env") }

// readDir returns the names of what is in a directory of the machine
func (m *Machine) readDir(guest string) ([]string, error) {
	dir, err := m.files.Open(inside(guest))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}
