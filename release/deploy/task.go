package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

// afterHooks runs the tasks of a hook that comes after the outcome is known: a failure is a warning.
func (r *run) afterHooks(ctx context.Context, hook HookName, v release.Version, o Outcome) {
	for _, t := range r.Hooks[hook] {
		t.Environment = append([]string{"DEPLOYGATE_OUTCOME=" + string(o)}, t.Environment...)
		if err := r.runTask(ctx, t, v); err != nil {
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

// runTask runs one task in v's directory and turns a failure into a finding with the end of its output.
func (r *run) runTask(ctx context.Context, t Task, v release.Version) error {
	var out tail
	t.Dir, t.Output = r.Tree.Dir(v), &out
	t.Environment = append([]string{
		"DEPLOYGATE_APP=" + r.App,
		"DEPLOYGATE_DEPLOY=" + r.report.DeployID,
		"DEPLOYGATE_VERSION=" + string(v),
		"DEPLOYGATE_PREVIOUS=" + string(r.report.Previous),
	}, t.Environment...)
	err := r.Runner.Run(ctx, t)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	if r.ExplainTask != nil {
		if f := r.ExplainTask(t, v, out.String()); f != nil {
			f.Summary = fmt.Sprintf("%s failed: %s", t.Name, f.Summary)
			return f
		}
	}
	return gate.NewFinding(gate.LayerRelease, gate.Unknown, fmt.Sprintf("%s failed: %v", t.Name, err)).
		With(strings.Join(t.Run, " "), end(r.Secrets.Hide(out.String())))
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
