// Package uvicorn knows uvicorn: what its command says, and what it logs of its own processes.
package uvicorn

import (
	"regexp"
	"strconv"
	"strings"

	"deploygate/release/server"
)

// Server is uvicorn as one of the application servers.
var Server server.Server = kind{server.Basic{
	Name: "uvicorn", Variables: "UVICORN_", Directory: "--app-dir", Socket: []string{"--fd", "3"},
	Options: []server.Option{
		{Name: "--host", Valued: true, Listens: true, Beaten: true},
		{Name: "--port", Valued: true, Listens: true, Beaten: true},
		{Name: "--uds", Valued: true, Listens: true, Beaten: true},
		{Name: "--workers", Valued: true, Beaten: true},
		{Name: "--fd", Valued: true, Listens: true},
		{Name: "--reload"},
		{Name: "--reload-dir", Valued: true},
		{Name: "--reload-include", Valued: true},
		{Name: "--reload-exclude", Valued: true},
		{Name: "--reload-delay", Valued: true},
		{Name: "--log-config", Valued: true},
		{Name: "--ssl-keyfile", Valued: true},
		{Name: "--ssl-certfile", Valued: true},
		{Name: "--ssl-keyfile-password", Valued: true},
	},
	Own: func(c server.Candidate) []string {
		return []string{"--uds", strings.TrimPrefix(c.Bind, "unix:"), "--workers", strconv.Itoa(max(1, c.Workers))}
	},
}}

type kind struct{ server.Basic }

func (k kind) Parse(c server.Command) server.Line { return line{k.Find(c)} }

func (kind) Words() server.Words { return words }

// words are uvicorn's (uvicorn/supervisors/multiprocess.py, uvicorn/server.py), with those of the processes that it starts by
// multiprocessing.
var words = server.Words{
	Died:   []*regexp.Regexp{regexp.MustCompile(`Child process \[(\d+)\] died`)},
	Parent: regexp.MustCompile(`Started parent process \[(\d+)\]`),
	Done:   regexp.MustCompile(`(?i)request limit`),
	Raised: regexp.MustCompile(`^(?:(?:ERROR: +)?Error loading ASGI app|Process (?:Spawn|Fork)Process-\d+:)`),
}

type line struct{ server.BasicLine }

// option is one of uvicorn's: on the command line, else in the environment (click's auto_envvar_prefix, uvicorn/main.py).
func (l line) option(name, variable string) server.Word {
	if w, ok := l.Last(name); ok {
		return w
	}
	return server.Word{Raw: "$" + variable, Text: l.Variables[variable]}
}

// Bind implements server.Line (uvicorn/config.py, bind_socket, and server.py: --fd beats --uds, and that --host and --port).
func (l line) Bind() server.Bind {
	uds := l.option("--uds", "UVICORN_UDS")
	switch {
	case l.Inherits():
		return server.NotSaid("its --fd names a socket that it is given")
	case uds.Text != "":
		return l.Path("--uds", uds)
	}
	return server.Addressed("--host", l.option("--host", "UVICORN_HOST"), "--port", l.option("--port", "UVICORN_PORT"))
}

// Inherits implements server.Line: it doesn't look at LISTEN_FDS.
func (l line) Inherits() bool { return l.option("--fd", "UVICORN_FD").Text != "" }
