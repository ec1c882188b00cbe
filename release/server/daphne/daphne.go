// Package daphne knows daphne: what its command says.
package daphne

import (
	"strings"

	"deploygate/release/server"
)

// Server is daphne as one of the application servers.
var Server server.Server = kind{server.Basic{
	Name: "daphne", Socket: []string{"--fd", "3"},
	Options: []server.Option{
		{Name: "--unix-socket", Valued: true, Listens: true},
		{Name: "-u", Valued: true, Listens: true},
		{Name: "--bind", Valued: true, Listens: true},
		{Name: "-b", Valued: true, Listens: true},
		{Name: "--port", Valued: true, Listens: true},
		{Name: "-p", Valued: true, Listens: true},
		{Name: "--fd", Valued: true, Listens: true},
		{Name: "--endpoint", Valued: true, Listens: true},
		{Name: "-e", Valued: true, Listens: true},
		{Name: "--access-log", Valued: true},
	},
	Own: func(c server.Candidate) []string { return []string{"-u", strings.TrimPrefix(c.Bind, "unix:")} },
}}

type kind struct{ server.Basic }

func (k kind) Parse(c server.Command) server.Line { return line{k.Find(c)} }

// Words are Python's own: daphne is one process.
func (kind) Words() server.Words { return server.Words{} }

type line struct{ server.BasicLine }

// Bind implements server.Line (daphne/cli.py: with -u alone there is no port).
func (l line) Bind() server.Bind {
	file, isUnix := l.Last("--unix-socket", "-u")
	host, _ := l.Last("--bind", "-b")
	port, _ := l.Last("--port", "-p")
	switch _, endpoint := l.Last("--endpoint", "-e"); {
	case endpoint:
		return server.NotSaid("its --endpoint is Twisted's, which is not read")
	case l.Inherits():
		return server.NotSaid("its --fd names a socket that it is given")
	case isUnix:
		return l.Path("--unix-socket", file)
	}
	return server.Addressed("--bind", host, "--port", port)
}

// Inherits implements server.Line: it doesn't look at LISTEN_FDS.
func (l line) Inherits() bool {
	_, given := l.Last("--fd")
	return given
}
