package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/setup"
	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate"
	"deploygate/release/unit"
)

type initReport struct {
	App     string         `json:"app"`
	File    string         `json:"file"`
	Unit    string         `json:"unit"`
	Root    string         `json:"root"`
	Written bool           `json:"written"`
	Text    string         `json:"text"`
	Answers []setup.Answer `json:"answers"` // to the requests that it sent
	Open    []string       `json:"open"`    // what has to be seen to
}

func (c *commands) init() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write a configuration from what this host's units, processes and nginx say, or a socket unit in front of the app",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "unit", Usage: "the app's `UNIT` (default: the only one that runs a web application; on a terminal it asks which)"},
			&cli.StringFlag{Name: "health-path", Usage: "the `PATH` that answers 200 when the app is healthy (default: the first of the usual ones that does)"},
			&cli.BoolFlag{Name: "socket-activation", Usage: "write a socket unit instead, with which no request is lost while the app restarts, and print the " +
				"steps to it and back"},
			&cli.BoolFlag{Name: "print", Aliases: []string{"dry-run"}, Usage: "print what would be written, and write nothing"},
		},
		Action: func(ctx *cli.Context) error {
			if ctx.Bool("socket-activation") {
				return c.initSocket(ctx)
			}
			s, err := c.unconfigured(ctx, 0)
			if err != nil {
				return err
			}
			i := initiation{file: ctx.String("config"), app: ctx.String("app"), unit: ctx.String("unit"), path: ctx.String("health-path"), look: ctx.Bool("print")}
			if err := i.valid(ctx); err != nil {
				return err
			}
			run, stop := interruptible(false)
			defer stop()
			return s.init(run, i)
		},
	}
}

// initiation is what init was asked for; "" where nothing was said.
type initiation struct {
	file, app, unit, path string
	look                  bool // write nothing
}

func (i initiation) valid(ctx *cli.Context) error {
	if ctx.IsSet("unit") {
		if err := config.ValidUnit(i.unit); err != nil {
			return usagef("--unit %v", err)
		}
	}
	if ctx.IsSet("health-path") {
		if err := config.ValidPath(i.path); err != nil {
			return usagef("--health-path %v", err)
		}
	}
	return nil
}

// init looks at the host and writes the configuration.
func (s *session) init(ctx context.Context, i initiation) error {
	if i.file != "" || i.app != "" { // what is there already is no reason to look at the host
		if _, _, err := setup.File(i.file, i.app, "", config.OwnDir(), i.look); err != nil {
			return s.refused(err)
		}
	}
	scope := ownScope()
	manager, err := unit.Connect(context.WithoutCancel(ctx), scope)
	if err != nil {
		return s.cannot(err)
	}
	defer manager.Close()
	apps, err := setup.Apps(ctx, manager, config.OwnDir())
	if err != nil {
		return s.cannot(err)
	}
	app, err := setup.Choose(apps, i.unit, i.look, s.choose)
	if err != nil {
		return s.refused(err)
	}
	f, err := setup.Survey(ctx, manager, scope, apps, app, i.unit, i.path)
	if layout, is := errors.AsType[*setup.LayoutError](err); is {
		return s.layOut(layout)
	}
	if err != nil {
		return s.refused(err)
	}
	r := initReport{Unit: f.Unit, Root: f.Root, Answers: f.Answers, Open: append(f.Open, f.Others...)}
	if r.App, r.File, err = setup.File(i.file, i.app, f.Name(), config.OwnDir(), i.look); err != nil {
		return s.refused(err)
	}
	if first := config.Defaults(config.DefaultApp); !i.look && r.App == config.DefaultApp && f.Root != first.Root && setup.Deployed(first) {
		return usagef("%q is the app in %s, which has been deployed; give the one in %s a name of its own: deploygate init --app NAME --unit %s",
			config.DefaultApp, first.Root, f.Root, f.Unit)
	}
	if r.Text, err = f.Config(r.File); err != nil {
		return s.cannot(err)
	}
	if ctx.Err() != nil {
		return s.cannot(errors.New("interrupted; nothing was written"))
	}
	if !i.look {
		if err := setup.Create(socketunit.File{Path: r.File, Text: r.Text}); err != nil {
			return s.refused(err)
		}
		r.Written = true
	}
	return s.initiated(r)
}

// ownScope is which service manager a user's apps are of: root's are the system's.
func ownScope() unit.Scope {
	if os.Geteuid() == 0 {
		return unit.System
	}
	return unit.User
}

// initiated says what was found, and what was or would be written.
func (s *session) initiated(r initReport) error {
	if s.json {
		return s.printJSON(r, 0)
	}
	for _, a := range r.Answers {
		fmt.Fprintf(s.err, "deploygate: asked %s: %s\n", gate.OneLine(a.URL), gate.OneLine(a.Says))
	}
	for _, o := range r.Open {
		fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(o))
	}
	if !r.Written {
		fmt.Fprint(s.out, r.Text)
		return nil
	}
	fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("written: %s, for %s in %s; whether it fits: "+
		"deploygate check%s", r.File, r.Unit, r.Root, setup.Flags(r.App, r.File))))
	return nil
}

// choose asks which one is meant, on a terminal.
func (s *session) choose(apps []setup.App) (setup.App, error) {
	if s.json || !term.IsTerminal(int(os.Stdin.Fd())) || !newProgress(s.err, s.noColor).live() {
		return setup.App{}, setup.Several(apps)
	}
	for n, a := range apps {
		fmt.Fprintf(s.err, "%3d  %s\n", n+1, gate.OneLine(a.String()))
	}
	answers := bufio.NewScanner(os.Stdin)
	for {
		fmt.Fprintf(s.err, "which one is the app? 1 to %d: ", len(apps))
		if !answers.Scan() {
			fmt.Fprintln(s.err)
			return setup.App{}, setup.Several(apps)
		}
		answer := strings.TrimSpace(answers.Text())
		for n, a := range apps {
			if answer == strconv.Itoa(n+1) || answer != "" && (answer == a.Unit.Name || answer+".service" == a.Unit.Name) {
				return a, nil
			}
		}
	}
}

// layOut says how the host comes to releases, which is a person's to do.
func (s *session) layOut(l *setup.LayoutError) error {
	const exit = 1
	if s.json {
		return s.printJSON(map[string]any{
			"outcome": "refused", "exit_code": exit, "error": gate.OneLine(l.Error()), "steps": append([]string{}, l.Steps...), "notes": append([]string{}, l.Notes...),
		}, exit)
	}
	fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(l.Error()))
	if len(l.Steps) > 0 {
		for _, n := range l.Notes {
			fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(n))
		}
		fmt.Fprintf(s.out, "\nto lay it out in releases (nothing has been changed; the app restarts once):\n\n%s", indented(strings.Join(l.Steps, " &&\n")))
	}
	return &verdictError{exit}
}

// refused ends a command that wrote nothing: what was asked for is a mistake, or the host doesn't allow it.
func (s *session) refused(err error) error {
	if mistake, is := errors.AsType[*setup.InputError](err); is {
		return usagef("%s", mistake.Error())
	}
	return s.cannot(err)
}

// unexpected says, where there is no configuration, that the host isn't laid out as it would have to be without one; nil if it is,
// or that can't be seen.
func (s *session) unexpected(ctx context.Context) error {
	missing := setup.Missing(ctx, s.config)
	if missing == "" {
		return nil
	}
	found := ""
	for _, scope := range slices.Compact([]unit.Scope{unit.System, ownScope()}) {
		if manager, err := unit.Connect(ctx, scope); err == nil && found == "" {
			found = setup.Offer(ctx, manager)
			manager.Close()
		}
	}
	return usagef("there is no configuration, and %s; %s: deploygate init", missing, cmp.Or(found, "to write one for this host"))
}
