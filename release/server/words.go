package server

import (
	"regexp"
	"strconv"

	"deploygate/gate"
)

// Words are what a server logs of the ends of its own processes, its workers. That processes come and go proves nothing: a
// server replaces workers that have done their share, and an app starts helpers.
type Words struct {
	// Died says that a process has failed; the first group is its pid. That it was asked to stop is no failure.
	Died []*regexp.Regexp
	// Boots says that a process begins; the first group is its pid. It is for servers that may say nothing of its end, and counts
	// only if it has ended. May be nil.
	Boots *regexp.Regexp
	// Excuses says that a process was ended for what a request did; the first group is its pid. May be nil.
	Excuses *regexp.Regexp
	// Done is said by a process that ends as it should. May be nil.
	Done *regexp.Regexp
	// Parent says that a process only starts others, which take its requests; the first group is its pid. May be nil.
	Parent *regexp.Regexp
	// Raised is said by a process that fails of itself. May be nil.
	Raised *regexp.Regexp
}

// Python is what Python says of an exception that nothing caught.
var Python = Words{Raised: regexp.MustCompile(`^Traceback \(most recent call last\):`)}

// Failures returns the processes that have failed by the words of any server, in the log's order: of each the line that says most
// of it, with its PID.
func Failures(log []gate.LogLine, words ...Words) (found []gate.LogLine) {
	excused := map[int]bool{}
	for _, l := range log {
		for _, w := range words {
			if w.Done != nil && w.Done.MatchString(l.Text) {
				excused[l.PID] = true
			}
			if pid, is := named(w.Excuses, l.Text); is {
				excused[pid] = true
			}
		}
	}
	at := map[int]int{} // by process, where in found
	for _, l := range log {
		pid, weak, says := failure(l, words)
		if !says || pid <= 1 || excused[pid] {
			continue
		}
		l.PID = pid
		i, known := at[pid]
		switch {
		case !known:
			at[pid] = len(found)
			found = append(found, l)
		case !weak:
			found[i] = l // it says more
		}
	}
	return found
}

// failure returns which process has failed by a line of the log. A weak word is one of its begin.
func failure(l gate.LogLine, words []Words) (pid int, weak, says bool) {
	for _, w := range words {
		if n, is := named(w.Boots, l.Text); is {
			return n, true, true
		}
		for _, re := range w.Died {
			if n, is := named(re, l.Text); is {
				return n, false, true
			}
		}
		says = says || w.Raised != nil && w.Raised.MatchString(l.Text)
	}
	return l.PID, false, says
}

// Parents returns the processes that only start others, by the words of any server.
func Parents(log []gate.LogLine, words ...Words) (pids []int) {
	for _, l := range log {
		for _, w := range words {
			if pid, is := named(w.Parent, l.Text); is {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func named(re *regexp.Regexp, text string) (pid int, is bool) {
	if re == nil {
		return 0, false
	}
	m := re.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	pid, err := strconv.Atoi(m[1])
	return pid, err == nil
}
