package deploy

import (
	"context"
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

// death is the host as a deploy leaves it whose process dies at one moment.
type death struct {
	at      string
	journal []byte
	link    release.Version
	running release.Version
}

// deaths are all moments at which the process of a deploy can die: wherever it meets the host, and after every record
// of the journal, with what that announces done or not.
func (h *host) deaths(do func()) (all []death) {
	h.t.Helper()
	file := filepath.Join(h.state, "journal.jsonl")
	start := death{"the start", h.read(file), h.link(), h.running}
	do()
	written := h.read(file)[len(start.journal):]
	state := start
	add := func(at string, d death) {
		d.at = at
		all = append(all, d)
	}
	for line := range strings.Lines(string(written)) {
		torn := state
		torn.journal = append(slices.Clone(state.journal), line[:len(line)/2]...)
		state.journal = append(slices.Clone(state.journal), line...)
		records, _, err := journal.Read(h.state)
		assert.OK(h.t, err)
		rec := records[strings.Count(string(state.journal), "\n")-1]
		add("a torn "+what(rec), torn)
		add("after "+what(rec), state)
		if rec.Event != journal.Intent {
			continue
		}
		switch StepName(rec.Step) {
		case StepSwap:
			state.link = rec.Version
		case StepRestart:
			stopped := state
			stopped.running = ""
			add("stopped by "+what(rec), stopped)
			state.running = rec.Version
		default:
			continue
		}
		add("done: "+what(rec), state)
	}
	if state.link != h.link() || state.running != h.running {
		h.t.Fatalf("the journal tells of %s, running %s; it is %s, running %s", state.link, state.running, h.link(), h.running)
	}
	return all
}

func what(r journal.Record) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Event, r.Step, r.Version))
}

func (h *host) read(file string) []byte {
	h.t.Helper()
	text, err := os.ReadFile(file)
	assert.OK(h.t, err)
	return text
}

// become makes the host what it is after a death, with a new process of deploygate.
func (h *host) become(d death) {
	h.t.Helper()
	assert.OK(h.t, os.WriteFile(filepath.Join(h.state, "journal.jsonl"), d.journal, 0o600))
	assert.OK(h.t, h.tree.Swap(d.running+release.Version(strings.Repeat(string(d.link), 1-min(1, len(d.running))))))
	h.start()
	if d.running == "" {
		h.running = ""
	}
	assert.OK(h.t, h.tree.Swap(d.link))
	h.openJournal()
	h.forget()
}

// accidents are deploys during which the process dies.
var accidents = []struct {
	name  string
	given func(*host)
	do    func(*host)
	ends  map[release.Version]Outcome // how it may end, by what is live then
}{
	{"good", nil, func(h *host) { h.release("v2") }, map[release.Version]Outcome{"v1": RolledBack, "v2": Released}},
	{"bad", does("v2", behaviour{status: 500}), func(h *host) { h.release("v2") }, map[release.Version]Outcome{"v1": RolledBack}},
	{"marked", marked("v2"), func(h *host) { h.release("v2") }, map[release.Version]Outcome{"v1": Refused, "v2": Released}},
	{
		"marked and bad", all(marked("v2"), does("v2", behaviour{status: 500})), func(h *host) { h.release("v2") },
		map[release.Version]Outcome{"v1": Refused, "v2": Held},
	},
	{
		"not automatic", func(h *host) { h.d.Automatic = false }, func(h *host) { h.release("v2") },
		map[release.Version]Outcome{"v1": Refused, "v2": Released},
	},
	{
		"the first way back is bad too", all(deployed("v1b"), does("v1b", behaviour{status: 503}), does("v2", behaviour{status: 500})),
		func(h *host) { h.release("v2") },
		map[release.Version]Outcome{"v1": RolledBack, "v1b": Refused},
	},
	{
		"what was healthy fails on the way back", all(deployed("v1b"), on("ended swap", func(h *host) {
			h.does["v1b"], h.does["v2"] = behaviour{status: 503}, behaviour{status: 500}
		})),
		func(h *host) { h.release("v2") },
		map[release.Version]Outcome{"v1b": Stuck},
	},
	{"rollback", deployed("v2"), func(h *host) { h.rollback("v1") }, map[release.Version]Outcome{"v1": Released, "v2": RolledBack}},
	{"restart", nil, func(h *host) { h.d.Run(h.ctx, Request{Command: Restart}) }, map[release.Version]Outcome{"v1": Released}},
	{
		"live and not healthy", does("v1", behaviour{status: 500}), func(h *host) { h.release("v1") },
		map[release.Version]Outcome{"v1": Held},
	},
}

// After any death Recover leaves a host on which the link, the process and the journal agree on one release that is
// healthy where there is one, and a second Recover has nothing to do.
func TestRecoverFromAnyDeath(t *testing.T) {
	for _, boot := range []bool{false, true} {
		for _, c := range accidents {
			t.Run(fmt.Sprintf("%s, boot=%t", c.name, boot), func(t *testing.T) {
				t.Parallel()
				onHost(t, func(t *testing.T, h *host) {
					h.began("v1")
					h.add("v2")
					if c.given != nil {
						c.given(h)
					}
					before := h.link()
					all := h.deaths(func() { c.do(h) })
					if len(all) < 10 {
						t.Fatalf("only %d moments", len(all))
					}
					h.torn = true
					for _, d := range all {
						h.become(d)
						last, _ := h.historyOf(d)
						if boot {
							_, err := h.d.RecoverLink()
							assert.OK(t, err)
							h.start() // by systemd
						}
						r := h.d.Recover(h.ctx)
						if (r == nil) != last.Finished() {
							t.Errorf("%s: recovered %t, finished %t", d.at, r != nil, last.Finished())
						}
						if r != nil {
							h.recovered(d, r, before, boot, c.ends)
						}
						if again := h.d.Recover(h.ctx); again != nil {
							t.Errorf("%s: a second time: %s", d.at, again.Outcome)
						}
					}
				})
			})
		}
	}
}

func (h *host) historyOf(d death) (journal.Deploy, bool) {
	h.t.Helper()
	history, err := journal.Load(h.state)
	assert.OK(h.t, err)
	last, any := history.Last()
	if !any {
		h.t.Fatalf("%s: no deploy at all", d.at)
	}
	return last, any
}

func (h *host) recovered(d death, r *Report, before release.Version, boot bool, ends map[release.Version]Outcome) {
	h.t.Helper()
	if h.link() != h.running {
		h.t.Errorf("%s: %s is live and %q runs", d.at, h.link(), h.running)
	}
	if r.Current != h.link() {
		h.t.Errorf("%s: the report says that %q is live, the link %q", d.at, r.Current, h.link())
	}
	untouched := h.link() == before && r.Outcome == Refused
	if want, possible := ends[h.link()]; !untouched && (!possible || want != r.Outcome) {
		h.t.Errorf("%s: %s, with %s live (%v)", d.at, r.Outcome, h.link(), r.Failure)
	}
	if r.Command != Recover || r.RollbackTarget == nil || r.DeployID == "" {
		h.t.Errorf("%s: report of %s %s, way back %v", d.at, r.Command, r.DeployID, r.RollbackTarget)
	}
	last, _ := h.historyOf(d)
	if !last.Finished() || last.ID != r.DeployID {
		h.t.Errorf("%s: the journal has no verdict of it", d.at)
	}
	if (r.Failure == nil) != (r.Outcome == Released) {
		h.t.Errorf("%s: %s with failure %v", d.at, r.Outcome, r.Failure)
	}
}

func TestRecoverHasNothingToDo(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.openJournal()
		if r := h.d.Recover(h.ctx); r != nil {
			t.Errorf("without a journal: %s", r.Outcome)
		}
		if moved, err := h.d.RecoverLink(); moved != "" || err != nil {
			t.Errorf("without a journal: %s, %v", moved, err)
		}
		h.began("v1")
		if r := h.d.Recover(h.ctx); r != nil {
			t.Errorf("after a whole deploy: %s", r.Outcome)
		}
		assert.Equal(t, "records", len(h.story()), 9)
	})
}

// died makes the journal and the host those of a deploy of v2 that died after its restart.
func died(h *host) {
	for _, r := range []journal.Record{
		{Event: journal.Began, Command: "release", Requested: "v2", Previous: "v1", Invocations: map[string]string{"app.service": "1"}, PID: 7, User: "ann"},
		{Event: journal.Intent, Step: "swap", Version: "v2"},
		{Event: journal.Done, Step: "swap", Version: "v2"},
		{Event: journal.Intent, Step: "restart", Version: "v2"},
		{Event: journal.Done, Step: "restart", Version: "v2"},
	} {
		r.Deploy, r.At = "died", time.Now()
		assert.OK(h.t, h.d.Journal.Append(r))
	}
	h.byHand("v2")
}

func TestRecover(t *testing.T) {
	const cut = "release v2 was cut off: its process (pid 7, ann) died without a verdict"
	for _, c := range []scenario{
		{
			name: "the way back", outcome: RolledBack, live: "v1", restarts: versions{"v1"}, steps: "rollback", failure: cut,
			good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "forward", given: marked("v2"), outcome: Released, live: "v2", restarts: versions{"v2"},
			steps: "swap restart health proxy (checks) commit (prune)", warnings: []string{"going forward with v2"},
			good: versions{"v1", "v2"}, lives: versions{"v1", "v2", "v2"},
		},
		{
			name: "held", given: all(marked("v2"), does("v2", behaviour{status: 500})), outcome: Held, live: "v2", restarts: versions{"v2"},
			steps: "swap restart !health", warnings: []string{"going forward with v2"}, failure: "answers 500",
			good: versions{"v1"}, lives: versions{"v1", "v2", "v2"},
		},
		{
			name: "stuck", given: does("v1", behaviour{status: 500}), outcome: Stuck, live: "v1", restarts: versions{"v1"},
			steps: "!rollback", failure: cut, good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
		{
			name: "by hand, in between", given: func(h *host) { h.byHand("v1") }, outcome: RolledBack, live: "v1",
			steps: "rollback", failure: cut, good: versions{"v1"}, lives: versions{"v1", "v2", "v1"},
		},
	} {
		c.do = func(h *host) *Report { return h.d.Recover(h.ctx) }
		given := c.given
		c.given = func(h *host) {
			died(h)
			if given != nil {
				given(h)
			}
		}
		t.Run(c.name, c.run)
	}
}

func TestRecoverWithSomethingInTheWay(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		died(h)
		assert.OK(t, os.Remove(h.tree.CurrentPath()))
		assert.OK(t, os.Mkdir(h.tree.CurrentPath(), 0o755))
		r := h.d.Recover(h.ctx)
		assert.Equal(t, "outcome", r.Outcome, Refused)
		assert.Equal(t, "unfinished", r.Unfinished, true)
		contains(t, "failure", r.Failure.Summary, "not a symbolic link")
		assert.Equal(t, "restarts", len(h.restarts), 0)
	})
}

// A deploy that ended stuck is taken up when its obstacle is gone, as long as what it made live is live.
func TestRecoverStuck(t *testing.T) {
	blocked := func(h *host) { // v2 is live and fails, and v1 can't be put back
		h.does["v2"] = behaviour{status: 500}
		h.on["started rollback"] = func() { assert.OK(h.t, os.Rename(h.tree.Dir("v1"), h.tree.Dir("v1")+".away")) }
	}
	back := func(h *host) { assert.OK(h.t, os.Rename(h.tree.Dir("v1")+".away", h.tree.Dir("v1"))) }
	broken := on("restart", func(h *host) { // what both need is gone
		h.does["v1"], h.does["v2"] = behaviour{crash: time.Second}, behaviour{crash: time.Second}
	})
	repaired := func(h *host) { h.does = map[release.Version]behaviour{} }
	for _, c := range []struct {
		name     string
		given    func(*host)
		then     func(*host)
		outcome  Outcome // "": there is nothing to take up
		live     release.Version
		restarts versions
	}{
		{"the obstacle is gone", blocked, back, RolledBack, "v1", versions{"v1"}},
		{"the obstacle is still there", blocked, func(*host) {}, Stuck, "v2", nil},
		{"what failed is healthy by now", blocked, repaired, Released, "v2", nil},
		{"the host is repaired, and the way back is restarted", broken, func(h *host) { repaired(h); h.running = "" }, RolledBack, "v1", versions{"v1"}},
		{"the host is repaired while the way back fails once more", broken, func(h *host) {
			h.broken = true
			h.start()
			h.broken = false
			repaired(h)
		}, RolledBack, "v1", versions{"v1"}},
		{"the host is repaired, and the way back runs", broken, func(h *host) { repaired(h); h.start() }, RolledBack, "v1", nil},
		{"a person has put it back", blocked, func(h *host) { back(h); h.byHand("v1") }, RolledBack, "v1", nil},
		{"another release is live by hand", blocked, func(h *host) { back(h); h.add("v0"); h.byHand("v0") }, "", "v0", nil},
		{"another release was released", blocked, func(h *host) { back(h); repaired(h); h.add("v3"); h.release("v3") }, "", "v3", versions{"v3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				c.given(h)
				stuck := h.release("v2")
				assert.Equal(t, "outcome before", stuck.Outcome, Stuck)
				if r := h.d.Recover(h.ctx); r != nil {
					t.Errorf("a deploy that comes later would take it up: %s", r.Outcome)
				}
				h.forget()
				c.then(h)
				r := h.d.RecoverStuck(h.ctx)
				if r == nil {
					r = &Report{DeployID: stuck.DeployID}
				}
				assert.Equal(t, "outcome", r.Outcome, c.outcome)
				assert.Equal(t, "deploy", r.DeployID, stuck.DeployID)
				assert.Equal(t, "link", h.link(), c.live)
				assert.Equal(t, "restarts", h.restarts, c.restarts)
				if c.outcome == RolledBack {
					assert.Equal(t, "failure", summary(r.Failure), summary(stuck.Failure))
					if again := h.d.RecoverStuck(h.ctx); again != nil {
						t.Errorf("a second time: %s", again.Outcome)
					}
				}
				good, bad := goodAndBad(h.history())
				if slices.Contains(bad, "v1") || !slices.Contains(good, "v1") {
					t.Errorf("good %s, bad %s", good, bad)
				}
				h.wellWritten()
			})
		})
	}
}

// What can't be looked at is not judged: the deploy stays unfinished, and the next recovery ends it.
func TestRecoverIsPutOff(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		died(h)
		h.notReady = errBroken
		r := h.d.Recover(h.ctx)
		assert.Equal(t, "outcome", r.Outcome, Refused)
		assert.Equal(t, "unfinished", r.Unfinished, true)
		assert.Equal(t, "link", h.link(), "v2")
		_, unfinished := h.history().Unfinished()
		assert.Equal(t, "unfinished in the journal", unfinished, true)
		h.notReady = nil
		r = h.d.Recover(h.ctx)
		assert.Equal(t, "outcome", r.Outcome, RolledBack)
		assert.Equal(t, "link", h.link(), "v1")
	})
}

// Whoever recovers may be interrupted: the way back is gone to its end, and no good release is blamed.
func TestRecoverIsNotInterrupted(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		died(h)
		ctx, cancel := context.WithCancel(h.ctx)
		cancel()
		r := h.d.Recover(ctx)
		assert.Equal(t, "outcome", r.Outcome, RolledBack)
		assert.Equal(t, "link", h.link(), "v1")
		assert.Equal(t, "v1 is bad", h.history().Bad("v1"), false)
	})
}

// At boot only the link is put right, with a word of it before, and without a look at systemd.
func TestRecoverLink(t *testing.T) {
	for _, c := range []struct {
		name  string
		given func(*host)
		want  release.Version
	}{
		{"back", nil, "v1"},
		{"blocked", marked("v2"), "v2"},
		{"not automatic", func(h *host) { h.d.Automatic = false }, "v2"},
		{"there already", func(h *host) { h.byHand("v1") }, "v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				died(h)
				if c.given != nil {
					c.given(h)
				}
				before := h.link()
				h.d.Instances, h.d.Proxy = nil, nil
				moved, err := h.d.RecoverLink()
				assert.OK(t, err)
				assert.Equal(t, "link", h.link(), c.want)
				assert.Equal(t, "moved", moved != "", before != c.want)
				if moved != "" {
					assert.Equal(t, "moved to", moved, c.want)
					assert.Equal(t, "journal", h.story()[5:], []string{"intent swap v1", "done swap v1"})
				}
				moved, err = h.d.RecoverLink()
				assert.OK(t, err)
				assert.Equal(t, "moved again", moved, "")
			})
		})
	}
}

func TestRecoverLinkWithoutJournal(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		died(h)
		h.breakJournal()
		if _, err := h.d.RecoverLink(); err == nil {
			t.Error("it succeeded")
		}
		assert.Equal(t, "link", h.link(), "v2")
	})
}

// A release that went well after all, but for the word of it, is not undone.
func TestRecoverKeepsWhatPassed(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		died(h)
		assert.OK(t, h.d.Journal.Append(journal.Record{Deploy: "died", Event: journal.Passed, Version: "v2"}))
		r := h.d.Recover(h.ctx)
		assert.Equal(t, "outcome", r.Outcome, Released)
		assert.Equal(t, "failure", r.Failure, (*gate.Finding)(nil))
		assert.Equal(t, "restarts", len(h.restarts), 0)
		assert.Equal(t, "link", h.link(), "v2")
	})
}

// A way back that went well, but for the word of it, is not gone again.
func TestRecoverKeepsTheWayBack(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		died(h)
		h.byHand("v1")
		assert.OK(t, h.d.Journal.Append(journal.Record{Deploy: "died", Event: journal.Failed, Version: "v2"}))
		assert.OK(t, h.d.Journal.Append(journal.Record{Deploy: "died", Event: journal.Passed, Version: "v1"}))
		r := h.d.Recover(h.ctx)
		assert.Equal(t, "outcome", r.Outcome, RolledBack)
		assert.Equal(t, "steps", len(r.Steps), 0)
		assert.Equal(t, "changed", r.Changed, false)
	})
}
