package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/release/deploy"
	"deploygate/release/unit"
)

// moved marks the process that goes on in a unit of its own.
const moved = "DEPLOYGATE_MOVED"

// within returns the unit that this process is in, if that one stops when the app's unit is restarted: it would take this
// process along. It is "" otherwise, and where that can't be seen.
func (h *host) within(ctx context.Context) string {
	own := unit.Own()
	if len(own) == 0 {
		return ""
	}
	stop, err := h.manager.Unit(h.config.Service.Unit).StopsWith(ctx)
	if err != nil {
		return ""
	}
	if i := slices.IndexFunc(own, func(name string) bool { return slices.Contains(stop, name) }); i >= 0 {
		return own[i]
	}
	return ""
}

// goOn has the command go on in a unit of its own, where it would be killed by what it does, and gives its exit code. An error
// says why that can't be done: nothing has been touched then.
func (s *session) goOn(ctx context.Context, h *host, request deploy.Request) (code int, gone bool, err error) {
	own := h.within(ctx)
	if own == "" {
		return 0, false, nil
	}
	name := fmt.Sprintf("deploygate-%s-%s.service", h.config.App, strings.ToLower(rand.Text()[:8]))
	cannot := func(why error) error {
		return gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("this command runs in %s, which the restart of %s stops, and can't move to a unit of its own: %v", own, h.config.Service.Unit, why)).
			Advise("start it from outside of that unit, or as a unit of its own: systemd-run --wait --pipe deploygate " + strings.TrimSpace(string(request.Command)+" "+request.Version))
	}
	if os.Getenv(moved) != "" {
		return 0, false, cannot(errors.New("it has moved already"))
	}
	fmt.Fprintf(s.err, "deploygate: this command runs in %s, which the restart of %s stops: moving it to %s\n", own, h.config.Service.Unit, name)
	code, started, err := h.manager.Rerun(ctx, name, append(passedOn(os.Environ()), moved+"=1"))
	switch {
	case err == nil:
		return code, true, nil
	case !started:
		return 0, false, cannot(err)
	case ctx.Err() == nil:
		fmt.Fprintf(s.err, "deploygate: %s\n", oneLine(err.Error()))
	}
	// The restart ends what is left here in the unit, by a signal. Whoever else wants to stop the deploy has to name it.
	fmt.Fprintf(s.err, "deploygate: it isn't waited for any more: see deploygate status; to stop it: systemctl stop %s\n", name)
	return 128 + int(syscall.SIGTERM), true, nil
}

// passedOn are the variables that mean something to this program. The unit's others may be secrets, and anybody can read a
// unit's environment.
func passedOn(environment []string) (kept []string) {
	names := []string{
		"PATH", "HOME", "USER", "LOGNAME", "TERM", "NO_COLOR", "SUDO_USER", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME",
		"DBUS_SYSTEM_BUS_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "LANG", "LC_ALL",
	}
	for _, e := range environment {
		if name, _, _ := strings.Cut(e, "="); slices.Contains(names, name) || strings.HasPrefix(name, "DEPLOYGATE_") {
			kept = append(kept, e)
		}
	}
	return kept
}

// outside says why nothing can be proved of what answers: it is none of the unit's processes. Where it can't be seen who
// listens, nothing is said against it.
func (h *host) outside(ctx context.Context) error {
	u := h.manager.Unit(h.config.Service.Unit)
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
	var inodes []uint64
	for _, l := range serving(all, at) {
		inodes = append(inodes, l.Inode)
	}
	held, _ := socket.Holders(inodes...) // those that were seen count
	ours, err := u.Members(ctx)
	if err != nil {
		return nil // it can't be seen
	}
	var stranger *socket.Holder
	for _, inode := range inodes {
		for _, p := range held[inode] {
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
		fmt.Sprintf("process %d (%s), which listens on %s, is in %s and not in %s, so it can't be proved which release answers", stranger.PID, stranger.Name, at, in, d.Name)).
		With(fmt.Sprintf("/proc/%d/cgroup", stranger.PID), in).
		Advise(fmt.Sprintf("have ExecStart= of %s run the server itself, so that it is in that unit's control group", d.Name)).
		Advise("or set service.unit to the unit that the server is in")
}
