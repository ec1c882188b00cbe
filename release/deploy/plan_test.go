package deploy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// snapshot lists everything below some directories, with modes and times.
func snapshot(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		assert.OK(t, filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil {
				all[p] = info.Mode().String() + " " + info.ModTime().String()
			}
			return err
		}))
	}
	return all
}

func TestPlanChangesNothing(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1", "v2")
		h.add("v3")
		h.hooks(BeforeSwap)
		before := snapshot(t, h.root, h.state)
		for _, r := range []Request{
			{Command: Release, Version: "v3"},
			{Command: Release, Version: "v2"},
			{Command: Release, Version: "v9"},
			{Command: Rollback},
			{Command: Rollback, Version: "../.."},
		} {
			h.d.Plan(h.ctx, r)
		}
		if diff := cmp.Diff(before, snapshot(t, h.root, h.state)); diff != "" {
			t.Errorf("changed:\n%s", diff)
		}
		assert.Equal(t, "restarts", len(h.restarts), 0)
		assert.Equal(t, "tasks", len(h.tasks), 0)
		assert.Equal(t, "reloads", h.reloads, 0)
	})
}

// It doesn't even make the state directory.
func TestPlanOnAFreshHost(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.add("v1")
		p, refused := h.d.Plan(h.ctx, Request{Command: Release, Version: "v1"})
		assert.Equal(t, "refused", len(refused), 0)
		assert.Equal(t, "previous", p.Previous, "")
		assert.Equal(t, "way back", p.RollbackTarget(), rollback.Target{Verdict: rollback.None, Reason: "there is no earlier good release on this host"})
		if _, err := os.Lstat(h.state); err == nil {
			t.Error("the state directory was made")
		}
	})
}

func TestPlan(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1", "v2", "v3")
		h.add("v4")
		h.migration("0002_drop", "v3", "v4")
		p, refused := h.d.Plan(h.ctx, Request{Command: Release, Version: "v4"})
		assert.Equal(t, "refused", len(refused), 0)
		assert.Equal(t, "target", p.Target, "v4")
		assert.Equal(t, "previous", p.Previous, "v3")
		assert.Equal(t, "ways", len(p.Candidates), 1) // v3 is healthy: what it fails of, v2 does too
		assert.Equal(t, "way", p.Candidates[0], rollback.Target{Version: "v3", Verdict: rollback.Safe, Reason: "no new migrations: v4"})

		h.does["v3"] = behaviour{status: 500}
		p, _ = h.d.Plan(h.ctx, Request{Command: Release, Version: "v4"})
		delete(h.does, "v3")
		assert.Equal(t, "ways", len(p.Candidates), 2)
		assert.Equal(t, "and further", p.Candidates[1].Verdict, rollback.Blocked)
		contains(t, "because", p.Candidates[1].Reason, "v2's code can't run after v4's migrations: shop.0002_drop: RemoveField order.legacy")
		assert.Equal(t, "live", p.Live(), false)
		assert.Equal(t, "healthy", p.Healthy, false)
		assert.Equal(t, "good", p.Good, false)
		assert.Equal(t, "summary", p.summary(), "v3 → v4; way back v3")

		p, refused = h.d.Plan(h.ctx, Request{Command: Release, Version: "v3"})
		assert.Equal(t, "refused", len(refused), 0)
		assert.Equal(t, "live", p.Live(), true)
		assert.Equal(t, "good", p.Good, true)
	})
}

// The live release is no way back from a rollback that flees from it.
func TestWaysBackFromARollback(t *testing.T) {
	for _, c := range []struct {
		name string
		does behaviour
		want release.Version
	}{
		{"healthy", behaviour{}, "v3"},
		{"not healthy", behaviour{status: 500}, "v1"},
		{"crashed", behaviour{crash: 1}, "v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1", "v2", "v3")
				h.does["v3"] = c.does
				p, refused := h.d.Plan(h.ctx, Request{Command: Rollback})
				assert.Equal(t, "refused", len(refused), 0)
				assert.Equal(t, "target", p.Target, "v2")
				assert.Equal(t, "way back", p.RollbackTarget().Version, c.want)
			})
		})
	}
}

func TestStanding(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		current, _, way, err := h.d.Standing()
		assert.OK(t, err)
		assert.Equal(t, "current", current, "")
		assert.Equal(t, "verdict", way.Verdict, rollback.None)

		h.began("v1", "v2")
		current, history, way, err := h.d.Standing()
		assert.OK(t, err)
		assert.Equal(t, "current", current, "v2")
		assert.Equal(t, "good", history.Good("v2"), true)
		assert.Equal(t, "way back", way, rollback.Target{Version: "v1", Verdict: rollback.Safe, Reason: "no new migrations: v2"})

		h.mark("v2", blockedMarker)
		_, _, way, err = h.d.Standing()
		assert.OK(t, err)
		assert.Equal(t, "verdict", way.Verdict, rollback.Blocked)

		assert.OK(t, os.RemoveAll(filepath.Join(h.root, "releases")))
		if _, _, _, err = h.d.Standing(); err == nil {
			t.Error("without releases it succeeded")
		}
	})
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name     string
		given    func(*host)
		want     []string
		warnings []string
	}{
		{"healthy", nil, nil, nil},
		{"500", does("v1", behaviour{status: 500}), []string{"answers 500"}, nil},
		{"crashed", does("v1", behaviour{crash: 1}), []string{"app.service failed"}, nil},
		{"stopped", func(h *host) { h.running = "" }, []string{"app.service was stopped"}, nil},
		{"the proxy doesn't reach it", does("v1", behaviour{proxied: 502}), []string{"answers 502"}, nil},
		{"the proxy's configuration is broken", func(h *host) { h.invalidBefore, h.invalid = errBroken, errBroken }, []string{"broken"}, nil},
		{"something else runs", func(h *host) { h.byHand("v2"); assert.OK(h.t, h.tree.Swap("v1")) }, []string{"runs in"}, nil},
		{"a required check", func(h *host) {
			h.d.Checks = []Check{{Task: task("smoke"), Required: true}}
			h.fails["smoke"] = errBroken
		}, []string{"smoke failed: broken"}, nil},
		{"an advisory check", func(h *host) {
			h.d.Checks = []Check{{Task: task("smoke")}}
			h.fails["smoke"] = errBroken
		}, nil, []string{"smoke failed: broken (advisory); its output ends with: output of smoke"}},
		{"no unit", func(h *host) { h.notReady = errBroken }, []string{"broken"}, nil},
		{"nothing is live", func(h *host) { assert.OK(h.t, os.Remove(h.tree.CurrentPath())) }, []string{"no release is live"}, nil},
		{"its directory is gone", func(h *host) { assert.OK(h.t, os.RemoveAll(h.tree.Dir("v1"))) }, []string{"cannot resolve"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				if c.given != nil {
					c.given(h)
				}
				journalled, link := len(h.records()), h.link()
				current, findings, warnings := h.d.Check(h.ctx)
				assert.Equal(t, "current", current, link)
				var got []string
				for _, f := range findings {
					got = append(got, f.Summary)
				}
				parts(t, "findings", got, c.want)
				parts(t, "warnings", warnings, c.warnings)
				assert.Equal(t, "records", len(h.records()), journalled)
				assert.Equal(t, "restarts", len(h.restarts), 0)
			})
		})
	}
}

// A release that removes the way back is refused where that is asked for, and announced where it isn't.
func TestRequireWayBack(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.migration("0002_drop", "v2")
		r := h.d.Run(h.ctx, Request{Command: Release, Version: "v2", RequireWayBack: true})
		assert.Equal(t, "outcome", r.Outcome, Refused)
		contains(t, "failure", summary(r.Failure), "there would be no way back from v2: v1's code can't run after v2's migrations: shop.0002_drop")
		assert.Equal(t, "restarts", len(h.restarts), 0)
		r = h.release("v2")
		assert.Equal(t, "outcome", r.Outcome, Released)
		parts(t, "warnings", r.Warnings, []string{"no way back from v2: to v1 it is blocked"})
		r = h.d.Run(h.ctx, Request{Command: Release, Version: "v2", RequireWayBack: true})
		assert.Equal(t, "outcome", r.Outcome, Unchanged)
	})
	onHost(t, func(t *testing.T, h *host) {
		h.add("v1")
		r := h.d.Run(h.ctx, Request{Command: Release, Version: "v1", RequireWayBack: true})
		assert.Equal(t, "outcome of the first of all", r.Outcome, Refused)
	})
}

// What was not applied to the database does not block; a database that can't be asked leaves things as they are.
func TestTheDatabaseIsAsked(t *testing.T) {
	for _, c := range []struct {
		name    string
		applied map[string]bool // nil: it can't be asked
		marker  string
		command Command
		want    Outcome
		says    string
	}{
		{"not applied", map[string]bool{"shop.0001_initial": true}, "", Release, RolledBack, ""},
		{"applied", map[string]bool{"shop.0002_drop": true}, "", Release, Held, "shop.0002_drop: RemoveField"},
		{"applied under another label", map[string]bool{"store.0002_drop": true}, "", Release, Held, "shop.0002_drop"},
		{"not known", nil, "", Release, Held, "shop.0002_drop"},
		{"marked, not applied", map[string]bool{}, "rollback = \"blocked\"\nmigrations = [\"shop.0002_drop\"]\n", Release, RolledBack, ""},
		{"marked without a name", map[string]bool{}, "rollback = \"blocked\"\n", Release, Held, "marker forbids it"},
		{"rollback, not applied", map[string]bool{}, "", Rollback, Released, ""},
		{"rollback, applied", map[string]bool{"shop.0002_drop": true}, "", Rollback, Refused, "shop.0002_drop"},
		{"rollback, not known", nil, "", Rollback, Refused, "the database is down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				h.began("v1")
				h.add("v2")
				h.migration("0002_drop", "v2")
				if c.marker != "" {
					h.mark("v2", c.marker)
				}
				var asked versions
				h.d.Applied = func(_ context.Context, v release.Version) (map[string]bool, error) {
					asked = append(asked, v)
					if c.applied == nil {
						return nil, errors.New("the database is down")
					}
					return c.applied, nil
				}
				var r *Report
				if c.command == Release {
					h.does["v2"] = behaviour{status: 500}
					r = h.release("v2")
				} else {
					h.release("v2")
					assert.Equal(t, "asked for a release that passes", len(asked), 0)
					r = h.d.Run(h.ctx, Request{Command: Rollback})
				}
				assert.Equal(t, "outcome", r.Outcome, c.want)
				if len(asked) == 0 || asked[0] != "v2" {
					t.Errorf("asked with %v, want v2 first", asked)
				}
				switch {
				case c.says == "":
				case c.command == Release:
					contains(t, "way back", r.RollbackTarget.Reason, c.says)
				default:
					contains(t, "failure", summary(r.Failure), c.says)
				}
			})
		})
	}
}
