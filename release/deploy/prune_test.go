package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"deploygate/release"
	"deploygate/release/journal"
)

// told is a history: each version went live in turn, and passed or, with a "!" before it, failed.
func told(words ...string) journal.History {
	var records []journal.Record
	previous := release.Version("")
	for i, w := range words {
		event, v := journal.Passed, release.Version(w)
		if w[0] == '!' {
			event, v = journal.Failed, release.Version(w[1:])
		}
		id := fmt.Sprint(i)
		records = append(records,
			journal.Record{Deploy: id, Event: journal.Began, Command: "release", Requested: v, Previous: previous},
			journal.Record{Deploy: id, Event: journal.Intent, Step: "swap", Version: v},
			journal.Record{Deploy: id, Event: event, Version: v})
		previous = v
	}
	return journal.Replay(records)
}

func TestPrunable(t *testing.T) {
	for _, c := range []struct {
		name    string
		history journal.History
		onDisk  versions
		current release.Version
		keep    int
		want    versions
	}{
		{"nothing is known", journal.Replay(nil), versions{"a", "b", "c"}, "a", 1, nil},
		{"enough is kept", told("a", "b", "c"), versions{"a", "b", "c"}, "c", 3, nil},
		{"the oldest good one goes", told("a", "b", "c", "d"), versions{"a", "b", "c", "d"}, "d", 3, versions{"a"}},
		{"by when it was gated, not by name", told("d", "a", "c", "b"), versions{"a", "b", "c", "d"}, "b", 2, versions{"a", "d"}},
		{"the way back stays", told("a", "b"), versions{"a", "b"}, "b", 1, nil},
		{"keep nothing: the live one and the way back stay", told("a", "b", "c"), versions{"a", "b", "c"}, "c", 0, versions{"a"}},
		{"the live one stays, however old", told("a", "b", "c", "d"), versions{"a", "b", "c", "d"}, "a", 1, versions{"c", "b"}},
		{"the live one stays, though it failed", told("a", "!b", "!c"), versions{"a", "b", "c"}, "b", 1, nil},
		{"one failed one stays as evidence", told("a", "!b", "!c", "!d", "e"), versions{"a", "b", "c", "d", "e"}, "e", 5, versions{"c", "b"}},
		{"failed ones don't count as good", told("a", "!b", "!c", "d"), versions{"a", "b", "c", "d"}, "d", 2, versions{"b"}},
		{"what was never gated stays", told("a", "b", "c"), versions{"a", "b", "c", "n1", "n2"}, "c", 1, versions{"a"}},
		{"what is gone is not asked for", told("a", "b", "c", "d"), versions{"c", "d"}, "d", 1, nil},
		{"what is gone doesn't count", told("a", "b", "c", "d", "e"), versions{"a", "b", "e"}, "e", 2, versions{"a"}},
		{"it failed first and passed later", told("!a", "b", "a", "c"), versions{"a", "b", "c"}, "c", 2, versions{"b"}},
		{"it passed first and failed later", told("a", "b", "!a", "c"), versions{"a", "b", "c"}, "c", 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, "prunable", Prunable(c.history, c.onDisk, c.current, c.keep), c.want)
		})
	}
}

func TestUnrecorded(t *testing.T) {
	for _, c := range []struct {
		history journal.History
		onDisk  versions
		current release.Version
		want    versions
	}{
		{journal.Replay(nil), nil, "", nil},
		{journal.Replay(nil), versions{"a", "b"}, "b", versions{"a"}},
		{told("a", "!b"), versions{"a", "b", "c"}, "a", versions{"c"}},
		{told("a", "!b"), versions{"a"}, "a", nil},
	} {
		same(t, fmt.Sprint(c.onDisk), Unrecorded(c.history, c.onDisk, c.current), c.want)
	}
}

func TestPruneAfterARelease(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 2
		h.began("v1", "v2", "v3")
		h.add("v4", "next")
		r := h.release("v4")
		same(t, "steps", steps(r), allOfIt[:len(allOfIt)-len("(prune)")]+"prune")
		same(t, "detail", r.Steps[len(r.Steps)-1].Detail, "removed v2")
		left, err := h.tree.Releases()
		must(t, err)
		same(t, "left", left, versions{"next", "v3", "v4"})

		removed, unrecorded, err := h.d.Prune()
		must(t, err)
		same(t, "removed", removed, nil)
		same(t, "unrecorded", unrecorded, versions{"next"})
	})
}

// A release that couldn't be removed is no failure of the one that went live.
func TestPruneFails(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 1
		h.began("v1", "v2")
		h.add("v3")
		h.on["started prune"] = func() {
			must(t, os.Rename(filepath.Join(h.root, "releases"), filepath.Join(h.root, "elsewhere")))
		}
		r := h.release("v3")
		same(t, "outcome", r.Outcome, Released)
		same(t, "steps", steps(r), allOfIt[:len(allOfIt)-len("(prune)")]+"!prune")
		parts(t, "warnings", r.Warnings, []string{"old releases were not all removed: cannot list"})
	})
}

func TestPruneNeedsToKnowWhatIsLive(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 1
		h.began("v1", "v2", "v3")
		must(t, os.Remove(h.tree.CurrentPath()))
		must(t, os.Symlink("/elsewhere", h.tree.CurrentPath()))
		removed, _, err := h.d.Prune()
		same(t, "removed", removed, nil)
		if err == nil {
			t.Error("it succeeded")
		}
	})
}
