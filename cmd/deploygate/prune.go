package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
)

func (c *commands) prune() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "remove old releases; never the live one, never the way back",
		Flags: []cli.Flag{lockWait},
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			return s.withHost(func(run context.Context, h *host) error { return s.pruneHost(run, h, ctx.Duration("lock-wait")) })
		},
	}
}

func (s *session) pruneHost(ctx context.Context, h *host, wait time.Duration) error {
	lock, err := journal.Acquire(ctx, s.config.StateDir, me("prune", ""), wait)
	if err != nil {
		_ = s.cannot(err)
		if locked := new(journal.LockedError); errors.As(err, &locked) {
			return exit(deploy.Locked.ExitCode())
		}
		return exit(deploy.Refused.ExitCode())
	}
	defer lock.Unlock()
	removed, unrecorded, err := h.deployer.Prune()
	if err != nil {
		return s.cannot(err)
	}
	if s.json {
		return s.printJSON(map[string]any{"app": s.config.App, "removed": names(removed), "unrecorded": names(unrecorded)}, 0)
	}
	if len(unrecorded) > 0 {
		fmt.Fprintf(s.err, "deploygate: left alone, since they were never deployed by deploygate: %s\n", strings.Join(names(unrecorded), ", "))
	}
	if len(removed) == 0 {
		fmt.Fprintln(s.out, "nothing to remove")
		return nil
	}
	fmt.Fprintf(s.out, "removed %s\n", strings.Join(names(removed), ", "))
	return nil
}

func names(vs []release.Version) []string {
	list := []string{}
	for _, v := range vs {
		list = append(list, string(v))
	}
	return list
}
