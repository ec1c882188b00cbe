package diagnosis

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"deploygate/gate"
)

// outOfMemory: systemd says so of the unit, the kernel of one of its processes, or gunicorn takes a SIGKILL for it that
// neither it nor, as far as the kernel's log can be read, anything but the kernel has sent.
func outOfMemory(f *Facts) *match {
	if f.Unit.State.Result == "oom-kill" {
		return newMatch().with("systemd", f.Unit.Name+": Result=oom-kill")
	}
	const byOOMKiller = "fe6faa94e7774663a0da52717891d8ef" // systemd's message catalogue
	for l := range f.backward() {
		if l.MessageID == byOOMKiller {
			return newMatch().with(f.source(l.At), l.Text)
		}
	}
	for _, l := range f.Killed {
		if pid := killedPID.FindStringSubmatch(l.Text); pid != nil && f.index.processes[pid[1]] {
			return newMatch().with("kernel at "+l.At.Format(time.TimeOnly), l.Text)
		}
	}
	return logged(`Worker \(pid:\s*(?P<pid>\d+)\) was sent SIGKILL! Perhaps out of memory\?`, notItsOwnKill, recently)(f)
}

var killedPID = regexp.MustCompile(`Killed process (\d+)`)

// notItsOwnKill: gunicorn kills workers that time out, with SIGABRT and then SIGKILL; that is no crash.
func notItsOwnKill(f *Facts, l gate.LogLine, m *match) bool {
	if at, timedOut := f.index.timeouts[m.words["pid"]]; timedOut && !at.After(l.At) {
		return false
	}
	if n, err := strconv.Atoi(m.words["how"]); err == nil {
		m.words["how"] = "killed by signal " + strconv.Itoa(n)
	} else if m.words["how"] != "" {
		m.words["how"] = "killed by " + m.words["how"]
	}
	return recently(f, l, m)
}

// workerTimeout: gunicorn itself has killed a worker.
var workerTimeout = logged(`WORKER TIMEOUT \(pid:\s*(?P<pid>\d+)\)`, recently)

// recent is how long before the first request a worker's end still counts as of now.
const recent = 2 * time.Minute

func recently(f *Facts, l gate.LogLine, _ *match) bool { return !l.At.Before(f.Asked.Add(-recent)) }

// cutOff: a worker exited, which counts only where the app closed a connection without an answer or has none to give.
func cutOff(f *Facts, l gate.LogLine, m *match) bool {
	m.words["how"] = "exited with status " + m.words["how"]
	return recently(f, l, m) && f.closes()
}

// closes reports whether a request was cut off without an answer. One that began is the app's: its worker lives.
func (f *Facts) closes() bool {
	return f.Direct.err() != nil && f.Direct.Answer.Status == 0 && !f.Direct.Answer.Timeout && !isErrno(f.Direct.err())
}

func isErrno(err error) bool {
	var n syscall.Errno
	return errors.As(err, &n) && n != syscall.ECONNRESET && n != syscall.EPIPE
}

var booting = regexp.MustCompile(`Booting worker with pid: (\d+)`)

// replaced: gunicorn 20 says nothing of a worker that exits or is killed, but boots another.
func replaced(f *Facts) *match {
	if !f.closes() || workerTimeout(f) != nil {
		return nil
	}
	for l := range f.backward() {
		if !booting.MatchString(l.Text) || l.At.Before(f.Asked) {
			continue
		}
		return newMatch("how", "a request ends without an answer, and a new worker is booted").
			with("http", f.Direct.Answer.Err.Error()).with(f.source(l.At), l.Text)
	}
	return nil
}

func result(name string) proof {
	return func(f *Facts) *match {
		if f.Unit.State.Result != name {
			return nil
		}
		return newMatch().with("systemd", f.Unit.Name+": Result="+name)
	}
}

// ended: the unit isn't up any more.
func ended(f *Facts, _ gate.LogLine, _ *match) bool {
	return f.Unit.State.ActiveState == "failed" || f.Unit.State.ActiveState == "inactive"
}

// stopped: it ended without a failure, was never started, or was killed.
func stopped(f *Facts) *match {
	st := f.Unit.State
	m := newMatch("killed", "").with("systemd", fmt.Sprintf("%s: %s (%s), Result=%s", f.Unit.Name, st.ActiveState, st.SubState, st.Result))
	switch {
	case st.ActiveState == "inactive", st.ActiveState == "deactivating" && st.Result == "success":
		return m
	case st.ActiveState == "failed" && st.Result == "signal" && !f.Replaced: // else starting it again is no way out
		m.words["killed"] = fmt.Sprintf(": it was killed by signal %d", st.ExecMainStatus)
		return m
	}
	return nil
}

// up: the unit runs, so that what its socket shows is no consequence of its end.
func (f *Facts) up() bool { return f.Unit.State.ActiveState == "active" && !f.restarted() }

// restarted: systemd has started it again by itself a short time ago, so that it may be about to crash once more.
func (f *Facts) restarted() bool {
	st := f.Unit.State
	return st.NRestarts > 0 && !st.Started.IsZero() && f.Asked.Sub(st.Started) < recent
}

// logRead: no crash is in the log, since it was read.
func logRead(f *Facts) *match {
	if f.LogUnread {
		return nil
	}
	return newMatch()
}
