package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// clean asserts that nothing in a text acts on a terminal.
func TestSentence(t *testing.T) {
	failure := gate.NewFinding(gate.LayerApp, gate.AppError, "it answers 500")
	way := func(v rollback.Verdict, reason string) *rollback.Target {
		return &rollback.Target{Version: "v1", Verdict: v, Reason: reason}
	}
	for _, c := range []struct {
		report deploy.Report
		want   string
	}{
		{
			deploy.Report{Outcome: deploy.Released, Requested: "v2", Previous: "v1", Current: "v2", Seconds: 2.345},
			"released: v2 is live and passed its gate (was v1) in 2.3 s",
		},
		{
			deploy.Report{Outcome: deploy.Released, Requested: "v2", Current: "v2", Seconds: 2},
			"released: v2 is live and passed its gate in 2.0 s",
		},
		{
			deploy.Report{Outcome: deploy.Released, Requested: "v2", Previous: "v2", Current: "v2", Seconds: 2},
			"released: v2 is live and passed its gate in 2.0 s",
		},
		{
			deploy.Report{Outcome: deploy.Unchanged, Previous: "v2", Current: "v2"},
			"unchanged: v2 is live and healthy already",
		},
		{
			deploy.Report{Outcome: deploy.Unchanged, Command: deploy.Recover},
			"nothing to recover: the last deploy came to a verdict",
		},
		{
			deploy.Report{Outcome: deploy.Refused, Requested: "v2", Previous: "v1", Current: "v1", Failure: failure},
			"refused: it answers 500; v1 stays live, untouched",
		},
		{
			deploy.Report{
				Outcome: deploy.Refused, Requested: "v2", Previous: "v1", Current: "v1", Failure: failure,
				Steps: []deploy.Step{{Name: deploy.StepPreflight}, {Name: deploy.StepRehearse, Outcome: deploy.Failed}},
			},
			"refused: v2 failed its rehearsal: it answers 500; v1 stays live, untouched",
		},
		{
			deploy.Report{Outcome: deploy.Refused, Requested: "v2", Failure: failure},
			"refused: it answers 500; nothing was changed",
		},
		{
			deploy.Report{Outcome: deploy.RolledBack, Requested: "v2", Previous: "v1", Current: "v1", Seconds: 4.06, Failure: failure},
			"rolled back: v1 is live again and passed its gate after 4.1 s; v2 failed: it answers 500",
		},
		{
			deploy.Report{Outcome: deploy.Held, Requested: "v2", Previous: "v1", Current: "v2", Failure: failure, RollbackTarget: way(rollback.Blocked, "v2's marker forbids it")},
			"held: v2 stays live though it failed: it answers 500; there is no way back: v2's marker forbids it",
		},
		{
			deploy.Report{Outcome: deploy.Held, Requested: "v2", Current: "v2", Failure: failure, RollbackTarget: way(rollback.None, "there is no earlier good release on this host")},
			"held: v2 stays live though it failed: it answers 500; there is no way back: there is no earlier good release on this host",
		},
		{
			deploy.Report{Outcome: deploy.Held, Requested: "v2", Current: "v2", Failure: failure, RollbackTarget: way(rollback.Safe, "no new migrations: v2")},
			"held: v2 stays live though it failed: it answers 500; automatic rollback is off",
		},
		{
			deploy.Report{Outcome: deploy.Stuck, Requested: "v2", Previous: "v1", Current: "v1", Failure: failure},
			"stuck: a person is needed: v1 is live and not healthy, after v2 failed: it answers 500",
		},
		{
			deploy.Report{Outcome: deploy.Locked, Requested: "v2", Failure: gate.NewFinding(gate.LayerRelease, gate.Unknown, "another deploy of this app is running: another deploygate")},
			"locked: another deploy of this app is running: another deploygate",
		},
	} {
		assert.Equal(t, string(c.report.Outcome), sentence(&c.report), c.want)
	}
}

// spoken is a session whose words are kept.
func spoken(asJSON bool) (s *session, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	return &session{commands: &commands{out: &door{w: stdout}, err: &door{w: stderr}}, json: asJSON, config: config.Defaults("shop")}, stdout, stderr
}

func code(err error) int {
	if v, ok := errors.AsType[*verdictError](err); ok {
		return v.code
	}
	return 0
}

func TestVerdict(t *testing.T) {
	r := &deploy.Report{
		Command: deploy.Release, App: "shop", Requested: "v2", Previous: "v1", Current: "v1", Outcome: deploy.RolledBack, ExitCode: 3, Seconds: 1,
		Failure: gate.NewFinding(gate.LayerApp, gate.AppError, "it fails\nbadly <&>").
			With("journal", "one\ntwo").Advise("read it").Advise("fix it"),
	}
	s, stdout, stderr := spoken(false)
	assert.Equal(t, "exit code", code(s.verdict(r)), 3)
	assert.Equal(t, "stdout", stdout.String(), "rolled back: v1 is live again and passed its gate after 1.0 s; v2 failed: it fails badly <&>\n")
	assert.Equal(t, "stderr", stderr.String(), `
app (app_error): it fails badly <&>
  journal:
    one
    two
  -> read it
  -> fix it

`)

	s, stdout, stderr = spoken(true)
	assert.Equal(t, "exit code", code(s.verdict(r)), 3)
	assert.Equal(t, "stderr", stderr.String(), "")
	assert.Equal(t, "lines", strings.Count(stdout.String(), "\n"), 1)
	if !strings.Contains(stdout.String(), "<&>") {
		t.Errorf("escaped for HTML: %s", stdout)
	}
	var back deploy.Report
	assert.OK(t, json.Unmarshal(stdout.Bytes(), &back))
	assert.Equal(t, "read again", back.Outcome, deploy.RolledBack)

	s, stdout, _ = spoken(false)
	assert.OK(t, s.verdict(&deploy.Report{Outcome: deploy.Released, Current: "v2"}))
	assert.Equal(t, "stdout", stdout.String(), "released: v2 is live and passed its gate in 0.0 s\n")
}

func TestVerdictOfHostileText(t *testing.T) {
	r := &deploy.Report{
		Requested: assert.Hostile, Previous: assert.Hostile, Current: assert.Hostile, Outcome: deploy.Held, ExitCode: 4,
		Failure:        gate.NewFinding(gate.LayerApp, gate.Unknown, assert.Hostile).With(assert.Hostile, assert.Hostile).Advise(assert.Hostile),
		RollbackTarget: &rollback.Target{Version: assert.Hostile, Verdict: rollback.Blocked, Reason: assert.Hostile},
	}
	r.Failure.Evidence = append(r.Failure.Evidence, gate.Evidence{Source: assert.Hostile, Text: assert.Hostile}) // past With
	s, stdout, stderr := spoken(false)
	assert.Equal(t, "exit code", code(s.verdict(r)), 4)
	assert.Harmless(t, "stdout", stdout.String())
	assert.Harmless(t, "stderr", stderr.String())
	assert.Equal(t, "lines on stdout", strings.Count(stdout.String(), "\n"), 1)
	for line := range strings.Lines(stderr.String()) {
		if strings.HasPrefix(line, "deploygate:") {
			t.Errorf("a line that isn't ours: %q", line)
		}
	}
}

// A reader that has gone away is no reason for another exit code.
func TestVerdictToNobody(t *testing.T) {
	s, _, _ := spoken(false)
	s.out = &door{w: failing{}}
	assert.Equal(t, "exit code", code(s.verdict(&deploy.Report{Outcome: deploy.Stuck, ExitCode: 5, Failure: gate.NewFinding(gate.LayerApp, gate.Unknown, "x")})), 5)
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, fs.ErrClosed }

func TestCannot(t *testing.T) {
	s, _, stderr := spoken(false)
	assert.Equal(t, "exit code", code(s.cannot(fmt.Errorf("cannot open %s: %w", "a\nb", fs.ErrPermission))), 7)
	assert.Equal(t, "stderr", stderr.String(), "deploygate: cannot open a b: permission denied; run deploygate as root\n")
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", " a \n\t b ": "a b", "a\x1bb": "a\uFFFDb", "a\xffb": "a\uFFFDb", strings.Repeat("x ", 5000): strings.TrimSpace(strings.Repeat("x ", 2048)) + " […]",
	} {
		assert.Equal(t, in, gate.OneLine(in), want)
	}
}

func TestPastDeploy(t *testing.T) {
	at := time.Date(2026, 11, 21, 3, 51, 57, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		deploy journal.Deploy
		want   string
	}{
		{
			journal.Deploy{Command: "release", Requested: "v2", Previous: "v1", User: "ann", Began: at, Ended: at, Verdict: json.RawMessage(`{"outcome":"released"}`)},
			"2026-11-21 02:51:57Z  released     release  v2 (was v1) by ann",
		},
		{
			journal.Deploy{Command: "release", Requested: "v1", User: "ann", Began: at},
			"2026-11-21 02:51:57Z  unfinished   release  v1 by ann",
		},
		{
			journal.Deploy{Command: "rollback", Requested: "v1", Previous: "v2", User: "ann", Began: at, Override: "the dump is\nrestored", Verdict: json.RawMessage(`{"outcome":"rolled_back","failure":{"layer":"app","summary":"it fails"}}`)},
			"2026-11-21 02:51:57Z  rolled back  rollback v1 (was v2) by ann; marker overridden: the dump is restored; it fails",
		},
		{
			journal.Deploy{Command: "release", Requested: "v1", User: "ann", Began: at, Verdict: json.RawMessage(`[1, 2]`)},
			"2026-11-21 02:51:57Z  unfinished   release  v1 by ann",
		},
	} {
		assert.Equal(t, "line", past(c.deploy).line(), c.want)
	}
	assert.Harmless(t, "assert.Hostile", past(journal.Deploy{User: assert.Hostile, Override: assert.Hostile}).line())
}

func TestPrintStatus(t *testing.T) {
	s, stdout, _ := spoken(false)
	began := time.Date(2026, 11, 21, 3, 51, 57, 0, time.UTC)
	last := &pastDeploy{Command: "release", Requested: "v2", Previous: "v1", User: "ann", StartedAt: began, Outcome: deploy.Released}
	s.printStatus(statusReport{
		App: "shop", Current: "v2", Good: true, WayBack: rollback.Target{Version: "v1", Verdict: rollback.Safe, Reason: "no new migrations: v2"},
		Unit: statusUnit{Name: "gunicorn.service", ActiveState: "active", SubState: "running", MainPID: 7, Directory: "/srv/app/releases/v2"}, Last: last,
	})
	assert.Equal(t, "status", stdout.String(), `app          shop in /srv/app
live         v2, passed its gate
way back     v1 (no new migrations: v2)
unit         gunicorn.service active (running), runs in /srv/app/releases/v2
last deploy  2026-11-21 03:51:57Z released release v2 (was v1) by ann
`)

	s, stdout, _ = spoken(false)
	s.printStatus(statusReport{
		App: "shop", WayBack: rollback.Target{Verdict: rollback.None, Reason: "there is no earlier good release on this host"},
		Unit: statusUnit{Name: "gunicorn.service", ActiveState: "inactive", SubState: "dead"}, TornLines: 2,
	})
	assert.Equal(t, "status", stdout.String(), `app          shop in /srv/app
live         nothing yet
way back     none: there is no earlier good release on this host
unit         gunicorn.service inactive (dead)
journal      2 torn line(s) in /var/lib/deploygate/shop, left out
`)

	s, stdout, _ = spoken(false)
	s.printStatus(statusReport{
		App: "shop", Current: assert.Hostile, WayBack: rollback.Target{Version: assert.Hostile, Verdict: rollback.Blocked, Reason: assert.Hostile},
		Unit: statusUnit{Name: assert.Hostile, ActiveState: assert.Hostile, Directory: assert.Hostile}, Running: &journal.Holder{PID: 1, User: assert.Hostile},
		Unfinished: &pastDeploy{User: assert.Hostile},
	})
	assert.Harmless(t, "assert.Hostile", stdout.String())
}

func TestPrintPlan(t *testing.T) {
	safe := func(v release.Version) rollback.Target {
		return rollback.Target{Version: v, Verdict: rollback.Safe, Reason: "no new migrations"}
	}
	blocked := func(v release.Version) rollback.Target {
		return rollback.Target{Version: v, Verdict: rollback.Blocked, Reason: "v3's marker forbids it"}
	}
	for _, c := range []struct {
		name string
		r    planReport
		want string
	}{
		{
			"two ways",
			planReport{App: "shop", Requested: "v3", Previous: "v2", Steps: []string{"a", "b"}, Ways: []rollback.Target{safe("v2"), safe("v1")}},
			"shop: v2 -> v3\n  1. a\n  2. b\nway back: v2 (no new migrations)\nand if that fails: v1 (no new migrations)\n",
		},
		{
			"the second is blocked",
			planReport{App: "shop", Requested: "v3", Previous: "v2", Ways: []rollback.Target{safe("v2"), blocked("v1")}},
			"shop: v2 -> v3\nway back: v2 (no new migrations)\nand no further: to v1 it is blocked: v3's marker forbids it\n",
		},
		{
			"blocked",
			planReport{App: "shop", Requested: "v3", Previous: "v2", Ways: []rollback.Target{blocked("v2"), blocked("v1")}},
			"shop: v2 -> v3\nno way back from v3: to v2 it is blocked: v3's marker forbids it\n",
		},
		{
			"the first ever",
			planReport{App: "shop", Requested: "v1", WayBack: rollback.Target{Verdict: rollback.None, Reason: "there is none"}},
			"shop: nothing -> v1\nno way back from v1: there is none\n",
		},
		{
			"broken before",
			planReport{App: "shop", Requested: "v2", Previous: "v1", Before: []*gate.Finding{gate.NewFinding(gate.LayerApp, gate.AppError, "it\nfails")}, Ways: []rollback.Target{safe("v1")}},
			"shop: v1 -> v2\n  broken already: it fails\nway back: v1 (no new migrations)\n",
		},
		{
			"refused",
			planReport{App: "shop", Requested: "v2", Refused: []*gate.Finding{gate.NewFinding(gate.LayerRelease, gate.Unknown, "it is partial")}},
			"would be refused: release: it is partial\n",
		},
	} {
		s, stdout, _ := spoken(false)
		s.printPlan(c.r)
		assert.Equal(t, c.name, stdout.String(), c.want)
	}
}

func TestLogLevels(t *testing.T) {
	for level, known := range map[string]bool{"debug": true, "info": true, "warn": true, "error": true, "disabled": true, "": false, "loud": false} {
		if _, err := newLogger(new(bytes.Buffer), level, false); (err == nil) != known {
			t.Errorf("%q: %v", level, err)
		}
	}
	var out bytes.Buffer
	log, err := newLogger(&out, "info", false)
	assert.OK(t, err)
	log.Debug().Msg("request failed")
	assert.Equal(t, "at info", out.String(), "")
	log, err = newLogger(&out, "debug", false)
	assert.OK(t, err)
	log.Debug().Str("error", "dial "+assert.Hostile).Msg("request failed")
	if !strings.Contains(out.String(), "request failed") {
		t.Errorf("at debug: %q", out.String())
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("escape sequences: %q", out.String())
	}
}

// A look that waits for a file system, and hears of no signal, doesn't keep the command. One that hears of it has found half of
// what it would have, and doesn't show that.
func TestALookThatIsInterrupted(t *testing.T) {
	shown := errors.New("shown")
	for name, rest := range map[string]func(context.Context){
		"hears of no signal": func(context.Context) { select {} },
		"ends":               func(ctx context.Context) { <-ctx.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, stderr := spoken(false)
			err := s.looking(func(ctx context.Context) (func() error, error) {
				_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
				rest(ctx)
				return func() error { return shown }, nil
			})
			assert.Equal(t, "exit code", code(err), 7)
			assert.Equal(t, "stderr", stderr.String(), "deploygate: interrupted by SIGTERM\n")
		})
	}
	s, _, stderr := spoken(false)
	if err := s.looking(func(context.Context) (func() error, error) { return func() error { return shown }, nil }); !errors.Is(err, shown) {
		t.Errorf("%v", err)
	}
	err := s.looking(func(context.Context) (func() error, error) { return nil, errors.New("its own end") })
	assert.Equal(t, "exit code", code(err), 1)
	assert.Equal(t, "stderr", stderr.String(), "deploygate: its own end\n")
}

// Whatever is written to stdout or stderr has no secret in it, and acts on no terminal.
func TestTheDoor(t *testing.T) {
	var out bytes.Buffer
	secrets := &gate.Secrets{}
	secrets.Add("SECRET_KEY", "not-for-eyes")
	d := &door{w: &out, secrets: secrets}
	fmt.Fprintf(d, "a \x1b]0;b\a not-for-eyes\n")
	assert.Equal(t, "text", out.String(), "a \uFFFD]0;b\uFFFD [value of SECRET_KEY]\n")
	out.Reset()
	s := &session{commands: &commands{out: d, err: d, secrets: secrets}}
	assert.Equal(t, "code", code(s.printJSON(map[string]string{"app": "not-for-eyes", "summary": "<not-for-eyes>\x1b"}, 3)), 3)
	assert.Equal(t, "JSON", out.String(), `{"app":"not-for-eyes","summary":"<[value of SECRET_KEY]>`+"\uFFFD"+`"}`+"\n")
	out.Reset()
	p := newProgress(d, false)
	p.Warned("it says not-for-eyes")
	assert.Equal(t, "progress", out.String(), "deploygate: warning: it says [value of SECRET_KEY]\n")
	out.Reset()
	log, err := newLogger(d, "info", true)
	if err != nil {
		t.Fatal(err)
	}
	log.Info().Str("why", "not-for-eyes").Msg("x")
	if text := out.String(); strings.Contains(text, "for-eyes") || !strings.Contains(text, "\x1b[") {
		t.Errorf("the log: %q", text)
	}
}
