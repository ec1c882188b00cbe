package gate

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestStray(t *testing.T) {
	const at = "127.0.0.1:8000"
	st := UnitState{
		Unit: "g.service", ActiveState: "active", InvocationID: "new", MainPID: 7, Begun: 100 * time.Second,
		Processes: []Process{
			{PID: 7, Parent: 1, Born: 99_990 * time.Millisecond},
			{PID: 8, Parent: 7, Born: 101 * time.Second},
			{PID: 6, Parent: 1, Born: 40 * time.Second}, // KillMode=process left it
		},
	}
	slow := st // its ExecStartPre= took a while, and left something that belongs to this start
	slow.Processes = []Process{{PID: 7, Parent: 1, Born: 150 * time.Second}, {PID: 9, Born: 110 * time.Second}}
	unreadable := st
	unreadable.Processes = []Process{{PID: 7}, {PID: 8}}
	none := st
	none.MainPID, none.Processes = 0, nil
	of := func(pid int, unit string, born time.Duration) Holder {
		return Holder{At: at, PID: pid, Name: "python3", Unit: unit, Born: born}
	}
	var (
		main   = of(7, "g.service", 99_990*time.Millisecond)
		worker = of(8, "g.service", 101*time.Second)
		old    = of(6, "g.service", 40*time.Second)
		other  = of(50, "other.service", 105*time.Second)
		adrift = of(51, "", 30*time.Second)
		init   = of(1, "init.scope", 0)
		user   = of(900, "user@1000.service", 20*time.Second)
	)
	ofUser := st
	ofUser.Processes = []Process{{PID: 7, Parent: 900, Born: 100 * time.Second}}
	for _, c := range []struct {
		name    string
		st      UnitState
		e       Target
		holders []Holder
		says    string // "" is nothing
	}{
		{"nothing is known", st, Target{}, nil, ""},
		{"main process and worker", st, Target{}, []Holder{main, worker}, ""},
		{"from before the main process, in this start", slow, Target{}, []Holder{of(9, "g.service", 110*time.Second)}, ""},
		{"no process to compare with", none, Target{}, []Holder{other}, ""},
		{"births unknown", unreadable, Target{}, []Holder{of(7, "g.service", 0), of(8, "g.service", 0)}, ""},
		{"behind a socket unit", st, Target{Socket: true}, []Holder{init, main, worker}, ""},
		{"behind a socket unit, nobody has taken it yet", st, Target{Socket: true}, []Holder{init}, ""},
		{"behind a user's socket unit", ofUser, Target{Socket: true}, []Holder{user, main}, ""},

		{"another unit's", st, Target{}, []Holder{other}, "process 50 (python3) of other.service listens at 127.0.0.1:8000"},
		{"nobody's", st, Target{}, []Holder{adrift}, "process 51 (python3) listens at"},
		{"shared with another's (SO_REUSEPORT)", st, Target{}, []Holder{main, worker, other}, "of other.service"},
		{"left in the group by an earlier start", st, Target{}, []Holder{old}, "process 6 listens at 127.0.0.1:8000, and is left over from an earlier start"},
		{"shared with what an earlier start left", st, Target{}, []Holder{old, main, worker}, "is left over"},
		{"left behind a socket unit", st, Target{Socket: true}, []Holder{init, old, main}, "is left over"},
		{"another's behind a socket unit", st, Target{Socket: true}, []Holder{init, other}, "of other.service"},
		{"the service manager without a socket unit", st, Target{}, []Holder{init}, "process 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Stray(c.st, c.e, c.holders)
			if (f == nil) != (c.says == "") || f != nil && (f.Cause != StrayProcess || f.Layer != LayerSocket || !strings.Contains(f.Summary, c.says) || len(f.Advice) == 0) {
				t.Errorf("Stray() = %+v, want …%s…", f, c.says)
			}
		})
	}

	for _, c := range []struct {
		name string
		peer int
		e    Target
		want bool
	}{
		{"the main process", 7, Target{}, true},
		{"a worker", 8, Target{}, true},
		{"one of another namespace", 0, Target{}, true},
		{"the service manager", 1, Target{Socket: true}, true},
		{"left in the group by an earlier start", 6, Target{}, false},
		{"not of the unit", 50, Target{}, false},
	} {
		if f := Proof(st, c.e, c.peer); (f == nil) != c.want || f != nil && f.Cause != StrayProcess {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

// An answer is none of the release's while another process may have given it.
func TestHealthWaitsUntilOnlyTheUnitListens(t *testing.T) {
	mine := []Holder{{At: ":8000", PID: 7}}
	shared := []Holder{{At: ":8000", PID: 7}, {At: ":8000", PID: 50}}
	for name, c := range map[string]struct {
		until time.Duration // it is shared
		took  time.Duration
		says  string
	}{
		"never shared":  {0, 2 * time.Second, ""},
		"for a while":   {5 * time.Second, 8 * time.Second, ""}, // looked at after 2 s, 4.1 s, and 6.2 s
		"for ever":      {time.Hour, 30 * time.Second, "process 50 listens at :8000"},
		"just at first": {time.Second, 2 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			took, err := in(t, func(ctx context.Context) error {
				g := newGate(alive, good)
				began := time.Now()
				g.Holders = func(string) []Holder {
					if time.Since(began) < c.until {
						return shared
					}
					return mine
				}
				return g.Check(ctx, v42, Hold, nil)
			})
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("Check() = %v, want …%s…", err, c.says)
			}
			if took > c.took {
				t.Errorf("after %v, want %v at most", took, c.took)
			}
		})
	}
}

// A worker that is born between the look at the holders and the look at the unit is no stray process.
func TestTwoLooksAreNotOneMoment(t *testing.T) {
	took, err := in(t, func(ctx context.Context) error {
		g := newGate(alive, good)
		first := true
		g.Holders = func(string) []Holder {
			defer func() { first = false }()
			if first {
				return []Holder{{At: ":8000", PID: 7}, {At: ":8000", PID: 8}}
			}
			return []Holder{{At: ":8000", PID: 7}}
		}
		return g.Check(ctx, v42, Hold, nil)
	})
	if err != nil || took != 2*time.Second {
		t.Errorf("after %v: %v", took, err)
	}
}

// What crashed since it was healthy, while the proxy was asked or the user's checks ran, isn't healthy any more.
func TestACrashAfterTheHealthIsOne(t *testing.T) {
	again := func(after time.Duration) (UnitState, error) {
		st := running()
		if after > 3*time.Second {
			st.InvocationID, st.NRestarts = "newer", 1
		}
		return st, nil
	}
	for name, c := range map[string]struct {
		state func(time.Duration) (UnitState, error)
		says  string
	}{"it does": {again, "g.service crashed"}, "it goes on": {alive, ""}} {
		_, err := in(t, func(ctx context.Context) error {
			g := newGate(c.state, good)
			if err := g.Check(ctx, v42, Hold, nil); err != nil {
				t.Errorf("%s: Check() = %v", name, err)
			}
			pause(ctx, 2*time.Second)
			_, through := throughGate(nil, prober(good)).Check(ctx, "v42", Hold, func(ctx context.Context) *Finding { return g.Watch(ctx, v42) }, nil)
			for what, err := range map[string]error{"Still": g.Still(ctx, v42), "through the proxy": through} {
				if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %s: %v, want …%s…", name, what, err, c.says)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// A unit that is up between two crashes isn't healthy, whatever it answers. What was just restarted has no past.
func TestAUnitThatFlapsIsNotHealthy(t *testing.T) {
	restarted := func(n int) func(time.Duration) (UnitState, error) {
		return func(time.Duration) (UnitState, error) {
			st := running()
			st.NRestarts = n
			return st, nil
		}
	}
	live := v42
	live.Previous = ""
	for _, c := range []struct {
		restarts int
		flaps    bool
		want     bool
	}{{3, true, false}, {3, false, true}, {0, true, true}} {
		for what, ask := range map[string]func(context.Context, *HealthCheck) error{
			"Strict":      func(ctx context.Context, g *HealthCheck) error { return g.Check(ctx, live, Strict, nil) },
			"Hold|Strict": func(ctx context.Context, g *HealthCheck) error { return g.Check(ctx, live, Hold|Strict, nil) },
			"Look": func(ctx context.Context, g *HealthCheck) error {
				if _, _, f := g.Look(ctx, live); f != nil {
					return f
				}
				return nil
			},
			"": func(ctx context.Context, g *HealthCheck) error { return g.Check(ctx, v42, Hold, nil) },
		} {
			_, err := in(t, func(ctx context.Context) error {
				g := newGate(restarted(c.restarts), good)
				g.Flaps = func(context.Context, UnitState) *Finding {
					if !c.flaps {
						return nil
					}
					return NewFinding(LayerApp, Unknown, "crashes again and again")
				}
				return ask(ctx, g)
			})
			if want := c.want || what == ""; (err == nil) != want {
				t.Errorf("%+v: %s() = %v", c, what, err)
			}
		}
	}
}
