package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/release"
)

type diagnosisReport struct {
	Outcome  string             `json:"outcome"` // healthy, unhealthy or unknown
	ExitCode int                `json:"exit_code"`
	Healthy  bool               `json:"healthy"`
	Current  release.Version    `json:"current"`
	Findings []*gate.Finding    `json:"findings"`
	Risks    []*gate.Finding    `json:"risks"`  // what doesn't fail now and will
	Unread   []diagnosis.Unread `json:"unread"` // evidence that couldn't be looked at
	Warnings []string           `json:"warnings"`
}

func (c *commands) diagnose() *cli.Command {
	return &cli.Command{
		Name:  "diagnose",
		Usage: "say which layer fails, why, and what to do; changes nothing",
		Action: func(ctx *cli.Context) error {
			r := diagnosisReport{Risks: []*gate.Finding{}, Unread: []diagnosis.Unread{}, Warnings: []string{}}
			return c.judge(ctx, func(s *session, unreachable *gate.Finding) error {
				r.Findings = []*gate.Finding{unreachable}
				return s.diagnosed(r)
			}, func(run context.Context, s *session, h *host.Host) func() error {
				current, expect, wrong := h.Live(run)
				v := h.Examine(run, expect)
				r.Current, r.Findings, r.Risks = current, v.Diagnose(wrong), diagnosis.Risks(&v.Facts)
				v.AlsoSeen(r.Findings)
				if f := h.Deployer.SchemaAhead(run); f != nil {
					r.Findings = append(r.Findings, f)
				}
				r.Unread = append(r.Unread, v.Unread...)
				return func() error { return s.diagnosed(r) }
			})
		},
	}
}

// judge runs a command that says whether the live release is healthy. For a machine a host that can't be looked at is a
// finding like any other.
func (c *commands) judge(
	ctx *cli.Context, unreachable func(*session, *gate.Finding) error, examine func(context.Context, *session, *host.Host) (show func() error),
) error {
	s, err := c.begin(ctx, 0)
	if err != nil {
		return err
	}
	do := s.atHost(func(run context.Context, h *host.Host) (func() error, error) { return examine(run, s, h), nil })
	return s.looking(func(run context.Context) (func() error, error) {
		show, err := do(run)
		if err != nil && s.json {
			return func() error { return unreachable(s, gate.AsFinding(gate.LayerService, err)) }, nil
		}
		return show, err
	})
}

// diagnosed prints a diagnosis: what is wrong, what will be, what couldn't be seen, and the verdict last.
func (s *session) diagnosed(r diagnosisReport) error {
	r.Outcome, r.ExitCode = judgement(r.Findings)
	r.Healthy = len(r.Findings) == 0
	if s.json {
		return s.printJSON(r, r.ExitCode)
	}
	for _, f := range r.Findings {
		printFinding(s.out, f)
	}
	for _, f := range r.Risks {
		fmt.Fprintf(s.out, "not failing yet: %s (%s)\n", gate.OneLine(f.Summary), f.Cause)
		for _, a := range f.Advice {
			fmt.Fprintf(s.out, "  -> %s\n", gate.OneLine(a))
		}
	}
	for _, u := range r.Unread {
		fmt.Fprintf(s.out, "not seen: %s: %s\n  -> %s\n", u.What, gate.OneLine(u.Why), gate.OneLine(u.Command))
	}
	switch {
	case r.Healthy && len(r.Unread) > 0:
		fmt.Fprintf(s.out, "healthy, as far as could be seen: %s answers as it should\n", r.Current)
	case r.Healthy:
		fmt.Fprintf(s.out, "healthy: %s answers as it should\n", r.Current)
	case len(r.Findings) == 1:
		fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("%s: %s: %s: %s", inWords(r.Outcome), r.Current, r.Findings[0].Layer, r.Findings[0].Summary)))
	default:
		fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("%s: %s: %d findings, begin with the first: %s: %s",
			inWords(r.Outcome), r.Current, len(r.Findings), r.Findings[0].Layer, r.Findings[0].Summary)))
	}
	return exit(r.ExitCode)
}
