package unit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// guardStart bounds the start of a guard, which is a start of this program.
const guardStart = 10 * time.Second

// StartGuard starts args, this program's own command, as a service of its own that outlives this process, its session
// and its control group, and waits until it says that it is ready. stop ends it.
func (m *Manager) StartGuard(ctx context.Context, name string, args []string) (stop func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, guardStart)
	defer cancel()
	conn, _, err := m.dialled()
	if err != nil {
		return nil, err
	}
	prop := func(name string, value any) sd.Property {
		return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	done := make(chan string, 1)
	_, err = conn.StartTransientUnitContext(ctx, name, "fail", []sd.Property{
		sd.PropDescription("deploygate: finishes a deploy whose process dies"),
		sd.PropType("notify"),
		sd.PropExecStart(args, false),
		prop("Restart", "on-failure"), // a guard that is killed at its work takes it up again
		prop("RestartUSec", uint64(1_000_000)),
		prop("CollectMode", "inactive-or-failed"),
		prop("TimeoutStopUSec", uint64(300_000_000)), // longer than a way back
	}, done)
	if err != nil {
		return nil, fmt.Errorf("cannot start the guard: %w", plain(err))
	}
	result, err := m.Unit(name).await(ctx, conn, done)
	if err == nil && result != "done" {
		err = errors.New("systemd says " + result)
	}
	if err != nil {
		m.stop(name)
		return nil, fmt.Errorf("cannot start the guard: %w", err)
	}
	return func() { m.stop(name) }, nil
}

// NotifyReady tells the service manager that this process, started by StartGuard, is at its post.
func NotifyReady() error {
	sent, err := daemon.SdNotify(true, daemon.SdNotifyReady)
	if err == nil && !sent {
		err = errors.New("NOTIFY_SOCKET is not set")
	}
	return err
}

// DelayShutdown asks logind to wait a little with a shutdown (InhibitDelayMaxSec=, 5 s by default) until release is
// called or the process ends (org.freedesktop.login1(5)).
func DelayShutdown(ctx context.Context, why string) (release func(), err error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("cannot reach logind: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var fd dbus.UnixFD
	err = conn.Object("org.freedesktop.login1", "/org/freedesktop/login1").
		CallWithContext(ctx, "org.freedesktop.login1.Manager.Inhibit", 0, "shutdown", "deploygate", why, "delay").Store(&fd)
	if err != nil {
		return nil, fmt.Errorf("logind does not delay a shutdown: %w", plain(err))
	}
	lock := os.NewFile(uintptr(fd), "inhibit") //nolint:gosec // a file descriptor is not negative
	return func() { lock.Close() }, nil
}
