package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
	"deploygate/release/unit"
)

func (c *commands) recover() *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "finish or undo a deploy whose process died",
		Flags: []cli.Flag{
			lockWait,
			&cli.BoolFlag{Name: "all", Usage: "of every app in " + config.Dir + ", or in the user's own directory"},
			&cli.BoolFlag{Name: "boot", Usage: "only correct the live links of all apps, before the apps are started"},
		},
		Action: func(ctx *cli.Context) error {
			wait := ctx.Duration("lock-wait")
			switch {
			case ctx.Bool("boot"):
				return c.eachApp(ctx, (*session).recoverLink)
			case ctx.Bool("all"):
				return c.eachApp(ctx, func(s *session) error { return s.recover(wait, (*deploy.Deployer).Recover) })
			}
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			return s.recover(wait, func(d *deploy.Deployer, ctx context.Context) *deploy.Report {
				if r := d.Recover(ctx); r != nil {
					return r
				}
				return d.RecoverStuck(ctx)
			})
		},
	}
}

func (s *session) recover(wait time.Duration, do func(*deploy.Deployer, context.Context) *deploy.Report) error {
	return s.locked(deploy.Request{Command: deploy.Recover}, wait, func(ctx context.Context, d *deploy.Deployer) *deploy.Report {
		if r := do(d, ctx); r != nil {
			return r
		}
		return d.NotBegun(deploy.Request{Command: deploy.Recover}, deploy.Unchanged, nil)
	})
}

// eachApp does something for every configured app, and for the one of the defaults where none is configured. The worst
// exit code counts.
func (c *commands) eachApp(ctx *cli.Context, do func(*session) error) error {
	if ctx.String("output") == "json" {
		return usagef("--output json is for one app; leave --all and --boot out")
	}
	files, err := config.Files(config.OwnDir())
	if err != nil {
		return err
	}
	if err := ctx.Set("app", ""); err != nil { // DEPLOYGATE_APP names one
		return err
	}
	if len(files) == 0 {
		files = []string{""}
	}
	worst := 0
	for _, file := range files {
		if err := ctx.Set("config", file); err != nil {
			return err
		}
		s, err := c.begin(ctx, 0)
		if err == nil {
			if _, gone := untrusted.Lstat(s.config.StateDir); errors.Is(gone, fs.ErrNotExist) {
				continue // it was never deployed
			}
			err = do(s)
		}
		var v *verdictError
		switch {
		case err == nil:
		case errors.As(err, &v):
			worst = max(worst, v.code)
		default:
			fmt.Fprintf(c.err, "deploygate: %s\n", gate.OneLine(err.Error()))
			worst = max(worst, exitUsage)
		}
	}
	return exit(worst)
}

// recoverLink is the part of recover that comes before the app is started at boot. It must not need systemd, which is
// still on its way up.
func (s *session) recoverLink() error {
	tree, err := release.Open(s.config.Root)
	if err != nil {
		return s.cannot(err)
	}
	defer tree.Close()
	lock, err := journal.Acquire(context.Background(), s.config.StateDir, me("recover", ""), 0)
	if err != nil {
		return s.cannot(err)
	}
	defer lock.Unlock()
	d := s.unconnected(tree, newProgress(s.err, s.noColor))
	if d.Journal, err = s.openJournal(); err != nil {
		return s.cannot(err)
	}
	defer d.Journal.Close()
	moved, err := d.RecoverLink()
	if err != nil {
		return s.cannot(err)
	}
	if moved != "" {
		fmt.Fprintf(s.out, "%s: a deploy was cut off; current names %s again\n", s.config.App, moved)
	}
	return nil
}

// guard is the other side: it waits for the lock of the deploy that it guards, and recovers if that deploy came to no
// verdict.
func (c *commands) guard() *cli.Command {
	return &cli.Command{
		Name:      "guard",
		Hidden:    true,
		Usage:     "wait for a deploy to end, and finish it if its process dies; started by release and rollback",
		ArgsUsage: "DEPLOY",
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 1)
			if err != nil {
				return err
			}
			if os.Getenv("NOTIFY_SOCKET") == "" {
				return usagef("guard is started by release and rollback, as a unit of its own; you may want recover")
			}
			lock, err := journal.Await(s.config.StateDir, me("recover", ""), unit.NotifyReady)
			if err != nil {
				return s.cannot(err)
			}
			defer lock.Unlock()
			// From here on only a verdict ends it.
			signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			history, err := journal.Load(s.config.StateDir)
			if err != nil {
				return s.cannot(err)
			}
			if u, unfinished := history.Unfinished(); !unfinished || u.ID != ctx.Args().First() {
				return nil
			}
			return s.finish()
		},
	}
}

// finish recovers under a lock that is held already. A verdict is success to systemd, which would start the guard
// again otherwise.
func (s *session) finish() error {
	ctx := context.Background()
	h, err := s.connect(ctx)
	if err != nil {
		return s.cannot(err)
	}
	defer h.Close()
	if h.Deployer.Journal, err = s.openJournal(); err != nil {
		return s.cannot(err)
	}
	defer h.Deployer.Journal.Close()
	if r := h.Deployer.Recover(ctx); r != nil {
		if err := s.verdict(r); r.Unfinished {
			return err
		}
	}
	return nil
}
