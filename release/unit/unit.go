// Package unit speaks to systemd over D-Bus: it describes, watches and restarts the app's unit, and runs hooks as
// transient units (org.freedesktop.systemd1(5)).
//
// Guaranteed: only the unit that was named is restarted; a restart counts as done only when systemd's job says done;
// a lost connection to D-Bus is dialled again and the unit's state read, since silence is not failure; a restart that was lost
// with it is asked for again.
//
// Not guaranteed: that a unit whose restart is done works. gunicorn tells systemd READY=1 before a worker has loaded
// the app; that is the gate's to find out.
package unit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
)

// Scope is which systemd manages the unit.
type Scope string

const (
	// System is PID 1.
	System Scope = "system"
	// User is the service manager of the user who runs deploygate.
	User Scope = "user"
)

// callLimit bounds one D-Bus call; systemd answers within milliseconds unless it is being re-executed.
const callLimit = 10 * time.Second

// rereadLimit bounds a reload of systemd itself, which runs every generator.
const rereadLimit = time.Minute

// Manager is a connection to systemd. It is safe for concurrent use.
type Manager struct {
	scope Scope
	life  context.Context // the connection's: a context given when dialling ends it

	mu   sync.Mutex
	conn *sd.Conn
	raw  *dbus.Conn // for what go-systemd lacks
}

// Connect dials systemd. The connection lives as long as ctx or until Close.
func Connect(ctx context.Context, scope Scope) (*Manager, error) {
	m := &Manager{scope: scope, life: ctx}
	if _, _, err := m.dialled(); err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends the connection.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
	}
}

// dialled returns the connection, made again if it was lost.
func (m *Manager) dialled() (*sd.Conn, *dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, m.raw, nil
	}
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
	conn, raw, err := m.dial()
	if err != nil {
		f := gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("cannot reach systemd (%s manager) over D-Bus: %v", m.scope, err))
		f.Unseen = true
		return nil, nil, f
	}
	m.conn, m.raw = conn, raw
	return conn, raw, nil
}

func (m *Manager) dial() (*sd.Conn, *dbus.Conn, error) {
	open := dbus.SystemBusPrivate
	if m.scope == User {
		open = dbus.SessionBusPrivate
	}
	conn, raw, err := connect(m.life, open, (*dbus.Conn).Hello)
	if err != nil && m.scope == System && os.Geteuid() == 0 {
		// systemd's own socket, for root, works while dbus-daemon is down. There is no bus, so there is no Hello.
		private := func(o ...dbus.ConnOption) (*dbus.Conn, error) {
			return dbus.Dial("unix:path=/run/systemd/private", o...)
		}
		return connect(m.life, private, func(*dbus.Conn) error { return nil })
	}
	return conn, raw, err
}

func connect(ctx context.Context, open func(...dbus.ConnOption) (*dbus.Conn, error), hello func(*dbus.Conn) error) (*sd.Conn, *dbus.Conn, error) {
	var first *dbus.Conn
	conn, err := sd.NewConnection(func() (*dbus.Conn, error) {
		c, err := open(dbus.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		// The uid in figures: a static binary must not look up names.
		if err = c.Auth([]dbus.Auth{dbus.AuthExternal(fmt.Sprint(os.Getuid()))}); err == nil {
			err = hello(c)
		}
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		if first == nil {
			first = c
		}
		return c, nil
	})
	return conn, first, err
}

// Unit is one unit of the manager.
type Unit struct {
	m    *Manager
	name string
}

// Unit returns a handle; the unit need not exist.
func (m *Manager) Unit(name string) Unit { return Unit{m, name} }

// Name is the unit's name.
func (u Unit) Name() string { return u.name }

// properties reads every property of the unit in one call. It outlasts a restart of D-Bus or of systemd itself.
func (u Unit) properties(ctx context.Context) (p map[string]any, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, _, err := u.m.dialled()
		if err == nil {
			if p, err = conn.GetAllPropertiesContext(ctx, u.name); err == nil {
				return p, nil
			}
			if !unanswered(err) {
				return nil, fmt.Errorf("cannot ask systemd about %s: %w", u.name, plain(err))
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("cannot ask systemd about %s: %w", u.name, plain(err))
		}
	}
}

// State implements gate.Unit.
func (u Unit) State(ctx context.Context) (gate.UnitState, error) {
	p, err := u.properties(ctx)
	if err != nil {
		return gate.UnitState{}, err
	}
	st := gate.UnitState{
		Unit:           u.name,
		ActiveState:    get[string](p, "ActiveState"),
		SubState:       get[string](p, "SubState"),
		Result:         get[string](p, "Result"),
		StatusText:     get[string](p, "StatusText"),
		InvocationID:   invocation(get[[]byte](p, "InvocationID")),
		MainPID:        int(get[uint32](p, "MainPID")),
		NRestarts:      int(get[uint32](p, "NRestarts")),
		ExecMainStatus: int(get[int32](p, "ExecMainStatus")),
		Started:        time.UnixMicro(int64(get[uint64](p, "ExecMainStartTimestamp"))),                    //nolint:gosec // microseconds since 1970
		Begun:          time.Duration(get[uint64](p, "InactiveExitTimestampMonotonic")) * time.Microsecond, //nolint:gosec // since the boot
	}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		st.Now = time.Duration(now.Nano())
	}
	if st.MainPID == 0 {
		return st, nil
	}
	st.Processes, err = u.processes(ctx)
	return st, err
}

// processes lists the unit's processes and where each runs. The list comes from systemd, which knows the layout of
// the control groups on this host.
func (u Unit) processes(ctx context.Context) ([]gate.Process, error) {
	list, err := u.list(ctx)
	if err != nil {
		return nil, err
	}
	var ps []gate.Process
	for _, l := range list {
		dir, err := untrusted.Readlink(fmt.Sprintf("/proc/%d/cwd", l.PID))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		}
		process, _ := socket.OfPID(int(l.PID))
		ps = append(ps, gate.Process{PID: int(l.PID), Dir: dir, Parent: process.Parent, Born: process.Born, Exe: process.Exe})
	}
	return ps, nil
}

// listed is a process as GetUnitProcesses lists it.
type listed struct {
	Cgroup  string
	PID     uint32
	Command string
}

func (u Unit) list(ctx context.Context) (list []listed, err error) {
	_, raw, err := u.m.dialled()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	call := raw.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.systemd1.Manager.GetUnitProcesses", 0, u.name)
	if err := call.Store(&list); err != nil {
		return nil, fmt.Errorf("cannot list the processes of %s: %w", u.name, plain(err))
	}
	return list, nil
}

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

// Reread has systemd read its unit files again if this unit's have changed since it did (systemctl daemon-reload), and reports
// whether they had. A unit that runs is not touched by it.
func (u Unit) Reread(ctx context.Context) (bool, error) {
	p, err := u.properties(ctx)
	if err != nil || !get[bool](p, "NeedDaemonReload") {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, rereadLimit)
	defer cancel()
	conn, _, err := u.m.dialled()
	if err == nil {
		err = conn.ReloadContext(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("cannot have systemd read its files again: %w", plain(err))
	}
	return true, nil
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

// refused explains why systemd didn't take the call.
func (u Unit) refused(what string, err error) error {
	if de, ok := errors.AsType[dbus.Error](err); ok && de.Name == "org.freedesktop.systemd1.NoSuchUnit" {
		return gate.NewFinding(gate.LayerService, gate.Unknown, "there is no unit "+u.name)
	}
	if noRight(err) {
		return gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("no right to %s %s", what, u.name)).Advise("run deploygate as root")
	}
	return gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("cannot %s %s: %v", what, u.name, plain(err)))
}

// noRight reports whether systemd didn't take a call for lack of rights.
func noRight(err error) bool {
	de, ok := errors.AsType[dbus.Error](err)
	return ok && (de.Name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" || de.Name == "org.freedesktop.DBus.Error.AccessDenied")
}

// plain takes the message out of a D-Bus error.
func plain(err error) error {
	var de dbus.Error
	if errors.As(err, &de) && len(de.Body) > 0 {
		if text, ok := de.Body[0].(string); ok {
			return errors.New(strings.TrimSuffix(text, "."))
		}
	}
	return err
}

func get[T any](p map[string]any, name string) T {
	v, _ := p[name].(T)
	return v
}

// invocation is "" before the first start, which systemd gives as no bytes or all zeroes.
func invocation(id []byte) string {
	s := hex.EncodeToString(id)
	if strings.Trim(s, "0") == "" {
		return ""
	}
	return s
}
