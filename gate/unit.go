package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// LogLine is one line that a process, or systemd about the unit, logged.
type LogLine struct {
	At         time.Time // the journal's own
	PID        int       // of the process that logged it; 1 is systemd
	Invocation string    // the start of the unit that it belongs to, as UnitState.InvocationID
	MessageID  string    // of systemd's message catalogue, mostly ""
	Text       string
}

// UnitState is one look at the app's systemd unit and its processes (org.freedesktop.systemd1(5) names the
// properties).
type UnitState struct {
	Unit           string // its name
	ActiveState    string
	SubState       string
	Result         string
	StatusText     string
	InvocationID   string // hexadecimal; changes with every start
	MainPID        int
	NRestarts      int // automatic restarts
	ExecMainStatus int // exit status or signal of the last main process
	Started        time.Time
	// Begun is when this start of the unit began, since the machine booted; 0 unknown.
	Begun     time.Duration
	Now       time.Duration // when this was looked at
	Processes []Process
}

// Process is one process of the unit.
type Process struct {
	PID int
	Dir string // working directory as /proc/PID/cwd shows it; "" where it can't be read

	Parent int
	Born   time.Duration // since the machine booted; 0 unknown
	Exe    string        // the program that it runs; "" unknown
}

// Target is what the unit must be running.
type Target struct {
	Version string
	// Dir is the release's directory with every link resolved.
	Dir string
	// Releases is the directory of all releases, resolved.
	Releases string
	// InDir: the unit's working directory goes through the live link, so its processes must be below Dir.
	InDir bool
	// Socket: a .socket unit listens, so that the service manager is at the other end, and not the app.
	Socket bool
	// Previous is the invocation before the restart, which must be gone. "" where nothing was restarted.
	Previous string
	// Reloaded are the processes that were there before a reload; nil where there was none. One that came after it has to
	// run the release.
	Reloaded []int

	// The start that is gated, from the first look at it: any later one is a crash.
	invocation string
	restarts   int
}

// begin takes the first look that isn't one at the process from before the restart. Its NRestarts need not be 0: where
// the last release was crashing, systemd's own restart may come between the reset and ours, and is counted.
func (e *Target) begin(st UnitState) {
	if e.invocation == "" && st.InvocationID != e.Previous {
		e.invocation, e.restarts = st.InvocationID, st.NRestarts
	}
}

// Dormant reports whether the unit is stopped behind a socket unit, so that it would be started by being asked.
func (st UnitState) Dormant(e Target) bool { return e.Socket && st.ActiveState == "inactive" }

// Crash returns the finding that ends the wait at once: the unit failed, was stopped, or systemd has started it again
// since the gate began. It gives nil while the unit may still become healthy.
func Crash(st UnitState, e Target) *Finding {
	var what string
	switch {
	case st.ActiveState == "failed":
		what = "failed"
	case strings.HasPrefix(st.SubState, "auto-restart"), // 254 and later have auto-restart-queued
		st.ActiveState == "deactivating" && st.Result != "success":
		what = "crashed"
	case st.ActiveState == "inactive", st.ActiveState == "deactivating":
		f := NewFinding(LayerService, ServiceStopped, st.Unit+" was stopped while its health was awaited").
			With("systemd", st.String()).Advise("find out who stopped it: journalctl -u " + st.Unit + " -n 50")
		f.State = &st
		return f
	case e.invocation != "" && st.InvocationID != e.invocation, st.NRestarts > e.restarts:
		what = "crashed"
	default:
		return nil
	}
	f := NewFinding(LayerApp, Unknown, st.Unit+" "+what)
	switch st.Result {
	case "start-limit-hit":
		f.Layer, f.Cause, f.Summary = LayerService, StartLimitHit, st.Unit+" crashed too often and systemd has given up"
	case "oom-kill":
		f.Layer, f.Cause, f.Summary = LayerResources, OOM, st.Unit+" ran out of memory and was killed"
	case "exit-code":
		f.Summary += fmt.Sprintf(" (exit status %d)", st.ExecMainStatus)
	case "signal", "core-dump":
		f.Summary += fmt.Sprintf(" (signal %d)", st.ExecMainStatus)
	}
	f.State = &st
	return f.With("systemd", st.String())
}

// String is the state as systemctl shows it.
func (st UnitState) String() string {
	s := fmt.Sprintf("%s: %s (%s), Result=%s, NRestarts=%d", st.Unit, st.ActiveState, st.SubState, st.Result, st.NRestarts)
	if st.StatusText != "" {
		s += ", Status=" + st.StatusText
	}
	return s
}

// Proof says why it is not yet certain that the unit runs the expected release, or nil. answeredBy is the process on
// the other end of the socket that just answered, 0 where the kernel doesn't tell.
func Proof(st UnitState, e Target, answeredBy int) *Finding {
	switch {
	case st.ActiveState != "active":
		return NewFinding(LayerService, Unknown, fmt.Sprintf("%s is %s (%s)", st.Unit, st.ActiveState, st.SubState)).
			With("systemd", st.String())
	case st.MainPID == 0:
		return NewFinding(LayerService, Unknown, st.Unit+" has no main process").With("systemd", st.String())
	case e.Previous != "" && st.InvocationID == e.Previous:
		return NewFinding(LayerRelease, OldReleaseRunning, st.Unit+" still runs the process from before the restart").
			With("systemd", fmt.Sprintf("MainPID=%d, InvocationID=%s", st.MainPID, st.InvocationID))
	}
	for _, p := range st.Processes {
		if slices.Contains(e.Reloaded, p.PID) && p.PID != st.MainPID {
			continue // it may end what it was doing, and takes nothing new
		}
		if under(p.Dir, e.Releases) && !under(p.Dir, e.Dir) {
			return NewFinding(LayerRelease, OldReleaseRunning,
				fmt.Sprintf("process %d of %s runs in %s instead of %s", p.PID, st.Unit, p.Dir, e.Dir)).
				With(fmt.Sprintf("/proc/%d/cwd", p.PID), p.Dir).
				Advise("systemctl restart " + st.Unit)
		}
		if e.InDir && p.PID == st.MainPID && !under(p.Dir, e.Dir) {
			return NewFinding(LayerRelease, Unknown,
				fmt.Sprintf("the main process of %s runs in %s, not in %s", st.Unit, orUnreadable(p.Dir), e.Dir)).
				With(fmt.Sprintf("/proc/%d/cwd", p.PID), p.Dir)
		}
	}
	return strayAnswer(st, e, answeredBy)
}

// Unread returns the finding that a reload had no effect: a process that it started runs another release, as does the main
// process, which starts them. The processes from before it may still end what they were doing, with helpers of their own.
func Unread(st UnitState, e Target) *Finding {
	main := func(p Process) bool { return p.PID == st.MainPID && under(p.Dir, e.Dir) }
	if e.Reloaded == nil || slices.ContainsFunc(st.Processes, main) {
		return nil
	}
	for _, p := range st.Processes {
		if !slices.Contains(e.Reloaded, p.PID) && under(p.Dir, e.Releases) && !under(p.Dir, e.Dir) {
			f := NewFinding(LayerRelease, OldReleaseRunning,
				fmt.Sprintf("the reload of %s re-read the old release: process %d, which it started, runs in %s", st.Unit, p.PID, p.Dir)).
				With(fmt.Sprintf("/proc/%d/cwd", p.PID), p.Dir).
				Advise(`set service.action = "restart"`).
				Advise("or give gunicorn --chdir with the link's own path, which it follows again at each reload")
			f.State = &st
			return f
		}
	}
	return nil
}

// under reports whether dir is base or below it. A directory that was deleted (and maybe uploaded again) under a running
// process shows as "… (deleted)" and is not.
func under(dir, base string) bool {
	return base != "" && !strings.HasSuffix(dir, " (deleted)") && (dir == base || strings.HasPrefix(dir, base+"/"))
}

func orUnreadable(dir string) string {
	if dir == "" {
		return "a directory that can't be read"
	}
	return dir
}
