// Package conf is nginx's configuration language: it reads what nginx -T prints, and follows a request through it.
//
// Guaranteed: a configuration is understood whole or refused, within bounds; a route that depends on what only nginx itself
// can tell is said to be not known.
package conf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Config is nginx's effective configuration: what its main file says, with every include replaced by what it includes.
type Config struct {
	// Directives are those of the main context, in order.
	Directives []Directive

	Hostname string // what server_name's $hostname stands for, "" where it isn't known
	includes []Directive
}

// Directive is one directive: "name args…;" or "name args… { block }".
type Directive struct {
	Name  string
	Args  []string    // without quotes, escapes undone; variables as written
	Block []Directive // nil without braces; that of a Lua block is always empty
	File  string
	Line  int // where the directive begins, from 1
}

// at says where the directive is, as nginx's own messages do.
func (d *Directive) at() string { return fmt.Sprintf("%s:%d", d.File, d.Line) }

// first returns the first argument, or "".
func (d *Directive) first() string {
	if len(d.Args) == 0 {
		return ""
	}
	return d.Args[0]
}

// The bounds of what is read. A configuration beyond them is refused, never understood in part.
const (
	maxDump    = 16 << 20 // bytes that nginx -T prints
	maxNesting = 64       // blocks and includes within each other
	maxWords   = 1 << 20  // names, arguments and included directives
	maxFiles   = 16 << 10
	maxInclude = 4 << 10 // different include arguments
	maxPath    = 4 << 10 // PATH_MAX, bytes
)

// Parse reads what nginx -T prints on its standard output: every file that nginx read, in the order in which it opened
// them, each after a line "# configuration file PATH:". What stands before the first is no configuration.
//
// Words are told apart as ngx_conf_read_token does (src/core/ngx_conf_file.c). Includes are relative to the directory
// of the main file, which is the first one; files that match a pattern come in glob(3)'s order. The bodies of
// *_by_lua_block are skipped.
//
// An error says where the text can't be understood, and never holds any of it but names of files. It reads at most
// 16 MiB.
func Parse(dump io.Reader) (*Config, error) {
	p := &parser{
		lexer: lexer{r: bufio.NewReader(dump)},
		files: map[string][]Directive{}, included: map[string][]string{},
	}
	if err := p.dump(); err != nil {
		return nil, err
	}
	directives, err := p.splice(p.files[p.main], 0)
	if err != nil {
		return nil, err
	}
	return &Config{Directives: directives, includes: p.includes}, nil
}

type parser struct {
	lexer
	main     string
	next     string // the file that begins where the last one ended; "" at the end
	files    map[string][]Directive
	names    []string            // of files, as they came
	included map[string][]string // an include's full argument, and the names of the files that match it
	includes []Directive
	spliced  int
}

// dump reads every file.
func (p *parser) dump() error {
	var err error
	if p.main, err = p.chatter(); err != nil {
		return err
	}
	for p.next = p.main; p.next != ""; {
		if p.begin(p.next); len(p.names) > maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		p.next = ""
		list, err := p.block(0)
		if err != nil {
			return err
		}
		p.files[p.file] = list
	}
	return nil
}

// begin makes name the current file. Old versions of nginx print a file as often as it is included: the last wins.
func (p *parser) begin(name string) {
	p.file, p.line = name, 1
	if _, seen := p.files[name]; seen {
		return
	}
	p.names = append(p.names, name)
	p.files[name] = nil
	for pattern, matching := range p.included {
		if match(pattern, name) {
			p.included[pattern] = append(matching, name)
		}
	}
}

// chatter skips what stands before the first file and gives that file's name.
func (p *parser) chatter() (string, error) {
	for {
		line, err := p.restOfLine()
		if name, ok := header(line); ok {
			return name, nil
		}
		if errors.Is(err, io.EOF) {
			return "", errors.New("nginx -T printed no configuration")
		}
		if err != nil {
			return "", err
		}
	}
}

// header understands the line that nginx prints before each file.
func header(line string) (name string, ok bool) {
	name, ok = strings.CutPrefix(line, "# configuration file ")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, ":")
	return name, ok && path.IsAbs(name)
}

// block reads directives up to the closing brace or, at depth 0, to the end of the file.
func (p *parser) block(depth int) ([]Directive, error) {
	list := []Directive{}
	for {
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		switch {
		case s.end == fileBegins && !p.begins(s.words[0]):
			continue // a comment that looks like it, as in a configuration made from what nginx -T printed
		case s.end == fileBegins && depth == 0:
			p.next = s.words[0]
			return list, nil
		case s.end == dumpEnds && depth == 0, s.end == '}' && depth > 0:
			return list, nil
		case s.end == dumpEnds, s.end == fileBegins, s.end == '}':
			return nil, p.unexpected(s.end)
		}
		d, err := p.directive(s, depth)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
}

func (p *parser) directive(s statement, depth int) (Directive, error) {
	d := Directive{Name: s.words[0], Args: s.words[1:], File: p.file, Line: s.line}
	var err error
	switch {
	case s.end == ';' && isInclude(&d):
		p.includes = append(p.includes, d)
		err = p.include(d.Args[0])
	case s.end == ';':
	case depth == maxNesting:
		err = p.errorf("blocks are nested deeper than %d", maxNesting)
	case strings.HasSuffix(d.Name, "_by_lua_block"):
		d.Block = []Directive{}
		err = p.skipLua()
	default:
		d.Block, err = p.block(depth + 1)
	}
	return d, err
}

func isInclude(d *Directive) bool { return d.Name == "include" && len(d.Args) == 1 && d.Block == nil }

// full makes an include's argument absolute, as ngx_conf_full_name does.
func (p *parser) full(arg string) string {
	if path.IsAbs(arg) {
		return arg
	}
	return strings.TrimSuffix(path.Dir(p.main), "/") + "/" + arg
}

// posixClass is what glob(7) has and path.Match hasn't: [[:alpha:]], [[.a.]] and [[=a=]].
var posixClass = regexp.MustCompile(`\[[^\]]*\[[:.=]`)

// include notes which files are expected from now on.
func (p *parser) include(arg string) error {
	pattern := p.full(arg)
	if _, known := p.included[pattern]; known {
		return nil
	}
	if isPattern(pattern) {
		if _, err := path.Match(pattern, ""); err != nil || posixClass.MatchString(pattern) {
			return p.errorf("the pattern of an include is not understood")
		}
	}
	if len(p.included) == maxInclude {
		return p.errorf("more than %d includes", maxInclude)
	}
	p.included[pattern] = nil
	for _, name := range p.names {
		if match(pattern, name) {
			p.included[pattern] = append(p.included[pattern], name)
		}
	}
	return nil
}

// begins reports whether a line that looks like it begins a file: nginx opens only what was included before.
func (p *parser) begins(name string) bool {
	if name == p.file {
		return false
	}
	for pattern := range p.included {
		if match(pattern, name) {
			return true
		}
	}
	return false
}

// isPattern tells as ngx_conf_include does.
func isPattern(s string) bool { return strings.ContainsAny(s, "*?[") }

// match is glob(3) without the file system: wildcards match neither a slash nor a leading dot.
func match(pattern, name string) bool {
	if !isPattern(pattern) {
		return pattern == name
	}
	if ok, err := path.Match(strings.ReplaceAll(pattern, "[!", "[^"), name); !ok || err != nil {
		return false
	}
	want, have := strings.Split(pattern, "/"), strings.Split(name, "/")
	for i := range min(len(want), len(have)) {
		if strings.HasPrefix(have[i], ".") && !strings.HasPrefix(want[i], ".") {
			return false
		}
	}
	return true
}

// splice puts what is included in the place of the includes.
func (p *parser) splice(list []Directive, depth int) ([]Directive, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("blocks and includes are nested deeper than %d", maxNesting)
	}
	out := make([]Directive, 0, len(list))
	for _, d := range list {
		if p.spliced++; p.spliced > maxWords {
			return nil, fmt.Errorf("more than %d directives", maxWords)
		}
		if isInclude(&d) {
			included, err := p.contents(&d, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, included...)
			continue
		}
		if d.Block != nil {
			var err error
			if d.Block, err = p.splice(d.Block, depth+1); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// contents returns what one include stands for.
func (p *parser) contents(d *Directive, depth int) ([]Directive, error) {
	pattern := p.full(d.Args[0])
	names := p.included[pattern]
	if len(names) == 0 && !isPattern(pattern) {
		return nil, fmt.Errorf("nginx -T did not print %s, which %s includes", pattern, d.at())
	}
	slices.Sort(names) // as glob(3) does in nginx, which sets no locale
	var out []Directive
	for _, name := range names {
		list, err := p.splice(p.files[name], depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}
