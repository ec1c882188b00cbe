package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// Step is one path element on the way to a socket.
type Step struct {
	Path  string // absolute, without symlinks but for the last element
	Mode  fs.FileMode
	Owner string // a name; the number where it has none
	Group string
	ACL   bool   // an ACL beyond the mode exists; Mode's group bits are its mask then, acl(5)
	Link  string // the target of a symlink, as it is written
}

// The rights that Walk.Need names.
const (
	// NeedSearch is x of a directory, which every element below it takes (path_resolution(7)).
	NeedSearch = "search"
	// NeedWrite is w of the socket, which connecting takes (unix(7)).
	NeedWrite = "write"
	// NeedFollow is what fs.protected_symlinks refuses: to follow a symlink in a sticky world-writable directory that
	// neither the follower nor the directory's owner owns (proc_sys_fs(5)). Root is refused too.
	NeedFollow = "follow"
)

// Walk is the way to a path as someone sees it, like namei(1) but with the verdict.
//
// It goes on behind an element that is denied, as far as this process sees, so that the operator gets the whole
// picture: connect(2) fails for Denied if that is set, only else for Missing or Err.
type Walk struct {
	Who   Identity
	Steps []Step // every element once, in the order of their first use
	// Missing is the first element that doesn't exist; "" if all do.
	Missing string
	// Denied is the first element that the identity may not search (a directory), follow (a symlink) or write to (the
	// end, which is how the kernel puts the right to connect); "" if none.
	Denied string
	Need   string // of Denied: NeedSearch, NeedWrite or NeedFollow
	// Unseen is an element that this process itself may not look at. What comes there and behind is unknown.
	Unseen   string
	IsSocket bool   // the end is a socket
	Err      string // why else the path leads nowhere: a loop of symlinks, a file for a directory, …

	end string // where it ended
}

// Reachable tells that the end is a socket and that the identity has every right that connect(2) asks for. That
// someone listens there is another matter: see Listeners.
func (w Walk) Reachable() bool { return w.IsSocket && w.Denied == "" && w.Unseen == "" && w.Err == "" }

// End is the path's end without symlinks, as a process that bound it there may have called it; "" if the walk did not
// get there.
func (w Walk) End() string {
	if w.Missing != "" || w.Unseen != "" || w.Err != "" || len(w.Steps) == 0 {
		return ""
	}
	return w.end
}

// The kernel's limits: path_resolution(7), limits.h.
const (
	maxLinks = 40
	maxPath  = 4095
)

// Reach walks to an absolute path as the kernel does for who (path_resolution(7)): it resolves symlinks, checks the
// right to search every directory on the way, and the right to write to the end. Rights are checked by the owner's,
// the group's or the others' class of the mode, or the ACL (acl(5)); user 0 has them all, as CAP_DAC_OVERRIDE gives
// it (capabilities(7)). The socket is not opened.
//
// What goes wrong is in the Walk. The symlinks of /proc/PID (root, cwd, fd) are followed by what they read as.
func Reach(path string, who Identity) Walk { return reach(path, who, protectedSymlinks()) }

func reach(path string, who Identity, protected bool) Walk {
	w := walker{seen: map[string]node{}, walk: Walk{Who: who}, names: names{}, protected: protected}
	switch {
	case !strings.HasPrefix(path, "/"):
		w.walk.Err = quote(path) + " is not an absolute path"
	case strings.ContainsRune(path, 0):
		w.walk.Err = quote(path) + " has a zero byte in it"
	case len(path) > maxPath:
		w.walk.Err = quote(path[:40]) + "… is too long for a path"
	default:
		w.to(path)
	}
	return w.walk
}

// node is what the kernel knows of a path element.
type node struct {
	path     string
	mode     fs.FileMode
	uid, gid int
	acl      acl
	link     string
}

// permits is the kernel's check (acl_permission_check in fs/namei.c).
func (n node) permits(who Identity, want access) bool {
	if who.UID == 0 {
		return true
	}
	mode := access(n.mode & fs.ModePerm)
	switch {
	case who.UID == n.uid:
		mode >>= 6
	case n.acl != nil && mode&0o070 != 0:
		// An ACL whose mask is empty isn't asked at all: a named user falls through to the group's or the others'
		// class, against acl(5).
		return n.acl.permits(n.uid, n.gid, who, want)
	case who.in(n.gid):
		mode >>= 3
	}
	return mode&want == want
}

// walker walks one path once.
type walker struct {
	walk  Walk
	seen  map[string]node
	names names
	links int
	// protected is fs.protected_symlinks
	protected bool
}

// to resolves rest from the root, element by element; a symlink's target takes the symlink's place in it.
func (w *walker) to(rest string) {
	at, ok := w.look("/")
	for ok && strings.Trim(rest, "/") != "" {
		at, rest, ok = w.step(at, rest)
	}
	if ok && w.directory(at, rest) {
		w.walk.end = at.path
		w.walk.IsSocket = at.mode&fs.ModeSocket != 0
		w.need(at, write)
	}
}

// step goes to the first element of rest; not ok where the way ends.
func (w *walker) step(at node, rest string) (_ node, _ string, ok bool) {
	if !w.directory(at, rest) {
		return at, "", false
	}
	w.need(at, search)
	rest = strings.TrimLeft(rest, "/")
	name := rest
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		name = rest[:slash]
	}
	rest = rest[len(name):]
	switch name {
	case ".":
		return at, rest, true
	case "..": // there are no symlinks in at.path, so that the text is right
		next, ok := w.look(path.Dir(at.path))
		return next, rest, ok
	}
	next, ok := w.look(path.Join(at.path, name))
	if !ok || next.mode&fs.ModeSymlink == 0 {
		return next, rest, ok
	}
	if w.links++; w.links > maxLinks {
		w.walk.Err = fmt.Sprintf("%s: more than %d symlinks, or a loop of them", quote(next.path), maxLinks)
		return at, "", false
	}
	w.follow(at, next, rest)
	if strings.HasPrefix(next.link, "/") {
		at, ok = w.look("/")
	}
	return at, next.link + rest, ok
}

// directory checks that there is no more than a directory can hold behind an element. The kernel does so before it
// asks for rights.
func (w *walker) directory(at node, rest string) bool {
	if rest == "" || at.mode.IsDir() {
		return true
	}
	w.walk.Err = quote(at.path) + " is not a directory"
	return false
}

// need notes the first element where a right is missing.
func (w *walker) need(n node, want access) {
	if w.walk.Denied != "" || n.permits(w.walk.Who, want) {
		return
	}
	w.walk.Denied, w.walk.Need = n.path, NeedSearch
	if want == write {
		w.walk.Need = NeedWrite
	}
}

// follow applies fs.protected_symlinks (may_follow_link in fs/namei.c), which is about a path's last element only.
func (w *walker) follow(dir, link node, rest string) {
	const shared = 0o002
	who := w.walk.Who.UID
	if w.walk.Denied != "" || strings.Trim(rest, "/") != "" || link.uid == who || link.uid == dir.uid ||
		dir.mode&fs.ModeSticky == 0 || dir.mode&shared == 0 || !w.protected {
		return
	}
	w.walk.Denied, w.walk.Need = link.path, NeedFollow
}

func protectedSymlinks() bool {
	on, err := os.ReadFile("/proc/sys/fs/protected_symlinks")
	return err == nil && strings.TrimSpace(string(on)) != "0"
}

// look finds out about an element, once.
func (w *walker) look(file string) (node, bool) {
	if n, ok := w.seen[file]; ok {
		return n, true
	}
	n, err := inspect(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		w.walk.Missing = file
	case errors.Is(err, fs.ErrPermission):
		w.walk.Unseen = file
	case err != nil:
		w.walk.Err = fmt.Sprintf("cannot look at %s: %v", quote(file), err)
	}
	if err != nil {
		return n, false
	}
	w.seen[file] = n
	w.walk.Steps = append(w.walk.Steps, Step{
		Path: file, Mode: n.mode, ACL: n.acl != nil, Link: n.link,
		Owner: w.names.get(n.uid, 'u', userName), Group: w.names.get(n.gid, 'g', groupName),
	})
	return n, true
}

// inspect reads what the kernel knows of an element. Its errors don't name the path: the caller does.
func inspect(file string) (node, error) {
	info, err := untrusted.Lstat(file)
	if err != nil {
		return node{}, untrusted.Cause(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return node{}, errors.New("its owner is not known")
	}
	n := node{path: file, mode: info.Mode(), uid: int(st.Uid), gid: int(st.Gid)}
	if n.mode&fs.ModeSymlink != 0 {
		n.link, err = untrusted.Readlink(file)
		return n, untrusted.Cause(err)
	}
	n.acl, err = readACL(file)
	return n, err
}

// gone gives the kernel's other word for a process that has ended its usual name.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fs.ErrNotExist
	}
	return err
}

// names remembers the names of users and groups: most elements have the same.
type names map[string]string

func (n names) get(id int, kind byte, ask func(int) string) string {
	key := string(kind) + strconv.Itoa(id)
	if _, ok := n[key]; !ok {
		n[key] = ask(id)
	}
	return n[key]
}

// String is one line for each element, as namei -l writes them, and what is wrong with which:
//
//	drwxr-xr-x  root root     /
//	drwxr-xr-x  root root     /run
//	drwx------  app  app      /run/gunicorn  <- www-data may not enter
//	srwxrwx---+ app  www-data /run/gunicorn/app.sock
//
// Paths with unprintable characters are quoted as in Go. It ends without a newline.
func (w Walk) String() string {
	var rows [][4]string
	var width [3]int
	add := func(path, note string, columns ...string) {
		if note != "" {
			path += "  <- " + note
		}
		rows = append(rows, [4]string{columns[0], columns[1], columns[2], path})
		for i := range width {
			width[i] = max(width[i], len(columns[i]))
		}
	}
	for _, s := range w.Steps {
		add(s.label(), w.note(s), s.mode(), s.Owner, s.Group)
	}
	if w.Missing != "" {
		add(quote(w.Missing), "does not exist", "?", "?", "?")
	}
	if w.Unseen != "" {
		add(quote(w.Unseen), "deploygate itself may not look at it", "?", "?", "?")
	}
	var lines []string
	for _, r := range rows {
		lines = append(lines, fmt.Sprintf("%-*s %-*s %-*s %s", width[0], r[0], width[1], r[1], width[2], r[2], r[3]))
	}
	if w.Err != "" {
		lines = append(lines, w.Err)
	}
	return strings.Join(lines, "\n")
}

// note is what is wrong with an element.
func (w Walk) note(s Step) string {
	var notes []string
	if s.Path == w.Denied {
		switch w.Need {
		case NeedSearch:
			notes = append(notes, w.Who.String()+" may not enter")
		case NeedFollow:
			notes = append(notes, w.Who.String()+" may not follow (fs.protected_symlinks)")
		default:
			notes = append(notes, w.Who.String()+" may not connect")
		}
	}
	if s.Path == w.End() && !w.IsSocket {
		notes = append(notes, "is not a socket")
	}
	return strings.Join(notes, ", ")
}

func (s Step) label() string {
	if s.Link == "" {
		return quote(s.Path)
	}
	return quote(s.Path) + " -> " + quote(s.Link)
}

// mode writes the mode as ls -l does, which is what people know; fs.FileMode's own String has other letters.
func (s Step) mode() string {
	bits := []byte(s.Mode.Perm().String())
	for _, t := range []struct {
		bit    fs.FileMode
		letter byte
	}{
		{fs.ModeDir, 'd'},
		{fs.ModeSymlink, 'l'},
		{fs.ModeSocket, 's'},
		{fs.ModeNamedPipe, 'p'},
		{fs.ModeDevice, 'b'},
		{fs.ModeCharDevice, 'c'},
	} {
		if s.Mode&t.bit != 0 {
			bits[0] = t.letter
		}
	}
	for _, t := range []struct {
		bit fs.FileMode
		at  int
		by  byte
	}{{fs.ModeSetuid, 3, 's'}, {fs.ModeSetgid, 6, 's'}, {fs.ModeSticky, 9, 't'}} {
		if s.Mode&t.bit == 0 {
			continue
		}
		if bits[t.at] == '-' {
			t.by -= 'a' - 'A'
		}
		bits[t.at] = t.by
	}
	if s.ACL {
		return string(bits) + "+"
	}
	return string(bits)
}

// quote keeps a path to one line and away from the terminal: anybody may name a file in a shared directory.
func quote(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
