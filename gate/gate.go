package gate

import (
	"context"
	"fmt"
	"time"
)

// Unit looks at the app's unit.
type Unit interface {
	State(ctx context.Context) (UnitState, error)
}

// Prober sends the same request again and again, every so often, until observe says that it has seen enough or the
// context ends, whose error it then gives.
type Prober interface {
	Probe(ctx context.Context, every time.Duration, observe func(Answer) (enough bool)) error
}

// Proxy is the server in front of the app.
type Proxy interface {
	// Begin checks its configuration before anything is touched, and remembers it as the one that is loaded.
	Begin(ctx context.Context) error
	// Test checks its configuration and loads it if it is not the loaded one; reloaded says so.
	Test(ctx context.Context) (reloaded bool, err error)
}

// Gate is what a release must pass. A nil Proxy skips the test of its configuration, a nil Through the request
// through it.
type Gate struct {
	Unit    Unit
	Direct  Prober
	Health  Expectation
	Proxy   Proxy
	Through Prober
	Proxied Expectation

	Interval time.Duration // between two probes
	Stable   time.Duration // of uninterrupted health
	Deadline time.Duration // from the start of Await to healthy

	// Patient asks as Direct does and waits longer for an answer; nil: not at all. It tells an app that is late from one
	// that never answers.
	Patient Prober
	// Busy counts the connections that the app has accepted; nil: unknown. It tells an app that hangs in a request from
	// one that hangs before it takes any.
	Busy func() int

	passed *Answer
}

// Passed is the app's own last good answer, nil if there was none.
func (g *Gate) Passed() *Answer { return g.passed }

// proxyGrace is how long the proxy may fail while the app itself is healthy: nginx leaves out an upstream that failed
// for fail_timeout, 10 s by default (ngx_http_upstream_module).
const proxyGrace = 12 * time.Second

// Progress hears what is being waited for, whenever that changes.
type Progress func(detail string)

func silent(string) {}

// Await waits until the expected release has been healthy without interruption for Stable. It fails at once when the
// unit crashes, and at Deadline with the last reason why not. An error is a *Finding, or the context's cause.
func (g *Gate) Await(ctx context.Context, e Expect, say Progress) error {
	return g.direct(ctx, e, wait{stable: g.Stable, deadline: g.Deadline}, say)
}

// Verify is Await for what should be healthy already: the first failure ends it.
func (g *Gate) Verify(ctx context.Context, e Expect, say Progress) error {
	return g.direct(ctx, e, wait{stable: g.Stable, deadline: g.Stable + g.Deadline, strict: true}, say)
}

// Glance is Verify with one probe, for what is said of the host before it is touched.
func (g *Gate) Glance(ctx context.Context, e Expect) error {
	return g.direct(ctx, e, wait{deadline: g.Deadline, strict: true}, silent)
}

func (g *Gate) direct(ctx context.Context, e Expect, w wait, say Progress) error {
	if first, err := g.Unit.State(ctx); err == nil {
		e.begin(first)
		if f := Crash(first, e); f != nil {
			return f
		}
	}
	w.prober, w.every = g.Direct, g.Interval
	health := g.Health.of(e)
	var hung hung
	w.judge = func(ctx context.Context, a *Answer) *Finding {
		if a.Timeout {
			hung.look(ctx, g, health, a)
		}
		if f := health.Judge(*a); f != nil {
			return f
		}
		// The state is read after the answer: a process that was replaced in between is not taken for its successor.
		st, err := g.Unit.State(ctx)
		if err != nil {
			return NewFinding(LayerService, Unknown, fmt.Sprintf("cannot ask systemd: %v", err))
		}
		f := Proof(st, e, a.Peer)
		if f == nil {
			g.passed = a
		}
		return f
	}
	w.watch = func(ctx context.Context) *Finding { return g.watch(ctx, e) }
	return w.run(ctx, say)
}

// hung is what is learnt of an app that gives no answer in time.
type hung struct {
	busiest int // connections that it had accepted
	asked   bool
	late    chan Answer // a good answer to the patient request
}

// look is called after each probe without an answer; the first sends the patient request, which ends with ctx.
func (h *hung) look(ctx context.Context, g *Gate, x Expectation, a *Answer) {
	if g.Busy != nil {
		h.busiest = max(h.busiest, g.Busy())
		a.Busy = h.busiest
	}
	if g.Patient != nil && !h.asked {
		h.asked, h.late = true, make(chan Answer, 1)
		go func() {
			if late, wrong := ask(ctx, g.Patient, x); late != nil && wrong == nil {
				h.late <- *late
			}
		}()
	}
	select {
	case late := <-h.late:
		a.Late = &late
		h.late <- late
	default:
	}
}

// Look asks the app itself once, if it is known where, and gives how its unit is, the answer (nil without one), and what
// is wrong; nil: nothing.
func (g *Gate) Look(ctx context.Context, e Expect) (UnitState, *Answer, *Finding) {
	var a *Answer
	var wrong *Finding
	if g.Direct != nil {
		a, wrong = ask(ctx, g.Direct, g.Health.of(e))
	}
	st, err := g.Unit.State(ctx)
	if err != nil {
		return st, a, NewFinding(LayerService, Unknown, fmt.Sprintf("cannot ask systemd: %v", err))
	}
	e.begin(st)
	if f := Crash(st, e); f != nil {
		return st, a, f
	}
	if wrong == nil && a != nil {
		wrong = Proof(st, e, a.Peer)
	}
	return st, a, wrong
}

// LookThrough asks it once through the proxy; nil, nil where that isn't configured.
func (g *Gate) LookThrough(ctx context.Context, e Expect) (*Answer, *Finding) {
	if g.Through == nil {
		return nil, nil
	}
	a, wrong := ask(ctx, g.Through, g.Proxied.of(e))
	return a, wrong
}

// ask sends one request.
func ask(ctx context.Context, p Prober, x Expectation) (answer *Answer, wrong *Finding) {
	err := p.Probe(ctx, 0, func(a Answer) bool {
		answer, wrong = &a, x.Judge(a)
		return true
	})
	if answer == nil {
		return nil, NewFinding(LayerHealth, Unknown, fmt.Sprintf("cannot ask %s: %v", x.Where, err))
	}
	return answer, wrong
}

// watch looks at the unit all the time, so that a crash also ends a probe that hangs. It gives nil when ctx ends.
func (g *Gate) watch(ctx context.Context, e Expect) *Finding {
	tick := time.NewTicker(g.Interval)
	defer tick.Stop()
	for {
		// No look at all (D-Bus restarts) is not a crash; health can't be proven without one either.
		if st, err := g.Unit.State(ctx); err == nil {
			e.begin(st)
			if f := Crash(st, e); f != nil {
				return f
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// TestProxy tests the proxy's configuration and loads it if it changed.
func (g *Gate) TestProxy(ctx context.Context) (reloaded bool, err error) {
	if g.Proxy == nil {
		return false, nil
	}
	return g.Proxy.Test(ctx)
}

// PassProxy asks the app through the proxy. One good answer is enough, since the app's own health was held already;
// after a reload it is held for Stable, since the proxy's old workers may still be the ones that answer.
func (g *Gate) PassProxy(ctx context.Context, e Expect, reloaded bool, say Progress) error {
	w := wait{deadline: min(g.Deadline, proxyGrace)}
	if reloaded {
		w.stable, w.deadline = g.Stable, w.deadline+g.Stable
	}
	return g.through(ctx, e, w, say)
}

// GlanceProxy is one probe through the proxy.
func (g *Gate) GlanceProxy(ctx context.Context, e Expect) error {
	return g.through(ctx, e, wait{deadline: g.Deadline, strict: true}, silent)
}

func (g *Gate) through(ctx context.Context, e Expect, w wait, say Progress) error {
	if g.Through == nil {
		return nil
	}
	w.prober, w.every, w.proxied = g.Through, g.Interval, true
	proxied := g.Proxied.of(e)
	w.judge = func(_ context.Context, a *Answer) *Finding { return proxied.Judge(*a) }
	return w.run(ctx, say)
}
