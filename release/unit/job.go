package unit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"deploygate/gate"
)

// Restart restarts the unit and waits for systemd's job. It first forgets earlier failures, since a start limit that
// the last release hit would refuse this one.
//
// A limit of 0 leaves it to systemd how long that may take: it ends each part of it by the unit's own timeouts, and those of
// the units that stop and start with it. A job that exceeds the limit is not taken back. The error is a *gate.Finding, which
// says whether the unit's program was started at all, or the context's cause.
//
// With kill, what runs is killed as soon as systemd has asked it to end, for what hangs doesn't. It isn't stopped first: the
// units that stop with it would stay stopped.
func (u Unit) Restart(ctx context.Context, limit time.Duration, kill bool, say gate.Progress) error {
	if kill {
		defer u.hasten(ctx)()
	}
	return u.change(ctx, limit, "restart", say, func(ctx context.Context, conn *sd.Conn, done chan<- string) error {
		_ = conn.ResetFailedUnitContext(ctx, u.name) // a unit that was never loaded has nothing to forget
		u.revive(ctx, conn)
		_, err := conn.RestartUnitContext(ctx, u.name, "replace", done)
		return err
	})
}

// revive starts the socket units in front of the unit again that have failed: a release that crashed often enough took
// them with it (systemd.socket(5), TriggerLimitBurst=, and the service's own start limit). Where that fails the restart
// shows it.
func (u Unit) revive(ctx context.Context, conn *sd.Conn) {
	p, err := conn.GetUnitPropertyContext(ctx, u.name, "TriggeredBy")
	if err != nil {
		return
	}
	units, _ := p.Value.Value().([]string)
	for _, name := range units {
		state, err := conn.GetUnitPropertyContext(ctx, name, "ActiveState")
		if err != nil || state.Value.Value() != "failed" || !strings.HasSuffix(name, ".socket") {
			continue
		}
		_ = conn.ResetFailedUnitContext(ctx, name)
		done := make(chan string, 1)
		if _, err := conn.StartUnitContext(ctx, name, "replace", done); err == nil {
			_, _ = u.m.Unit(name).await(ctx, conn, done)
		}
	}
}

// Reload has the unit re-read its configuration (ExecReload=) and waits for systemd's job, as Restart does. That it is done
// says nothing of what the processes have read.
func (u Unit) Reload(ctx context.Context, limit time.Duration, say gate.Progress) error {
	return u.change(ctx, limit, "reload", say, func(ctx context.Context, conn *sd.Conn, done chan<- string) error {
		_, err := conn.ReloadUnitContext(ctx, u.name, "replace", done)
		return err
	})
}

// change has systemd do a job and waits for its end, or for that of ctx or limit.
func (u Unit) change(ctx context.Context, limit time.Duration, what string, say gate.Progress, job func(context.Context, *sd.Conn, chan<- string) error) error {
	limited, cancel := ctx, context.CancelFunc(func() {})
	if limit > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, limit, errLimit)
	}
	defer cancel()
	before, err := u.properties(limited)
	result := ""
	if err == nil {
		told := u.tell(limited, say)
		result, err = u.do(limited, before, what, job)
		told()
	}
	switch {
	case err == nil && result == "done":
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && limited.Err() != nil:
		err = errLimit
	}
	return u.unchanged(ctx, before, limit, what, result, err)
}

var errLimit = errors.New("it took too long")

// unchanged explains a job that didn't do what it should: err says why there is no result, and before is nil where there was no
// job at all.
func (u Unit) unchanged(ctx context.Context, before map[string]any, limit time.Duration, what, result string, err error) *gate.Finding {
	after, unseen := u.properties(ctx)
	seen := before == nil || unseen == nil
	started := before != nil && seen && ran(before, after)
	var f *gate.Finding
	switch {
	case errors.Is(err, errLimit):
		f = gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("%s did not %s within %s (service.restart_timeout)", u.name, what, limit))
		if now := u.waitsFor(ctx); now != "" {
			f.Summary += ": " + now
		}
		f.Advise("make service.restart_timeout longer, or leave it out: then the unit's own timeouts count").Advise("systemctl status " + u.name)
	case err != nil:
		f = gate.AsFinding(gate.LayerService, err)
	default:
		f = u.failed(ctx, after, started, what, result)
	}
	f.NeverStarted = seen && !started && f.State == nil && what == "restart"
	return f
}

// do gives systemd a job and waits for its result. A call without an answer may have been lost on its way or not: it is made
// again, unless the unit shows that it has arrived.
func (u Unit) do(ctx context.Context, before map[string]any, what string, job func(context.Context, *sd.Conn, chan<- string) error) (result string, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, _, err := u.m.dialled()
		if err != nil {
			return "", err
		}
		done := make(chan string, 1) // go-systemd sends under its lock: an unbuffered channel blocks it
		if err = job(ctx, conn, done); err == nil {
			return u.await(ctx, conn, done)
		}
		if !unanswered(err) {
			return "", u.refused(what, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
		now, err := u.properties(ctx)
		if err != nil {
			return "", err
		}
		if queued(now) || !bytes.Equal(get[[]byte](now, "InvocationID"), get[[]byte](before, "InvocationID")) {
			return u.settled(ctx)
		}
	}
}

// unanswered reports whether a call failed since there was nobody to answer it: the connection broke, or systemd left the bus
// meanwhile, as it does when it is re-executed.
func unanswered(err error) bool {
	de, ok := errors.AsType[dbus.Error](err)
	return !ok || de.Name == "org.freedesktop.DBus.Error.NoReply"
}

// failed explains a job by its result and the unit's properties. The finding has the unit's State only where what was started
// is to blame: its program, or a command that comes before it.
func (u Unit) failed(ctx context.Context, p map[string]any, started bool, what, result string) *gate.Finding {
	f := gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("systemd could not %s %s: the job's result is %q", what, u.name, result))
	st, err := u.State(ctx)
	switch pre, failed := firstFailed(p, "ExecCondition", "ExecStartPre"); {
	case result == "dependency":
		f.Summary = fmt.Sprintf("%s was not started, since a unit that it needs could not be started%s", u.name, u.missing(ctx, p))
	case started:
		if crash := gate.Crash(st, gate.Target{}); err == nil && crash != nil {
			f = crash
		}
	case failed != "" && get[string](p, "Result") == "timeout":
		f.Summary = fmt.Sprintf("%s was not started: its %s=%s took too long "+
			"and was stopped%s", u.name, failed, pre.name, allows(p, "TimeoutStartUSec", "TimeoutStartSec"))
	case failed != "":
		f.Summary = fmt.Sprintf("%s was not started: its %s=%s failed (%s)", u.name, failed, pre.name, pre)
		f.State = &st
	case err == nil:
		f.Summary += fmt.Sprintf("; it is %s (%s)", st.ActiveState, st.SubState)
	}
	return f.Advise("journalctl -u " + u.name + " -n 50")
}

// firstFailed finds the command of some settings that failed.
func firstFailed(p map[string]any, settings ...string) (command, string) {
	for _, name := range settings {
		for _, c := range lastRuns(p, name) {
			if c.failed() {
				return c, name
			}
		}
	}
	return command{}, ""
}

// missing names the units that the unit needs and that don't run.
func (u Unit) missing(ctx context.Context, p map[string]any) string {
	var names []string
	for _, needs := range []string{"Requires", "BindsTo", "Requisite"} {
		for _, name := range get[[]string](p, needs) {
			other, err := u.m.Unit(name).properties(ctx)
			if state := get[string](other, "ActiveState"); err == nil && state != "active" && state != "reloading" {
				names = append(names, name+" ("+state+")")
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ": " + strings.Join(slices.Compact(names), ", ")
}

// ended is the result of a job whose end nobody has seen and whose unit doesn't run any more: for a command that may be as it
// should.
const ended = "inactive"

// await waits for a job's result. If D-Bus goes away meanwhile the result never comes: then the unit shows how it ended.
func (u Unit) await(ctx context.Context, conn *sd.Conn, done <-chan string) (string, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case result := <-done:
			return result, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-tick.C:
			if !conn.Connected() {
				return u.settled(ctx)
			}
		}
	}
}

// silence is how long systemd may give no answer until it isn't waited for any more.
const silence = time.Minute

// settled waits until the unit has no job, and gives what has become of it as the result of the last one.
func (u Unit) settled(ctx context.Context) (string, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	seen := time.Now()
	for {
		p, err := u.properties(ctx)
		switch {
		case err == nil:
			seen = time.Now()
		case time.Since(seen) > silence:
			return "", err
		}
		if err == nil && !queued(p) {
			switch state := get[string](p, "ActiveState"); state {
			case "active":
				return "done", nil
			case "failed", ended:
				return state, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// queued reports whether a job waits or runs for the unit: its Job property is (0, "/") otherwise.
func queued(p map[string]any) bool { return job(p) != 0 }
