package rollback

import (
	"errors"
	"strings"
	"testing"
)

func TestDecide(t *testing.T) {
	unreadable := errors.New("line 1, column 1: unknown key")
	for _, c := range []struct {
		name    string
		crossed []Crossed
		policy  Policy
		want    Verdict
		reason  string
	}{
		{"nothing to cross", nil, Inspect, Safe, "no release went live after v1"},
		{"nothing to cross, and markers demanded", nil, Block, Safe, "no release went live after v1"},

		{"marked safe", []Crossed{{Version: "v2", Marker: &Marker{Rollback: Safe}}}, Inspect, Safe, "marked safe: v2"},
		{"marked safe, and markers demanded", []Crossed{{Version: "v2", Marker: &Marker{Rollback: Safe}}}, Block, Safe, "marked safe: v2"},
		{"the marker beats the migrations", []Crossed{{Version: "v2", Marker: &Marker{Rollback: Safe}, NewMigrations: []string{"a.1"}}}, Inspect, Safe, "marked safe"},
		{"marked blocked", []Crossed{{Version: "v2", Marker: &Marker{Rollback: Blocked, Reason: "drops x"}}}, Inspect, Blocked, "v2's marker forbids it: drops x"},
		{"marked blocked, and markers not needed", []Crossed{{Version: "v2", Marker: &Marker{Rollback: Blocked, Migrations: []string{"a.1"}}}}, Allow, Blocked, "forbids it: a.1"},
		{"marked blocked without a word", []Crossed{{Version: "v2", Marker: &Marker{Rollback: Blocked}}}, Inspect, Blocked, "v2's marker forbids it"},
		{"a marker of neither word is no permission", []Crossed{{Version: "v2", Marker: &Marker{Rollback: "odd"}}}, Allow, Blocked, "forbids it"},
		{"an unreadable marker may be one that forbids", []Crossed{{Version: "v2", MarkerErr: unreadable}}, Allow, Blocked, "v2: line 1"},

		{"inspect: no new migrations", []Crossed{{Version: "v2"}}, Inspect, Safe, "no new migrations: v2"},
		{"inspect: new migrations", []Crossed{{Version: "v2", NewMigrations: []string{"a.1", "a.2", "a.3", "a.4", "a.5"}}}, Inspect, Blocked, "a.1, a.2, a.3 and 2 more"},
		{"inspect: not known", []Crossed{{Version: "v2", MigrationsErr: errUnknown}}, Inspect, Blocked, "can't be compared"},
		{"no policy is inspect", []Crossed{{Version: "v2", NewMigrations: []string{"a.1"}}}, "", Blocked, "a.1"},
		{"allow: new migrations", []Crossed{{Version: "v2", NewMigrations: []string{"a.1"}}}, Allow, Safe, `no_marker = "allow": v2`},
		{"block: no migrations", []Crossed{{Version: "v2"}}, Block, Blocked, `no_marker = "block"`},

		{"one that blocks is enough", []Crossed{
			{Version: "v4", Marker: &Marker{Rollback: Safe}}, {Version: "v3"}, {Version: "v2", Marker: &Marker{Rollback: Blocked}},
		}, Inspect, Blocked, "v2's marker"},
		{"the first that blocks is named", []Crossed{
			{Version: "v3", NewMigrations: []string{"a.1"}}, {Version: "v2", Marker: &Marker{Rollback: Blocked}},
		}, Inspect, Blocked, "v3 has no marker"},
		{"all of them safe, each for its reason", []Crossed{{Version: "v3"}, {Version: "v2", Marker: &Marker{Rollback: Safe}}}, Inspect, Safe, "marked safe: v2; no new migrations: v3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := Decide("v1", c.crossed, c.policy)
			if w.Version != "v1" || w.Verdict != c.want || !strings.Contains(w.Reason, c.reason) {
				t.Errorf("Decide() = %+v, want %s: …%s…", w, c.want, c.reason)
			}
		})
	}
}
