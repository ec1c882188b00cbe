package server

import (
	"regexp"
	"strings"
)

// Variables are those that systemd puts into a unit's ExecStart=: from Environment=, and EnvironmentFile=, which beats it.
type Variables map[string]string

// Unknown stands in a text for what a variable holds that is not known. No argument can have that byte.
const Unknown = "\x00"

// Word is one word of a command.
type Word struct {
	Raw   string // as the command has it
	Text  string // as the program gets it
	Loose bool   // it is a $NAME that is not known: it may be no word, or several
}

// Known reports whether all of it is known.
func (w Word) Known() bool { return !strings.Contains(w.Text, Unknown) }

var (
	variable = regexp.MustCompile(`\$(\$|\{[^}]*\})`)
	// oneWord is a value that systemd neither splits nor unquotes.
	oneWord = regexp.MustCompile(`^[^\s"'\\]+$`)
)

// Expand does what systemd does to one word (replace_env_argv). It is an error if that makes no word of it, or several:
// there may be options among them.
func (v Variables) Expand(raw string) (Word, error) {
	if name, found := strings.CutPrefix(raw, "$"); found && name != "" && name[0] != '{' && name[0] != '$' {
		value, ok := v[name]
		switch {
		case !ok:
			return Word{raw, Unknown, true}, nil
		case !oneWord.MatchString(value):
			return Word{}, Unsure("its ExecStart has %s, which is not one word", raw)
		}
		return Word{Raw: raw, Text: value}, nil
	}
	return Word{Raw: raw, Text: variable.ReplaceAllStringFunc(raw, func(s string) string {
		if s == "$$" {
			return "$"
		}
		if value, ok := v[s[2:len(s)-1]]; ok {
			return value
		}
		return Unknown
	})}, nil
}

// Variables are what the unit's environment assigns. Of a name that is assigned twice the later one counts.
func (c Command) Variables() Variables {
	v := Variables{}
	for _, assignment := range c.Environment {
		name, value, _ := strings.Cut(assignment, "=")
		v[name] = value
	}
	return v
}

// Words expands words as far as their variables are known; what isn't stands in them as it is written.
func (v Variables) Words(raw []string) (words []Word) {
	for _, r := range raw {
		w, err := v.Expand(r)
		value := v[strings.TrimPrefix(r, "$")]
		switch {
		case err == nil && w.Known():
			words = append(words, w)
		case err != nil && !strings.ContainsAny(value, `"'\`): // systemd makes words of it
			for word := range strings.FieldsSeq(value) {
				words = append(words, Word{Raw: Escape(word), Text: word})
			}
		default:
			words = append(words, Word{Raw: r, Text: r})
		}
	}
	return words
}

// Plain reports whether nothing in a text is left for a variable, or for a shell to replace.
func Plain(text string) bool { return !strings.ContainsAny(text, "$`") }
