package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"deploygate/release"
	"deploygate/release/inuse"
	"deploygate/release/journal"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// directoryOf is the identity that told has of a version's directory.
func directoryOf(v release.Version) release.Identity {
	n := uint64(7)
	for _, c := range []byte(v) {
		n = n*31 + uint64(c)
	}
	return release.Identity{Device: 8, Inode: n, Born: 1000}
}

// told is a history: each version went live in turn, and passed or, with a "!" before it, failed.
func told(words ...string) journal.History {
	var records []journal.Record
	previous := release.Version("")
	for i, w := range words {
		event, v := journal.Passed, release.Version(w)
		if w[0] == '!' {
			event, v = journal.Failed, release.Version(w[1:])
		}
		id, directory, before := fmt.Sprint(i), directoryOf(v), directoryOf(previous)
		records = append(records,
			journal.Record{Deploy: id, Event: journal.Began, Command: "release", Requested: v, Previous: previous, Directory: &directory, PreviousDirectory: &before},
			journal.Record{Deploy: id, Event: journal.Intent, Step: "swap", Version: v},
			journal.Record{Deploy: id, Event: event, Version: v})
		previous = v
	}
	return journal.Replay(records)
}

// shelf is one of releases that nothing uses, each the directory that was deployed.
func shelf(h journal.History, onDisk versions, current release.Version, keep int) Shelf {
	s := Shelf{
		History: h, OnDisk: slices.Clone(onDisk), Current: current, Keep: keep, Directories: map[release.Version]release.Identity{},
		Changed: func(release.Version, time.Time) string { return "" },
		Held:    func() (map[string]inuse.Hold, error) { return nil, nil },
		Around:  func() ([]inuse.Lead, error) { return nil, nil },
		Needs:   func(release.Version) ([]inuse.Lead, error) { return nil, nil },
	}
	release.Sort(s.OnDisk)
	for _, v := range onDisk {
		s.Directories[v] = directoryOf(v)
	}
	return s
}

// toRemove are the releases that would go, by name.
func toRemove(fates []Fate) (vs versions) {
	for _, f := range fates {
		if f.Remove {
			vs = append(vs, release.Version(f.Name))
		}
	}
	slices.Sort(vs)
	return vs
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
		{"the live one stays, however old", told("a", "b", "c", "d"), versions{"a", "b", "c", "d"}, "a", 1, versions{"b", "c"}},
		{"the live one stays, though it failed", told("a", "!b", "!c"), versions{"a", "b", "c"}, "b", 1, nil},
		{"one failed one stays as evidence", told("a", "!b", "!c", "!d", "e"), versions{"a", "b", "c", "d", "e"}, "e", 5, versions{"b", "c"}},
		{"failed ones don't count as good", told("a", "!b", "!c", "d"), versions{"a", "b", "c", "d"}, "d", 2, versions{"b"}},
		{"what was never gated stays", told("a", "b", "c"), versions{"a", "b", "c", "n1", "n2"}, "c", 1, versions{"a"}},
		{"what is gone is not asked for", told("a", "b", "c", "d"), versions{"c", "d"}, "d", 1, nil},
		{"what is gone doesn't count", told("a", "b", "c", "d", "e"), versions{"a", "b", "e"}, "e", 2, versions{"a"}},
		{"it failed first and passed later", told("!a", "b", "a", "c"), versions{"a", "b", "c"}, "c", 2, versions{"b"}},
		{"it passed first and failed later", told("a", "b", "!a", "c"), versions{"a", "b", "c"}, "c", 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, "prunable", toRemove(shelf(c.history, c.onDisk, c.current, c.keep).Prunable()), c.want)
		})
	}
}

// What stays for a reason of its own, of a shelf on which a, b and the failed f would go: each by what is changed there.
func TestWhatIsKept(t *testing.T) {
	lead := func(to, how string) []inuse.Lead { return []inuse.Lead{{To: to, How: how}} }
	for _, c := range []struct {
		name   string
		change func(s *Shelf)
		want   versions // that go
		reason Reason   // of a
		detail string
	}{
		{"nothing", func(*Shelf) {}, versions{"a", "b", "f"}, IsOld, "good, and older than the last 2"},
		{"a process", func(s *Shelf) {
			s.Held = func() (map[string]inuse.Hold, error) {
				return map[string]inuse.Hold{"a": {Reason: inuse.Process, Why: "celery.service runs in it (pid 312)"}, "e": {Reason: inuse.Process}}, nil
			}
		}, versions{"b", "f"}, Reason(inuse.Process), "celery.service runs in it (pid 312)"},
		{"some processes can't be seen", func(s *Shelf) {
			s.Held = func() (map[string]inuse.Hold, error) {
				return map[string]inuse.Hold{"a": {Reason: inuse.Mounted, Why: "a mount lies below it: media"}}, errors.New("cannot look at process 7")
			}
		}, nil, Reason(inuse.Mounted), "a mount lies below it: media"},
		{"nothing can be seen", func(s *Shelf) {
			s.Held = func() (map[string]inuse.Hold, error) { return nil, errors.New("cannot look at process 7") }
		}, nil, NotKnown, "cannot look at process 7"},
		{"a link beside them", func(s *Shelf) {
			s.Around = func() ([]inuse.Lead, error) { return lead("a", "/srv/app/static leads into it"), nil }
		}, versions{"b", "f"}, Reason(inuse.Needed), "/srv/app/static leads into it"},
		{"the unit can't be read", func(s *Shelf) {
			s.Around = func() ([]inuse.Lead, error) { return nil, errors.New("no bus") }
		}, nil, NotKnown, "no bus"},
		{"the live one's interpreter", func(s *Shelf) {
			s.Needs = func(from release.Version) ([]inuse.Lead, error) {
				return map[release.Version][]inuse.Lead{"e": lead("a", "e/venv leads into it")}[from], nil
			}
		}, versions{"b", "f"}, Reason(inuse.Needed), "e/venv leads into it"},
		{"what that needs in turn", func(s *Shelf) {
			s.Needs = func(from release.Version) ([]inuse.Lead, error) {
				return map[release.Version][]inuse.Lead{"d": lead("b", "d/venv leads into it"), "b": lead("a", "b/venv/bin/python leads into it")}[from], nil
			}
		}, versions{"f"}, Reason(inuse.Needed), "b/venv/bin/python leads into it"},
		{"what only something that goes needs", func(s *Shelf) {
			s.Needs = func(from release.Version) ([]inuse.Lead, error) {
				return map[release.Version][]inuse.Lead{"b": lead("a", "b/venv leads into it")}[from], nil
			}
		}, versions{"a", "b", "f"}, IsOld, "good, and older than the last 2"},
		{"what the next one, uploaded already, needs", func(s *Shelf) {
			s.OnDisk = append(s.OnDisk, "next")
			s.Needs = func(from release.Version) ([]inuse.Lead, error) {
				return map[release.Version][]inuse.Lead{"next": lead("a", "next/venv leads into it")}[from], nil
			}
		}, versions{"b", "f"}, Reason(inuse.Needed), "next/venv leads into it"},
		{"one that can't be looked through", func(s *Shelf) {
			s.Needs = func(from release.Version) ([]inuse.Lead, error) {
				if from == "d" {
					return nil, errors.New("cannot tell what d needs")
				}
				return nil, nil
			}
		}, nil, NotKnown, "cannot tell what d needs"},
		{
			"uploaded again", func(s *Shelf) { s.Directories["a"] = directoryOf("another") },
			versions{"b", "f"},
			OtherDirectory, "not the directory that was deployed under this name",
		},
		{"uploaded again, with the number that it had", func(s *Shelf) {
			s.Directories["a"] = release.Identity{Device: 8, Inode: directoryOf("a").Inode, Born: 2000}
		}, versions{"b", "f"}, OtherDirectory, "not the directory that was deployed under this name"},
		{
			"no births are known", func(s *Shelf) { s.Directories["a"] = release.Identity{Device: 8, Inode: directoryOf("a").Inode} },
			versions{"b", "f"},
			NotRecorded, "not known whether it is the directory that was deployed",
		},
		{
			"it can't be looked at", func(s *Shelf) { delete(s.Directories, "a") },
			versions{"b", "f"},
			NotRecorded, "can't be looked at",
		},
		{"the failed one was corrected in its place", func(s *Shelf) {
			s.Changed = func(v release.Version, _ time.Time) string { return string(v) + "/settings.py" }
		}, versions{"a", "b"}, IsOld, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shelf(told("a", "b", "c", "!f", "!g", "d", "e"), versions{"a", "b", "c", "d", "e", "f", "g"}, "e", 2)
			s.History = told("a", "b", "!f", "!g", "d", "e")
			s.OnDisk = versions{"a", "b", "d", "e", "f", "g"}
			c.change(&s)
			fates := s.Prunable()
			assert.Equal(t, "those that go", toRemove(fates), c.want)
			a := fates[slices.IndexFunc(fates, func(f Fate) bool { return f.Name == "a" })]
			if a.Reason != c.reason || !strings.Contains(a.Detail, c.detail) {
				t.Errorf("a: %s: %s", a.Reason, a.Detail)
			}
		})
	}
}

// Of a deploy that was recorded without the directory only the time is known: what was made later is another directory.
func TestADirectoryThatWasNotRecorded(t *testing.T) {
	began := time.Unix(5000, 0)
	h := journal.Replay([]journal.Record{
		{Deploy: "1", Event: journal.Began, At: began, Command: "release", Requested: "a"},
		{Deploy: "1", Event: journal.Passed, At: began.Add(time.Minute), Version: "a"},
		{Deploy: "2", Event: journal.Began, At: began.Add(time.Hour), Command: "release", Requested: "b", Previous: "a"},
		{Deploy: "2", Event: journal.Passed, At: began.Add(time.Hour), Version: "b"},
		{Deploy: "3", Event: journal.Began, At: began.Add(2 * time.Hour), Command: "release", Requested: "c", Previous: "b"},
		{Deploy: "3", Event: journal.Intent, Step: "swap", Version: "c"},
		{Deploy: "3", Event: journal.Passed, At: began.Add(2 * time.Hour), Version: "c"},
	})
	for born, want := range map[int64]Reason{
		began.Add(-time.Hour).UnixNano(): IsOld, began.Add(time.Second).UnixNano(): OtherDirectory, 0: NotRecorded,
	} {
		s := shelf(h, versions{"a", "b", "c"}, "c", 1)
		s.Directories["a"] = release.Identity{Device: 8, Inode: 1, Born: born}
		fates := s.Prunable()
		if a := fates[2]; a.Name != "a" || a.Reason != want {
			t.Errorf("born %d: %+v, want %s", born, a, want)
		}
	}
}

func TestLeftoversOfRemovals(t *testing.T) {
	h := told("a", "b", "c", "d")
	for _, c := range []struct {
		name   string
		trash  release.Trash
		held   bool
		remove bool
		detail string
	}{
		{"of a release", release.Trash{Name: ".r.a", Version: "a", Identity: directoryOf("a")}, false, true, "what is left of a, whose removal was begun"},
		{"in use", release.Trash{Name: ".r.a", Version: "a", Identity: directoryOf("a")}, true, false, "sh runs in it"},
		{"someone's directory of that name", release.Trash{Name: ".r.a", Version: "a", Identity: directoryOf("x")}, false, false, "remove it by hand"},
		{"of a release that isn't known", release.Trash{Name: ".r.x", Version: "x", Identity: directoryOf("x")}, false, false, "remove it by hand"},
		{"no directory", release.Trash{Name: ".r.a", Version: "a"}, false, false, "remove it by hand"},
		{"without a name", release.Trash{Name: ".r", Identity: directoryOf("b")}, false, true, "what is left of b, whose removal was begun"},
		{"without a name, and someone's", release.Trash{Name: ".r", Identity: directoryOf("x")}, false, false, "remove it by hand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shelf(h, versions{"c", "d"}, "d", 5)
			s.Leftovers = []release.Trash{c.trash}
			s.Held = func() (map[string]inuse.Hold, error) {
				if c.held {
					return map[string]inuse.Hold{c.trash.Name: {Reason: inuse.Process, Why: "sh runs in it (pid 7)"}}, nil
				}
				return nil, nil
			}
			fates := s.Prunable()
			if f := fates[len(fates)-1]; !f.Leftover() || f.Remove != c.remove || !strings.Contains(f.Detail, c.detail) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Whatever the shelf looks like: what is used never goes, by whatever way it is used, and what isn't and is old does.
func TestNothingThatIsUsedGoes(t *testing.T) {
	gone := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // repeatable
		var all versions
		for n := range 2 + r.IntN(9) {
			all = append(all, release.Version(fmt.Sprintf("v%d", n)))
		}
		one := func() release.Version { return all[r.IntN(len(all))] }
		var words []string
		for range r.IntN(14) {
			words = append(words, []string{"", "", "!"}[r.IntN(3)]+string(one()))
		}
		s := shelf(told(words...), all, one(), r.IntN(5))
		held, heldErr := map[string]inuse.Hold{}, error(nil)
		leads := map[release.Version][]inuse.Lead{}
		var around []inuse.Lead
		for range r.IntN(4) {
			held[string(one())] = inuse.Hold{Reason: inuse.Process, Why: "used"}
		}
		for range r.IntN(6) {
			from := one()
			leads[from] = append(leads[from], inuse.Lead{To: string(one()), How: "led"})
		}
		if r.IntN(3) == 0 {
			around = append(around, inuse.Lead{To: string(one()), How: "pinned"})
		}
		if r.IntN(10) == 0 {
			heldErr = errors.New("not seen")
		}
		unlike := map[release.Version]bool{}
		for range r.IntN(3) {
			v := one()
			unlike[v], s.Directories[v] = true, directoryOf("another"+v)
		}
		s.Held = func() (map[string]inuse.Hold, error) { return maps.Clone(held), heldErr }
		s.Around = func() ([]inuse.Lead, error) { return around, nil }
		s.Needs = func(from release.Version) ([]inuse.Lead, error) { return leads[from], nil }

		fates := s.Prunable()
		going := map[release.Version]bool{}
		for _, v := range toRemove(fates) {
			going[v] = true
			gone++
		}
		wrong := func(v release.Version, why string) {
			t.Errorf("seed %d: %s goes, and %s\n%v, live %s, keep %d: %+v", seed, v, why, words, s.Current, s.Keep, fates)
		}
		assert.Equal(t, "named", len(fates), len(all))
		if going[s.Current] {
			wrong(s.Current, "is live")
		}
		if ways := rollback.Candidates(s.History, s.OnDisk, s.Current); len(ways) > 0 && going[ways[0]] {
			wrong(ways[0], "is the way back")
		}
		for v := range going {
			_, isHeld := held[string(v)]
			switch {
			case heldErr != nil:
				wrong(v, "not all was seen")
			case isHeld:
				wrong(v, "is in use")
			case unlike[v]:
				wrong(v, "is another directory")
			case !s.History.Good(v) && !s.History.Bad(v):
				wrong(v, "was never deployed")
			case slices.ContainsFunc(around, func(l inuse.Lead) bool { return l.To == string(v) }):
				wrong(v, "is led into")
			}
		}
		for from, to := range leads {
			for _, l := range to {
				if !going[from] && going[release.Version(l.To)] {
					wrong(release.Version(l.To), "is needed by "+string(from))
				}
			}
		}
		// And nothing stays without a reason: the same shelf without its uses has no more to give than what is explained here.
		for _, f := range fates {
			if f.Detail == "" || f.Reason == "" {
				t.Errorf("seed %d: %s has no reason", seed, f.Name)
			}
			if f.Stays() && f.Reason == Reason(inuse.Needed) && len(around) == 0 && len(leads) == 0 {
				t.Errorf("seed %d: %s stays: %s", seed, f.Name, f.Detail)
			}
		}
	}
	if gone < 1000 {
		t.Errorf("only %d releases went at all", gone)
	}
}

// used plays what uses releases.
type used struct {
	held   map[string]inuse.Hold
	err    error
	looks  int
	before func(look int, names []string) // of Held
}

func (u *used) Held(_ context.Context, names []string) (map[string]inuse.Hold, error) {
	u.looks++
	if u.before != nil {
		u.before(u.looks, names)
	}
	return u.held, u.err
}

func (u *used) ChangedAfter(release.Version, time.Time) string { return "" }

func (u *used) Around(context.Context, []release.Version) ([]inuse.Lead, error) { return nil, nil }

func (u *used) Needs(context.Context, release.Version, []release.Version) ([]inuse.Lead, error) {
	return nil, nil
}

func TestPruneAfterARelease(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 2
		h.began("v1", "v2", "v3")
		h.add("v4", "next")
		r := h.release("v4")
		assert.Equal(t, "steps", steps(r), allOfIt[:len(allOfIt)-len("(prune)")]+"prune")
		assert.Equal(t, "detail", r.Steps[len(r.Steps)-1].Detail, "removed v2")
		left, err := h.tree.Releases()
		assert.OK(t, err)
		assert.Equal(t, "left", left, versions{"next", "v3", "v4"})

		fates, err := h.d.Prune(t.Context())
		assert.OK(t, err)
		assert.Equal(t, "removed", toRemove(fates), nil)
		assert.Equal(t, "the newest", []any{fates[0].Name, fates[0].Reason}, []any{"v4", IsLive})
	})
}

// A release that couldn't be removed is no failure of the one that went live.
func TestPruneFails(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 1
		h.began("v1", "v2")
		h.add("v3")
		h.on["started prune"] = func() {
			assert.OK(t, os.Rename(filepath.Join(h.root, "releases"), filepath.Join(h.root, "elsewhere")))
		}
		r := h.release("v3")
		assert.Equal(t, "outcome", r.Outcome, Released)
		assert.Equal(t, "steps", steps(r), allOfIt[:len(allOfIt)-len("(prune)")]+"!prune")
		parts(t, "warnings", r.Warnings, []string{"old releases were not all removed: cannot list"})
	})
}

func TestPruneNeedsToKnowWhatIsLive(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 1
		h.began("v1", "v2", "v3")
		assert.OK(t, os.Remove(h.tree.CurrentPath()))
		assert.OK(t, os.Symlink("/elsewhere", h.tree.CurrentPath()))
		fates, err := h.d.Prune(t.Context())
		assert.Equal(t, "removed", toRemove(fates), nil)
		if err == nil {
			t.Error("it succeeded")
		}
	})
}

// What comes to be used between the first look and the renaming is put back as it was.
func TestWhatComesToBeUsedIsPutBack(t *testing.T) {
	for name, change := range map[string]func(u *used, trash string){
		"used": func(u *used, trash string) {
			u.held = map[string]inuse.Hold{trash: {Reason: inuse.Process, Why: "sh runs in it (pid 7)"}}
		},
		"not seen": func(u *used, _ string) { u.err = errors.New("cannot look at process 7") },
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				u := &used{}
				h.d.Keep = 5
				h.began("v1", "v2", "v3")
				h.d.Keep, h.d.Uses = 1, u
				u.before = func(look int, names []string) {
					if look == 2 {
						assert.Equal(t, "looked for", names, []string{".removing.deploygate.v1"})
						change(u, names[0])
					}
				}
				fates, err := h.d.Prune(t.Context())
				assert.OK(t, err)
				assert.Equal(t, "removed", toRemove(fates), nil)
				left, err := h.tree.Releases()
				assert.OK(t, err)
				assert.Equal(t, "left", left, versions{"v1", "v2", "v3"})
				leftovers, err := h.tree.Leftovers()
				assert.OK(t, err)
				assert.Equal(t, "leftovers", len(leftovers), 0)
			})
		})
	}
}

// A prune that was killed between its halves is finished by the next one, which removes what it would have.
func TestPruneFinishesWhatWasBegun(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 5
		h.began("v1", "v2", "v3")
		id, err := h.tree.Identify("v1")
		assert.OK(t, err)
		_, err = h.tree.SetAside("v1", id)
		assert.OK(t, err)
		somebodys := filepath.Join(h.root, "releases", ".removing.deploygate")
		write(t, filepath.Join(somebodys, "file"), "precious")
		fates, err := h.d.Prune(t.Context())
		assert.OK(t, err)
		var got []string
		for _, f := range fates {
			got = append(got, fmt.Sprint(f.Name, " ", f.Reason, " ", f.Removed))
		}
		if d := cmp.Diff([]string{
			"v3 live false", "v2 way_back false", ".removing.deploygate other_directory false", ".removing.deploygate.v1 leftover true",
		}, got); d != "" {
			t.Error(d)
		}
		if _, err := os.Stat(filepath.Join(somebodys, "file")); err != nil {
			t.Error(err)
		}
	})
}

// The plan says what the prune after the release does.
func TestFatesAfterARelease(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.d.Keep = 5
		h.began("v1", "v2", "v3")
		h.d.Keep = 2
		h.add("v4")
		planned, err := h.d.FatesAfter(t.Context(), "v4")
		assert.OK(t, err)
		assert.Equal(t, "would go", toRemove(planned), versions{"v1", "v2"})
		assert.Equal(t, "outcome", h.release("v4").Outcome, Released)
		left, err := h.tree.Releases()
		assert.OK(t, err)
		assert.Equal(t, "left", left, versions{"v3", "v4"})
	})
}
