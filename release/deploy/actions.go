package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"deploygate/gate"
	"deploygate/release"
)

// HookName names a moment at which the user's commands run.
type HookName string

// The hooks.
const (
	BeforeSwap    HookName = "before_swap"
	AfterRelease  HookName = "after_release"
	AfterRollback HookName = "after_rollback"
	OnHeld        HookName = "on_held"
	OnStuck       HookName = "on_stuck"
)

// Task is a command of the user's: argv, no shell.
type Task struct {
	Name    string
	Run     []string
	User    string // "" is the app unit's user
	Timeout time.Duration

	// Set for each run.
	Dir         string
	Environment []string
	Output      io.Writer
}

// Check is a task that is part of the gate.
type Check struct {
	Task
	Required bool // false: reported, does not fail the gate
}

// Runner runs a task with the app's environment.
type Runner interface {
	Run(ctx context.Context, t Task) error
}

type action struct {
	name StepName
	do   func(say gate.Progress) (detail string, err error)
}

// stepper runs one action as a step.
type stepper func(name StepName, v release.Version, do func(say gate.Progress) (detail string, err error)) error

type healthCheck func(context.Context, gate.Expect, gate.Progress) error

// inOrder runs actions until one fails.
func inOrder(v release.Version, step stepper, actions []action) error {
	for _, a := range actions {
		if err := step(a.name, v, a.do); err != nil {
			return err
		}
	}
	return nil
}

// errSkipped ends a step that has nothing to do.
var errSkipped = errors.New("skipped")

func (d *Deployer) swap(ctx context.Context, r *run, v release.Version) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	before, _ := d.Tree.Current()
	if v == r.report.Requested { // what is gone back to has been on disk for long
		if err := d.Tree.Flush(v); err != nil {
			return neverRun(err)
		}
	}
	err := d.Tree.Swap(v)
	// A swap that failed may have been done all the same: the link as it is decides.
	if after, lookErr := d.Tree.Current(); lookErr != nil || after != before {
		r.report.Changed = true
	}
	if err != nil {
		return neverRun(err)
	}
	return nil
}

// restart restarts or reloads the unit, unless it runs v already, and gives what must be running from then on.
func (d *Deployer) restart(ctx context.Context, r *run, p Plan, v release.Version, say gate.Progress) (e gate.Expect, detail string, err error) {
	unit, err := d.Service.Ready(ctx)
	if err == nil {
		e, err = d.expect(v, p, "")
	}
	if err != nil {
		return e, "", neverRun(err)
	}
	if p.stillRuns(v, e.Dir, unit) {
		return e, fmt.Sprintf("%s runs %s already", unit.Name, v), nil
	}
	kill := p.hangs && v != p.Target // else systemd would wait for its TimeoutStopSec=, while nobody is served
	detail = unit.Name
	change := func(ctx context.Context, say gate.Progress) error { return d.Service.Restart(ctx, kill, say) }
	if p.Reload && unit.Running { // it may have crashed since the preflight
		change, detail = d.Service.Reload, unit.Name+" was reloaded"
		e.Reloaded = unit.Processes
	} else {
		e.Previous = unit.Invocation
	}
	if p.Command == Restart {
		reread, err := d.Service.Reread(ctx)
		if err == nil && reread {
			detail += ", after systemd has read its changed files"
			_, err = d.Service.Ready(ctx) // what they say now may not work at all
		}
		if err != nil {
			return e, "", neverRun(err)
		}
	}
	r.report.Changed = true
	r.trial = trial{d.Witness, e, time.Now()}
	return e, detail, change(ctx, say)
}

// hangs tells whether a release failed since it gives no answer, or since so many wait for one that nobody gets into the line
// any more: connect(2) to a unix socket gives EAGAIN then.
func hangs(failure error) bool {
	f := gate.AsFinding(gate.LayerHealth, failure)
	return f.Answer != nil && (f.Answer.Timeout || errors.Is(f.Answer.Err, syscall.EAGAIN)) && !f.Proxied
}

func (d *Deployer) healthy() string {
	return fmt.Sprintf("healthy for %s without interruption", d.Gate.Stable)
}

// passProxy fails a release for what it broke in the proxy, and not for what was broken before.
func (d *Deployer) passProxy(ctx context.Context, r *run, p Plan, e gate.Expect, say gate.Progress) (string, error) {
	if d.Gate.Proxy == nil && d.Gate.Through == nil {
		return "no proxy", errSkipped
	}
	var did []string
	excused := func(err error, before bool) bool {
		if err == nil || !before || ctx.Err() != nil {
			return false
		}
		r.warn("the proxy was broken before and still is: %v", err)
		did = append(did, "broken before and still")
		return true
	}
	say("testing the configuration")
	reloaded, err := d.Gate.TestProxy(ctx)
	switch {
	case excused(err, p.ProxyInvalid):
	case err != nil:
		return "", err
	case d.Gate.Proxy != nil:
		did = append(did, "configuration valid")
	}
	if reloaded {
		did = append(did, "reloaded")
	}
	reach, err := d.Gate.PassProxy(ctx, e, reloaded, say)
	switch {
	case excused(err, p.ProxyBroken):
	case err != nil:
		return "", err
	case d.Gate.Through != nil:
		did = append(did, reach.Detail)
		r.risks(reach.Risks)
	}
	return strings.Join(did, ", "), nil
}

func (d *Deployer) runChecks(ctx context.Context, r *run, e gate.Expect, say gate.Progress) (string, error) {
	if len(d.Checks) == 0 {
		return "none configured", errSkipped
	}
	passed := 0
	for _, c := range d.Checks {
		say(c.Name)
		err := d.run(ctx, r, c.Task, release.Version(e.Version))
		switch {
		case err == nil:
			passed++
		case c.Required || ctx.Err() != nil:
			return "", err
		default:
			r.warn("%s", withOutput(err, " (advisory)"))
		}
	}
	// They may have taken their time.
	return fmt.Sprintf("%d of %d passed", passed, len(d.Checks)), d.Gate.Still(ctx, e)
}

// hooksBefore are the before_swap hooks of a deploy. Only a release has any: nothing else runs migrations.
func (d *Deployer) hooksBefore(p Plan) []Task {
	if p.Command != Release {
		return nil
	}
	return d.Hooks[BeforeSwap]
}

// beforeSwap runs the before_swap hooks in the candidate's directory.
func (d *Deployer) beforeSwap(ctx context.Context, r *run, p Plan) error {
	tasks := d.hooksBefore(p)
	if len(tasks) == 0 {
		r.skip(StepBeforeSwap, "no hooks")
		return nil
	}
	return r.step(StepBeforeSwap, p.Target, func(say gate.Progress) (string, error) {
		for i, t := range tasks {
			say(t.Name)
			if err := d.run(ctx, r, t, p.Target); err != nil {
				return "", gate.AsFinding(gate.LayerRelease, err).
					Advise(fmt.Sprintf("nothing was swapped; what the hooks did stays (%d of %d ended well)", i, len(tasks)))
			}
		}
		r.hooksEnded = true
		return fmt.Sprintf("%d of %d done", len(tasks), len(tasks)), d.lookAgain(ctx, r, p)
	})
}

// afterHooks runs the tasks of a hook that comes after the outcome is known: a failure is a warning.
func (d *Deployer) afterHooks(ctx context.Context, r *run, hook HookName, v release.Version, o Outcome) {
	for _, t := range d.Hooks[hook] {
		t.Environment = append([]string{"DEPLOYGATE_OUTCOME=" + string(o)}, t.Environment...)
		if err := d.run(ctx, r, t, v); err != nil {
			r.warn("%s", withOutput(err, ""))
		}
	}
}

// withOutput is a failure, with a note and the end of what it printed, in one line.
func withOutput(err error, note string) string {
	f, is := errors.AsType[*gate.Finding](err)
	if !is || len(f.Evidence) == 0 {
		return err.Error() + note
	}
	const enough = 3
	lines := strings.Split(strings.TrimSpace(f.Evidence[len(f.Evidence)-1].Text), "\n")
	return f.Summary + note + "; its output ends with: " + strings.Join(lines[max(0, len(lines)-enough):], " | ")
}

// run runs one task in v's directory and turns a failure into a finding with the end of its output.
func (d *Deployer) run(ctx context.Context, r *run, t Task, v release.Version) error {
	var out tail
	t.Dir, t.Output = d.Tree.Dir(v), &out
	t.Environment = append([]string{
		"DEPLOYGATE_APP=" + d.App,
		"DEPLOYGATE_DEPLOY=" + r.report.DeployID,
		"DEPLOYGATE_VERSION=" + string(v),
		"DEPLOYGATE_PREVIOUS=" + string(r.report.Previous),
	}, t.Environment...)
	err := d.Runner.Run(ctx, t)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if d.ExplainTask != nil {
		if f := d.ExplainTask(t, v, out.String()); f != nil {
			f.Summary = fmt.Sprintf("%s failed: %s", t.Name, f.Summary)
			return f
		}
	}
	return gate.NewFinding(gate.LayerRelease, gate.Unknown, fmt.Sprintf("%s failed: %v", t.Name, err)).
		With(strings.Join(t.Run, " "), end(d.Secrets.Hide(out.String())))
}

func join(vs []release.Version) string {
	names := make([]string, len(vs))
	for i, v := range vs {
		names[i] = string(v)
	}
	return strings.Join(names, ", ")
}

// tail keeps the last bytes written: a traceback's last line says the most.
type tail struct {
	b   []byte
	cut bool
}

const (
	tailSize  = 64 << 10 // a traceback with all that was raised before it
	tailShown = 2 << 10
)

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b, t.cut = append(t.b[:0], t.b[over:]...), true
	}
	return len(p), nil
}

func (t *tail) String() string {
	if !t.cut {
		return string(t.b)
	}
	if _, whole, is := bytes.Cut(t.b, []byte("\n")); is { // half a line may be half of a secret
		return string(whole)
	}
	return "[…] " + string(t.b)
}

// end is what is shown of a text that has no secrets in it any more.
func end(text string) string { return text[max(0, len(text)-tailShown):] }
