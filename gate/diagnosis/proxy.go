package diagnosis

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"deploygate/gate"
	"deploygate/gate/proxy"
)

const (
	eagain = int(syscall.EAGAIN)
	eacces = int(syscall.EACCES)
)

// targetsElsewhere: nginx's configuration leads the health request, or, where its route isn't known, every request, to
// where the app doesn't listen.
func targetsElsewhere(f *Facts) *match {
	targets, m := f.Proxy.Upstreams, newMatch("passat", "")
	if r := f.Proxy.Route; r != nil && r.Known {
		targets = r.Targets
		m.words["passat"] = " at " + r.PassAt
		m.with(r.PassAt, "proxy_pass "+r.Pass+";")
	}
	if f.Bind == "" || len(targets) == 0 || slices.ContainsFunc(targets, f.isBind) {
		return nil
	}
	m.words["target"] = strings.Join(targets, ", ")
	m.with("where "+f.Unit.Name+" listens", f.Bind)
	if e := f.lastError(func(e proxy.Entry) bool { return e.Upstream != "" }); e != nil {
		m.with(f.proxySource(e), e.Raw)
	}
	return m
}

// isBind reports whether an address is where the app listens. Names of the loopback are one.
func (f *Facts) isBind(target string) bool {
	return loopback(target) == loopback(f.Bind)
}

func loopback(addr string) string {
	for _, host := range []string{"localhost:", "0.0.0.0:", "[::1]:", "[::]:"} {
		if port, is := strings.CutPrefix(addr, host); is {
			return "127.0.0.1:" + port
		}
	}
	return addr
}

// unreachable: the way to the app's socket is closed to nginx's workers.
func unreachable(f *Facts) *match {
	w := f.Socket.Reach
	if w == nil || w.Denied == "" {
		return nil
	}
	need := map[string]string{"search": "enter", "write": "connect to"}[w.Need]
	m := newMatch("denied", w.Denied, "need", need).with("the way to "+f.socketPath(), w.String())
	if e := f.lastError(func(e proxy.Entry) bool { return e.Errno == eacces }); e != nil {
		m.with(f.proxySource(e), e.Raw)
	}
	return m
}

// lastError is the last line of nginx's error log that is wanted.
func (f *Facts) lastError(wanted func(proxy.Entry) bool) *proxy.Entry {
	for _, e := range slices.Backward(f.Proxy.Log) {
		if wanted(e) {
			return &e
		}
	}
	return nil
}

func (f *Facts) proxySource(e *proxy.Entry) string {
	return "nginx's error log at " + e.At.Format(time.TimeOnly)
}

// upstreamError proves by nginx's last word on a connection to the app.
func upstreamError(errno int) proof {
	return func(f *Facts) *match {
		e := f.lastError(func(e proxy.Entry) bool { return e.Upstream != "" })
		if e == nil || e.Errno != errno {
			return nil
		}
		return newMatch().with(f.proxySource(e), e.Raw)
	}
}

// proxyGivesUp: nginx stopped waiting for an answer that the app does give.
func proxyGivesUp(f *Facts) *match {
	e := f.lastError(func(e proxy.Entry) bool { return e.Upstream != "" })
	if f.Proxied.status() != http.StatusGatewayTimeout || e == nil || e.Errno != int(syscall.ETIMEDOUT) {
		return nil
	}
	m := newMatch("readtimeout", "proxy_read_timeout").with(f.proxySource(e), e.Raw)
	if f.Proxy.Route != nil && f.Proxy.Route.Known {
		m.words["readtimeout"] = f.Proxy.Route.ReadTimeout.String()
		m.with(f.Proxy.Route.Location, "proxy_read_timeout is "+f.Proxy.Route.ReadTimeout.String())
	}
	return m.with("http", fmt.Sprintf("%d after %s at %s", f.Direct.status(), seconds(f.Direct.Answer.Took), f.Bind))
}

// upstreamCloses: the app ended nginx's connection without an answer.
func upstreamCloses(f *Facts) *match {
	e := f.lastError(func(e proxy.Entry) bool { return e.Upstream != "" })
	if e == nil || e.Errno != int(syscall.ECONNRESET) && !strings.Contains(e.Text, "prematurely closed connection") {
		return nil
	}
	return newMatch().with(f.proxySource(e), e.Raw)
}

// proxyInvalid: nginx -t says so.
func proxyInvalid(f *Facts) *match {
	t := f.Proxy.Test
	if t == nil || t.Cause != gate.ProxyConfigInvalid {
		return nil
	}
	m := newMatch("summary", t.Summary, "advice", strings.Join(t.Advice, "; "))
	m.evidence = t.Evidence
	return m
}

// proxyStopped: nothing listens where requests go, and nginx's unit isn't up.
func proxyStopped(f *Facts) *match {
	refused := errors.Is(f.Proxied.err(), syscall.ECONNREFUSED)
	if f.Proxy.Program == "" || f.Proxy.Running || f.Proxy.URL != "" && !refused {
		return nil
	}
	m := newMatch().with("systemd", f.Proxy.Unit+": "+f.Proxy.State)
	if refused {
		m.with("connect to "+f.Proxy.URL, f.Proxied.err().Error())
	}
	return m
}

// proxyElsewhere: nginx runs, and doesn't listen where requests go.
func proxyElsewhere(f *Facts) *match {
	if !f.Proxy.Running || !errors.Is(f.Proxied.err(), syscall.ECONNREFUSED) {
		return nil
	}
	return newMatch().with("connect to "+f.Proxy.URL, f.Proxied.err().Error()).
		with("systemd", f.Proxy.Unit+": "+f.Proxy.State)
}

// ownPage reports whether nginx itself wrote the answer.
func (f *Facts) ownPage() bool {
	return f.Proxied.Answer != nil && strings.Contains(f.Proxied.Answer.Body, "<center>nginx")
}

// redirectsItself: the redirect is nginx's, and not the app's.
func redirectsItself(f *Facts) *match {
	if !f.ownPage() || f.Proxied.status()/100 != 3 {
		return nil
	}
	to := f.Proxied.Answer.Header.Get("Location")
	m := newMatch("to", to).with("http", fmt.Sprintf("%d with nginx's own page, Location: %s", f.Proxied.status(), to))
	if r := f.Proxy.Route; r != nil && r.Known && r.Returns != "" {
		m.with(where(r), r.Returns+";")
	}
	return m
}

// answersItself: the answer is nginx's own page, and not for want of an answer from the app.
func answersItself(f *Facts) *match {
	a := f.Proxied.Answer
	if !f.ownPage() || a.Status == http.StatusBadGateway || a.Status == http.StatusGatewayTimeout {
		return nil
	}
	m := newMatch("status", fmt.Sprint(a.Status)).with("http", fmt.Sprintf("%d with nginx's own page", a.Status))
	if r := f.Proxy.Route; r != nil && r.Known {
		at := where(r)
		m.words["location"] = at
		if r.Returns != "" {
			m.words["why"] = ": " + r.Returns
			m.with(at, r.Returns+";")
		}
	}
	if e := f.lastError(func(e proxy.Entry) bool { return e.Request != "" }); e != nil {
		m.words["why"] = ": " + e.Text
		m.with(f.proxySource(e), e.Raw)
	}
	return m
}

// where is the block that decides.
func where(r *proxy.Route) string {
	if r.Location == "" {
		return r.Server
	}
	return r.Location
}

// hostChanged: the app answers to the Host that is asked for, and not to what nginx makes of it.
func hostChanged(f *Facts) *match {
	r := f.Proxy.Route
	if f.Proxied.Finding.Cause != gate.DisallowedHost || r == nil || !r.Known || f.Proxy.Host != f.Host {
		return nil
	}
	m := newMatch("passed", "proxy_set_header Host "+r.HostPassed)
	m.evidence = f.Proxied.Finding.Evidence
	return m.with(r.Location, "proxy_set_header Host "+r.HostPassed+" is in force")
}
