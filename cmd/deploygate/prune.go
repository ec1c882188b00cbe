package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
)

func (c *commands) prune() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "remove old releases; never the live one, the way back, or one that is in use",
		Flags: []cli.Flag{
			lockWait,
			&cli.BoolFlag{Name: "dry-run", Usage: "name each release with what would become of it and why, and change nothing"},
		},
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			return s.withHost(func(run context.Context, h *host.Host) error {
				if ctx.Bool("dry-run") {
					return s.prunable(run, h)
				}
				return s.pruneHost(run, h, ctx.Duration("lock-wait"))
			})
		},
	}
}

type pruneReport struct {
	Command    string            `json:"command"`
	App        string            `json:"app"`
	DryRun     bool              `json:"dry_run"`
	Removed    []string          `json:"removed"`
	Unrecorded []release.Version `json:"unrecorded"` // never deployed by deploygate, as they are now
	Releases   []pruneFate       `json:"releases"`
}

// pruneFate is what becomes of one directory below releases/.
type pruneFate struct {
	Name     string          `json:"name"`
	Version  release.Version `json:"version"`
	Leftover bool            `json:"leftover"` // of a removal that broke off
	Action   string          `json:"action"`   // keep, remove
	Reason   deploy.Reason   `json:"reason"`
	Detail   string          `json:"detail"`
	Removed  bool            `json:"removed"`
	Error    string          `json:"error,omitempty"`
}

const (
	keepAction   = "keep"
	removeAction = "remove"
)

func pruneFates(fates []deploy.Fate) []pruneFate {
	list := []pruneFate{}
	for _, f := range fates {
		one := pruneFate{
			Name: f.Name, Version: f.Version, Leftover: f.Leftover(), Action: keepAction, Reason: f.Reason,
			Detail: gate.OneLine(f.Detail), Removed: f.Removed,
		}
		if f.Remove {
			one.Action = removeAction
		}
		if f.Failed != nil {
			one.Error = gate.OneLine(f.Failed.Error())
		}
		list = append(list, one)
	}
	return list
}

func (s *session) pruneReport(dryRun bool, fates []deploy.Fate) pruneReport {
	r := pruneReport{
		Command: "prune", App: s.config.App, DryRun: dryRun, Removed: []string{}, Unrecorded: []release.Version{}, Releases: pruneFates(fates),
	}
	for _, f := range fates {
		if f.Removed {
			r.Removed = append(r.Removed, f.Name)
		}
		if !f.Leftover() && (f.Reason == deploy.NeverDeployed || f.Reason == deploy.OtherDirectory) {
			r.Unrecorded = append(r.Unrecorded, f.Version)
		}
	}
	return r
}

// prunable says what would be removed and what not, each with its reason.
func (s *session) prunable(ctx context.Context, h *host.Host) error {
	fates, err := h.Deployer.Fates(ctx)
	if err != nil {
		return s.cannot(err)
	}
	code := unseen(fates)
	if s.json {
		return s.printJSON(s.pruneReport(true, fates), code)
	}
	s.printFates("", pruneFates(fates))
	if len(fates) == 0 {
		fmt.Fprintln(s.out, "there are no releases")
	}
	return exit(code)
}

// unseen is the exit code where nothing could be removed because the host can't be looked at; else 0.
func unseen(fates []deploy.Fate) int {
	unknown := false
	for _, f := range fates {
		if f.Remove {
			return 0
		}
		unknown = unknown || f.Reason == deploy.NotKnown
	}
	if unknown {
		return deploy.Unknown.ExitCode()
	}
	return 0
}

// printFates prints a line for each, aligned.
func (s *session) printFates(indent string, fates []pruneFate) {
	width := 0
	for _, f := range fates {
		width = max(width, len(gate.OneLine(f.Name)))
	}
	for _, f := range fates {
		fmt.Fprintf(s.out, "%s%-*s  %-6s  %s\n", indent, width, gate.OneLine(f.Name), f.Action, f.Detail)
	}
}

func (s *session) pruneHost(ctx context.Context, h *host.Host, wait time.Duration) error {
	lock, err := journal.Acquire(ctx, s.config.StateDir, me("prune", ""), wait)
	if err != nil {
		if locked := new(journal.LockedError); !errors.As(err, &locked) {
			return s.cannot(err)
		}
		fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(err.Error()))
		code := deploy.Locked.ExitCode()
		if s.json {
			return s.printJSON(map[string]any{"outcome": deploy.Locked, "exit_code": code, "error": gate.OneLine(err.Error())}, code)
		}
		return exit(code)
	}
	defer lock.Unlock()
	fates, err := h.Deployer.Prune(ctx)
	if fates == nil && err != nil {
		return s.cannot(err)
	}
	report, code := s.pruneReport(false, fates), unseen(fates)
	if err != nil { // an interruption
		code = deploy.Refused.ExitCode()
		fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(err.Error()))
	}
	for i, f := range report.Releases {
		switch {
		case f.Error != "":
			code = deploy.Refused.ExitCode()
			fmt.Fprintf(s.err, "deploygate: %s\n", f.Error)
		case fates[i].Stays():
			fmt.Fprintf(s.err, "deploygate: kept %s: %s\n", gate.OneLine(f.Name), f.Detail)
		}
	}
	if s.json {
		return s.printJSON(report, code)
	}
	var never []string
	for _, f := range report.Releases {
		if f.Reason == deploy.NeverDeployed {
			never = append(never, string(f.Version))
		}
	}
	if len(never) > 0 {
		fmt.Fprintf(s.err, "deploygate: left alone, since they were never deployed by deploygate: %s\n", strings.Join(never, ", "))
	}
	if len(report.Removed) == 0 {
		fmt.Fprintln(s.out, "nothing to remove")
	} else {
		fmt.Fprintf(s.out, "removed %s\n", gate.OneLine(strings.Join(report.Removed, ", ")))
	}
	return exit(code)
}
