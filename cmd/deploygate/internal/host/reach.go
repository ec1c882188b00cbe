package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/proxy"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/unit"
)

// routes follows the request through nginx to where it ends, by nginx's configuration and by who listens where it leads.
type routes struct {
	proxy  proxy.Server
	unit   unit.Unit
	name   string // of the unit
	config *config.Config
	bind   string                                          // where the app listens; "" unknown
	ask    func(path string) (through, direct gate.Prober) // the site, and the app
}

// maxHops bounds how many nginx servers in a row are followed, all of the same nginx.
const maxHops = 4

// Way implements gate.Routes.
func (r routes) Way(ctx context.Context, status int) gate.Way {
	request, ok := requestOf(r.config.Proxy.URL, r.config.Proxy.Host)
	if !ok {
		return gate.Way{Text: "proxy.url is not understood"}
	}
	request.Status = status
	listeners, err := socket.Listeners("")
	if err != nil {
		listeners = nil // not known, and not all that there are
	}
	if why := r.notNginx(ctx, &request, listeners); why != "" {
		return gate.Way{Text: why}
	}
	config, err := r.proxy.Configuration(ctx)
	if err != nil {
		return gate.Way{Text: err.Error()}
	}
	f := follower{routes: r, config: config, listeners: listeners}
	if st, err := r.unit.State(ctx); err == nil {
		f.state = st
	}
	way := f.follow(request, 0)
	if !way.App {
		way.Detour = f.detour(request)
	}
	return way
}

// notNginx says why it isn't this nginx that is asked.
func (r routes) notNginx(ctx context.Context, request *proxy.Request, listeners []socket.Listener) string {
	ip, err := r.addressOf(ctx, request)
	switch {
	case err != nil:
		return fmt.Sprintf("it can't be told where proxy.url leads: %v", err)
	case !isLocal(ip):
		return fmt.Sprintf("proxy.url leads to %s, which is not an address of this host", ip)
	}
	request.Addr = ip.String()
	held := heldAmong(listeners, probe.Address{Network: "tcp", Addr: netip.AddrPortFrom(ip, uint16(request.Port)).String()}) //nolint:gosec // a port
	if len(held) > 0 && !slices.ContainsFunc(held, r.isNginx) {
		return fmt.Sprintf("%s listens at %s, and not nginx", held[0], held[0].At)
	}
	return ""
}

// isNginx reports whether a process is nginx's, by the name of its program.
func (r routes) isNginx(h gate.Holder) bool { return h.Name == filepath.Base(r.proxy.Executable()) }

// addressOf is the address that is asked.
func (r routes) addressOf(ctx context.Context, request *proxy.Request) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(request.Addr); err == nil {
		return ip.Unmap(), nil
	}
	u, err := url.Parse(r.config.Proxy.URL)
	if err != nil {
		return netip.Addr{}, err
	}
	const limit = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range found {
		if isLocal(ip.Unmap()) {
			return ip.Unmap(), nil
		}
	}
	return found[0].Unmap(), nil
}

// isLocal reports whether an address is one of this host's.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(a net.Addr) bool {
		own, err := netip.ParsePrefix(a.String())
		return err == nil && own.Addr().Unmap() == ip.WithZone("")
	})
}

// follower follows requests at one moment.
type follower struct {
	routes
	config    proxy.Configuration
	listeners []socket.Listener
	state     gate.UnitState
}

// follow goes to the end of a request's way, through servers of the same nginx that stand behind each other.
func (f follower) follow(request proxy.Request, hops int) gate.Way {
	route := f.config.Route(request)
	place := at(route)
	switch {
	case !route.Known:
		return gate.Way{Text: fmt.Sprintf("where nginx leads it is not known: %s", route.Why)}
	case hops == maxHops:
		return gate.Way{Text: fmt.Sprintf("nginx leads it through more than %d servers of its own", maxHops)}
	}
	for _, t := range route.Tries {
		if t.Path == "" {
			return gate.Way{Text: fmt.Sprintf("nginx may serve a file instead (try_files at %s)", t.At)}
		}
		if info, err := untrusted.Stat(t.Path); err == nil && info.IsDir() == t.Dir {
			return gate.Way{Known: true, Text: fmt.Sprintf("nginx serves it from %s (try_files at %s)", t.Path, t.At)}
		}
	}
	switch {
	case route.Returns != "":
		return gate.Way{Known: true, Text: fmt.Sprintf("nginx itself answers it (%s at %s)", route.Returns, place)}
	case route.Pass == "":
		return gate.Way{Known: true, Text: fmt.Sprintf("nginx itself answers it, and passes it on to nothing (%s)", place)}
	case route.Masks != "":
		return gate.Way{Known: true, Text: fmt.Sprintf("nginx answers as well where the app doesn't (%s)", route.Masks)}
	case route.Cache != "":
		return gate.Way{Known: true, Stale: true, Text: fmt.Sprintf("nginx may answer from its cache (%s)", route.Cache)}
	}
	return f.ends(request, route, hops)
}

// ends looks at every server that a request may be passed to: all of them have to be the app.
func (f follower) ends(request proxy.Request, route proxy.Route, hops int) gate.Way {
	if len(route.Targets) == 0 {
		return gate.Way{Known: true, Text: fmt.Sprintf("nginx passes it to no server (%s at %s)", route.Pass, route.PassAt)}
	}
	reached := 0
	var elsewhere gate.Way
	for _, target := range route.Targets {
		way := f.at(target, request, route, hops)
		if way.App {
			reached++
		} else if elsewhere.Text == "" || elsewhere.Known && !way.Known {
			elsewhere = way
		}
	}
	switch {
	case reached == len(route.Targets):
		return gate.Way{App: true, Known: true}
	case reached > 0:
		return gate.Way{Text: fmt.Sprintf("nginx may pass it to another server than the app (%s at %s): %s", route.Pass, route.PassAt, elsewhere.Text)}
	}
	return elsewhere
}

// at says whether the app listens at an address that a request is passed to, or a server of nginx itself, which is followed.
func (f follower) at(target string, request proxy.Request, route proxy.Route, hops int) gate.Way {
	passed := fmt.Sprintf("nginx passes it to %s (%s)", target, route.PassAt)
	address, err := probe.ParseBind(target)
	switch {
	case err != nil:
		return gate.Way{Text: passed}
	case f.isBind(address):
		return gate.Way{App: true}
	}
	held := heldAmong(f.listeners, address)
	switch {
	case len(held) > 0 && !slices.ContainsFunc(held, func(h gate.Holder) bool { return !f.isOurs(h) }):
		return gate.Way{App: true} // it listens at several addresses
	case slices.ContainsFunc(held, f.isNginx):
		return f.inner(address, request, route, hops)
	case len(held) > 0:
		return gate.Way{Text: fmt.Sprintf("%s, where %s listens, and not %s", passed, held[0], f.name)}
	case f.listeners != nil && f.isHere(address) && len(socket.Serving(f.listeners, address.Network, address.Addr)) == 0:
		return gate.Way{Known: true, Text: passed + ", where nothing listens"}
	}
	return gate.Way{Text: passed + ", and who listens there is not known"}
}

func (f follower) isOurs(h gate.Holder) bool {
	return h.Unit == f.name || slices.ContainsFunc(f.state.Processes, func(p gate.Process) bool { return p.PID == h.PID })
}

// isBind reports whether an address is where the app is known to listen, however the two are spelled.
func (f follower) isBind(a probe.Address) bool {
	bind, err := probe.ParseBind(f.bind)
	return err == nil && sameListener(f.listeners, a, bind)
}

// sameListener reports whether two addresses lead to the same listener: by their text, the file's place, or the kernel's table.
func sameListener(all []socket.Listener, a, b probe.Address) bool {
	if a == b {
		return true
	}
	if a.Network != b.Network {
		return false
	}
	if a.Network == "unix" {
		dirA, err := untrusted.EvalSymlinks(filepath.Dir(a.Addr))
		dirB, err2 := untrusted.EvalSymlinks(filepath.Dir(b.Addr))
		if err == nil && err2 == nil && filepath.Join(dirA, filepath.Base(a.Addr)) == filepath.Join(dirB, filepath.Base(b.Addr)) {
			return true
		}
		one, err := untrusted.Stat(a.Addr)
		two, err2 := untrusted.Stat(b.Addr)
		return err == nil && err2 == nil && os.SameFile(one, two)
	}
	one, two := socket.Serving(all, a.Network, a.Addr), socket.Serving(all, b.Network, b.Addr)
	return len(one) > 0 && slices.EqualFunc(one, two, func(x, y socket.Listener) bool { return x.Inode == y.Inode })
}

// isHere reports whether an address is this host's, without asking anyone.
func (f follower) isHere(a probe.Address) bool {
	if a.Network == "unix" {
		return true
	}
	host, _, err := net.SplitHostPort(a.Addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && isLocal(ip.Unmap())
}

// inner follows a request into a server of the same nginx, as one that ends TLS in front of another has it.
func (f follower) inner(to probe.Address, request proxy.Request, route proxy.Route, hops int) gate.Way {
	scheme, _, _ := strings.Cut(route.Pass, "://")
	next := proxy.Request{Status: request.Status, Path: route.PathPassed, TLS: scheme == "https" || scheme == "grpcs"}
	switch passed := route.HostPassed; {
	case passed == "$host" || passed == "$http_host":
		next.Host = request.Host
	case passed == "$proxy_host":
		_, host, _ := strings.Cut(route.Pass, "://")
		next.Host, _, _ = strings.Cut(host, "/")
	case !strings.Contains(passed, "$"):
		next.Host = passed
	default:
		return gate.Way{Text: fmt.Sprintf("nginx passes it to itself at %s, by a Host that isn't known (%s)", to, route.PassAt)}
	}
	if next.Path == "" {
		return gate.Way{Text: fmt.Sprintf("nginx passes it to itself at %s, by a path that isn't known (%s)", to, route.PassAt)}
	}
	if to.Network == "unix" {
		next.Addr = to.String()
		return f.follow(next, hops+1)
	}
	at, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return gate.Way{Text: fmt.Sprintf("nginx passes it to itself at %s (%s)", to, route.PassAt)}
	}
	next.Addr, next.Port = at.Addr().String(), int(at.Port())
	return f.follow(next, hops+1)
}

// detour finds another path of the site that leads to the app; where none does, and "/" is passed on to other servers only,
// it is that one.
func (f follower) detour(request proxy.Request) *gate.Detour {
	asked := request.Path
	request.Status = 0
	for _, path := range f.config.Locations(request) {
		request.Path = path
		if path != asked && f.follow(request, 0).App {
			return f.by(path, "")
		}
	}
	request.Path = "/"
	route := f.config.Route(request)
	toApp := func(target string) bool { return f.at(target, request, route, 0).App }
	if asked == "/" || !route.Known || len(route.Targets) == 0 || slices.ContainsFunc(route.Targets, toApp) {
		return nil
	}
	return f.by("/", fmt.Sprintf("%s, by %s", strings.Join(route.Targets, ", "), route.PassAt))
}

// by is a request for a path, nil where it can't be made.
func (f follower) by(path, elsewhere string) *gate.Detour {
	through, direct := f.ask(path)
	if through == nil || direct == nil {
		return nil
	}
	return &gate.Detour{Path: path, Through: through, Direct: direct, Elsewhere: elsewhere}
}

// at is the block that decides.
func at(r proxy.Route) string {
	if r.Location == "" {
		return r.Server
	}
	return r.Location
}
