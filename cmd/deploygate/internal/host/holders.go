package host

import (
	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
)

// holders finds the processes that have the socket open at which an app was asked. at is where it was asked; a port is looked
// up at the address that the connection was made to, since a name may stand for several.
func holders(at probe.Address) func(remote string) []gate.Holder {
	return func(remote string) []gate.Holder {
		if at.Network == "tcp" {
			at.Addr = remote
		}
		return heldAt(at)
	}
}

// heldAt returns nothing where it isn't known: without the right to look, or where the socket is of another namespace.
func heldAt(at probe.Address) []gate.Holder {
	all, err := socket.Listeners(at.Network)
	if err != nil {
		return nil
	}
	return heldAmong(all, at)
}

// heldAmong is heldAt, for listeners that were read already.
func heldAmong(all []socket.Listener, at probe.Address) (found []gate.Holder) {
	there := socket.Serving(all, at.Network, at.Addr)
	if at.Network == "unix" && len(there) > 1 {
		return nil // a path that was bound again: which of them a client reaches, /proc doesn't tell, and SO_PEERCRED does
	}
	held, _ := socket.HoldersOf(there) // what was seen counts, even if not everything was
	for _, l := range there {
		for _, h := range held[l.Inode] {
			p, ok := socket.OfPID(h.PID)
			if !ok {
				continue // it has ended
			}
			found = append(found, gate.Holder{At: l.Addr, PID: h.PID, Name: gate.Clean(h.Name), Unit: h.Unit, Born: p.Born})
		}
	}
	return found
}
