package unit

import "strings"

// ParseEnvironment reads an EnvironmentFile= as systemd does (systemd.exec(5)): quotes, continued lines and comments. It gives
// NAME=value of each assignment.
func ParseEnvironment(text string) (assignments []string) {
	const (
		beforeName = iota
		inName
		beforeValue
		inValue
		escaped
		singleQuoted
		doubleQuoted
		quotedEscape
		comment
		commentEscape
	)
	var name, value strings.Builder
	kept := 0 // of value, what isn't space at its end
	push := func() {
		if n := strings.TrimSpace(name.String()); n != "" {
			assignments = append(assignments, n+"="+value.String()[:kept])
		}
		name.Reset()
		value.Reset()
		kept = 0
	}
	put := func(c byte) {
		value.WriteByte(c)
		kept = value.Len()
	}
	state := beforeName
	for i := range len(text) {
		c := text[i]
		newline, space := c == '\n' || c == '\r', c == ' ' || c == '\t'
		switch state {
		case beforeName:
			switch {
			case c == '#', c == ';':
				state = comment
			case !newline && !space:
				name.WriteByte(c)
				state = inName
			}
		case inName:
			switch {
			case newline:
				name.Reset()
				state = beforeName
			case c == '=':
				state = beforeValue
			default:
				name.WriteByte(c)
			}
		case beforeValue, inValue:
			switch {
			case newline:
				push()
				state = beforeName
			case c == '\'' && state == beforeValue:
				state = singleQuoted
			case c == '"' && state == beforeValue:
				state = doubleQuoted
			case c == '\\':
				state = escaped
			case space && state == inValue:
				value.WriteByte(c) // kept if something follows it
			case !space:
				put(c)
				state = inValue
			}
		case escaped:
			if !newline {
				put(c)
			}
			state = inValue
		case singleQuoted:
			if c == '\'' {
				state = beforeValue
			} else {
				put(c)
			}
		case doubleQuoted:
			switch c {
			case '"':
				state = beforeValue
			case '\\':
				state = quotedEscape
			default:
				put(c)
			}
		case quotedEscape:
			switch {
			case strings.IndexByte("\"\\`$", c) >= 0:
				put(c)
			case !newline:
				put('\\')
				put(c)
			}
			state = doubleQuoted
		case comment:
			if c == '\\' {
				state = commentEscape
			} else if newline {
				state = beforeName
			}
		case commentEscape:
			state = comment
		}
	}
	if state != beforeName && state != inName && state != comment && state != commentEscape {
		push()
	}
	return assignments
}
