package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/unit"
)

// Examine looks at the host as it is now.
func (h *Host) Examine(ctx context.Context, e gate.Target) *evidence {
	v := h.gather(ctx, e)
	v.ask(ctx, e)
	v.nginx(ctx)
	v.testProxy(ctx)
	v.route(ctx)
	v.sockets() // while what the requests left in them is still there
	if v.wrong() || v.Unit.State.NRestarts > 0 {
		v.logs(ctx, unit.LogQuery{Last: lastEntries})
	}
	if v.wrong() {
		v.askAgain(ctx, e)
		v.proxyLog(ctx, v.Asked.Truncate(time.Second), time.Now().Add(time.Second))
	}
	v.outlook(ctx)
	return v
}

// lastEntries of the unit's journal are read of a host as it is: a traceback is some dozens.
const lastEntries = 1000

// wrong reports whether there is anything to be explained.
func (v *evidence) wrong() bool {
	return v.Failed != nil || v.Direct.Finding != nil || v.Direct.Answer == nil || v.Proxied.Finding != nil
}

// testProxy has nginx test its configuration.
func (v *evidence) testProxy(ctx context.Context) {
	err := v.Deployer.Proxy.Begin(ctx)
	if err == nil {
		return
	}
	f := gate.AsFinding(gate.LayerProxy, err)
	if v.Proxy.Test = f; f.Cause != gate.ProxyConfigInvalid {
		v.unread("whether nginx's configuration is valid", f, v.Proxy.Program+" -t")
	}
}

// Live is the release that is live and what its unit must be running, as far as that can be told.
func (h *Host) Live(ctx context.Context) (current release.Version, want gate.Target, wrong error) {
	current, wants, wrong := h.Deployer.Live(ctx)
	if len(wants) > 0 {
		want = wants[0]
	}
	return current, want, wrong
}

// Diagnose returns the findings; wrong is what kept the app from being looked at as it should, nil: nothing.
func (v *evidence) Diagnose(wrong error) []*gate.Finding {
	found := diagnosis.Diagnose(&v.Facts)
	if wrong == nil {
		return append([]*gate.Finding{}, found...)
	}
	f := gate.AsFinding(gate.LayerRelease, wrong)
	switch {
	case len(found) == 0 || found[0].Cause == gate.Unknown:
	case found[0].Cause == f.Cause:
		return append([]*gate.Finding{f}, found[1:]...) // the same, in the words of the refusal
	default:
		return found // it says why
	}
	return append([]*gate.Finding{f}, found...)
}

// AlsoSeen adds to what isn't known what is known all the same: how the app answers.
func (v *evidence) AlsoSeen(findings []*gate.Finding) {
	for _, f := range findings {
		if a := v.Direct.Answer; f.Unseen && v.Direct.Good() {
			f.With("seen", fmt.Sprintf("%s answers %d", v.health.Want.Where, a.Status))
		}
		if a := v.Proxied.Answer; f.Unseen && v.Proxied.Good() {
			f.With("seen", fmt.Sprintf("GET %s answers %d", v.Config.Proxy.URL, a.Status))
		}
	}
}

// logs reads what the unit logged in the start that is judged and in the crashed ones before it.
func (v *evidence) logs(ctx context.Context, q unit.LogQuery) {
	lines, err := v.settledLog(ctx, q)
	if err != nil {
		v.LogUnread = true
		v.unread("the journal of "+v.Unit.Name, err, "journalctl -u "+v.Unit.Name+" -n 100")
	}
	v.Log = lines
	runs := serverOf(v.files)
	ofFile := func(more []gate.LogLine) []gate.LogLine {
		return ofState(more, runs.Starts(more), v.Unit.State, v.Asked)
	}
	if q.Since.IsZero() {
		v.Log = latestStarts(lines, v.Unit.State)
	} else {
		v.Log = begunBy(lines, v.trial.until, v.trial.Previous)
		since := 0 // the process that runs since
		if now, err := v.Manager.Unit(v.Unit.Name).State(ctx); err == nil && now.InvocationID != v.Unit.State.InvocationID {
			since = now.MainPID
		}
		ofFile = func(more []gate.LogLine) []gate.LogLine {
			return inTrial(more, runs.Starts(more), q.Since, v.trial.until, since, len(v.trial.Reloaded) > 0)
		}
	}
	for _, file := range lineOf(v.files).LogFiles() {
		more, err := runs.ReadLog(file, appUser(v.Config.Service.Manager, v.files))
		if err != nil {
			v.unread("gunicorn's log", err, "tail -n 100 "+file)
		}
		v.Log = append(v.Log, ofFile(more)...)
	}
	slices.SortStableFunc(v.Log, func(a, b gate.LogLine) int { return a.At.Compare(b.At) })
	if !slices.ContainsFunc(v.Log, isKill) && v.Unit.State.Result != "signal" {
		return
	}
	kernel, err := unit.KernelLog(ctx, unit.LogQuery{Last: lastEntries})
	if err != nil {
		v.unread("the kernel's log", err, "journalctl -k -n 100")
	}
	for _, l := range kernel {
		if strings.Contains(l.Text, "Killed process") {
			v.Killed = append(v.Killed, l)
		}
	}
}

// settledLog reads the unit's log, once more where the start that crashed has no last words in it: under load the journal
// gets them a moment after systemd has noticed the crash.
func (v *evidence) settledLog(ctx context.Context, q unit.LogQuery) (lines []gate.LogLine, err error) {
	const tries = 5
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range tries {
		lines, err = v.Manager.Unit(v.Unit.Name).Log(ctx, q)
		crashed := v.Failed != nil && v.Failed.State != nil
		spoke := slices.ContainsFunc(lines, func(l gate.LogLine) bool { return l.PID > 1 && l.Invocation == v.Unit.State.InvocationID })
		if err != nil || !crashed || spoke {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return lines, err
		}
	}
	return lines, err
}

func isKill(l gate.LogLine) bool {
	return strings.Contains(l.Text, "SIGKILL") || strings.HasSuffix(l.Text, "due to signal 9") || strings.Contains(l.Text, "status=9/KILL")
}

// latestStarts keeps what belongs to the start that st is about, to the crashed ones before it, which NRestarts counts,
// and to later ones: a unit that crashes may have been started again since it was looked at. systemd's word on a start
// that it refused belongs to none, and is kept.
func latestStarts(lines []gate.LogLine, st gate.UnitState) []gate.LogLine {
	counts := map[string]bool{} // by start, whether its lines are kept
	older := -1                 // how many are kept that are not younger than st's
	// The unit may have been unloaded since, with all that systemd knew of it: then the last start counts.
	known := slices.ContainsFunc(lines, func(l gate.LogLine) bool { return l.Invocation != "" && l.Invocation == st.InvocationID })
	first := len(lines)
	for i, l := range slices.Backward(lines) {
		kept, seen := counts[l.Invocation]
		if l.Invocation != "" && !seen {
			if older >= 0 || !known || l.Invocation == st.InvocationID {
				older++
			}
			kept = older <= st.NRestarts
			counts[l.Invocation] = kept
		}
		if kept {
			first = i
		}
	}
	return slices.DeleteFunc(slices.Clone(lines[first:]), func(l gate.LogLine) bool { return l.Invocation != "" && !counts[l.Invocation] })
}

// captureEvidence looks at once at what a failure of a deploy leaves to see, and gives what explains it from the logs.
func (h *Host) captureEvidence(f *gate.Finding, e gate.Target, since time.Time) func() []*gate.Finding {
	if f.Layer == gate.LayerRelease && f.Answer == nil && f.State == nil || f.Layer == gate.LayerSchema || f.NeverStarted {
		return func() []*gate.Finding { return nil } // it says all by itself
	}
	const limit = 3 * time.Second // the way back waits for it
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	v := h.gather(ctx, e)
	v.Failed, v.Asked = f, since
	v.trial.Target, v.trial.until = e, time.Now()
	var err error
	if v.Unit.State, err = h.Manager.Unit(v.Unit.Name).State(ctx); err != nil {
		v.unread("the unit's state", err, "systemctl status "+v.Unit.Name)
	}
	if f.State != nil {
		v.Unit.State = *f.State
	}
	v.nginx(ctx)
	if f.Proxied || f.Layer == gate.LayerProxy {
		v.Direct.Answer = h.health.Passed() // it was healthy, or the proxy wouldn't have been asked
		v.Proxied = diagnosis.Asked{Answer: f.Answer, Finding: f}
		v.route(ctx)
	} else {
		v.Direct = diagnosis.Asked{Answer: f.Answer, Finding: f}
	}
	v.sockets()
	return sync.OnceValue(func() []*gate.Finding {
		ctx := context.Background()
		current, _ := h.Deployer.Tree.Current()
		v.Replaced = string(current) != e.Version
		if v.Proxy.Route == nil {
			v.route(ctx)
		}
		// What it said last may get there later: a journal that has much to do gives its lines the time when it came to them.
		v.logs(ctx, unit.LogQuery{Since: since})
		v.proxyLog(ctx, since.Truncate(time.Second), v.trial.until)
		return diagnosis.Diagnose(&v.Facts)
	})
}

// explainTask says why a hook or a check failed, as far as its output tells.
func (h *Host) explainTask(t deploy.Task, v release.Version, output string) *gate.Finding {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	e := h.gather(ctx, gate.Target{Version: string(v), Dir: t.Dir})
	e.Asked = time.Time{} // all of its output counts
	return diagnosis.Task(&e.Facts, strings.Join(t.Run, " "), output)
}

// warnings are the risks of the host as it is, each in one line.
func (v *evidence) warnings() (texts []string) {
	for _, f := range diagnosis.Risks(&v.Facts) {
		texts = append(texts, f.Line())
	}
	return texts
}

// Explain returns the gate's findings by their causes, and warns of what will fail later.
func (h *Host) Explain(ctx context.Context, found []*gate.Finding) (causes []*gate.Finding, warnings []string) {
	_, expect, wrong := h.Live(ctx)
	if len(found) == 0 {
		return []*gate.Finding{}, h.survey(ctx, expect).warnings()
	}
	v := h.Examine(ctx, expect)
	// What is good again by now, or was a check of the user's, is as the gate found it.
	if causes = v.Diagnose(wrong); len(causes) == 0 || causes[0].Cause == gate.Unknown {
		causes = found
	}
	v.AlsoSeen(causes)
	return causes, v.warnings()
}
