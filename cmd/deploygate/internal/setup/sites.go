package setup

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate/probe"
	"deploygate/gate/proxy"
	"deploygate/gate/proxy/nginx"
	"deploygate/gate/proxy/nginx/conf"
	"deploygate/gate/untrusted"
)

// findProxy finds the ways by which nginx leads requests to the app.
func (f *found) findProxy(ctx context.Context) []entrance {
	n := &nginx.Nginx{Program: nginx.Find()}
	if n.Program == "" {
		return nil
	}
	effective, err := n.Effective(ctx)
	if err != nil {
		f.Open = append(f.Open, fmt.Sprintf("health.host and proxy.url may have to be set: nginx can't be asked: %v", err))
		return nil
	}
	ways := waysTo(effective, f.bind)
	if len(ways) == 0 {
		f.Open = append(f.Open, fmt.Sprintf("nginx leads no request to %s, as far as its configuration shows: set health.host and proxy.url, or "+
			"proxy.kind = \"none\" if it isn't in front", f.bind))
	}
	return ways
}

// waysTo returns the ways by which nginx leads a request for any of the usual paths to where the app listens.
func waysTo(effective *conf.Config, bind string) (ways []entrance) {
	for _, e := range entrances(effective) {
		for _, path := range usualPaths {
			e.request.Path = path
			route := effective.Route(e.request)
			if !route.Known || !slices.ContainsFunc(route.Targets, func(t string) bool { return sameAddress(t, bind) }) {
				continue
			}
			e.at = route.Server
			e.paths = append(e.paths, path)
		}
		if len(e.paths) > 0 {
			ways = append(ways, e)
		}
	}
	return ways
}

// hostsOf returns the names by which the app is reached, each once, and the default one.
func hostsOf(ways []entrance) (hosts []string) {
	for _, w := range ways {
		hosts = append(hosts, w.request.Host)
	}
	hosts = append(hosts, config.Defaults("").Health.Host)
	all := hosts[:0]
	for _, host := range hosts {
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	return all
}

// through takes the first way that answers the health request well, else the first one at all. Those of the app's host come first.
func (f *found) through(ctx context.Context, ways []entrance) {
	d := config.Defaults("")
	path := cmp.Or(f.path, d.Health.Path)
	usual := slices.Contains(usualPaths, path)
	ways = slices.DeleteFunc(slices.Clone(ways), func(e entrance) bool { return usual && !slices.Contains(e.paths, path) })
	slices.SortStableFunc(ways, func(a, b entrance) int {
		own := func(e entrance) int {
			if e.request.Host == f.host {
				return 0
			}
			return 1
		}
		return own(a) - own(b)
	})
	take := func(e entrance) {
		if f.host == "" {
			f.host, f.hostAt = e.request.Host, "the server_name at "+e.at
		}
		f.proxyHost = e.request.Host
		f.url, f.urlAt = e.url(), "where the server at "+e.at+" listens"
	}
	for _, e := range ways {
		got := asker{headers: d.Health.Headers}.ask(ctx, e.url()+path, e.request.Host)
		f.Answers = append(f.Answers, Answer{e.url() + path + " as " + e.request.Host, got.Status, says(got)})
		if isGood(got) {
			take(e)
			return
		}
	}
	if len(ways) > 0 {
		take(ways[0])
	}
}

// sameAddress reports whether two addresses in gunicorn's syntax lead to the same socket of this host.
func sameAddress(a, b string) bool {
	x, xerr := probe.ParseBind(a)
	y, yerr := probe.ParseBind(b)
	if xerr != nil || yerr != nil {
		return false
	}
	return meant(x) == meant(y)
}

func meant(a probe.Address) string {
	if a.Network == "unix" {
		return realPath(a.Addr)
	}
	if host, port, err := net.SplitHostPort(a.Addr); err == nil && (host == "localhost" || host == "::1") {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return a.Addr
}

// realPath is a path whose directory has no symlinks, as far as it exists.
func realPath(file string) string {
	dir, err := untrusted.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return file
	}
	return filepath.Join(dir, filepath.Base(file))
}

// entrance is one way into nginx.
type entrance struct {
	request proxy.Request
	at      string   // the server, FILE:LINE
	paths   []string // which of the usual ones lead to the app
}

// url is its address, without a path.
func (e entrance) url() string {
	scheme, usual, host := "http", 80, e.request.Addr
	if e.request.TLS {
		scheme, usual = "https", 443
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if e.request.Port != usual {
		host = fmt.Sprintf("%s:%d", host, e.request.Port)
	}
	return scheme + "://" + host
}

// plainName is a server_name that is one host's, no pattern.
var plainName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// entrances lists every way into nginx over TCP, by the names and addresses of its servers: those without TLS first,
// else in the configuration's order. A server without a name of its own is tried by the default one.
func entrances(c *conf.Config) (all []entrance) {
	for _, http := range c.Directives {
		if http.Name != "http" {
			continue
		}
		for _, server := range http.Block {
			if server.Name == "server" {
				all = append(all, entrancesOf(server)...)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entrance) int {
		switch {
		case a.request.TLS == b.request.TLS:
			return 0
		case b.request.TLS:
			return -1
		}
		return 1
	})
	return all
}

func entrancesOf(server conf.Directive) (all []entrance) {
	names, listens, tls := []string{}, [][]string{}, false
	for _, d := range server.Block {
		switch d.Name {
		case "server_name":
			names = append(names, slices.DeleteFunc(slices.Clone(d.Args), func(n string) bool { return !plainName.MatchString(n) })...)
		case "listen":
			listens = append(listens, d.Args)
		case "ssl": // until nginx 1.25
			tls = slices.Equal(d.Args, []string{"on"})
		}
	}
	if len(names) == 0 {
		names = []string{config.Defaults("").Health.Host}
	}
	if len(listens) == 0 {
		listens = [][]string{{"80"}}
	}
	for _, l := range listens {
		addr, port, ok := listenAt(l)
		if !ok {
			continue
		}
		for _, name := range names {
			all = append(all, entrance{request: proxy.Request{Port: port, Addr: addr, TLS: tls || slices.Contains(l, "ssl"), Host: strings.ToLower(name)}})
		}
	}
	return all
}

// listenAt is where a listen takes plain requests over TCP from this host.
func listenAt(args []string) (addr string, port int, ok bool) {
	if len(args) == 0 || strings.HasPrefix(args[0], "unix:") || slices.Contains(args, "quic") || slices.Contains(args, "proxy_protocol") {
		return "", 0, false
	}
	addr, service := args[0], "80"
	if i := strings.LastIndexByte(addr, ':'); i >= 0 && !strings.HasSuffix(addr, "]") {
		addr, service = addr[:i], addr[i+1:]
	} else if addr[0] >= '0' && addr[0] <= '9' && !strings.Contains(addr, ".") {
		addr, service = "*", addr
	}
	service, _, _ = strings.Cut(service, "-") // a range begins there
	port, err := strconv.Atoi(service)
	switch addr = strings.Trim(addr, "[]"); addr {
	case "*", "0.0.0.0", "localhost":
		addr = "127.0.0.1"
	case "::":
		addr = "::1"
	}
	return addr, port, err == nil && net.ParseIP(addr) != nil
}
