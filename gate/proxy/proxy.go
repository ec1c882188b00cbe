// Package proxy is what deploygate asks of the server in front of the app, whichever that is.
package proxy

import (
	"context"
	"time"

	"deploygate/gate"
)

// Server is a proxy during one deploy.
type Server interface {
	gate.Proxy
	// Executable is the path of its program.
	Executable() string
	// Unit is the systemd unit that runs it.
	Unit() string
	// Reloads reports whether Test loads a configuration that has changed.
	Reloads() bool
	// Configuration returns what it would load now. The error is a *gate.Finding of the proxy, or the cause of ctx's end.
	Configuration(ctx context.Context) (Configuration, error)
	// ErrorLog returns the last entries of one of its error logs since a moment, at most limit, the oldest first.
	ErrorLog(ctx context.Context, file string, since time.Time, limit int) ([]Entry, error)
}

// Configuration is what a proxy's configuration says. What it doesn't tell for certain is not known, and said to be.
type Configuration interface {
	// User is who its workers run as; "" where it doesn't say.
	User() string
	// Route returns where a request ends.
	Route(r Request) Route
	// Locations lists other paths of the site that r asks for.
	Locations(r Request) []string
	// Upstreams lists where anything is passed on to; ok reports whether that is known.
	Upstreams() (addresses []string, ok bool)
	// Paths lists what it names below a directory.
	Paths(dir string) []Path
	// Files lists the files that it is read from.
	Files() []string
}
