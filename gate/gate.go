package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// Unit looks at the app's unit.
type Unit interface {
	State(ctx context.Context) (UnitState, error)
}

// Prober sends the same request again and again. After each, observe says whether to ask again, and how long after the
// beginning of this request the next one begins: at once if it took longer. It ends also with the context, whose error it
// then gives.
type Prober interface {
	Probe(ctx context.Context, observe func(Answer) (next time.Duration, again bool)) error
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
	Health  Want
	Proxy   Proxy
	Through Prober
	Proxied Want
	// Certificate gives the risk of the certificate that the proxy shows, nil if there is none; nil itself: not looked at.
	Certificate func(context.Context) *Finding
	// Routes tells what a request through the proxy proves; nil: it is taken to reach the app.
	Routes Routes

	Interval time.Duration // between two probes
	Stable   time.Duration // of uninterrupted health
	Deadline time.Duration // from the start of Await to healthy
	GiveUp   time.Duration // of uninterrupted refusals of the release itself, see Answer.refusal; 0: until Deadline

	// Patient asks as Direct does and waits longer for an answer; nil: not at all. It tells an app that is late from one
	// that never answers.
	Patient Prober
	// Busy counts the connections that the app has accepted; nil: unknown. It tells an app that hangs in a request from
	// one that hangs before it takes any.
	Busy func() int
	// Holders finds the processes that have the socket open at an address, as Answer.Remote; nil: unknown. Those of another
	// user or PID namespace may be missing.
	Holders func(addr string) []Holder
	// Log gives what the unit and its processes logged since a moment; nil: unknown.
	Log func(context.Context, time.Time) []LogLine
	// Ended gives a channel that is closed when a process has ended, or ctx has; nil where that can't be told. It may be
	// nil itself: then the unit is looked at every Interval.
	Ended func(ctx context.Context, pid int) <-chan struct{}

	// Flaps says of a unit that is up and that systemd had to start again whether that happens over and over; nil: unknown.
	Flaps func(context.Context, UnitState) *Finding

	passed *Answer
	start  Target // the start that was healthy; no Version is none
}

// Passed is the app's own last good answer, nil if there was none.
func (g *Gate) Passed() *Answer { return g.passed }

// Wants says in a few words what the app itself has to do.
func (g *Gate) Wants() string {
	codes := strings.ReplaceAll(strings.Trim(fmt.Sprint(g.Health.Status), "[]"), " ", " or ")
	return fmt.Sprintf("%s answers %s for %s without interruption, within %s", g.Health.Path, codes, g.Stable, g.Deadline)
}

// WantsOfProxy says what the proxy has to do; "" where there is none.
func (g *Gate) WantsOfProxy() string {
	var wants []string
	if g.Proxy != nil {
		wants = append(wants, "configuration valid", "reloaded only if it changed")
	}
	switch {
	case g.Through != nil:
		wants = append(wants, "healthy through "+strings.TrimPrefix(g.Proxied.Where, "GET "))
	case g.Proxy != nil:
		wants = append(wants, `healthy through nothing (proxy.url is empty)`)
	}
	return strings.Join(wants, "; ")
}

// proxyGrace is how long the proxy may fail while the app itself is healthy: nginx leaves out an upstream that failed
// for fail_timeout, 10 s by default (ngx_http_upstream_module).
const proxyGrace = 12 * time.Second

// Progress hears what is being waited for, whenever that changes.
type Progress func(detail string)

func silent(string) {}

// Await waits until the expected release has been healthy without interruption for Stable. It fails at once when the
// unit crashes, and at Deadline with the last reason why not. An error is a *Finding, or the context's cause.
func (g *Gate) Await(ctx context.Context, e Target, say Progress) error {
	return g.direct(ctx, e, wait{stable: g.Stable, deadline: g.Deadline}, say)
}

// Verify is Await for what should be healthy already: the first failure ends it.
func (g *Gate) Verify(ctx context.Context, e Target, say Progress) error {
	return g.direct(ctx, e, wait{stable: g.Stable, deadline: g.Stable + g.Deadline, strict: true}, say)
}

// Glance is Verify with one probe, for what is said of the host before it is touched.
func (g *Gate) Glance(ctx context.Context, e Target) error {
	return g.direct(ctx, e, wait{deadline: g.Deadline, strict: true}, silent)
}

func (g *Gate) direct(ctx context.Context, e Target, w wait, say Progress) error {
	var workers turnover
	began, ended := time.Now(), 0 // ended: how many workers had, when the streak began
	if first, err := g.Unit.State(ctx); err == nil {
		e.begin(first)
		if f := Crash(first, e); f != nil {
			return f
		}
		workers.see(first)
		if w.strict { // what was just restarted has no past
			if f := cmp.Or(g.flaps(ctx, first), g.respawning(ctx, &workers, first)); f != nil {
				return f
			}
		}
	}
	w.prober, w.every = g.Direct, g.Interval
	health := g.Health.of(e)
	var hung hung
	var closed closed
	var refusing Streak
	w.judge = func(ctx context.Context, a *Answer) (f *Finding, final bool) {
		if a.Timeout {
			hung.look(ctx, g, health, a)
		}
		f = health.Judge(*a)
		switch {
		case f == nil || !a.refusal():
			refusing.Break()
		case refusing.Hold(time.Now()) < g.GiveUp || g.GiveUp == 0 || w.strict:
		case !g.proven(ctx, e, a):
			refusing.Break()
		default:
			f.Summary += fmt.Sprintf(" (for %s without interruption)", g.GiveUp)
			return f, true
		}
		if f != nil {
			ended = workers.count()
			return f, closed.forGood(a)
		}
		// The state is read after the answer: a process that was replaced in between is not taken for its successor.
		st, err := g.Unit.State(ctx)
		if err != nil {
			return noManager(err), false
		}
		workers.see(st)
		if f = Proof(st, e, a.Peer); f == nil {
			e.begin(st)
			g.passed, g.start = a, e
		}
		return f, false
	}
	w.confirm = func(ctx context.Context, a *Answer) (*Finding, time.Duration) {
		f, longer := g.steady(ctx, &workers, began, ended, w.strict)
		ended = workers.count()
		return cmp.Or(f, g.stray(ctx, e, a)), longer
	}
	begun := e
	w.watch = func(ctx context.Context) *Finding {
		return g.watch(ctx, begun, func(st UnitState) *Finding {
			workers.see(st)
			return g.overAndOver(ctx, &workers, st, began)
		})
	}
	return w.run(ctx, say)
}

// flaps asks whether a unit that is up was started again by systemd over and over.
func (g *Gate) flaps(ctx context.Context, st UnitState) *Finding {
	if g.Flaps == nil || st.NRestarts == 0 {
		return nil
	}
	return g.Flaps(ctx, st)
}

// Still says what has become of the unit since it was healthy: nothing, or a crash.
func (g *Gate) Still(ctx context.Context, e Target) error {
	if st, err := g.Unit.State(ctx); err == nil {
		if f := Crash(st, g.since(e)); f != nil {
			return f
		}
	}
	return nil
}

// since is what was expected of a release, with the start of its unit that was healthy.
func (g *Gate) since(e Target) Target {
	if e.Version != "" && g.start.Version == e.Version {
		return g.start
	}
	return e
}

// hung is what is learnt of an app that gives no answer in time.
type hung struct {
	busiest int // connections that it had accepted
	asked   bool
	late    chan Answer // a good answer to the patient request
}

// look is called after each probe without an answer; the first sends the patient request, which ends with ctx.
func (h *hung) look(ctx context.Context, g *Gate, x Want, a *Answer) {
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

// proven tells whether an answer is the expected release's.
func (g *Gate) proven(ctx context.Context, e Target, a *Answer) bool {
	st, err := g.Unit.State(ctx)
	return err == nil && Proof(st, e, a.Peer) == nil
}

// closed notices a server that has listened and doesn't any more, though its main process is still there: gunicorn closes
// its socket first when it gives up, as it does when a worker failed to boot, and may then take half a minute to end.
type closed struct {
	listened bool
	since    time.Time
}

// forGood is told of each bad answer, and leaves a crash the time to show itself as one.
func (c *closed) forGood(a *Answer) bool {
	const enough = time.Second
	gone := errors.Is(a.Err, syscall.ENOENT) || errors.Is(a.Err, syscall.ECONNREFUSED)
	switch {
	case a.Connected:
		c.listened, c.since = true, time.Time{}
	case c.listened && gone && c.since.IsZero():
		c.since = time.Now()
	}
	return gone && !c.since.IsZero() && time.Since(c.since) >= enough
}

// Look asks the app itself once, if it is known where, and gives how its unit is, the answer (nil without one), and what
// is wrong; nil: nothing. What is dormant is not asked.
func (g *Gate) Look(ctx context.Context, e Target) (UnitState, *Answer, *Finding) {
	var a *Answer
	var wrong *Finding
	st, err := g.Unit.State(ctx)
	if g.Direct != nil && (err != nil || !st.Dormant(e)) {
		a, wrong = ask(ctx, g.Direct, g.Health.of(e))
		st, err = g.Unit.State(ctx)
	}
	if err == nil {
		st, err = g.started(ctx, st)
	}
	if err != nil {
		return st, a, noManager(err)
	}
	e.begin(st)
	if f := Crash(st, e); f != nil {
		return st, a, f
	}
	if wrong == nil && a != nil {
		wrong = cmp.Or(g.flaps(ctx, st), Proof(st, e, a.Peer), g.stray(ctx, e, a), g.respawning(ctx, &turnover{}, st))
	}
	return st, a, wrong
}

// started waits a little for what becomes of a start that systemd makes by itself: what crashed before is in between two
// crashes then, or on its way up.
func (g *Gate) started(ctx context.Context, st UnitState) (UnitState, error) {
	const (
		pause  = 20 * time.Millisecond
		enough = 2 * time.Second
	)
	for began := time.Now(); st.NRestarts > 0 && st.ActiveState == "activating" && !strings.HasPrefix(st.SubState, "auto-restart"); {
		if time.Since(began) > enough {
			break
		}
		select {
		case <-ctx.Done():
			return st, nil
		case <-time.After(pause):
		}
		var err error
		if st, err = g.Unit.State(ctx); err != nil {
			return st, err
		}
	}
	return st, nil
}

// LookThrough asks it once through the proxy; nil, nil where that isn't configured. What is dormant has to be left alone.
func (g *Gate) LookThrough(ctx context.Context, e Target) (*Answer, *Finding) {
	if g.Through == nil {
		return nil, nil
	}
	a, wrong := ask(ctx, g.Through, g.Proxied.of(e))
	if wrong == nil {
		_, wrong = g.reached(ctx, a.Status)
	}
	return a, wrong
}

// ask sends one request.
func ask(ctx context.Context, p Prober, x Want) (answer *Answer, wrong *Finding) {
	err := p.Probe(ctx, func(a Answer) (time.Duration, bool) {
		answer, wrong = &a, x.Judge(a)
		return 0, false
	})
	if answer == nil {
		return nil, NewFinding(LayerHealth, Unknown, fmt.Sprintf("cannot ask %s: %v", x.Where, err))
	}
	return answer, wrong
}

// noManager is the finding where systemd gives no answer.
func noManager(err error) *Finding {
	f := NewFinding(LayerService, Unknown, fmt.Sprintf("cannot ask systemd: %v", err))
	f.Unseen = true
	return f
}

// watch looks at the unit all the time, so that a crash also ends a probe that hangs. It gives nil when ctx ends.
//
// The end of the main process is the first proof of a crash. The kernel tells it at once, and systemd some milliseconds
// later what it makes of it, so that is when the unit is looked at most closely.
//
// more is what else is to be said of each look.
func (g *Gate) watch(ctx context.Context, e Target, more func(UnitState) *Finding) *Finding {
	const (
		closely = 5 * time.Millisecond
		enough  = time.Second // for systemd to notice
	)
	var ends ending
	for {
		// No look at all (D-Bus restarts) is not a crash; health can't be proven without one either.
		st, err := g.Unit.State(ctx)
		if err == nil {
			e.begin(st)
			if f := cmp.Or(Crash(st, e), Unread(st, e), more(st)); f != nil {
				return f
			}
			ends.of(ctx, g, st.MainPID)
		}
		pause := g.Interval
		switch {
		case !ends.at.IsZero() && time.Since(ends.at) < enough:
			pause = closely
		case ends.told != nil:
			pause = max(pause, watchedInterval)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ends.told:
			ends.told, ends.at = nil, time.Now()
		case <-time.After(pause):
		}
	}
}

// watchedInterval is how often the unit is looked at while its main process is watched: what it may come to without
// that process's end can wait.
const watchedInterval = 500 * time.Millisecond

// ending waits for the end of a unit's main process.
type ending struct {
	pid  int
	told <-chan struct{} // closed when it has ended; nil: nobody tells
	at   time.Time       // when it ended
}

// of begins with a process, if it is another one.
func (n *ending) of(ctx context.Context, g *Gate, pid int) {
	if g.Ended == nil || pid == 0 || pid == n.pid {
		return
	}
	*n = ending{pid: pid, told: g.Ended(ctx, pid)}
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
func (g *Gate) PassProxy(ctx context.Context, e Target, reloaded bool, say Progress) (Reach, error) {
	w := wait{deadline: min(g.Deadline, proxyGrace)}
	if reloaded {
		w.stable, w.deadline = g.Stable, w.deadline+g.Stable
	}
	return g.through(ctx, e, w, say)
}

// GlanceProxy is one probe through the proxy.
func (g *Gate) GlanceProxy(ctx context.Context, e Target) (Reach, error) {
	return g.through(ctx, e, wait{deadline: g.Deadline, strict: true}, silent)
}

func (g *Gate) through(ctx context.Context, e Target, w wait, say Progress) (r Reach, err error) {
	if g.Through == nil {
		return r, nil
	}
	status := 0
	w.prober, w.every, w.proxied = g.Through, g.Interval, true
	proxied := g.Proxied.of(e)
	w.judge = func(_ context.Context, a *Answer) (*Finding, bool) {
		status = a.Status
		return proxied.Judge(*a), false
	}
	if g.Unit != nil {
		w.watch = func(ctx context.Context) *Finding {
			return g.watch(ctx, g.since(e), func(UnitState) *Finding { return nil })
		}
	}
	if err := w.run(ctx, say); err != nil {
		return r, err
	}
	r, wrong := g.reached(ctx, status)
	r.add(g.certificate(ctx))
	if wrong != nil {
		wrong.Proxied = true
		return r, wrong
	}
	return r, nil
}
