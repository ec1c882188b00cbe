package server

import (
	"cmp"
	"context"
	"net"
	"path/filepath"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/untrusted"
)

// Basic is what a server that logs to its standard streams alone, and whose command is read but not rewritten, has of Server.
type Basic struct{ Program string }

// Read implements Server.
func (b Basic) Read(Live) (Names, error) {
	return Names{}, Unsure("what a command of %s names is not known", b.Program)
}

// Rewrite implements Server.
func (b Basic) Rewrite(context.Context, Live, Candidate) (Command, error) {
	return Command{}, Unsure("its ExecStart runs %s, whose command can't be rewritten", b.Program)
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
}

// Find reads a command for a server that is known by its program's name.
func Find(c Command, program string) BasicLine {
	l := BasicLine{Variables: c.Variables(), WorkDir: c.Dir}
	own, named := Own(c.Args, func(name string) bool { return name == program })
	l.Words, l.Named = l.Variables.Words(own), named
	return l
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
		return Unset(hostOption, host)
	case !Plain(port.Text):
		return Unset(portOption, port)
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
		return Unset(option, path)
	}
	if !filepath.IsAbs(file) && l.WorkDir != "" {
		file = filepath.Join(l.WorkDir, file)
	}
	return Bind{Addr: "unix:" + file}
}

// Unset is where a server listens whose option has a variable that isn't known.
func Unset(option string, w Word) Bind {
	return NotSaid("its %s %s has a variable that isn't known", option, w.Raw)
}
