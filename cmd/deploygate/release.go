package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
)

var lockWait = &cli.DurationFlag{Name: "lock-wait", Usage: "wait up to `DURATION` for another deploy of this app to end"}

func (c *commands) release() *cli.Command {
	return &cli.Command{
		Name:      "release",
		Usage:     "make VERSION live if it is healthy, else put the old release back",
		ArgsUsage: "VERSION",
		Flags: []cli.Flag{
			lockWait,
			&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and change nothing"},
			&cli.BoolFlag{Name: "require-way-back", Usage: "refuse a release after whose migrations the live code can't run"},
			&cli.BoolFlag{Name: "rehearse", Usage: "boot it beside the live release first, and refuse it if it isn't healthy there"},
			&cli.BoolFlag{Name: "no-rehearse", Usage: "don't rehearse, whatever the configuration says"},
		},
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 1)
			if err != nil {
				return err
			}
			if ctx.Args().First() == "" {
				return usagef("which release? deploygate release VERSION")
			}
			switch yes, no := ctx.Bool("rehearse"), ctx.Bool("no-rehearse"); {
			case yes && no:
				return usagef("--rehearse and --no-rehearse exclude each other")
			case yes || no:
				s.config.Rehearse.Enabled = yes
			}
			request := deploy.Request{
				Command: deploy.Release, Version: ctx.Args().First(), RequireWayBack: ctx.Bool("require-way-back"),
			}
			if ctx.Bool("dry-run") {
				return s.plan(request)
			}
			return s.deploy(request, ctx.Duration("lock-wait"))
		},
	}
}

func (c *commands) rollback() *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "go back to the last release that passed its gate, or to VERSION",
		ArgsUsage: "[VERSION]",
		Flags: []cli.Flag{
			lockWait,
			&cli.StringFlag{Name: "override-marker", Usage: "go back though a marker forbids it; the `REASON` is recorded"},
		},
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 1)
			if err != nil {
				return err
			}
			if ctx.IsSet("override-marker") && ctx.String("override-marker") == "" {
				return usagef("--override-marker needs a reason; it is recorded")
			}
			return s.deploy(deploy.Request{
				Command: deploy.Rollback, Version: ctx.Args().First(), Override: ctx.String("override-marker"),
			}, ctx.Duration("lock-wait"))
		},
	}
}

func (c *commands) restart() *cli.Command {
	return &cli.Command{
		Name:  "restart",
		Usage: "restart the live release through the same gate, for a changed environment, unit file or configuration",
		Flags: []cli.Flag{lockWait},
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			return s.deploy(deploy.Request{Command: deploy.Restart}, ctx.Duration("lock-wait"))
		},
	}
}

// deploy runs a release, a rollback or a restart under the app's lock and prints its verdict.
func (s *session) deploy(request deploy.Request, wait time.Duration) error {
	return s.locked(request, wait, func(ctx context.Context, d *deploy.Deployer) *deploy.Report {
		// A deploy whose process died comes first: what follows must not build on half of it.
		if r := d.Recover(ctx); r != nil {
			if r.Unfinished {
				return r
			}
			fmt.Fprintf(s.err, "deploygate: finished the last deploy first: %s\n", gate.OneLine(sentence(r)))
		}
		return d.Run(ctx, request)
	})
}

// locked does something under the app's lock, with its journal open, and prints the verdict.
func (s *session) locked(request deploy.Request, wait time.Duration, do func(context.Context, *deploy.Deployer) *deploy.Report) error {
	ctx, stop := interruptible(false)
	defer stop()
	h, err := s.connect(ctx)
	if err != nil {
		return s.verdict(s.offline().NotBegun(request, refusal(err), err))
	}
	defer h.Close()
	switch code, gone, err := s.goOn(ctx, h, request); {
	case err != nil:
		return s.verdict(h.Deployer.NotBegun(request, deploy.Refused, err))
	case gone:
		return exit(code) // its verdict has been printed
	}
	own := me(string(request.Command), request.Version)
	lock, err := journal.Acquire(ctx, s.config.StateDir, own, 0)
	if locked := new(journal.LockedError); wait > 0 && errors.As(err, &locked) {
		fmt.Fprintf(s.err, "deploygate: waiting up to %s for another deploy of this app: %s\n", wait, gate.OneLine(locked.Holder.String()))
		lock, err = journal.Acquire(ctx, s.config.StateDir, own, wait)
	}
	if err != nil {
		outcome := refusal(err)
		if locked := new(journal.LockedError); errors.As(err, &locked) {
			outcome = deploy.Locked
		}
		return s.verdict(h.Deployer.NotBegun(request, outcome, err))
	}
	defer lock.Unlock()
	if h.Deployer.Journal, err = s.openJournal(); err != nil {
		return s.verdict(h.Deployer.NotBegun(request, refusal(err), err))
	}
	defer h.Deployer.Journal.Close()
	return s.verdict(do(ctx, h.Deployer))
}

// openJournal opens the app's journal, and lets a group read it if that is configured.
func (s *session) openJournal() (*journal.Journal, error) {
	j, err := journal.Open(s.config.StateDir)
	if err != nil || s.config.StateGroup == "" {
		return j, err
	}
	group, err := user.LookupGroup(s.config.StateGroup)
	if err == nil {
		var gid int
		if gid, err = strconv.Atoi(group.Gid); err == nil {
			err = journal.Share(s.config.StateDir, gid)
		}
		if filepath.Dir(s.config.StateDir) == config.StateBase && err == nil { // it has directories of apps alone
			err = os.Chmod(config.StateBase, 0o755)
		}
	}
	if err != nil { // the deploy is none the worse for it
		fmt.Fprintf(s.err, "deploygate: warning: %s\n", gate.OneLine(err.Error()))
	}
	return j, nil
}

// refusal is the outcome where a command can't begin.
func refusal(err error) deploy.Outcome { return deploy.Refusal(gate.AsFinding(gate.LayerRelease, err)) }

// offline is a deployer for a verdict on a host that can't be reached.
func (s *session) offline() *deploy.Deployer {
	tree, _ := release.Open(s.config.Root) // none: then the verdict doesn't say what is live
	return s.unconnected(tree, nil)
}

// me is this process as the holder of the lock.
func me(command, version string) journal.Holder {
	return journal.Holder{
		PID: os.Getpid(), User: deploy.UserName(), Command: command, Version: release.Version(version), Since: time.Now(),
	}
}

// withHost runs a command that deploys nothing.
func (s *session) withHost(do func(ctx context.Context, h *host.Host) error) error {
	ctx, stop := interruptible(false)
	defer stop()
	return s.connected(ctx, do)
}

func (s *session) connected(ctx context.Context, do func(ctx context.Context, h *host.Host) error) error {
	h, err := s.connect(ctx)
	if err != nil {
		return s.cannot(err)
	}
	defer h.Close()
	return do(ctx, h)
}

// look looks at something and returns what shows what was found.
type look func(ctx context.Context) (show func() error, err error)

// looking runs what changes nothing, and ends it when it is asked to: at once if it listens, else without it. What was found is
// not shown then: half a look proves nothing.
func (s *session) looking(do look) error {
	const grace = time.Second
	ctx, stop := interruptible(true)
	defer stop()
	type found struct {
		show func() error
		err  error
	}
	done := make(chan found, 1)
	go func() {
		show, err := do(ctx)
		done <- found{show, err}
	}()
	select {
	case f := <-done:
		switch {
		case ctx.Err() != nil:
		case f.err != nil:
			return s.cannot(f.err)
		default:
			return f.show()
		}
	case <-ctx.Done():
		select {
		case <-done:
		case <-time.After(grace):
		}
	}
	return s.cannot(context.Cause(ctx))
}

// atHost is a look at the host.
func (s *session) atHost(do func(ctx context.Context, h *host.Host) (show func() error, err error)) look {
	return func(ctx context.Context) (func() error, error) {
		h, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		defer h.Close()
		return do(ctx, h)
	}
}
