package main

import (
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
			run, stop := interruptible()
			defer stop()
			h, err := s.connect(run)
			if err != nil && !s.json {
				return s.cannot(err)
			}
			if err != nil {
				return s.checked(checkReport{Findings: []*gate.Finding{gate.AsFinding(gate.LayerService, err)}, Warnings: []string{}})
			}
			defer h.Close()
			current, findings, warnings := h.deployer.Check(run)
			return s.checked(checkReport{
				Healthy: len(findings) == 0, Current: current, Findings: append([]*gate.Finding{}, findings...), Warnings: warnings,
			})
		},
	}
}

// checked prints what a check found.
func (s *session) checked(r checkReport) error {
	code := 0
	if !r.Healthy {
		code = 1
	}
	if s.json {
		return s.printJSON(r, code)
	}
	for _, f := range r.Findings {
		printFinding(s.err, f)
	}
	if r.Healthy {
		fmt.Fprintf(s.out, "healthy: %s passes its gate\n", r.Current)
	} else {
		fmt.Fprintln(s.out, oneLine(fmt.Sprintf("unhealthy: %s: %s: %s", r.Current, r.Findings[0].Layer, r.Findings[0].Summary)))
	}
	return exit(code)
}
