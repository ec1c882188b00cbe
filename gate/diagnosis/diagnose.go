package diagnosis

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
)

// Diagnose returns what is wrong, the cause before what follows from it; nothing for what is as it should be.
func Diagnose(f *Facts) []*gate.Finding {
	f.read()
	var found []*gate.Finding
	add := func(rules []rule, otherwise *gate.Finding) {
		if finding := first(f, rules); finding != nil {
			found = append(found, finding)
		} else if otherwise != nil {
			found = append(found, otherwise)
		}
	}
	app, proxy := f.unexplained()
	switch {
	case f.appFails() && f.unserved():
		add(slices.Concat(startRules, appRules), app)
	case f.appFails():
		add(appRules, app)
	default:
		add(nil, app) // it answers, and yet the gate wants something else of it
	}
	if f.Proxied.failed() || f.Proxied.Answer == nil && !f.Direct.Good() {
		add(betweenRules, nil)
	}
	add(proxyRules, nil)
	if len(found) == 0 && f.Proxied.failed() {
		var rules []rule
		if f.Direct.Good() {
			rules = proxiedRules
		}
		add(rules, proxy)
	}
	return found
}

// appFails reports whether the app crashes or doesn't answer as it should on its own socket or port.
func (f *Facts) appFails() bool {
	crashed := f.Failed != nil && f.Failed.State != nil
	return crashed || !f.Direct.Good() && (f.Direct.failed() || f.Failed != nil)
}

// Task says why a hook or a check of the user's failed, as far as its output tells; nil: it doesn't. The facts are those
// of the release that it ran in.
func Task(f *Facts, name, output string) *gate.Finding {
	for text := range strings.SplitSeq(output, "\n") {
		f.Log = append(f.Log, gate.LogLine{Text: strings.TrimRight(text, "\r")})
	}
	f.LogName, f.Unit.State.ActiveState = name, "active"
	f.read()
	return first(f, slices.Concat(taskRules, appRules))
}

// unexplained is what the gate and the requests found, for where no rule is proved.
func (f *Facts) unexplained() (app, proxy *gate.Finding) {
	app = f.Direct.Finding
	if f.Failed != nil && f.Failed.Layer != gate.LayerProxy && !f.Proxied.is(f.Failed) {
		app = f.Failed
	}
	if app != nil && app.Layer == gate.LayerSocket && f.restarted() { // where its log can't be read
		st := f.Unit.State
		app = gate.NewFinding(gate.LayerApp, gate.Unknown, fmt.Sprintf("%s crashes again and again: systemd has started it "+
			"again %d times", f.Unit.Name, st.NRestarts)).
			With("systemd", st.String()).Advise("why: " + f.words()["journal"])
	}
	if app != nil && app.Cause == gate.SocketMissing && f.LogUnread {
		unsure := *app
		unsure.Layer, unsure.Cause = gate.LayerApp, gate.Unknown
		app = &unsure
	}
	return app, f.Proxied.Finding
}

func (a Asked) is(f *gate.Finding) bool { return a.Finding == f }

// first is the finding of the first rule that is proved.
func first(f *Facts, rules []rule) *gate.Finding {
	for _, r := range rules {
		if m := r.proof(f); m != nil {
			return r.finding(f, m)
		}
	}
	return nil
}

// maxProof bounds the pieces of evidence of one finding: three to six can be read at night.
const maxProof = 5

// finding makes one of a proof.
func (r rule) finding(f *Facts, m *match) *gate.Finding {
	words := f.words()
	maps.Copy(words, m.words)
	evidence := append(slices.Clone(m.evidence), f.seenByGate(r.layer, m.evidence)...)
	finding := gate.NewFinding(r.layer, r.cause, expand(r.summary, words))
	for _, e := range evidence[:min(len(evidence), maxProof)] {
		finding.With(e.Source, e.Text)
	}
	for _, a := range r.advice {
		finding.Advise(f.loaded(r, expand(a, words), words["systemctl"]))
	}
	return finding
}

// loaded has advice show what systemd uses, where the unit's files say something else by now.
func (f *Facts) loaded(r rule, advice, systemctl string) string {
	shows := strings.ReplaceAll(advice, systemctl+" cat ", systemctl+" show ")
	if !f.Unit.StaleOnDisk || r.cause == gate.UnitChanged || shows == advice {
		return advice
	}
	return shows + " (its files were changed, and are not loaded)"
}

// seenByGate is what the gate saw of the same failure: the unit as it crashed, or how long the app was waited for.
func (f *Facts) seenByGate(layer gate.Layer, have []gate.Evidence) (more []gate.Evidence) {
	if f.Failed == nil || layer == gate.LayerProxy {
		return nil
	}
	if f.Failed.Answer != nil {
		return []gate.Evidence{{Source: "gate", Text: f.Failed.Summary}}
	}
	for _, e := range f.Failed.Evidence {
		if e.Source == "systemd" && !slices.ContainsFunc(have, func(o gate.Evidence) bool { return o.Source == e.Source }) {
			more = append(more, e)
		}
	}
	return more
}

// words are those that every rule may use.
func (f *Facts) words() map[string]string {
	systemctl, journalctl := "systemctl", "journalctl -u "
	if f.Unit.OfUser {
		systemctl, journalctl = "systemctl --user", "journalctl --user-unit "
	}
	journal := journalctl + f.Unit.Name + " -n 100"
	if !f.Asked.IsZero() {
		journal += ` --since "` + f.Asked.Add(-recent).Format(time.DateTime) + `"`
	}
	w := map[string]string{
		"systemctl": systemctl, "journal": journal, "unit": f.Unit.Name, "settings": f.Unit.Name, "file": f.Unit.File, "user": f.Unit.user(),
		"program": f.Unit.Program, "python": f.Unit.Python, "dir": f.Release.Dir, "previous": f.Release.Previous,
		"before": path.Join(path.Dir(f.Release.Dir), f.Release.Previous), "bind": f.Bind, "socket": f.socketPath(),
		"nginx": f.Proxy.Program, "proxyunit": f.Proxy.Unit, "proxyuser": f.Proxy.User, "location": "nginx's configuration",
		"timeout": "", "at": "", "why": "", "imported": "project.wsgi", "stacks": f.stacks(journal), "workdir": f.Unit.WorkingDirectory,
	}
	w["server"], w["migrations"] = cmp.Or(f.Unit.Server, "the server"), "have its migrations applied"
	w["start"], w["restart"] = systemctl+" start "+f.Unit.Name, systemctl+" restart "+f.Unit.Name
	if live := f.Unit.RehearsedFor; live != "" {
		w["settings"], w["start"], w["restart"] = live, "release it again", "release it again"
	}
	if w["python"] == "" {
		w["python"] = "python3"
	}
	if f.Unit.Django {
		w["migrations"] = fmt.Sprintf("cd %s && %s manage.py migrate --plan", f.Release.Dir, w["python"])
	}
	if f.Unit.Timeout > 0 {
		w["timeout"] = " (" + f.Unit.Timeout.String() + ")"
	}
	return w
}

// stacks is the command that shows what a worker waits for, while there is one.
func (f *Facts) stacks(journal string) string {
	if f.Replaced {
		return journal
	}
	for _, p := range f.Unit.State.Processes {
		if p.PID != f.Unit.State.MainPID {
			return "ss -tnp | grep pid=" + strconv.Itoa(p.PID) + "; py-spy dump --pid " + strconv.Itoa(p.PID)
		}
	}
	return "ss -tnp | grep " + cmp.Or(f.Unit.Server, "python")
}

func expand(text string, words map[string]string) string {
	var pairs []string
	for k, v := range words {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return gate.Clean(strings.NewReplacer(pairs...).Replace(text))
}
