package conf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// lexer tells words apart.
type lexer struct {
	r     *bufio.Reader
	read  int  // bytes
	words int  // so far
	prior byte // the byte before the one read last
	last  byte
	file  string
	line  int
}

// statement is what ngx_conf_read_token gives: words and what ended them.
type statement struct {
	words []string
	end   byte // ';', '{', '}' or one of those below
	line  int
}

const (
	dumpEnds   = 0
	fileBegins = '#' // words holds its name alone
)

func (l *lexer) errorf(format string, args ...any) error {
	return fmt.Errorf(format+" in %s:%d", append(args, l.file, l.line)...)
}

func (l *lexer) unexpected(c byte) error {
	if c == dumpEnds || c == fileBegins {
		return l.errorf("unexpected end of the file")
	}
	return l.errorf("unexpected %q", c)
}

// byte reads one byte; its error is io.EOF at the end.
func (l *lexer) byte() (byte, error) {
	c, err := l.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if l.read++; l.read > maxDump {
		return 0, fmt.Errorf("nginx's configuration is larger than %d MiB", maxDump>>20)
	}
	if c == '\n' {
		l.line++
	}
	l.prior, l.last = l.last, c
	return c, nil
}

// must reads one byte where the text can't end.
func (l *lexer) must() (byte, error) {
	c, err := l.byte()
	if errors.Is(err, io.EOF) {
		return 0, l.unexpected(dumpEnds)
	}
	return c, err
}

// unread gives the last byte back, which is no newline. There is always one: only what byte has read is given back.
func (l *lexer) unread() {
	_ = l.r.UnreadByte()
	l.read--
	l.last = l.prior
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// statement reads up to the next semicolon or brace.
func (l *lexer) statement() (s statement, err error) {
	for {
		c, err := l.byte()
		if errors.Is(err, io.EOF) && len(s.words) == 0 {
			return statement{end: dumpEnds}, nil
		}
		if errors.Is(err, io.EOF) {
			return s, l.unexpected(dumpEnds)
		}
		if err != nil {
			return s, err
		}
		var word string
		switch {
		case isSpace(c):
			continue
		case c == '#':
			if name, ok, err := l.comment(); err != nil {
				return s, err
			} else if ok && len(s.words) == 0 {
				return statement{words: []string{name}, end: fileBegins}, nil
			}
			continue
		case c == '}' && len(s.words) == 0, (c == ';' || c == '{') && len(s.words) > 0:
			s.end = c
			return s, nil
		case c == '}' || c == ';' || c == '{':
			return s, l.unexpected(c)
		}
		if len(s.words) == 0 {
			s.line = l.line
		}
		if word, err = l.word(c); err != nil {
			return s, err
		}
		if l.words++; l.words > maxWords {
			return s, fmt.Errorf("more than %d words", maxWords)
		}
		s.words = append(s.words, word)
	}
}

// comment reads to the end of the line. It gives the name of the file that begins there, if one does: nginx ends each
// with a newline of its own, so that the line begins with it.
func (l *lexer) comment() (name string, begins bool, err error) {
	atStart := l.prior == '\n'
	rest, err := l.restOfLine()
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	name, begins = header("#" + rest)
	return name, begins && atStart, nil
}

// restOfLine reads a line without its newline. Only what a file's name needs is kept.
func (l *lexer) restOfLine() (string, error) {
	var line []byte
	for {
		c, err := l.byte()
		if err != nil || c == '\n' {
			return string(line), err
		}
		if len(line) < maxPath+64 {
			line = append(line, c)
		}
	}
}

func (l *lexer) word(c byte) (string, error) {
	if c == '"' || c == '\'' {
		return l.quoted(c)
	}
	return l.bare(c)
}

// quoted reads up to the closing quote. A space must follow, or what ends the directive, or the parenthesis of an if.
func (l *lexer) quoted(quote byte) (string, error) {
	var word bytes.Buffer
	for {
		c, err := l.must()
		if err != nil {
			return "", err
		}
		if c == quote {
			break
		}
		if err := l.put(&word, c); err != nil {
			return "", err
		}
	}
	c, err := l.must()
	switch {
	case err != nil:
		return "", err
	case isSpace(c):
		return word.String(), nil
	case c == ';' || c == '{' || c == ')':
		l.unread()
		return word.String(), nil
	}
	return "", l.unexpected(c)
}

// bare reads a word without quotes. The brace of ${name} belongs to it.
func (l *lexer) bare(c byte) (string, error) {
	var word bytes.Buffer
	for variable := false; ; {
		if err := l.put(&word, c); err != nil {
			return "", err
		}
		variable = c == '$'
		var err error
		if c, err = l.must(); err != nil {
			return "", err
		}
		switch {
		case isSpace(c):
			return word.String(), nil
		case c == ';', c == '{' && !variable:
			l.unread()
			return word.String(), nil
		}
	}
}

// put adds a byte to a word, or what the escape that it begins stands for.
func (l *lexer) put(word *bytes.Buffer, c byte) error {
	if c != '\\' {
		word.WriteByte(c)
		return nil
	}
	c, err := l.must()
	if err != nil {
		return err
	}
	switch c {
	case '"', '\'', '\\':
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'n':
		c = '\n'
	default: // a regular expression's
		word.WriteByte('\\')
	}
	word.WriteByte(c)
	return nil
}
