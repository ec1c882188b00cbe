package nginx

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"deploygate/gate"
	"deploygate/gate/program"
)

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
