package diagnosis

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"deploygate/gate"
)

// risk is a rule about what works now and won't for ever: how unit, release and proxy agree, without a failure. Each
// place where they don't is one match.
type risk struct {
	layer   gate.Layer
	cause   gate.Cause // "": the match says it
	proof   func(*Facts) []*match
	summary string
	advice  []string
}

var risks = []risk{
	{
		gate.LayerService, "", pathsGone,
		"the next start of {unit} will fail: {what} {path} {problem}",
		advice{"restore it, or correct {file}: {systemctl} cat {unit}"},
	},
	{
		gate.LayerResources, gate.DiskFull, disksFull,
		"{path} has no {what} left",
		advice{"df -h {path}; df -i {path}"},
	},
	{
		gate.LayerService, gate.UnitChanged, one(func(f *Facts) bool { return f.Unit.StaleOnDisk }),
		"the files of {unit} were changed, and systemd still uses the old ones",
		advice{"{systemctl} cat {unit}; {systemctl} daemon-reload"},
	},
	{
		gate.LayerService, gate.NotEnabled, one(func(f *Facts) bool { return f.Unit.FileState == "disabled" && !f.Unit.SocketUnit }),
		"{unit} does not start at boot: it is not enabled",
		advice{"{systemctl} enable {unit}"},
	},
	{
		gate.LayerService, gate.NoRestart, one(func(f *Facts) bool { return f.Unit.Restart == "no" }),
		"{unit} stays down after a crash: it has Restart=no",
		advice{"Restart=on-failure in {file}, then {systemctl} daemon-reload"},
	},
	{
		gate.LayerSocket, gate.SocketMissing, noRuntimeDirectory,
		"nothing makes {path} at boot: {unit} has no RuntimeDirectory= for its socket",
		advice{"RuntimeDirectory={runtime} in {file}, then {systemctl} daemon-reload"},
	},
	{
		gate.LayerProxy, gate.ProxyTimeout, readTimeoutTooShort,
		"nginx gives up on slow requests ({readtimeout}) before gunicorn does{timeout}",
		advice{"proxy_read_timeout above {gunicorn} at {location}, then {nginx} -t && systemctl reload nginx"},
	},
}

// Risks gives what doesn't fail now and will.
func Risks(f *Facts) []*gate.Finding {
	found := []*gate.Finding{}
	for _, r := range risks {
		for _, m := range r.proof(f) {
			row := rule{layer: r.layer, cause: r.cause, summary: r.summary, advice: r.advice}
			if row.cause == "" {
				row.cause = gate.Cause(m.words["cause"])
			}
			found = append(found, row.finding(f, m))
		}
	}
	for _, risk := range f.Proxy.Risks {
		found = append(found, f.shown(risk))
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

func pathsGone(f *Facts) (found []*match) {
	for _, p := range f.Unit.Paths {
		if p.Problem != "" {
			found = append(found, newMatch("cause", string(p.Cause), "what", p.What, "path", p.Path, "problem", p.Problem))
		}
	}
	return found
}

func disksFull(f *Facts) (found []*match) {
	for _, d := range f.Disks {
		found = append(found, newMatch("path", d.Path, "what", d.What))
	}
	return found
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
