package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/scripts/assert"
)

const (
	toSwap     = "preflight (before_swap) swap "
	wholeGate  = "health proxy (checks) "
	allOfIt    = toSwap + "restart " + wholeGate + "commit (prune)"
	rolledBack = " rollback"
	shared     = "fails as well, so the fault is in what it shares with v2"
)

// scenario is one deploy of v2 on a host where v1 is live and good.
type scenario struct {
	name  string
	given func(h *host)
	do    func(h *host) *Report // release v2

	outcome  Outcome
	live     release.Version
	restarts versions
	steps    string
	failure  string // part of its summary
	good     versions
	bad      versions
	lives    versions
	warnings []string // parts, one for each
	before   []string
	advice   string // part of it
}

func (c scenario) run(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		if c.given != nil {
			c.given(h)
		}
		if c.do == nil {
			c.do = func(h *host) *Report { return h.release("v2") }
		}
		r := c.do(h)
		assert.Equal(t, "outcome", r.Outcome, c.outcome)
		assert.Equal(t, "exit code", r.ExitCode, c.outcome.ExitCode())
		assert.Equal(t, "link", h.link(), c.live)
		assert.Equal(t, "current", r.Current, c.live)
		assert.Equal(t, "restarts", h.restarts, c.restarts)
		assert.Equal(t, "steps", steps(r), c.steps)
		contains(t, "failure", summary(r.Failure), c.failure)
		if good, bad := goodAndBad(h.history()); !h.unwritable {
			assert.Equal(t, "good", good, c.good)
			assert.Equal(t, "bad", bad, c.bad)
			assert.Equal(t, "lives", lives(h.history()), c.lives)
			h.wellWritten()
		}
		parts(t, "warnings", r.Warnings, c.warnings)
		var before []string
		for _, f := range r.Before {
			before = append(before, f.Summary)
		}
		parts(t, "before", before, c.before)
		if c.advice != "" {
			contains(t, "advice", strings.Join(r.Failure.Advice, "\n"), c.advice)
		}
		assert.Equal(t, "changed", r.Changed, len(c.restarts) > 0)
	})
}

// parts compares texts with the parts that they must have, one for each.
func parts(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q, want %q", what, got, want)
		return
	}
	for i := range want {
		contains(t, what, got[i], want[i])
	}
}

func lacking(summary string) []*gate.Finding {
	return []*gate.Finding{gate.NewFinding(gate.LayerRelease, gate.EnvFileMissing, summary)}
}

func does(v release.Version, b behaviour) func(*host) {
	return func(h *host) { h.does[v] = b }
}

func all(of ...func(*host)) func(*host) {
	return func(h *host) {
		for _, f := range of {
			f(h)
		}
	}
}

func marked(v release.Version) func(*host) {
	return func(h *host) { h.mark(v, blockedMarker) }
}

func on(event string, do func(*host)) func(*host) {
	return func(h *host) { h.on[event] = func() { do(h) } }
}

// deployed makes releases live that behave until v2 comes.
func deployed(vs ...release.Version) func(*host) {
	return func(h *host) {
		h.t.Helper()
		for _, v := range vs {
			h.add(v)
			if r := h.release(string(v)); r.Outcome != Released {
				h.t.Fatalf("%s: %s", v, r.Outcome)
			}
		}
		h.forget()
	}
}

func TestOutcomes(t *testing.T) {
	refusedPreflight := func(name, failure string, given func(*host)) scenario {
		return scenario{
			name: name, given: given, failure: failure,
			outcome: Refused, live: "v1", steps: "!preflight", good: versions{"v1"}, lives: versions{"v1"},
		}
	}
	back := func(name, failure string, given func(*host), trail string) scenario {
		return scenario{
			name: name, given: given, failure: failure, outcome: RolledBack, live: "v1", restarts: versions{"v2", "v1"},
			steps: toSwap + trail + rolledBack, good: versions{"v1"}, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1"},
		}
	}
	for _, c := range []scenario{
		{
			name: "healthy", outcome: Released, live: "v2", restarts: versions{"v2"}, steps: allOfIt,
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "slow boot", given: does("v2", behaviour{boot: 20 * time.Second}), outcome: Released, live: "v2",
			restarts: versions{"v2"}, steps: allOfIt, good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		back("crash at once", "app.service failed (exit status 3)", does("v2", behaviour{crash: time.Nanosecond}), "restart !health"),
		back("crash when it had been healthy for a while", "app.service failed (exit status 3)", does("v2", behaviour{crash: time.Second}), "restart !health"),
		back("500", "answers 500", does("v2", behaviour{status: 500}), "restart !health"),
		back("never boots", "nothing listens", does("v2", behaviour{boot: time.Hour}), "restart !health"),
		back("restart fails", "broken", does("v2", behaviour{restart: errBroken}), "!restart"),
		back("the proxy does not reach it", "answers 502", does("v2", behaviour{proxied: 502}), "restart health !proxy"),
		back("it breaks the proxy's configuration", "nginx", on("restart", func(h *host) {
			h.invalid = gate.NewFinding(gate.LayerProxy, gate.ProxyConfigInvalid, "nginx's configuration is not valid")
			h.on["started rollback"] = func() { h.invalid = nil }
		}), "restart health !proxy"),
		back("a required check fails", "smoke failed: broken", func(h *host) {
			h.d.Checks = []Check{{Task: task("smoke"), Required: true}}
			h.fails["smoke"] = errBroken
			h.on["started rollback"] = func() { h.fails = map[string]error{} }
		}, "restart health proxy !checks"),
		{
			name: "an advisory check fails", outcome: Released, live: "v2", restarts: versions{"v2"},
			given: func(h *host) {
				h.d.Checks = []Check{{Task: task("smoke"), Required: true}, {Task: task("lint")}}
				h.fails["lint"] = errBroken
			},
			steps: toSwap + "restart health proxy checks commit (prune)", warnings: []string{"lint failed: broken (advisory); its output ends with: output of lint"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "failed and marked", given: all(does("v2", behaviour{status: 500}), marked("v2")), outcome: Held, live: "v2",
			restarts: versions{"v2"}, steps: toSwap + "restart !health", failure: "answers 500",
			good: versions{"v1"}, lives: versions{"v1", "v2"}, advice: "deploygate rollback v1 --override-marker REASON",
			warnings: []string{"no way back from v2: to v1 it is blocked: v2's marker forbids it"},
		},
		{
			name: "failed with new migrations and no marker", outcome: Held, live: "v2", restarts: versions{"v2"},
			given: func(h *host) { h.does["v2"] = behaviour{status: 500}; h.migration("0002_drop", "v2") },
			steps: toSwap + "restart !health", failure: "answers 500",
			good: versions{"v1"}, lives: versions{"v1", "v2"},
			advice:   "take its migrations back, then the release: cd",
			warnings: []string{"no way back from v2: to v1 it is blocked: v1's code can't run after v2's migrations: shop.0002_drop"},
		},
		{
			name: "failed, and going back is for a person to say", outcome: Held, live: "v2", restarts: versions{"v2"},
			given: func(h *host) { h.does["v2"] = behaviour{status: 500}; h.d.Automatic = false },
			steps: toSwap + "restart !health", failure: "answers 500",
			good: versions{"v1"}, lives: versions{"v1", "v2"}, advice: "or go back: deploygate rollback v1",
		},
		{
			name: "failed, and so does the way back", outcome: Stuck, live: "v1", restarts: versions{"v2", "v1"},
			given: on("restart", func(h *host) { h.does["v1"], h.does["v2"] = behaviour{status: 503}, behaviour{status: 500} }),
			steps: toSwap + "restart !health !rollback", failure: "answers 500", warnings: []string{shared},
			good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "what was live and healthy is the only way back", outcome: Stuck, live: "v1b", restarts: versions{"v2", "v1b"},
			given: all(deployed("v1b"), on("restart", func(h *host) {
				h.does["v1b"], h.does["v2"] = behaviour{crash: time.Second}, behaviour{status: 500}
			})),
			steps: toSwap + "restart !health !rollback", failure: "answers 500",
			warnings: []string{"v1b fails as well, so the fault is in what it shares with v2: it stays the last good release, and no older one is tried"},
			good:     versions{"v1", "v1b"}, lives: versions{"v1", "v1b", "v2", "v1b"},
		},
		{
			name: "what was live was not healthy: the older good release is the second way back", outcome: RolledBack, live: "v1",
			given: all(deployed("v1b"), does("v1b", behaviour{status: 503}), does("v2", behaviour{status: 500})),
			steps: toSwap + "restart !health !rollback rollback", failure: "answers 500", before: []string{"answers 503"},
			restarts: versions{"v2", "v1b", "v1"},
			good:     versions{"v1", "v1b"}, bad: versions{"v2"}, lives: versions{"v1", "v1b", "v2", "v1b", "v1"},
		},
		{
			name: "both fail alike, which is neither's fault", outcome: Stuck, live: "v1b", restarts: versions{"v2", "v1b"},
			given: all(deployed("v1b"), does("v1b", behaviour{status: 500}), does("v2", behaviour{status: 500})),
			steps: toSwap + "restart !health !rollback", failure: "answers 500", before: []string{"answers 500"}, warnings: []string{shared},
			good: versions{"v1", "v1b"}, lives: versions{"v1", "v1b", "v2", "v1b"},
		},
		{
			name: "two ways are tried and no third", outcome: Stuck, live: "v1a", restarts: versions{"v2", "v1b", "v1a"},
			given: all(deployed("v1a", "v1b"), does("v1b", behaviour{status: 503}), does("v2", behaviour{status: 500}), on("restart", func(h *host) {
				h.does["v1a"] = behaviour{status: 502}
			})),
			steps: toSwap + "restart !health !rollback !rollback", failure: "answers 500", before: []string{"answers 503"},
			good: versions{"v1", "v1a", "v1b"}, lives: versions{"v1", "v1a", "v1b", "v2", "v1b", "v1a"},
		},
		{
			name: "the second way back is blocked", outcome: Stuck, live: "v1b", restarts: versions{"v2", "v1b"},
			given: all(deployed("v1b"), marked("v1b"), does("v1b", behaviour{status: 503}), does("v2", behaviour{status: 500})),
			steps: toSwap + "restart !health !rollback", failure: "answers 500", before: []string{"answers 503"},
			warnings: []string{"v1 is not tried: v1b's marker forbids it"},
			good:     versions{"v1", "v1b"}, lives: versions{"v1", "v1b", "v2", "v1b"},
		},
		{
			name: "the way back disappears", outcome: Stuck, live: "v2", restarts: versions{"v2"},
			given: all(does("v2", behaviour{status: 500}), on("restart", func(h *host) { assert.OK(h.t, os.RemoveAll(h.tree.Dir("v1"))) })),
			steps: toSwap + "restart !health !rollback", failure: "answers 500", advice: "v1 could not be put back: cannot point",
			good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "all releases disappear", outcome: Stuck, live: "v2", restarts: versions{"v2"},
			given: on("restarted", func(h *host) {
				h.does["v2"] = behaviour{status: 500}
				assert.OK(h.t, os.RemoveAll(filepath.Join(h.root, "releases")))
			}),
			steps: toSwap + "restart !health !rollback", failure: "answers 500",
			good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "the unit disappears at the restart", outcome: RolledBack, live: "v1",
			// v1 still runs: it is not restarted, but the link was changed.
			given: on("ended swap", func(h *host) {
				h.notReady = errBroken
				h.on["started rollback"] = func() { h.notReady = nil }
			}),
			steps: toSwap + "!restart rollback", failure: "broken", do: func(h *host) *Report {
				r := h.release("v2")
				if !r.Changed {
					h.t.Error("the link was changed, and the report doesn't say so")
				}
				r.Changed = false
				return r
			},
			good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "the swap fails", outcome: Refused, live: "v1", steps: "preflight (before_swap) !swap", failure: "is in the way",
			given: on("started swap", func(h *host) {
				assert.OK(h.t, h.tree.Free())
				write(h.t, filepath.Join(h.root, ".current.deploygate"), "")
			}),
			good: versions{"v1"}, lives: versions{"v1", "v2"},
		},
		{
			name: "the way back can't be reserved", outcome: Refused, live: "v1", steps: "preflight", failure: "is in the way",
			given: func(h *host) {
				h.hooks(BeforeSwap)
				write(h.t, filepath.Join(h.root, ".current.deploygate-v1"), "")
			},
			good: versions{"v1"}, lives: versions{"v1"},
			warnings: []string{".current.deploygate-v1 is in the way"},
		},
		{
			name: "the release disappears before the swap", outcome: Refused, live: "v1", steps: "preflight (before_swap) !swap",
			given:   on("started swap", func(h *host) { assert.OK(h.t, os.RemoveAll(h.tree.Dir("v2"))) }),
			failure: "release v2", good: versions{"v1"}, lives: versions{"v1", "v2"},
		},
		refusedPreflight("not there", "release v2 does not exist", func(h *host) { assert.OK(h.t, os.RemoveAll(h.tree.Dir("v2"))) }),
		refusedPreflight("partial", "release v2 is partial", func(h *host) { assert.OK(h.t, os.Remove(filepath.Join(h.tree.Dir("v2"), "manage.py"))) }),
		refusedPreflight("a link", "a release is a real directory", func(h *host) {
			assert.OK(h.t, os.RemoveAll(h.tree.Dir("v2")))
			assert.OK(h.t, os.Symlink("v1", h.tree.Dir("v2")))
		}),
		refusedPreflight("unreadable marker", "cannot understand the marker", func(h *host) { h.mark("v2", "rollback = true") }),
		refusedPreflight("no unit", "there is no unit", func(h *host) {
			h.notReady = gate.NewFinding(gate.LayerService, gate.Unknown, "there is no unit app.service")
		}),
		refusedPreflight("a unit that can't start", "does not exist", func(h *host) {
			h.look.Stops = lacking("/etc/app.env does not exist")
		}),
		refusedPreflight("a release that lacks what the live one has", "v2 has no .env", func(h *host) {
			h.look.Lacks = lacking("v2 has no .env")
		}),
		{
			name: "a release that still lacks something after its hooks", outcome: Refused, live: "v1", steps: "preflight !before_swap",
			given:   func(h *host) { h.hooks(BeforeSwap); h.lookAfter.Lacks = lacking("v2 has no static") },
			failure: "v2 has no static", good: versions{"v1"}, lives: versions{"v1", "v2"},
		},
		{
			name: "live and healthy, and its next start would fail", do: func(h *host) *Report { return h.release("v1") }, outcome: Unchanged, live: "v1",
			steps: "preflight " + strings.TrimSpace(wholeGate), given: func(h *host) { h.look.Stops = lacking("/etc/app.env does not exist") },
			warnings: []string{"/etc/app.env does not exist"}, good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "live and failing its checks, and its next start would fail", do: func(h *host) *Report { return h.release("v1") }, outcome: Refused, live: "v1",
			steps: "preflight", given: func(h *host) {
				h.look.Stops = lacking("/etc/app.env does not exist")
				h.d.Checks = []Check{{Task: task("smoke"), Required: true}}
				h.fails["smoke"] = errBroken
			},
			failure: "/etc/app.env does not exist", warnings: []string{"/etc/app.env does not exist"}, before: []string{"smoke failed"}, good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "one that failed before", outcome: Released, live: "v2", given: func(h *host) {
				assert.OK(h.t, h.d.Journal.Append(journal.Record{Deploy: lastDeploy(h), Event: journal.Failed, Version: "v2"}))
			},
			restarts: versions{"v2"}, steps: allOfIt, warnings: []string{"v2 failed its last gate"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "risks are said", outcome: Released, live: "v2", given: func(h *host) { h.look.Risks = lacking("app.service is not enabled") },
			restarts: versions{"v2"}, steps: allOfIt, warnings: []string{"app.service is not enabled"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		refusedPreflight("a server outside of the unit", "is not one of app.service", func(h *host) {
			h.d.Instances[0].Outside = func(context.Context) error { return errors.New("what answers is not one of app.service's processes") }
		}),
		refusedPreflight("newer journal", "written by a newer deploygate", func(h *host) {
			file := filepath.Join(h.state, "journal.jsonl")
			old, err := os.ReadFile(file)
			assert.OK(h.t, err)
			assert.OK(h.t, os.WriteFile(file, append(slices.Clone(old), `{"format":99,"event":"began"}`+"\n"...), 0o600))
			h.on["ended preflight"] = func() { assert.OK(h.t, os.WriteFile(file, old, 0o600)) }
		}),
		refusedPreflight("the proxy does not reach the live release", "before this release already: http://127.0.0.1/health/ answers 502",
			does("v1", behaviour{proxied: 502})),
		refusedPreflight("the proxy's configuration is broken", "before this release already: broken", func(h *host) { h.invalidBefore = errBroken }),
		{
			name: "an impossible version", do: func(h *host) *Report { return h.release("../../etc") }, outcome: Refused, live: "v1",
			steps: "!preflight", failure: `version "../../etc"`, good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "no version", do: func(h *host) *Report { return h.release("") }, outcome: Refused, live: "v1",
			steps: "!preflight", failure: "the version is empty", good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "several reasons", outcome: Refused, live: "v1", steps: "!preflight", failure: "partial",
			given: func(h *host) {
				assert.OK(h.t, os.Remove(filepath.Join(h.tree.Dir("v2"), "manage.py")))
				h.invalidBefore = errBroken
			},
			warnings: []string{"also: before this release already: broken"}, good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "the proxy did not reach it before, which is only said", outcome: Released, live: "v2", restarts: versions{"v2"},
			given: func(h *host) {
				h.d.RefuseBroken = false
				h.does["v1"], h.does["v2"] = behaviour{proxied: 502}, behaviour{proxied: 502}
			},
			steps: allOfIt, before: []string{"answers 502"}, warnings: []string{"the proxy was broken before and still is"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "the proxy's configuration was not valid before, and still is not", outcome: Released, live: "v2", restarts: versions{"v2"},
			given: func(h *host) { h.d.RefuseBroken, h.invalidBefore, h.invalid = false, errBroken, errBroken },
			steps: allOfIt, before: []string{"broken"}, warnings: []string{"the proxy was broken before and still is"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "the proxy did not reach it before, and the release breaks its configuration too", outcome: RolledBack, live: "v1",
			restarts: versions{"v2", "v1"}, failure: "broken",
			given: all(
				func(h *host) { h.d.RefuseBroken = false },
				does("v1", behaviour{proxied: 502}),
				on("restart", func(h *host) { h.invalid = errBroken }),
				on("started rollback", func(h *host) { h.invalid = nil }),
			),
			steps: toSwap + "restart health !proxy rollback", before: []string{"answers 502"},
			warnings: []string{"the proxy was broken before and still is"},
			good:     versions{"v1"}, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "what was broken before is not the release's doing", outcome: Released, live: "v2", restarts: versions{"v2"},
			given: does("v1", behaviour{status: 500}), steps: allOfIt, before: []string{"answers 500"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "the app was stopped", outcome: Released, live: "v2", restarts: versions{"v2"}, steps: allOfIt,
			given: func(h *host) { h.running = "" }, before: []string{"app.service is not running"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "live and healthy", do: func(h *host) *Report { return h.release("v1") }, outcome: Unchanged, live: "v1",
			steps: "preflight " + strings.TrimSpace(wholeGate), good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "live and not healthy, until it is restarted", do: func(h *host) *Report { return h.release("v1") },
			given:   all(does("v1", behaviour{status: 500}), on("restart", func(h *host) { delete(h.does, "v1") })),
			outcome: Released, live: "v1", restarts: versions{"v1"}, steps: allOfIt, before: []string{"answers 500"},
			good: versions{"v1"}, lives: versions{"v1", "v1"},
		},
		{
			name: "live and not healthy for good", do: func(h *host) *Report { return h.release("v1b") },
			given:   all(deployed("v1b"), does("v1b", behaviour{status: 500})),
			outcome: RolledBack, live: "v1", restarts: versions{"v1b", "v1"}, steps: toSwap + "restart !health rollback",
			failure: "answers 500", before: []string{"answers 500"},
			good: versions{"v1"}, bad: versions{"v1b"}, lives: versions{"v1", "v1b", "v1b", "v1"},
		},
		{
			name: "live and running something else", do: func(h *host) *Report { return h.release("v1") },
			given: func(h *host) {
				assert.OK(h.t, h.tree.Swap("v2"))
				h.start()
				assert.OK(h.t, h.tree.Swap("v1"))
			},
			outcome: Released, live: "v1", restarts: versions{"v1"}, steps: allOfIt, before: []string{"runs in"},
			good: versions{"v1"}, lives: versions{"v1", "v1"},
		},
		{
			name: "it recovered, and is a good one again", do: func(h *host) *Report { return h.release("v1") },
			given: func(h *host) {
				assert.OK(h.t, h.d.Journal.Append(journal.Record{Deploy: lastDeploy(h), Event: journal.Failed, Version: "v1"}))
			},
			outcome: Unchanged, live: "v1", steps: "preflight " + strings.TrimSpace(wholeGate), good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "live by hand", do: func(h *host) *Report { return h.release("v3") },
			given:   func(h *host) { h.add("v3"); h.byHand("v2"); h.does["v3"] = behaviour{status: 500} },
			outcome: RolledBack, live: "v2", restarts: versions{"v3", "v2"}, steps: toSwap + "restart !health rollback", failure: "answers 500",
			good: versions{"v1", "v2"}, bad: versions{"v3"}, lives: versions{"v1", "v2", "v3", "v2"},
		},
	} {
		t.Run(c.name, c.run)
	}
}

func lastDeploy(h *host) string {
	d, _ := h.history().Last()
	return d.ID
}

func TestFirstRelease(t *testing.T) {
	for _, c := range []struct {
		name    string
		does    behaviour
		outcome Outcome
		trail   string
	}{
		{"healthy", behaviour{}, Released, allOfIt},
		{"not healthy: there is no way back", behaviour{status: 500}, Held, toSwap + "restart !health"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.add("v1")
				h.does["v1"] = c.does
				h.openJournal()
				r := h.release("v1")
				assert.Equal(t, "outcome", r.Outcome, c.outcome)
				assert.Equal(t, "steps", steps(r), c.trail)
				assert.Equal(t, "link", h.link(), "v1")
				assert.Equal(t, "previous", r.Previous, "")
				assert.Equal(t, "before", len(r.Before), 0)
				assert.Equal(t, "way back", string(r.RollbackTarget.Verdict), "none")
				h.wellWritten()
			})
		})
	}
}

// What is refused leaves no trace at all.
func TestRefusedTouchesNothing(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		journalled := len(h.records())
		h.hooks(BeforeSwap, AfterRelease, AfterRollback, OnHeld)
		var files []string
		walk := func() (all []string) {
			assert.OK(t, filepath.WalkDir(h.root, func(p string, _ os.DirEntry, err error) error {
				all = append(all, p)
				return err
			}))
			return all
		}
		files = walk()
		r := h.release("v9")
		assert.Equal(t, "outcome", r.Outcome, Refused)
		assert.Equal(t, "files", walk(), files)
		assert.Equal(t, "records", len(h.records()), journalled)
		assert.Equal(t, "restarts", len(h.restarts), 0)
		assert.Equal(t, "trace", h.trace, []string{"preflight failed"})
		assert.Equal(t, "changed", r.Changed, false)
	})
}

func TestInterruptedBeforeTheSwap(t *testing.T) {
	for _, event := range []string{
		"started before_swap", "task before_swap", "ended before_swap", "started swap",
	} {
		t.Run(event, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.hooks(BeforeSwap, OnHeld, AfterRollback, AfterRelease)
				h.on[event] = h.interrupt
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, Refused)
				assert.Equal(t, "link", h.link(), "v1")
				assert.Equal(t, "changed", r.Changed, false)
				assert.Equal(t, "restarts", len(h.restarts), 0)
				assert.Equal(t, "cause", string(r.Failure.Cause), "interrupted")
				for _, task := range h.tasks {
					assert.Equal(t, "task", task.Name, "before_swap")
				}
				h.wellWritten()
			})
		})
	}
	// Where it is noticed in preflight nothing is journalled either.
	for _, event := range []string{"started preflight", "ready"} {
		t.Run(event, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				journalled := len(h.records())
				h.on[event] = h.interrupt
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, Refused)
				assert.Equal(t, "failure", summary(r.Failure), "interrupted by SIGTERM")
				assert.Equal(t, "link", h.link(), "v1")
				assert.Equal(t, "records", len(h.records()), journalled)
			})
		})
	}
	// While the proxy is looked at, the words are not asserted, only that nothing is done.
	for _, event := range []string{"begin", "probe", "through"} {
		t.Run(event, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.on[event] = h.interrupt
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, Refused)
				assert.Equal(t, "link", h.link(), "v1")
				assert.Equal(t, "restarts", len(h.restarts), 0)
			})
		})
	}
}

// afterSwap are the moments after the swap at which a deploy can be interrupted.
var afterSwap = []string{
	"ended swap", "started restart", "ready", "restart", "restarted", "ended restart", "started health", "probe", "ended health",
	"started proxy", "test", "through", "ended proxy", "started checks", "task smoke",
}

// arm lets something happen at an event after the swap.
func (h *host) arm(event string, do func()) {
	if strings.HasSuffix(event, " swap") {
		h.on[event] = do
		return
	}
	h.on["ended swap"] = func() { h.on[event] = do }
}

func TestInterruptedAfterTheSwap(t *testing.T) {
	for i, event := range append(slices.Clone(afterSwap), "task smoke") {
		t.Run(event, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.d.Checks = []Check{{Task: task("smoke"), Required: i < len(afterSwap)}} // an advisory one, once
				h.arm(event, h.interrupt)
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, RolledBack)
				assert.Equal(t, "failure", summary(r.Failure), "interrupted by SIGTERM")
				assert.Equal(t, "link", h.link(), "v1")
				assert.Equal(t, "running", h.running, "v1")
				good, bad := goodAndBad(h.history())
				assert.Equal(t, "good", good, versions{"v1"})
				assert.Equal(t, "bad", bad, versions{})
				h.wellWritten()
			})
		})
	}
}

// Once the release has passed its gate an interruption changes nothing.
func TestInterruptedAtTheEnd(t *testing.T) {
	for _, event := range []string{"ended checks", "started commit", "ended commit", "started prune", "task after_release"} {
		t.Run(event, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.hooks(AfterRelease)
				h.arm(event, h.interrupt)
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, Released)
				assert.Equal(t, "link", h.link(), "v2")
				assert.Equal(t, "tasks", len(h.tasks), 1)
				h.wellWritten()
			})
		})
	}
}

// Where there is no way back, the only way is forward.
func TestInterruptedWithoutAWayBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		given   func(*host)
		does    behaviour
		outcome Outcome
	}{
		{"marked, healthy", marked("v2"), behaviour{}, Released},
		{"marked, not healthy", marked("v2"), behaviour{status: 500}, Held},
		{"not automatic", func(h *host) { h.d.Automatic = false }, behaviour{}, Released},
	} {
		for _, event := range afterSwap[:9] {
			t.Run(c.name+", "+event, func(t *testing.T) {
				onHost(t, func(t *testing.T, h *host) {
					h.began("v1")
					h.add("v2")
					c.given(h)
					h.hooks(OnHeld, AfterRelease)
					h.does["v2"] = c.does
					h.arm(event, h.interrupt)
					r := h.release("v2")
					if event == "ended health" && c.outcome == Held {
						return // it has failed before it is interrupted
					}
					assert.Equal(t, "outcome", r.Outcome, c.outcome)
					assert.Equal(t, "link", h.link(), "v2")
					assert.Equal(t, "running", h.running, "v2")
					assert.Equal(t, "tasks", len(h.tasks), 1)
					_, bad := goodAndBad(h.history())
					assert.Equal(t, "bad", bad, versions{})
					h.wellWritten()
				})
			})
		}
	}
}

// A journal that can't be written ends a deploy before the swap. Afterwards the host's health comes first, and both
// are said.
func TestJournalBreaks(t *testing.T) {
	type want struct {
		outcome Outcome
		live    release.Version
		failure string
		warned  bool
	}
	const cannot = "cannot write the journal"
	for _, c := range []struct {
		event string
		does  behaviour
		want  want
	}{
		{"ended preflight", behaviour{}, want{Refused, "v1", cannot, false}},
		{"started before_swap", behaviour{}, want{Refused, "v1", cannot, true}},
		{"ended before_swap", behaviour{}, want{Refused, "v1", cannot, true}},
		{"started swap", behaviour{}, want{Refused, "v1", cannot, true}},
		{"ended swap", behaviour{}, want{Released, "v2", "", true}},
		{"ended swap", behaviour{status: 500}, want{RolledBack, "v1", "answers 500", true}},
		{"restart", behaviour{status: 500}, want{RolledBack, "v1", "answers 500", true}},
		{"started rollback", behaviour{status: 500}, want{RolledBack, "v1", "answers 500", true}},
		{"ended rollback", behaviour{status: 500}, want{RolledBack, "v1", "answers 500", true}},
		{"ended prune", behaviour{}, want{Released, "v2", "", true}},
	} {
		t.Run(fmt.Sprint(c.event, c.does.status), func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.hooks(BeforeSwap)
				h.does["v2"] = c.does
				h.on[c.event] = h.breakJournal
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, c.want.outcome)
				assert.Equal(t, "link", h.link(), c.want.live)
				assert.Equal(t, "running", h.running, c.want.live)
				contains(t, "failure", summary(r.Failure), c.want.failure)
				assert.Equal(t, "warned", strings.Contains(strings.Join(r.Warnings, "\n"), cannot), c.want.warned)
				assert.Equal(t, "warnings", len(r.Warnings), len(slices.Compact(slices.Sorted(slices.Values(r.Warnings)))))
			})
		})
	}
}

func TestHooks(t *testing.T) {
	for _, c := range []struct {
		name  string
		given func(*host)
		do    func(*host) *Report
		want  []string // with the release in whose directory they run
	}{
		{"released", nil, nil, []string{"before_swap v2", "smoke v2", "after_release v2"}},
		{"rolled back", does("v2", behaviour{status: 500}), nil, []string{"before_swap v2", "smoke v1", "after_rollback v1"}},
		{"held", all(does("v2", behaviour{status: 500}), marked("v2")), nil, []string{"before_swap v2", "on_held v2"}},
		{"stuck", on("ended swap", func(h *host) { h.does["v1"], h.does["v2"] = behaviour{status: 500}, behaviour{status: 500} }), nil, []string{"before_swap v2", "on_stuck v2"}},
		{"refused", func(h *host) { h.fails["before_swap"] = errBroken }, nil, []string{"before_swap v2"}},
		{"unchanged", nil, func(h *host) *Report { return h.release("v1") }, []string{"smoke v1"}},
		{"rollback: no migrations", deployed("v2"), func(h *host) *Report { return h.rollback("") }, []string{"smoke v1", "after_rollback v1"}},
		{"failed rollback", all(deployed("v2"), does("v1", behaviour{status: 500})), func(h *host) *Report { return h.rollback("") }, []string{"smoke v2", "after_rollback v2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				if c.given != nil {
					c.given(h)
				}
				h.hooks(BeforeSwap, AfterRelease, AfterRollback, OnHeld, OnStuck)
				h.d.Checks = []Check{{Task: task("smoke"), Required: true}}
				previous := h.link()
				do := c.do
				if do == nil {
					do = func(h *host) *Report { return h.release("v2") }
				}
				r := do(h)
				var got []string
				for _, ran := range h.tasks {
					v := filepath.Base(ran.Dir)
					got = append(got, ran.Name+" "+v)
					assert.Equal(t, "directory", ran.Dir, h.tree.Dir(release.Version(v)))
					environment := []string{
						"DEPLOYGATE_APP=shop", "DEPLOYGATE_DEPLOY=" + r.DeployID, "DEPLOYGATE_VERSION=" + v, "DEPLOYGATE_PREVIOUS=" + string(previous),
					}
					if strings.HasPrefix(ran.Name, "after_") || strings.HasPrefix(ran.Name, "on_") { // what comes after the outcome is known
						environment = append(environment, "DEPLOYGATE_OUTCOME="+string(r.Outcome))
					}
					assert.Equal(t, "environment", ran.Environment, environment)
					assert.Equal(t, "arguments", ran.Run, []string{ran.Name, "--now"})
					assert.Equal(t, "timeout", ran.Timeout, time.Minute)
				}
				assert.Equal(t, "tasks", got, c.want)
			})
		})
	}
}

// A restart is gated as a release is, and has no way back.
func TestRestart(t *testing.T) {
	restart := func(h *host) *Report { return h.d.Run(h.ctx, Request{Command: Restart}) }
	const whole = "preflight restart " + wholeGate + "commit"
	for _, c := range []scenario{
		{
			name: "healthy", given: deployed("v2"), outcome: Released, live: "v2", restarts: versions{"v2"}, steps: whole,
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "it was broken, the proxy too", outcome: Released, live: "v1", restarts: versions{"v1"}, steps: whole,
			given: all(does("v1", behaviour{proxied: 502}), on("restart", func(h *host) { delete(h.does, "v1") })),
			good:  versions{"v1"}, lives: versions{"v1"}, before: []string{"answers 502"},
		},
		{
			name: "not healthy", given: all(deployed("v2"), on("restart", does("v2", behaviour{crash: time.Second}))), outcome: Held, live: "v2",
			restarts: versions{"v2"}, steps: "preflight restart !health", failure: "exit status 3",
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"}, advice: "put right what was changed since the last start, then: deploygate restart",
		},
		{
			name: "interrupted", given: all(deployed("v2"), on("restarted", func(h *host) { h.interrupt() })), outcome: Released, live: "v2",
			restarts: versions{"v2", "v2"}, steps: "preflight restart !health restart " + wholeGate + "commit",
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"}, warnings: []string{"going forward with v2"},
		},
		{
			name: "the unit's files have changed, and can't be used", given: func(h *host) {
				h.stale = true
				h.on["started restart"] = func() { h.on["ready"] = func() { h.notReady = errBroken } }
			},
			outcome: Refused, live: "v1", steps: "preflight !restart", failure: "broken", good: v1only, lives: v1only,
		},
		{
			name: "hooks are for releases", given: func(h *host) { h.hooks(BeforeSwap, AfterRelease, AfterRollback) },
			do: func(h *host) *Report {
				r := restart(h)
				assert.Equal(h.t, "tasks", len(h.tasks), 0)
				return r
			},
			outcome: Released, live: "v1", restarts: v1only, steps: whole, good: v1only, lives: v1only,
		},
	} {
		if c.do == nil {
			c.do = restart
		}
		t.Run(c.name, c.run)
	}
	onHost(t, func(t *testing.T, h *host) { // a host without a release
		h.openJournal()
		r := restart(h)
		assert.Equal(t, "outcome", r.Outcome, Refused)
		contains(t, "failure", summary(r.Failure), "no release is live")
	})
}

func TestBeforeSwapHookFails(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.d.Hooks[BeforeSwap] = []Task{task("collect"), task("migrate"), task("never")}
		h.fails["migrate"] = errBroken
		r := h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, Refused)
		assert.Equal(t, "steps", steps(r), "preflight !before_swap")
		assert.Equal(t, "summary", r.Failure.Summary, "migrate failed: broken")
		assert.Equal(t, "evidence", r.Failure.Evidence, []gate.Evidence{{Source: "migrate --now", Text: "output of migrate"}})
		assert.Equal(t, "advice", r.Failure.Advice, []string{"nothing was swapped; what the hooks did stays (1 of 3 ended well)"})
		assert.Equal(t, "trace", h.trace, []string{"preflight passed", "task collect in v2", "task migrate in v2", "before_swap failed"})
	})
}

// What fails after the verdict is said, and changes nothing.
func TestLaterHookFails(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.d.Hooks[AfterRelease] = []Task{task("notify"), task("warm")}
		h.fails["notify"] = errBroken
		r := h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, Released)
		assert.Equal(t, "warnings", r.Warnings, []string{"notify failed: broken; its output ends with: output of notify"})
		assert.Equal(t, "tasks", len(h.tasks), 2)
		assert.Equal(t, "shown", h.warned, r.Warnings)
	})
}

func TestTailKeepsTheEnd(t *testing.T) {
	var out tail
	for i := range 10_000 {
		n, err := fmt.Fprintf(&out, "line %d\n", i)
		assert.Equal(t, "written", n > 0 && err == nil, true)
	}
	kept := out.String()
	assert.Equal(t, "length", len(kept) <= tailSize && len(kept) > tailSize-len("line 9999\n"), true)
	assert.Equal(t, "begins with a whole line", strings.HasPrefix(kept, "line "), true)
	assert.Equal(t, "shown", len(end(kept)), tailShown)
	if !strings.HasSuffix(kept, end(kept)) || !strings.HasSuffix(kept, "line 9999\n") {
		t.Errorf("ends in %q", end(kept))
	}
	fmt.Fprint(&out, strings.Repeat("x", 2*tailSize))
	assert.Equal(t, "one long line", strings.HasPrefix(out.String(), "[…] xxx"), true)
}

// Neither the verdict, nor the journal, nor what is shown meanwhile has a secret that a hook printed.
func TestSecretsOfAHookStayInside(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Secrets = &gate.Secrets{}
		h.d.Secrets.Add("SECRET_KEY", "not-for-eyes-at-all")
		h.began("v1")
		h.add("v2")
		leak := task("migrate")
		h.d.Hooks[BeforeSwap] = []Task{leak}
		h.fails["migrate"] = fmt.Errorf("it says not-for-eyes-at-all")
		h.prints = map[string]string{"migrate": strings.Repeat("y", tailSize) + "not-for-eyes-at-all" + strings.Repeat("x", tailShown-10)}
		r := h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, Refused)
		written, err := os.ReadFile(filepath.Join(h.d.StateDir, "journal.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(written), "for-eyes") || !strings.Contains(string(written), "[value of SECRET_KEY]") {
			t.Errorf("the journal: %s", written)
		}
		if text := fmt.Sprint(r.Failure.Evidence); strings.Contains(text, "at-all") {
			t.Errorf("half of it is left: %.100s", text)
		}
	})
}

// The last good release keeps running where a failure comes before the restart.
func TestNoNeedlessRestartOnTheWayBack(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.on["ended swap"] = h.interrupt
		r := h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, RolledBack)
		assert.Equal(t, "restarts", len(h.restarts), 0)
		assert.Equal(t, "changed", r.Changed, true)
		assert.Equal(t, "link", h.link(), "v1")
	})
}

func TestRollback(t *testing.T) {
	rollbackTo := func(v string) func(*host) *Report { return func(h *host) *Report { return h.rollback(v) } }
	for _, c := range []scenario{
		{
			name: "the last good one", given: deployed("v2"), do: rollbackTo(""), outcome: Released, live: "v1", restarts: versions{"v1"},
			steps: allOfIt, good: versions{"v1", "v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "a version", given: deployed("v1b", "v2"), do: rollbackTo("v1"), outcome: Released, live: "v1", restarts: versions{"v1"},
			steps: allOfIt, good: versions{"v1", "v1b", "v2"}, lives: versions{"v1", "v1b", "v2", "v1"},
		},
		{
			name: "twice goes one further back", given: deployed("v1b", "v2"), outcome: Released, live: "v1", restarts: versions{"v1b", "v1"},
			do:    func(h *host) *Report { h.rollback(""); return h.rollback("") },
			steps: allOfIt, good: versions{"v1", "v1b", "v2"}, lives: versions{"v1", "v1b", "v2", "v1b", "v1"},
		},
		{
			name: "one that was rolled back from is no way back", outcome: RolledBack, live: "v1", restarts: versions{"v1", "v3", "v1"},
			given: all(deployed("v2"), does("v3", behaviour{status: 500})),
			do:    func(h *host) *Report { h.add("v3"); h.rollback(""); return h.release("v3") },
			steps: toSwap + "restart !health rollback", failure: "answers 500",
			good: versions{"v1", "v2"}, bad: versions{"v3"}, lives: versions{"v1", "v2", "v1", "v3", "v1"},
		},
		{
			name: "never live", given: func(h *host) { h.add("v0") }, do: rollbackTo("v0"), outcome: Refused, live: "v1", steps: "!preflight",
			failure: "v0 was never live on this host, so there is no going back to it; deploygate release v0 makes it live",
			good:    versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "an override is remembered", given: all(deployed("v2"), marked("v2")), outcome: Released, live: "v2", restarts: versions{"v1", "v2"},
			do: func(h *host) *Report {
				h.d.Run(h.ctx, Request{Command: Rollback, Override: "restored the dump"})
				return h.release("v2")
			},
			warnings: []string{"no way back from v2"},
			steps:    allOfIt, good: versions{"v1", "v2"}, lives: versions{"v1", "v2", "v1", "v2"},
		},
		{
			name: "an override is remembered for what lies between", outcome: Released, live: "v1b", restarts: versions{"v1", "v1b"},
			given: all(deployed("v1b", "v2"), marked("v2")),
			do: func(h *host) *Report {
				h.d.Run(h.ctx, Request{Command: Rollback, Version: "v1", Override: "restored the dump"})
				return h.release("v1b")
			},
			steps: allOfIt, good: versions{"v1", "v1b", "v2"}, lives: versions{"v1", "v1b", "v2", "v1", "v1b"},
		},
		{
			name: "the code of an older release by another name is an older release", outcome: Refused, live: "v2", steps: "!preflight",
			given: func(h *host) {
				h.migration("0001_initial", "v1", "v2", "v1copy")
				h.migration("0002_drop", "v2")
				write(h.t, filepath.Join(h.tree.Dir("v1copy"), "manage.py"), "v1copy")
				deployed("v2")(h)
			},
			do: func(h *host) *Report { return h.release("v1copy") }, failure: "going back from v2 to v1copy is blocked",
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "a failed one is passed over", do: rollbackTo(""), outcome: Released, live: "v1", restarts: versions{"v1"}, steps: allOfIt,
			given: func(h *host) {
				h.does["v2"] = behaviour{status: 500}
				h.release("v2")
				deployed("v3")(h)
			},
			good: versions{"v1", "v3"}, bad: versions{"v2"}, lives: versions{"v1", "v2", "v1", "v3", "v1"},
		},
		{
			name: "nothing to go back to", do: rollbackTo(""), outcome: Refused, live: "v1", steps: "!preflight",
			failure: "there is nothing to roll back to", good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "to what is live", do: rollbackTo("v1"), outcome: Unchanged, live: "v1",
			steps: "preflight " + strings.TrimSpace(wholeGate), good: versions{"v1"}, lives: versions{"v1"},
		},
		{
			name: "forbidden", given: all(deployed("v2"), marked("v2")), do: rollbackTo(""), outcome: Refused, live: "v2", steps: "!preflight",
			failure: "going back from v2 to v1 is blocked: v2's marker forbids it", advice: "--override-marker",
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "forbidden on the way", given: all(deployed("v1b", "v2"), marked("v1b")), do: rollbackTo("v1"), outcome: Refused, live: "v2",
			steps: "!preflight", failure: "v1b's marker forbids it", good: versions{"v1", "v1b", "v2"}, lives: versions{"v1", "v1b", "v2"},
		},
		{
			name: "by release, forbidden too", given: all(deployed("v2"), marked("v2")), do: func(h *host) *Report { return h.release("v1") },
			outcome: Refused, live: "v2", steps: "!preflight", failure: "going back from v2 to v1 is blocked",
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2"},
		},
		{
			name: "overridden", given: all(deployed("v2"), marked("v2")), outcome: Released, live: "v1", restarts: versions{"v1"}, steps: allOfIt,
			do: func(h *host) *Report {
				r := h.d.Run(h.ctx, Request{Command: Rollback, Override: "restored the dump"})
				d, _ := h.history().Last()
				assert.Equal(h.t, "recorded reason", d.Override, "restored the dump")
				return r
			},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "it fails, and what was live is healthy", given: all(deployed("v2"), does("v1", behaviour{status: 500})), do: rollbackTo(""),
			outcome: RolledBack, live: "v2", restarts: versions{"v1", "v2"}, steps: toSwap + "restart !health rollback", failure: "answers 500",
			good: versions{"v2"}, bad: versions{"v1"}, lives: versions{"v1", "v2", "v1", "v2"},
		},
		{
			name: "it fails, and what was live is what it fled from", do: rollbackTo("v1b"),
			given: all(deployed("v1b", "v2"), func(h *host) {
				h.does["v2"], h.does["v1b"] = behaviour{status: 500}, behaviour{status: 500}
			}),
			outcome: RolledBack, live: "v1", restarts: versions{"v1b", "v1"}, steps: toSwap + "restart !health rollback", failure: "answers 500",
			before: []string{"answers 500"}, good: versions{"v1", "v2"}, bad: versions{"v1b"}, lives: versions{"v1", "v1b", "v2", "v1b", "v1"},
		},
		{
			name: "it fails, and there is nothing else", do: rollbackTo(""),
			given: all(deployed("v2"), func(h *host) {
				h.does["v2"], h.does["v1"] = behaviour{status: 500}, behaviour{status: 500}
			}),
			outcome: Held, live: "v1", restarts: versions{"v1"}, steps: toSwap + "restart !health", failure: "answers 500",
			before: []string{"answers 500"}, good: versions{"v1", "v2"}, lives: versions{"v1", "v2", "v1"},
		},
	} {
		t.Run(c.name, c.run)
	}
}

// What a failure leaves to see is looked at before the way back, and explained after it; only where there was a start.
func TestWitness(t *testing.T) {
	type call struct {
		failure, version, current string
		since                     time.Duration
	}
	witnessed := func(h *host, found ...*gate.Finding) (calls *[]call) {
		calls = new([]call)
		began := time.Now()
		h.d.Instances[0].CaptureEvidence = func(f *gate.Finding, e gate.Target, since time.Time) func() []*gate.Finding {
			at, _ := h.d.Tree.Current()
			*calls = append(*calls, call{f.Summary, e.Version, string(at), since.Sub(began)})
			return func() []*gate.Finding {
				at, _ := h.d.Tree.Current()
				*calls = append(*calls, call{failure: "explained", current: string(at)})
				return found
			}
		}
		return calls
	}
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.does["v2"] = behaviour{crash: 3 * time.Second, boot: 2 * time.Second}
		calls := witnessed(h, gate.NewFinding(gate.LayerApp, gate.ImportError, "the cause").Advise("fix it"), gate.NewFinding(gate.LayerProxy, gate.ProxyStopped, "another"))
		r := h.release("v2")
		assert.Equal(t, "calls", len(*calls), 2)
		assert.Equal(t, "version", (*calls)[0].version, "v2")
		assert.Equal(t, "live when it was witnessed", (*calls)[0].current, "v2")
		assert.Equal(t, "live when it was explained", (*calls)[1].current, "v1")
		assert.Equal(t, "failure", summary(r.Failure), "the cause")
		assert.Equal(t, "cause", r.Failure.Cause, gate.ImportError)
		assert.Equal(t, "warnings", r.Warnings, []string{"also: another"})
	})
	onHost(t, func(t *testing.T, h *host) { // without an explanation the gate's own stays
		h.began("v1")
		h.add("v2")
		h.does["v2"] = behaviour{crash: 3 * time.Second, boot: 2 * time.Second}
		calls := witnessed(h)
		r := h.release("v2")
		assert.Equal(t, "calls", len(*calls), 2)
		contains(t, "failure", summary(r.Failure), "exit status 3")
	})
	onHost(t, func(t *testing.T, h *host) { // what was refused was not started
		h.began("v1")
		calls := witnessed(h)
		r := h.release("v9")
		assert.Equal(t, "outcome", r.Outcome, Refused)
		assert.Equal(t, "calls", len(*calls), 0)
	})
	onHost(t, func(t *testing.T, h *host) { // a release that is held says the ways out first
		h.began("v1")
		h.add("v2")
		h.does["v2"] = behaviour{crash: 3 * time.Second, boot: 2 * time.Second}
		h.d.Automatic = false
		witnessed(h, gate.NewFinding(gate.LayerApp, gate.ImportError, "the cause").Advise("fix it"))
		r := h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, Held)
		assert.Equal(t, "advice", r.Failure.Advice, []string{"fix forward: release a corrected version", "or go back: deploygate rollback v1", "fix it"})
	})
}

func TestGuard(t *testing.T) {
	guarded := func(h *host, err error) (started, stopped *int) {
		started, stopped = new(int), new(int)
		h.d.Guard = func(_ context.Context, id string) (func(), error) {
			*started++
			if last, any := h.history().Last(); any && last.ID == id {
				h.t.Error("the journal knows of the deploy before it is guarded")
			}
			return func() {
				*stopped++
				if d, _ := h.history().Last(); d.ID == id && !d.Finished() {
					h.t.Error("the guard is stopped before the verdict is written")
				}
			}, err
		}
		return started, stopped
	}
	for _, c := range []struct {
		name             string
		err              error
		required         bool
		interrupted      bool
		version          string
		outcome          Outcome
		started, stopped int
		warnings         []string
	}{
		{"a release", nil, false, false, "v2", Released, 1, 1, nil},
		{"a failing release", nil, false, false, "bad", RolledBack, 1, 1, nil},
		{"nothing to do", nil, true, false, "v1", Unchanged, 0, 0, nil},
		{"refused", nil, true, false, "v9", Refused, 0, 0, nil},
		{"none to be had", errBroken, false, false, "v2", Released, 1, 0, []string{"nothing finishes this deploy if its process dies"}},
		{"none to be had, and required", errBroken, true, false, "v2", Refused, 1, 0, nil},
		{"interrupted", errBroken, false, true, "v2", Refused, 0, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2", "bad")
				h.does["bad"] = behaviour{status: 500}
				journalled := len(h.records())
				started, stopped := guarded(h, c.err)
				h.d.GuardRequired = c.required
				if c.interrupted {
					h.on["ended preflight"] = h.interrupt
				}
				r := h.release(c.version)
				assert.Equal(t, "outcome", r.Outcome, c.outcome)
				assert.Equal(t, "started", *started, c.started)
				assert.Equal(t, "stopped", *stopped, c.stopped)
				parts(t, "warnings", r.Warnings, c.warnings)
				assert.Equal(t, "journalled", len(h.records()) > journalled, c.outcome == Released || c.outcome == RolledBack)
			})
		})
	}
}

// nginx is told to reload only where its configuration changed, and the journal has a word of it before.
func TestProxyIsReloadedOnlyWhenItChanged(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2", "v3")
		r := h.release("v2")
		assert.Equal(t, "reloads", h.reloads, 0)
		assert.Equal(t, "detail", r.Steps[5].Detail, "configuration valid, healthy through it")
		h.reconfigured = true
		h.on["test"] = func() { h.announced(StepProxy) }
		r = h.release("v3")
		assert.Equal(t, "outcome", r.Outcome, Released)
		assert.Equal(t, "reloads", h.reloads, 1)
		assert.Equal(t, "detail", r.Steps[5].Detail, "configuration valid, reloaded, healthy through it")
	})
}

func TestWithoutProxy(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Proxy = &gate.ProxyCheck{}
		h.began("v1")
		h.add("v2")
		h.does["v2"] = behaviour{proxied: 502}
		r := h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, Released)
		assert.Equal(t, "steps", steps(r), toSwap+"restart health (proxy) (checks) commit (prune)")
	})
}

func TestJournalTellsTheStory(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.does["v2"] = behaviour{status: 500}
		h.hooks(BeforeSwap)
		h.release("v2")
		assert.Equal(t, "journal", h.story(), []string{
			"began v2",
			"intent before_swap v2", "done before_swap v2",
			"intent swap v2", "done swap v2",
			"intent restart v2", "done restart v2",
			"failed v2",
			"intent swap v1", "done swap v1",
			"intent restart v1", "done restart v1",
			"intent proxy v1", "done proxy v1",
			"passed v1",
			"failed v2", // now it is proved
			"finished",
		})
	})
}

func TestNotBegun(t *testing.T) {
	d := &Deployer{App: "shop"}
	r := d.NotBegun(Request{Command: Release, Version: "v2"}, Locked, &journal.LockedError{Holder: journal.Holder{}})
	assert.Equal(t, "outcome", r.Outcome, Locked)
	assert.Equal(t, "exit code", r.ExitCode, 6)
	assert.Equal(t, "requested", r.Requested, "v2")
	contains(t, "failure", summary(r.Failure), "another deploy of this app is running")
	assert.Equal(t, "changed", r.Changed, false)
}

func TestDeployIDsSortByTimeAndDiffer(t *testing.T) {
	at := time.Date(2026, 11, 21, 3, 51, 57, 0, time.FixedZone("", 3600))
	a, b := newID(at), newID(at)
	if a == b || !strings.HasPrefix(a, "20261121T025157Z-") || newID(at.Add(time.Second)) < max(a, b) {
		t.Errorf("%s, %s", a, b)
	}
}

// What gives no answer doesn't end when it is asked to either: the way back doesn't wait for it.
func TestWhatHangsIsKilled(t *testing.T) {
	for name, c := range map[string]struct {
		does   behaviour
		killed versions
	}{
		"it gives no answer": {behaviour{hangs: true}, versions{"v2"}},
		"nobody can ask it":  {behaviour{full: true}, versions{"v2"}},
		"it answers wrongly": {behaviour{status: 500}, nil},
		"it crashes":         {behaviour{crash: time.Second}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.does["v2"] = c.does
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, RolledBack)
				assert.Equal(t, "killed", h.killed, c.killed)
				assert.Equal(t, "restarts", h.restarts, versions{"v2", "v1"})
				h.wellWritten()
			})
		})
	}
}
