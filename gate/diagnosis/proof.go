package diagnosis

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
)

// proof looks for what proves a cause; nil: it isn't there.
type proof func(*Facts) *match

// match is what a proof found: words for the rule's sentences, and the evidence.
type match struct {
	words    map[string]string
	evidence []gate.Evidence
}

func (m *match) with(source, text string) *match {
	m.evidence = append(m.evidence, gate.Evidence{Source: source, Text: text})
	return m
}

func newMatch(pairs ...string) *match {
	m := &match{words: map[string]string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		m.words[pairs[i]] = pairs[i+1]
	}
	return m
}

// either is the first of several proofs.
func either(proofs ...proof) proof {
	return func(f *Facts) *match {
		for _, p := range proofs {
			if m := p(f); m != nil {
				return m
			}
		}
		return nil
	}
}

// both is two proofs in one.
func both(a, b proof) proof {
	return func(f *Facts) *match {
		first := a(f)
		if first == nil {
			return nil
		}
		second := b(f)
		if second == nil {
			return nil
		}
		maps.Copy(first.words, second.words)
		first.evidence = append(first.evidence, second.evidence...)
		return first
	}
}

// logProof is a further condition on a line that matched; it may add words.
type logProof func(f *Facts, l gate.LogLine, m *match) bool

// logged proves by a line of the unit's log, the last that matches.
func logged(pattern string, conditions ...logProof) proof {
	re := regexp.MustCompile(pattern)
	return func(f *Facts) *match {
		for l := range f.backward() {
			m := capture(re, l.Text)
			if m == nil || !every(conditions, func(c logProof) bool { return c(f, l, m) }) {
				continue
			}
			return m.with(f.source(l.At), l.Text)
		}
		return nil
	}
}

// raiseProof is a further condition on an exception that matched; it may add words.
type raiseProof func(f *Facts, t *traceback, m *match) bool

// raised proves by the exception that the app failed with, or one that it was raised from.
func raised(pattern string, conditions ...raiseProof) proof {
	re := regexp.MustCompile(pattern)
	return func(f *Facts) *match {
		last := f.exception()
		for _, t := range last.chain() {
			m := capture(re, t.line)
			if m == nil {
				continue
			}
			if at := t.where(f.Release.Root); at != nil {
				m.words["at"] = fmt.Sprintf(" (%s, line %d)", f.inRelease(at.file), at.line)
			} else if at = last.where(f.Release.Root); at != nil {
				m.words["at"] = fmt.Sprintf(" (%s, line %d)", f.inRelease(at.file), at.line)
			}
			if !every(conditions, func(c raiseProof) bool { return c(f, t, m) }) {
				continue
			}
			shown := t
			if t.where(f.Release.Root) == nil && last.where(f.Release.Root) != nil {
				m.with(f.source(t.at), t.line)
				shown = last
			}
			return m.with(f.source(shown.at), shown.reduced(f.Release.Root))
		}
		return nil
	}
}

// step proves that systemd gave up before the program ran: by the word of the process that failed, by systemd's on its
// end, which is there more often, or, where the log has neither, by the exit status that stands for the step. With a
// detail, the line that says more is evidence too.
func step(name string, status int, detail ...string) proof {
	said := logged(`Failed at step (?P<step>` + name + `) spawning (?P<spawned>.+?): (?P<why>.+)`)
	if status != 0 {
		said = either(said, logged(fmt.Sprintf(`Main process exited, code=exited, status=%d/`, status)))
	}
	return func(f *Facts) *match {
		m := said(f)
		if m == nil {
			st := f.Unit.State
			if status == 0 || st.ExecMainStatus != status || st.Result != "exit-code" {
				return nil
			}
			m = newMatch().with("systemd", fmt.Sprintf("%s: Result=%s, ExecMainStatus=%d", f.Unit.Name, st.Result, status))
		}
		for _, d := range detail {
			if more := logged(d)(f); more != nil {
				maps.Copy(m.words, more.words)
				m.evidence = append(more.evidence, m.evidence...)
			}
		}
		return m
	}
}

func every[T any](all []T, ok func(T) bool) bool {
	return !slices.ContainsFunc(all, func(t T) bool { return !ok(t) })
}

// capture returns the named groups of a match.
func capture(re *regexp.Regexp, text string) *match {
	found := re.FindStringSubmatch(text)
	if found == nil {
		return nil
	}
	m := newMatch()
	for i, name := range re.SubexpNames() {
		if name != "" && found[i] != "" {
			m.words[name] = strings.TrimSpace(found[i])
		}
	}
	return m
}

// source names the log that a line stood in, and when.
func (f *Facts) source(at time.Time) string {
	s := f.LogName
	if s == "" {
		s = "log of " + f.Unit.Name
	}
	if !at.IsZero() {
		s += " at " + at.Format(time.TimeOnly)
	}
	return s
}

// inRelease is a file's path below its release.
func (f *Facts) inRelease(file string) string {
	below, found := strings.CutPrefix(file, f.Release.Root+"/")
	if !found {
		return file
	}
	_, rest, found := strings.Cut(strings.TrimPrefix(below, "releases/"), "/")
	if !found {
		return file
	}
	return rest
}

// path is the first path with a problem of that kind.
func (f *Facts) path(cause gate.Cause) *Path {
	for _, p := range f.Unit.Paths {
		if p.Cause == cause && p.Problem != "" {
			return &p
		}
	}
	return nil
}
