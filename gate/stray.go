package gate

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Holder is a process that has the socket open at which the app is asked, so that it may be the one that answers.
type Holder struct {
	At   string // where: "127.0.0.1:8000", or a path
	PID  int
	Name string        // of its program
	Unit string        // its systemd unit; "" unknown
	Born time.Duration // as Process.Born
}

func (h Holder) String() string {
	s := fmt.Sprintf("process %d", h.PID)
	if h.Name != "" {
		s += fmt.Sprintf(" (%s)", h.Name)
	}
	if h.Unit != "" {
		s += " of " + h.Unit
	}
	return s
}

// process finds one of the unit's.
func (st UnitState) process(pid int) (p Process, ok bool) {
	i := slices.IndexFunc(st.Processes, func(p Process) bool { return p.PID == pid })
	if pid == 0 || i < 0 {
		return p, false
	}
	return st.Processes[i], true
}

// before reports whether a process is older than this start of the unit, and so belongs to another one, whatever its control
// group. systemd notes the time of a start some milliseconds after the first process is there, so that the main process
// counts as well. The kernel's time goes on while the machine sleeps, and systemd's doesn't: a process may be taken for
// younger by that, never for older.
func (st UnitState) before(born time.Duration) bool {
	const rounding = 20 * time.Millisecond // of the kernel's
	begun := st.Begun - rounding
	if main, ok := st.process(st.MainPID); ok && main.Born > 0 && main.Born < begun {
		begun = main.Born
	}
	return born > 0 && born < begun
}

// strayAnswer says why whoever is at the other end of the socket isn't of this start of the unit, or gives nil. A process
// of another PID namespace shows as 0.
func strayAnswer(st UnitState, e Target, peer int) *Finding {
	if peer <= 0 || e.Socket || len(st.Processes) == 0 {
		return nil
	}
	p, ours := st.process(peer)
	switch {
	case !ours:
		return NewFinding(LayerSocket, StrayProcess,
			fmt.Sprintf("process %d answered on the socket, which is not one of %s", peer, st.Unit)).
			With("SO_PEERCRED", fmt.Sprintf("pid %d; main process %d", peer, st.MainPID)).
			Advise(fmt.Sprintf("ps -fp %d", peer))
	case st.before(p.Born):
		return st.leftOver(Holder{At: "the socket", PID: peer, Born: p.Born})
	}
	return nil
}

// Stray returns the finding that a process that isn't of this start of the unit may be the one that answers: it was left over
// by an earlier start, or is none of the unit's. Behind a socket unit the service manager holds the socket as well: process
// 1, or the parent of the unit's main process.
func Stray(st UnitState, e Target, holders []Holder) *Finding {
	if st.MainPID == 0 || len(st.Processes) == 0 {
		return nil // nothing to compare with
	}
	main, _ := st.process(st.MainPID)
	for _, h := range holders {
		_, ours := st.process(h.PID)
		switch {
		case e.Socket && (h.PID == 1 || h.PID == main.Parent):
		case !ours:
			return NewFinding(LayerSocket, StrayProcess, fmt.Sprintf("%s listens at %s, and is not one of %s", h, h.At, st.Unit)).
				With("/proc", fmt.Sprintf("%s is held by %s; main process of %s: %d", h.At, h, st.Unit, st.MainPID)).
				Advise(fmt.Sprintf("see what it is, and end it or give one of the two another address: ps -fp %d; ss -lxtnp", h.PID))
		case st.before(h.Born):
			return st.leftOver(h)
		}
	}
	return nil
}

// leftOver is about a process in the unit's control group that an earlier start left there.
func (st UnitState) leftOver(h Holder) *Finding {
	age := max(st.Begun-h.Born, 0).Round(time.Second)
	return NewFinding(LayerSocket, StrayProcess,
		fmt.Sprintf("process %d listens at %s, and is left over from an earlier start of %s", h.PID, h.At, st.Unit)).
		With("/proc", fmt.Sprintf("process %d is %s older than this start; main process: %d", h.PID, age, st.MainPID)).
		Advise(fmt.Sprintf("end it: kill %d", h.PID)).
		Advise("see that a stop ends every process: KillMode=control-group or mixed, systemctl show -p KillMode " + st.Unit)
}

// stray looks at who listens where an answer came from. One look at the processes and one at the unit are two moments: what
// is found has to be found twice.
func (c *HealthCheck) stray(ctx context.Context, e Target, a *Answer) (found *Finding) {
	if c.Holders == nil {
		return nil
	}
	for range 2 {
		holders := c.Holders(a.Remote)
		st, err := c.Unit.State(ctx)
		if err != nil {
			return nil
		}
		if found = Stray(st, e, holders); found == nil {
			return nil
		}
	}
	return found
}
