package diagnosis

import (
	"strings"
	"testing"
	"time"

	"deploygate/gate"
)

func TestAUnitFlaps(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	const stop = true
	// log has systemd's restarts, so long before now, and stops by hand.
	log := func(events ...any) (lines []gate.LogLine) {
		for _, e := range events {
			switch e := e.(type) {
			case time.Duration:
				lines = append(lines, gate.LogLine{At: now.Add(-e), MessageID: ScheduledRestart})
			default:
				lines = append(lines, gate.LogLine{At: now.Add(-time.Second), MessageID: Stopping})
			}
		}
		return lines
	}
	for _, c := range []struct {
		name     string
		restarts int
		age      time.Duration // of this start
		state    string
		log      []gate.LogLine
		unread   bool
		says     string // "" is nothing
	}{
		{"never", 0, time.Hour, "active", nil, false, ""},
		{"crashed once just now", 1, time.Second, "active", log(time.Second), false, ""},
		{"twice, long ago", 2, time.Hour, "active", log(2*time.Hour, time.Hour), false, ""},
		{"once a day, and just now", 40, time.Second, "active", log(time.Second), false, ""},
		{"every 30 s for 2 minutes", 4, 20 * time.Second, "active", log(110*time.Second, 80*time.Second, 50*time.Second, 20*time.Second), false, "4 times in 1m50s, the last 20s ago"},
		{"every 4 minutes", 9, 3 * time.Minute, "active", log(7*time.Minute, 3*time.Minute), false, "2 times in 7m0s"},
		{"twice, and well since", 2, time.Minute, "active", log(65*time.Second, time.Minute), false, ""},
		{"three times with one long life, which this one hasn't reached", 3, time.Minute, "active", log(100*time.Second, 61*time.Second, time.Minute), false, "3 times"},
		{"restarted by hand since", 2, 3 * time.Second, "active", log(50*time.Second, 20*time.Second, stop), false, ""},
		{"by hand, and then again", 4, time.Second, "active", log(50*time.Second, 40*time.Second, stop, 9*time.Second, time.Second), false, "2 times in 9s"},
		{"down at this moment: that is a crash", 4, time.Second, "activating", log(50*time.Second, 20*time.Second), false, ""},
		{"nothing in its log", 4, time.Second, "active", nil, false, ""},

		{"unread: often, and just now", 40, 5 * time.Second, "active", nil, true, "40 times, the last 5s ago"},
		{"unread: often, and well since", 40, time.Hour, "active", nil, true, ""},
		{"unread: twice is no habit", 2, 5 * time.Second, "active", nil, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := gate.UnitState{Unit: "shop.service", ActiveState: c.state, NRestarts: c.restarts, Started: now.Add(-c.age)}
			f := Flaps(st, c.log, !c.unread, now)
			if (f == nil) != (c.says == "") || f != nil && (!strings.Contains(f.Summary, c.says) || f.State == nil || f.Layer != gate.LayerApp) {
				t.Errorf("Flaps() = %+v, want …%s…", f, c.says)
			}
		})
	}
}
