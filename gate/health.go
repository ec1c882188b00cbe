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

// HealthCheck is what one unit of the app must pass: its own state, and its answers on its own socket.
type HealthCheck struct {
	Unit   Unit
	Direct Prober
	Want   Want

	Interval time.Duration // between two probes
	Stable   time.Duration // of uninterrupted health
	Deadline time.Duration // from the start of Check to healthy
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
	// Failures returns which processes of the unit have failed since a moment; nil: unknown.
	Failures func(context.Context, time.Time) Failures
	// Ended returns a channel that is closed when a process has ended, or ctx has; nil where that can't be told. It may be
	// nil itself: then the unit is looked at every Interval.
	Ended func(ctx context.Context, pid int) <-chan struct{}

	// Flaps says of a unit that is up and that systemd had to start again whether that happens over and over; nil: unknown.
	Flaps func(context.Context, UnitState) *Finding

	passed *Answer
	start  Target // the start that was healthy; no Version is none
}

// Passed is the app's own last good answer, nil if there was none.
func (c *HealthCheck) Passed() *Answer { return c.passed }

// Wants says in a few words what the app itself has to do.
func (c *HealthCheck) Wants() string {
	codes := strings.ReplaceAll(strings.Trim(fmt.Sprint(c.Want.Status), "[]"), " ", " or ")
	return fmt.Sprintf("%s answers %s for %s without interruption, within %s", c.Want.Path, codes, c.Stable, c.Deadline)
}

// Check asks until the release that e wants is healthy. It fails at once when the unit crashes, and at Deadline with the last
// reason why not. An error is a *Finding, or the context's cause. say may be nil.
func (c *HealthCheck) Check(ctx context.Context, e Target, m Mode, say Progress) error {
	w := wait{prober: c.Direct, every: c.Interval, deadline: c.Deadline, strict: m&Strict != 0}
	if m&Hold != 0 {
		w.stable = c.Stable
	}
	if m == Hold|Strict { // an answer that takes its time is no failure yet
		w.deadline += c.Stable
	}
	var workers turnover
	strict := w.strict
	began, ended := time.Now(), 0 // ended: how many workers had, when the streak began
	if first, err := c.Unit.State(ctx); err == nil {
		e.begin(first)
		if f := Crash(first, e); f != nil {
			return f
		}
		workers.see(first)
		if m == Hold|Strict && c.booting(first) {
			w.strict = false
		}
		if strict { // what was just restarted has no past
			if f := cmp.Or(c.flaps(ctx, first), c.respawning(ctx, &workers, first)); f != nil {
				return f
			}
		}
	}
	health := c.Want.of(e.Version)
	var hung hung
	var closed closed
	var refusing Streak
	w.judge = func(ctx context.Context, a *Answer) (f *Finding, final bool) {
		if a.Timeout {
			hung.look(ctx, c, health, a)
		}
		f = health.Judge(*a)
		switch {
		case f == nil || !a.refusal():
			refusing.Break()
		case refusing.Hold(time.Now()) < c.GiveUp || c.GiveUp == 0 || strict:
		case !c.proven(ctx, e, a):
			refusing.Break()
		default:
			f.Summary += fmt.Sprintf(" (for %s without interruption)", c.GiveUp)
			return f, true
		}
		if f != nil {
			ended = workers.count()
			// What takes connections as it boots, as gunicorn and a socket unit do, is late; else an answer is an answer.
			return f, strict && a.Connected && (w.strict || !a.Timeout) || closed.forGood(a)
		}
		// The state is read after the answer: a process that was replaced in between is not taken for its successor.
		st, err := c.Unit.State(ctx)
		if err != nil {
			return noManager(err), false
		}
		workers.see(st)
		if f = Proof(st, e, a.Peer); f == nil {
			e.begin(st)
			c.passed, c.start = a, e
		}
		return f, false
	}
	w.confirm = func(ctx context.Context, a *Answer) (*Finding, time.Duration) {
		f, longer := c.steady(ctx, &workers, began, ended, strict)
		ended = workers.count()
		return cmp.Or(f, c.stray(ctx, e, a)), longer
	}
	begun := e
	w.watch = func(ctx context.Context) *Finding {
		return c.watch(ctx, begun, func(st UnitState) *Finding {
			workers.see(st)
			return c.overAndOver(ctx, &workers, st, began)
		})
	}
	return w.run(ctx, say)
}

// booting reports whether a unit was started a moment ago, so that it may not listen yet.
func (c *HealthCheck) booting(st UnitState) bool {
	return !st.Started.IsZero() && time.Since(st.Started) < c.Deadline
}

// flaps asks whether a unit that is up was started again by systemd over and over.
func (c *HealthCheck) flaps(ctx context.Context, st UnitState) *Finding {
	if c.Flaps == nil || st.NRestarts == 0 {
		return nil
	}
	return c.Flaps(ctx, st)
}

// Still says what has become of the unit since it was healthy: nothing, or a crash.
func (c *HealthCheck) Still(ctx context.Context, e Target) error {
	if st, err := c.Unit.State(ctx); err == nil {
		if f := Crash(st, c.since(e)); f != nil {
			return f
		}
	}
	return nil
}

// since is what was expected of a release, with the start of its unit that was healthy.
func (c *HealthCheck) since(e Target) Target {
	if e.Version != "" && c.start.Version == e.Version {
		return c.start
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
func (h *hung) look(ctx context.Context, c *HealthCheck, x Want, a *Answer) {
	if c.Busy != nil {
		h.busiest = max(h.busiest, c.Busy())
		a.Busy = h.busiest
	}
	if c.Patient != nil && !h.asked {
		h.asked, h.late = true, make(chan Answer, 1)
		go func() {
			if late, wrong := ask(ctx, c.Patient, x); late != nil && wrong == nil {
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

// proven reports whether an answer is the expected release's.
func (c *HealthCheck) proven(ctx context.Context, e Target, a *Answer) bool {
	st, err := c.Unit.State(ctx)
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
func (c *HealthCheck) Look(ctx context.Context, e Target) (UnitState, *Answer, *Finding) {
	var a *Answer
	var wrong *Finding
	st, err := c.Unit.State(ctx)
	if c.Direct != nil && (err != nil || !st.Dormant(e)) {
		a, wrong = ask(ctx, c.Direct, c.Want.of(e.Version))
		st, err = c.Unit.State(ctx)
	}
	if err == nil {
		st, err = c.started(ctx, st)
	}
	if err != nil {
		return st, a, noManager(err)
	}
	e.begin(st)
	if f := Crash(st, e); f != nil {
		return st, a, f
	}
	if wrong == nil && a != nil {
		wrong = cmp.Or(c.flaps(ctx, st), Proof(st, e, a.Peer), c.stray(ctx, e, a), c.respawning(ctx, &turnover{}, st))
	}
	return st, a, wrong
}

// started waits a little for what becomes of a start that systemd makes by itself: what crashed before is in between two
// crashes then, or on its way up.
func (c *HealthCheck) started(ctx context.Context, st UnitState) (UnitState, error) {
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
		if st, err = c.Unit.State(ctx); err != nil {
			return st, err
		}
	}
	return st, nil
}
