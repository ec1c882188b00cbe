package diagnosis

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
)

// risk is a rule about what works now and won't for ever: how unit, release and proxy agree, without a failure. Each
// place where they don't is one match.
type risk struct {
	layer   gate.Layer
	cause   gate.Cause // "": the match says it
	stops   bool       // no start of the unit works as things are, whatever release it is to run
	proof   func(*Facts) []*match
	summary string
	advice  []string
}

const (
	stops   = true
	onlyNow = false // a start may well work
)

var risks = []risk{
	// What breaks the next start.
	{
		gate.LayerService, "", stops, pathsGone,
		"the next start of {unit} will {fate}: {what} {path} {problem}",
		advice{"restore it, or correct {file}: {systemctl} cat {unit}"},
	},
	{
		gate.LayerService, gate.UserMissing, stops, userGone,
		"the next start of {unit} will fail: its {missing} does not exist",
		advice{"create it, or correct {file}: {systemctl} cat {unit}"},
	},
	{
		gate.LayerService, gate.DependencyMissing, stops, unitsGone,
		"the next start of {unit} will fail: it requires {missing}, which does not exist or is masked",
		advice{"install or unmask {missing}, or correct {file}: {systemctl} cat {unit}"},
	},
	{
		gate.LayerResources, gate.DiskFull, onlyNow, disksFull,
		"{path} has no {what} left",
		advice{"df -h {path}; df -i {path}"},
	},

	// What was changed and isn't in use, so that the next start brings it in.
	{
		gate.LayerService, gate.UnitChanged, onlyNow, one(func(f *Facts) bool { return f.Unit.StaleOnDisk && f.Unit.FileGone }),
		"the file of {unit}, {file}, is gone: systemd still uses what it said, until it reads its files again",
		advice{"restore it: {systemctl} show {unit} has what was in it"},
	},
	{
		gate.LayerService, gate.UnitChanged, onlyNow, one(func(f *Facts) bool { return f.Unit.StaleOnDisk && !f.Unit.FileGone }),
		"the files of {unit} were changed, and systemd still uses the old ones",
		advice{"deploygate restart has systemd read them, and brings them in through the gate", "what is in use: {systemctl} show {unit}; what is not yet: " +
			"{systemctl} cat {unit}"},
	},
	{
		gate.LayerService, "", onlyNow, newer,
		"{what} {path}{more} changed at {changed}, and {unit} runs since {since}: it still has what was there before",
		advice{"deploygate restart brings it in through the gate"},
	},
	{
		gate.LayerProxy, gate.ProxyChanged, onlyNow, proxyNewer,
		"{path} changed at {changed}, and nginx runs with what it read at {since}",
		advice{"{nginx} -t && systemctl reload {proxyunit}"},
	},

	// What breaks at boot, or after a crash.
	{
		gate.LayerService, gate.NotEnabled, onlyNow, notEnabled,
		"{unit} does not start at boot: it is not enabled{wanted}",
		advice{"{systemctl} enable {enable}"},
	},
	{
		gate.LayerService, gate.NotEnabled, onlyNow, notInstalled,
		"{unit} does not start at boot: nothing asks for it",
		advice{"[Install] with WantedBy=multi-user.target in {file}, then {systemctl} enable {unit}"},
	},
	{
		gate.LayerProxy, gate.NotEnabled, onlyNow, one(func(f *Facts) bool { return f.Proxy.Running && offAtBoot(f.Proxy.FileState, f.Proxy.WantedBy) }),
		"nginx does not start at boot: {proxyunit} is not enabled",
		advice{"systemctl enable {proxyunit}"},
	},
	{
		gate.LayerService, gate.NoRecovery, onlyNow, noRecovery,
		"after a power cut in the middle of a deploy {problem}",
		advice{"{fix}"},
	},
	{
		gate.LayerService, gate.NoRestart, onlyNow, one(func(f *Facts) bool { return f.Unit.Restart == "no" }),
		"{unit} stays down after a crash: it has Restart=no",
		advice{"Restart=on-failure in {file}, then {systemctl} daemon-reload"},
	},
	{
		gate.LayerSocket, gate.SocketMissing, onlyNow, noRuntimeDirectory,
		"nothing makes {path} at boot: {unit} has no RuntimeDirectory= for its socket",
		advice{"RuntimeDirectory={runtime} in {file}, then {systemctl} daemon-reload"},
	},
	{
		gate.LayerProxy, gate.ProxyTimeout, onlyNow, readTimeoutTooShort,
		"nginx gives up on slow requests ({readtimeout}) before gunicorn does{timeout}",
		advice{"proxy_read_timeout above {gunicorn} at {location}, then {nginx} -t && systemctl reload nginx"},
	},
	{
		gate.LayerService, gate.Unknown, onlyNow, one(func(f *Facts) bool { return f.Unit.Unplaced }),
		"nothing shows that {unit} goes through the live link: its files don't say, and it isn't running",
		advice{"it is started, and its main process must then be seen to work in the release"},
	},
}

// Risks returns what doesn't fail now and will.
func Risks(f *Facts) []*gate.Finding {
	return append(Stops(f), Later(f)...)
}

func findRisks(f *Facts, stop bool) []*gate.Finding {
	found := []*gate.Finding{}
	for _, r := range risks {
		if r.stops != stop {
			continue
		}
		for _, m := range r.proof(f) {
			row := rule{layer: r.layer, cause: r.cause, summary: r.summary, advice: r.advice}
			if row.cause == "" {
				row.cause = gate.Cause(m.words["cause"])
			}
			found = append(found, row.finding(f, m))
		}
	}
	return found
}

// one is a risk that is there or not, and needs no more words.
func one(is func(*Facts) bool) func(*Facts) []*match {
	return func(f *Facts) []*match {
		if !is(f) {
			return nil
		}
		return []*match{newMatch()}
	}
}

// pathsGone leaves out what each release has for itself, where another release is to be made live: see Candidate.
func pathsGone(f *Facts) (found []*match) {
	for _, p := range f.Unit.Paths {
		if p.Problem == "" || p.InLink && f.Next != nil {
			continue
		}
		fate := "fail"
		if p.Skips {
			fate = "be skipped"
		}
		found = append(found, newMatch("cause", string(p.Cause), "what", p.What, "path", p.Path, "problem", p.Problem, "fate", fate).
			with(p.Path, p.Problem))
	}
	return found
}

func userGone(f *Facts) []*match {
	if f.Unit.NoUser == "" {
		return nil
	}
	return []*match{newMatch("missing", f.Unit.NoUser)}
}

func unitsGone(f *Facts) (found []*match) {
	for _, name := range f.Unit.Missing {
		found = append(found, newMatch("missing", name))
	}
	return found
}

func disksFull(f *Facts) (found []*match) {
	for _, d := range f.Disks {
		found = append(found, newMatch("path", d.Path, "what", d.What))
	}
	return found
}

func newer(f *Facts) (found []*match) {
	for _, n := range f.Newer {
		found = append(found, newMatch("cause", string(n.Cause), "since", moment(f.Unit.Since)).newer(n))
	}
	return found
}

func proxyNewer(f *Facts) []*match {
	if f.Proxy.Changed == nil {
		return nil
	}
	return []*match{newMatch("since", moment(f.Proxy.Loaded)).newer(*f.Proxy.Changed)}
}

func (m *match) newer(n Newer) *match {
	m.words["what"], m.words["path"], m.words["changed"], m.words["more"] = n.What, n.Path, moment(n.At), ""
	if n.More > 0 {
		m.words["more"] = fmt.Sprintf(" (and %d more)", n.More)
	}
	return m.with(n.Path, "changed at "+moment(n.At))
}

// moment is a time as an operator compares it with another one on the same host.
func moment(t time.Time) string { return t.Format("2006-01-02 15:04:05.000") }

// offAtBoot reports whether a unit's file has it left alone at boot, and no other unit starts it.
func offAtBoot(fileState string, wantedBy []string) bool {
	off := []string{"disabled", "enabled-runtime", "linked", "linked-runtime"}
	return slices.Contains(off, fileState) && (len(wantedBy) == 0 || strings.HasSuffix(fileState, "-runtime"))
}

// notEnabled: neither the unit nor a socket in front of it is started at boot.
func notEnabled(f *Facts) []*match {
	u := f.Unit
	if !offAtBoot(u.FileState, u.WantedBy) {
		return nil
	}
	enable, also := u.Name, ""
	for _, s := range u.Sockets {
		if !offAtBoot(s.FileState, s.WantedBy) {
			return nil
		}
		enable, also = s.Name, ", and neither is "+s.Name
	}
	if u.SocketUnit && len(u.Sockets) == 0 {
		return nil // it is not known
	}
	return []*match{newMatch("enable", enable, "wanted", also)}
}

// notInstalled: a unit that can't be enabled, and that no other unit starts. What a user's own manager runs may be started
// by hand at each login.
func notInstalled(f *Facts) []*match {
	u := f.Unit
	if u.FileState != "static" || len(u.WantedBy) > 0 || u.SocketUnit || u.OfUser || !u.Looked {
		return nil
	}
	return []*match{newMatch()}
}

// noRuntimeDirectory: /run is empty after a boot, and whatever makes the directory of the socket then isn't the unit.
func noRuntimeDirectory(f *Facts) []*match {
	dir, below := strings.CutPrefix(path.Dir(f.socketPath()), "/run/")
	covered := slices.ContainsFunc(f.Unit.RuntimeDirectories, func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") })
	if !below || covered || f.Unit.SocketUnit || f.Unit.OfUser || f.Socket.Tmpfiles {
		return nil
	}
	return []*match{newMatch("path", "/run/"+dir, "runtime", dir)}
}

// readTimeoutTooShort: nginx would answer 504 while the worker goes on and finishes.
func readTimeoutTooShort(f *Facts) []*match {
	r := f.Proxy.Route
	if r == nil || !r.Known || len(r.Targets) == 0 || f.Unit.Timeout == 0 || r.ReadTimeout >= f.Unit.Timeout {
		return nil
	}
	m := newMatch("readtimeout", fmt.Sprintf("proxy_read_timeout %s", r.ReadTimeout), "gunicorn", f.Unit.Timeout.String(), "location", r.Location)
	return []*match{m}
}
