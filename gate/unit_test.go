package gate

import (
	"strings"
	"testing"
)

func TestCrash(t *testing.T) {
	running := UnitState{Unit: "g.service", ActiveState: "active", SubState: "running", Result: "success", InvocationID: "new", MainPID: 7}
	with := func(change func(*UnitState)) UnitState {
		st := running
		change(&st)
		return st
	}
	expect := Target{Previous: "old", invocation: "new"}
	for _, c := range []struct {
		name    string
		st      UnitState
		e       Target
		layer   Layer // "" is no crash
		cause   Cause
		summary string
	}{
		{name: "running", st: running, e: expect},
		{name: "starting", st: with(func(s *UnitState) { s.ActiveState, s.SubState = "activating", "start" }), e: expect},
		{name: "reloading", st: with(func(s *UnitState) { s.ActiveState, s.SubState = "reloading", "reload" }), e: expect},
		{name: "the first look at the new start", st: running, e: Target{Previous: "old"}},
		{name: "restarts from before the gate", st: with(func(s *UnitState) { s.NRestarts = 3 }), e: Target{invocation: "new", restarts: 3}},
		{
			name: "failed", st: with(func(s *UnitState) {
				s.ActiveState, s.SubState, s.Result, s.ExecMainStatus = "failed", "failed", "exit-code", 3
			}),
			e: expect, layer: LayerApp, cause: Unknown, summary: "g.service failed (exit status 3)",
		},
		{
			name: "being restarted",
			st: with(func(s *UnitState) {
				s.ActiveState, s.SubState, s.Result, s.ExecMainStatus = "activating", "auto-restart", "exit-code", 1
			}),
			e: expect, layer: LayerApp, cause: Unknown, summary: "(exit status 1)",
		},
		{
			name: "being restarted, systemd 254 and later",
			st: with(func(s *UnitState) {
				s.ActiveState, s.SubState, s.Result = "activating", "auto-restart-queued", "signal"
				s.ExecMainStatus = 9
			}),
			e: expect, layer: LayerApp, cause: Unknown, summary: "(signal 9)",
		},
		{
			name: "killed and going down", st: with(func(s *UnitState) {
				s.ActiveState, s.SubState, s.Result, s.ExecMainStatus = "deactivating", "stop-sigterm", "core-dump", 11
			}),
			e: expect, layer: LayerApp, cause: Unknown, summary: "crashed (signal 11)",
		},
		{
			name: "already started again", st: with(func(s *UnitState) { s.InvocationID = "newer" }),
			e: expect, layer: LayerApp, cause: Unknown, summary: "g.service crashed",
		},
		{
			name: "already started again, before the first look", st: with(func(s *UnitState) { s.NRestarts = 1 }),
			e: Target{Previous: "old"}, layer: LayerApp, cause: Unknown, summary: "g.service crashed",
		},
		{
			name: "one restart more than before", st: with(func(s *UnitState) { s.NRestarts = 4 }),
			e: Target{invocation: "new", restarts: 3}, layer: LayerApp, cause: Unknown, summary: "g.service crashed",
		},
		{
			name: "too often", st: with(func(s *UnitState) { s.ActiveState, s.Result = "failed", "start-limit-hit" }),
			e: expect, layer: LayerService, cause: StartLimitHit, summary: "systemd has given up",
		},
		{
			name: "out of memory", st: with(func(s *UnitState) { s.ActiveState, s.Result = "failed", "oom-kill" }),
			e: expect, layer: LayerResources, cause: OOM, summary: "ran out of memory",
		},
		{
			name: "failed without a process", st: with(func(s *UnitState) { s.ActiveState, s.Result = "failed", "resources" }),
			e: expect, layer: LayerApp, cause: Unknown, summary: "g.service failed",
		},
		{
			name: "stopped", st: with(func(s *UnitState) { s.ActiveState, s.SubState = "inactive", "dead" }),
			e: expect, layer: LayerService, cause: ServiceStopped, summary: "was stopped",
		},
		{
			name: "being stopped", st: with(func(s *UnitState) { s.ActiveState, s.SubState = "deactivating", "stop-sigterm" }),
			e: expect, layer: LayerService, cause: ServiceStopped, summary: "was stopped",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Crash(c.st, c.e)
			switch {
			case f == nil && c.layer == "":
			case f == nil || f.Layer != c.layer || f.Cause != c.cause || !strings.Contains(f.Summary, c.summary):
				t.Errorf("Crash() = %+v", f)
			case len(f.Evidence) != 1 || !strings.Contains(f.Evidence[0].Text, "Result="+c.st.Result):
				t.Errorf("evidence %+v", f.Evidence)
			}
		})
	}
}

func TestTheGateBeginsWithTheFirstStartThatIsNotThePreviousOne(t *testing.T) {
	e := Target{Previous: "old"}
	e.begin(UnitState{InvocationID: "old", NRestarts: 9})
	if e.invocation != "" {
		t.Errorf("it began with the process from before the restart: %+v", e)
	}
	e.begin(UnitState{InvocationID: "new"})
	e.begin(UnitState{InvocationID: "newer", NRestarts: 1})
	if e.invocation != "new" || e.restarts != 0 {
		t.Errorf("%+v", e)
	}
	e = Target{}
	e.begin(UnitState{InvocationID: "running", NRestarts: 9})
	if e.invocation != "running" || e.restarts != 9 {
		t.Errorf("without a restart, what happened before is not this gate's: %+v", e)
	}
}

func TestProof(t *testing.T) {
	const v41, v42 = "/srv/app/releases/v41", "/srv/app/releases/v42"
	state := func(ps ...Process) UnitState {
		return UnitState{Unit: "g.service", ActiveState: "active", SubState: "running", InvocationID: "new", MainPID: 7, Processes: ps}
	}
	in := Target{Version: "v42", Dir: v42, Releases: "/srv/app/releases", InDir: true, Previous: "old"}
	out := in
	out.InDir = false
	for _, c := range []struct {
		name  string
		st    UnitState
		e     Target
		peer  int
		cause Cause // "" is proven
		layer Layer
	}{
		{name: "master and worker run it", st: state(Process{PID: 7, Dir: v42}, Process{PID: 8, Dir: v42 + "/src"}), e: in, peer: 7},
		{name: "a worker answered", st: state(Process{PID: 7, Dir: v42}, Process{PID: 8, Dir: v42}), e: in, peer: 8},
		{name: "a port: nobody says who answered", st: state(Process{PID: 7, Dir: v42}), e: in},
		{name: "the service manager listens for it", st: state(Process{PID: 7, Dir: v42}), e: Target{Dir: in.Dir, Releases: in.Releases, InDir: true, Socket: true}, peer: 1},
		{name: "helpers may run elsewhere", st: state(Process{PID: 7, Dir: v42}, Process{PID: 8, Dir: "/"}, Process{PID: 9, Dir: ""}), e: in, peer: 7},
		{name: "a unit that does not run in the release", st: state(Process{PID: 7, Dir: "/"}), e: out, peer: 7},

		{name: "starting", st: UnitState{ActiveState: "activating", InvocationID: "new", MainPID: 7}, e: in, layer: LayerService, cause: Unknown},
		{name: "no process", st: UnitState{ActiveState: "active", InvocationID: "new"}, e: in, layer: LayerService, cause: Unknown},
		{
			name: "not restarted yet", st: UnitState{ActiveState: "active", InvocationID: "old", MainPID: 7, Processes: []Process{{PID: 7, Dir: v42}}},
			e: in, peer: 7, layer: LayerRelease, cause: OldReleaseRunning,
		},
		{name: "the old release", st: state(Process{PID: 7, Dir: v41}), e: in, peer: 7, layer: LayerRelease, cause: OldReleaseRunning},
		{name: "the old release below", st: state(Process{PID: 7, Dir: v41 + "/src"}), e: out, peer: 7, layer: LayerRelease, cause: OldReleaseRunning},
		{name: "a worker of the old release", st: state(Process{PID: 7, Dir: v42}, Process{PID: 8, Dir: v41}), e: in, peer: 7, layer: LayerRelease, cause: OldReleaseRunning},
		{name: "a release with a longer name", st: state(Process{PID: 7, Dir: v42 + "1"}), e: in, peer: 7, layer: LayerRelease, cause: OldReleaseRunning},
		{name: "uploaded again under it", st: state(Process{PID: 7, Dir: v42 + " (deleted)"}), e: in, peer: 7, layer: LayerRelease, cause: Unknown},
		{name: "unreadable", st: state(Process{PID: 7, Dir: ""}), e: in, peer: 7, layer: LayerRelease, cause: Unknown},
		{name: "outside of all releases", st: state(Process{PID: 7, Dir: "/"}), e: in, peer: 7, layer: LayerRelease, cause: Unknown},
		{name: "someone else answered", st: state(Process{PID: 7, Dir: v42}), e: in, peer: 4711, layer: LayerSocket, cause: StrayProcess},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Proof(c.st, c.e, c.peer)
			if f == nil != (c.cause == "") || f != nil && (f.Cause != c.cause || f.Layer != c.layer) {
				t.Errorf("Proof() = %+v, want %s %s", f, c.layer, c.cause)
			}
		})
	}
}

// systemd's own restart of the release that crashed may come just before ours, and is counted in NRestarts.
func TestTheCountOfRestartsBeginsWithTheFirstLook(t *testing.T) {
	e := Target{Previous: "old"}
	st := UnitState{Unit: "g.service", ActiveState: "active", SubState: "running", Result: "success", NRestarts: 3}
	st.InvocationID = "old"
	e.begin(st) // not a look at what was started
	st.InvocationID, st.NRestarts = "new", 1
	e.begin(st)
	if f := Crash(st, e); f != nil {
		t.Errorf("one restart before the first look: %v", f)
	}
	st.NRestarts = 2
	e.begin(st)
	if f := Crash(st, e); f == nil {
		t.Error("a restart after the first look is no crash")
	}
	st.InvocationID, st.NRestarts = "newer", 1
	if f := Crash(st, e); f == nil {
		t.Error("another invocation is no crash")
	}
}
