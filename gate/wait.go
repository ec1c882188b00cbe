package gate

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// wait is one wait for uninterrupted health.
type wait struct {
	prober           Prober
	every            time.Duration
	stable, deadline time.Duration
	proxied          bool                                    // through the proxy
	strict           bool                                    // the first bad answer is final
	judge            func(context.Context, *Answer) *Finding // nil: a good answer
	watch            func(context.Context) *Finding          // returns early with what makes all further waiting vain; may be nil
}

var (
	errHealthy  = errors.New("healthy")
	errDeadline = errors.New("deadline")
)

func (w wait) run(ctx context.Context, say Progress) error {
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
	var last *Finding
	err := w.prober.Probe(watched, w.every, func(a Answer) bool {
		f := w.judge(watched, &a)
		if watched.Err() != nil {
			return true // cut off by the end of the wait: it proves nothing
		}
		if last = f; f != nil {
			f.Answer, f.Proxied = &a, w.proxied
			if a.Timeout && streak.Ever() {
				f.Cause = NoAnswer // it did answer before, so it is not the boot that hangs
			}
			streak.Break()
			say(f.Summary)
			return w.strict
		}
		if streak.Hold(time.Now()) >= w.stable {
			end(errHealthy)
			return true
		}
		say(fmt.Sprintf("healthy, holding for %s", w.stable))
		return false
	})

	var crashed *Finding
	switch cause := context.Cause(watched); {
	case errors.Is(cause, errHealthy):
		return nil
	case errors.As(cause, &crashed):
		return crashed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case last != nil && w.strict:
		return last
	case last != nil:
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
