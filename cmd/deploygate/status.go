package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
	"deploygate/rollback"
)

type statusReport struct {
	App        string          `json:"app"`
	Current    release.Version `json:"current"`
	Good       bool            `json:"good"`     // it passed its last gate
	Bad        bool            `json:"bad"`      // it failed it, and is at fault
	Unproven   bool            `json:"unproven"` // it failed it, and whose fault that is isn't known; none of the three: it was never gated
	WayBack    rollback.Target `json:"way_back"`
	Schema     *gate.Finding   `json:"schema"` // the live release's code can't run on it; null: nothing is known of that
	Unit       statusUnit      `json:"unit"`
	Running    *journal.Holder `json:"running"`    // the deploy that holds the lock
	Unfinished *pastDeploy     `json:"unfinished"` // the last deploy, if it came to no verdict
	Last       *pastDeploy     `json:"last_deploy"`
	TornLines  int             `json:"torn_lines"`        // of the journal
	Unknown    string          `json:"unknown,omitempty"` // why the record isn't known; then nothing that comes from it is
}

type statusUnit struct {
	Name        string `json:"name"`
	ActiveState string `json:"active_state"`
	SubState    string `json:"sub_state"`
	MainPID     int    `json:"main_pid"`
	Directory   string `json:"directory"` // where the main process runs
}

// pastDeploy is a deploy of the journal, for status and history.
type pastDeploy struct {
	ID        string          `json:"deploy_id"`
	Command   string          `json:"command"`
	Requested release.Version `json:"requested"`
	Previous  release.Version `json:"previous"`
	User      string          `json:"user"`
	Override  string          `json:"override,omitempty"`
	StartedAt time.Time       `json:"started_at"`
	Outcome   deploy.Outcome  `json:"outcome"` // "" without a verdict
	Current   release.Version `json:"current"`
	Seconds   float64         `json:"duration_seconds"`
	Failure   *gate.Finding   `json:"failure"`
}

func past(d journal.Deploy) *pastDeploy {
	var v deploy.Report
	_ = json.Unmarshal(d.Verdict, &v) // without a verdict its fields stay empty
	return &pastDeploy{
		ID: d.ID, Command: d.Command, Requested: d.Requested, Previous: d.Previous, User: d.User, Override: d.Override,
		StartedAt: d.Began, Outcome: v.Outcome, Current: v.Current, Seconds: v.Seconds, Failure: v.Failure,
	}
}

// line is the deploy in one line.
func (p *pastDeploy) line() string {
	outcome := string(p.Outcome)
	if outcome == "" {
		outcome = "unfinished"
	}
	s := fmt.Sprintf("%s  %-11s  %-8s %s", p.StartedAt.UTC().Format("2006-01-02 15:04:05Z"), strings.ReplaceAll(outcome, "_", " "), p.Command, p.Requested)
	if p.Previous != "" {
		s += fmt.Sprintf(" (was %s)", p.Previous)
	}
	s += " by " + gate.OneLine(p.User)
	if p.Override != "" {
		s += "; marker overridden: " + gate.OneLine(p.Override)
	}
	if p.Failure != nil {
		s += "; " + gate.OneLine(p.Failure.Summary)
	}
	return s
}

func (c *commands) status() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "the live release, the way back, the unit, the last deploy; changes nothing",
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			return s.looking(s.atHost(s.lookForStatus))
		},
	}
}

func (s *session) lookForStatus(ctx context.Context, h *host.Host) (show func() error, err error) {
	current, history, way, err := h.Deployer.Standing()
	denied := ""
	if errors.Is(err, fs.ErrPermission) && current != "" {
		denied = gate.OneLine(err.Error())
	} else if err != nil {
		return nil, err
	}
	unit, err := h.Manager.Unit(s.config.Service.Unit).State(ctx)
	if err != nil {
		return nil, err
	}
	r := statusReport{
		App: s.config.App, Current: current, WayBack: way, TornLines: history.Torn,
		Good: history.Good(current), Bad: history.Bad(current), Unproven: history.Unproven(current),
		Unit: statusUnit{Name: unit.Unit, ActiveState: unit.ActiveState, SubState: unit.SubState, MainPID: unit.MainPID},
	}
	for _, p := range unit.Processes {
		if p.PID == unit.MainPID {
			r.Unit.Directory = p.Dir
		}
	}
	r.Schema = h.Deployer.SchemaAheadOf(ctx, current, history)
	if holder, running := journal.Running(s.config.StateDir); running {
		r.Running = &holder
	}
	if last, any := history.Last(); any {
		r.Last = past(last)
		if !last.Finished() && r.Running == nil {
			r.Unfinished = r.Last
		}
	}
	code := 0
	if denied != "" {
		r.Unknown, code = denied, deploy.Unknown.ExitCode()
	}
	return func() error {
		if s.json {
			return s.printJSON(r, code)
		}
		s.printStatus(r)
		return exit(code)
	}, nil
}

func (s *session) printStatus(r statusReport) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(s.out, "%-12s %s\n", name, gate.OneLine(fmt.Sprintf(format, args...)))
	}
	row("app", "%s in %s", r.App, s.config.Root)
	switch {
	case r.Unknown != "":
		row("live", "%s", r.Current)
		row("not known", "%s; run deploygate as root, or set state_group to a group of this user's", r.Unknown)
	case r.Current == "":
		row("live", "nothing yet")
	case r.Good:
		row("live", "%s, passed its gate", r.Current)
	case r.Bad:
		row("live", "%s, failed its gate", r.Current)
	case r.Unproven:
		row("live", "%s, did not pass its gate; that it is at fault is not proved", r.Current)
	default:
		row("live", "%s, never gated by deploygate", r.Current)
	}
	switch r.WayBack.Verdict {
	case rollback.Safe:
		row("way back", "%s (%s)", r.WayBack.Version, r.WayBack.Reason)
	case rollback.Blocked:
		row("way back", "blocked to %s: %s", r.WayBack.Version, r.WayBack.Reason)
	case rollback.None:
		row("way back", "none: %s", r.WayBack.Reason)
	}
	if r.Schema != nil {
		row("schema", "%s", r.Schema.Summary)
		for _, advice := range r.Schema.Advice {
			row("", "-> %s", advice)
		}
	}
	row("unit", "%s %s (%s)%s", r.Unit.Name, r.Unit.ActiveState, r.Unit.SubState, prefixed(", runs in ", r.Unit.Directory))
	if r.Running != nil {
		row("running", "%s", r.Running)
	}
	if r.Unfinished != nil {
		row("unfinished", "%s: its process died; deploygate recover finishes it", r.Unfinished.line())
	} else if r.Last != nil {
		row("last deploy", "%s", r.Last.line())
		if f := r.Last.Failure; f != nil && f.Cause == gate.Interrupted {
			for _, advice := range f.Advice {
				row("", "-> %s", advice)
			}
		}
	}
	if r.TornLines > 0 {
		row("journal", "%d torn line(s) in %s, left out", r.TornLines, s.config.StateDir)
	}
}

func (c *commands) history() *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "past deploys, newest first; changes nothing",
		Flags: []cli.Flag{&cli.IntFlag{Name: "limit", Value: 20, Usage: "show at most `N`; 0 shows all"}},
		Action: func(ctx *cli.Context) error {
			s, err := c.begin(ctx, 0)
			if err != nil {
				return err
			}
			if ctx.Int("limit") < 0 {
				return usagef("--limit %d is less than 0", ctx.Int("limit"))
			}
			return s.showHistory(ctx.Int("limit"))
		},
	}
}

func (s *session) showHistory(limit int) error {
	h, err := journal.Load(s.config.StateDir)
	if err != nil {
		return s.cannot(err)
	}
	latest, err := journal.Past(s.config.StateDir, limit)
	if err != nil {
		return s.cannot(err)
	}
	deploys := []*pastDeploy{}
	for _, d := range latest {
		deploys = append(deploys, past(d))
	}
	if s.json {
		return s.printJSON(map[string]any{"app": s.config.App, "deploys": deploys, "torn_lines": h.Torn}, 0)
	}
	if h.Torn > 0 {
		fmt.Fprintf(s.err, "deploygate: %d torn line(s) of the journal in %s are left out\n", h.Torn, s.config.StateDir)
	}
	if len(deploys) == 0 {
		fmt.Fprintf(s.out, "no deploys of %s yet\n", s.config.App)
	}
	for _, d := range deploys {
		fmt.Fprintln(s.out, d.line())
	}
	return nil
}
