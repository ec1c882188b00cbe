// Package servers is the list of the application servers that are known.
package servers

import (
	"deploygate/gate"
	"deploygate/release/server"
	"deploygate/release/server/daphne"
	"deploygate/release/server/gunicorn"
	"deploygate/release/server/hypercorn"
	"deploygate/release/server/uvicorn"
)

var all = []struct {
	server.Server
	name string
}{{gunicorn.Server, "gunicorn"}, {uvicorn.Server, "uvicorn"}, {hypercorn.Server, "hypercorn"}, {daphne.Server, "daphne"}}

// Name returns the name of the server that a command runs; "" if none is known in it.
func Name(c server.Command) string {
	for _, s := range all {
		if s.Parse(c).Known() {
			return s.name
		}
	}
	return ""
}

// Of returns the server that a command runs. Of one that isn't known gunicorn is returned, which says what it misses in it.
func Of(c server.Command) server.Server {
	s, _ := find(c)
	return s
}

// Parse reads a command as the server does that it runs.
func Parse(c server.Command) server.Line {
	_, l := find(c)
	return l
}

func find(c server.Command) (server.Server, server.Line) {
	for _, s := range all {
		if l := s.Parse(c); l.Known() {
			return s.Server, l
		}
	}
	return gunicorn.Server, gunicorn.Parse(c)
}

// Failures returns the processes that have failed by the words of any server; see server.Failures.
func Failures(log []gate.LogLine) []gate.LogLine { return server.Failures(log, words()...) }

// Parents returns the processes that only start others, by the words of any server.
func Parents(log []gate.LogLine) []int { return server.Parents(log, words()...) }

func words() []server.Words {
	words := []server.Words{server.Python}
	for _, s := range all {
		words = append(words, s.Words())
	}
	return words
}
