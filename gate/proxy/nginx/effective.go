package nginx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"deploygate/gate"
	"deploygate/gate/program"
	"deploygate/gate/proxy"
	"deploygate/gate/proxy/nginx/conf"
)

// Effective returns the configuration that nginx would load now, from nginx -T. It is not what nginx runs if that was
// changed and not reloaded since.
//
// Its text is read as it comes and never kept: a configuration holds secrets. What remains of them is in Args.
//
// The error is a *gate.Finding of the proxy, or the cause of the context's end.
func (n *Nginx) Effective(ctx context.Context) (*conf.Config, error) {
	limited, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	said := program.Head{Limit: maxOutput}
	reader, writer := io.Pipe()
	cmd := program.Command(limited, n.Program, "-T", "-q")
	cmd.Stdout, cmd.Stderr = writer, &said
	type parsed struct {
		config *conf.Config
		err    error
	}
	done := make(chan parsed, 1)
	go func() {
		config, err := conf.Parse(reader)
		_, _ = io.Copy(io.Discard, reader) // else nginx would wait for a reader, and its exit status be unknown
		done <- parsed{config, err}
	}()
	err := program.Run(limited, cmd)
	_ = writer.Close() // it never fails
	got := <-done
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, n.judgeDump(said.String(), err, os.Geteuid() == 0)
	case got.err != nil:
		return nil, gate.NewFinding(gate.LayerProxy, gate.Unknown, "cannot understand nginx's configuration: "+gate.Clean(got.err.Error()))
	}
	got.config.Hostname, _ = os.Hostname() // unknown is said where it matters
	return got.config, nil
}

// Configuration implements proxy.Server.
func (n *Nginx) Configuration(ctx context.Context) (proxy.Configuration, error) {
	c, err := n.Effective(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// judgeDump says why nginx -T failed. It tests the configuration first, so that what nginx -t finds fails it, too.
func (n *Nginx) judgeDump(out string, err error, root bool) error {
	command := n.Program + " -T"
	var exit *exec.ExitError
	exited := errors.As(err, &exit) && exit.Exited()
	switch {
	case exited && !root && strings.Contains(out, "Permission denied"):
		return gate.NewFinding(gate.LayerProxy, gate.ProxyUnverified, "nginx's configuration can't be read without root").
			With(command, out).Advise("sudo nginx -T")
	case exited && !strings.Contains(out, "Permission denied") && emerg.MatchString(out):
		return n.judgeTest(out, err)
	}
	return gate.NewFinding(gate.LayerProxy, gate.Unknown, fmt.Sprintf("cannot read nginx's configuration with %s: %v", command, err)).With(command, out)
}
