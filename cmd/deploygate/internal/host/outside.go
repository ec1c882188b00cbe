package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/release/unit"
)

// outside says why nothing can be proved of what answers: it is none of the unit's processes. Where it can't be seen who
// listens, nothing is said against it.
func (h *Host) outside(ctx context.Context) error {
	u := h.Manager.Unit(h.Config.Service.Unit)
	d, err := u.Describe(ctx)
	if err != nil {
		return nil // who can't describe it says so
	}
	if d.Type == "oneshot" {
		return gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("%s is of Type=oneshot and has no main process, so it can't be proved which release it runs", d.Name)).
			Advise(fmt.Sprintf("have ExecStart= of %s run the server itself, with Type=notify or Type=exec", d.Name))
	}
	at, err := probe.ParseBind(h.bind)
	if err != nil || !d.Settled || d.Listen != "" {
		return nil // it isn't running, or systemd listens for it, or it is unknown where
	}
	all, err := socket.Listeners(at.Network)
	if err != nil {
		return nil // it can't be seen
	}
	there := socket.Serving(all, at.Network, at.Addr)
	held, _ := socket.HoldersOf(there) // those that were seen count
	ours, err := u.Members(ctx)
	if err != nil {
		return nil // it can't be seen
	}
	var stranger *socket.Holder
	for _, l := range there {
		for _, p := range held[l.Inode] {
			switch {
			case slices.Contains(ours, p.PID):
				return nil
			case stranger == nil && !errors.Is(syscall.Kill(p.PID, 0), syscall.ESRCH): // what has ended meanwhile may have been the unit's
				stranger = &p
			}
		}
	}
	if stranger == nil {
		return nil
	}
	in := "no unit that is known"
	if stranger.Unit != "" {
		in = stranger.Unit
	}
	return gate.NewFinding(gate.LayerService, gate.StrayProcess,
		fmt.Sprintf("process %d (%s), which listens on %s, is in %s and not in %s, so it can't be proved which "+
			"release answers", stranger.PID, stranger.Name, at, in, d.Name)).
		With(fmt.Sprintf("/proc/%d/cgroup", stranger.PID), in).
		Advise(fmt.Sprintf("have ExecStart= of %s run the server itself, so that it is in that unit's control group", d.Name)).
		Advise("or set service.unit to the unit that the server is in")
}

// Within returns the unit that this process is in, if that one stops when the app's unit is restarted: it would take this
// process along. It is "" otherwise, and where that can't be seen.
func (h *Host) Within(ctx context.Context) string {
	own := unit.Own()
	if len(own) == 0 {
		return ""
	}
	stop, err := h.Manager.Unit(h.Config.Service.Unit).StopsWith(ctx)
	if err != nil {
		return ""
	}
	if i := slices.IndexFunc(own, func(name string) bool { return slices.Contains(stop, name) }); i >= 0 {
		return own[i]
	}
	return ""
}
