package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// prober asks a function instead of a server. It gets the time since the first probe.
type prober func(ctx context.Context, after time.Duration) Answer

func (p prober) Probe(ctx context.Context, observe func(Answer) (time.Duration, bool)) error {
	began := time.Now()
	for again := true; again && ctx.Err() == nil; {
		asked := time.Now()
		a := p(ctx, time.Since(began))
		var next time.Duration
		if ctx.Err() == nil {
			if next, again = observe(a); again {
				pause(ctx, next-time.Since(asked))
			}
		}
	}
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func good(context.Context, time.Duration) Answer { return Answer{Status: 200, Peer: 7} }

func refused(context.Context, time.Duration) Answer { return Answer{Err: syscall.ECONNREFUSED} }

func hang(ctx context.Context, _ time.Duration) Answer {
	<-ctx.Done()
	return Answer{Err: ctx.Err()}
}

// slow answers nothing within a probe's own limit.
func slow(ctx context.Context, _ time.Duration) Answer {
	pause(ctx, 2*time.Second)
	return Answer{Err: errors.New("timeout"), Timeout: true, Took: 2 * time.Second}
}

// until is before for the first d, then after.
func until(d time.Duration, before, after prober) prober {
	return func(ctx context.Context, at time.Duration) Answer {
		if at < d {
			return before(ctx, at)
		}
		return after(ctx, at)
	}
}

// unit is a unit whose state depends on the time since it was made.
type unit struct {
	began time.Time
	state func(after time.Duration) (UnitState, error)
}

func (u unit) State(context.Context) (UnitState, error) { return u.state(time.Since(u.began)) }

func running() UnitState {
	return UnitState{
		Unit: "g.service", ActiveState: "active", SubState: "running", Result: "success", InvocationID: "new", MainPID: 7,
		Processes: []Process{{PID: 7, Dir: "/r/v42"}},
	}
}

func alive(time.Duration) (UnitState, error) { return running(), nil }

// crashed is alive for d, then dead for good.
func crashed(d time.Duration) func(time.Duration) (UnitState, error) {
	return func(after time.Duration) (UnitState, error) {
		st := running()
		if after >= d {
			st.ActiveState, st.SubState, st.Result, st.ExecMainStatus, st.MainPID = "failed", "failed", "exit-code", 3, 0
		}
		return st, nil
	}
}

var v42 = Target{Version: "v42", Dir: "/r/v42", Releases: "/r", InDir: true, Previous: "old"}

func newGate(state func(time.Duration) (UnitState, error), p prober) *HealthCheck {
	return &HealthCheck{
		Unit: unit{time.Now(), state}, Direct: p, Want: direct,
		Interval: 100 * time.Millisecond, Stable: 2 * time.Second, Deadline: 30 * time.Second,
	}
}

// in runs one wait in a bubble and gives how long it took.
func in(t *testing.T, wait func(ctx context.Context) error) (took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err = wait(t.Context())
		took = time.Since(began)
	})
	return took, err
}

func TestHold(t *testing.T) {
	notYet := func(after time.Duration) (UnitState, error) {
		st := running()
		if after < 3*time.Second {
			st.InvocationID = "old"
		}
		return st, nil
	}
	noBus := func(after time.Duration) (UnitState, error) {
		if after > time.Second && after < 4*time.Second {
			return UnitState{}, errors.New("connection closed by user")
		}
		return running(), nil
	}
	again := func(after time.Duration) (UnitState, error) {
		st := running()
		if after > 1500*time.Millisecond {
			st.InvocationID = "newer"
		}
		return st, nil
	}
	lateThenAgain := func(after time.Duration) (UnitState, error) {
		st := running()
		switch {
		case after < time.Second:
			st.InvocationID = "old"
		case after >= 2500*time.Millisecond:
			st.InvocationID = "newer"
		}
		return st, nil
	}
	wrongDir := func(time.Duration) (UnitState, error) {
		st := running()
		st.Processes = []Process{{PID: 7, Dir: "/r/v41"}}
		return st, nil
	}
	for _, c := range []struct {
		name  string
		state func(time.Duration) (UnitState, error)
		probe prober
		want  string // "" is healthy
		took  time.Duration
	}{
		{"healthy for stable without interruption", alive, good, "", 2 * time.Second},
		{"healthy after a slow boot", alive, until(5*time.Second, refused, good), "", 7 * time.Second},
		{"one bad answer starts the count again", alive, until(1900*time.Millisecond, good, until(2*time.Second, refused, good)), "", 4 * time.Second},
		{"the old process's answers count for nothing", notYet, good, "", 5 * time.Second},
		{"answers without a word of the unit count for nothing", noBus, good, "", 6 * time.Second},

		{"never", alive, refused, "nothing listens on it (not healthy for 2s within 30s)", 30 * time.Second},
		{"the last reason is told", alive, until(time.Second, refused, func(context.Context, time.Duration) Answer { return Answer{Status: 503} }), "answers 503", 30 * time.Second},
		{"for a while", alive, until(time.Second, good, refused), "though it was for a while", 30 * time.Second},
		{"now and then", alive, func(_ context.Context, at time.Duration) Answer {
			if at%(1900*time.Millisecond) < 100*time.Millisecond {
				return Answer{Status: 500}
			}
			return Answer{Status: 200, Peer: 7}
		}, "healthy for 2s", 30 * time.Second},
		{"healthy too late", alive, until(29*time.Second, refused, good), "not yet healthy for 2s when 30s had passed", 30 * time.Second},
		{"hangs from the beginning", alive, hang, "no answer within 30s", 30 * time.Second},
		{"the wrong release", wrongDir, good, "runs in /r/v41 instead of /r/v42", 30 * time.Second},

		{"crashed at once", crashed(0), refused, "failed (exit status 3)", 0},
		{"crashed later", crashed(5 * time.Second), refused, "failed (exit status 3)", 5 * time.Second},
		{"a crash ends a probe that hangs", crashed(5 * time.Second), hang, "failed (exit status 3)", 5 * time.Second},
		{"a crash ends a streak", crashed(1500 * time.Millisecond), good, "failed (exit status 3)", 1500 * time.Millisecond},
		{"a crash of what started only after the first look", lateThenAgain, good, "g.service crashed", 2500 * time.Millisecond},
		{"a crash that was restarted between two looks", again, good, "g.service crashed", 1600 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, err := in(t, func(ctx context.Context) error { return newGate(c.state, c.probe).Check(ctx, v42, Hold, nil) })
			var f *Finding
			if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &f) || !strings.Contains(f.Summary, c.want)) {
				t.Errorf("Check() = %v, want …%s…", err, c.want)
			}
			if took != c.took {
				t.Errorf("after %v, want %v", took, c.took)
			}
		})
	}
}

func TestATimeoutAfterAnAnswerIsNoBootThatHangs(t *testing.T) {
	for name, c := range map[string]struct {
		probe prober
		want  Cause
	}{
		"it answered before": {until(time.Second, good, slow), NoAnswer},
		"it never did":       {slow, Unknown},
	} {
		_, err := in(t, func(ctx context.Context) error { return newGate(alive, c.probe).Check(ctx, v42, Hold, nil) })
		var f *Finding
		if !errors.As(err, &f) || f.Cause != c.want {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestAnInterruptionEndsTheWaitWithItsCause(t *testing.T) {
	interrupted := errors.New("interrupted by SIGTERM")
	for name, p := range map[string]prober{"good": good, "refused": refused, "hangs": hang} {
		took, err := in(t, func(ctx context.Context) error {
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			time.AfterFunc(1500*time.Millisecond, func() { cancel(interrupted) })
			return newGate(alive, p).Check(ctx, v42, Hold, nil)
		})
		if !errors.Is(err, interrupted) || took != 1500*time.Millisecond {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

func TestStrictEndsWithTheFirstBadAnswer(t *testing.T) {
	for _, c := range []struct {
		name  string
		probe prober
		want  string
		took  time.Duration
	}{
		{"healthy", good, "", 2 * time.Second},
		{"not", refused, "nothing listens", 0},
		{"not any more", until(time.Second, good, refused), "nothing listens", time.Second},
	} {
		took, err := in(t, func(ctx context.Context) error { return newGate(alive, c.probe).Check(ctx, v42, Hold|Strict, nil) })
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || took != c.took {
			t.Errorf("%s: %v after %v", c.name, err, took)
		}
	}
}

func TestStrictWithoutHoldIsOneProbe(t *testing.T) {
	for name, p := range map[string]prober{"": good, "nothing listens": refused} {
		probes := 0
		_, err := in(t, func(ctx context.Context) error {
			return newGate(alive, func(ctx context.Context, at time.Duration) Answer { probes++; return p(ctx, at) }).Check(ctx, v42, Strict, nil)
		})
		if probes != 1 || (err == nil) != (name == "") {
			t.Errorf("%d probes, %v", probes, err)
		}
	}
}

func TestProgressHearsWhatIsBeingWaitedFor(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	say := func(detail string) {
		mu.Lock()
		defer mu.Unlock()
		if len(heard) == 0 || heard[len(heard)-1] != detail {
			heard = append(heard, detail)
		}
	}
	_, err := in(t, func(ctx context.Context) error {
		return newGate(alive, until(time.Second, refused, good)).Check(ctx, v42, Hold, say)
	})
	if got := fmt.Sprint(heard); err != nil || len(heard) != 2 || !strings.Contains(got, "nothing listens") || !strings.Contains(got, "healthy, holding for 2s") {
		t.Errorf("%q, %v", heard, err)
	}
}

// proxy is a proxy whose configuration test ends as it is told.
type proxy struct {
	reloaded bool
	err      error
}

func (proxy) Begin(context.Context) error          { return nil }
func (p proxy) Test(context.Context) (bool, error) { return p.reloaded, p.err }
func throughGate(p Proxy, through Prober) *ProxyCheck {
	return &ProxyCheck{Server: p, Through: through, Want: proxied, Interval: 100 * time.Millisecond, Stable: 2 * time.Second, Deadline: 30 * time.Second}
}

func TestTheProxyIsTestedAndAskedThrough(t *testing.T) {
	invalid := NewFinding(LayerProxy, ProxyConfigInvalid, "not valid")
	badGateway := prober(func(context.Context, time.Duration) Answer { return Answer{Status: 502} })
	for _, c := range []struct {
		name     string
		proxy    Proxy
		through  Prober
		reloaded bool
		want     string
		took     time.Duration
	}{
		{"no proxy at all", nil, nil, false, "", 0},
		{"only its configuration", proxy{}, nil, false, "", 0},
		{"unchanged: one good answer is enough", proxy{}, prober(good), false, "", 0},
		{"reloaded: held for stable", proxy{reloaded: true}, prober(good), true, "", 2 * time.Second},
		{"reloaded: old workers may still answer", proxy{reloaded: true}, until(time.Second, good, until(1100*time.Millisecond, badGateway, good)), true, "", 3100 * time.Millisecond},
		{"nginx leaves a failed upstream out for a while", proxy{}, until(11*time.Second, badGateway, good), false, "", 11 * time.Second},
		{"never reached", proxy{}, badGateway, false, "gets no answer from the app", proxyGrace},
		{"never reached after a reload", proxy{reloaded: true}, badGateway, true, "gets no answer from the app", proxyGrace + 2*time.Second},
		{"invalid: nothing is asked through it", proxy{err: invalid}, prober(hang), false, "not valid", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reloaded bool
			took, err := in(t, func(ctx context.Context) (err error) {
				g := throughGate(c.proxy, c.through)
				if reloaded, err = g.Test(ctx); err != nil {
					return err
				}
				mode := Once
				if reloaded {
					mode = Hold
				}
				_, err = g.Check(ctx, "v42", mode, nil, nil)
				return err
			})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check() = %v, want …%s…", err, c.want)
			}
			if reloaded != c.reloaded || took != c.took {
				t.Errorf("reloaded %v after %v; want %v after %v", reloaded, took, c.reloaded, c.took)
			}
		})
	}
}

func TestStrictThroughTheProxyIsOneProbe(t *testing.T) {
	took, err := in(t, func(ctx context.Context) error {
		_, err := throughGate(nil, prober(refused)).Check(ctx, "v42", Strict, nil, nil)
		return err
	})
	if err == nil || took != 0 {
		t.Errorf("%v after %v", err, took)
	}
	if _, err := in(t, func(ctx context.Context) error {
		_, err := throughGate(nil, nil).Check(ctx, "v42", Strict, nil, nil)
		return err
	}); err != nil {
		t.Errorf("no proxy: %v", err)
	}
}

// An app that is late is told from one that never answers, by one request that waits longer.
func TestALateAnswerIsRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		late  bool
	}{"late": {3 * time.Second, true}, "never": {time.Hour, false}} {
		var asked atomic.Int32
		_, err := in(t, func(ctx context.Context) error {
			g := newGate(alive, slow)
			g.Busy = func() int { return int(asked.Load()) }
			g.Patient = prober(func(ctx context.Context, _ time.Duration) Answer {
				asked.Add(1)
				pause(ctx, c.takes)
				if ctx.Err() != nil {
					return Answer{Err: ctx.Err()}
				}
				return Answer{Status: 200, Took: c.takes}
			})
			return g.Check(ctx, v42, Hold, nil)
		})
		var f *Finding
		if !errors.As(err, &f) || f.Answer == nil || (f.Answer.Late != nil) != c.late || asked.Load() != 1 || f.Answer.Busy != 1 {
			t.Errorf("%s: %+v after %d requests", name, f, asked.Load())
		}
	}
}

// The kernel tells of the end of the main process, and systemd a moment later what it makes of it.
func TestTheEndOfTheMainProcessIsNoticedAtOnce(t *testing.T) {
	const dies, noticed = 1234 * time.Millisecond, 1237 * time.Millisecond
	took, err := in(t, func(ctx context.Context) error {
		g := newGate(crashed(noticed), hang)
		g.Ended = func(ctx context.Context, pid int) <-chan struct{} {
			ended := make(chan struct{})
			if pid == running().MainPID {
				go func() { pause(ctx, dies); close(ended) }()
			}
			return ended
		}
		return g.Check(ctx, v42, Hold, nil)
	})
	if err == nil || took < noticed || took > noticed+5*time.Millisecond {
		t.Errorf("after %v: %v", took, err)
	}
}

// A process that ends in good order, or whose end systemd is slow to notice, is no crash by itself.
func TestTheEndOfTheMainProcessIsNotTheVerdict(t *testing.T) {
	took, err := in(t, func(ctx context.Context) error {
		g := newGate(alive, good)
		g.Ended = func(context.Context, int) <-chan struct{} {
			ended := make(chan struct{})
			close(ended)
			return ended
		}
		return g.Check(ctx, v42, Hold, nil)
	})
	if err != nil || took != 2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

func TestAStartIsAskedQuicklyAndThenLessOften(t *testing.T) {
	for _, c := range []struct {
		waited, every, want time.Duration
		answered            bool
	}{
		{0, 100 * time.Millisecond, 10 * time.Millisecond, false},
		{999 * time.Millisecond, 100 * time.Millisecond, 10 * time.Millisecond, false},
		{time.Second, 100 * time.Millisecond, 25 * time.Millisecond, false},
		{5 * time.Second, 100 * time.Millisecond, 100 * time.Millisecond, false},
		{0, time.Millisecond, time.Millisecond, false},
		{0, 100 * time.Millisecond, 100 * time.Millisecond, true},
	} {
		if got := (wait{every: c.every}).pace(c.waited, c.answered); got != c.want {
			t.Errorf("after %v, every %v: %v, want %v", c.waited, c.every, got, c.want)
		}
	}
}

// gunicorn 20.1 may take half a minute to end after a worker failed to boot. It has closed its socket then.
func TestAServerThatClosesItsSocketIsNotWaitedFor(t *testing.T) {
	listens := func(context.Context, time.Duration) Answer { return Answer{Err: io.ErrUnexpectedEOF, Connected: true} }
	for name, c := range map[string]struct {
		probe prober
		took  time.Duration
	}{
		"it listened and gave up":      {until(300*time.Millisecond, refused, until(time.Second, listens, refused)), 2 * time.Second},
		"it never listened":            {refused, 30 * time.Second},
		"it listens again":             {until(time.Second, listens, until(1500*time.Millisecond, refused, until(2*time.Second, listens, good))), 4 * time.Second},
		"it is late with its first":    {until(10*time.Second, refused, good), 12 * time.Second},
		"it crashes, which says more":  {until(time.Second, listens, refused), 1600 * time.Millisecond},
		"it was healthy for a moment":  {until(time.Second, good, until(1100*time.Millisecond, listens, refused)), 2100 * time.Millisecond},
		"it answers wrongly meanwhile": {until(time.Second, listens, func(context.Context, time.Duration) Answer { return Answer{Status: 500, Connected: true} }), 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			state := alive
			if name == "it crashes, which says more" {
				state = crashed(1600 * time.Millisecond)
			}
			took, err := in(t, func(ctx context.Context) error { return newGate(state, c.probe).Check(ctx, v42, Hold, nil) })
			if took != c.took {
				t.Errorf("after %v, want %v: %v", took, c.took, err)
			}
		})
	}
}

// A release that is up and answers wrongly, again and again, won't heal by being waited for.
func TestAReleaseThatRefusesIsNotWaitedFor(t *testing.T) {
	answers := func(status int) prober {
		return func(context.Context, time.Duration) Answer { return Answer{Status: status, Peer: 7} }
	}
	for name, c := range map[string]struct {
		probe prober
		took  time.Duration
		want  string
	}{
		"errors that it raises":       {answers(500), 5 * time.Second, "answers 500: the app raised an error (for 5s without interruption)"},
		"a path that it doesn't know": {answers(404), 5 * time.Second, "answers 404, not 200 (for 5s"},
		"a redirect":                  {answers(301), 5 * time.Second, "answers 301, not 200 (for 5s"},
		"it says that it will pass":   {answers(503), 30 * time.Second, "answers 503"},
		"after a slow boot":           {until(3*time.Second, refused, answers(500)), 8 * time.Second, "answers 500"},
		"with an interruption":        {until(4*time.Second, answers(500), until(4500*time.Millisecond, refused, answers(500))), 9500 * time.Millisecond, "answers 500"},
		"it heals in time":            {until(4*time.Second, answers(500), good), 6 * time.Second, ""},
		"who answers is someone else": {func(context.Context, time.Duration) Answer { return Answer{Status: 500, Peer: 9} }, 30 * time.Second, "answers 500"},
	} {
		t.Run(name, func(t *testing.T) {
			took, err := in(t, func(ctx context.Context) error {
				g := newGate(alive, c.probe)
				g.GiveUp = 5 * time.Second
				return g.Check(ctx, v42, Hold, nil)
			})
			if off := took - c.took; off < 0 || off > 100*time.Millisecond {
				t.Errorf("after %v, want %v", took, c.took)
			}
			if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("Check() = %v, want …%s…", err, c.want)
			}
		})
	}
}

func TestACheckWaitsForWhatWasJustStarted(t *testing.T) {
	broken := func(context.Context, time.Duration) Answer { return Answer{Status: 500, Connected: true} }
	for _, c := range []struct {
		name   string
		age    time.Duration
		probe  prober
		passes bool
		within time.Duration
	}{
		{"it comes to listen", 0, until(time.Second, refused, good), true, 5 * time.Second},
		{"it never listens", 0, refused, false, 40 * time.Second},
		{"it has run for long", time.Hour, until(time.Second, refused, good), false, time.Second},
		{"it answers wrongly", 0, until(time.Second, broken, good), false, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, err := in(t, func(ctx context.Context) error {
				st := running()
				st.Started = time.Now().Add(-c.age)
				g := newGate(func(time.Duration) (UnitState, error) { return st, nil }, c.probe)
				return g.Check(ctx, v42, Hold|Strict, nil)
			})
			if (err == nil) != c.passes || took > c.within {
				t.Errorf("Check() = %v after %v", err, took)
			}
		})
	}
}
