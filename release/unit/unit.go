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
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
)

// rereadLimit bounds a reload of systemd itself, which runs every generator.
const rereadLimit = time.Minute

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
