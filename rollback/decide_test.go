package rollback

import (
	"errors"
	"strings"
	"testing"

	"deploygate/release"
)

func TestDecide(t *testing.T) {
	drop := []release.Block{{Migration: "a.1", Operation: "RemoveField order.legacy", Why: "the older code selects it"}}
	unreadable := errors.New("line 1, column 1: unknown key")
	for _, c := range []struct {
		name    string
		crossed []Intervening
		policy  Policy
		want    Verdict
		reason  string
	}{
		{"nothing to cross", nil, Inspect, Safe, "no release went live after v1"},
		{"nothing to cross, and markers demanded", nil, Block, Safe, "no release went live after v1"},

		{"marked safe", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Safe}}}, Inspect, Safe, "marked safe: v2"},
		{"marked safe, and markers demanded", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Safe}}}, Block, Safe, "marked safe: v2"},
		{"the marker beats the migrations", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Safe}, Blocking: drop}}, Inspect, Safe, "marked safe"},
		{"marked blocked", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Blocked, Reason: "drops x"}}}, Inspect, Blocked, "v2's marker forbids it: drops x"},
		{"marked blocked, and markers not needed", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Blocked, Migrations: []string{"a.1"}}}}, Allow, Blocked, "forbids it: a.1"},
		{"marked blocked without a word", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Blocked}}}, Inspect, Blocked, "v2's marker forbids it"},
		{"a marker of neither word is no permission", []Intervening{{Version: "v2", Marker: &Marker{Rollback: "odd"}}}, Allow, Blocked, "forbids it"},
		{"an unreadable marker may be one that forbids", []Intervening{{Version: "v2", MarkerErr: unreadable}}, Allow, Blocked, "v2: line 1"},

		{"inspect: no new migrations", []Intervening{{Version: "v2"}}, Inspect, Safe, "no new migrations: v2"},
		{"inspect: a migration that drops", []Intervening{{Version: "v2", New: []string{"a.1"}, Blocking: drop}}, Inspect, Blocked, "v1's code can't run after v2's migrations: a.1: RemoveField order.legacy: the older code selects it"},
		{"inspect: several", []Intervening{{Version: "v2", New: []string{"a.1"}, Blocking: append(drop, drop...)}}, Inspect, Blocked, "selects it; and 1 more"},
		{"inspect: new ones that do no harm", []Intervening{{Version: "v2", New: []string{"a.1", "a.2"}}}, Inspect, Safe, "migrations that v1's code can live with: a.1, a.2"},
		{"marked blocked, and not applied", []Intervening{{Version: "v2", Marker: &Marker{Rollback: Blocked, Migrations: []string{"a.1"}}, Unapplied: true}}, Inspect, Safe, "not applied to the database"},
		{"inspect: not known", []Intervening{{Version: "v2", Err: errUnknown}}, Inspect, Blocked, "can't be compared"},
		{"no policy is inspect", []Intervening{{Version: "v2", Blocking: drop}}, "", Blocked, "a.1"},
		{"allow: new migrations", []Intervening{{Version: "v2", Blocking: drop}}, Allow, Safe, `no_marker = "allow": v2`},
		{"block: no migrations", []Intervening{{Version: "v2"}}, Block, Blocked, `no_marker = "block"`},

		{"one that blocks is enough", []Intervening{
			{Version: "v4", Marker: &Marker{Rollback: Safe}}, {Version: "v3"}, {Version: "v2", Marker: &Marker{Rollback: Blocked}},
		}, Inspect, Blocked, "v2's marker"},
		{"the first that blocks is named", []Intervening{
			{Version: "v3", Blocking: drop}, {Version: "v2", Marker: &Marker{Rollback: Blocked}},
		}, Inspect, Blocked, "after v3's migrations"},
		{"all of them safe, each for its reason", []Intervening{{Version: "v3"}, {Version: "v2", Marker: &Marker{Rollback: Safe}}}, Inspect, Safe, "marked safe: v2; no new migrations: v3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := Decide("v1", c.crossed, c.policy)
			if w.Version != "v1" || w.Verdict != c.want || !strings.Contains(w.Reason, c.reason) {
				t.Errorf("Decide() = %+v, want %s: …%s…", w, c.want, c.reason)
			}
		})
	}
}
