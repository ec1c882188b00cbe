package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// TestMain keeps the files in memory, where there is such a place: the journal and the swap flush to disk all the time,
// and other programs' writes with them.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if dir, err := os.MkdirTemp(memory, "deploygate"); err == nil {
		if err = os.Remove(dir); err == nil {
			err = os.Setenv("TMPDIR", memory)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(m.Run())
}

type versions = []release.Version

// behaviour is how a release's process behaves; the zero value is healthy at once.
type behaviour struct {
	boot    time.Duration // refuses connections for so long
	status  int           // of its answers; 0 is 200
	hangs   bool          // gives no answer
	full    bool          // its backlog is full
	crash   time.Duration // dies after so long; 0 lives
	restart error         // what systemd says of its start
	proxied int           // what the proxy answers for it; 0 is what it answers itself
}

// host is a host with a real file system below it: only systemd, processes and nginx are played. Its process runs the
// release that the link named when it was restarted.
type host struct {
	t           *testing.T
	root, state string
	d           *Deployer
	tree        *release.Tree
	does        map[release.Version]behaviour
	ctx         context.Context
	interrupt   func()

	// on has what happens at an event, once: "restart", "probe", "hook NAME", "started swap", …
	on        map[string]func()
	stale     bool  // the unit's files have changed
	look      Look  // what a look at the host and the target finds
	lookAfter Look  // and after the hooks
	notReady  error // why a deploy would have no effect, as the unit has it
	// Of the proxy: whether its configuration was invalid before, is invalid now, and has changed.
	invalidBefore, invalid error
	reconfigured           bool
	fails                  map[string]error  // tasks, by name
	prints                 map[string]string // what they print, too
	unwritable, torn       bool              // the journal; torn allows for lines that are

	broken         bool // whatever is started now crashes; what runs is not affected
	cannotRehearse error
	staged         release.Version // what is rehearsed; "" is nothing
	stagedAt       time.Time
	mute           bool // a reload re-reads the old release
	outside        bool // the unit doesn't work in the link

	mu         sync.Mutex
	running    release.Version // "" is stopped
	invocation int
	started    time.Time
	faulty     bool // what runs was started while the host was broken
	restarts   versions
	reloads    int // of the proxy
	reloaded   int // the unit
	killed     versions
	trace      []string // tasks and steps as they come
	warned     []string
	tasks      []Task
	waited     []string
}

// onHost runs a test in a bubble where waiting costs nothing.
func onHost(t *testing.T, run func(t *testing.T, h *host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { run(t, newHost(t, t.TempDir(), filepath.Join(t.TempDir(), "state"))) })
}

// newHost has no release yet. Its state directory doesn't exist before the journal is opened.
func newHost(t *testing.T, root, state string) *host {
	t.Helper()
	assert.OK(t, os.MkdirAll(filepath.Join(root, "releases"), 0o755))
	tree, err := release.Open(root)
	assert.OK(t, err)
	t.Cleanup(func() { _ = tree.Close() })
	h := &host{
		t: t, root: root, state: state, tree: tree, does: map[release.Version]behaviour{},
		on: map[string]func(){}, fails: map[string]error{},
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	h.ctx, h.interrupt = ctx, func() { cancel(gate.NewFinding(gate.LayerRelease, "interrupted", "interrupted by SIGTERM")) }
	h.d = &Deployer{
		App: "shop", Program: "1.2.3", StateDir: state, Tree: tree, Runner: tasks{h}, Observer: observer{h},
		Instances: []Instance{{Service: service{h}, Health: &gate.HealthCheck{
			Unit: service{h}, Direct: prober{h, "probe"}, Want: gate.Want{Where: "unix:/run/app.sock /health/", Path: "/health/", Status: []int{200}, Setting: "health"},
			Interval: 100 * time.Millisecond, Stable: 2 * time.Second, Deadline: 30 * time.Second,
		}}},
		Proxy: &gate.ProxyCheck{
			Server: proxy{h}, Through: prober{h, "through"}, Want: gate.Want{Where: "http://127.0.0.1/health/", Status: []int{200}, Proxy: true, Setting: "proxy"},
			Interval: 100 * time.Millisecond, Stable: 2 * time.Second, Deadline: 30 * time.Second,
		},
		Require: []string{"manage.py"}, NoMarker: rollback.Inspect, Automatic: true, RefuseBroken: true, Keep: 5,
		Hooks: map[HookName][]Task{}, Rehearsal: stage{h}, Uses: &used{},
		Look: func(_ context.Context, _ Plan, hooked bool) Look {
			if hooked {
				return h.lookAfter
			}
			return h.look
		},
	}
	return h
}

// openJournal is what the commands do once they hold the lock.
func (h *host) openJournal() {
	h.t.Helper()
	j, err := journal.Open(h.state)
	assert.OK(h.t, err)
	h.t.Cleanup(func() { _ = j.Close() })
	h.d.Journal = j
}

func write(t *testing.T, file, text string) {
	t.Helper()
	assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.OK(t, os.WriteFile(file, []byte(text), 0o644))
}

// add uploads whole releases.
func (h *host) add(vs ...release.Version) {
	h.t.Helper()
	for _, v := range vs {
		write(h.t, filepath.Join(h.tree.Dir(v), "manage.py"), string(v))
	}
}

func (h *host) migration(name string, vs ...release.Version) {
	h.t.Helper()
	for _, v := range vs {
		write(h.t, filepath.Join(h.tree.Dir(v), "shop", "migrations", name+".py"), `from django.db import migrations


class Migration(migrations.Migration):
    operations = [migrations.RemoveField("order", "legacy")]
`)
	}
}

const blockedMarker = "rollback = \"blocked\"\nreason = \"shop.0002_drop removes order.legacy\"\n"

func (h *host) mark(v release.Version, text string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.tree.Dir(v), rollback.MarkerName), text)
}

// began makes releases live one after the other, as good ones, and forgets how.
func (h *host) began(vs ...release.Version) {
	h.t.Helper()
	h.openJournal()
	for _, v := range vs {
		h.add(v)
		if r := h.d.Run(h.t.Context(), Request{Command: Release, Version: string(v)}); r.Outcome != Released {
			h.t.Fatalf("%s: %s, %v", v, r.Outcome, r.Failure)
		}
	}
	h.forget()
}

func (h *host) forget() {
	h.restarts, h.trace, h.warned, h.tasks, h.waited, h.reloads = nil, nil, nil, nil, nil, 0
}

func (h *host) release(v string) *Report {
	return h.d.Run(h.ctx, Request{Command: Release, Version: v})
}

func (h *host) rollback(v string) *Report {
	return h.d.Run(h.ctx, Request{Command: Rollback, Version: v})
}

// byHand makes v live without deploygate.
func (h *host) byHand(v release.Version) {
	h.t.Helper()
	assert.OK(h.t, h.tree.Swap(v))
	h.start()
}

func (h *host) start() {
	v, _ := h.tree.Current()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running, h.started, h.faulty = v, time.Now(), h.broken
	h.invocation++
}

// at lets happen what is to happen at an event.
func (h *host) at(event string) {
	h.mu.Lock()
	do := h.on[event]
	delete(h.on, event)
	h.mu.Unlock()
	if do != nil {
		do()
	}
}

func (h *host) link() release.Version {
	v, _ := h.tree.Current()
	return v
}

func (h *host) records() []journal.Record {
	h.t.Helper()
	records, torn, err := journal.Read(h.state)
	assert.OK(h.t, err)
	if torn > 0 && !h.torn {
		h.t.Errorf("%d torn lines", torn)
	}
	return records
}

func (h *host) history() journal.History { return journal.Replay(h.records()) }

// story is the journal of the latest deploy in short.
func (h *host) story() []string {
	var s []string
	for _, r := range h.records() {
		if r.Event == journal.Began {
			s = nil
		}
		line := strings.TrimSpace(fmt.Sprintf("%s %s", r.Event, r.Step))
		if v := r.Version + r.Requested; v != "" {
			line += " " + string(v)
		}
		if r.Event == journal.Done && r.Error != "" {
			line += " !"
		}
		s = append(s, line)
	}
	return s
}

// wellWritten asserts that in the journal every deploy begins, ends with its verdict, and announces what it does.
func (h *host) wellWritten() {
	h.t.Helper()
	var open *journal.Record
	began, finished := map[string]bool{}, map[string]bool{}
	for i, r := range h.records() {
		switch r.Event {
		case journal.Began:
			began[r.Deploy] = true
		case journal.Intent:
			if open != nil {
				h.t.Errorf("record %d: %s is announced before %s is done", i, r.Step, open.Step)
			}
			open = &r
			continue
		case journal.Done:
			if open == nil || open.Step != r.Step || open.Version != r.Version {
				h.t.Errorf("record %d: %s of %s is done and was not announced", i, r.Step, r.Version)
			}
			open = nil
		case journal.Finished:
			finished[r.Deploy] = true
		case journal.Passed, journal.Failed:
		}
		if !began[r.Deploy] {
			h.t.Errorf("record %d: %s before its deploy began", i, r.Event)
		}
	}
	if open != nil {
		h.t.Errorf("%s has no result", open.Step)
	}
	if !maps.Equal(began, finished) {
		h.t.Errorf("began %v, finished %v", began, finished)
	}
}

// service plays systemd.
type service struct{ *host }

func (s service) Name() string { return "gunicorn.service" }

func (s service) Ready(ctx context.Context) (Unit, error) {
	s.at("ready")
	if ctx.Err() != nil {
		return Unit{}, context.Cause(ctx)
	}
	if s.notReady != nil {
		return Unit{}, s.notReady
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := Unit{Name: "app.service", InLink: !s.outside, Running: s.running != "", Invocation: fmt.Sprint(s.invocation)}
	if u.Running {
		u.Dir, _ = s.tree.RealDir(s.running)
		u.Processes = []int{s.pid()}
	}
	return u, nil
}

func (s service) Restart(ctx context.Context, kill bool, _ gate.Progress) error {
	s.at("restart")
	s.announced(StepRestart)
	if kill {
		s.mu.Lock()
		s.killed = append(s.killed, s.running)
		s.mu.Unlock()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v, err := s.tree.Current()
	if err != nil || v == "" {
		return fmt.Errorf("app.service could not be started: %q, %w", v, err)
	}
	s.start()
	s.mu.Lock()
	s.restarts = append(s.restarts, v)
	s.mu.Unlock()
	s.at("restarted")
	return s.does[v].restart
}

// Reload replaces the process's code and keeps its invocation.
func (s service) Reload(context.Context, gate.Progress) error {
	s.at("reload")
	s.announced(StepRestart)
	v, err := s.tree.Current()
	assert.OK(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reloaded, s.started = s.reloaded+1, time.Now()
	if !s.mute {
		s.running = v
	}
	return nil
}

func (s service) Reread(context.Context) (bool, error) { return s.stale, nil }

// announced asserts that the journal on disk knows what is about to be done, unless it can't be written.
func (h *host) announced(step StepName) {
	if h.unwritable {
		return
	}
	r := h.records()
	if last := r[len(r)-1]; last.Event != journal.Intent || last.Step != string(step) {
		h.t.Errorf("%s comes after %s %s in the journal", step, last.Event, last.Step)
	}
}

// breakJournal makes every further record fail.
func (h *host) breakJournal() {
	h.unwritable = true
	assert.OK(h.t, h.d.Journal.Close())
}

func (s service) State(context.Context) (gate.UnitState, error) {
	s.at("state")
	s.mu.Lock()
	defer s.mu.Unlock()
	st := gate.UnitState{
		Unit: "app.service", ActiveState: "active", SubState: "running", Result: "success",
		InvocationID: fmt.Sprint(s.invocation), MainPID: s.pid(),
	}
	b := s.behaves()
	switch {
	case s.running == "":
		st.ActiveState, st.SubState, st.MainPID = "inactive", "dead", 0
	case b.crash > 0 && time.Since(s.started) >= b.crash:
		st.ActiveState, st.SubState, st.Result, st.ExecMainStatus, st.MainPID = "failed", "failed", "exit-code", 3, 0
	default:
		dir, _ := s.tree.RealDir(s.running)
		st.Processes = []gate.Process{{PID: s.pid(), Dir: dir}}
	}
	return st, nil
}

// behaves is how what runs behaves.
func (h *host) behaves() behaviour {
	if h.faulty {
		return behaviour{crash: time.Millisecond, boot: time.Second}
	}
	return h.does[h.running]
}

func (h *host) pid() int { return 100 + h.invocation + 1000*h.reloaded }

// prober plays HTTP: to the app, or through the proxy.
type prober struct {
	*host
	event string
}

func (p prober) Probe(ctx context.Context, observe func(gate.Answer) (time.Duration, bool)) error {
	return probe(ctx, func() gate.Answer { p.at(p.event); return p.answer() }, observe)
}

// probe asks again and again, as gate.Prober has it.
func probe(ctx context.Context, ask func() gate.Answer, observe func(gate.Answer) (time.Duration, bool)) error {
	for again := true; again && ctx.Err() == nil; {
		a := ask()
		if ctx.Err() != nil {
			break
		}
		var next time.Duration
		next, again = observe(a)
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
	return ctx.Err()
}

func (p prober) answer() gate.Answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, age := p.behaves(), time.Since(p.started)
	switch {
	case p.event == "through" && b.proxied != 0:
		return gate.Answer{Status: b.proxied}
	case p.running == "", age < b.boot, b.crash > 0 && age >= b.crash:
		return gate.Answer{Err: syscall.ECONNREFUSED}
	case b.full:
		return gate.Answer{Err: syscall.EAGAIN}
	case b.hangs:
		return gate.Answer{Err: errors.New("timeout"), Timeout: true, Connected: true}
	case b.status != 0:
		return gate.Answer{Status: b.status, Peer: p.pid()}
	}
	return gate.Answer{Status: 200, Peer: p.pid()}
}

// proxy plays nginx.
type proxy struct{ *host }

func (p proxy) Begin(context.Context) error {
	p.at("begin")
	return p.invalidBefore
}

func (p proxy) Test(context.Context) (bool, error) {
	p.at("test")
	if p.invalid != nil || !p.reconfigured {
		return false, p.invalid
	}
	p.reconfigured = false
	p.reloads++
	return true, nil
}

// tasks plays hooks and checks.
type tasks struct{ *host }

func (r tasks) Run(ctx context.Context, t Task) error {
	r.at("task " + t.Name)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := os.Stat(t.Dir)
	assert.OK(r.t, err)
	r.tasks = append(r.tasks, t)
	r.trace = append(r.trace, fmt.Sprintf("task %s in %s", t.Name, filepath.Base(t.Dir)))
	if t.Output != nil {
		fmt.Fprintf(t.Output, "output of %s\n%s", t.Name, r.prints[t.Name])
	}
	return r.fails[t.Name]
}

type observer struct{ *host }

func (o observer) Started(name StepName) { o.at("started " + string(name)) }

func (o observer) Waiting(_ StepName, detail string) { o.waited = append(o.waited, detail) }

func (o observer) Ended(s Step) {
	o.trace = append(o.trace, fmt.Sprintf("%s %s", s.Name, s.Outcome))
	o.at("ended " + string(s.Name))
}

func (o observer) Warned(text string) { o.warned = append(o.warned, text) }

func task(name string) Task {
	return Task{Name: name, Run: []string{name, "--now"}, Timeout: time.Minute}
}

// hook makes tasks of each hook, named after it.
func (h *host) hooks(names ...HookName) {
	for _, n := range names {
		h.d.Hooks[n] = append(h.d.Hooks[n], task(string(n)))
	}
}

// contains compares an error or words with a part that they must have; "" is none.
func contains(t *testing.T, what, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s: %q, want …%s…", what, got, want)
	}
}

func summary(f *gate.Finding) string {
	if f == nil {
		return ""
	}
	return f.Summary
}

func steps(r *Report) string {
	var s []string
	for _, st := range r.Steps {
		word := string(st.Name)
		switch st.Outcome {
		case Failed:
			word = "!" + word
		case Skipped:
			word = "(" + word + ")"
		case Passed:
		}
		s = append(s, word)
	}
	return strings.Join(s, " ")
}

func lives(h journal.History) versions {
	vs := versions{}
	for _, l := range h.Activations() {
		vs = append(vs, l.Version)
	}
	return vs
}

// goodAndBad tells the last gates of all releases that had one.
func goodAndBad(h journal.History) (good, bad versions) {
	good, bad = versions{}, versions{}
	for _, v := range h.Gated() {
		if h.Good(v) {
			good = append(good, v)
		} else {
			bad = append(bad, v)
		}
	}
	slices.Sort(good)
	slices.Sort(bad)
	return good, bad
}

var errBroken = errors.New("broken")
