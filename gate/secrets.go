package gate

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Secrets are values that no text may show. All text that leaves, for a terminal, a pipe or the disk, passes Hide or
// HideJSON; what is learnt late (another release's environment file) counts from then on. The zero value knows none, and
// still hides what looks like a password. It is safe for concurrent use.
type Secrets struct {
	mu     sync.RWMutex
	values []secretValue // longest first
	public []string
}

type secretValue struct {
	text, name string
	word       bool // short and plain: hidden only where it stands alone
}

const (
	minSecret  = 4 // bytes: less can't be told from other text
	minLine    = 8 // of one line of a value that has several
	maxSecrets = 4000
	longSecret = 8 // from this length on a value is hidden inside of words too
	cutAfter   = " […]"
	cutBefore  = "[…] "
)

var (
	// secretName is how variables are called whose values must not be shown.
	secretName = regexp.MustCompile(`(?i)secret|passw|passphrase|passwd|token|key|credential|private|salt|dsn|auth|(database|db)_?ur[il]|cookie`)
	// harmlessName is how variables are called that are about a secret and hold none.
	harmlessName = regexp.MustCompile(`(?i)_(file|path|dir|model|backends?|class|classes|header|ttl|timeout|age|` +
		`prefix|algorithm|host|port|name|server|domain|realm|type|mode|user|username)$`)
	harmless = regexp.MustCompile(`(?i)^(true|false|none|null|yes|no|on|off|enabled|disabled|\d{1,5})$`)
)

// Add makes known what a variable of an environment holds: all of it if the variable is called like a secret, and the
// password of an address in any case.
func (s *Secrets) Add(name, value string) {
	value = strings.TrimSpace(value)
	for _, p := range passwords(value) {
		s.add(name, p)
	}
	if secretName.MatchString(name) && !harmlessName.MatchString(name) {
		s.add(name, value)
	}
}

// AddAll takes NAME=value, as an environment has them.
func (s *Secrets) AddAll(assignments []string) {
	for _, a := range assignments {
		if name, value, is := strings.Cut(a, "="); is {
			s.Add(name, value)
		}
	}
}

// Public makes texts known that everybody may see, such as the app's name: a secret that is part of one can't be kept by
// hiding it, and would make everything else unreadable.
func (s *Secrets) Public(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.public = append(s.public, texts...)
	s.values = slices.DeleteFunc(s.values, func(v secretValue) bool { return s.isPublic(v.text) })
}

func (s *Secrets) isPublic(value string) bool {
	return slices.ContainsFunc(s.public, func(p string) bool { return strings.Contains(p, value) })
}

func (s *Secrets) add(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if harmless.MatchString(value) {
		return
	}
	forms := []string{value, strings.Join(strings.Fields(value), " "), url.QueryEscape(value), url.PathEscape(value)}
	for _, quoted := range forms[:1] { // as JSON and Python's repr show it
		text, _ := json.Marshal(quoted)
		forms = append(forms, string(text[1:len(text)-1]), strings.ReplaceAll(quoted, `\`, `\\`), Printable(quoted))
	}
	if lines := strings.Split(value, "\n"); len(lines) > 1 { // logs are split into lines
		for _, l := range lines {
			if l = strings.TrimSpace(l); len(l) >= minLine {
				forms = append(forms, l)
			}
		}
	}
	for _, f := range forms {
		known := slices.ContainsFunc(s.values, func(v secretValue) bool { return v.text == f })
		if len(f) < minSecret || known || len(s.values) >= maxSecrets || s.isPublic(f) {
			continue
		}
		v := secretValue{text: f, name: name, word: len(f) < longSecret && !strings.ContainsFunc(f, func(r rune) bool { return !isWord(r) })}
		at, _ := slices.BinarySearchFunc(s.values, v, func(a, b secretValue) int { return cmp.Compare(len(b.text), len(a.text)) })
		s.values = slices.Insert(s.values, at, v)
	}
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }

// passwords is the one in an address, as it is written and as it is meant.
func passwords(address string) []string {
	_, rest, is := strings.Cut(address, "://")
	i := strings.LastIndexByte(rest, '@') // a password may hold one
	if !is || i < 0 {
		return nil
	}
	_, written, hasPassword := strings.Cut(rest[:i], ":")
	if !hasPassword {
		return nil
	}
	if meant, err := url.PathUnescape(written); err == nil && meant != written {
		return []string{written, meant}
	}
	return []string{written}
}

// span is a part of a text that is not shown.
type span struct {
	from, to int
	name     string
}

// Hide takes every secret out of a text, and what looks like a password.
func (s *Secrets) Hide(text string) string {
	if s != nil {
		s.mu.RLock()
		text = replace(text, s.find(text))
		s.mu.RUnlock()
	}
	return hideShapes(text)
}

// find returns where secrets stand: whole, or cut at an end of the text that says it was cut.
func (s *Secrets) find(text string) (found []span) {
	for _, v := range s.values {
		for from := 0; ; {
			i := strings.Index(text[from:], v.text)
			if i < 0 {
				break
			}
			at := from + i
			from = at + len(v.text)
			if !v.word || alone(text, at, from) {
				found = append(found, span{at, from, v.name})
			}
		}
	}
	if whole, cut := strings.CutSuffix(text, cutAfter); cut {
		for _, v := range s.values {
			for n := min(len(v.text)-1, len(whole)); n >= minSecret; n-- {
				if strings.HasSuffix(whole, v.text[:n]) {
					found = append(found, span{len(whole) - n, len(whole), v.name})
					break
				}
			}
		}
	}
	if whole, cut := strings.CutPrefix(text, cutBefore); cut {
		for _, v := range s.values {
			for n := min(len(v.text)-1, len(whole)); n >= minSecret; n-- {
				if strings.HasPrefix(whole, v.text[len(v.text)-n:]) {
					found = append(found, span{len(cutBefore), len(cutBefore) + n, v.name})
					break
				}
			}
		}
	}
	return found
}

// alone reports whether no word goes on before or after a part of a text.
func alone(text string, from, to int) bool {
	before, after := []rune(text[max(0, from-1):from]), []rune(text[to:min(len(text), to+1)])
	return (len(before) == 0 || !isWord(before[0])) && (len(after) == 0 || !isWord(after[0]))
}

// replace puts the variables' names in the place of their values. Of two that overlap the one that begins first, and then
// the longer, gives its name to both.
func replace(text string, spans []span) string {
	if len(spans) == 0 {
		return text
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	var b strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		from, to, name := spans[i].from, spans[i].to, spans[i].name
		for i++; i < len(spans) && spans[i].from < to; i++ {
			to = max(to, spans[i].to)
		}
		b.WriteString(text[at:from] + "[value of " + name + "]")
		at = to
	}
	return b.String() + text[at:]
}

// hidden stands for what only looks like a secret.
const hidden = "[hidden]"

// shapes are how passwords stand in command lines, addresses and headers. The group "value" is not shown.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@"']*:(?P<value>[^/\s@"']+)@`),
	regexp.MustCompile(`(?i)(?:^|[^\w-])-{0,2}[\w-]*(?:password|passwd|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?)` +
		`[\w-]*=(?P<value>"[^"]+"|'[^']+'|[^\s"'&;,()\[\]{}]+)`),
	regexp.MustCompile(`(?i)--[\w-]*(?:password|passwd|passphrase|secret|token|api-key)\s+(?P<value>"[^"]+"|'[^']+'|[^\s"'-][^\s"']*)`),
	regexp.MustCompile(`(?i)authorization['"]?[:=]\s*['"]?(?:(?:basic|bearer|token|digest)\s+)?(?P<value>[^\s"']+)`),
	regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<value>[^-]+)`),
}

func hideShapes(text string) string {
	for _, re := range shapes {
		group := re.SubexpIndex("value") * 2
		var b strings.Builder
		at := 0
		for _, m := range re.FindAllStringSubmatchIndex(text, -1) {
			from, to := m[group], m[group+1]
			if !isLiteral(text[from:to], text[to:]) {
				continue
			}
			b.WriteString(text[at:from] + hidden)
			at = to
		}
		if at > 0 {
			text = b.String() + text[at:]
		}
	}
	return text
}

// isLiteral reports whether a value is one itself, and doesn't only say where one is: a variable, a call, nothing.
func isLiteral(value, after string) bool {
	return !strings.HasPrefix(value, "$") && !strings.HasPrefix(value, "[value of") && value != hidden &&
		!harmless.MatchString(strings.Trim(value, `"'`)) && !strings.HasPrefix(after, "(") && !strings.HasPrefix(after, "[")
}

// identifiers are the fields of a document whose values are names, and no free text.
var identifiers = map[string]bool{
	"command": true, "app": true, "deploy_id": true, "requested": true, "previous": true, "current": true, "outcome": true, "verdict": true,
	"version": true, "name": true, "layer": true, "cause": true, "unit": true, "role": true, "blames": true,
	"started_at": true, "finished_at": true,
}

// HideJSON does what Hide does to every text in a JSON document but its keys and names, and makes it printable.
func (s *Secrets) HideJSON(doc []byte) []byte {
	var b bytes.Buffer
	key := ""
	for i := 0; i < len(doc); {
		if doc[i] != '"' {
			b.WriteByte(doc[i])
			i++
			continue
		}
		end := endOfText(doc, i)
		raw := doc[i:end]
		i = end
		var text string
		if json.Unmarshal(raw, &text) != nil {
			b.Write(raw)
			continue
		}
		if next := bytes.TrimLeft(doc[end:], " \t\r\n"); len(next) > 0 && next[0] == ':' {
			key = text
		} else if !identifiers[key] || strings.ContainsFunc(text, unicode.IsSpace) {
			if shown := s.Hide(Printable(text)); shown != text {
				raw = encode(shown)
			}
		}
		b.Write(raw)
	}
	return b.Bytes()
}

// endOfText is where the text ends that begins at a quote.
func endOfText(doc []byte, from int) int {
	for i := from + 1; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(doc)
}

func encode(text string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a text can be encoded
	return bytes.TrimSpace(b.Bytes())
}
