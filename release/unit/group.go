package unit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"deploygate/gate"
)

// Own lists the units that this process is in, outermost first: its service or scope, and where that one is a user's, the
// service of the user's own manager before it. Where it can't be seen there are none.
func Own() []string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	return unitsOf(string(text))
}

// unitsOf finds the units in /proc/PID/cgroup (cgroups(7)): in the line of cgroup v2, or of systemd's own v1 hierarchy.
func unitsOf(cgroup string) (units []string) {
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) < 3 || parts[1] != "name=systemd" && (parts[0] != "0" || parts[1] != "") {
			continue
		}
		for name := range strings.SplitSeq(parts[2], "/") {
			name = strings.TrimPrefix(name, "_") // systemd puts it before names that the kernel could mistake
			kind := path.Ext(name)
			if (kind == ".service" || kind == ".scope") && !slices.Contains(units, name) {
				units = append(units, name)
			}
		}
	}
	return units
}

// stopping are the properties that name the units which systemd stops with a unit, and restarts with it (systemd.unit(5)):
// the other ends of PartOf=, BindsTo=, Requires= and Requisite=, and PropagatesStopTo=.
var stopping = []string{"ConsistsOf", "BoundBy", "RequiredBy", "RequisiteOf", "PropagatesStopTo"}

// StopsWith lists the unit and those that stop with it, each by its own name.
func (u Unit) StopsWith(ctx context.Context) ([]string, error) {
	all := []string{u.name}
	for i := 0; i < len(all); i++ {
		p, err := u.m.Unit(all[i]).properties(ctx)
		if err != nil {
			return nil, err
		}
		if id := get[string](p, "Id"); id != "" {
			all[i] = id // it may have been named by an alias
		}
		for _, property := range stopping {
			for _, name := range get[[]string](p, property) {
				if !slices.Contains(all, name) {
					all = append(all, name)
				}
			}
		}
	}
	return all, nil
}

// Rerun runs this program again, with the same arguments, as a service of its own, which outlives this process, its unit and
// its session, and waits for its end. Its output goes where this process's goes. status is its exit status; started reports
// whether it may be at work, and how it ends isn't known.
//
// When ctx ends it isn't waited for any more, and goes on.
func (m *Manager) Rerun(ctx context.Context, name string, environment []string) (status int, started bool, err error) {
	props, err := m.rerun(environment)
	if err != nil {
		return 0, false, err
	}
	conn, _, err := m.dialled()
	if err != nil {
		return 0, false, err
	}
	done := make(chan string, 1)
	start, cancel := context.WithTimeout(ctx, guardStart)
	defer cancel()
	if _, err := conn.StartTransientUnitContext(start, name, "fail", props, done); err != nil {
		if noRight(err) {
			return 0, false, errors.New("no right to start one; run deploygate as root")
		}
		return 0, unanswered(err), plain(err)
	}
	if result, err := m.Unit(name).await(start, conn, done); err == nil && result != "done" {
		return 0, false, fmt.Errorf("systemd could not start %s: the job's result is %q", name, result)
	}
	status, err = m.Unit(name).exit(ctx)
	return status, true, err
}

// rerun are the properties of the service.
func (m *Manager) rerun(environment []string) ([]sd.Property, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	prop := func(name string, value any) sd.Property {
		return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	props := []sd.Property{
		sd.PropDescription("deploygate " + gate.Clean(strings.Join(os.Args[1:], " "))),
		sd.PropType("exec"),
		sd.PropExecStart(literal(append([]string{self}, os.Args[1:]...)), false),
		prop("Environment", environment),
		prop("CollectMode", "inactive-or-failed"),
		prop("AddRef", true),                         // it is known how it ended as long as this process asks
		prop("TimeoutStopUSec", uint64(300_000_000)), // longer than a way back
	}
	if dir, err := os.Getwd(); err == nil {
		props = append(props, prop("WorkingDirectory", "-"+dir)) // the unit may have mounts of its own
	}
	if m.scope == System && os.Geteuid() != 0 {
		props = append(props, prop("User", fmt.Sprint(os.Geteuid())), prop("Group", fmt.Sprint(os.Getegid())))
	}
	for fd, name := range map[int]string{1: "StandardOutputFileDescriptor", 2: "StandardErrorFileDescriptor"} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil { // it may be closed
			props = append(props, prop(name, dbus.UnixFD(fd))) //nolint:gosec // a file descriptor is small
		}
	}
	return props, nil
}

// exit waits until a service has ended and gives its exit status.
func (u Unit) exit(ctx context.Context) (status int, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := u.properties(ctx)
		state := get[string](p, "ActiveState")
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err != nil:
			return 0, err
		case get[string](p, "LoadState") == "not-found":
			return 0, errors.New("systemd has forgotten how " + u.name + " ended")
		case state != "inactive" && state != "failed":
		case get[int32](p, "ExecMainCode") != cldExited:
			return 0, fmt.Errorf("%s was ended by signal %d", u.name, get[int32](p, "ExecMainStatus"))
		default:
			return int(get[int32](p, "ExecMainStatus")), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Members lists the processes in the unit's control group, and in those below it. Its main process need not be one of them.
func (u Unit) Members(ctx context.Context) (pids []int, err error) {
	p, err := u.properties(ctx)
	if err != nil {
		return nil, err
	}
	list, err := u.list(ctx)
	group := get[string](p, "ControlGroup")
	for _, l := range list {
		if group != "" && (l.Cgroup == group || strings.HasPrefix(l.Cgroup, group+"/")) {
			pids = append(pids, int(l.PID))
		}
	}
	return pids, err
}
