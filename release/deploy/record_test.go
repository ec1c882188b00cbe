package deploy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/inuse"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// story is a random sequence of what happens to a host, and what is known of it by who made it happen.
type story struct {
	*host
	random *rand.Rand
	told   []string
	made   int
	uses   *used
	// healthy is the last release that was live and healthy, "" before the first.
	healthy release.Version
}

// TestTheRecord tells random stories: releases that are good and bad, a host that is broken and repaired, interruptions,
// starts and swaps that don't come about, rollbacks, overrides, prunes. After each event the last release that was healthy
// is on disk and live, or offered as the way back, and was never marked; nothing that is used is gone, and nothing outside of
// releases/.
func TestTheRecord(t *testing.T) {
	stories := 40
	if os.Getenv("DEPLOYGATE_FULL") != "" { // scripts/soak
		stories = 2000
	}
	for seed := range stories {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			onHost(t, func(t *testing.T, h *host) {
				s := &story{host: h, random: rand.New(rand.NewPCG(uint64(seed), 1))} //nolint:gosec // a test that can be repeated
				s.uses = &used{held: map[string]inuse.Hold{}}
				h.d.Keep, h.d.Uses = 1+s.random.IntN(3), s.uses
				h.openJournal()
				for _, name := range []string{"shared/media/upload", "releases/.notes", "uploaded/manage.py"} {
					write(t, filepath.Join(h.root, name), name)
				}
				for range 12 {
					s.event()
					s.holds()
					if t.Failed() {
						t.Fatalf("after:\n%s", s.told)
					}
				}
			})
		})
	}
}

func (s *story) tell(format string, args ...any) {
	s.told = append(s.told, fmt.Sprintf(format, args...)+"\n")
}

// event lets one thing happen.
func (s *story) event() {
	h := s.host
	switch s.random.IntN(15) {
	case 0:
		h.broken = !h.broken
		s.tell("broken %t", h.broken)
		return
	case 1:
		s.ends("rollback", h.rollback(""))
		return
	case 2:
		s.ends("rollback to "+string(s.any()), h.rollback(string(s.any())))
		return
	case 3:
		v := s.any()
		s.ends("override to "+string(v), h.d.Run(h.ctx, Request{Command: Rollback, Version: string(v), Override: "known"}))
		return
	case 4:
		_, err := h.d.Prune(h.t.Context())
		s.tell("prune: %v", err) // what it removes is asserted by holds
		return
	case 5:
		s.ends("restart", h.d.Run(h.ctx, Request{Command: Restart}))
		return
	case 6:
		if r := h.d.RecoverStuck(h.ctx); r != nil {
			s.ends("recover", r)
		}
		return
	case 8:
		// A worker that nobody restarts lives in it, or a mount lies below it.
		v := s.any()
		if s.uses.held[string(v)] = (inuse.Hold{Reason: inuse.Process, Why: "celery runs in it"}); s.random.IntN(2) == 0 {
			s.uses.held[string(v)] = inuse.Hold{Reason: inuse.Mounted, Why: "a mount lies below it"}
		}
		if _, err := os.Stat(h.tree.Dir(v)); err != nil {
			delete(s.uses.held, string(v))
		}
		s.tell("%s is used", v)
		return
	case 7:
		v := s.any()
		s.ends("release again "+string(v), h.release(string(v)))
		return
	}
	s.deploys()
}

// deploys releases a new release, which is good or bad, and may be kept from being run.
func (s *story) deploys() {
	h := s.host
	s.made++
	v := release.Version("v" + strconv.Itoa(s.made))
	h.add(v)
	how := "good"
	switch s.random.IntN(6) {
	case 0:
		how, h.does[v] = "500", behaviour{status: 500}
	case 1:
		how, h.does[v] = "crash", behaviour{crash: time.Second, boot: 2 * time.Second}
	case 2:
		how += ", marked"
		h.mark(v, blockedMarker)
	}
	switch s.random.IntN(6) {
	case 0:
		how += ", interrupted"
		h.arm(afterSwap[s.random.IntN(len(afterSwap))], h.interrupt)
	case 1:
		how += ", the swap fails"
		h.on["started swap"] = func() { assert.OK(h.t, os.Rename(h.tree.Dir(v), h.tree.Dir(v)+".away")) }
	case 2:
		how += ", the unit can't be started"
		h.on["ended swap"] = func() {
			h.notReady = errBroken
			h.on["started rollback"] = func() { h.notReady = nil }
		}
	}
	s.ends("release "+string(v)+" ("+how+")", h.release(string(v)))
	h.notReady, h.on = nil, map[string]func(){}
	ctx, cancel := context.WithCancelCause(h.t.Context())
	h.ctx, h.interrupt = ctx, func() { cancel(gate.NewFinding(gate.LayerRelease, gate.Interrupted, "interrupted by SIGTERM")) }
}

// any is a release that is on disk, or none.
func (s *story) any() release.Version {
	onDisk, err := s.tree.Releases()
	assert.OK(s.t, err)
	if len(onDisk) == 0 {
		return "v0"
	}
	return onDisk[s.random.IntN(len(onDisk))]
}

func (s *story) ends(what string, r *Report) {
	why := ""
	if r.Failure != nil {
		why = fmt.Sprintf(": %s (blames %s)", r.Failure.Summary, r.Failure.Blame())
	}
	s.tell("%s: %s, live %s%s", what, r.Outcome, r.Current, why)
}

// holds asserts what has to be true after every event.
func (s *story) holds() {
	h := s.host
	h.t.Helper()
	live := h.link()
	if live != "" && live == h.running && !h.faulty && h.does[live] == (behaviour{}) {
		s.healthy = live
	}
	for _, name := range []string{"shared/media/upload", "releases/.notes", "uploaded/manage.py"} {
		if text, err := os.ReadFile(filepath.Join(h.root, name)); err != nil || string(text) != name {
			h.t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for v := range s.uses.held {
		if _, err := os.Stat(h.tree.Dir(release.Version(v))); err != nil {
			h.t.Errorf("%s was removed, and is used: %v", v, err)
		}
	}
	if s.healthy == "" {
		return
	}
	if err := h.tree.Inspect(s.healthy, h.d.Require); err != nil {
		h.t.Errorf("the last healthy release %s: %v", s.healthy, err)
	}
	_, history, way, err := h.d.Standing()
	assert.OK(h.t, err)
	if !history.Good(s.healthy) {
		h.t.Errorf("the last healthy release %s is not good: bad %t, unproven %t", s.healthy, history.Bad(s.healthy), history.Unproven(s.healthy))
	}
	if live != s.healthy && (way.Version != s.healthy || way.Verdict == rollback.None) {
		h.t.Errorf("%s is live, and the way back is %+v, not to the last healthy release %s", live, way, s.healthy)
	}
}
