// Command demo shows deploygate at work on a throw-away Debian host. What it says of the host it has seen there itself:
// it never takes deploygate's word. It exits with 1 if what was seen is not what deploygate promises.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"deploygate/scripts/testbed"
)

// suites are the hosts there are to choose from, as people call them.
var suites = map[string]string{"bookworm": "Debian 12", "trixie": "Debian 13"}

const program = "/usr/local/bin/deploygate" // on the host

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("demo", flag.ExitOnError)
	binary := flags.String("deploygate", "", "the deploygate to show, a statically linked `FILE`")
	keep := flags.Bool("keep", false, "keep the host's file system for the next time, if this run builds it")
	flags.Usage = func() { fmt.Fprintln(flags.Output(), "usage: scripts/demo [--keep] [bookworm|trixie]") }
	_ = flags.Parse(args) // it exits
	suite := "bookworm"
	if flags.NArg() > 0 {
		suite = flags.Arg(0)
	}
	if suites[suite] == "" || flags.NArg() > 1 || *binary == "" {
		flags.Usage()
		return 2
	}
	if missing := testbed.Missing(); missing != "" {
		fmt.Fprintln(os.Stderr, missing)
		return 1
	}

	// A reader who goes away (SIGPIPE) ends the demo as Ctrl-C does: cleanly.
	ctx, stop := signal.NotifyContext(context.Background(),
		syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	roots := lookAt(os.Getenv("DEPLOYGATE_TESTBED"), suite)
	err := show(ctx, suite, *binary, roots)
	err = errors.Join(err, roots.tidy(*keep))
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		return 1
	}
	return 0
}

// show boots the host, runs the acts on it, and closes it.
func show(ctx context.Context, suite, binary string, roots *roots) error {
	start := time.Now()
	if _, err := testbed.Root(ctx, suite, roots); err != nil {
		return orInterrupted(ctx, err)
	}
	m, err := testbed.Boot(ctx, suite, testbed.Options{Bind: []string{binary + ":" + program}})
	if err != nil {
		return orInterrupted(ctx, err)
	}
	s := &stage{m: m, site: testbed.DefaultSite(), out: os.Stdout}
	err = orInterrupted(ctx, s.play(ctx, suites[suite]))
	if closed := m.Close(); closed != nil {
		return errors.Join(err, closed)
	}
	if _, gone := os.Stat(fmt.Sprintf("/proc/%d", m.Leader())); !errors.Is(gone, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("process %d of the host is left", m.Leader()))
	}
	s.say("\nThe host is gone, and its processes, network and files with it. That took %.0f s.",
		time.Since(start).Seconds())
	return err
}

// orInterrupted drops what went wrong because the demo was told to stop.
func orInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// act is one deploy, and what must be seen after it.
type act struct {
	title   string
	about   string
	version string
	flags   []string // of deploygate release
	mods    []testbed.Mod

	exit   int
	live   string // the release that is linked, runs, and answers
	status int    // of its answers
}

const marker = `rollback = "blocked"
reason = "shop.0002_drop_legacy drops a column that v2 reads"
migrations = ["shop.0002_drop_legacy"]
`

var acts = []act{
	{
		title: "The first release",
		about: `v1 is healthy. Nothing is live yet, so clients get errors until it is.`,

		version: "v1", exit: 0, live: "v1", status: 200,
	},
	{
		title: "A good release",
		about: `v2 is healthy too, and replaces v1. gunicorn can't answer while it restarts: the
few requests that fail are the price of a plain restart, with or without deploygate.`,

		version: "v2", exit: 0, live: "v2", status: 200,
	},
	{
		title: "A release that crashes on boot",
		about: `v3 imports a Python module that isn't there. systemd says "active (running)" all the
same, as gunicorn reports ready before it loads the app, so a deploy that asks systemd
calls it a success. deploygate must notice, name the cause, and put v2 back: exit 3.`,

		version: "v3", mods: []testbed.Mod{testbed.ImportError()}, exit: 3, live: "v2", status: 200,
	},
	{
		title: "The same mistake, rehearsed",
		about: `v4 can't import that module either. This time deploygate is told to rehearse: it boots v4
beside v2, on a socket of its own, and must refuse it there. Nothing is swapped and
nothing restarted, so no client notices: exit 1.`,

		version: "v4", flags: []string{"--rehearse"}, mods: []testbed.Mod{testbed.ImportError()}, exit: 1, live: "v2", status: 200,
	},
	{
		title: "A release that fails, and must not be rolled back",
		about: `v5 answers its health check with 500, so it must fail too. But it has a migration that
drops a column v2 reads: on that database, going back would only break v2 as well. Its
file .migration-compat.toml says so, and deploygate must obey and hold v5: exit 4.`,

		version: "v5",
		mods: []testbed.Mod{
			testbed.Answer500(),
			testbed.Migration("0002_drop_legacy", `migrations.RemoveField("order", "legacy")`),
			testbed.Marker(marker),
		},
		exit: 4, live: "v5", status: 500,
	},
}

func (s *stage) play(ctx context.Context, system string) error {
	s.intro(ctx, system)
	if err := s.m.InstallSite(ctx, s.site); err != nil {
		return err
	}
	if err := s.m.InstallBootUnits(ctx, "scripts/packaging"); err != nil { // scripts/demo runs it from the top of the checkout
		return err
	}
	var scenes []scene
	for i, a := range acts {
		s.heading("%d. %s: %s", i+1, a.title, a.version)
		s.say("%s\n", a.about)
		seen, err := s.perform(ctx, a)
		if err != nil {
			return err
		}
		s.describe(seen)
		scenes = append(scenes, seen)
	}
	s.heading("%d. What an operator finds later", len(acts)+1)
	s.say("v5 was held, so someone has to fix it. These two commands say how things stand, and only\nlook.")
	for _, command := range []string{"status", "history"} {
		s.say("")
		if code, err := s.deploygate(ctx, command); err != nil {
			return err
		} else if code != 0 {
			return fmt.Errorf("deploygate %s exits with %d", command, code)
		}
	}
	return s.sum(scenes)
}

func (s *stage) intro(ctx context.Context, system string) {
	versions := s.m.Exec(ctx, "dpkg-query", "-W", "-f", "${source:Package} ${source:Upstream-Version}, ",
		"systemd", "nginx-light", "gunicorn", "python3-django")
	s.say(`A throw-away %s host has just booted here:
%s.
It serves a Django site as many hosts do: nginx in front of gunicorn, a systemd unit,
in /srv/app/current, a symlink to /srv/app/releases/VERSION. deploygate is not configured
at all.

In each act below, lines with "|" are deploygate's own. What comes after "seen from
outside" is not: the demo looks at the host itself, and is a client that asks nginx
%d times a second.`, system, strings.TrimSuffix(versions.Stdout, ", "), rate)
}

// sum says what was seen in all acts, and whether that is what had to be seen.
func (s *stage) sum(scenes []scene) error {
	s.heading("What was seen")
	var wrong []error
	for i, seen := range scenes {
		a := acts[i]
		s.say("%s: %s", a.version, seen.summary())
		for _, problem := range seen.differs(a, s.site) {
			wrong = append(wrong, fmt.Errorf("after %s: %s", a.version, problem))
		}
	}
	if len(wrong) > 0 {
		return errors.Join(append([]error{errors.New("this is not what deploygate promises")}, wrong...)...)
	}
	s.say("\nEvery exit code, link, process and answer was as deploygate promises.")
	return nil
}
