package host

import (
	"fmt"
	"testing"
	"time"

	"deploygate/gate"
	"deploygate/release/server/gunicorn"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func texts(lines []gate.LogLine) (all string) {
	for _, l := range lines {
		all += l.Text
	}
	return all
}

func stamped(ms int, invocation, text string) gate.LogLine {
	return gate.LogLine{At: noon.Add(time.Duration(ms) * time.Millisecond), Invocation: invocation, Text: text}
}

// A window in time that is a second too long, or too short, is no matter: a line counts by its start.
func TestEvidenceIsOfTheStartsThatFailed(t *testing.T) {
	lines := []gate.LogLine{
		stamped(0, "old", "1"), stamped(100, "bad", "2"), stamped(120, "old", "3"), stamped(900, "bad2", "4"), stamped(950, "", "5"),
		stamped(1001, "next", "6"), stamped(1010, "bad2", "7"), stamped(1020, "", "8"), stamped(1500, "next", "9"),
	}
	if got := texts(begunBy(lines, noon.Add(time.Second), "old")); got != "2457" {
		t.Errorf("%s, want 2457", got)
	}
	if got := texts(begunBy(lines, noon.Add(time.Hour), "")); got != "123456789" {
		t.Errorf("%s, want all", got)
	}
}

func TestEvidenceOfAFileIsOfTheStartsThatFailed(t *testing.T) {
	log := func(second, pid int, text string) gate.LogLine {
		return gate.LogLine{At: noon.Add(time.Duration(second) * time.Second), PID: pid, Text: text}
	}
	start := func(second, pid int) gate.LogLine {
		return log(second, pid, fmt.Sprintf("[x] [%d] [INFO] Starting gunicorn 23.0.0\n", pid))
	}
	lines := []gate.LogLine{
		log(-10, 1, "before\n"), start(-9, 2), log(-5, 3, "older\n"), start(5, 4), log(5, 5, "failed\n"), log(6, 4, "end\n"),
		start(6, 6), log(6, 7, "failed again\n"), start(7, 8), log(7, 9, "way back\n"),
	}
	starts := gunicorn.Server.Starts
	since, until := noon.Add(5*time.Second+500*time.Millisecond), noon.Add(7*time.Second+200*time.Millisecond)
	four, six := "[x] [4] [INFO] Starting gunicorn 23.0.0\nfailed\nend\n", "[x] [6] [INFO] Starting gunicorn 23.0.0\nfailed again\n"
	eight := "[x] [8] [INFO] Starting gunicorn 23.0.0\nway back\n"
	for name, c := range map[string]struct {
		got  []gate.LogLine
		want string
	}{
		"on trial":                      {inTrial(lines, starts(lines), since, until, 8, false), four + six},
		"nothing runs since":            {inTrial(lines, starts(lines), since, until.Add(-time.Second), 0, false), four + six},
		"reloaded":                      {inTrial(lines, starts(lines), since, noon.Add(5*time.Second+900*time.Millisecond), 0, true), "[x] [4] [INFO] Starting gunicorn 23.0.0\nfailed\n"},
		"another time":                  {inTrial(lines, starts(lines), noon.Add(time.Hour), noon.Add(2*time.Hour), 0, false), ""},
		"as it is":                      {ofState(lines, starts(lines), gate.UnitState{MainPID: 8}, until), eight},
		"as it is, after two crashes":   {ofState(lines, starts(lines), gate.UnitState{MainPID: 8, NRestarts: 2}, until), four + six + eight},
		"it ended":                      {ofState(lines, starts(lines), gate.UnitState{}, until), eight},
		"another process, long ago":     {ofState(lines, starts(lines), gate.UnitState{MainPID: 99}, noon.Add(time.Hour)), ""},
		"another process, a moment ago": {ofState(lines[:2], starts(lines[:2]), gate.UnitState{MainPID: 99}, noon), "before\n[x] [2] [INFO] Starting gunicorn 23.0.0\n"},
	} {
		if got := texts(c.got); got != c.want {
			t.Errorf("%s:\n%swant\n%s", name, got, c.want)
		}
	}
}
