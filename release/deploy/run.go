package deploy

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Observer shows a deploy while it runs.
type Observer interface {
	Started(name StepName)
	Waiting(name StepName, detail string)
	Ended(s Step)
	Warned(text string)
}

// run is one deploy on its way: it times the steps, writes the journal and shows both.
type run struct {
	*Deployer
	plan   Plan // as the preflight had it
	report *Report
	outer  gate.Progress // of the step that the present ones are part of; nil: of none
	begun  bool          // the journal knows of it
	since  time.Time     // the beginning, with its monotonic reading: the clock may be set meanwhile

	attempt  attempt                // the latest
	diagnose func() []*gate.Finding // finds the reason of the first failure
	remedies []string               // of a release that failed and stays

	hooksEnded bool // all before_swap hooks, well

	// What is learnt on the way.
	candidates []rollback.Target // from the target, in the order in which they are tried
	reload     bool              // the unit is reloaded, and its processes stay: never on the way back
	reloaded   bool              // it may have been, so that its invocation tells nothing
	hangs      bool              // what runs gives no answer, and would not end when it is asked to
	ailing     bool              // what runs was found unhealthy, whichever release it runs: going back starts it again

	failure *gate.Finding // why the target failed its gate; nil: it didn't
	older   comparison    // with it
}

// attempt is a release that was started and has to prove itself.
type attempt struct {
	capture CaptureEvidence
	expect  gate.Target
	since   time.Time
}

// newID names a deploy: sortable by time, and told apart within one second.
func newID(at time.Time) string {
	return at.UTC().Format("20060102T150405Z") + "-" + strings.ToLower(rand.Text()[:6])
}

func (d *Deployer) begin(request Request) *run {
	now := time.Now()
	return &run{Deployer: d, since: now, report: &Report{
		Command: request.Command, App: d.App, Program: d.Program, DeployID: newID(now), Requested: release.Version(request.Version),
		StartedAt: now.UTC(), Steps: []Step{}, Before: []*gate.Finding{}, Warnings: []string{},
	}}
}

// NotBegun is the verdict of a deploy that couldn't begin.
func (d *Deployer) NotBegun(request Request, o Outcome, why error) *Report {
	return d.begin(request).end(o, why)
}

// mutating are the steps that change the host, so that the journal has a word of them before.
func mutating(name StepName) bool {
	return name == StepSwap || name == StepRestart || name == StepProxy || name == StepBeforeSwap
}

// step runs, times, records and shows one step. One that is part of another is only recorded, and shown as its progress.
func (r *run) step(name StepName, v release.Version, do func(gate.Progress) (string, error)) error {
	if r.outer != nil {
		return r.within(r.outer, name, v, do)
	}
	r.Observer.Started(name)
	began := time.Now()
	detail, err := r.journalled(name, v, func() (string, error) {
		return do(func(detail string) { r.Observer.Waiting(name, detail) })
	})
	s := Step{Name: name, Outcome: Passed, Seconds: seconds(time.Since(began)), Detail: detail}
	switch {
	case errors.Is(err, errSkipped):
		s.Outcome, err = Skipped, nil
	case err != nil:
		s.Outcome, s.Detail = Failed, err.Error()
	}
	r.report.Steps = append(r.report.Steps, s)
	r.Observer.Ended(s)
	return err
}

// skip notes a step that has nothing to do.
func (r *run) skip(name StepName, why string) {
	r.report.Steps = append(r.report.Steps, Step{Name: name, Outcome: Skipped, Detail: why})
}

func (r *run) within(say gate.Progress, name StepName, v release.Version, do func(gate.Progress) (string, error)) error {
	say(string(name))
	_, err := r.journalled(name, v, func() (string, error) {
		return do(func(detail string) { say(string(name) + ": " + detail) })
	})
	if errors.Is(err, errSkipped) {
		return nil
	}
	return err
}

// journalled writes a mutating step's intent before and its result after it. Before anything has been changed a
// journal that can't be written ends the deploy; afterwards the host's health comes first.
func (r *run) journalled(name StepName, v release.Version, do func() (string, error)) (string, error) {
	if !mutating(name) || !r.begun {
		return do()
	}
	if err := r.write(journal.Record{Event: journal.Intent, Step: string(name), Version: v}); err != nil && !r.report.Changed {
		return "", err
	}
	detail, err := do()
	done := journal.Record{Event: journal.Done, Step: string(name), Version: v}
	if err != nil && !errors.Is(err, errSkipped) {
		done.Error = err.Error()
	}
	_ = r.write(done)
	return detail, err
}

// write appends to the journal; after the swap an error is a warning, once.
func (r *run) write(rec journal.Record) error {
	rec.At, rec.Deploy = time.Now().UTC(), r.report.DeployID
	rec.Error = r.Secrets.Hide(gate.Printable(rec.Error))
	err := r.Journal.Append(rec)
	if err != nil && r.report.Changed {
		r.warnOnce(err.Error())
	}
	return err
}

// began makes the journal know of the deploy.
func (r *run) began() error {
	p := r.plan
	invocations, binds := map[string]string{}, map[string]string{}
	for _, u := range p.Units {
		invocations[u.Name] = u.Invocation
		if u.Bind != "" {
			binds[u.Name] = u.Bind
		}
	}
	err := r.write(journal.Record{
		Event: journal.Began, Command: string(p.Command), Requested: p.Target, Previous: p.Previous,
		User: UserName(), PID: os.Getpid(), Override: p.Override, Program: r.Program, Schema: p.Schema, Invocations: invocations, Binds: binds,
		Healthy:   p.Healthy,
		Directory: r.directory(p.Target), PreviousDirectory: r.directory(p.Previous),
	})
	r.begun = err == nil
	return err
}

// directory is which one v is now; nil where that can't be seen.
func (d *Deployer) directory(v release.Version) *release.Identity {
	if v == "" {
		return nil
	}
	id, err := d.Tree.Identify(v)
	if err != nil {
		return nil
	}
	return &id
}

// passed records that v passed its gate.
func (r *run) passed(v release.Version) error {
	return r.write(journal.Record{Event: journal.Passed, Version: v})
}

// failed records that v failed its gate. Whether it is at fault is decided with the verdict. What the host shows of the
// first failure is looked at now, since the way back changes it.
func (r *run) failed(v release.Version, failure error) {
	f := gate.AsFinding(gate.LayerHealth, failure)
	if v == r.report.Requested {
		r.failure = f
	}
	r.record(v, f, gate.BlamesUnknown)
	r.capture(failure)
}

func (r *run) record(v release.Version, failure *gate.Finding, blames gate.Blame) {
	_ = r.write(journal.Record{Event: journal.Failed, Version: v, Error: failure.Summary, Blames: string(blames)})
}

// capture has the first failure looked at.
func (r *run) capture(failure error) {
	if r.diagnose != nil {
		return
	}
	r.diagnose = func() []*gate.Finding { return nil }
	if f, is := errors.AsType[*gate.Finding](failure); is && r.attempt.capture != nil {
		r.diagnose = r.attempt.capture(f, r.attempt.expect, r.attempt.since)
	}
}

func (r *run) warn(format string, args ...any) {
	text := gate.Clean(fmt.Sprintf(format, args...))
	r.report.Warnings = append(r.report.Warnings, text)
	r.Observer.Warned(text)
}

func (r *run) warnOnce(text string) {
	if !slices.Contains(r.report.Warnings, text) {
		r.warn("%s", text)
	}
}

// risks warns of what is no failure, once of each.
func (r *run) risks(found []*gate.Finding) {
	for _, f := range found {
		r.warnOnce(gate.Clean(f.Line()))
	}
}

// end is the verdict.
func (r *run) end(o Outcome, failure error) *Report {
	rep := r.report
	rep.Outcome, rep.ExitCode = o, o.ExitCode()
	if failure != nil {
		rep.Failure = r.explained(gate.AsFinding(gate.LayerRelease, failure))
		r.blame(rep.Failure)
	}
	if r.Tree != nil {
		rep.Current, _ = r.Tree.Current() // what is in its place instead of a link, preflight has said
	}
	if r.begun && o != Stuck { // whoever finishes that needs it still
		if err := r.Tree.Free(); err != nil {
			r.warn("%v", err)
		}
	}
	rep.FinishedAt = time.Now().UTC()
	rep.Seconds = seconds(time.Since(r.since))
	if verdict, err := json.Marshal(rep); err == nil && r.begun {
		if err := r.write(journal.Record{Event: journal.Finished, Verdict: r.Secrets.HideJSON(verdict)}); err != nil {
			r.warnOnce(err.Error())
		}
	}
	return rep
}

// explained is the failure by its cause. Logs are read only now, since the way back must not wait for it.
func (r *run) explained(failure *gate.Finding) *gate.Finding {
	if r.diagnose != nil {
		if found := r.diagnose(); len(found) > 0 {
			failure = found[0]
			for _, f := range found[1:] {
				r.warn("also: %s", f.Summary)
			}
		}
	}
	failure.Advice = append(append([]string{}, r.remedies...), failure.Advice...)
	return failure
}

// blame decides who is at fault, and marks the target if it is.
func (r *run) blame(cause *gate.Finding) {
	if r.failure == nil {
		return
	}
	cause.Blames = proved(r.failure, cause, r.older)
	if cause.Blames == gate.BlamesRelease {
		r.record(r.report.Requested, cause, cause.Blames)
	}
}

// seconds rounds to milliseconds: more is noise in a verdict.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// UserName is who started the deploy, through sudo too.
func UserName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Getuid())
}
