package unit

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"deploygate/gate"
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
		open = sessionBus
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

// sessionBus dials the bus of the user's own service manager, also where no login has said where it is.
func sessionBus(opts ...dbus.ConnOption) (*dbus.Conn, error) {
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return dbus.SessionBusPrivate(opts...)
	}
	bus := fmt.Sprintf("/run/user/%d/bus", os.Getuid())
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		bus = dir + "/bus"
	}
	if _, err := untrusted.Lstat(bus); err != nil {
		return nil, fmt.Errorf("there is no %s: this user's service manager doesn't run; it does while the user is logged in, or after loginctl enable-linger", bus)
	}
	return dbus.Dial("unix:path="+bus, opts...)
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
