// Package hypercorn knows hypercorn: what its command says, and what it logs of its own processes.
package hypercorn

import (
	"regexp"
	"strings"

	"deploygate/release/server"
)

// Server is hypercorn as one of the application servers.
var Server server.Server = kind{server.Basic{Program: "hypercorn"}}

type kind struct{ server.Basic }

func (kind) Parse(c server.Command) server.Line { return line{server.Find(c, "hypercorn")} }

// Words are those of the processes that it starts by multiprocessing (hypercorn/run.py).
func (kind) Words() server.Words {
	return server.Words{Raised: regexp.MustCompile(`^Process (?:Spawn|Fork)Process-\d+:`)}
}

type line struct{ server.BasicLine }

// Bind implements server.Line: hypercorn writes binds as gunicorn does, and fd://N (hypercorn/config.py, _create_sockets).
func (l line) Bind() server.Bind {
	binds := append(l.Values("--bind", "-b"), l.Values("--insecure-bind")...)
	file, given := l.Last("--config", "-c")
	switch {
	case len(binds) == 0 && given:
		return server.NotSaid("its bind may be in %s", file.Raw)
	case len(binds) == 0:
		return server.At("", "")
	case l.Inherits():
		return server.NotSaid("its --bind names a socket that it is given")
	case !server.Plain(binds[0].Text):
		return server.Unset("--bind", binds[0])
	}
	bind := binds[0].Text
	if path, isUnix := strings.CutPrefix(bind, "unix:"); isUnix {
		return l.Path("--bind", server.Word{Raw: binds[0].Raw, Text: path})
	}
	if !strings.Contains(bind, ":") {
		bind += ":8000"
	}
	return server.Bind{Addr: bind}
}

// Inherits implements server.Line: it doesn't look at LISTEN_FDS.
func (l line) Inherits() bool {
	binds := l.Values("--bind", "-b")
	return len(binds) > 0 && strings.HasPrefix(binds[0].Text, "fd://")
}
