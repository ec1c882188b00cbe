package host

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/probe"
	"deploygate/gate/proxy"
	"deploygate/gate/socket"
)

// proxyUser is who nginx's workers run as: a worker that runs says it, else the configuration.
func (v *evidence) proxyUser() socket.Identity {
	if v.Proxy.Program == "" {
		return socket.Identity{}
	}
	for _, pid := range v.proxyWorkers {
		if who, err := socket.OfProcess(pid); err == nil && who.UID != 0 {
			v.Proxy.User = who.Name
			return who
		}
	}
	who, err := socket.OfUser(cmp.Or(v.Proxy.User, "www-data")) // Debian's, where the configuration has none
	if err != nil {
		return socket.Identity{}
	}
	v.Proxy.User = who.Name
	return who
}

// nginx looks at the proxy's unit and processes.
func (v *evidence) nginx(ctx context.Context) {
	n, p := v.proxy, &v.Proxy
	if n == nil {
		return
	}
	p.Program, p.Unit, p.URL, p.Host = n.Executable(), n.Unit(), v.Config.Proxy.URL, v.Config.Proxy.Host
	p.LogFiles = []string{v.Config.Proxy.ErrorLog}
	st, err := v.Manager.Unit(n.Unit()).State(ctx)
	if err != nil {
		v.unread("nginx's unit", err, "systemctl status "+n.Unit())
		return
	}
	p.Running, p.State = st.ActiveState == "active", fmt.Sprintf("%s (%s)", st.ActiveState, st.SubState)
	for _, process := range st.Processes {
		if process.PID != st.MainPID {
			v.proxyWorkers = append(v.proxyWorkers, process.PID)
		}
	}
}

// route reads nginx's configuration and finds where it sends the health request.
func (v *evidence) route(ctx context.Context) {
	if v.proxy == nil {
		return
	}
	p := &v.Proxy
	effective, err := v.proxy.Configuration(ctx)
	if p.Test != nil && p.Test.Cause == gate.ProxyConfigInvalid {
		return // which is said already
	}
	if err != nil {
		v.unread("nginx's configuration", err, p.Program+" -T")
		return
	}
	v.proxyConfig = effective
	p.User = cmp.Or(p.User, effective.User())
	if all, known := effective.Upstreams(); known {
		p.Upstreams = v.asBind(all)
	}
	request, ok := requestOf(p.URL, p.Host)
	if !ok {
		return
	}
	route := effective.Route(request)
	route.Targets = v.asBind(route.Targets)
	p.Route, p.Risks = &route, v.Deployer.Proxy.Risks(ctx)
	if v.Config.Proxy.ErrorLog == config.Defaults("").Proxy.ErrorLog && len(route.ErrorLogs) > 0 {
		p.LogFiles = route.ErrorLogs
	}
}

// asBind writes addresses that lead to where the app listens as that is written: a path may go through a symlink, a port be
// reached at several addresses.
func (v *evidence) asBind(targets []string) []string {
	bind, err := probe.ParseBind(v.Bind)
	if err != nil {
		return targets
	}
	all, err := socket.Listeners(bind.Network)
	if err != nil {
		return targets
	}
	targets = slices.Clone(targets)
	for i, target := range targets {
		if at, err := probe.ParseBind(target); err == nil && sameListener(all, at, bind) {
			targets[i] = v.Bind
		}
	}
	return targets
}

// requestOf is the request through the proxy as nginx sees it.
func requestOf(address, host string) (r proxy.Request, ok bool) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return r, false
	}
	r = proxy.Request{Port: 80, TLS: u.Scheme == "https", Host: cmp.Or(host, u.Hostname()), Path: cmp.Or(u.Path, "/")}
	if r.TLS {
		r.Port = 443
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		r.Addr = ip.String()
	}
	if port := u.Port(); port != "" {
		r.Port, _ = strconv.Atoi(port)
	}
	return r, true
}

// proxyLog reads what nginx logged of the app.
func (v *evidence) proxyLog(ctx context.Context, since, until time.Time) {
	const enough = 200
	for _, file := range v.Proxy.LogFiles {
		if !filepath.IsAbs(file) {
			continue // syslog:, stderr, memory:
		}
		entries, err := v.proxy.ErrorLog(ctx, file, since, enough)
		if err != nil {
			v.unread("nginx's error log", err, "tail -n 50 "+file)
		}
		for _, e := range entries {
			if !e.At.After(until) && v.about(e) {
				v.Proxy.Log = append(v.Proxy.Log, e)
			}
		}
	}
}

// about reports whether a line of nginx's error log is about this app, and not about another site.
func (v *evidence) about(e proxy.Entry) bool {
	host, _, _ := strings.Cut(e.Host, ":")
	return strings.Contains(e.Request, " "+v.Path+" ") && host == v.Proxy.Host ||
		v.Bind != "" && strings.Contains(e.Upstream, strings.TrimPrefix(v.Bind, "unix:"))
}
