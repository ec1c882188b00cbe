package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"deploygate/gate"
	"deploygate/release"
)

type checkReport struct {
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
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			return s.withHost(s.checkHost)
		},
	}
}

func (s *session) checkHost(ctx context.Context, h *host) error {
	current, findings, warnings := h.deployer.Check(ctx)
	r := checkReport{Healthy: len(findings) == 0, Current: current, Findings: findings, Warnings: warnings}
	code := 0
	if !r.Healthy {
		code = 1
	}
	if s.json {
		return s.printJSON(r, code)
	}
	for _, f := range findings {
		printFinding(s.err, f)
	}
	if r.Healthy {
		fmt.Fprintf(s.out, "healthy: %s passes its gate\n", current)
	} else {
		fmt.Fprintln(s.out, oneLine(fmt.Sprintf("unhealthy: %s: %s: %s", current, findings[0].Layer, findings[0].Summary)))
	}
	return exit(code)
}
