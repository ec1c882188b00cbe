package journal

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"deploygate/release"
)

// Deploy is what the journal tells of one deploy.
type Deploy struct {
	ID        string
	Command   string
	Requested release.Version
	Previous  release.Version
	User      string
	PID       int
	Override  string
	Began     time.Time
	Ended     time.Time // zero while it runs, and when its process died
	Verdict   json.RawMessage

	Invocations map[string]string // of the app's units when it began, by name
	Binds       map[string]string // where units listened whose text doesn't say it, by name
	Healthy     bool              // Previous was live and answered as it should when it began
	Intents     []Change          // what it was about to change, oldest first
	passed      []release.Version

	directories map[release.Version]release.Identity // that it began with
	proved      []release.Version
}

// Change is one change of the host that a deploy announced.
type Change struct {
	Step    string
	Version release.Version
}

// Intended counts how often the deploy was about to do step.
func (d Deploy) Intended(step string) (times int) {
	for _, c := range d.Intents {
		if c.Step == step {
			times++
		}
	}
	return times
}

// Passed reports whether v passed its gate in this deploy.
func (d Deploy) Passed(v release.Version) bool { return slices.Contains(d.passed, v) }

// Finished reports whether the deploy came to a verdict.
func (d Deploy) Finished() bool { return !d.Ended.IsZero() }

// History is what the journal tells of the app, replayed.
type History struct {
	activations []release.Activation // oldest first
	Torn        int                  // lines that are no record

	gates    map[release.Version]gateRecord
	gated    int                        // gates so far
	schemas  map[release.Version]string // in JSON: there are many, and few are ever asked for
	deployed map[release.Version]Deployed

	// What a snapshot has of each, where nothing newer is known.
	oldGates    index
	oldSchemas  index
	oldDeployed index

	deploys []*Deploy // that began in what was read, oldest first: after Load the last one at least
	byID    map[string]*Deploy
}

// gateRecord is what the gates of a version have proved, and the ordinal number of the gate that proved it.
type gateRecord struct {
	result gateResult
	at     int
}

// gateResult is what a gate proved. A failure that isn't proved to be the release's own takes nothing away from one that
// has passed, and tells nothing new of one that has failed.
type gateResult string

const (
	gatePassed   gateResult = "passed"
	gateFailed   gateResult = "failed"
	gateUnproven gateResult = "unproven" // it has failed, and whose fault that is isn't known
)

// Activations returns each time that a release went live, or may have run its migrations; the oldest first.
func (h History) Activations() []release.Activation { return h.activations }

// With returns the history with one more activation.
func (h History) With(a release.Activation) History {
	h.activations = append(slices.Clip(h.activations), a)
	return h
}

// Load reads and replays the journal in dir, or as much of it as is not in the snapshot.
func Load(dir string) (History, error) {
	s := readSnapshot(dir) // before the journal, which only grows
	f, err := openToRead(dir)
	switch {
	case err != nil:
		return History{}, err
	case f == nil:
		return Replay(nil), nil
	}
	defer f.Close()
	return replay(f, s, math.MaxInt64)
}

// Past returns the last deploys, the latest first: at most limit of them, or all with 0. Of the journal it reads no more
// than they take.
func Past(dir string, limit int) ([]Deploy, error) {
	f, err := openToRead(dir)
	if f == nil {
		return nil, err
	}
	defer f.Close()
	records, _, err := since(f, cmp.Or(limit, math.MaxInt))
	if err != nil {
		return nil, err
	}
	var past []Deploy
	for _, d := range slices.Backward(Replay(records).deploys) {
		past = append(past, *d)
	}
	return past, nil
}

// blamesRelease is gate.BlamesRelease, which this package doesn't know.
const blamesRelease = "release"

// The steps that leave a trace: swapStep is the one whose intent makes a release count as live: from then on the link may name it, whether or not
// the result was written.
const (
	swapStep  = "swap"
	hooksStep = "before_swap"
)

// Replay is pure: what a sequence of records means.
func Replay(records []Record) History {
	h := History{
		gates: map[release.Version]gateRecord{}, schemas: map[release.Version]string{}, deployed: map[release.Version]Deployed{},
		byID: map[string]*Deploy{},
	}
	for _, r := range records {
		h.add(r)
	}
	return h
}

// Bind returns where a unit listened, in gunicorn's syntax, when the last deploy that recorded it began; "" if none did.
func (h History) Bind(unit string) string {
	for _, d := range slices.Backward(h.deploys) {
		if bind := d.Binds[unit]; bind != "" {
			return bind
		}
	}
	return ""
}

// add takes one more record in. Of a deploy whose beginning isn't known it takes nothing.
func (h *History) add(r Record) (known bool) {
	if r.Event == Began {
		d := &Deploy{
			ID: r.Deploy, Command: r.Command, Requested: r.Requested, Previous: r.Previous,
			User: r.User, PID: r.PID, Override: r.Override, Began: r.At, Invocations: r.Invocations, Binds: r.Binds,
			Healthy: r.Healthy,
		}
		d.directories = directories(r)
		h.deploys, h.byID[r.Deploy] = append(h.deploys, d), d
		h.wasLive(r.Previous)
		if r.Healthy {
			h.foundHealthy(r.Previous)
			h.wasDeployed(d, r.At, r.Previous)
		}
		if r.Override != "" && r.Requested == r.Previous {
			h.activations = append(h.activations, release.Activation{Version: r.Requested, Override: true})
		}
		if r.Schema != nil {
			text, _ := json.Marshal(both(h.Schema(r.Requested), r.Schema)) // nothing in it can fail
			h.schemas[r.Requested] = string(text)
		}
		return true
	}
	d, known := h.byID[r.Deploy]
	if !known {
		return false
	}
	switch r.Event {
	case Intent:
		d.Intents = append(d.Intents, Change{r.Step, r.Version})
		switch r.Step {
		case swapStep:
			asked := r.Version == d.Requested
			h.activations = append(h.activations, release.Activation{
				Version: r.Version, Forward: d.Command == "release" && asked, Override: d.Override != "" && asked,
			})
		case hooksStep:
			h.activations = append(h.activations, release.Activation{Version: r.Version, Forward: true, HooksOnly: true})
		}
	case Done:
		if last := len(h.activations) - 1; r.Step == hooksStep && r.Error == "" && last >= 0 && h.activations[last].HooksOnly {
			h.activations[last].HooksEnded = true
		}
	case Passed:
		d.passed = append(d.passed, r.Version)
		h.prove(r.Version, gatePassed)
		h.lived(r.Version, d.Command == "rollback" && r.Version == d.Requested)
		h.wasDeployed(d, r.At, r.Version)
	case Failed:
		switch {
		case r.Blames == "" || r.Blames == blamesRelease: // a record without it is from before it was asked
			h.prove(r.Version, gateFailed)
		case !h.Good(r.Version) && !h.Bad(r.Version):
			h.prove(r.Version, gateUnproven)
		}
		if !h.Good(r.Version) { // else what is known of it is of the directory that passed
			h.wasDeployed(d, r.At, r.Version)
		}
	case Finished:
		d.Ended, d.Verdict = r.At, r.Verdict
		h.wasDeployed(d, r.At)
	case Began:
	}
	return true
}

// lived notes that the release that went live last has passed.
func (h *History) lived(v release.Version, rollback bool) {
	for i, l := range slices.Backward(h.activations) {
		if l.Version == v && !l.HooksOnly {
			h.activations[i].Passed, h.activations[i].Rollback = true, l.Rollback || rollback
			return
		}
	}
}

// prove notes what a gate has proved of a release.
func (h *History) prove(v release.Version, result gateResult) {
	h.gated++
	h.gates[v] = gateRecord{result, h.gated}
}

// wasLive notes a release that a deploy found live though it is not the last one that was announced: it went live before
// deploygate came to the host, or by a person's hand, with whatever migrations it has; or what was announced did not come
// about, and then it is one that was live before.
func (h *History) wasLive(v release.Version) {
	if v == "" {
		return
	}
	known := false
	last := true
	for _, l := range slices.Backward(h.activations) {
		if l.HooksOnly {
			continue
		}
		if last && l.Version == v {
			return
		}
		last, known = false, known || l.Version == v
	}
	h.activations = append(h.activations, release.Activation{Version: v, Forward: true, ByHand: !known})
}

// Seen is the history as it stands when current is live: a release that was put there by hand is counted.
func (h History) Seen(current release.Version) History {
	h.activations = slices.Clip(h.activations)
	h.wasLive(current)
	return h
}

// Released is the history as it would stand once v, which is that directory, was released and had passed its gate.
func (h History) Released(v release.Version, directory release.Identity) History {
	h.activations = append(slices.Clip(h.activations), release.Activation{Version: v, Forward: true, Passed: true})
	h.gates = maps.Clone(h.gates)
	h.prove(v, gatePassed)
	h.deployed = maps.Clone(h.deployed)
	h.deployed[v] = Deployed{Directory: directory}
	return h
}

// Healthy is the history as it stands when version is found live and healthy: it is good, whatever it was before.
func (h History) Healthy(v release.Version) History {
	h.activations = slices.Clone(h.activations)
	gates := map[release.Version]gateRecord{}
	maps.Copy(gates, h.gates)
	h.gates = gates
	h.foundHealthy(v)
	return h
}

func (h *History) foundHealthy(v release.Version) {
	h.lived(v, false)
	if !h.Good(v) {
		h.prove(v, gatePassed)
	}
}

// Bad reports whether version failed its gate and was proved to be at fault, and has not passed since.
func (h History) Bad(v release.Version) bool { return h.gate(v).result == gateFailed }

// Good reports whether version passed its gate, or was live and healthy when a deploy began, and has not been proved bad since.
func (h History) Good(v release.Version) bool { return h.gate(v).result == gatePassed }

// Unproven reports whether version has failed its gate without being proved to be at fault, and never passed one.
func (h History) Unproven(v release.Version) bool { return h.gate(v).result == gateUnproven }

func (h History) gate(v release.Version) gateRecord {
	if g, known := h.gates[v]; known {
		return g
	}
	text, _ := h.oldGates.find(v)
	return parseGate(text)
}

// Gated lists the releases that are good or bad, the latest gate first.
func (h History) Gated() []release.Version {
	type gate struct {
		version release.Version
		at      int
	}
	var gates []gate
	for v, g := range h.allGates() {
		if g.result != gateUnproven {
			gates = append(gates, gate{v, g.at})
		}
	}
	slices.SortFunc(gates, func(a, b gate) int { return b.at - a.at })
	var vs []release.Version
	for _, g := range gates {
		vs = append(vs, g.version)
	}
	return vs
}

func (h History) allGates() map[release.Version]gateRecord {
	all := map[release.Version]gateRecord{}
	for v, text := range h.oldGates.all() {
		all[v] = parseGate(text)
	}
	maps.Copy(all, h.gates)
	return all
}

// Schema is what version said of its schema when it was last deployed, or nil.
func (h History) Schema(v release.Version) *release.Schema {
	text, known := h.schemas[v]
	if !known {
		text, known = h.oldSchemas.find(v)
	}
	if !known {
		return nil
	}
	s := new(release.Schema)
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return &release.Schema{Unknown: err.Error()}
	}
	return s
}

// both adds to s what a later deploy of the same version said. Each was compared with the release that was live before it, so
// that what it brought is all of that; of markers the latest counts.
func both(s, later *release.Schema) *release.Schema {
	if s == nil || s.Marker != "" || later.Marker != "" {
		return later
	}
	sum := *later
	sum.Judged = s.Judged && later.Judged
	sum.Unknown = cmp.Or(later.Unknown, s.Unknown)
	for _, name := range s.NewMigrations {
		if !slices.Contains(sum.NewMigrations, name) {
			sum.NewMigrations = append(slices.Clip(sum.NewMigrations), name)
		}
	}
	for _, b := range s.Blocking {
		if !slices.Contains(sum.Blocking, b) {
			sum.Blocking = append(slices.Clip(sum.Blocking), b)
		}
	}
	return &sum
}

// Unfinished is the latest deploy, if it came to no verdict: it is running, or its process died.
func (h History) Unfinished() (Deploy, bool) {
	d, any := h.Last()
	return d, any && !d.Finished()
}

// Last is the latest deploy.
func (h History) Last() (Deploy, bool) {
	if len(h.deploys) == 0 {
		return Deploy{}, false
	}
	return *h.deploys[len(h.deploys)-1], true
}
