package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/rollback"
)

type planReport struct {
	Command   string            `json:"command"`
	Outcome   deploy.Outcome    `json:"outcome"` // of the release, as far as can be told before it: released, unchanged, refused or unknown
	ExitCode  int               `json:"exit_code"`
	Changed   bool              `json:"changed"` // whether it would swap or restart anything
	App       string            `json:"app"`
	Requested release.Version   `json:"requested"`
	Previous  release.Version   `json:"previous"`
	Refused   []*gate.Finding   `json:"refused"`
	Steps     []string          `json:"steps"`
	WayBack   rollback.Target   `json:"way_back"`
	Ways      []rollback.Target `json:"ways"` // in the order in which they would be tried
	Before    []*gate.Finding   `json:"before"`
	Warnings  []string          `json:"warnings"` // what will fail later, whatever the release
	Prune     []pruneFate       `json:"prune"`    // what would become of each release afterwards
}

func (c *commands) plan() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "say what release VERSION would do, what would refuse it, and whether there is a way back; changes nothing",
		ArgsUsage: "VERSION",
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 1)
			if err != nil {
				return err
			}
			if ctx.Args().First() == "" {
				return usagef("which release? deploygate plan VERSION")
			}
			return s.plan(deploy.Request{Command: deploy.Release, Version: ctx.Args().First()})
		},
	}
}

func (s *session) plan(request deploy.Request) error {
	return s.looking(s.atHost(func(ctx context.Context, h *host.Host) (func() error, error) {
		p, refused := h.Deployer.Plan(ctx, request)
		r := planReport{
			Command: "plan", App: s.config.App, Requested: p.Target, Previous: p.Previous,
			Refused: append([]*gate.Finding{}, refused...), Steps: h.Deployer.Steps(p),
			WayBack: p.RollbackTarget(), Ways: append([]rollback.Target{}, p.Candidates...), Before: p.Before,
		}
		r.Warnings = []string{}
		for _, f := range p.Risks {
			r.Warnings = append(r.Warnings, f.Line())
		}
		r.Prune = prunedAfter(ctx, h.Deployer, p, refused)
		switch {
		case len(refused) > 0:
			r.Outcome = deploy.Refusal(refused...)
		case p.Live() && p.Healthy:
			r.Outcome = deploy.Unchanged
		default:
			r.Outcome, r.Changed = deploy.Released, true
		}
		r.ExitCode = r.Outcome.ExitCode()
		return func() error {
			if s.json {
				return s.printJSON(r, r.ExitCode)
			}
			s.printPlan(r)
			return exit(r.ExitCode)
		}, nil
	}))
}

// prunedAfter is what prune would do after a release that nothing refuses.
func prunedAfter(ctx context.Context, d *deploy.Deployer, p deploy.Plan, refused []*gate.Finding) []pruneFate {
	if len(refused) > 0 {
		return []pruneFate{}
	}
	fates, err := d.FatesAfter(ctx, p.Target)
	if err != nil { // the release would say so, and not fail of it
		return []pruneFate{}
	}
	return pruneFates(fates)
}

func (s *session) printPlan(r planReport) {
	for _, f := range r.Refused {
		printFinding(s.err, f)
	}
	if len(r.Refused) > 0 {
		would := "would be refused"
		if r.Outcome == deploy.Unknown {
			would = "not known"
		}
		fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("%s: %s: %s", would, r.Refused[0].Layer, r.Refused[0].Summary)))
		return
	}
	from := string(r.Previous)
	if from == "" {
		from = "nothing"
	}
	fmt.Fprintf(s.out, "%s: %s -> %s\n", r.App, from, r.Requested)
	for _, f := range r.Before {
		fmt.Fprintf(s.out, "  broken already: %s\n", gate.OneLine(f.Summary))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(s.out, "  warning: %s\n", gate.OneLine(w))
	}
	for i, step := range r.Steps {
		fmt.Fprintf(s.out, "  %d. %s\n", i+1, gate.OneLine(step))
	}
	s.printFates("       ", r.Prune) // below the last step, which is theirs
	if len(r.Ways) == 0 {
		fmt.Fprintf(s.out, "no way back from %s: %s\n", r.Requested, gate.OneLine(r.WayBack.Reason))
	}
	for i, w := range r.Ways {
		switch {
		case w.Verdict != rollback.Safe && i == 0:
			fmt.Fprintf(s.out, "no way back from %s: to %s it is blocked: %s\n", r.Requested, w.Version, gate.OneLine(w.Reason))
			return // what can't be crossed once can't be crossed to an older one
		case w.Verdict != rollback.Safe:
			fmt.Fprintf(s.out, "and no further: to %s it is blocked: %s\n", w.Version, gate.OneLine(w.Reason))
		case i == 0:
			fmt.Fprintf(s.out, "way back: %s (%s)\n", w.Version, gate.OneLine(w.Reason))
		default:
			fmt.Fprintf(s.out, "and if that fails: %s (%s)\n", w.Version, gate.OneLine(w.Reason))
		}
	}
}
