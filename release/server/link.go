package server

import (
	"path/filepath"
	"strings"

	"deploygate/gate/untrusted"
)

// Link points what goes through the live link at the candidate's directory.
type Link struct {
	names   []string // as it is named, and as it is reached if a directory above it is a link itself
	release string
	Used    bool // something went through it
}

// NewLink returns the live link of that name, to be pointed at a release's directory.
func NewLink(name, release string) *Link {
	l := &Link{names: []string{filepath.Clean(name)}, release: filepath.Clean(release)}
	if dir, err := untrusted.EvalSymlinks(filepath.Dir(name)); err == nil {
		if real := filepath.Join(dir, filepath.Base(name)); real != l.names[0] {
			l.names = append(l.names, real)
		}
	}
	return l
}

// Point returns where a path of the live unit's settings leads for the candidate: what goes through the live link, to its
// directory.
func (s Candidate) Point(link, path string) string { return NewLink(link, s.Release).Point(path) }

// Name is how the operator knows it.
func (l *Link) Name() string { return l.names[0] }

// Point replaces the link wherever it stands in a text as a path of its own or the beginning of one: after a colon,
// an equals sign, a quote. In /mnt/srv/app/current it doesn't.
func (l *Link) Point(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		if name := l.at(text, i); name != "" {
			l.Used = true
			out.WriteString(l.release)
			i += len(name)
			continue
		}
		out.WriteByte(text[i])
		i++
	}
	return out.String()
}

// at returns the name of the link that stands at text[i:], "" without.
func (l *Link) at(text string, i int) string {
	// unix:///srv/app/current has slashes before it, which are no directory.
	if before := strings.TrimRight(text[:i], "/"); before != "" && inName(before[len(before)-1]) {
		return ""
	}
	for _, name := range l.names {
		if after, found := strings.CutPrefix(text[i:], name); found && (after == "" || !inName(after[0])) {
			return name
		}
	}
	return ""
}

// inName reports whether a byte beside a file's name belongs to it: /srv/app/current-old is another file.
func inName(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || strings.IndexByte("._+-", b) >= 0 || b >= 0x80
}

// Path points a path. One that doesn't go through the link stays as it is.
func (l *Link) Path(p string) string {
	clean := filepath.Clean(p)
	for _, name := range l.names {
		if Below(clean, name) {
			l.Used = true
			return l.release + strings.TrimPrefix(clean, name)
		}
	}
	return p
}

// Relative points a path that goes through the link from dir on, and doesn't name it: current/src from /srv/app.
func (l *Link) Relative(p, dir string) string {
	if p == "" || filepath.IsAbs(p) || !filepath.IsAbs(dir) || l.through(dir) || !l.through(filepath.Join(dir, p)) {
		return p
	}
	return l.Path(filepath.Join(dir, p))
}

// through reports whether a path is the link or below it.
func (l *Link) through(p string) bool {
	clean := filepath.Clean(p)
	for _, name := range l.names {
		if Below(clean, name) {
			return true
		}
	}
	return false
}

// Below reports whether a clean path is dir or below it.
func Below(p, dir string) bool {
	after, found := strings.CutPrefix(p, dir)
	return found && (after == "" || after[0] == '/')
}

// Mentioned reports whether a text may lead through the link, in any spelling. It would rather be wrong than miss one.
func (l *Link) Mentioned(text string) bool {
	for _, name := range l.names {
		for rest := text; ; {
			_, after, found := strings.Cut(rest, name)
			if found && (after == "" || !inName(after[0])) {
				return true
			}
			if !found {
				break
			}
			rest = after
		}
	}
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\n:;,=@|<>()[]{}'\"", r) }) {
		if i := strings.IndexByte(part, '/'); i >= 0 && l.through(part[i:]) {
			return true
		}
	}
	return false
}
