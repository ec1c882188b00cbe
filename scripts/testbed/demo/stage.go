package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	"deploygate/scripts/testbed"
)

// rate is how many requests a second the site's clients send.
const rate = 50

// stage is the host with the site, and the reader in front of it.
type stage struct {
	m    *testbed.Machine
	site testbed.Site
	out  io.Writer
}

func (s *stage) heading(format string, args ...any) {
	fmt.Fprintf(s.out, "\n== "+format+"\n\n", args...)
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// scene is what can be seen of a deploy without asking deploygate.
type scene struct {
	exit   int
	link   string
	cwds   []string // of gunicorn's processes
	status int
	answer string // the body's first line
	by     string // the release that answered
	sent   int
	failed int
	outage time.Duration
	goes   bool // the outage had not ended when the act had
}

// perform deploys a release while clients use the site.
func (s *stage) perform(ctx context.Context, a act) (scene, error) {
	if err := s.m.AddRelease(s.site, a.version, a.mods...); err != nil {
		return scene{}, err
	}
	load := s.m.Load(ctx, s.site, "/health/", rate)
	defer load.Stop()
	if _, err := s.m.Link(s.site); err == nil { // something is live
		if err := settle(ctx, load); err != nil {
			return scene{}, err
		}
	}
	code, err := s.deploygate(ctx, append([]string{"release", a.version}, a.flags...)...)
	if err != nil {
		return scene{}, err
	}
	if err := settle(ctx, load); err != nil {
		return scene{}, err
	}
	seen := scene{exit: code}
	samples := load.Stop()
	seen.sent = len(samples)
	seen.failed, seen.outage = testbed.Outage(samples)
	seen.goes = !samples[len(samples)-1].Good()
	return seen, s.look(ctx, &seen)
}

// settle waits until a request that is sent from now on is answered well, and at most a second: it may never be.
func settle(ctx context.Context, load *testbed.Load) error {
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < time.Second {
		if slices.ContainsFunc(load.Samples(), func(r testbed.Sample) bool { return r.Good() && r.At.After(start) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// look sees what is live now.
func (s *stage) look(ctx context.Context, seen *scene) (err error) {
	if seen.link, err = s.m.Link(s.site); err != nil {
		return err
	}
	if seen.cwds, err = s.m.Cwds(ctx, s.site); err != nil {
		return err
	}
	status, header, body, err := s.m.Get(ctx, s.site, "/health/")
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(body), "\n")
	seen.status, seen.answer, seen.by = status, line, header.Get("X-Release")
	return nil
}

// describe tells the reader.
func (s *stage) describe(seen scene) {
	by := ""
	if seen.by != "" {
		by = ", from " + seen.by
	}
	s.say("\n  seen from outside:")
	s.say("    link       %s/current -> %s", s.site.Root, seen.link)
	s.say("    processes  %s", seen.processes())
	s.say("    a client   gets %d %s%s", seen.status, http.StatusText(seen.status), by)
	s.say("    requests   %s", seen.requests())
}

// processes says how many run where.
func (seen scene) processes() string {
	var counts []string
	for _, dir := range slices.Compact(slices.Sorted(slices.Values(seen.cwds))) {
		n := 0
		for _, cwd := range seen.cwds {
			if cwd == dir {
				n++
			}
		}
		counts = append(counts, fmt.Sprintf("%d in %s", n, dir))
	}
	if counts == nil {
		return "none"
	}
	return strings.Join(counts, ", ")
}

func (seen scene) requests() string {
	switch {
	case seen.failed == 0:
		return fmt.Sprintf("%d sent, none failed", seen.sent)
	case seen.goes:
		return fmt.Sprintf("%d sent, %d failed: none was answered well for the last %.1f s", seen.sent, seen.failed, seen.outage.Seconds())
	}
	return fmt.Sprintf("%d sent, %d failed: none was answered well for %.1f s", seen.sent, seen.failed, seen.outage.Seconds())
}

// summary is the scene in one line.
func (seen scene) summary() string {
	return fmt.Sprintf("exit %d; then %s was live and clients got %d; %s",
		seen.exit, strings.TrimPrefix(seen.link, "releases/"), seen.status, seen.requests())
}

// differs lists what is not as it had to be after the act.
func (seen scene) differs(a act, site testbed.Site) (problems []string) {
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	dir := site.ReleaseDir(a.live)
	elsewhere := slices.ContainsFunc(seen.cwds, func(cwd string) bool { return cwd != dir })
	expect(seen.exit == a.exit, "exit code %d, not %d", seen.exit, a.exit)
	expect(seen.link == "releases/"+a.live, "the link names %s, not %s", seen.link, a.live)
	expect(len(seen.cwds) >= 3 && !elsewhere, "processes: %s, not a master and two workers in %s", seen.processes(), dir)
	expect(seen.status == a.status && seen.by == a.live, "a client gets %d from %q, not %d from %q",
		seen.status, seen.by, a.status, a.live)
	expect(seen.failed == 0 || a.exit != 1, "%d requests failed, though nothing was to be touched", seen.failed)
	expect(seen.goes == (a.status != http.StatusOK), "the requests: %s", seen.requests())
	return problems
}

// deploygate runs it on the host, before the reader's eyes.
func (s *stage) deploygate(ctx context.Context, args ...string) (code int, err error) {
	s.say("  # deploygate %s", strings.Join(args, " "))
	quote := &quote{out: s.out}
	cmd := s.m.Command(ctx, append([]string{program}, args...)...)
	cmd.Stdout, cmd.Stderr = quote, quote
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is for the demo
	err = cmd.Run()
	quote.end()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		code, err = exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot run deploygate: %w", err)
	}
	s.say("  exit code %d", code)
	return code, nil
}

// quote marks lines as someone else's.
type quote struct {
	out  io.Writer
	rest []byte // of a line that has not ended yet
}

func (q *quote) Write(p []byte) (int, error) {
	q.rest = append(q.rest, p...)
	for {
		line, rest, ended := bytes.Cut(q.rest, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		fmt.Fprintf(q.out, "  | %s\n", line)
		q.rest = rest
	}
}

func (q *quote) end() {
	if len(q.rest) > 0 {
		fmt.Fprintf(q.out, "  | %s\n", q.rest)
	}
}
