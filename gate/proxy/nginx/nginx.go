// Package nginx tests nginx's configuration and loads it when a release has changed it.
//
// Guaranteed: nginx is never restarted; it is reloaded only after nginx -t passed, and only if the configuration that
// nginx -T prints differs from the one seen when the deploy began. A reload is believed only when the master has new
// workers: nginx keeps its old configuration, and says so in its log alone, when the new one can't be applied (a port
// in use, for one).
package nginx

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/program"
	"deploygate/gate/proxy"
)

// Find returns the path of nginx's program, or "": root's PATH in a cron job or a unit may lack the sbin directories.
func Find() string { return program.Find("nginx", "/usr/local/nginx/sbin", "/opt/nginx/sbin") }

// Nginx is the host's nginx during one deploy.
type Nginx struct {
	// Program is nginx's path.
	Program string
	// Master returns the master's process id, 0 where it isn't known.
	Master func(context.Context) int
	// LogFile is where nginx says why it keeps an old configuration, for the advice.
	LogFile string
	// NeverReload is for users who reload it themselves.
	NeverReload bool

	loaded [sha256.Size]byte // of the configuration that nginx runs, as far as this deploy knows
}

const (
	// timeLimit bounds nginx -t and -T, which resolve names and open files.
	timeLimit = 30 * time.Second
	// reloadLimit is how long new workers may take to appear.
	reloadLimit = 10 * time.Second
	maxOutput   = 16 << 10
)

// Executable implements proxy.Server.
func (n *Nginx) Executable() string { return n.Program }

// Unit implements proxy.Server. It is that of Debian's package, and of nginx's own.
func (n *Nginx) Unit() string { return Unit }

// Unit is the unit that runs nginx.
const Unit = "nginx.service"

// Reloads implements proxy.Server.
func (n *Nginx) Reloads() bool { return !n.NeverReload }

// ErrorLog implements proxy.Server.
func (n *Nginx) ErrorLog(ctx context.Context, file string, since time.Time, limit int) ([]proxy.Entry, error) {
	return ReadErrorLog(ctx, file, since, limit)
}

// Begin tests the configuration before anything is touched and remembers it as the one that nginx runs.
func (n *Nginx) Begin(ctx context.Context) error {
	if err := n.check(ctx); err != nil {
		return err
	}
	var err error
	n.loaded, err = n.fingerprint(ctx)
	return err
}

// Test implements gate.Proxy.
func (n *Nginx) Test(ctx context.Context) (reloaded bool, err error) {
	if err := n.check(ctx); err != nil {
		return false, err
	}
	now, err := n.fingerprint(ctx)
	if err != nil || now == n.loaded || n.NeverReload {
		return false, err
	}
	if err := n.reload(ctx); err != nil {
		return false, err
	}
	n.loaded = now
	return true, nil
}

// check is nginx -t. It says everything on stderr; the exit code alone counts, since warnings are no failure.
func (n *Nginx) check(ctx context.Context) error {
	out, err := n.run(ctx, "-t")
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return n.judgeTest(out, err)
}

// emerg is how nginx says what is wrong: "nginx: [emerg] … in FILE:LINE" before it has a log, and with the time and
// its process id instead of its name from then on.
var emerg = regexp.MustCompile(`(?m)^.*\[emerg\] (?:\d+#\d+: )?(.*?)(?: in (\S+:\d+))?$`)

func (n *Nginx) judgeTest(out string, err error) error {
	command := n.Program + " -t"
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Exited() {
		return gate.NewFinding(gate.LayerProxy, gate.Unknown, fmt.Sprintf("cannot run %s: %v", command, err))
	}
	// Without root nginx can't open its log, pid file or keys, which says nothing about the configuration.
	if strings.Contains(out, "Permission denied") && (strings.Contains(out, "syntax is ok") || os.Geteuid() != 0) {
		return gate.NewFinding(gate.LayerProxy, gate.ProxyUnverified, "nginx's configuration can't be tested without root").
			With(command, out).Advise("sudo " + command)
	}
	summary := "nginx's configuration is not valid"
	advice := command
	if m := emerg.FindStringSubmatch(out); m != nil {
		summary += ": " + gate.Clean(m[1])
		if m[2] != "" {
			summary += " in " + gate.Clean(m[2])
			advice = "correct " + gate.Clean(m[2]) + ", then " + command
		}
	}
	return gate.NewFinding(gate.LayerProxy, gate.ProxyConfigInvalid, summary).With(command, out).Advise(advice)
}

// fingerprint identifies the effective configuration: every file that nginx -T reads, in order.
func (n *Nginx) fingerprint(ctx context.Context) (sum [sha256.Size]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	hash := sha256.New()
	cmd := program.Command(ctx, n.Program, "-T", "-q")
	cmd.Stdout, cmd.Stderr = hash, io.Discard // never kept: a configuration holds secrets
	if err := program.Run(ctx, cmd); err != nil {
		return sum, gate.NewFinding(gate.LayerProxy, gate.Unknown, fmt.Sprintf("cannot read nginx's configuration with %s -T: %v", n.Program, err))
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// reload asks the master to load the configuration and waits for its new workers.
func (n *Nginx) reload(ctx context.Context) error {
	master := n.Master(ctx)
	before, _ := children(master)
	if out, err := n.run(ctx, "-s", "reload"); err != nil {
		return gate.NewFinding(gate.LayerProxy, gate.Unknown, "nginx could not be told to reload").With(n.Program+" -s reload", out)
	}
	if master == 0 {
		return nil
	}
	limit := time.NewTimer(reloadLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := children(master)
		if err != nil || slices.ContainsFunc(now, func(pid int) bool { return !slices.Contains(before, pid) }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return gate.NewFinding(gate.LayerProxy, gate.Unknown, "nginx was told to reload and keeps its old configuration").
				With("processes", fmt.Sprintf("master %d has no new worker after %s", master, reloadLimit)).
				Advise("its error log says why: grep emerg " + n.LogFile + " | tail -n 3")
		}
	}
}

// children lists the processes whose parent is pid, from /proc/PID/stat (proc(5)).
func children(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it ended in between
		}
		// The command's name stands in parentheses and may hold anything; the state and the parent follow the last one.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found, nil
}

func (n *Nginx) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	out := program.Head{Limit: maxOutput}
	cmd := program.Command(ctx, n.Program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := program.Run(ctx, cmd)
	return out.String(), err
}
