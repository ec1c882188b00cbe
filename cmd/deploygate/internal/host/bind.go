package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// Bind is where an app listens, and how that is known.
type Bind struct {
	server.Bind
	Seen bool // its processes show it; the unit's text doesn't say it
	Mute bool // it isn't known, and no process of the unit listens anywhere
}

// BindOf returns where the app listens. Its .socket unit decides (sd_listen_fds(3)), if its server takes that socket; else what
// its command and its environment say themselves; else where its processes listen now; else its server's default. Root is the
// directory of its releases.
func BindOf(d unit.Description, root string) Bind {
	l := lineOf(d)
	said := l.Bind()
	switch {
	case d.Listen != "" && (l.Inherits() || !l.Known()):
		return Bind{Bind: server.Bind{Addr: d.Listen}}
	case said.Addr != "" && !said.Default, d.MainPID == 0:
		return Bind{Bind: said, Mute: said.Addr == ""}
	}
	own, err := Listeners(func(h socket.Holder) bool { return h.Unit == d.Name })
	seen := appListeners(own, d.MainPID)
	var addrs []string
	for _, s := range seen {
		addrs = append(addrs, s.Bind())
	}
	slices.Sort(addrs)
	because := func(format string, args ...any) Bind {
		why := fmt.Sprintf(format, args...)
		if said.Why != "" {
			why = said.Why + ", and " + why
		}
		return Bind{Bind: server.NotSaid("%s", why)}
	}
	switch {
	case len(seen) > 1:
		return because("its processes listen on %s", strings.Join(addrs, " and "))
	case len(seen) == 1 && inRelease(seen[0], root):
		return because("its processes listen on %s, in a release, which the next one replaces", addrs[0])
	case len(seen) == 1:
		return Bind{Bind: server.Bind{Addr: addrs[0]}, Seen: true}
	case errors.Is(err, fs.ErrPermission):
		return because("this user has no right to see where its processes listen: run deploygate as root")
	case err != nil:
		return because("where its processes listen can't be seen: %v", err)
	case said.Addr != "":
		return Bind{Bind: said}
	}
	b := because("none of its processes listens")
	b.Mute = true
	return b
}

// Listeners returns the listening sockets that some process holds, in the system's order.
func Listeners(by func(socket.Holder) bool) (own []heldListener, err error) {
	all, err := socket.Listeners("")
	if err != nil {
		return nil, err
	}
	held, err := socket.HoldersOf(all)
	for _, l := range all {
		if slices.ContainsFunc(held[l.Inode], by) {
			own = append(own, heldListener{l, held[l.Inode]})
		}
	}
	return own, err
}

type heldListener struct {
	socket.Listener
	Holders []socket.Holder
}

// appListeners returns the listeners that take requests for the app, as far as they can be told from others: an application
// server binds in its main process, where what its workers open for themselves isn't; and gunicorn's control socket is none.
func appListeners(own []heldListener, main int) (app []socket.Listener) {
	byMain := func(l heldListener) bool {
		return slices.ContainsFunc(l.Holders, func(h socket.Holder) bool { return h.PID == main })
	}
	if slices.ContainsFunc(own, byMain) {
		own = slices.DeleteFunc(slices.Clone(own), func(l heldListener) bool { return !byMain(l) })
	}
	for _, l := range own {
		isControl := l.Network == "unix" && filepath.Ext(l.Addr) == ".ctl"
		again := slices.ContainsFunc(app, func(o socket.Listener) bool { return samePort(o, l.Listener) })
		if !isControl && !again {
			app = append(app, l.Listener)
		}
	}
	return app
}

// samePort reports whether two listeners are the same for both versions of IP.
func samePort(a, b socket.Listener) bool {
	port := func(l socket.Listener) string { return l.Addr[strings.LastIndexByte(l.Addr, ':')+1:] }
	return a.Network != "unix" && b.Network != "unix" && port(a) == port(b)
}

// inRelease reports whether a unix socket is in a release's own directory, or bound by a path that isn't absolute.
func inRelease(l socket.Listener, root string) bool {
	if l.Network != "unix" || strings.HasPrefix(l.Addr, "@") {
		return false
	}
	releases := filepath.Join(root, "releases")
	real, err := untrusted.EvalSymlinks(releases)
	return !filepath.IsAbs(l.Addr) || server.Below(filepath.Clean(l.Addr), releases) || err == nil && server.Below(filepath.Clean(l.Addr), real)
}

// commandOf is what the unit runs, with what its environment files assign.
func commandOf(d unit.Description) server.Command {
	c := server.CommandOf(d)
	c.Environment = slices.Concat(c.Environment, assigned(d, asWritten))
	return c
}

// asWritten is where a path leads that nothing is to be pointed elsewhere in.
func asWritten(path string) string { return path }

// Assigned returns what the unit's environment files assign.
func Assigned(d unit.Description) []string { return assigned(d, asWritten) }

// assigned returns what the unit's environment files assign, each read where at says that its path leads.
func assigned(d unit.Description, at func(path string) string) (all []string) {
	for _, f := range d.EnvironmentFiles {
		all = append(all, assignments(at(f.Path))...)
	}
	return all
}

// serverOf is what the unit runs.
func serverOf(d unit.Description) server.Server { return servers.Of(server.CommandOf(d)) }

// lineOf is what the unit's command tells its server.
func lineOf(d unit.Description) server.Line { return servers.Parse(commandOf(d)) }

// ServerAt returns the name of the application server that a process is, by its command line. Gunicorn may have made that
// "gunicorn: master […]" (setproctitle).
func ServerAt(pid int) string {
	const enough = 4 << 10
	text, _, err := untrusted.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid), enough, nil)
	if err != nil {
		return ""
	}
	if strings.HasPrefix(string(text), "gunicorn: ") {
		return "gunicorn"
	}
	return servers.Name(server.Command{Args: strings.Split(string(text), "\x00")})
}

// serverName returns the name of the server that a unit runs, by its command, else by its main process; "" if it isn't known.
func serverName(d unit.Description) string {
	name := servers.Name(server.CommandOf(d))
	if name == "" && d.MainPID != 0 {
		name = ServerAt(d.MainPID)
	}
	return name
}
