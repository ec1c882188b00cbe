package journal

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"deploygate/release"
	"deploygate/scripts/assert"
)

// story builds journals out of deploys.
type story struct{ records []Record }

func (s *story) add(id string, r Record) *story {
	r.Deploy, r.Format = id, format
	r.At = time.Unix(int64(len(s.records)+1), 0)
	s.records = append(s.records, r)
	return s
}

func (s *story) began(id, command string, requested, previous release.Version) *story {
	return s.add(id, Record{Event: Began, Command: command, Requested: requested, Previous: previous})
}

func (s *story) swapped(id string, v release.Version) *story {
	return s.add(id, Record{Event: Intent, Step: swapStep, Version: v}).add(id, Record{Event: Done, Step: swapStep, Version: v})
}

func (s *story) gated(id string, v release.Version, passed bool) *story {
	event := Failed
	if passed {
		event = Passed
	}
	return s.add(id, Record{Event: event, Version: v})
}

func (s *story) finished(id string) *story {
	return s.add(id, Record{Event: Finished, Verdict: json.RawMessage(`{}`)})
}

func (s *story) released(id string, v, previous release.Version) *story {
	return s.began(id, "release", v, previous).swapped(id, v).gated(id, v, true).finished(id)
}

func TestReplayKnowsWhatWasLive(t *testing.T) {
	for _, c := range []struct {
		name string
		s    *story
		want string
	}{
		{"nothing", &story{}, ""},
		{"first release ever", new(story).released("1", "v1", ""), "v1 forward,passed"},
		{"the one before deploygate came", new(story).released("1", "v2", "v1"), "v1 forward,by-hand; v2 forward,passed"},
		{
			"one after the other", new(story).released("1", "v2", "v1").released("2", "v3", "v2"),
			"v1 forward,by-hand; v2 forward,passed; v3 forward,passed",
		},
		{
			"failed, and gone back: the way back runs no migrations",
			new(story).released("1", "v1", "").began("2", "release", "v2", "v1").swapped("2", "v2").gated("2", "v2", false).
				swapped("2", "v1").gated("2", "v1", true).finished("2"),
			"v1 forward,passed; v2 forward; v1 passed",
		},
		{
			"rolled back by command",
			new(story).released("1", "v1", "").released("2", "v2", "v1").began("3", "rollback", "v1", "v2").swapped("3", "v1").
				gated("3", "v1", true).finished("3"),
			"v1 forward,passed; v2 forward,passed; v1 passed,rollback",
		},
		{
			"a rollback that failed leaves nothing behind",
			new(story).released("1", "v1", "").released("2", "v2", "v1").began("3", "rollback", "v1", "v2").swapped("3", "v1").
				gated("3", "v1", false).swapped("3", "v2").gated("3", "v2", true).finished("3"),
			"v1 forward,passed; v2 forward,passed; v1; v2 passed",
		},
		{
			"an override, of another release and of what is live",
			new(story).released("1", "v1", "").released("2", "v2", "v1").
				add("3", Record{Event: Began, Command: "rollback", Requested: "v1", Previous: "v2", Override: "I know"}).swapped("3", "v1").finished("3").
				add("4", Record{Event: Began, Command: "rollback", Requested: "v1", Previous: "v1", Override: "I know"}).finished("4"),
			"v1 forward,passed; v2 forward,passed; v1 override; v1 override",
		},
		{
			"hooks that ended, and hooks that did not",
			new(story).released("1", "v1", "").began("2", "release", "v2", "v1").add("2", Record{Event: Intent, Step: hooksStep, Version: "v2"}).
				add("2", Record{Event: Done, Step: hooksStep, Version: "v2", Error: "it failed"}).finished("2").
				began("3", "release", "v2", "v1").add("3", Record{Event: Intent, Step: hooksStep, Version: "v2"}).
				add("3", Record{Event: Done, Step: hooksStep, Version: "v2"}).finished("3"),
			"v1 forward,passed; v2 forward,hooks; v2 forward,hooks,ended",
		},
		{
			"an intent counts, though its process died",
			new(story).released("1", "v1", "").began("2", "release", "v2", "v1").add("2", Record{Event: Intent, Step: swapStep, Version: "v2"}),
			"v1 forward,passed; v2 forward",
		},
		{"refused before the swap", new(story).began("1", "release", "v2", "v1").finished("1"), "v1 forward,by-hand"},
		{
			"swapped by hand in between", new(story).released("1", "v1", "").released("2", "v9", "v5"),
			"v1 forward,passed; v5 forward,by-hand; v9 forward,passed",
		},
		{
			"the swap that was announced did not come about",
			new(story).released("1", "v1", "").began("2", "release", "v2", "v1").swapped("2", "v2").finished("2").
				began("3", "release", "v3", "v1").finished("3"),
			"v1 forward,passed; v2 forward; v1 forward",
		},
		{
			"its beginning was torn off", new(story).released("1", "v1", "").swapped("gone", "v7").gated("gone", "v7", true),
			"v1 forward,passed",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, l := range Replay(c.s.records).activations {
				got = append(got, strings.TrimSpace(string(l.Version)+" "+flags(l)))
			}
			if d := cmp.Diff(c.want, strings.Join(got, "; ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTheLastGateDecides(t *testing.T) {
	s := new(story).released("1", "v1", "").released("2", "v2", "v1").
		began("3", "release", "v3", "v2").swapped("3", "v3").gated("3", "v3", false).swapped("3", "v2").gated("3", "v2", false).
		swapped("3", "v1").gated("3", "v1", true).finished("3").
		began("4", "release", "v4", "v1").swapped("4", "v4")
	h := Replay(s.records)
	for v, want := range map[release.Version]struct{ good, bad bool }{
		"v1": {true, false}, "v2": {false, true}, "v3": {false, true}, "v4": {}, "unheard": {},
	} {
		if h.Good(v) != want.good || h.Bad(v) != want.bad {
			t.Errorf("%s: good %v, bad %v", v, h.Good(v), h.Bad(v))
		}
	}
	if d := cmp.Diff([]release.Version{"v1", "v2", "v3"}, h.Gated()); d != "" {
		t.Error(d)
	}
	recovered := Replay(s.began("5", "release", "v3", "v1").gated("5", "v3", true).records)
	if !recovered.Good("v3") || recovered.Bad("v3") {
		t.Error("v3 has recovered and is still bad")
	}
}

// Only what is proved of a release marks it: whatever else fails takes nothing away, and adds nothing.
func TestWhatIsNotProvedMarksNoRelease(t *testing.T) {
	failed := func(s *story, id string, v release.Version, blames string) *story {
		return s.began(id, "release", v, "v1").swapped(id, v).add(id, Record{Event: Failed, Version: v, Blames: blames}).finished(id)
	}
	for _, c := range []struct {
		name                string
		s                   *story
		good, bad, unproven bool
	}{
		{"the release's fault", failed(new(story), "1", "v2", "release"), false, true, false},
		{"by an older deploygate", failed(new(story), "1", "v2", ""), false, true, false},
		{"the host's", failed(new(story), "1", "v2", "host"), false, false, true},
		{"not known", failed(new(story), "1", "v2", "unknown"), false, false, true},
		{"not known, and it was good", failed(new(story).released("1", "v2", "v1"), "2", "v2", "unknown"), true, false, false},
		{"the release's, and it was good", failed(new(story).released("1", "v2", "v1"), "2", "v2", "release"), false, true, false},
		{"not known, and it was bad", failed(failed(new(story), "1", "v2", "release"), "2", "v2", "host"), false, true, false},
		{"not known, and then the release's", failed(failed(new(story), "1", "v2", "host"), "2", "v2", "release"), false, true, false},
		{"not known, and then good", failed(new(story), "1", "v2", "host").released("2", "v2", "v1"), true, false, false},
		{
			"bad, and healthy when the next deploy began",
			failed(new(story), "1", "v2", "release").add("2", Record{Event: Began, Command: "release", Requested: "v3", Previous: "v2", Healthy: true}),
			true, false, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Replay(c.s.records)
			if h.Good("v2") != c.good || h.Bad("v2") != c.bad || h.Unproven("v2") != c.unproven {
				t.Errorf("good %t, bad %t, unproven %t", h.Good("v2"), h.Bad("v2"), h.Unproven("v2"))
			}
			if slices.Contains(h.Gated(), "v2") == c.unproven {
				t.Errorf("gated: %v", h.Gated())
			}
		})
	}
}

func TestADeployWithoutAVerdictIsUnfinished(t *testing.T) {
	s := new(story).released("1", "v1", "")
	if last, any := Replay(s.records).Last(); !any || !last.Finished() || last.ID != "1" {
		t.Errorf("last %+v, %v", last, any)
	}
	s.add("2", Record{Event: Began, Command: "rollback", Requested: "v0", Previous: "v1", User: "ops", Override: "I know"}).swapped("2", "v0")
	last, any := Replay(s.records).Unfinished()
	want := Deploy{
		ID: "2", Command: "rollback", Requested: "v0", Previous: "v1", User: "ops", Override: "I know", Began: time.Unix(6, 0),
		Intents: []Change{{swapStep, "v0"}},
	}
	if d := cmp.Diff(want, last, cmpopts.IgnoreUnexported(Deploy{})); d != "" || !any {
		t.Error(d)
	}
	if last.Intended(swapStep) != 1 || last.Intended("restart") != 0 || last.Passed("v0") {
		t.Errorf("%+v", last)
	}
	last, any = Replay(s.gated("2", "v0", true).finished("2").records).Unfinished()
	if any || !last.Passed("v0") || last.Passed("v1") {
		t.Errorf("%+v is unfinished: %v", last, any)
	}
	if _, any := Replay(nil).Last(); any {
		t.Error("a last deploy of none")
	}
}

func TestSeenCountsAReleaseThatWasPutThereByHand(t *testing.T) {
	h := Replay(new(story).released("1", "v1", "").records)
	if d := cmp.Diff(h.activations, h.Seen("v1").activations); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(h.activations, h.Seen("").activations); d != "" {
		t.Error(d)
	}
	want := []release.Activation{{Version: "v1", Forward: true, Passed: true}, {Version: "v5", Forward: true, ByHand: true}}
	if d := cmp.Diff(want, h.Seen("v5").activations); d != "" {
		t.Error(d)
	}
	if len(h.activations) != 1 {
		t.Error("Seen changed what it was asked of")
	}
}

func TestTheSchemaOfTheLatestDeployIsKept(t *testing.T) {
	s := new(story).add("1", Record{Event: Began, Command: "release", Requested: "v1", Schema: &release.Schema{Marker: "blocked"}}).
		add("2", Record{Event: Began, Command: "release", Requested: "v1", Schema: &release.Schema{Marker: "safe"}}).
		add("3", Record{Event: Began, Command: "release", Requested: "v1"})
	h := Replay(s.records)
	if got := h.Schema("v1"); got == nil || got.Marker != "safe" {
		t.Errorf("schema %+v", got)
	}
	if h.Schema("v2") != nil {
		t.Error("a schema of an unheard release")
	}
}

func TestLoadReplaysAndCountsTornLines(t *testing.T) {
	dir := t.TempDir()
	appendAll(t, dir, sample()[:3]...)
	appendAll(t, dir) // nothing to repair
	h, err := Load(dir)
	assert.OK(t, err)
	if len(h.deploys) != 1 || h.Torn != 0 || h.deploys[0].Finished() {
		t.Errorf("%+v", h)
	}
}

// Where a unit listened is known from the last deploy that recorded it.
func TestBind(t *testing.T) {
	h := Replay([]Record{
		{Event: Began, Deploy: "1", Requested: "v1", Binds: map[string]string{"a.service": "127.0.0.1:1", "b.service": "127.0.0.1:9"}},
		{Event: Began, Deploy: "2", Requested: "v2", Binds: map[string]string{"a.service": "127.0.0.1:2"}},
		{Event: Began, Deploy: "3", Requested: "v3"},
	})
	for unit, want := range map[string]string{"a.service": "127.0.0.1:2", "b.service": "127.0.0.1:9", "c.service": ""} {
		assert.Equal(t, unit, h.Bind(unit), want)
	}
}
