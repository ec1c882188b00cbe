package socket

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"

	"deploygate/gate/untrusted"
)

// Listener is a socket that listens, as /proc/net shows it.
type Listener struct {
	Network string // "unix" (stream sockets only) or "tcp"
	// Addr is HOST:PORT, [HOST]:PORT, or the path as bind(2) was given it: maybe relative, through symlinks, of another
	// mount namespace, or since unlinked.
	Addr  string
	Inode uint64 // of the socket, as /proc/PID/fd has it; not the file's
	// Waiting counts the connections that nobody has accepted yet, those of clients that have gone again included: the
	// kernel keeps them in the queue.
	Waiting int
	// Accepted counts the connections that were accepted and not closed on this side, whichever process has them now.
	Accepted int
}

// Bind returns where it listens as gunicorn's --bind has it.
func (l Listener) Bind() string {
	if l.Network == "unix" {
		return "unix:" + l.Addr
	}
	return l.Addr
}

// Serving returns the listeners that a connection to addr goes to, of those in all.
//
// A unix address is a path. It is compared as bind(2) was given it, but for path.Clean, and if none fits by where its symlinks
// lead.
//
// A TCP address is a host and a port; the host is an IP address or localhost, and names are not looked up. An empty host and
// the unspecified addresses are this host, as connect(2) takes them. As in the kernel, a listener on that very address comes
// before one on 0.0.0.0, and that before one on [::] (inet_lookup_listener, compute_score). A listener on [::] is taken to
// serve IPv4 too, as ipv6(7) has it by default: that it has IPV6_V6ONLY, /proc/net does not show.
//
// More than one is left with SO_REUSEPORT, or where a path was bound again after its file was removed.
func Serving(all []Listener, network, addr string) []Listener {
	best := bestFit(all, network, addr)
	if network == "unix" && len(best) == 0 {
		if real, err := untrusted.EvalSymlinks(addr); err == nil {
			return bestFit(all, network, real)
		}
	}
	return best
}

func bestFit(all []Listener, network, addr string) []Listener {
	var best []Listener
	most := 1
	for _, l := range all {
		fit := l.fit(network, addr)
		if fit > most {
			best, most = nil, fit
		}
		if fit == most {
			best = append(best, l)
		}
	}
	return best
}

// fit says how well the listener fits an address, 0 is not at all.
func (l Listener) fit(network, addr string) int {
	switch {
	case l.Network != network:
		return 0
	case network == "unix":
		if addr != "" && path.Clean(l.Addr) == path.Clean(addr) {
			return 1
		}
		return 0
	}
	own, err := netip.ParseAddrPort(l.Addr)
	if err != nil {
		return 0
	}
	best := 0
	for _, to := range targets(addr) {
		best = max(best, tcpFit(own, to))
	}
	return best
}

func tcpFit(own, to netip.AddrPort) int {
	switch {
	case own.Port() != to.Port():
		return 0
	case own.Addr() == to.Addr():
		return 3
	case own.Addr() == netip.IPv4Unspecified() && to.Addr().Is4():
		return 2
	case own.Addr() == netip.IPv6Unspecified():
		return 1
	}
	return 0
}

// targets are the addresses that HOST:PORT may mean without asking anybody.
func targets(addr string) []netip.AddrPort {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil
	}
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	var hosts []netip.Addr
	switch ip, err := netip.ParseAddr(host); {
	case host == "" || strings.EqualFold(host, "localhost"):
		hosts = []netip.Addr{v4, v6}
	case err != nil:
	case ip.Unmap() == netip.IPv4Unspecified():
		hosts = []netip.Addr{v4}
	case ip == netip.IPv6Unspecified():
		hosts = []netip.Addr{v6}
	default:
		hosts = []netip.Addr{ip.Unmap().WithZone("")} // /proc/net knows no zones
	}
	var to []netip.AddrPort
	for _, ip := range hosts {
		to = append(to, netip.AddrPortFrom(ip, uint16(port)))
	}
	return to
}

// Listeners finds the listeners of a network in this network namespace: "tcp", "unix" for stream sockets with a path, or ""
// for both. The kernel's table of TCP sockets is as large as the machine's memory allows, and takes milliseconds to read. A
// unix socket can also be reached from another namespace, where it isn't listed; abstract sockets are left out.
//
// /proc/net/unix does not say to which listener a connection belongs, only its path, and /proc/net/tcp only its
// address: listeners that share theirs each get the sum in Waiting (unix) and Accepted. Nor does it escape newlines in
// paths: lines that aren't rows belong to the path before, and a path that has a whole row in it passes for one.
//
// The error satisfies errors.Is(err, fs.ErrNotExist) where /proc isn't mounted; no IPv6 is not an error. What was read
// before an error is returned with it.
func Listeners(network string) ([]Listener, error) {
	var all []Listener
	for _, table := range []struct {
		network, file string
		read          func(io.Reader) ([]Listener, error)
	}{
		{"unix", "/proc/net/unix", unixListeners},
		{"tcp", "/proc/net/tcp", tcpListeners},
		{"tcp", "/proc/net/tcp6", tcpListeners},
	} {
		if network != "" && network != table.network {
			continue
		}
		f, err := os.Open(table.file)
		if errors.Is(err, fs.ErrNotExist) && table.file == "/proc/net/tcp6" {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("cannot tell who listens: %w", err)
		}
		found, err := table.read(f)
		f.Close()
		all = append(all, found...)
		if err != nil {
			return all, fmt.Errorf("cannot tell who listens: %w", err)
		}
	}
	return all, nil
}

// eachLine reads line by line in bounded memory; of a line that is too long for any row only the beginning is seen.
// bufio.Scanner would take a carriage return at the end, which a path may have.
func eachLine(r io.Reader, see func(line string)) error {
	in := bufio.NewReader(r)
	continued := false
	for {
		line, err := in.ReadSlice('\n')
		if !continued && len(line) > 0 {
			see(strings.TrimSuffix(string(line), "\n"))
		}
		continued = errors.Is(err, bufio.ErrBufferFull)
		if err == nil || continued {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	}
}

// unixRow is a row of /proc/net/unix (proc_net_unix(5), unix_seq_show in the kernel).
type unixRow struct {
	listening bool
	kind      uint64
	state     uint64
	inode     uint64
	path      string // abstract: from an @ on
}

const (
	acceptCon  = 1 << 16 // __SO_ACCEPTCON
	stream     = 1       // SOCK_STREAM
	connecting = 2       // SS_CONNECTING: established, but nobody has accepted it, so that it has no struct socket
	connected  = 3       // SS_CONNECTED
	maxSunPath = 108
)

// parseUnixRow is strict, so that a piece of a path is not easily taken for a row. A row is
//
//	ffff8880057f8c00: 00000002 00000000 00010000 0001 01 12345 /run/gunicorn.sock
//
// where the inode has at least five columns.
func parseUnixRow(line string) (unixRow, bool) {
	address, rest, ok := strings.Cut(line, ": ")
	if !ok || len(address) != 8 && len(address) != 16 || !isHex(address) {
		return unixRow{}, false
	}
	var field [5]uint64 // references, protocol, flags, type, state
	for i, width := range []int{8, 8, 8, 4, 2} {
		if len(rest) <= width || rest[width] != ' ' || !isHex(rest[:width]) {
			return unixRow{}, false
		}
		field[i], _ = strconv.ParseUint(rest[:width], 16, 64) // isHex has seen it
		rest = rest[width+1:]
	}
	digits := strings.TrimLeft(rest, " ")
	inode, name, _ := strings.Cut(digits, " ")
	n, err := strconv.ParseUint(inode, 10, 64)
	pad := len(rest) - len(digits)
	if err != nil || pad+len(inode) < 5 || pad > 0 && pad+len(inode) != 5 || len(name) > maxSunPath {
		return unixRow{}, false
	}
	return unixRow{field[2]&acceptCon != 0, field[3], field[4], n, name}, true
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdefABCDEF") == "" }

// unixTally is what /proc/net/unix has said so far. Connections come in any order, also before their listener.
type unixTally struct {
	listeners         []Listener
	waiting, accepted map[string]int
}

func unixListeners(r io.Reader) ([]Listener, error) {
	tally := unixTally{waiting: map[string]int{}, accepted: map[string]int{}}
	var last unixRow
	err := eachLine(r, func(line string) {
		row, ok := parseUnixRow(line)
		switch {
		case ok:
			tally.add(last)
			last = row
		case len(last.path)+1+len(line) <= maxSunPath: // the path goes on after a newline
			last.path += "\n" + line
		}
	})
	tally.add(last)
	for i, l := range tally.listeners {
		tally.listeners[i].Waiting = tally.waiting[l.Addr]
		tally.listeners[i].Accepted = tally.accepted[l.Addr]
	}
	return tally.listeners, err
}

func (t *unixTally) add(r unixRow) {
	switch {
	case r.kind != stream || r.path == "" || r.path[0] == '@':
	case r.listening:
		t.listeners = append(t.listeners, Listener{Network: "unix", Addr: r.path, Inode: r.inode})
	case r.state == connecting && r.inode == 0:
		t.waiting[r.path]++
	case r.state == connected && r.inode != 0:
		t.accepted[r.path]++
	}
}

// tcpRow is a row of /proc/net/tcp or tcp6 (proc_net_tcp(5)).
type tcpRow struct {
	local netip.AddrPort // an IPv4 address in IPv6's clothes is an IPv4 address
	state uint64
	queue int // rx_queue: of a listener, how many connections wait
	inode uint64
}

const (
	tcpSynSent = 0x02
	tcpListen  = 0x0A
)

func parseTCPRow(line string) (tcpRow, bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return tcpRow{}, false
	}
	local, ok := parseTCPAddr(f[1])
	if !ok {
		return tcpRow{}, false
	}
	_, rx, _ := strings.Cut(f[4], ":")
	state, err1 := strconv.ParseUint(f[3], 16, 8)
	queue, err2 := strconv.ParseUint(rx, 16, 31)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	return tcpRow{local, state, int(queue), inode}, errors.Join(err1, err2, err3) == nil
}

// parseTCPAddr understands an address, which is in words of the host's own byte order, and a port, which is a number.
func parseTCPAddr(s string) (netip.AddrPort, bool) {
	address, service, _ := strings.Cut(s, ":")
	port, err := strconv.ParseUint(service, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	b, err := hex.DecodeString(address)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for word := b; len(word) >= 4; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	ip, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), ok
}

func tcpListeners(r io.Reader) ([]Listener, error) {
	var listeners []Listener
	accepted := map[netip.AddrPort]int{}
	err := eachLine(r, func(line string) {
		switch row, ok := parseTCPRow(line); {
		case !ok: // the heading
		case row.state == tcpListen:
			listeners = append(listeners, Listener{
				Network: "tcp", Addr: row.local.String(), Inode: row.inode, Waiting: row.queue,
			})
		case row.inode != 0 && row.state != tcpSynSent: // no inode: not accepted yet, or closed by its process
			accepted[row.local]++
		}
	})
	count(listeners, accepted)
	return listeners, err
}

// count returns the connections to their listeners. The two tables are apart: an IPv6 listener's IPv4 connections are in
// its own.
func count(listeners []Listener, accepted map[netip.AddrPort]int) {
	at := map[string][]int{}
	for i, l := range listeners {
		at[l.Addr] = append(at[l.Addr], i)
	}
	for local, n := range accepted {
		for _, ip := range []netip.Addr{local.Addr(), netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			fit := at[netip.AddrPortFrom(ip, local.Port()).String()]
			if len(fit) == 0 || ip == netip.IPv4Unspecified() && !local.Addr().Is4() {
				continue
			}
			for _, i := range fit {
				listeners[i].Accepted += n
			}
			break
		}
	}
}
