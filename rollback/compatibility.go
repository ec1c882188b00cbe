package rollback

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/rollback/migrations"
)

var errUnknown = errors.New("its directory is gone, and the record doesn't mention it")

// History is what is recorded of an app's releases.
type History interface {
	// Activations returns each time that a release went live, or may have run its migrations; the oldest first.
	Activations() []release.Activation
	// Good and Bad report what the gates of a release have proved.
	Good(v release.Version) bool
	Bad(v release.Version) bool
	// Schema returns what a release said of its schema when it was deployed; nil: nothing is recorded.
	Schema(v release.Version) *release.Schema
}

// Candidates lists the releases that may be gone back to, the most likely first: those that were live before the present
// one, the latest first, as far as they are good. One that a person rolled back from, or past, is none until it is
// released again. Releases that are gone from disk, and those in not, are left out.
func Candidates(h History, onDisk []release.Version, not ...release.Version) []release.Version {
	there := make(map[release.Version]bool, len(onDisk))
	for _, v := range onDisk {
		there[v] = true
	}
	var found []release.Version
	for _, l := range slices.Backward(succession(h.Activations())) {
		v := l.Version
		if there[v] && !slices.Contains(not, v) && (h.Good(v) || l.ByHand && !h.Bad(v)) {
			found = append(found, v)
		}
	}
	return found
}

// succession is the order in which releases stand above each other, each once, the oldest first: what passed last stands on
// top, and what a person rolled back from is gone. What did not pass changes nothing.
func succession(lives []release.Activation) []release.Activation {
	// There may be ten thousand lives: each is put on the line and taken off it once, and what moved up leaves a gap.
	line, at := make([]release.Activation, 0, len(lives)), make(map[release.Version]int)
	cut := func(size int) {
		for _, l := range line[size:] {
			delete(at, l.Version)
		}
		line = line[:size]
	}
	for _, l := range lives {
		if l.HooksOnly || !l.Passed && !l.ByHand {
			continue
		}
		i, before := at[l.Version]
		switch {
		case before:
			l.ByHand = l.ByHand || line[i].ByHand
			if l.Rollback {
				cut(i)
			} else {
				line[i].Version = ""
			}
		case l.Rollback && len(line) > 0:
			cut(len(line) - 1)
		}
		at[l.Version] = len(line)
		line = append(line, l)
	}
	return slices.DeleteFunc(line, func(l release.Activation) bool { return l.Version == "" })
}

// ReleasesSince lists the releases whose schema target's code would meet, newest first: every one that a release command
// made live after target was last live, or whose hooks ran then; those that ran to their end while target was live count
// too. A target that was never live is taken to be older than all whose migrations it doesn't have, and the releases on
// disk that lie between it and current by name are counted as well. has reports whether target has all of a release's
// migrations: where a person has said of such a release that it may run on the schema as it is, what came before is settled.
func ReleasesSince(h History, target, current release.Version, onDisk []release.Version, has func(release.Version) bool) []release.Version {
	var crossed, hooks, ended []release.Version
	known := map[release.Version]bool{}
	add := func(vs ...release.Version) {
		for _, v := range vs {
			if !known[v] {
				known[v] = true
				crossed = append(crossed, v)
			}
		}
	}
	recorded := map[release.Version]bool{}
	for _, l := range h.Activations() {
		recorded[l.Version] = recorded[l.Version] || !l.HooksOnly
	}
	for _, l := range slices.Backward(h.Activations()) {
		switch {
		case l.HooksOnly:
			hooks = append(hooks, l.Version)
			if l.HooksEnded {
				ended = append(ended, l.Version)
			}
			continue
		case l.Version == target:
			add(ended...)
			return crossed
		case (l.Override || !recorded[target]) && has(l.Version):
			add(hooks...)
			return crossed
		}
		add(hooks...)
		hooks, ended = nil, nil
		if l.Forward {
			add(l.Version)
		}
	}
	add(hooks...)
	for _, v := range slices.Backward(onDisk) {
		if !recorded[v] && release.Compare(target, v) < 0 && release.Compare(v, current) < 0 {
			add(v)
		}
	}
	return crossed
}

// Compatibility reads what releases say of their schema, from their directories or, for those that are gone, from the
// journal. It walks through each directory once and judges each pair of releases once, whatever they become meanwhile.
type Compatibility struct {
	Dir     func(release.Version) string
	History History
	// Applied has the migrations that the database has, as app.name; nil: not known, so that all are taken to be there.
	// Another map may be put here, but none that is here is changed.
	Applied map[string]bool

	reader *migrations.Reader
	judged map[pair]judgement
}

// pair is a release and an older one that would meet its schema.
type pair struct{ newer, older release.Version }

// judgement is what is known of a pair, given what is applied.
type judgement struct {
	migrations.Judgement
	err     error
	applied map[string]bool
}

// readLimit bounds the reading of one or two releases' migrations.
const readLimit = time.Minute

// ReleasesSince is the package's, of the history.
func (s *Compatibility) ReleasesSince(h History, target, current release.Version, onDisk []release.Version) []release.Version {
	return ReleasesSince(h, target, current, onDisk, func(v release.Version) bool {
		j := s.between(v, target, nil)
		return j.err == nil && len(j.New) == 0
	})
}

// Older reports whether v's code is older than that of another release, by the migrations that it knows.
func (s *Compatibility) Older(v, than release.Version) bool {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	return s.read().Older(ctx, s.Dir(v), s.Dir(than))
}

// RollbackTo decides whether target's code may run after the crossed releases.
func (s *Compatibility) RollbackTo(target release.Version, crossed []release.Version, policy Policy) Target {
	var facts []Intervening
	for _, v := range crossed {
		if v != target {
			facts = append(facts, s.crossed(v, target, policy))
		}
	}
	w := Decide(target, facts, policy)
	if w.Verdict == Blocked {
		w.TakeBack = s.takeBack(target, crossed)
	}
	return w
}

func (s *Compatibility) crossed(v, target release.Version, policy Policy) Intervening {
	c := Intervening{Version: v}
	was := s.History.Schema(v)
	if was != nil && was.Marker != "" {
		c.Marker = &Marker{Rollback: Verdict(was.Marker), Reason: was.Reason, Migrations: was.Migrations}
	}
	_, gone := untrusted.Lstat(s.Dir(v))
	// What was deployed counts, not only what the directory holds now: it may have been emptied or uploaded again, and a
	// word that blocked when the migrations ran is overridden by name, not by an edit.
	if gone == nil && (c.Marker == nil || c.Marker.Rollback == Safe) {
		c.Marker, c.MarkerErr = ReadMarker(s.Dir(v))
	}
	if made := c.Marker; made != nil && made.Made && made.Rollback == Safe {
		// It was judged against the release before, and target may be an older one.
		c.Marker = nil
		if s.judge(&c, target, was); c.Err == nil && len(c.Blocking) == 0 {
			c.Marker = made
		}
		return c
	}
	c.Unapplied = c.Marker != nil && c.Marker.Rollback == Blocked && s.noneApplied(c.Marker.Migrations)
	switch {
	case c.Marker != nil || c.MarkerErr != nil || policy != Inspect:
	case gone != nil && (was == nil || was.Unknown != ""):
		c.Err = errUnknown
	case gone != nil:
		c.remember(was, func(name string) bool { return !s.noneApplied([]string{name}) })
	default:
		s.judge(&c, target, was)
	}
	return c
}

// judge reads what v brings that target has not.
func (s *Compatibility) judge(c *Intervening, target release.Version, was *release.Schema) {
	j := s.between(c.Version, target, s.Applied)
	c.New, c.Blocking, c.Err = names(j.New), blocks(j.Blocking), j.err
	if c.Err != nil || was == nil || len(was.NewMigrations) == 0 {
		return
	}
	newer, err := s.set(c.Version)
	older, err2 := s.set(target)
	if c.Err = cmp.Or(err, err2); c.Err != nil {
		return
	}
	// What was deployed and isn't there any more was read then.
	c.remember(was, func(name string) bool {
		return !has(newer, name) && !has(older, name) && !s.noneApplied([]string{name})
	})
}

// remember takes over what was recorded of the migrations that count.
func (c *Intervening) remember(was *release.Schema, counts func(name string) bool) {
	for _, name := range was.NewMigrations {
		if !counts(name) || slices.Contains(c.New, name) {
			continue
		}
		c.New = append(c.New, name)
		if !was.Judged {
			c.Blocking = append(c.Blocking, release.Block{Migration: name, Why: "is gone from the release, and the record doesn't say what it did"})
		}
		for _, b := range was.Blocking {
			if b.Migration == name {
				c.Blocking = append(c.Blocking, b)
			}
		}
	}
}

// Describe is what the journal keeps of v's schema, compared with the release that is live before it.
func (s *Compatibility) Describe(v, previous release.Version) (*release.Schema, error) {
	m, err := ReadMarker(s.Dir(v))
	if err != nil {
		return nil, err
	}
	if m != nil && (!m.Made || m.Rollback == Blocked) {
		return &release.Schema{Marker: string(m.Rollback), Reason: m.Reason, Migrations: m.Migrations}, nil
	}
	if previous == "" {
		return &release.Schema{Unknown: "there was no release before it"}, nil
	}
	j := s.between(v, previous, nil)
	if j.err != nil {
		return &release.Schema{Unknown: j.err.Error()}, nil
	}
	return &release.Schema{NewMigrations: names(j.New), Judged: true, Blocking: blocks(j.Blocking)}, nil
}

// between judges newer's migrations by older's code. An error is one of a release that can't be read.
func (s *Compatibility) between(newer, older release.Version, applied map[string]bool) judgement {
	p := pair{newer, older}
	j, known := s.judged[p]
	if known && (j.applied == nil) == (applied == nil) && maps.Equal(j.applied, applied) {
		return j
	}
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	j = judgement{applied: applied}
	j.Judgement, j.err = s.read().Judge(ctx, s.Dir(newer), s.Dir(older), func(of *migrations.Set) func(migrations.Name) bool {
		return skip(of, applied)
	})
	if s.judged == nil {
		s.judged = map[pair]judgement{}
	}
	s.judged[p] = j
	return j
}

// set reads what one release has.
func (s *Compatibility) set(v release.Version) (*migrations.Set, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	return s.read().Read(ctx, s.Dir(v))
}

func (s *Compatibility) read() *migrations.Reader {
	if s.reader == nil {
		s.reader = migrations.NewReader()
	}
	return s.reader
}

func has(s *migrations.Set, name string) bool {
	for n := range s.Migrations {
		if n.String() == name {
			return true
		}
	}
	return false
}

// noneApplied reports whether the database is known to have none of some migrations. None named is not none applied.
func (s *Compatibility) noneApplied(names []string) bool {
	return s.Applied != nil && len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return s.Applied[n] })
}

// skip tells which of a release's migrations the database doesn't have. An app may have another label there than its
// files show: a migration of the same name under a label that the release doesn't know counts as this one.
func skip(of *migrations.Set, applied map[string]bool) func(migrations.Name) bool {
	if applied == nil {
		return nil
	}
	labels := map[string]bool{}
	for n := range of.Migrations {
		labels[n.App] = true
	}
	strange := map[string]bool{}
	for full := range applied {
		if app, name, _ := strings.Cut(full, "."); !labels[app] {
			strange[name] = true
		}
	}
	return func(n migrations.Name) bool { return !applied[n.String()] && !strange[n.Name] }
}

func names(all []migrations.Name) (texts []string) {
	for _, n := range all {
		texts = append(texts, n.String())
	}
	return texts
}

func blocks(all []migrations.Reason) (found []release.Block) {
	for _, r := range all {
		found = append(found, release.Block{
			Migration: r.Migration.String(), Operation: r.Operation, Why: r.Why, Reversible: r.Reversible, Reverse: r.Reverse,
		})
	}
	return found
}
