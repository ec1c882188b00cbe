package proxy

import (
	"time"
)

// Entry is one line of nginx's error log: "TIME [LEVEL] PID#TID: *CONNECTION TEXT while …, client: …, …"
// (ngx_log_error_core, ngx_http_log_error). It may hold anything that clients and apps sent: clean it before it is
// shown.
type Entry struct {
	At    time.Time // in local time, whole seconds: nginx logs no more
	Level string    // "emerg", "alert", "crit", "error", "warn", "notice", "info" or "debug"
	Text  string    // the message alone, at most 2 KiB, query strings cut off
	While string    // "connecting to upstream", "reading response header from upstream"
	Errno int       // of "(13: Permission denied)", 0 if there is none
	// Upstream, Server, Host and Request are from the tail; "" where they are absent. Query strings, which may hold
	// secrets, are cut off: "GET /pay?… HTTP/1.1".
	Upstream, Server, Host, Request string
	Raw                             string // the line, at most 4 KiB, query strings cut off
}
