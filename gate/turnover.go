package gate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A server's workers may die and be started again for ever while its main process, and those that live, answer well. That
// processes come and go proves nothing: an app starts helpers as it is asked, and a server replaces workers that have done
// their share. So two things have to agree: what /proc shows of processes that ended and were replaced by others of the same
// program and the same parent, and what the server, or those processes, logged of their end.

// Failures are processes of a unit that have failed, by their server's word or their own.
type Failures struct {
	Lines []LogLine // of each the line that says so, with its PID
	// Deserted is whether the main process only starts others, by its server's word, and none of them is left.
	Deserted bool
}

// birth tells a process from every other.
type birth struct {
	pid  int
	born time.Duration
}

// life is a process that may be a server's worker: it runs the program that its parent runs.
type life struct {
	birth
	parent     birth
	generation int           // how many before it ended in its place
	lasted     time.Duration // of one that has ended
}

// turnover watches the processes of one start of a unit. It is safe for concurrent use.
type turnover struct {
	mu     sync.Mutex
	looked bool
	alive  map[birth]life
	ended  []life    // and their parent lives on
	open   []life    // of those, the ones that nobody has replaced yet
	read   time.Time // when the log was, for what had ended
	alone  int       // how often in a row it said that none is left
}

// see notes the processes at one moment.
func (t *turnover) see(st UnitState) {
	if len(st.Processes) == 0 {
		return // it wasn't looked at
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := copies(st)
	running := map[birth]bool{}
	for _, p := range st.Processes {
		running[birth{p.PID, p.Born}] = true
	}
	for b, l := range t.alive {
		if !running[b] && running[l.parent] {
			l.lasted = st.Now - l.born
			t.ended, t.open = append(t.ended, l), append(t.open, l)
		}
	}
	for b, l := range now {
		if before, known := t.alive[b]; known {
			l.generation = before.generation
		} else if t.looked {
			l.generation = t.replace(l)
		}
		now[b] = l
	}
	t.alive, t.looked = now, true
}

// replace takes the place of one that ended and has the same parent, and gives the generation of who is there now.
func (t *turnover) replace(l life) int {
	i := slices.IndexFunc(t.open, func(o life) bool { return o.parent == l.parent })
	if i < 0 {
		return 0
	}
	before := t.open[i]
	t.open = slices.Delete(t.open, i, i+1)
	return before.generation + 1
}

// copies are the processes that run what their parent runs.
func copies(st UnitState) map[birth]life {
	found := map[birth]life{}
	for _, p := range st.Processes {
		parent, ok := st.process(p.Parent)
		if ok && p.Born > 0 && p.Exe != "" && p.Exe == parent.Exe {
			b := birth{p.PID, p.Born}
			found[b] = life{birth: b, parent: birth{parent.PID, parent.Born}}
		}
	}
	return found
}

// deaths are the ends so far, and whether any came since the log was last read. It is read once a second at most.
func (t *turnover) deaths(now time.Time) (ended []life, news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if news = len(t.ended) > 0 && now.Sub(t.read) >= time.Second; news {
		t.read = now
	}
	return slices.Clone(t.ended), news
}

// youngWorker reports whether a worker is far younger than its parent, so that it isn't one of those that were there from the
// start.
func youngWorker(st UnitState) bool {
	const boot = 5 * time.Second
	for _, l := range copies(st) {
		if l.born > l.parent.born+boot && st.Now-l.born < respawnWindow {
			return true
		}
	}
	return false
}

// respawnWindow is how far back the log is read of a unit that wasn't just restarted.
const respawnWindow = time.Minute

// respawned returns the ends that were failures by the log's word, and whether they come over and over: one that took the place
// of one that took the place of one that failed has failed as well.
func respawned(ended []life, failures []LogLine) (failed []LogLine, over bool) {
	deepest := 0
	for _, l := range ended {
		i := slices.IndexFunc(failures, func(w LogLine) bool { return w.PID == l.pid })
		if i < 0 {
			continue
		}
		failed = append(failed, failures[i])
		deepest = max(deepest, l.generation)
	}
	return failed, len(failed) > 2 && deepest > 1
}

// respawns returns the same of a unit that runs for longer, from its log alone: failures at three different seconds of the last
// minute, of processes that are gone.
func respawns(st UnitState, failures []LogLine) (failed []LogLine, over bool) {
	var last time.Time
	moments := 0
	for _, l := range failures {
		another := l.Invocation != "" && l.Invocation != st.InvocationID || l.At.Before(st.Started)
		if _, lives := st.process(l.PID); lives || another {
			continue // it hasn't failed, or belongs to another start
		}
		failed = append(failed, l)
		if l.At.Sub(last) >= time.Second {
			moments++
			last = l.At
		}
	}
	return failed, moments > 2
}

// workersFail is the finding.
func workersFail(st UnitState, failed []LogLine) *Finding {
	var pids []string
	for _, l := range failed[max(0, len(failed)-5):] {
		pids = append(pids, strconv.Itoa(l.PID))
	}
	f := NewFinding(LayerApp, WorkerCrash,
		fmt.Sprintf("processes of %s fail and are replaced over and over (%d so far, the latest: %s)", st.Unit, len(failed), strings.Join(pids, ", ")))
	if len(failed) < 3 {
		f.Summary = fmt.Sprintf("a process of %s has failed and was replaced (%s)", st.Unit, strings.Join(pids, ", "))
	}
	return f.because(st, failed)
}

// because adds the latest failures of processes to a finding.
func (f *Finding) because(st UnitState, failed []LogLine) *Finding {
	for _, l := range failed[max(0, len(failed)-3):] {
		f.With(fmt.Sprintf("log of %s at %s", st.Unit, l.At.Format(time.TimeOnly)), l.Text)
	}
	f.State = &st
	return f.Advise("why they end: journalctl -u " + st.Unit + " -n 100")
}

// overAndOver reads the log if processes have ended, and gives the finding that they fail one after the other.
func (c *HealthCheck) overAndOver(ctx context.Context, t *turnover, st UnitState, began time.Time) *Finding {
	ended, news := t.deaths(time.Now())
	if c.Failures == nil || !news {
		return nil
	}
	found := c.Failures(ctx, began)
	if failed, over := respawned(ended, found.Lines); over {
		return workersFail(st, failed)
	}
	if t.deserted(found.Deserted) {
		return noneLeft(st, found.Lines)
	}
	return nil
}

// deserted reports whether nobody is left to take requests, and nobody comes: it is asked once a second, and a server that
// replaces its processes does so within half of one.
func (t *turnover) deserted(now bool) bool {
	const enough = 3
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.alone++; !now {
		t.alone = 0
	}
	return t.alone >= enough
}

// noneLeft is the finding that a server runs on without a process that takes requests, as uvicorn before version 0.30 does.
func noneLeft(st UnitState, failed []LogLine) *Finding {
	f := NewFinding(LayerApp, WorkerCrash, fmt.Sprintf("every process of %s that takes requests has ended, and none comes in its place", st.Unit))
	return f.because(st, failed)
}

// steady is asked at the end of the hold: it gives the finding that a worker failed meanwhile and was replaced, of those that
// ended after the first few. Whether that was the last time shows once its successor has lived for clearly longer. Where
// nothing was restarted, once is not enough.
func (c *HealthCheck) steady(ctx context.Context, t *turnover, began time.Time, first int, strict bool) (f *Finding, longer time.Duration) {
	ended, _ := t.deaths(time.Time{})
	if c.Failures == nil || len(ended) <= first {
		return nil, 0
	}
	st, err := c.Unit.State(ctx)
	switch {
	case err != nil:
		return nil, 0
	case strict:
		return c.respawning(ctx, t, st), 0
	}
	failed, _ := respawned(ended[first:], c.Failures(ctx, began).Lines)
	if len(failed) == 0 {
		return nil, 0
	}
	const clearly = 4 // times as long: on a busy machine the same boot may well take twice as long
	for _, l := range ended[first:] {
		longer = max(longer, clearly*l.lasted)
	}
	return workersFail(st, failed), longer
}

// count is how many have ended so far.
func (t *turnover) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.ended)
}

// respawning looks at a unit that wasn't just restarted.
func (c *HealthCheck) respawning(ctx context.Context, t *turnover, st UnitState) *Finding {
	if c.Failures == nil || !youngWorker(st) && t.count() == 0 {
		return nil
	}
	if failed, over := respawns(st, c.Failures(ctx, time.Now().Add(-respawnWindow)).Lines); over {
		return workersFail(st, failed)
	}
	return nil
}
