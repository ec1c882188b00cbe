package gate

import (
	"cmp"
	"context"
	"time"
)

// watch looks at the unit all the time, so that a crash also ends a probe that hangs. It gives nil when ctx ends.
//
// The end of the main process is the first proof of a crash. The kernel tells it at once, and systemd some milliseconds
// later what it makes of it, so that is when the unit is looked at most closely.
//
// more is what else is to be said of each look.
func (c *HealthCheck) watch(ctx context.Context, e Target, more func(UnitState) *Finding) *Finding {
	const (
		closely = 5 * time.Millisecond
		enough  = time.Second // for systemd to notice
	)
	var ends ending
	for {
		// No look at all (D-Bus restarts) is not a crash; health can't be proven without one either.
		st, err := c.Unit.State(ctx)
		if err == nil {
			e.begin(st)
			if f := cmp.Or(Crash(st, e), Unread(st, e), more(st)); f != nil {
				return f
			}
			ends.of(ctx, c, st.MainPID)
		}
		pause := c.Interval
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

// Watch looks at the unit until ctx ends, and returns early with the finding of a crash since it was healthy.
func (c *HealthCheck) Watch(ctx context.Context, e Target) *Finding {
	return c.watch(ctx, c.since(e), func(UnitState) *Finding { return nil })
}

// ending waits for the end of a unit's main process.
type ending struct {
	pid  int
	told <-chan struct{} // closed when it has ended; nil: nobody tells
	at   time.Time       // when it ended
}

// of begins with a process, if it is another one.
func (n *ending) of(ctx context.Context, c *HealthCheck, pid int) {
	if c.Ended == nil || pid == 0 || pid == n.pid {
		return
	}
	*n = ending{pid: pid, told: c.Ended(ctx, pid)}
}
