package host

import (
	"slices"
	"time"

	"deploygate/gate"
	"deploygate/release/server"
)

// Evidence belongs to one start of one release, or it is none. In the journal each line says by its invocation which start it
// belongs to; in a file of gunicorn's own, a start begins with a line that says so, and the master's process.

// begunBy keeps the lines of the starts that began until a moment, but for one start, and what was said of none until then.
// Lines of a later start may be older than the last of an earlier one.
func begunBy(lines []gate.LogLine, until time.Time, not string) []gate.LogLine {
	began := map[string]time.Time{}
	for _, l := range lines {
		if at, known := began[l.Invocation]; !known || l.At.Before(at) {
			began[l.Invocation] = l.At
		}
	}
	return slices.DeleteFunc(slices.Clone(lines), func(l gate.LogLine) bool {
		if l.Invocation == "" {
			return l.At.After(until)
		}
		return l.Invocation == not || began[l.Invocation].After(until)
	})
}

// inTrial keeps what a server logged to a file in the starts of a release on trial: those that began in its time, and not the
// one of the process that runs since.
func inTrial(lines []gate.LogLine, starts []server.Start, since, until time.Time, runs int, reloaded bool) (kept []gate.LogLine) {
	if reloaded { // its master began before
		return within(lines, since, until)
	}
	for _, s := range starts {
		if !s.At.Before(since.Truncate(time.Second)) && !s.At.After(until) && (runs == 0 || s.PID != runs) {
			kept = append(kept, s.Lines...)
		}
	}
	return kept
}

// ofState keeps what a server logged to a file in the start that st is about, and in the crashed ones before it, which
// NRestarts counts. Where the file doesn't tell, the last minute counts.
func ofState(lines []gate.LogLine, starts []server.Start, st gate.UnitState, now time.Time) (kept []gate.LogLine) {
	last := len(starts) - 1
	for last >= 0 && st.MainPID != 0 && starts[last].PID != st.MainPID {
		last--
	}
	if last < 0 {
		return within(lines, now.Add(-time.Minute), now.Add(time.Second))
	}
	for _, s := range starts[max(0, last-st.NRestarts):] {
		kept = append(kept, s.Lines...)
	}
	return kept
}

// within keeps the lines of a time, whose begin is as exact as the lines': to the second.
func within(lines []gate.LogLine, since, until time.Time) []gate.LogLine {
	return slices.DeleteFunc(slices.Clone(lines), func(l gate.LogLine) bool {
		return l.At.Before(since.Truncate(time.Second)) || l.At.After(until)
	})
}
