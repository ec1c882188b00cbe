package e2e

import (
	"bytes"
	endian "encoding/binary"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"

	"deploygate/scripts/testbed"
)

// The line to systemd may break at the worst moment: the call that restarts the app is lost, or its answer, or the news that
// it is done; or the bus says that systemd has left. Each time the app is restarted, and once.
func TestTheBusBreaksAtTheRestart(t *testing.T) {
	for _, lost := range []string{"call", "answer", "end", "systemd"} {
		t.Run(lost, func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.configure("")
				h.add("v1")
				h.released("v1")
				h.add("v2")
				before := h.boots()
				bus := h.relay(lost)
				h.expect(h.verdict(h.Exec(t.Context(), "env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+relayed,
					program, "release", "v2", "--app", h.site.Name, "--output", "json")), "released", 0)
				h.live("v2")
				if !bus.broken.Load() {
					t.Error("the line didn't break")
				}
				if n := h.boots() - before; n != 1 {
					t.Errorf("the app was started %d times", n)
				}
			})
		})
	}
}

// boots is how often gunicorn has begun to listen.
func (h *host) boots() int {
	h.t.Helper()
	r := h.Exec(h.t.Context(), "journalctl", "--quiet", "--unit", h.site.Unit, "--output", "cat")
	h.must(r.Err)
	return strings.Count(r.Stdout, "Listening at:")
}

// relayed is the socket on the host that a relay passes on to the system bus.
const relayed = "/run/relayed-bus"

// relay passes on what is said to the system bus and by it, and fails once, when a unit is restarted: it breaks every
// connection, or has the bus say that systemd has left it.
type relay struct {
	loses  string
	broken atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func (h *host) relay(loses string) *relay {
	h.t.Helper()
	ctx := h.t.Context()
	l, err := new(net.ListenConfig).Listen(ctx, "unix", h.Path(relayed))
	h.must(err)
	r := &relay{loses: loses}
	h.t.Cleanup(func() {
		_ = l.Close()
		r.hangUp()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			bus, err := new(net.Dialer).DialContext(ctx, "unix", h.Path("/run/dbus/system_bus_socket"))
			if err != nil {
				_ = client.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, client, bus)
			r.mu.Unlock()
			r.connect(client, bus)
		}
	}()
	return r
}

func (r *relay) hangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *relay) connect(client, bus net.Conn) {
	var restarting atomic.Bool
	var serial atomic.Uint32 // of the call
	go passOn(client, bus, func(call []byte, pass func()) {
		if !bytes.Contains(call, []byte("RestartUnit")) || !r.broken.CompareAndSwap(false, true) {
			pass()
			return
		}
		if r.loses == "call" {
			r.hangUp()
			return
		}
		serial.Store(endian.LittleEndian.Uint32(call[8:])) // D-Bus Specification, "Message Format"
		restarting.Store(true)
		pass()
	})
	go passOn(bus, client, func(answer []byte, pass func()) {
		asked := restarting.Load()
		if asked && r.loses == "systemd" {
			restarting.Store(false)
			_ = (&dbus.Message{Type: dbus.TypeError, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(serial.Load()),
				dbus.FieldErrorName:   dbus.MakeVariant("org.freedesktop.DBus.Error.NoReply"),
			}}).EncodeTo(client, endian.LittleEndian)
			return
		}
		if !asked || r.loses == "end" {
			pass()
		}
		if asked {
			r.hangUp()
		}
	})
}

// passOn returns what one end says to through, which passes it on to the other, until one of them hangs up.
func passOn(from, to net.Conn, through func(text []byte, pass func())) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		through(buf[:n], func() { _, err = to.Write(buf[:n]) })
		if err != nil {
			return
		}
	}
}
