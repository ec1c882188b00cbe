package unit

import (
	"math"
	"testing"
)

// ranCommand is a command as systemd shows it: a(sasbttttuii).
func ranCommand(line []string, started, ended uint64, code, status int32) []any {
	return []any{line[0], line, false, started, started, ended, ended, uint32(7), code, status}
}

func TestPhase(t *testing.T) {
	const second = uint64(1_000_000)
	pre := [][]any{
		ranCommand([]string{"/bin/first"}, 5, 6, cldExited, 0),
		ranCommand([]string{"/bin/sh", "/srv/app/wait-for", "postgres://u:secret@db"}, 7, 0, 0, 0),
	}
	for name, test := range map[string]struct {
		p    map[string]any
		want string
	}{
		"old requests": {
			map[string]any{"SubState": "stop-sigterm", "TimeoutStopUSec": 150 * second},
			"stops: its processes may finish what they are doing (TimeoutStopSec= allows 2m30s)",
		},
		"without a limit": {
			map[string]any{"SubState": "stop-sigterm", "TimeoutStopUSec": uint64(math.MaxUint64)},
			"stops: its processes may finish what they are doing (TimeoutStopSec= sets no limit)",
		},
		"ExecStartPre": {
			map[string]any{"SubState": "start-pre", "ExecStartPre": pre, "TimeoutStartUSec": 600 * second},
			"starts: ExecStartPre=/bin/sh /srv/app/wait-for runs (TimeoutStartSec= allows 10m0s)",
		},
		"notify": {
			map[string]any{"SubState": "start", "Type": "notify", "TimeoutStartUSec": 90 * second},
			"starts: it has not said yet that it is ready (TimeoutStartSec= allows 1m30s)",
		},
		"oneshot": {
			map[string]any{"SubState": "start", "Type": "oneshot", "ExecStart": [][]any{ranCommand([]string{"/bin/x"}, 1, 0, 0, 0)}},
			"starts: ExecStart=/bin/x runs",
		},
		"a mount":          {map[string]any{"SubState": "mounting", "ActiveState": "activating"}, "starts"},
		"running":          {map[string]any{"SubState": "running", "ActiveState": "active"}, ""},
		"nothing is known": {nil, ""},
	} {
		if got := phase(test.p); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// A version that was never started has not failed: what counts is whether the unit's program was executed.
func TestRan(t *testing.T) {
	at := func(us uint64) map[string]any { return map[string]any{"ExecMainStartTimestampMonotonic": us} }
	forking := func(us uint64) map[string]any {
		return map[string]any{"ExecStart": [][]any{ranCommand([]string{"/bin/x"}, us, 0, 0, 0)}}
	}
	for name, test := range map[string]struct {
		before, after map[string]any
		want          bool
	}{
		"the old process is still there":     {at(5), at(5), false},
		"ExecStartPre= runs":                 {at(5), at(0), false},
		"it was started":                     {at(5), at(9), true},
		"for the first time":                 {at(0), at(9), true},
		"it didn't run and doesn't":          {at(0), at(0), false},
		"forking, main process not known":    {forking(5), forking(9), true},
		"forking, old process":               {forking(5), forking(5), false},
		"forking, what it was is forgotten":  {forking(5), forking(0), false},
		"the old process ended":              {at(5), forking(5), false},
		"systemd has forgotten, by a reload": {forking(5), at(0), false},
	} {
		if got := ran(test.before, test.after); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestFailedCommand(t *testing.T) {
	failing := ranCommand([]string{"/bin/check"}, 1, 2, cldExited, 3)
	ignored := ranCommand([]string{"/bin/ignored"}, 1, 2, cldExited, 1)
	ignored[2] = true
	p := map[string]any{"ExecStartPre": [][]any{ranCommand([]string{"/bin/good"}, 1, 2, cldExited, 0), ignored, failing}}
	c, setting := firstFailed(p, "ExecCondition", "ExecStartPre")
	if setting != "ExecStartPre" || c.name != "/bin/check" || c.String() != "exit status 3" {
		t.Errorf("%s %q: %s", setting, c.name, c)
	}
	if c := (command{ended: 1, code: 2, status: 15}); !c.failed() || c.String() != "signal 15" {
		t.Errorf("killed: %t, %s", c.failed(), c)
	}
	if _, setting := firstFailed(p, "ExecStop"); setting != "" {
		t.Error(setting)
	}
}
