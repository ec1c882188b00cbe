package server

import (
	"cmp"
	"context"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/untrusted"
)

// Basic is what a server has of Server that logs to its standard streams alone, and of whose options those are known that
// matter.
type Basic struct {
	Name    string
	Options []Option // those that a candidate doesn't take over
	// Own are the candidate's own arguments: where it listens, how many processes it has.
	Own func(Candidate) []string
	// Socket are the arguments that have it listen on the first socket of a .socket unit (sd_listen_fds(3)).
	Socket []string
	// Variables is how the names of environment variables begin that stand for options: UVICORN_ for UVICORN_LOG_CONFIG, which is
	// --log-config. "" if there are none.
	Variables string
	Directory string // the option that says from where the app is imported; "" if there is none
}

// Option is one that says where a server listens, how it restarts or reports itself, or has it speak anything but plain HTTP.
type Option struct {
	Name    string // --name, -n
	Valued  bool
	Listens bool   // it says where to listen
	Beaten  bool   // the candidate's own arguments beat it wherever it is set
	Refused string // why it can't be left out either; "" if it can
}

// program is the server's.
func (b Basic) program() Program {
	return Program{Name: b.Name, Is: func(name string) bool { return name == b.Name }}
}

// Find reads a command.
func (b Basic) Find(c Command) BasicLine {
	l := BasicLine{Variables: c.Variables(), WorkDir: c.Dir, Shell: InShell(c.Args, b.program().Is)}
	own, named := Own(c.Args, b.program().Is)
	l.Words, l.Named = l.Variables.Words(own), named
	return l
}

// appName matches what names an app, and neither an address nor a path.
var appName = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_][\w.]*(\(.*\))?$`)

// Read implements Server.
func (b Basic) Read(l Live) (Names, error) {
	p, err := AsItIs(l, b.program())
	if err != nil {
		return Names{}, err
	}
	n := Names{Dir: p.Live}
	line := BasicLine{Words: p.Variables.Words(p.Words)}
	for _, w := range line.Words {
		if appName.MatchString(w.Text) {
			n.App = w.Text
		}
	}
	if dir, ok := line.Last(b.Directory); ok && b.Directory != "" && Plain(dir.Text) {
		n.Dir = join(p.Live, dir.Text)
	}
	return n, nil
}

// Rewrite implements Server. Certain is a command all of whose options are known words: the candidate listens where it is told to
// alone. What a wrapper's own files, the app, or a configuration of logging do to it isn't known.
func (b Basic) Rewrite(_ context.Context, l Live, c Candidate) (Command, error) {
	p, err := Point(l, c, b.program())
	if err != nil {
		return Command{}, err
	}
	if err := p.NotLive("its working directory", p.Dir, p.Dir); err != nil {
		return Command{}, err
	}
	kept, err := b.keep(p, func(Option) bool { return false })
	if err != nil {
		return Command{}, err
	}
	if b.Directory != "" {
		dir, _ := (BasicLine{Words: p.Variables.Words(kept)}).Last(b.Directory)
		for _, name := range []string{dir.Text, p.Variables[b.Variables+"APP_DIR"]} {
			if err := p.NotLive("the directory of its app", name, join(p.Dir, name)); err != nil {
				return Command{}, err
			}
		}
	}
	if err := b.variables(p); err != nil {
		return Command{}, err
	}
	return p.Command(b.Own(c), kept)
}

// Adopt implements Server.
func (b Basic) Adopt(l Live) ([]string, error) {
	p, err := AsItIs(l, b.program())
	if err != nil {
		return nil, err
	}
	for name := range p.Variables {
		if o := b.optionOf(name); o != nil && o.Listens {
			return nil, Unsure("its environment sets %s, which says where to listen", name)
		}
	}
	severalWords := func(word string) bool {
		_, err := p.Variables.Expand(word)
		return err != nil
	}
	switch {
	case slices.ContainsFunc(p.Run, assignment.MatchString):
		return nil, Unsure("its ExecStart sets variables, which may be secret: set them in Environment=")
	case slices.ContainsFunc(l.Args[len(p.Run):], severalWords): // what it holds may change, and be secret
		return nil, Unsure("its ExecStart has a variable for whole words: write them out")
	}
	kept, err := b.keep(p, func(o Option) bool { return !o.Listens })
	return slices.Concat(p.Run, b.Socket, kept), err
}

// keep returns the words of the command that stay: those that are no option of the list, and what stays says so of.
func (b Basic) keep(p *Pointed, stays func(Option) bool) (kept []string, err error) {
	for words := p.Words; len(words) > 0; {
		raw := words[0]
		words = words[1:]
		w, err := p.Variables.Expand(raw)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(w.Text, Unknown) || strings.HasPrefix(w.Text, "-") && !strings.HasPrefix(raw, "-") || w.Text == "--" {
			return nil, Unsure("its ExecStart has %s, which may hold options", raw)
		}
		o, joined, err := b.option(w.Text)
		switch {
		case err != nil:
			return nil, err
		case o == nil, stays(*o):
			kept = append(kept, p.word(w))
		case o.Refused != "":
			return nil, Unsure("its ExecStart has %s, %s", o.Name, o.Refused)
		case o.Valued && !joined:
			words = words[min(1, len(words)):]
		}
	}
	return kept, nil
}

// option finds which of the options a word is, and whether its value is in it. argparse takes the beginning of a name for all of
// it.
func (b Basic) option(word string) (found *Option, joined bool, err error) {
	name, _, equals := strings.Cut(word, "=")
	for _, o := range b.Options {
		long := strings.HasPrefix(o.Name, "--")
		switch {
		case name == o.Name:
			return &o, equals, nil
		case !long && !strings.HasPrefix(word, "--") && strings.HasPrefix(word, o.Name):
			return &o, true, nil
		case long && len(name) > len("--") && strings.HasPrefix(o.Name, name):
			err = Unsure("its ExecStart has %s, which may be short for %s", name, o.Name)
		}
	}
	return nil, false, err
}

// variables sees to those that stand for options.
func (b Basic) variables(p *Pointed) error {
	for name := range p.Variables {
		switch o := b.optionOf(name); {
		case o == nil || o.Beaten:
			continue
		case p.FromFile(name) || o.Refused != "":
			return Unsure("its environment sets %s, which both releases would have", name)
		}
		p.Environment = slices.DeleteFunc(p.Environment, func(a string) bool { return strings.HasPrefix(a, name+"=") })
	}
	return nil
}

// optionOf is the option of the list that a variable stands for; nil for none.
func (b Basic) optionOf(variable string) *Option {
	name, is := strings.CutPrefix(variable, b.Variables)
	if !is || b.Variables == "" {
		return nil
	}
	name = "--" + strings.ReplaceAll(strings.ToLower(name), "_", "-")
	for _, o := range b.Options {
		if strings.HasPrefix(o.Name, "--") && strings.HasPrefix(name, o.Name) { // the variable of --reload-dir is of its plural
			return &o
		}
	}
	return nil
}

// ReadLog implements Server.
func (Basic) ReadLog(string, *untrusted.User) ([]gate.LogLine, error) { return nil, nil }

// Starts implements Server.
func (Basic) Starts([]gate.LogLine) []Start { return nil }

// BasicLine is a command line that is searched for the options that matter. Its Server says which these are.
type BasicLine struct {
	Words     []Word // its own
	Variables Variables
	WorkDir   string
	Named     bool // the command names the server
	Shell     bool // a shell runs it
}

// Known implements Line.
func (l BasicLine) Known() bool { return l.Named }

// Dir implements Line.
func (l BasicLine) Dir() string { return l.WorkDir }

// PIDFile implements Line.
func (BasicLine) PIDFile() string { return "" }

// LogFiles implements Line.
func (BasicLine) LogFiles() []string { return nil }

// Timeout implements Line: none of them limits a request.
func (BasicLine) Timeout() time.Duration { return 0 }

// Values returns the values of an option, in their order, by any of its names: --name value, --name=value, -n value, -nvalue.
func (l BasicLine) Values(names ...string) (values []Word) {
	for i, w := range l.Words {
		for _, name := range names {
			long := strings.HasPrefix(name, "--")
			value, joined := strings.CutPrefix(w.Text, name)
			switch {
			case w.Text == name && i+1 < len(l.Words):
				values = append(values, l.Words[i+1])
			case !joined || value == "":
			case long && value[0] == '=':
				values = append(values, Word{Raw: strings.TrimPrefix(w.Raw, name+"="), Text: value[1:]})
			case !long:
				values = append(values, Word{Raw: strings.TrimPrefix(w.Raw, name), Text: value})
			}
		}
	}
	return values
}

// Last returns the last value of an option; ok is false without one.
func (l BasicLine) Last(names ...string) (value Word, ok bool) {
	values := l.Values(names...)
	if len(values) == 0 {
		return Word{}, false
	}
	return values[len(values)-1], true
}

// Addressed is where a server listens by its options for a host and a port.
func Addressed(hostOption string, host Word, portOption string, port Word) Bind {
	switch {
	case !Plain(host.Text):
		return Unset(hostOption)
	case !Plain(port.Text):
		return Unset(portOption)
	}
	return At(host.Text, port.Text)
}

// At is a bind of a host and a port, which are those of localhost and port 8000 where they aren't given.
func At(host, port string) Bind {
	addr := net.JoinHostPort(strings.Trim(cmp.Or(host, "127.0.0.1"), "[]"), cmp.Or(port, "8000"))
	return Bind{Addr: addr, Default: host == "" && port == ""}
}

// Path makes a bind of a unix socket's path, from the working directory on.
func (l BasicLine) Path(option string, path Word) Bind {
	file := path.Text
	if !Plain(file) {
		return Unset(option)
	}
	if !filepath.IsAbs(file) && l.WorkDir != "" {
		file = filepath.Join(l.WorkDir, file)
	}
	return Bind{Addr: "unix:" + file}
}

// Unset is where a server listens whose option has a variable that isn't known. Its value isn't shown: it may be of a shell's line.
func Unset(option string) Bind { return NotSaid("its %s has a variable that isn't known", option) }
