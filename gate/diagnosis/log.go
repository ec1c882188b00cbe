package diagnosis

import (
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
)

// A log is bounded before a rule sees it: the app writes it, and may write anything. Of what is longer the beginning and the
// end count, since the first crash says the most, and the last lines say how it is now.
const (
	maxLog  = 1 << 20 // bytes
	maxLine = 8 << 10 // bytes
	perLine = 64      // bytes that one counts beyond its text
)

// index is what rules ask of the whole log, found in one pass.
type index struct {
	timeouts  map[string]time.Time // when gunicorn first gave up on a worker, by its pid
	processes map[string]bool      // the pids that the log knows
	exception *traceback
}

var (
	timedOutPID = regexp.MustCompile(`WORKER TIMEOUT \(pid:\s*(\d+)\)`)
	number      = regexp.MustCompile(`\b\d+\b`)
)

// read bounds the log and goes through it, before rules are tried.
func (f *Facts) read() {
	f.Log = bounded(f.Log)
	f.index = &index{timeouts: map[string]time.Time{}, processes: map[string]bool{}}
	for l := range f.backward() {
		if m := timedOutPID.FindStringSubmatch(l.Text); m != nil {
			f.index.timeouts[m[1]] = l.At
		}
		if l.PID != 0 {
			f.index.processes[strconv.Itoa(l.PID)] = true
		}
		if strings.Contains(l.Text, "orker") {
			for _, pid := range number.FindAllString(l.Text, -1) {
				f.index.processes[pid] = true
			}
		}
	}
	f.index.exception = f.findException()
}

// bounded is the beginning of a log and its end.
func bounded(log []gate.LogLine) []gate.LogLine {
	size := func(l gate.LogLine) int { return min(len(l.Text), maxLine) + perLine }
	first, last, left := 0, len(log), maxLog/2
	for ; first < len(log) && left > 0; first++ {
		left -= size(log[first])
	}
	for left = maxLog / 2; last > first && left > 0; last-- {
		left -= size(log[last-1])
	}
	kept := slices.Concat(log[:first], log[last:])
	for i, l := range kept {
		if len(l.Text) > maxLine {
			kept[i].Text = strings.ToValidUTF8(l.Text[:maxLine], "")
		}
	}
	return kept
}

// backward goes through the log from its end. Whoever does so for each of its lines takes minutes for a long one: see
// index.
func (f *Facts) backward() iter.Seq[gate.LogLine] {
	return func(yield func(gate.LogLine) bool) {
		for _, l := range slices.Backward(f.Log) {
			f.visits++
			if !yield(l) {
				return
			}
		}
	}
}

// exception is the one that says why the app fails.
func (f *Facts) exception() *traceback { return f.index.exception }
