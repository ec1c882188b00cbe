// Package hypercorn knows hypercorn: what its command says, and what it logs of its own processes.
package hypercorn

import (
	"regexp"
	"strconv"
	"strings"

	"deploygate/release/server"
)

// Server is hypercorn as one of the application servers.
var Server server.Server = kind{server.Basic{
	Name: "hypercorn", Socket: []string{"--bind", "fd://3"},
	Options: []server.Option{
		{Name: "--bind", Valued: true, Listens: true},
		{Name: "-b", Valued: true, Listens: true},
		{Name: "--insecure-bind", Valued: true, Listens: true},
		{Name: "--quic-bind", Valued: true, Listens: true},
		{Name: "--workers", Valued: true},
		{Name: "-w", Valued: true},
		{Name: "--pid", Valued: true},
		{Name: "-p", Valued: true},
		{Name: "--reload"},
		{Name: "--access-logfile", Valued: true},
		{Name: "--access-log", Valued: true},
		{Name: "--error-logfile", Valued: true},
		{Name: "--error-log", Valued: true},
		{Name: "--log-file", Valued: true},
		{Name: "--log-config", Valued: true},
		{Name: "--statsd-host", Valued: true},
		{Name: "--statsd-prefix", Valued: true},
		{Name: "--certfile", Valued: true},
		{Name: "--keyfile", Valued: true},
		{Name: "--keyfile-password", Valued: true},
		{Name: "--ca-certs", Valued: true},
		{Name: "--config", Valued: true, Refused: inFile},
		{Name: "-c", Valued: true, Refused: inFile},
	},
	Own: func(c server.Candidate) []string {
		return []string{"--bind", c.Bind, "--workers", strconv.Itoa(max(1, c.Workers))}
	},
}}

const inFile = "whose file may say where it listens, and isn't read"

type kind struct{ server.Basic }

func (k kind) Parse(c server.Command) server.Line { return line{k.Find(c)} }

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
		return server.InFile(file.Raw, l.Shell)
	case len(binds) == 0:
		return server.At("", "")
	case l.Inherits():
		return server.NotSaid("its --bind names a socket that it is given")
	case !server.Plain(binds[0].Text):
		return server.Unset("--bind")
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
