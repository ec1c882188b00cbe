package conf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// listener is one listen of one server.
type listener struct {
	server   *Directive
	host     string // an IP address, "unix:PATH", or a name
	from, to int    // ports
	first    bool   // default_server
	tls      bool
	bothIP   bool // [::] with ipv6only=off
}

const anyIPv4, anyIPv6 = "0.0.0.0", "::"

// selectServer finds the server that a connection and its Host lead to.
func (w *walk) selectServer(http level) (*Directive, error) {
	listening := w.listening(http)
	if len(listening) == 0 {
		return nil, fmt.Errorf("nginx listens nowhere on port %d", w.request.Port)
	}
	hosts, err := w.selectAddress(listening)
	if err != nil {
		return nil, err
	}
	var chosen *Directive
	for _, host := range hosts {
		here := slices.DeleteFunc(slices.Clone(listening), func(l listener) bool { return l.host != host })
		if tls := slices.ContainsFunc(here, func(l listener) bool { return l.tls }); tls != w.request.TLS {
			return nil, fmt.Errorf("nginx listens on %s port %d with ssl: %t, and the request's is: %t", host, w.request.Port, tls, w.request.TLS)
		}
		server, err := selectName(here, w.host, w.config.Hostname)
		if err != nil {
			return nil, err
		}
		if chosen != nil && chosen != server {
			return nil, fmt.Errorf("it depends on the address: %s", strings.Join(hosts, " or "))
		}
		chosen = server
	}
	return chosen, nil
}

// listening returns what listens on the request's port, in the configuration's order.
func (w *walk) listening(http level) []listener {
	var found []listener
	for i := range http {
		if server := &http[i]; server.Name == "server" {
			for _, l := range listeners(server) {
				onPort := l.from <= w.request.Port && w.request.Port <= l.to
				if unix := strings.HasPrefix(l.host, "unix:"); unix && l.host == w.request.Addr || !unix && onPort {
					found = append(found, l)
				}
			}
		}
	}
	return found
}

func listeners(server *Directive) []listener {
	var found []listener
	ssl := isOn(last(server.Block, "ssl")) // until nginx 1.25
	some := false
	for i := range server.Block {
		d := &server.Block[i]
		if d.Name != "listen" || len(d.Args) == 0 {
			continue
		}
		some = true
		if slices.Contains(d.Args, "quic") {
			continue // UDP
		}
		l := parseListen(d.Args[0])
		l.server = server
		l.first = slices.Contains(d.Args, "default_server") || slices.Contains(d.Args, "default")
		l.tls = ssl || slices.Contains(d.Args, "ssl")
		l.bothIP = l.host == anyIPv6 && slices.Contains(d.Args, "ipv6only=off")
		found = append(found, l)
		if l.host == "localhost" { // both of its addresses
			found[len(found)-1].host = "127.0.0.1"
			l.host = "::1"
			found = append(found, l)
		}
	}
	if !some {
		found = append(found, listener{server: server, host: anyIPv4, from: 80, to: 80, tls: ssl})
	}
	return found
}

// parseListen understands listen's first argument: ADDRESS, ADDRESS:PORT, PORT, with "*" for every IPv4 address and
// [] around IPv6 ones, PORT-PORT for a range, or unix:PATH. The port is 80 where none is given.
func parseListen(arg string) listener {
	if strings.HasPrefix(arg, "unix:") {
		return listener{host: arg}
	}
	if from, to, ok := ports(arg); ok {
		return listener{host: anyIPv4, from: from, to: to}
	}
	l := listener{host: arg, from: 80, to: 80}
	if i := strings.LastIndexByte(arg, ':'); i >= 0 && !strings.HasSuffix(arg, "]") {
		if from, to, ok := ports(arg[i+1:]); ok {
			l = listener{host: arg[:i], from: from, to: to}
		}
	}
	if l.host == "*" {
		l.host = anyIPv4
	} else if ip, ok := parseIP(l.host); ok {
		l.host = ip.String()
	}
	return l
}

func ports(s string) (from, to int, ok bool) {
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	return from, to, err == nil && err2 == nil
}

func parseIP(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return ip.Unmap(), err == nil
}

// selectAddress returns the address of the listens that take the connection: its own before the wildcards. There are
// several if the request names none and none is a wildcard.
func (w *walk) selectAddress(listening []listener) ([]string, error) {
	has := func(host string) bool {
		return slices.ContainsFunc(listening, func(l listener) bool { return l.host == host })
	}
	both := slices.ContainsFunc(listening, func(l listener) bool { return l.bothIP })
	addr := w.request.Addr
	switch addr {
	case "localhost":
		addr = "127.0.0.1"
	case "":
		return anyAddress(listening, has), nil
	}
	ip, isIP := parseIP(addr)
	if isIP {
		addr = ip.String()
	}
	switch {
	case has(addr):
		return []string{addr}, nil
	case !isIP:
		return nil, fmt.Errorf("nginx listens nowhere on %s", addr)
	}
	for _, l := range listening {
		if _, ok := parseIP(l.host); !ok && !strings.HasPrefix(l.host, "unix:") {
			return nil, fmt.Errorf("nginx listens on %s, whose address is not known", l.host)
		}
	}
	switch {
	case ip.Is4() && has(anyIPv4):
		return []string{anyIPv4}, nil
	case ip.Is6() && has(anyIPv6), both:
		return []string{anyIPv6}, nil
	}
	return nil, fmt.Errorf("nginx listens nowhere on %s", net.JoinHostPort(addr, strconv.Itoa(w.request.Port)))
}

func anyAddress(listening []listener, has func(string) bool) []string {
	for _, host := range []string{anyIPv4, anyIPv6} {
		if has(host) {
			return []string{host}
		}
	}
	var hosts []string
	for _, l := range listening {
		if !slices.Contains(hosts, l.host) {
			hosts = append(hosts, l.host)
		}
	}
	return hosts
}

// selectName finds the server by its name: exact, the longest wildcard in front, the longest at the end, the first
// regular expression, else the default server, else the first one (nginx.org/en/docs/http/server_names.html).
func selectName(listening []listener, host, hostname string) (*Directive, error) {
	best, taken := fit{}, map[string]bool{}
	for _, l := range listening {
		for _, name := range serverNames(l.server, hostname) {
			if !take(taken, name) {
				continue
			}
			if rank, length := rankName(name, host); rank > best.rank || rank == best.rank && length > best.length {
				best = fit{rank, length, l.server}
			}
		}
	}
	if best.rank > 0 {
		return best.server, nil
	}
	for _, l := range listening {
		for _, name := range serverNames(l.server, hostname) {
			if ok, err := matchesName(name, host); err != nil {
				return nil, fmt.Errorf("the server name %s at %s is not understood", name, l.server.at())
			} else if ok {
				return l.server, nil
			}
		}
	}
	if i := slices.IndexFunc(listening, func(l listener) bool { return l.first }); i >= 0 {
		return listening[i].server, nil
	}
	return listening[0].server, nil
}

// fit is how well a server's name fits.
type fit struct {
	rank, length int
	server       *Directive
}

// take reports whether a name counts: nginx ignores, with a warning, one that conflicts with one before it
// (ngx_hash_add_key). ".x" stands for "x" and "*.x", and reserves "x" even where "*.x" is taken.
func take(taken map[string]bool, name string) bool {
	base, both := strings.CutPrefix(name, ".")
	if both {
		if taken[base] {
			return false
		}
		taken[base] = true
		name = "*." + base
	}
	free := !taken[name]
	taken[name] = true
	return free
}

// serverNames returns a server's names, in lower case but for regular expressions. One without any has the empty one.
func serverNames(server *Directive, hostname string) []string {
	var names []string
	for i := range server.Block {
		if d := &server.Block[i]; d.Name == "server_name" {
			names = append(names, d.Args...)
		}
	}
	for i, name := range names {
		if name == "$hostname" && hostname != "" {
			name = hostname
		}
		if !strings.HasPrefix(name, "~") {
			names[i] = strings.ToLower(name)
		}
	}
	if len(names) == 0 {
		return []string{""}
	}
	return names
}

// rankName says how well a name without regular expression fits; 0 is not at all.
func rankName(name, host string) (rank, length int) {
	suffix := strings.TrimPrefix(name, "*")
	prefix := strings.TrimSuffix(name, "*")
	switch {
	case strings.HasPrefix(name, "~"):
	case name == host:
		return 3, 0
	case strings.HasPrefix(name, ".") && host == name[1:],
		strings.HasPrefix(suffix, ".") && strings.HasSuffix(host, suffix) && len(host) > len(suffix):
		return 2, len(suffix)
	case strings.HasSuffix(prefix, ".") && prefix != name && strings.HasPrefix(host, prefix) && len(host) > len(prefix):
		return 1, len(prefix)
	}
	return 0, 0
}

// matchesName tries a regular expression. nginx ignores case in one that has a capital (ngx_http_regex_compile's
// caller), and has lowered the host's.
func matchesName(name, host string) (bool, error) {
	if name == "$hostname" {
		return false, errors.New("the host's name is not known")
	}
	pattern, ok := strings.CutPrefix(name, "~")
	if !ok {
		return false, nil
	}
	if pattern != strings.ToLower(pattern) {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(host), err
}
