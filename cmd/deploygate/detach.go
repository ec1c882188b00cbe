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

	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/release/deploy"
)

// moved marks the process that goes on in a unit of its own.
const moved = "DEPLOYGATE_MOVED"

// goOn has the command go on in a unit of its own, where it would be killed by what it does, and gives its exit code. An error
// says why that can't be done: nothing has been touched then.
func (s *session) goOn(ctx context.Context, h *host.Host, request deploy.Request) (code int, gone bool, err error) {
	own := h.Within(ctx)
	if own == "" {
		return 0, false, nil
	}
	name := fmt.Sprintf("deploygate-%s-%s.service", h.Config.App, strings.ToLower(rand.Text()[:8]))
	cannot := func(why error) error {
		return gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("this command runs in %s, which the restart of %s stops, and can't move to a unit of its own: %v", own, h.Config.Service.Unit, why)).
			Advise("start it from outside of that unit, or as a unit of its own: systemd-run --wait " +
				"--pipe deploygate " + strings.TrimSpace(string(request.Command)+" "+request.Version))
	}
	if os.Getenv(moved) != "" {
		return 0, false, cannot(errors.New("it has moved already"))
	}
	fmt.Fprintf(s.err, "deploygate: this command runs in %s, which the restart of %s stops: moving it to %s\n", own, h.Config.Service.Unit, name)
	code, started, err := h.Manager.Rerun(ctx, name, append(passedOn(os.Environ()), moved+"=1"))
	switch {
	case err == nil:
		return code, true, nil
	case !started:
		return 0, false, cannot(err)
	case ctx.Err() == nil:
		fmt.Fprintf(s.err, "deploygate: %s\n", gate.OneLine(err.Error()))
	}
	// The restart ends what is left here in the unit, by a signal. Whoever else wants to stop the deploy has to name it.
	fmt.Fprintf(s.err, "deploygate: no longer waiting for it: see deploygate status; to stop it: systemctl stop %s\n", name)
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
