package rehearsal

import (
	"regexp"
	"strings"
)

// variables are those that systemd puts into a unit's ExecStart=: from Environment=, and EnvironmentFile=, which beats it.
type variables map[string]string

// unknown stands in a text for what a variable holds that is not known. No argument can have that byte.
const unknown = "\x00"

// word is one word of a command.
type word struct {
	raw   string // as the command has it
	text  string // as the program gets it
	loose bool   // it is a $NAME that is not known: it may be no word, or several
}

// known tells whether all of it is known.
func (w word) known() bool { return !strings.Contains(w.text, unknown) }

var (
	variable = regexp.MustCompile(`\$(\$|\{[^}]*\})`)
	// oneWord is a value that systemd neither splits nor unquotes.
	oneWord = regexp.MustCompile(`^[^\s"'\\]+$`)
)

// expand does what systemd does to one word (replace_env_argv). It is an error if that makes no word of it, or several:
// there may be options among them.
func (v variables) expand(raw string) (word, error) {
	if name, found := strings.CutPrefix(raw, "$"); found && name != "" && name[0] != '{' && name[0] != '$' {
		value, ok := v[name]
		switch {
		case !ok:
			return word{raw, unknown, true}, nil
		case !oneWord.MatchString(value):
			return word{}, uncertain("its ExecStart has %s, which is not one word", raw)
		}
		return word{raw: raw, text: value}, nil
	}
	return word{raw: raw, text: variable.ReplaceAllStringFunc(raw, func(s string) string {
		if s == "$$" {
			return "$"
		}
		if value, ok := v[s[2:len(s)-1]]; ok {
			return value
		}
		return unknown
	})}, nil
}

// escape keeps systemd from seeing variables in a word.
func escape(text string) string { return strings.ReplaceAll(text, "$", "$$") }
