package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/setup"
	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate"
	"deploygate/release/unit"
)

type initReport struct {
	App     string `json:"app"`
	File    string `json:"file"`
	Written bool   `json:"written"`
	Text    string `json:"text"`
}

func (c *commands) init() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "write a configuration from what this host's unit and nginx say, or a socket unit in front of the app",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "unit", Usage: "the app's `UNIT` (default: gunicorn.service, or the only one that runs an application server)"},
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
			name := ctx.String("unit")
			if ctx.IsSet("unit") {
				if err := config.ValidUnit(name); err != nil {
					return usagef("--unit %v", err)
				}
			}
			r := initReport{}
			if r.App, r.File, err = setup.File(ctx.String("config"), ctx.String("app"), config.Dir, ctx.Bool("print")); err != nil {
				return err
			}
			run, stop := interruptible(false)
			defer stop()
			return s.init(run, r, name, ctx.Bool("print"))
		},
	}
}

// init looks at the host and writes the configuration.
func (s *session) init(ctx context.Context, r initReport, unitName string, look bool) error {
	manager, err := unit.Connect(context.WithoutCancel(ctx), unit.System)
	if err != nil {
		return s.cannot(err)
	}
	defer manager.Close()
	f, err := setup.Survey(ctx, manager, unitName)
	if err != nil {
		return s.refused(err)
	}
	if first := config.Defaults(config.DefaultApp); !look && r.App == config.DefaultApp && f.Root != first.Root && setup.Deployed(first) {
		return usagef("%q is the app in %s, which has been deployed; give the one in %s a name of its own: deploygate init --app NAME --unit %s",
			config.DefaultApp, first.Root, f.Root, f.Unit)
	}
	if r.Text, err = f.Config(r.File); err != nil {
		return s.cannot(err)
	}
	if ctx.Err() != nil {
		return s.cannot(errors.New("interrupted; nothing was written"))
	}
	if !look {
		if err := setup.Create(socketunit.File{Path: r.File, Text: r.Text}); err != nil {
			return s.refused(err)
		}
		r.Written = true
	}
	if s.json {
		return s.printJSON(r, 0)
	}
	for _, o := range f.Open {
		fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(o))
	}
	if look {
		fmt.Fprint(s.out, r.Text)
		return nil
	}
	fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("written: %s, for %s in %s; whether it fits: "+
		"deploygate check%s", r.File, f.Unit, f.Root, setup.Flags(r.App, r.File))))
	return nil
}

// refused ends a command that wrote nothing: what was asked for is a mistake, or the host doesn't allow it.
func (s *session) refused(err error) error {
	if mistake, is := errors.AsType[*setup.InputError](err); is {
		return usagef("%s", mistake.Error())
	}
	return s.cannot(err)
}
