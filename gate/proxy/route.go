package proxy

import (
	"time"
)

// Request is what a client asks of nginx: a GET without a body or any header but Host.
type Request struct {
	// Port is the one connected to.
	Port int
	// Addr is the IP address connected to, or "unix:PATH". "" is an address that has no listen of its own: the wildcard
	// is taken, that of IPv4 first.
	Addr string
	// TLS is whether the connection is encrypted, with Host as the name asked for.
	TLS bool
	// Host is the header, with or without a port.
	Host string
	// Path is the request target: an absolute path, encoded as it is sent. A query counts for nothing.
	Path string
	// Status is that of the answer, where there was one, so that a way to another one was not taken; 0 unknown.
	Status int
}

// Route is where a request ends. What is known of it is there even where Known is false.
type Route struct {
	Known bool   // everything that decides was understood; else Why says what was not
	Why   string // no final stop, without anything secret

	Server, Location string // "FILE:LINE" of the blocks; Location is "" where none matches
	Pass             string // proxy_pass, or another …_pass, as written; "" if the location doesn't proxy
	PassAt           string // "FILE:LINE"
	// Targets is where it connects, in gunicorn's syntax: "unix:/run/x.sock" or "127.0.0.1:8000". Those of an
	// upstream{} come in its order, backups included, those marked down left out.
	Targets []string
	// ConnectTimeout and ReadTimeout are proxy_connect_timeout and proxy_read_timeout (or uwsgi_…) in force; 0 where
	// nothing is proxied or they are not understood.
	ConnectTimeout, ReadTimeout time.Duration
	// Returns is "return 503", "return 301 https://…" or "try_files =404" when nginx answers by itself.
	Returns string
	// ErrorLogs are the files in force, as written; "syslog:…", "stderr" and "memory:…" likewise.
	ErrorLogs []string
	// Tries are the files that are served instead, if they are there. The path of one that isn't known is "".
	Tries []Try
	// Cache is where what is passed is cached, so that the answer may be an old one: "proxy_cache at FILE:LINE"; "" nowhere.
	Cache string
	// Masks is what may turn the failure of what it is passed to into such an answer: "error_page at FILE:LINE"; "" nothing.
	Masks string
	// PathPassed is the path that is asked for where it is passed to; "" where nothing is passed or it isn't known.
	PathPassed string
	// HostPassed is the Host that the app gets, as written in proxy_set_header: "$host", or "$proxy_host", which is the
	// default. "" where nothing is proxied, or none is sent.
	HostPassed string
}

// Try is a file, or a directory, that try_files looks for.
type Try struct {
	Path string
	Dir  bool
	At   string // "FILE:LINE"
}

// Path is a file or directory that the configuration names.
type Path struct {
	Directive string
	Path      string // absolute and clean
	At        string // "FILE:LINE"
	Dir       bool   // files are served from it
	Loaded    bool   // nginx opens it when it loads the configuration, and doesn't load it without
}
