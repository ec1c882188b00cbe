// Package testbed boots throw-away Debian hosts, and lays out Django sites on
// them, for end-to-end tests, demonstrations and benchmarks.
//
// A machine is a Debian container with systemd as PID 1, D-Bus, journald,
// nginx, gunicorn and Django, and PostgreSQL for those who start it, started by
// systemd-nspawn. What is guaranteed:
//
//   - Every machine starts from the same pristine file system; what is written
//     in it is kept in memory and gone when it stops.
//   - Machines share nothing: each has its own network, process ids, mounts
//     and control groups, so several run side by side.
//   - Nothing stays behind once [Machine.Close] has returned nil. When the
//     process that booted a machine dies without calling it, by whatever
//     signal, the kernel kills the machine; its empty control group is removed
//     by the next Boot.
//
// It needs root. [Missing] says what else.
package testbed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Suites lists the Debian versions that the tests run on.
var Suites = []string{"bookworm", "trixie"}

// Testing is the Debian version to come, which changes daily: for what only
// its newer servers do.
const Testing = "forky"

// packages are what a machine has beyond Debian's essential packages.
var packages = []string{
	"systemd", "systemd-sysv", "dbus",
	"nginx-light", "gunicorn", "python3-gunicorn", "python3-django",
	"iproute2", "curl", "procps", "dbus-user-session", "libpam-systemd",
	"postgresql", "python3-psycopg2",
	"uvicorn", "python3-hypercorn", "daphne", "python3-flask", "python3-waitress", "tini",
}

// hooks adapt a fresh root, $1. Debian's placeholder site would be in the way
// of ours, and reloads can only be counted if nginx logs them: it does so at
// level notice, in a file of its own so that error.log is as on any host.
// The building host's name must not become every machine's. PostgreSQL runs
// where it is asked for: it would double the time that a machine takes to boot.
var hooks = []string{
	`rm -f "$1/etc/hostname"`,
	`rm "$1/etc/nginx/sites-enabled/default"`,
	`echo "error_log ` + noticeLog + ` notice;" >"$1/etc/nginx/modules-enabled/90-notice.conf"`,
	`for cluster in "$1"/etc/postgresql/*/main; do echo manual >"$cluster/start.conf"; done`,
}

const noticeLog = "/var/log/nginx/notice.log"

// Missing says in one line what this machine lacks for a testbed; "" means
// that nothing is.
func Missing() string {
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for _, program := range []string{"systemd-nspawn", "mmdebstrap", "unshare", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			lacks = append(lacks, program)
		}
	}
	if _, err := cgroupMount(); err != nil {
		lacks = append(lacks, "a cgroup2 file system")
	}
	if len(lacks) == 0 {
		return ""
	}
	return "a testbed needs " + strings.Join(lacks, ", ") +
		" (apt-get install systemd-container mmdebstrap util-linux; run as root)"
}

// Root returns the base file system of suite. It is built on first use, which
// takes about half a minute and needs a Debian mirror, and kept below
// $DEPLOYGATE_TESTBED, or else /var/cache/deploygate-testbed. Only a complete
// one is ever returned, and only one process builds it. The progress of a
// build goes to log, which may be nil. Each set of extra packages has a file
// system of its own, so that the plain one is not built again for them.
func Root(ctx context.Context, suite string, log io.Writer, extra ...string) (string, error) {
	if known := append(slices.Clone(Suites), Testing); !slices.Contains(known, suite) {
		return "", fmt.Errorf("cannot build a root of %q: not one of %s", suite, strings.Join(known, ", "))
	}
	cache := os.Getenv("DEPLOYGATE_TESTBED")
	if cache == "" {
		cache = "/var/cache/deploygate-testbed"
	}
	root := filepath.Join(cache, suite+"-"+rootKey(extra))
	if built(root) {
		return root, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cannot build a root of %s: %w", suite, err)
	}
	lock, err := lockFile(ctx, root+".lock")
	if err != nil {
		return "", fmt.Errorf("cannot build a root of %s: %w", suite, err)
	}
	defer lock.Close()
	if built(root) { // by whoever held the lock
		return root, nil
	}
	if err := build(ctx, suite, root, lock, log, extra); err != nil {
		return "", fmt.Errorf("cannot build a root of %s: %w", suite, err)
	}
	return root, nil
}

// rootKey changes whenever a root must be built again.
func rootKey(extra []string) string {
	sum := sha256.Sum256([]byte(strings.Join(slices.Concat(packages, extra, hooks), "\n")))
	return fmt.Sprintf("%x", sum[:4])
}

func built(root string) bool {
	_, err := os.Stat(root)
	return err == nil
}

// build makes root under the lock, by way of a temporary directory.
func build(ctx context.Context, suite, root string, lock *os.File, log io.Writer, extra []string) error {
	// Under the lock, a temporary directory is that of a build that was killed.
	stale, err := filepath.Glob(root + ".tmp-*")
	if err != nil {
		return err
	}
	for _, dir := range stale {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	tmp, err := os.MkdirTemp(filepath.Dir(root), filepath.Base(root)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	// apt, as its own user, must be able to enter it.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	target := filepath.Join(tmp, "root")
	include := slices.Concat(packages, extra)
	if suite == Testing { // which has it no more
		include[slices.Index(include, "nginx-light")] = "nginx"
	}

	// mmdebstrap mounts the host's /dev/shm and more below tmp. In namespaces
	// of its own, which end with it however it ends, those mounts can't be
	// left behind for a RemoveAll to walk into.
	args := []string{
		"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"mmdebstrap", "--variant=minbase", "--include=" + strings.Join(include, ","),
	}
	if suite == Testing { // a mirror may lag behind what its index says to be valid
		args = append(args, `--aptopt=Acquire::Check-Valid-Until "false"`)
	}
	for _, hook := range hooks {
		args = append(args, "--customize-hook="+hook)
	}
	cmd := exec.CommandContext(ctx, "unshare", append(args, suite, target)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var output bytes.Buffer
	cmd.Stderr = &output
	if log != nil {
		cmd.Stderr = io.MultiWriter(&output, log)
	}
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	// Should this process be killed, the lock is held until mmdebstrap is gone.
	cmd.ExtraFiles = []*os.File{lock}
	if err := start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", errors.Join(ctx.Err(), err), lastLines(output.String(), 10))
	}
	return os.Rename(target, root)
}

// lockFile locks the file path, made if need be, until it is closed.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, 200*time.Millisecond, func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// poll calls done at once and then every interval, until it returns true or
// an error, or ctx ends.
func poll(ctx context.Context, interval time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// lastLines returns at most n lines of the end of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
