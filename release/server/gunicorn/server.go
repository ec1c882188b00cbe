package gunicorn

import (
	"context"

	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// Server is gunicorn as one of the application servers.
var Server server.Server = kind{}

type kind struct{}

func (kind) Parse(c server.Command) server.Line { return Parse(c) }

func (kind) Read(l server.Live) (server.Names, error) { return Read(l) }

func (kind) Rewrite(ctx context.Context, l server.Live, c server.Candidate) (server.Command, error) {
	return Rewrite(ctx, l, c)
}

func (kind) Adopt(l server.Live) ([]string, error) { return l.Args, nil }

func (kind) Words() server.Words { return words }

func (kind) ReadLog(file string, as *untrusted.User) ([]gate.LogLine, error) {
	return ReadLog(file, as)
}

func (kind) Starts(lines []gate.LogLine) []server.Start { return starts(lines) }
