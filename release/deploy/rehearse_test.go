package deploy

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/scripts/assert"
)

// stage plays a second process beside the app's.
type stage struct{ *host }

func (s stage) Possible(context.Context, release.Version) error { return s.cannotRehearse }

func (s stage) Begin(ctx context.Context, v release.Version) (Candidate, error) {
	s.at("rehearse")
	if ctx.Err() != nil {
		return Candidate{}, context.Cause(ctx)
	}
	dir, err := s.tree.RealDir(v)
	assert.OK(s.t, err)
	s.staged, s.stagedAt = v, time.Now()
	return Candidate{
		Health: &gate.HealthCheck{
			Unit: s, Direct: s, Want: gate.Want{Where: "unix:/run/beside.sock /health/", Status: []int{200}},
			Interval: 100 * time.Millisecond, Stable: 2 * time.Second, Deadline: 30 * time.Second,
		},
		Expect: gate.Target{Version: string(v), Dir: dir},
		CaptureEvidence: func(f *gate.Finding, e gate.Target, _ time.Time) func() []*gate.Finding {
			if s.staged == "" {
				s.t.Error("it was ended before it was looked at")
			}
			return func() []*gate.Finding {
				return []*gate.Finding{gate.NewFinding(gate.LayerApp, gate.ImportError, "the cause in "+e.Version+": "+f.Summary)}
			}
		},
	}, nil
}

func (s stage) End() { s.staged = "" }

func (s stage) dead() bool {
	b := s.does[s.staged]
	return s.staged == "" || b.crash > 0 && time.Since(s.stagedAt) >= b.crash
}

func (s stage) State(context.Context) (gate.UnitState, error) {
	if s.dead() {
		return gate.UnitState{Unit: "beside.service", ActiveState: "failed", Result: "exit-code", ExecMainStatus: 3, InvocationID: "b"}, nil
	}
	return gate.UnitState{Unit: "beside.service", ActiveState: "active", InvocationID: "b", MainPID: 7, Result: "success"}, nil
}

func (s stage) Probe(ctx context.Context, observe func(gate.Answer) (time.Duration, bool)) error {
	return probe(ctx, func() gate.Answer {
		s.at("beside")
		switch b := s.does[s.staged]; {
		case s.dead(), time.Since(s.stagedAt) < b.boot:
			return gate.Answer{Err: syscall.ECONNREFUSED}
		case b.status != 0:
			return gate.Answer{Status: b.status}
		}
		return gate.Answer{Status: 200}
	}, observe)
}

func TestRehearse(t *testing.T) {
	v1 := versions{"v1"}
	hook := func(h *host) { h.d.Hooks[BeforeSwap] = []Task{{Name: "migrate"}} }
	for _, c := range []scenario{
		{
			name:    "a good release is rehearsed and then released",
			outcome: Released, live: "v2", restarts: versions{"v2"},
			steps: "preflight (before_swap) rehearse swap restart " + wholeGate + "commit (prune)",
			good:  versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "a bad one touches nothing", given: func(h *host) { h.does["v2"] = behaviour{crash: time.Second} },
			outcome: Refused, live: "v1", steps: "preflight (before_swap) !rehearse", failure: "the cause in v2",
			good: v1, lives: v1,
		},
		{
			name: "nor does one that answers wrongly", given: func(h *host) { h.does["v2"] = behaviour{status: 500} },
			outcome: Refused, live: "v1", steps: "preflight (before_swap) !rehearse", failure: "the cause in v2",
			good: v1, lives: v1,
		},
		{
			name: "it comes after the hooks, whose work stays", given: func(h *host) { hook(h); h.does["v2"] = behaviour{status: 500} },
			outcome: Refused, live: "v1", steps: "preflight rehearse before_swap !rehearse", failure: "the cause in v2",
			good: v1, lives: versions{"v1", "v2"}, advice: "what the before_swap hooks did stays",
		},
		{
			name: "what can't boot is refused before the hooks run", outcome: Refused, live: "v1", steps: "preflight !rehearse",
			given: func(h *host) {
				hook(h)
				h.does["v2"] = behaviour{crash: time.Second, boot: 2 * time.Second}
				h.on["task migrate"] = func() { h.t.Error("a hook ran") }
			},
			failure: "the cause in v2", good: v1, lives: v1,
		},
		{
			name: "hooks that close the way back make a refusal one for a person", outcome: Stuck, live: "v1",
			steps: "preflight rehearse before_swap !rehearse", failure: "the cause in v2",
			given: func(h *host) {
				hook(h)
				h.migration("0002_drop", "v2")
				h.does["v2"] = behaviour{status: 500}
			},
			do: func(h *host) *Report {
				r := h.release("v2")
				f := h.d.SchemaAhead(h.ctx)
				contains(h.t, "schema", summary(f), "v1 is live, and its code can't run on the schema that the before_swap hooks of v2 left: v1's code can't run after v2's migrations: shop.0002_drop")
				assert.Equal(h.t, "released again", h.release("v1").Outcome, Refused)
				assert.Equal(h.t, "overridden", h.d.Run(h.ctx, Request{Command: Rollback, Version: "v1", Override: "taken back"}).Outcome, Unchanged)
				if f := h.d.SchemaAhead(h.ctx); f != nil {
					h.t.Errorf("after an override: %v", f)
				}
				assert.Equal(h.t, "released again", h.release("v1").Outcome, Unchanged)
				return r
			},
			warnings: []string{"no way back from v2"}, advice: "v1 is live still, and its code can't run on the schema that the before_swap hooks left",
			good: v1, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "or before them", given: func(h *host) { hook(h); h.d.RehearseFirst = true; h.does["v2"] = behaviour{status: 500} },
			outcome: Refused, live: "v1", steps: "preflight !rehearse", failure: "the cause in v2",
			good: v1, lives: v1,
		},
		{
			name: "what can't be rehearsed is refused before anything is done", given: func(h *host) { hook(h); h.cannotRehearse = errors.New("a wrapper") },
			outcome: Refused, live: "v1", steps: "!preflight", failure: "a wrapper", good: v1, lives: v1,
		},
		{
			name: "an interruption leaves nothing behind", given: func(h *host) { h.on["beside"] = h.interrupt },
			outcome: Refused, live: "v1", steps: "preflight (before_swap) !rehearse", failure: "interrupted by SIGTERM", good: v1, lives: v1,
		},
		{
			name: "what passed its rehearsal can still fail", given: func(h *host) {
				h.on["restarted"] = func() { h.does["v2"] = behaviour{crash: time.Second} }
			},
			outcome: RolledBack, live: "v1", restarts: versions{"v2", "v1"},
			steps:   "preflight (before_swap) rehearse swap restart !health rollback",
			failure: "exit status 3", good: v1, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "going back is not delayed", do: func(h *host) *Report {
				h.on["rehearse"] = func() { h.t.Error("it was rehearsed") }
				h.d.Rehearse = false
				h.release("v2")
				h.d.Rehearse = true
				h.restarts = nil
				return h.rollback("v1")
			},
			outcome: Released, live: "v1", restarts: v1, steps: allOfIt, good: versions{"v1", "v2"}, lives: versions{"v1", "v2", "v1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := c.given
			c.given = func(h *host) {
				h.d.Rehearse = true
				if given != nil {
					given(h)
				}
				t.Cleanup(func() { assert.Equal(t, "left beside", h.staged, "") })
			}
			c.run(t)
		})
	}
}

func TestADeployThatDiesInItsRehearsalIsRefusedAndEnded(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.d.Rehearse = true
		var died death
		h.on["beside"] = func() { died = death{journal: h.read(h.state + "/journal.jsonl"), link: h.link(), running: h.running} }
		assert.Equal(t, "outcome", h.release("v2").Outcome, Released)
		h.become(died)
		h.staged = "v2"
		r := h.d.Recover(t.Context())
		assert.Equal(t, "outcome", r.Outcome, Refused)
		assert.Equal(t, "left beside", h.staged, "")
		assert.Equal(t, "link", h.link(), "v1")
	})
}

func TestReload(t *testing.T) {
	for _, c := range []scenario{
		{
			name: "the unit is reloaded", outcome: Released, live: "v2", steps: allOfIt,
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "one that re-reads the old release has failed, and nothing has to be restarted", given: func(h *host) { h.mute = true },
			outcome: RolledBack, live: "v1", steps: toSwap + "restart !health rollback", failure: "re-read the old release",
			good: v1only, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "the way back is a restart", given: func(h *host) { h.does["v2"] = behaviour{status: 500} },
			outcome: RolledBack, live: "v1", restarts: v1only, steps: toSwap + "restart !health rollback", failure: "answers 500",
			good: v1only, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "also where the unit's invocation tells nothing", given: func(h *host) { h.outside = true; h.does["v2"] = behaviour{status: 500} },
			outcome: RolledBack, live: "v1", restarts: v1only, steps: toSwap + "restart !health rollback", failure: "answers 500",
			good: v1only, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "what has crashed since the preflight is restarted", given: func(h *host) { h.on["started swap"] = func() { h.running = "" } },
			outcome: Released, live: "v2", restarts: versions{"v2"}, steps: allOfIt,
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "what isn't running is started", given: func(h *host) { h.running = "" },
			outcome: Released, live: "v2", restarts: versions{"v2"}, steps: allOfIt,
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"}, before: []string{"not running"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.d.Reload = true
				if c.given != nil {
					c.given(h)
				}
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, c.outcome)
				assert.Equal(t, "link", h.link(), c.live)
				assert.Equal(t, "restarts", h.restarts, c.restarts)
				assert.Equal(t, "steps", steps(r), c.steps)
				assert.Equal(t, "changed", r.Changed, true)
				contains(t, "failure", summary(r.Failure), c.failure)
				h.wellWritten()
			})
		})
	}
}

var v1only = versions{"v1"}
