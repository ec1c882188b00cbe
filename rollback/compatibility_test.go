package rollback

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback/migrations"
	"deploygate/scripts/assert"
)

// story is a journal's records, told in short.
type story []journal.Record

func (s *story) add(r journal.Record) { *s = append(*s, r) }

// release makes v live by a deploy of its own; whether it passed is told as "passed", "failed" or "" (its process died).
func (s *story) release(v, previous release.Version, gate journal.Event) {
	s.deploy("release", v, previous, gate, nil)
}

func (s *story) deploy(command string, v, previous release.Version, gate journal.Event, schema *release.Schema) {
	id := strconv.Itoa(len(*s))
	s.add(journal.Record{Deploy: id, Event: journal.Began, Command: command, Requested: v, Previous: previous, Schema: schema})
	s.add(journal.Record{Deploy: id, Event: journal.Intent, Step: "swap", Version: v})
	if gate != "" {
		s.add(journal.Record{Deploy: id, Event: gate, Version: v})
	}
}

// override is a rollback that a person insisted on.
func (s *story) override(v, previous release.Version) {
	s.deploy("rollback", v, previous, passed, nil)
	(*s)[len(*s)-3].Override = "I know"
}

// back adds the way back to the latest deploy.
func (s *story) back(v release.Version, gate journal.Event) {
	id := (*s)[len(*s)-1].Deploy
	s.add(journal.Record{Deploy: id, Event: journal.Intent, Step: "swap", Version: v})
	s.add(journal.Record{Deploy: id, Event: gate, Version: v})
}

func (s *story) history() journal.History { return journal.Replay(*s) }

type versions = []release.Version

const (
	passed = journal.Passed
	failed = journal.Failed
)

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name   string
		tell   func(*story)
		seen   release.Version
		onDisk versions
		want   versions
	}{
		{"no journal, one release", func(*story) {}, "v1", versions{"v1", "v2"}, nil},
		{"the one before", func(s *story) { s.release("v1", "", passed); s.release("v2", "v1", passed) }, "v2", versions{"v1", "v2"}, versions{"v1"}},
		{"latest first", func(s *story) {
			s.release("v9", "", passed)
			s.release("v10", "v9", passed)
			s.release("v1", "v10", passed)
			s.release("v11", "v1", passed)
		}, "v11", versions{"v1", "v9", "v10", "v11"}, versions{"v1", "v10", "v9"}},
		{"live before deploygate came", func(s *story) { s.release("v2", "v1", passed) }, "v2", versions{"v1", "v2"}, versions{"v1"}},
		{"put there by hand", func(s *story) { s.release("v1", "", passed); s.release("v3", "v2", passed) }, "v3", versions{"v1", "v2", "v3"}, versions{"v2", "v1"}},
		{"failed its gate", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", failed)
			s.back("v1", passed)
			s.release("v3", "v1", passed)
		}, "v3", versions{"v1", "v2", "v3"}, versions{"v1"}},
		{"good once, failed on the way back", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", failed)
			s.back("v2", failed)
			s.back("v1", passed)
			s.release("v4", "v1", passed)
		}, "v4", versions{"v1", "v2", "v3", "v4"}, versions{"v1"}},
		{"by hand, and failed since", func(s *story) {
			s.release("v2", "v1", failed)
			s.back("v1", failed)
		}, "v1", versions{"v1", "v2"}, nil},
		{"its process died before the gate", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", "")
			s.release("v3", "v2", passed)
		}, "v3", versions{"v1", "v2", "v3"}, versions{"v1"}},
		{"pruned", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
		}, "v3", versions{"v1", "v3"}, versions{"v1"}},
		{"rolled back from", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.deploy("rollback", "v2", "v3", passed, nil)
		}, "v2", versions{"v1", "v2", "v3"}, versions{"v1"}},
		{"rolled back past", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.deploy("rollback", "v1", "v3", passed, nil)
		}, "v1", versions{"v1", "v2", "v3"}, nil},
		{"rolled back from, and the next one failed", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.deploy("rollback", "v2", "v3", passed, nil)
			s.release("v4", "v2", failed)
			s.back("v2", passed)
		}, "v2", versions{"v1", "v2", "v3", "v4"}, versions{"v1"}},
		{"rolled back from, and released again", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.deploy("rollback", "v1", "v2", passed, nil)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
		}, "v3", versions{"v1", "v2", "v3"}, versions{"v2", "v1"}},
		{"rolled back from, put there by hand, and healthy", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.deploy("rollback", "v1", "v2", passed, nil)
			s.release("v3", "v2", passed)
			(*s)[len(*s)-3].Healthy = true
		}, "v3", versions{"v1", "v2", "v3"}, versions{"v2", "v1"}},
		{"on the way back and not healthy, it doesn't stand before the last healthy one", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.add(journal.Record{Deploy: "x", Event: journal.Began, Command: "release", Requested: "v3", Previous: "v2"})
			s.add(journal.Record{Deploy: "x", Event: journal.Intent, Step: "swap", Version: "v3"})
			s.add(journal.Record{Deploy: "x", Event: journal.Intent, Step: "swap", Version: "v2"})
			s.add(journal.Record{Deploy: "x", Event: journal.Intent, Step: "swap", Version: "v1"})
		}, "v3", versions{"v1", "v2", "v3"}, versions{"v2", "v1"}},
		{"a rollback that failed leaves what lies between", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.deploy("rollback", "v1", "v3", failed, nil)
			s.back("v3", passed)
		}, "v3", versions{"v1", "v2", "v3"}, versions{"v2"}},
		{"uploaded, never live", func(s *story) { s.release("v2", "", passed) }, "v2", versions{"v1", "v2", "v3"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s story
			c.tell(&s)
			if d := cmp.Diff(c.want, Candidates(s.history().Seen(c.seen), c.onDisk, c.seen)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCrossings(t *testing.T) {
	for _, c := range []struct {
		name            string
		tell            func(*story)
		target, current release.Version
		onDisk          versions
		has             release.Version // whose migrations target has
		want            versions
	}{
		{"the one before", func(s *story) { s.release("v1", "", passed); s.release("v2", "v1", passed) }, "v1", "v2", nil, "", versions{"v2"}},
		{"newest first", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
		}, "v1", "v3", nil, "", versions{"v3", "v2"}},
		{"a release that failed has left its schema", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", failed)
			s.back("v2", passed)
		}, "v1", "v2", nil, "", versions{"v3", "v2"}},
		{"the target met it already", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", failed)
			s.back("v1", passed)
			s.release("v3", "v1", passed)
		}, "v1", "v3", nil, "", versions{"v3"}},
		{"a rollback brings no schema of its own", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.deploy("rollback", "v2", "v3", passed, nil)
		}, "v1", "v2", nil, "", versions{"v3", "v2"}},
		{"twice live counts once", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.release("v2", "v3", passed)
		}, "v1", "v2", nil, "", versions{"v2", "v3"}},
		{"its process died after the swap was announced", func(s *story) { s.release("v1", "", passed); s.release("v2", "v1", "") }, "v1", "v2", nil, "", versions{"v2"}},
		{"put there by hand", func(s *story) { s.release("v1", "", passed) }, "v1", "v7", nil, "", versions{"v7"}},
		{"pruned ones too", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
		}, "v1", "v3", versions{"v1", "v3"}, "", versions{"v3", "v2"}},
		{"a target that was never live is older than all", func(s *story) {
			s.release("v3", "v2", passed)
			s.release("v5", "v3", passed)
		}, "v1", "v5", versions{"v1", "v2", "v3", "v4", "v5", "v6"}, "", versions{"v5", "v3", "v2", "v4"}},
		{"a target that was never live and has the migrations of one that was", func(s *story) {
			s.release("v3", "v2", passed)
			s.release("v5", "v3", passed)
		}, "fix", "v5", nil, "v3", versions{"v5"}},
		{"after an override", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.override("v1", "v3")
		}, "v2", "v1", nil, "v1", nil},
		{"after an override of a release that it is older than", func(s *story) {
			s.release("v1", "", passed)
			s.release("v2", "v1", passed)
			s.release("v3", "v2", passed)
			s.override("v2", "v3")
		}, "v1", "v2", nil, "", versions{"v3", "v2"}},
		{"no journal: what lies between by name", func(*story) {}, "v1", "v10", versions{"v1", "v2", "v9", "v10", "v11"}, "", versions{"v10", "v9", "v2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s story
			c.tell(&s)
			if d := cmp.Diff(c.want, ReleasesSince(s.history().Seen(c.current), c.target, c.current, c.onDisk, func(v release.Version) bool { return c.has == v })); d != "" {
				t.Error(d)
			}
		})
	}
}

// site is releases on disk.
type site struct {
	t   *testing.T
	dir string
}

func newSite(t *testing.T) site { t.Helper(); return site{t, t.TempDir()} }

func (s site) path(v release.Version) string { return filepath.Join(s.dir, string(v)) }

func (s site) add(v release.Version, marker string, migrations ...string) {
	s.t.Helper()
	write(s.t, filepath.Join(s.path(v), "manage.py"), "")
	for _, m := range migrations {
		write(s.t, filepath.Join(s.path(v), "shop/migrations", m+".py"), migrationOf(m))
	}
	if marker != "" {
		write(s.t, filepath.Join(s.path(v), MarkerName), marker)
	}
}

// migrationOf is a migration by its name: one that is called "add" does no harm, any other drops a column.
func migrationOf(name string) string {
	operation := `migrations.RemoveField("order", "legacy")`
	switch {
	case strings.Contains(name, "add"):
		operation = `migrations.AddField("order", "note", models.TextField(null=True))`
	case name == "0001":
		operation = `migrations.CreateModel("Order", [("id", models.BigAutoField(primary_key=True)), ("legacy", models.TextField())])`
	}
	return "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n" +
		"    dependencies = []\n    operations = [" + operation + "]\n"
}

func TestWayBackReadsWhatTheReleasesSay(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	s.add("same", "", "0001")
	s.add("fewer", "")
	s.add("more", "", "0001", "0002")
	s.add("harmless", "", "0001", "0002_add")
	s.add("safe", `rollback = "safe"`, "0001", "0002")
	s.add("blocked", `rollback = "blocked"`, "0001")
	s.add("odd", `rollback = "maybe"`, "0001")
	for _, c := range []struct {
		crossed versions
		policy  Policy
		want    Verdict
		reason  string
	}{
		{nil, Inspect, Safe, ""},
		{versions{"v1"}, Block, Safe, "no release went live"}, // the target itself is not crossed
		{versions{"same"}, Inspect, Safe, ""},
		{versions{"fewer"}, Inspect, Safe, ""},
		{versions{"more"}, Inspect, Blocked, "shop.0002: RemoveField order.legacy"},
		{versions{"harmless"}, Inspect, Safe, "can live with: shop.0002_add"},
		{versions{"harmless", "more"}, Inspect, Blocked, "shop.0002"},
		{versions{"more"}, Allow, Safe, ""},
		{versions{"same"}, Block, Blocked, "no marker"},
		{versions{"safe"}, Inspect, Safe, "marked safe"},
		{versions{"safe", "blocked"}, Inspect, Blocked, "blocked's marker"},
		{versions{"odd"}, Allow, Blocked, "neither"},
		{versions{"gone"}, Inspect, Blocked, "its directory is gone"},
		{versions{"same", "more"}, Inspect, Blocked, "shop.0002"},
	} {
		w := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).RollbackTo("v1", c.crossed, c.policy)
		if w.Version != "v1" || w.Verdict != c.want || !strings.Contains(w.Reason, c.reason) {
			t.Errorf("across %v, %s: %+v; want %s …%s…", c.crossed, c.policy, w, c.want, c.reason)
		}
	}
	w := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).RollbackTo("gone", versions{"same"}, Inspect)
	if w.Verdict != Blocked || !strings.Contains(w.Reason, "can't be compared") {
		t.Errorf("to a release that is gone: %+v", w)
	}
}

// What is older is told by the code, whatever it is called.
func TestOlder(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	s.add("v2", "", "0001", "0002")
	s.add("copy", "", "0001")
	s.add("fix", "", "0001", "0002_add_fix")
	s.add("none", "")
	s.add("other", "", "0001")
	write(t, filepath.Join(s.path("other"), "blog/migrations/0001.py"), migrationOf("0001"))
	for _, c := range []struct {
		v, than release.Version
		want    bool
	}{
		{"v1", "v2", true},
		{"copy", "v2", true},
		{"v2", "v1", false},
		{"copy", "v1", false},
		{"fix", "v2", false},   // a branch of its own
		{"v1", "other", false}, // an app was given up
		{"none", "v2", false},  // so it was here
		{"gone", "v2", false},
		{"v1", "gone", false},
	} {
		if got := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).Older(c.v, c.than); got != c.want {
			t.Errorf("%s older than %s: %t", c.v, c.than, got)
		}
	}
}

// A directory that was emptied, or uploaded again, doesn't take back what was said when it was deployed.
func TestWhatWasDeployedCountsToo(t *testing.T) {
	for _, c := range []struct {
		name, now string
		was       release.Schema
		want      Verdict
		reason    string
	}{
		{"was blocked, no marker now", "", release.Schema{Marker: "blocked", Reason: "drops x"}, Blocked, "drops x"},
		{"was blocked, safe now", `rollback = "safe"`, release.Schema{Marker: "blocked", Reason: "drops x"}, Blocked, "drops x"},
		{"was safe, blocked now", `rollback = "blocked"`, release.Schema{Marker: "safe"}, Blocked, "forbids"},
		{"was safe, none now", "", release.Schema{Marker: "safe"}, Safe, ""},
		{"brought a migration, none now", "", release.Schema{NewMigrations: []string{"shop.0002"}}, Blocked, "shop.0002"},
		{"brought one that the target has", "", release.Schema{NewMigrations: []string{"shop.0001"}}, Safe, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.add("v1", "", "0001")
			s.add("v2", c.now)
			var told story
			told.deploy("release", "v2", "v1", passed, &c.was)
			w := (&Compatibility{Dir: s.path, History: told.history()}).RollbackTo("v1", versions{"v2"}, Inspect)
			if w.Verdict != c.want || !strings.Contains(w.Reason, c.reason) {
				t.Errorf("%+v, want %s …%s…", w, c.want, c.reason)
			}
		})
	}
}

// A release whose before_swap hooks ran has changed the schema, whether or not it ever went live.
func TestHooksThatRanAreCrossed(t *testing.T) {
	records := []journal.Record{
		{Event: journal.Began, Deploy: "1", Command: "release", Requested: "v1", Previous: "v0"},
		{Event: journal.Intent, Deploy: "1", Step: "swap", Version: "v1"},
		{Event: journal.Finished, Deploy: "1"},
		{Event: journal.Began, Deploy: "2", Command: "release", Requested: "v2", Previous: "v1"},
		{Event: journal.Intent, Deploy: "2", Step: "before_swap", Version: "v2"},
	}
	h := journal.Replay(records)
	none := func(release.Version) bool { return false }
	if got := ReleasesSince(h, "v0", "v1", nil, none); !slices.Equal(got, versions{"v2", "v1"}) {
		t.Errorf("crossings to v0 %v, want v2 and v1", got)
	}
	if got := ReleasesSince(h, "v1", "v1", nil, none); len(got) > 0 {
		t.Errorf("crossings to v1 %v, want none: it isn't known what the hooks have done", got)
	}
	h = journal.Replay(append(records, journal.Record{Event: journal.Done, Deploy: "2", Step: "before_swap", Version: "v2"}))
	if got := ReleasesSince(h, "v1", "v1", nil, none); !slices.Equal(got, versions{"v2"}) {
		t.Errorf("crossings to v1 %v, want v2, whose hooks ran to their end", got)
	}
	if got := Candidates(h, versions{"v0", "v1", "v2"}, "v1"); !slices.Equal(got, versions{"v0"}) {
		t.Errorf("candidates %v, want v0", got)
	}
}

func TestThePrunedAreRemembered(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	for _, c := range []struct {
		name   string
		schema *release.Schema
		policy Policy
		want   Verdict
		reason string
	}{
		{"marked safe", &release.Schema{Marker: "safe"}, Block, Safe, "marked safe"},
		{"marked blocked", &release.Schema{Marker: "blocked", Reason: "drops x"}, Allow, Blocked, "drops x"},
		{"no migrations", &release.Schema{}, Inspect, Safe, "no new migrations"},
		{"migrations", &release.Schema{NewMigrations: []string{"shop.0002"}}, Inspect, Blocked, "shop.0002"},
		{"migrations that did no harm", &release.Schema{NewMigrations: []string{"shop.0002"}, Judged: true}, Inspect, Safe, "can live with: shop.0002"},
		{"migrations that did", &release.Schema{NewMigrations: []string{"shop.0002"}, Judged: true, Blocking: []release.Block{{Migration: "shop.0002", Why: "drops x"}}}, Inspect, Blocked, "drops x"},
		{"migrations not known", &release.Schema{Unknown: "unreadable"}, Inspect, Blocked, "can't be compared"},
		{"no word", nil, Inspect, Blocked, "can't be compared"},
		{"no word, and none needed", nil, Allow, Safe, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told story
			told.deploy("release", "v2", "v1", passed, c.schema)
			w := (&Compatibility{Dir: s.path, History: told.history()}).RollbackTo("v1", versions{"v2"}, c.policy)
			if w.Verdict != c.want || !strings.Contains(w.Reason, c.reason) {
				t.Errorf("%+v, want %s …%s…", w, c.want, c.reason)
			}
		})
	}
}

func TestDescribeIsWhatIsRememberedOfARelease(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	s.add("v2", "", "0001", "0003_add", "0002")
	s.add("marked", "rollback = \"blocked\"\nreason = \"r\"\nmigrations = [\"m\"]", "0002")
	s.add("odd", "rollback = 1")
	for _, c := range []struct {
		v, previous release.Version
		want        *release.Schema
	}{
		{"v2", "v1", &release.Schema{NewMigrations: []string{"shop.0002", "shop.0003_add"}, Judged: true, Blocking: []release.Block{{
			Migration: "shop.0002", Operation: "RemoveField order.legacy", Why: "the older code selects the column", Reversible: true, Reverse: "the column comes back without its values: the data is lost",
		}}}},
		{"v1", "v2", &release.Schema{Judged: true}},
		{"marked", "v1", &release.Schema{Marker: "blocked", Reason: "r", Migrations: []string{"m"}}},
		{"v1", "", &release.Schema{Unknown: "there was no release before it"}},
	} {
		got, err := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).Describe(c.v, c.previous)
		assert.OK(t, err)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s after %s: %s", c.v, c.previous, d)
		}
	}
	got, err := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).Describe("v2", "gone")
	if err != nil || got.Unknown == "" {
		t.Errorf("after one that is gone: %+v, %v", got, err)
	}
	if got, err := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).Describe("odd", "v1"); err == nil {
		t.Errorf("an unreadable marker must refuse the release: %+v", got)
	}
}

func TestEachReleaseIsWalkedOnce(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	s.add("v2", "", "0001", "0002")
	schemas := &Compatibility{History: journal.Replay(nil), Dir: s.path}
	before := schemas.RollbackTo("v1", versions{"v2"}, Inspect)
	assert.OK(t, os.RemoveAll(filepath.Join(s.path("v1"), "shop")))
	assert.OK(t, os.RemoveAll(filepath.Join(s.path("v2"), "shop")))
	if d := cmp.Diff(before, schemas.RollbackTo("v1", versions{"v2"}, Inspect)); d != "" {
		t.Error(d)
	}
	s.add("v3", "", "0001")
	if w := schemas.RollbackTo("v3", versions{"v2"}, Inspect); w.Verdict != Blocked || !strings.Contains(w.Reason, "shop.0002") {
		t.Errorf("to another release: %+v", w)
	}
}

// What the database has is asked for when the files forbid the way back: the pair is then judged again, and what the
// journal keeps of the release is not.
func TestAPairIsJudgedByWhatIsApplied(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	s.add("v2", "", "0001", "0002", "0003")
	schemas := &Compatibility{History: journal.Replay(nil), Dir: s.path}
	described, err := schemas.Describe("v2", "v1")
	assert.OK(t, err)
	for _, c := range []struct {
		applied map[string]bool
		want    Verdict
		step    string // what would be taken back, and to where
	}{
		{nil, Blocked, "zero"},
		{map[string]bool{"shop.0001": true}, Safe, ""},
		{map[string]bool{}, Safe, ""},
		{nil, Blocked, "zero"},
		{map[string]bool{"shop.0001": true, "shop.0003": true}, Blocked, "zero"},
		{map[string]bool{"shop.0001": true}, Safe, ""},
	} {
		schemas.Applied = c.applied
		w := schemas.RollbackTo("v1", versions{"v2"}, Inspect)
		step := ""
		if len(w.TakeBack) > 0 {
			step = w.TakeBack[0].To
		}
		if w.Verdict != c.want || step != c.step {
			t.Errorf("%v: %+v, want %s", c.applied, w, c.want)
		}
		got, err := schemas.Describe("v2", "v1")
		assert.OK(t, err)
		if d := cmp.Diff(described, got); d != "" {
			t.Errorf("%v: %s", c.applied, d)
		}
	}
}

// A marker that was made against one release says nothing of an older one: that is judged again.
func TestAMarkerMadeAgainstAnotherRelease(t *testing.T) {
	s := newSite(t)
	s.add("v1", "", "0001")
	s.add("v2", "", "0001", "0002")
	s.add("v3", "", "0001", "0002", "0003_add")
	newer, err := migrations.Read(t.Context(), s.path("v3"))
	assert.OK(t, err)
	older, err := migrations.Read(t.Context(), s.path("v2"))
	assert.OK(t, err)
	assert.OK(t, WriteMarker(s.path("v3"), MarkerOf(migrations.Judge(newer, older, nil))))
	for _, policy := range []Policy{Inspect, Block} {
		if w := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).RollbackTo("v2", versions{"v3"}, policy); w.Verdict != Safe || !strings.Contains(w.Reason, "marked safe") {
			t.Errorf("%s: to the release that it was made against: %+v", policy, w)
		}
		if w := (&Compatibility{History: journal.Replay(nil), Dir: s.path}).RollbackTo("v1", versions{"v3"}, policy); w.Verdict != Blocked {
			t.Errorf("%s: to an older one: %+v", policy, w)
		}
	}
	if err := WriteMarker(s.path("v3"), Marker{Rollback: Blocked}); err != nil {
		t.Errorf("its own marker isn't replaced: %v", err)
	}
	write(t, filepath.Join(s.path("v3"), MarkerName), "rollback = 'safe'\n")
	if err := WriteMarker(s.path("v3"), Marker{Rollback: Blocked}); err == nil {
		t.Error("someone's marker is replaced")
	}
}
