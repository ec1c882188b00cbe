package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// wait is one wait for uninterrupted health.
type wait struct {
	prober           Prober
	every            time.Duration // once it has started; see pace
	stable, deadline time.Duration
	proxied          bool // through the proxy
	strict           bool // the first bad answer is final
	// judge returns nil for a good answer, and whether what is wrong makes all further waiting useless.
	judge func(context.Context, *Answer) (f *Finding, final bool)
	// confirm is asked once the answers have been good for long enough, with the last of them: nil is healthy. It also says
	// how long they have to be good from then on, if longer than stable. It may be nil.
	confirm func(context.Context, *Answer) (f *Finding, longer time.Duration)
	watch   func(context.Context) *Finding // returns early with what makes all further waiting useless; may be nil
}

// pace is when the next probe follows one that failed: quickly while the app starts, so that its health is noticed within
// some milliseconds, then less often, since a start that takes long is not made shorter by asking. An app that answers has
// started.
func (w wait) pace(waited time.Duration, answered bool) time.Duration {
	switch {
	case answered:
		return w.every
	case waited < time.Second:
		return min(w.every, 10*time.Millisecond)
	case waited < 5*time.Second:
		return min(w.every, 25*time.Millisecond)
	}
	return w.every
}

var (
	errHealthy  = errors.New("healthy")
	errDeadline = errors.New("deadline")
)

func (w wait) run(ctx context.Context, say Progress) error {
	if say == nil {
		say = func(string) {}
	}
	timed, cancel := context.WithTimeoutCause(ctx, w.deadline, errDeadline)
	defer cancel()
	watched, end := context.WithCancelCause(timed)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if w.watch == nil {
			return
		}
		if f := w.watch(watched); f != nil {
			end(f)
		}
	}()
	defer func() { end(nil); <-stopped }()

	var streak Streak
	var last, doubted *Finding // what is wrong with the last answer; with the last health that was held
	strict := w.strict
	began := time.Now()
	err := w.prober.Probe(watched, func(a Answer) (next time.Duration, again bool) {
		f, final := w.judge(watched, &a)
		held := time.Duration(0)
		if f == nil {
			if held = streak.Hold(time.Now()); held >= w.stable && w.confirm != nil {
				var longer time.Duration
				if f, longer = w.confirm(watched, &a); f != nil {
					doubted = f
					w.stable = max(w.stable, min(longer, w.deadline/2))
				}
			}
		}
		if watched.Err() != nil {
			return 0, false // cut off by the end of the wait: it proves nothing
		}
		if last = f; f != nil {
			f.Answer, f.Proxied = &a, w.proxied
			if a.Timeout && a.Status == 0 && streak.Ever() {
				f.Cause = NoAnswer // it did answer before, so it is not the boot that hangs
			}
			streak.Break()
			say(f.Summary)
			strict = strict || final
			return w.pace(time.Since(began), a.Err == nil || streak.Ever()), !strict
		}
		if held >= w.stable {
			end(errHealthy)
			return 0, false
		}
		say(fmt.Sprintf("healthy, holding for %s", w.stable))
		return min(w.every, w.stable-held), true
	})

	var crashed *Finding
	switch cause := context.Cause(watched); {
	case errors.Is(cause, errHealthy):
		return nil
	case errors.As(cause, &crashed):
		return crashed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case last != nil && strict:
		return last
	case last != nil || doubted != nil:
		last = cmp.Or(last, doubted)
		last.Summary += fmt.Sprintf(" (not healthy for %s within %s%s)", w.stable, w.deadline, streak.broken())
		return last
	case errors.Is(cause, errDeadline) && streak.Ever():
		return NewFinding(LayerHealth, Unknown, fmt.Sprintf("not yet healthy for %s when %s had passed", w.stable, w.deadline)).
			Advise("make health.deadline longer than the boot plus health.stable")
	case errors.Is(cause, errDeadline):
		return NewFinding(LayerHealth, Unknown, fmt.Sprintf("no answer within %s", w.deadline))
	}
	return NewFinding(LayerHealth, Unknown, fmt.Sprintf("cannot probe: %v", err))
}
