package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/rollback"
	"deploygate/rollback/migrations"
)

type markerReport struct {
	Release string          `json:"release"`
	Against string          `json:"against"`
	Marker  rollback.Marker `json:"marker"`
	New     []string        `json:"new"`      // migrations
	Blocks  []operation     `json:"blocking"` // operations that the older code can't live with
	Safe    []operation     `json:"safe"`     // operations that it can
	NotSeen []string        `json:"not_seen"` // apps outside of the release
	Written string          `json:"written"`  // the marker's file, "" with --check
}

type operation struct {
	Migration string `json:"migration"`
	Operation string `json:"operation"`
	Line      int    `json:"line"`
	Why       string `json:"why"`
}

func (c *commands) marker() *cli.Command {
	return &cli.Command{
		Name:      "marker",
		Usage:     "read the migrations of VERSION and write its marker: may the code before it run after them?",
		ArgsUsage: "VERSION | DIRECTORY",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "against", Usage: "the release before it: a `VERSION` (default: the live one), or a directory"},
			&cli.BoolFlag{Name: "check", Usage: "write nothing, and exit 1 if the way back would be blocked"},
		},
		Action: func(ctx *cli.Context) error {
			what, against := ctx.Args().First(), ctx.String("against")
			if what == "" {
				return usagef("which release? deploygate marker VERSION, or DIRECTORY --against DIRECTORY")
			}
			s, dirs, err := c.compared(ctx, what, against)
			if err != nil {
				return err
			}
			run, stop := interruptible(false)
			defer stop()
			return s.mark(run, dirs, ctx.Bool("check"))
		},
	}
}

// compared finds the two directories: by their paths, which needs no host, or as releases of the app.
func (c *commands) compared(ctx *cli.Context, what, against string) (s *session, dirs [2]string, err error) {
	if strings.Contains(what, "/") || what == "." {
		if s, err = c.unconfigured(ctx, 1); err != nil {
			return nil, dirs, err
		}
		if against == "" {
			return nil, dirs, usagef("%s is a directory: which one is it compared with? --against DIRECTORY", what)
		}
		for i, dir := range []string{what, against} {
			if dirs[i], err = filepath.Abs(dir); err != nil {
				return nil, dirs, err
			}
			if real, err := untrusted.EvalSymlinks(dirs[i]); err == nil { // as it is now: no link is followed when it is written
				dirs[i] = real
			}
			if info, err := untrusted.Stat(dirs[i]); err != nil || !info.IsDir() {
				return nil, dirs, usagef("there is no directory %s", dir)
			}
		}
		return s, dirs, nil
	}
	if s, err = c.begin(ctx, 1); err != nil {
		return nil, dirs, err
	}
	dirs, err = s.releases(what, against)
	return s, dirs, err
}

// releases returns the directories of two releases of the app.
func (s *session) releases(what, against string) (dirs [2]string, err error) {
	tree, err := release.Open(s.config.Root)
	if err != nil {
		return dirs, s.cannot(err)
	}
	defer tree.Close()
	current, err := tree.Current()
	if err != nil {
		return dirs, s.cannot(err)
	}
	if against == "" {
		against = string(current)
	}
	if against == "" {
		return dirs, usagef("no release is live: which one is %s compared with? --against VERSION", what)
	}
	if against == what {
		return dirs, usagef("%s is the live release: which one came before it? --against VERSION", what)
	}
	for i, text := range []string{what, against} {
		v, err := release.ParseVersion(text)
		if err == nil {
			err = tree.Inspect(v, nil)
		}
		if err != nil {
			return dirs, s.cannot(err)
		}
		dirs[i] = tree.Dir(v)
	}
	return dirs, nil
}

// mark judges one release against the other, writes the marker if it is to, and says what was found.
func (s *session) mark(ctx context.Context, dirs [2]string, check bool) error {
	newer, err := migrations.Read(ctx, dirs[0])
	if err != nil {
		return s.cannot(err)
	}
	older, err := migrations.Read(ctx, dirs[1])
	if err != nil {
		return s.cannot(err)
	}
	if ctx.Err() != nil {
		return s.cannot(errors.New("interrupted; nothing was written"))
	}
	j := migrations.Judge(newer, older, nil)
	r := markerReport{
		Release: filepath.Base(dirs[0]), Against: filepath.Base(dirs[1]), Marker: rollback.MarkerOf(j),
		New: []string{}, Blocks: operations(j.Blocking), Safe: operations(j.Safe), NotSeen: append([]string{}, j.NotSeen...),
	}
	for _, n := range j.New {
		r.New = append(r.New, n.String())
	}
	if !check {
		if err := rollback.WriteMarker(dirs[0], r.Marker); err != nil {
			return s.cannot(err)
		}
		r.Written = filepath.Join(dirs[0], rollback.MarkerName)
	}
	code := 0
	if check && r.Marker.Rollback != rollback.Safe {
		code = deploy.Refused.ExitCode()
	}
	if s.json {
		return s.printJSON(r, code)
	}
	s.printMarker(r)
	return exit(code)
}

func operations(reasons []migrations.Reason) []operation {
	all := []operation{}
	for _, r := range reasons {
		all = append(all, operation{r.Migration.String(), r.Operation, r.Line, r.Why})
	}
	return all
}

func (s *session) printMarker(r markerReport) {
	show := func(verdict string, all []operation) {
		for _, o := range all {
			what := o.Migration
			if o.Line > 0 {
				what += fmt.Sprintf(":%d", o.Line)
			}
			if o.Operation != "" {
				what += " " + o.Operation
			}
			fmt.Fprintf(s.err, "  %-7s %s: %s\n", verdict, gate.OneLine(what), gate.OneLine(o.Why))
		}
	}
	show("blocks", r.Blocks)
	show("safe", r.Safe)
	for _, app := range r.NotSeen {
		fmt.Fprintf(s.err, "  not seen: the migrations of %s, which is not in the release\n", gate.OneLine(app))
	}
	fmt.Fprintln(s.out, gate.OneLine(fmt.Sprintf("%s: from %s back to %s: %s", r.Marker.Rollback, r.Release, r.Against, r.Marker.Reason)))
}
