// Package socketunit writes the .socket unit that listens for an app's service in its place, the drop-in that ties the
// service to it, and the steps from one to the other and back (systemd.socket(5), sd_listen_fds(3)). It only writes
// text: what the host is like comes in as Facts.
//
// Guaranteed: the socket listens where the server does and takes the connections that the server's own takes, of nobody
// else; what a socket unit would break, as far as the facts show it, is refused in one line.
//
// Not guaranteed: that the facts are all there is. What gunicorn's configuration file says is seen only of a service
// that runs.
package socketunit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"deploygate/release/server"
	"deploygate/release/server/gunicorn"
	"deploygate/release/unit"
)

// Facts are what the pair is made from.
type Facts struct {
	Service  unit.Description
	Scope    unit.Scope
	Server   string   // what its main process is, or will be: gunicorn, uvicorn, …; "" if it isn't known
	Command  []string // with which it takes the socket, in systemd's syntax; nil: with its own
	Listen   string   // an absolute path without symlinks, or an IP address and a port
	Releases string   // the directory of the releases, without symlinks
	Runtime  string   // what RuntimeDirectory= is below: /run, or $XDG_RUNTIME_DIR
	Dir      string   // of the administrator's units
	Seen     *Seen    // nil: the service doesn't run, or can't be looked at
}

// Seen is what a service that runs shows.
type Seen struct {
	More      []string // where else its main process listens
	Socket    Rights   // of a unix socket
	Directory Rights   // that the socket is in
	Beside    []string // what else is in that directory, names
}

// Rights are the owner and the mode of a file.
type Rights struct {
	Owner, Group string // a name, or the number where it has none; "" is the primary group of the owner
	Mode         fs.FileMode
}

// Pair is what is to be written and done. A Step is a command for a shell.
type Pair struct {
	Socket string // the name of the socket unit
	Files  []File // in the order in which they may appear: the second one needs the first
	Steps  []string
	Back   []string
	Notes  []string // what had to be assumed
}

// File is one file of the pair.
type File struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// dropIn comes after the names that people give drop-ins: the last RuntimeDirectory= counts.
const dropIn = "zz-socket.conf"

// Name is the socket unit that belongs to a service by its name.
func Name(service string) string { return strings.TrimSuffix(service, ".service") + ".socket" }

// Make writes the pair. Its error is why there can't be one, in one line with what to do.
func Make(f Facts) (Pair, error) {
	if err := f.refuse(); err != nil {
		return Pair{}, err
	}
	s := socket{name: Name(f.Service.Name), listen: f.Listen, user: f.Scope == unit.User}
	p := Pair{Socket: s.name}
	directories, taken := f.Service.RuntimeDirectories, false
	if s.isUnix() {
		directories, taken = f.withoutSockets()
		var err error
		if s.rights, err = f.rights(taken); err != nil {
			return Pair{}, err
		}
		if f.Seen == nil {
			p.Notes = append(p.Notes, fmt.Sprintf("the socket of %s can't be seen now: its owner and mode are what User=, Group= and gunicorn's --umask make "+
				"them; compare them once it runs", f.Service.Name))
		}
	}
	p.Files = []File{
		{path.Join(f.Dir, s.name), s.text(f.Service.Name)},
		{path.Join(f.Dir, f.Service.Name+".d", dropIn), s.dropIn(f, directories, taken)},
	}
	if f.Command != nil {
		p.Notes = append(p.Notes, fmt.Sprintf("%s doesn't take a socket of systemd by itself: the drop-in has its whole command, which is to be "+
			"changed there from now on", f.Server))
	}
	p.Steps, p.Back = Steps(f.Scope, f.Service.Name, p.Socket), back(f.Scope, f.Service.Name, p.Socket, p.Files)
	return p, nil
}

// refuse says why a socket unit would break the service.
func (f *Facts) refuse() error {
	d, line := &f.Service, f.line()
	binds := line.Binds()
	switch {
	case f.Server == "":
		return fmt.Errorf("%s runs no server that is known, so that it isn't known how that would take a socket of systemd", d.Name)
	case f.Command != nil && d.ExecStartPrefix != "":
		return fmt.Errorf("%s has ExecStart= with a prefix (%s), which the command for a socket wouldn't have: leave it out", d.Name, d.ExecStartPrefix)
	case f.Command != nil && f.Seen == nil:
		return fmt.Errorf("%s doesn't run, so that the rights of its socket can't be seen: start it first", d.Name)
	case !slices.Contains([]string{"simple", "exec", "idle", "notify", "notify-reload"}, d.Type):
		return fmt.Errorf("%s has Type=%s: in the background %s doesn't take a socket of systemd; run it in the foreground", d.Name, d.Type, f.Server)
	case line.Has("--daemon"):
		return fmt.Errorf("%s runs gunicorn with --daemon: in the background it doesn't take a socket of systemd; take that out, with Type=notify", d.Name)
	case len(binds) > 1 || len(binds) == 1 && strings.Contains(binds[0], ","):
		return fmt.Errorf("%s has several binds, and this makes a socket unit for one: leave one bind in it", d.Name)
	case f.Seen != nil && len(f.Seen.More) > 0:
		return fmt.Errorf("%s also listens on %s, and with a socket unit %s would listen on that unit's socket alone: leave "+
			"one bind in it", d.Name, strings.Join(f.Seen.More, ", "), f.Server)
	case !plain.MatchString(f.Listen):
		return fmt.Errorf("%q has a character in it that would need quoting in a unit; bind another address", f.Listen)
	case !path.IsAbs(f.Listen):
		if _, err := netip.ParseAddrPort(f.Listen); err != nil {
			return fmt.Errorf("%s is not an IP address with a port: a socket unit doesn't resolve names; bind an address", f.Listen)
		}
		return nil
	}
	return f.refusePath()
}

// plain needs no quoting in a unit.
var plain = regexp.MustCompile(`^[A-Za-z0-9/._:@\[\]+,=-]+$`)

// refusePath is refuse for a unix socket.
func (f *Facts) refusePath() error {
	d := &f.Service
	dir := path.Dir(f.Listen)
	switch {
	case f.Server == "daphne":
		return fmt.Errorf("%s runs daphne, which takes no unix socket of systemd: bind a port", d.Name)
	case below(f.Listen, f.Releases):
		return fmt.Errorf("its socket %s is in a release, which the next one replaces: bind it outside of the releases, like unix:/run/NAME/gunicorn.sock", f.Listen)
	case d.OwnRoot:
		return fmt.Errorf("%s has a root directory of its own, where a socket unit does not listen", d.Name)
	}
	if i := slices.IndexFunc(d.Around, func(argv []string) bool { return spoils(argv, dir) }); i >= 0 {
		return fmt.Errorf("%s has a command before or after its own that makes or removes something in %s, where the socket will be: take it out: %s",
			d.Name, dir, strings.Join(d.Around[i], " "))
	}
	_, taken := f.withoutSockets()
	if !taken {
		return nil
	}
	const wayOut = "move that elsewhere, or set RuntimeDirectoryPreserve=yes in it"
	switch {
	case d.DynamicUser:
		return fmt.Errorf("%s has DynamicUser=yes, whose directories a socket can't outlive: give it a User= of its own, or a TCP bind", d.Name)
	case d.RuntimeDirectoryLinks:
		return fmt.Errorf("%s has a RuntimeDirectory= with a symlink, which this can't write again: make it a plain one", d.Name)
	case below(d.PIDFile, dir):
		return fmt.Errorf("%s has its PIDFile= beside its socket, in %s, which will be the socket unit's and closed to it: systemd needs no pid file of "+
			"gunicorn, take it and --pid out", d.Name, dir)
	case f.Seen != nil && len(f.Seen.Beside) > 0:
		return fmt.Errorf("%s is in %s beside the socket of %s, a directory that will be the socket unit's and "+
			"closed to it: %s", f.Seen.Beside[0], dir, d.Name, wayOut)
	}
	for _, word := range f.words() {
		if strings.Contains(word, dir) && !strings.Contains(word, f.Listen) {
			return fmt.Errorf("%s uses %s for more than its socket, and that will be the socket unit's and closed to it: %s", d.Name, dir, wayOut)
		}
	}
	return nil
}

// words are those of the command line and of the environment.
func (f *Facts) words() (all []string) {
	for _, text := range slices.Concat(f.Service.ExecStart, f.Service.Environment) {
		all = append(all, strings.Fields(text)...)
	}
	return all
}

func below(file, dir string) bool { return dir != "" && strings.HasPrefix(file, dir+"/") }

var inPath = regexp.MustCompile(`[^\s'";&|()]+`)

// spoils reports whether a command may take the socket away, or fail because its directory is there already.
func spoils(argv []string, dir string) bool {
	words := inPath.FindAllString(strings.Join(argv, " "), -1)
	if !slices.ContainsFunc(words, func(w string) bool { return w == dir || below(w, dir) }) {
		return false
	}
	return slices.ContainsFunc(words, func(w string) bool {
		switch path.Base(w) {
		case "rm", "rmdir", "unlink", "find", "mv":
			return true
		case "mkdir":
			return !slices.Contains(words, "-p") && !slices.Contains(words, "--parents")
		}
		return false
	})
}

// withoutSockets returns the service's runtime directories but for those that hold the socket: systemd removes them, and
// the socket with them, whenever the service stops. taken is whether there is such a one.
func (f *Facts) withoutSockets() (left []string, taken bool) {
	d := &f.Service
	if d.RuntimeDirectoryPreserve == "yes" {
		return d.RuntimeDirectories, false
	}
	for _, name := range d.RuntimeDirectories {
		if below(f.Listen, path.Join(f.Runtime, name)) {
			taken = true
		} else {
			left = append(left, name)
		}
	}
	return left, taken
}

// rights are what the socket has, as it was seen, or as gunicorn will make it. Where its directory becomes the socket
// unit's, which everybody may enter, whom the old one kept out the socket keeps out.
func (f *Facts) rights(taken bool) (Rights, error) {
	d, line := &f.Service, f.line()
	r := Rights{Owner: cmp.Or(line.Option("--user"), d.User), Group: cmp.Or(line.Option("--group"), d.Group), Mode: 0o777}
	dir := Rights{d.User, d.Group, fs.FileMode(d.RuntimeDirectoryMode)}
	if umask := line.Option("--umask"); umask != "" {
		mask, err := strconv.ParseUint(umask, 0, 9)
		if err != nil {
			return r, fmt.Errorf("gunicorn's --umask %s is not understood: start %s, then its socket's mode can be seen", umask, d.Name)
		}
		r.Mode &^= fs.FileMode(mask)
	}
	if f.Seen != nil {
		r, dir = f.Seen.Socket, f.Seen.Directory
	}
	if !ownerName.MatchString(r.Owner) || !ownerName.MatchString(r.Group) {
		return r, fmt.Errorf("the socket's owner %q or group %q can't be written into a unit", r.Owner, r.Group)
	}
	const enter = 0o001
	if !taken || dir.Mode&enter != 0 {
		return r, nil
	}
	if dir.Owner != r.Owner || dir.Group != r.Group {
		return r, fmt.Errorf("the directory of the socket (%s:%s, %04o) keeps out others than the socket itself (%s:%s) would: give them the same owner and group",
			dir.Owner, dir.Group, dir.Mode.Perm(), r.Owner, r.Group)
	}
	r.Mode &^= 0o007
	if dir.Mode&(enter<<3) == 0 {
		r.Mode &^= 0o070
	}
	return r, nil
}

// line is what the service tells gunicorn.
func (f *Facts) line() gunicorn.Line { return gunicorn.Parse(server.CommandOf(f.Service)) }

var ownerName = regexp.MustCompile(`^[A-Za-z0-9_.@-]*\$?$`)

// socket is the socket unit.
type socket struct {
	name, listen string
	user         bool
	rights       Rights
}

func (s *socket) isUnix() bool { return path.IsAbs(s.listen) }

func (s *socket) text(service string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Made by deploygate init: connections wait here while %s restarts.", service)
	line("[Unit]\nDescription=socket of %s\n", escaped(service))
	line("[Socket]\nListenStream=%s", s.listen)
	switch addr, err := netip.ParseAddrPort(s.listen); {
	case err == nil && !addr.Addr().IsLoopback() && !addr.Addr().IsUnspecified():
		line("# At boot the address comes later than the socket.\nFreeBind=yes")
	case s.isUnix():
		// Only root can give a file away.
		if s.rights.Owner != "" && !s.user {
			line("SocketUser=%s", s.rights.Owner)
		}
		if s.rights.Group != "" && !s.user {
			line("SocketGroup=%s", s.rights.Group)
		}
		line("SocketMode=%04o\nDirectoryMode=0755", s.rights.Mode.Perm())
		line("# Not every server replaces a socket that is there.\nRemoveOnStop=yes")
	}
	line("\n[Install]\nWantedBy=sockets.target")
	return b.String()
}

func (s *socket) dropIn(f Facts, directories []string, taken bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Made by deploygate init: %s listens, and %s takes its socket instead of its own.", s.name, f.Server)
	line("[Unit]\nRequires=%s\nAfter=%[1]s", escaped(s.name))
	if taken || f.Command != nil {
		line("\n[Service]")
	}
	if f.Command != nil {
		words := make([]string, len(f.Command))
		for i, word := range f.Command {
			words[i] = Word(word)
		}
		line("ExecStart=\nExecStart=%s", strings.Join(words, " "))
	}
	if taken {
		line("# Not the socket's: it would go, with the socket in it, whenever the service stops.\nRuntimeDirectory=")
		for _, name := range directories {
			line("RuntimeDirectory=%s", escaped(name))
		}
		if len(directories) > 0 {
			line("RuntimeDirectoryMode=%04o", f.Service.RuntimeDirectoryMode) // systemd forgets it with the directories
		}
	}
	return b.String()
}

// escaped keeps systemd from replacing specifiers (systemd.unit(5)).
func escaped(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// Word is a word of a command in a unit file (systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers"). Variables stay.
func Word(word string) string {
	word = escaped(word)
	if word != "" && !strings.ContainsAny(word, " \t\n\"'\\;") {
		return word
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(word) + `"`
}

// Steps are those to a socket unit whose files are there. The service is stopped before systemd knows of the drop-in, so
// that it still removes the runtime directory that isn't the service's any more: the socket unit makes it again, as
// root's. While the service runs the socket could not be started.
func Steps(scope unit.Scope, service, socket string) []string {
	systemctl := systemctl(scope)
	return []string{
		systemctl + " stop " + Quoted(service),
		systemctl + " daemon-reload",
		systemctl + " enable --now " + Quoted(socket),
		systemctl + " start " + Quoted(service),
	}
}

// back are the steps from a socket unit to the service alone.
func back(scope unit.Scope, service, socket string, files []File) []string {
	systemctl := systemctl(scope)
	remove := []string{"rm"}
	for _, f := range files {
		remove = append(remove, Quoted(f.Path))
	}
	return []string{
		systemctl + " stop " + Quoted(service) + " " + Quoted(socket),
		systemctl + " disable " + Quoted(socket),
		strings.Join(remove, " "),
		systemctl + " daemon-reload",
		systemctl + " start " + Quoted(service),
	}
}

func systemctl(scope unit.Scope) string {
	if scope == unit.User {
		return "systemctl --user"
	}
	return "systemctl"
}

// Quoted is one word for a shell.
func Quoted(s string) string {
	if plain.MatchString(s) && !strings.ContainsAny(s, "[]") { // a shell's pattern
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ListenStream returns a bind in the syntax of ListenStream=, as gunicorn understands it (gunicorn.util.parse_address):
// an empty host is every IPv4 address, and the port is 8000 where none is given.
func ListenStream(bind string) (string, error) {
	if file, isUnix := strings.CutPrefix(bind, "unix:"); isUnix {
		file = strings.TrimPrefix(file, "//")
		if !path.IsAbs(file) {
			return "", fmt.Errorf("bind %q is not an absolute path", bind)
		}
		return path.Clean(file), nil
	}
	address := strings.TrimPrefix(bind, "tcp://")
	host, port, hasPort := address, "8000", false
	if i := strings.LastIndexByte(address, ':'); i >= 0 && !strings.HasSuffix(address, "]") {
		host, port, hasPort = address[:i], address[i+1:], true
	}
	host = strings.Trim(host, "[]")
	switch {
	case host == "" && (hasPort || address == ""):
		host = "0.0.0.0"
	case strings.EqualFold(host, "localhost"):
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 {
		return "", errors.New("bind " + strconv.Quote(bind) + " is not an IP address with a port: a socket unit doesn't resolve names; bind an address")
	}
	return netip.AddrPortFrom(ip, uint16(n)).String(), nil
}
