package gate

import (
	"context"
	"strings"
	"time"
)

// Proxy is the server in front of the app.
type Proxy interface {
	// Begin checks its configuration before anything is touched, and remembers it as the one that is loaded.
	Begin(ctx context.Context) error
	// Test checks its configuration and loads it if it is not the loaded one; reloaded says so.
	Test(ctx context.Context) (reloaded bool, err error)
}

// ProxyCheck is what the app must pass through the server in front of it, once it is healthy itself. The zero value checks
// nothing.
type ProxyCheck struct {
	Server  Proxy  // nil: its configuration isn't tested
	Through Prober // nil: nothing is asked through it
	Want    Want
	// Certificate returns the risk of the certificate that the proxy shows, nil if there is none; nil itself: not looked at.
	Certificate func(context.Context) *Finding
	// Routes tells what a request through the proxy proves; nil: it is taken to reach the app.
	Routes Routes

	Interval time.Duration // between two probes
	Stable   time.Duration // of uninterrupted health
	Deadline time.Duration // from the start of Check
}

// None reports whether there is nothing to check.
func (c *ProxyCheck) None() bool { return c.Server == nil && c.Through == nil }

// Wants says what the proxy has to do; "" where there is none.
func (c *ProxyCheck) Wants() string {
	var wants []string
	if c.Server != nil {
		wants = append(wants, "configuration valid", "reloaded only if it changed")
	}
	switch {
	case c.Through != nil:
		wants = append(wants, "healthy through "+strings.TrimPrefix(c.Want.Where, "GET "))
	case c.Server != nil:
		wants = append(wants, `healthy through nothing (proxy.url is empty)`)
	}
	return strings.Join(wants, "; ")
}

// Begin checks the proxy's configuration before anything is touched, and remembers it as the one that is loaded.
func (c *ProxyCheck) Begin(ctx context.Context) error {
	if c.Server == nil {
		return nil
	}
	return c.Server.Begin(ctx)
}

// Test tests the proxy's configuration and loads it if it changed.
func (c *ProxyCheck) Test(ctx context.Context) (reloaded bool, err error) {
	if c.Server == nil {
		return false, nil
	}
	return c.Server.Test(ctx)
}

// proxyGrace is how long the proxy may fail while the app itself is healthy: nginx leaves out an upstream that failed
// for fail_timeout, 10 s by default (ngx_http_upstream_module).
const proxyGrace = 12 * time.Second

// Check asks for version of the app through the proxy. One good answer is enough, since the app's own health was held already;
// with Hold it is held for Stable, as it has to be after a reload: the proxy's old workers may still be the ones that answer.
// Without Strict the proxy has some seconds to find the app again. crashed watches the app meanwhile, until ctx ends: what it
// returns ends the check. Both crashed and say may be nil.
func (c *ProxyCheck) Check(
	ctx context.Context, version string, m Mode, crashed func(context.Context) *Finding, say Progress,
) (r Reach, err error) {
	if c.Through == nil {
		return r, nil
	}
	w := wait{prober: c.Through, every: c.Interval, deadline: c.Deadline, proxied: true, strict: m&Strict != 0, watch: crashed}
	if !w.strict {
		w.deadline = min(c.Deadline, proxyGrace)
	}
	if m&Hold != 0 {
		w.stable, w.deadline = c.Stable, w.deadline+c.Stable
	}
	status := 0
	want := c.Want.of(version)
	w.judge = func(_ context.Context, a *Answer) (*Finding, bool) {
		status = a.Status
		return want.Judge(*a), false
	}
	if err := w.run(ctx, say); err != nil {
		return r, err
	}
	r, wrong := c.reached(ctx, status)
	r.add(c.certificate(ctx))
	if wrong != nil {
		wrong.Proxied = true
		return r, wrong
	}
	return r, nil
}

// Look asks the app once through the proxy; nil, nil where that isn't configured. What is dormant has to be left alone.
func (c *ProxyCheck) Look(ctx context.Context, version string) (*Answer, *Finding) {
	if c.Through == nil {
		return nil, nil
	}
	a, wrong := ask(ctx, c.Through, c.Want.of(version))
	if wrong == nil {
		_, wrong = c.reached(ctx, a.Status)
	}
	return a, wrong
}
