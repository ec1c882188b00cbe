package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/setup"
	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate"
	"deploygate/release/unit"
)

type socketReport struct {
	App     string            `json:"app"`
	Unit    string            `json:"unit"`
	Socket  string            `json:"socket"`
	Written bool              `json:"written"`
	Files   []socketunit.File `json:"files"`
	Steps   []string          `json:"steps"` // to the socket unit
	Back    []string          `json:"back"`
	Notes   []string          `json:"notes"`

	there bool // the files were written before, and systemd doesn't know of them yet
}

func (c *commands) initSocket(ctx *cli.Context) error {
	s, err := c.begin(ctx, 0)
	if err != nil {
		return err
	}
	if ctx.IsSet("unit") {
		return usagef("--socket-activation is for the configured unit, %s: set service.unit, or write a configuration with deploygate "+
			"init --unit UNIT", s.config.Service.Unit)
	}
	run, stop := interruptible(false)
	defer stop()
	return s.initSocket(run, ctx.Bool("print"))
}

// initSocket writes a socket unit for the app's unit, and says how to switch to it. It switches nothing.
func (s *session) initSocket(ctx context.Context, look bool) error {
	c := s.config
	manager, err := unit.Connect(context.WithoutCancel(ctx), c.Service.Manager)
	if err != nil {
		return s.cannot(err)
	}
	defer manager.Close()
	d, err := setup.Usable(ctx, manager, c.Service.Unit, c.Root)
	if err != nil {
		return s.cannot(err)
	}
	r := socketReport{App: c.App, Unit: d.Name, Files: []socketunit.File{}, Steps: []string{}, Back: []string{}, Notes: []string{}}
	if len(d.Sockets) > 0 {
		r.Socket = d.Sockets[0]
		return s.hasSocket(ctx, manager, r, d.Listen)
	}
	p, err := setup.SocketUnit(c, d)
	if err != nil {
		return s.cannot(err)
	}
	switch {
	case look:
	case setup.Written(p.Files...):
		r.there = true
	default:
		if err := setup.WriteSocketUnit(ctx, manager, d, p); err != nil {
			return s.refused(err)
		}
		r.Written = true
	}
	r.Socket, r.Files, r.Steps, r.Back = p.Socket, p.Files, append(p.Steps, s.checkCommand()), append(p.Back, s.checkCommand())
	r.Notes = append(r.Notes, p.Notes...)
	if s.json {
		return s.printJSON(r, 0)
	}
	s.printSocket(r)
	return nil
}

// hasSocket says that there is nothing to write, and how to switch to a socket unit that is there and doesn't listen.
func (s *session) hasSocket(ctx context.Context, manager *unit.Manager, r socketReport, listen string) error {
	st, err := manager.Unit(r.Socket).State(ctx)
	if err != nil {
		return s.cannot(err)
	}
	says := fmt.Sprintf("%s has a socket unit already: %s listens on %s for it; nothing to do", r.Unit, r.Socket, listen)
	if st.ActiveState != "active" {
		says = fmt.Sprintf("%s has a socket unit already, which is %s: %s; nothing was written", r.Unit, st.ActiveState, r.Socket)
		r.Steps = append(socketunit.Steps(s.config.Service.Manager, r.Unit, r.Socket), s.checkCommand())
	}
	if s.json {
		r.Notes = append(r.Notes, says)
		return s.printJSON(r, 0)
	}
	fmt.Fprintln(s.out, gate.OneLine(says))
	s.printSteps(r)
	return nil
}

func (s *session) checkCommand() string {
	return "deploygate check" + setup.Flags(s.config.App, s.config.File)
}

func (s *session) printSocket(r socketReport) {
	for _, n := range r.Notes {
		fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(n))
	}
	for _, f := range r.Files {
		switch {
		case r.Written:
			fmt.Fprintf(s.out, "written: %s\n", f.Path)
		case r.there:
			fmt.Fprintf(s.out, "written already: %s\n", f.Path)
		default:
			fmt.Fprintf(s.out, "%s:\n\n%s\n", f.Path, indented(f.Text))
		}
	}
	s.printSteps(r)
}

// printSteps prints them so that they can be pasted.
func (s *session) printSteps(r socketReport) {
	if len(r.Steps) > 0 {
		fmt.Fprintf(s.out, "\nto switch to it (requests fail once more, until the app has booted; the last command passes when "+
			"it has):\n\n%s", indented(strings.Join(r.Steps, "\n")))
	}
	if len(r.Back) > 0 {
		fmt.Fprintf(s.out, "\nto go back:\n\n%s", indented(strings.Join(r.Back, "\n")))
	}
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}
