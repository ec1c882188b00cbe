package unit

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"deploygate/gate"
)

const (
	// soon is how long a job takes that nobody needs to be told about.
	soon = 2 * time.Second
	// lookAgain is how often the unit is looked at while its job takes longer.
	lookAgain = 500 * time.Millisecond
)

// tell says what the unit's job waits for, from the moment when it takes longer than most, until done is called. What can't be
// seen is not said.
func (u Unit) tell(ctx context.Context, say gate.Progress) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for pause := soon; ; pause = lookAgain {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if text := u.waitsFor(ctx); text != "" && ctx.Err() == nil {
				say(text)
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// waitsFor is what the unit's job waits for: the unit itself, or another one whose job comes first. It is "" where there is
// no job, or systemd doesn't say.
func (u Unit) waitsFor(ctx context.Context) string {
	p, err := u.properties(ctx)
	if err != nil {
		return ""
	}
	if text := phase(p); text != "" {
		return u.name + " " + text
	}
	for _, first := range u.m.before(ctx, job(p)) {
		if p, err := u.m.Unit(first.unit).properties(ctx); err == nil && first.running {
			what := phase(p)
			if what == "" {
				what = "has a job of its own: " + first.kind
			}
			return fmt.Sprintf("%s waits for %s, which %s", u.name, first.unit, what)
		}
	}
	return ""
}

// queuedJob is a job of systemd's.
type queuedJob struct {
	unit, kind string
	running    bool
}

// before returns the jobs that have to end before a job may run.
func (m *Manager) before(ctx context.Context, id uint32) (jobs []queuedJob) {
	_, raw, err := m.dialled()
	if err != nil || id == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var list []struct {
		ID                uint32
		Unit, Type, State string
		Job, Object       string
	}
	call := raw.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.GetJobBefore", 0, id)
	if call.Store(&list) != nil {
		return nil // it has ended meanwhile
	}
	for _, j := range list {
		jobs = append(jobs, queuedJob{j.Unit, j.Type, j.State == "running"})
	}
	return jobs
}

// job is the number of the unit's job, 0 without one.
func job(p map[string]any) (id uint32) {
	if j := get[[]any](p, "Job"); len(j) > 0 {
		id, _ = j[0].(uint32)
	}
	return id
}

// phase says what a unit is doing on its way from one state to another, and how long it may (systemd.service(5)). It is "" for
// one that is on no way.
func phase(p map[string]any) string {
	stop, start := allows(p, "TimeoutStopUSec", "TimeoutStopSec"), allows(p, "TimeoutStartUSec", "TimeoutStartSec")
	switch sub := get[string](p, "SubState"); sub {
	case "stop":
		return "stops: " + running(p, "ExecStop") + stop
	case "stop-sigterm":
		return "stops: its processes may finish what they are doing" + stop
	case "stop-sigkill", "final-sigkill":
		return "stops: its processes were killed and haven't ended yet"
	case "stop-watchdog", "final-watchdog", "stop-sigabrt":
		return "stops: its processes were aborted" + stop
	case "stop-post", "final-sigterm":
		return "stops: " + running(p, "ExecStopPost") + stop
	case "condition":
		return "starts: " + running(p, "ExecCondition") + start
	case "start-pre":
		return "starts: " + running(p, "ExecStartPre") + start
	case "start":
		if kind := get[string](p, "Type"); kind == "oneshot" || kind == "forking" {
			return "starts: " + running(p, "ExecStart") + start
		}
		return "starts: it has not said yet that it is ready" + start
	case "start-post":
		return "starts: " + running(p, "ExecStartPost") + start
	case "reload", "reload-signal", "reload-notify":
		return "reloads: " + running(p, "ExecReload") + start
	case "auto-restart", "auto-restart-queued":
		return "has failed, and systemd starts it again after its RestartSec="
	}
	switch get[string](p, "ActiveState") {
	case "deactivating":
		return "stops" + stop
	case "activating":
		return "starts" + start
	}
	return ""
}

// allows says how long systemd allows for something, "" where it doesn't say.
func allows(p map[string]any, property, setting string) string {
	us, ok := p[property].(uint64)
	switch {
	case !ok:
		return ""
	case us == 0 || us > math.MaxInt64/1000: // infinity is all ones
		return fmt.Sprintf(" (%s= sets no limit)", setting)
	}
	return fmt.Sprintf(" (%s= allows %s)", setting, time.Duration(us)*time.Microsecond)
}

// running names the command of a setting that runs.
func running(p map[string]any, setting string) string {
	for _, c := range lastRuns(p, setting) {
		if c.started != 0 && c.ended == 0 {
			return fmt.Sprintf("%s=%s runs", setting, c.name)
		}
	}
	return setting + "= runs"
}

// command is one of a unit's commands and how its last run went.
type command struct {
	name           string
	ignored        bool   // its failure
	started, ended uint64 // by the monotonic clock, in microseconds; 0: not yet
	code, status   int32  // as of waitid(2): si_code, si_status
}

// failed reports whether the command's last run was a failure.
func (c command) failed() bool {
	return !c.ignored && c.ended != 0 && (c.code != cldExited || c.status != 0)
}

// String says how it ended.
func (c command) String() string {
	if c.code == cldExited {
		return fmt.Sprintf("exit status %d", c.status)
	}
	return fmt.Sprintf("signal %d", c.status)
}

const cldExited = 1 // CLD_EXITED

// lastRuns reads a property of commands: a(sasbttttuii).
func lastRuns(p map[string]any, setting string) (all []command) {
	for _, c := range get[[][]any](p, setting) {
		if len(c) < 10 {
			continue
		}
		argv, _ := c[1].([]string)
		one := command{name: nameOf(argv)}
		one.ignored, _ = c[2].(bool)
		one.started, _ = c[4].(uint64)
		one.ended, _ = c[6].(uint64)
		one.code, _ = c[8].(int32)
		one.status, _ = c[9].(int32)
		all = append(all, one)
	}
	return all
}

// nameOf is the program of a command, and the script that it runs. The other arguments may hold secrets.
func nameOf(argv []string) string {
	n := min(1, len(argv))
	if len(argv) > 1 && strings.HasPrefix(argv[1], "/") {
		n = 2
	}
	return gate.Clean(strings.Join(argv[:n], " "))
}

// ran reports whether a unit's program was started between two looks at it. What was only about to be started, since the
// processes from before had not ended, or ExecStartPre= had not, was not.
func ran(before, after map[string]any) bool {
	// After a daemon-reload the commands' own times are unknown until the main process ends.
	was := map[uint64]bool{0: true, get[uint64](before, "ExecMainStartTimestampMonotonic"): true}
	if !was[get[uint64](after, "ExecMainStartTimestampMonotonic")] {
		return true
	}
	// With Type=forking the main process is known only later than its command.
	for _, c := range lastRuns(before, "ExecStart") {
		was[c.started] = true
	}
	for _, c := range lastRuns(after, "ExecStart") {
		if !was[c.started] {
			return true
		}
	}
	return false
}
