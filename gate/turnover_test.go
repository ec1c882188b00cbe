package gate

import (
	"context"
	"strings"
	"testing"
	"time"
)

// procs is a unit's processes: its main process 7, and others by their pids, each born a second after pid seconds.
func procs(children ...Process) UnitState {
	st := running()
	st.Processes = []Process{{PID: 7, Dir: "/r/v42", Parent: 1, Born: 7 * time.Second, Exe: "/usr/bin/python3"}}
	for _, p := range children {
		if p.Parent == 0 {
			p.Parent = 7
		}
		p.Born = time.Duration(p.PID) * time.Second
		if p.Exe == "" {
			p.Exe = "/usr/bin/python3"
		}
		st.Processes = append(st.Processes, p)
	}
	return st
}

func pids(n ...int) (ps []Process) {
	for _, pid := range n {
		ps = append(ps, Process{PID: pid})
	}
	return ps
}

func TestWhichProcessesFailOverAndOver(t *testing.T) {
	failed := func(pids ...int) (log []LogLine) {
		for _, pid := range pids {
			log = append(log, LogLine{PID: pid})
		}
		return log
	}
	one := []UnitState{procs(pids(10, 11)...), procs(pids(10, 12)...), procs(pids(10, 13)...), procs(pids(10, 14)...)}
	arbiter := func(pid int) UnitState {
		return procs(Process{PID: 10}, Process{PID: 20}, Process{PID: pid, Parent: 20})
	}
	helper := func(pid int) UnitState {
		return procs(Process{PID: 10}, Process{PID: pid, Parent: 10, Exe: "/usr/bin/git"})
	}
	for _, c := range []struct {
		name   string
		looks  []UnitState
		log    []LogLine
		failed int
		over   bool
	}{
		{"nothing ends", []UnitState{procs(pids(10, 11)...), procs(pids(10, 11)...)}, failed(10, 11), 0, false},
		{"a worker that fails for ever", one, failed(11, 12, 13), 3, true},
		{"all of them", []UnitState{procs(pids(10, 11)...), procs(pids(12, 13)...), procs(pids(14, 15)...), procs(pids(16, 17)...)}, failed(10, 11, 12, 13, 14, 15), 6, true},
		{"with a moment without any", []UnitState{procs(pids(10)...), procs(), procs(pids(11)...), procs(), procs(pids(12)...), procs()}, failed(10, 11, 12), 3, true},
		{"children of a child", []UnitState{arbiter(30), arbiter(31), arbiter(32), arbiter(33)}, failed(30, 31, 32), 3, true},

		{"twice is not for ever", one[:3], failed(11, 12), 2, false},
		{"many that failed once each", []UnitState{procs(pids(10, 11, 12, 13)...), procs(pids(14, 15, 16, 17)...)}, failed(10, 11, 12, 13), 4, false},
		{"many that failed once, then one more", []UnitState{procs(pids(10, 11, 12)...), procs(pids(13, 14, 15)...), procs(pids(13, 14, 16)...)}, failed(10, 11, 12, 15), 4, false},
		{"the log says nothing: they may have been helpers", one, nil, 0, false},
		{"helpers of another program", []UnitState{helper(30), helper(31), helper(32), helper(33)}, failed(30, 31, 32), 0, false},
		{"the whole server", []UnitState{procs(pids(10)...), {Processes: []Process{{PID: 50, Born: time.Minute}}}}, failed(10), 0, false},
		{"a look that failed", []UnitState{procs(pids(10)...), {}, procs(pids(10)...)}, failed(10), 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w turnover
			for _, st := range c.looks {
				w.see(st)
			}
			if failed, over := respawned(w.ended, c.log); len(failed) != c.failed || over != c.over {
				t.Errorf("%d failed, over and over: %t; want %d, %t\n%+v", len(failed), over, c.failed, c.over, w.ended)
			}
		})
	}
}

// What was there before isn't seen to end, so that the log of the last minute has to tell.
func TestWhichProcessesFailedBefore(t *testing.T) {
	at := func(after time.Duration, pid int) LogLine {
		return LogLine{At: time.Unix(1000, 0).Add(after), PID: pid}
	}
	of := func(invocation string, l LogLine) LogLine { l.Invocation = invocation; return l }
	const s = time.Second
	for _, c := range []struct {
		name string
		log  []LogLine
		over bool
	}{
		{"every two seconds", []LogLine{at(0, 20), at(2*s, 21), at(4*s, 22)}, true},
		{"all at one moment", []LogLine{at(0, 20), at(s/10, 21), at(s/5, 22), at(s/4, 23)}, false},
		{"twice", []LogLine{at(0, 20), at(9*s, 21)}, false},
		{"before this start", []LogLine{at(-9*s, 20), at(-7*s, 21), at(-5*s, 22), at(2*s, 23), at(4*s, 24)}, false},
		{"in another start", []LogLine{of("old", at(1*s, 20)), of("old", at(2*s, 21)), of("new", at(4*s, 22)), of("new", at(6*s, 23))}, false},
		{"in this one", []LogLine{of("new", at(2*s, 21)), of("new", at(4*s, 22)), of("new", at(6*s, 23))}, true},
		{"what lives hasn't failed", []LogLine{at(0, 20), at(2*s, 21), at(4*s, 10)}, false},
	} {
		st := procs(pids(10)...)
		st.Started = time.Unix(1000, 0)
		if _, over := respawns(st, c.log); over != c.over {
			t.Errorf("%s: %t", c.name, over)
		}
	}
}

// A server that replaces none of its processes has none left; one that does is alone for a moment.
func TestNobodyIsLeftToTakeRequests(t *testing.T) {
	for _, c := range []struct {
		name   string
		alone  func(after time.Duration) bool
		failed bool
	}{
		{"from the first second on", func(after time.Duration) bool { return after > time.Second }, true},
		{"for a moment, again and again", func(after time.Duration) bool { return after.Truncate(time.Second)%(2*time.Second) == 0 }, false},
		{"never", func(time.Duration) bool { return false }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, err := in(t, func(ctx context.Context) error {
				began := time.Now()
				g := newGate(func(after time.Duration) (UnitState, error) {
					if after > time.Second {
						return procs(pids(9)...), nil
					}
					return procs(pids(9, 10)...), nil
				}, refused)
				g.Failures = func(context.Context, time.Time) Failures { return Failures{Deserted: c.alone(time.Since(began))} }
				return g.Check(ctx, v42, Hold, nil)
			})
			if failed := err != nil && strings.Contains(err.Error(), "none comes in its place"); failed != c.failed || failed && took > 6*time.Second {
				t.Errorf("Check() = %v after %v", err, took)
			}
		})
	}
}

func TestWorkersThatFailForEverEndTheWait(t *testing.T) {
	// slot is a worker that lives for so long each time, from one moment to another; the log has a line of each end.
	slot := func(life, until time.Duration) (func(time.Duration) (UnitState, error), func(time.Time) func(context.Context, time.Time) Failures) {
		nth := func(after time.Duration) int { return 20 + int(min(after, until)/life) }
		state := func(after time.Duration) (UnitState, error) {
			n := nth(after)
			st := procs(pids(10, n)...)
			st.Now = 7*time.Second + after
			if worker := &st.Processes[2]; after >= 0 {
				worker.Born = st.Processes[0].Born + time.Duration(n-20)*life
			}
			return st, nil
		}
		log := func(began time.Time) func(context.Context, time.Time) Failures {
			return func(context.Context, time.Time) (found Failures) {
				for pid := 20; pid < nth(time.Since(began)); pid++ {
					found.Lines = append(found.Lines, LogLine{At: began.Add(time.Duration(pid-19) * life), PID: pid})
				}
				return found
			}
		}
		return state, log
	}
	for _, c := range []struct {
		name        string
		life, until time.Duration
		probe       prober
		says        string
		within      time.Duration
	}{
		{"while others answer", 500 * time.Millisecond, time.Hour, good, "are replaced over and over", 4 * time.Second},
		{"while nobody does", 500 * time.Millisecond, time.Hour, refused, "are replaced over and over", 4 * time.Second},
		{"more slowly than health is held", 2500 * time.Millisecond, time.Hour, until(time.Second, refused, good), "are replaced over and over", 11 * time.Second},
		{"slowly", 1500 * time.Millisecond, time.Hour, good, "are replaced over and over", 7 * time.Second},
		{"once, then well", time.Second, time.Second, good, "", 7 * time.Second},
		{"not at all", time.Hour, time.Hour, good, "", 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			took, err := in(t, func(ctx context.Context) error {
				state, log := slot(c.life, c.until)
				g := newGate(state, c.probe)
				g.Failures = log(time.Now())
				return g.Check(ctx, v42, Hold, nil)
			})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || took > c.within {
				t.Errorf("Check() = %v after %v, want …%s… within %v", err, took, c.says, c.within)
			}
		})
	}
}
