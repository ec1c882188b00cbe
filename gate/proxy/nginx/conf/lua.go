package conf

import (
	"strings"
)

// skipLua reads up to the brace that closes a block of Lua. Braces in its strings and comments count for nothing.
func (l *lexer) skipLua() error {
	for depth := 1; depth > 0; {
		c, err := l.must()
		if err != nil {
			return err
		}
		switch c {
		case '{':
			depth++
		case '}':
			depth--
		case '"', '\'':
			err = l.skipLuaString(c)
		case '[':
			_, err = l.skipLuaBrackets()
		case '-':
			err = l.skipLuaComment()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// skipLuaString ends at the end of the line, too: a string that isn't closed is no reason to skip the rest.
func (l *lexer) skipLuaString(quote byte) error {
	for {
		c, err := l.must()
		if err == nil && c == '\\' {
			_, err = l.must()
			c = 0
		}
		if err != nil || c == quote || c == '\n' {
			return err
		}
	}
}

func (l *lexer) skipLuaComment() error {
	if c, _ := l.r.Peek(1); string(c) != "-" {
		return nil
	}
	_, _ = l.byte()
	if c, _ := l.r.Peek(1); string(c) == "[" {
		_, _ = l.byte()
		if long, err := l.skipLuaBrackets(); long || err != nil {
			return err
		}
	}
	for {
		if c, err := l.must(); err != nil || c == '\n' {
			return err
		}
	}
}

// skipLuaBrackets reads a long string, [[…]] or [=[…]=], whose first bracket was read. Anything else is left alone.
func (l *lexer) skipLuaBrackets() (long bool, err error) {
	ahead, _ := l.r.Peek(64)
	level := 0
	for level < len(ahead) && ahead[level] == '=' {
		level++
	}
	if level == len(ahead) || ahead[level] != '[' {
		return false, nil
	}
	for range level + 1 {
		_, _ = l.byte()
	}
	closing := "]" + strings.Repeat("=", level) + "]"
	for end := ""; end != closing; {
		c, err := l.must()
		if err != nil {
			return true, err
		}
		end += string(rune(c))
		end = end[max(len(end)-len(closing), 0):]
	}
	return true, nil
}
