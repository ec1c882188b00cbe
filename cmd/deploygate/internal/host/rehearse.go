package host

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/server"
	"deploygate/release/unit"
)

// rehearser rehearses releases, in a transient unit with a socket of its own. Its name is the app's, so that whoever comes
// after a deploy that died finds it.
type rehearser struct {
	*Host
	log  zerolog.Logger
	name string // of the unit and, without its suffix, of its runtime directory
}

func newRehearser(h *Host, log zerolog.Logger) rehearser {
	return rehearser{h, log, "deploygate-rehearsal-" + h.Config.App}
}

// rehearseGrace is how long a rehearsal may outlive its gate's deadline when nobody ends it.
const rehearseGrace = time.Minute

// Possible implements deploy.Rehearsal.
func (s rehearser) Possible(ctx context.Context, v release.Version) error {
	_, err := s.command(ctx, v)
	return err
}

// Begin implements deploy.Rehearsal.
func (s rehearser) Begin(ctx context.Context, v release.Version) (deploy.Candidate, error) {
	c, err := s.command(ctx, v)
	if err != nil {
		return deploy.Candidate{}, err
	}
	beside := *s.Host // the same host, but for the unit and where it listens
	own, deployer := *s.Config, *s.Deployer
	own.Service.Unit, own.Health.Bind, own.Proxy.Kind = c.Name, s.bindTo(), config.KindNone
	deployer.Proxy = &gate.ProxyCheck{}
	beside.Config, beside.Deployer, beside.rehearsedFor, beside.proxy = &own, &deployer, c.live, nil
	beside.health = newHealthCheck(&own, s.Manager.Unit(c.Name))
	if err := beside.direct(ctx, beside.health, s.Manager.Unit(c.Name), s.log); err != nil {
		return deploy.Candidate{}, err
	}
	if err := s.Manager.Unit(s.Config.Service.Unit).StartCandidate(ctx, c.Candidate); err != nil {
		return deploy.Candidate{}, err
	}
	return deploy.Candidate{Health: beside.health, Expect: c.expect, CaptureEvidence: beside.captureEvidence}, nil
}

// End implements deploy.Rehearsal.
func (s rehearser) End() { s.Manager.Discard(s.unitName()) }

func (s rehearser) unitName() string { return s.name + ".service" }

func (s rehearser) runtimeDirectory() string {
	dir := "/run"
	if s.Config.Service.Manager == unit.User { // what its manager has, whether or not this process was told
		dir = cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid()))
	}
	return filepath.Join(dir, s.name)
}

func (s rehearser) bindTo() string {
	return "unix:" + filepath.Join(s.runtimeDirectory(), "app.sock")
}

// candidateCommand is what runs there, and what is to be seen of it.
type candidateCommand struct {
	unit.Candidate
	live   unit.Description
	expect gate.Target
}

// command makes it of the live unit's.
func (s rehearser) command(ctx context.Context, v release.Version) (c candidateCommand, err error) {
	if _, err := probe.ParseBind(s.bindTo()); err != nil {
		return c, gate.NewFinding(gate.LayerSocket, gate.Unknown, fmt.Sprintf("cannot rehearse: %v", err)).Advise("give the app a shorter name")
	}
	d, err := s.Manager.Unit(s.Config.Service.Unit).Describe(ctx)
	if err != nil {
		return c, err
	}
	dir, err := s.tree.RealDir(v)
	if err != nil {
		return c, err
	}
	to := server.Candidate{
		Release: dir, Bind: s.bindTo(), PIDFile: filepath.Join(s.runtimeDirectory(), "app.pid"), Workers: s.Config.Rehearse.Workers,
	}
	live := server.LiveOf(d, s.tree.CurrentPath())
	c.Point = func(path string) string { return to.Point(live.Link, path) }
	live.Files = assigned(d, c.Point)
	c.live = d
	c.Name, c.RuntimeDirectory, c.Limit = s.unitName(), s.name, s.Config.Health.Deadline+rehearseGrace
	c.expect = gate.Target{Version: string(v), Dir: dir, Releases: filepath.Dir(dir)}
	for _, p := range []string{strings.TrimPrefix(s.bind, "unix:"), d.PIDFile, lineOf(d).PIDFile()} {
		if filepath.IsAbs(p) {
			c.Protect = append(c.Protect, p)
		}
	}
	var command server.Command
	if run := s.Config.Rehearse.Run; len(run) > 0 {
		command.Dir = c.Point(d.WorkingDirectory)
		for _, assignment := range d.Environment {
			command.Environment = append(command.Environment, c.Point(assignment))
		}
		command.Args, err = server.Fill(run, to)
	} else {
		c.expect.InDir = inLink(d, live.Link)
		command, err = serverOf(d).Rewrite(ctx, live, to)
	}
	if err != nil {
		return c, gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("cannot rehearse %s: %v", v, err)).
			Advise(`say what to run: [rehearse] run = ["PROGRAM", "--bind", "{bind}", …]`).
			Advise("or release it without a rehearsal: --no-rehearse")
	}
	c.Args, c.Dir = command.Args, command.Dir
	c.Environment = append(command.Environment, "DEPLOYGATE_REHEARSAL=1") // for an app that does more than answer
	return c, nil
}
