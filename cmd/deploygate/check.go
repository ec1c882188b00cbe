package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/release"
)

type checkReport struct {
	Outcome  string          `json:"outcome"` // healthy, unhealthy or unknown
	ExitCode int             `json:"exit_code"`
	Healthy  bool            `json:"healthy"`
	Current  release.Version `json:"current"`
	Findings []*gate.Finding `json:"findings"`
	Warnings []string        `json:"warnings"`
}

func (c *commands) check() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "run the gate on what is live now; changes nothing",
		Action: func(ctx *cli.Context) error {
			return c.judge(ctx, func(s *session, unreachable *gate.Finding) error {
				return s.checked(checkReport{Findings: []*gate.Finding{unreachable}, Warnings: []string{}})
			}, func(run context.Context, s *session, h *host.Host) func() error {
				current, findings, warnings := h.Deployer.Check(run)
				causes, more := h.Explain(run, findings)
				more = slices.DeleteFunc(more, func(w string) bool { return slices.Contains(warnings, w) })
				if f := h.Deployer.SchemaAhead(run); f != nil {
					causes = append(causes, f)
				}
				return func() error {
					for _, w := range more {
						h.Deployer.Observer.Warned(w)
					}
					return s.checked(checkReport{Current: current, Findings: causes, Warnings: append(warnings, more...)})
				}
			})
		},
	}
}

// checked prints what a check found.
func (s *session) checked(r checkReport) error {
	r.Outcome, r.ExitCode = judgement(r.Findings)
	r.Healthy = len(r.Findings) == 0
	if s.json {
		return s.printJSON(r, r.ExitCode)
	}
	for _, f := range r.Findings {
		printFinding(s.err, f)
	}
	if r.Healthy {
		fmt.Fprintf(s.out, "healthy: %s passes its gate\n", r.Current)
	} else {
		fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("%s: %s: %s: %s", inWords(r.Outcome), r.Current, r.Findings[0].Layer, r.Findings[0].Summary)))
	}
	return exit(r.ExitCode)
}
