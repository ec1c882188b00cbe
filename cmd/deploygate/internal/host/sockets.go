package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"deploygate/gate/diagnosis"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
)

// sockets looks at where the app listens: the way there, who listens, and how many connections wait.
func (v *evidence) sockets() {
	at, err := probe.ParseBind(v.Bind)
	if err != nil {
		return
	}
	all, err := socket.Listeners("")
	if err != nil {
		v.unread("who listens", err, "ss -lxtn")
		return
	}
	if asked := v.Direct.Answer; asked != nil && at.Network == "unix" && errors.Is(asked.Err, fs.ErrNotExist) {
		if _, err := untrusted.Lstat(at.Addr); err == nil {
			return // it was bound since it was asked: who listens now tells nothing of that
		}
	}
	held, err := socket.HoldersOf(all)
	if err != nil && os.Geteuid() != 0 { // a container's root may not see everyone's, and needs no more
		v.unread("who holds a socket", err, "ss -lxtnp")
	}
	if at.Network == "unix" {
		if who := v.proxyUser(); who.Name != "" {
			walk := socket.Reach(at.Addr, who)
			v.Socket.Reach = &walk
		}
		dir := filepath.Dir(at.Addr)
		if below, is := strings.CutPrefix(dir, "/run/"); is && !slices.Contains(v.files.RuntimeDirectories, below) {
			v.Socket.Tmpfiles = inTmpfiles(dir) || v.madeBefore(dir) || madeByUnit(below)
		}
	}
	there := socket.Serving(all, at.Network, at.Addr)
	for _, l := range there {
		v.Socket.Listens = append(v.Socket.Listens, diagnosis.Listener{Addr: l.Bind(), Holders: held[l.Inode]})
		v.Socket.Busy += l.Accepted
		v.Socket.Waiting += l.Waiting
	}
	for _, l := range all {
		ours := slices.ContainsFunc(held[l.Inode], func(h socket.Holder) bool { return h.Unit == v.Unit.Name })
		if ours && !slices.Contains(there, l) {
			v.Socket.Elsewhere = append(v.Socket.Elsewhere, diagnosis.Listener{Addr: l.Bind(), Holders: held[l.Inode]})
		}
	}
}

// accepted counts the connections that whoever listens at an address has accepted.
func accepted(at probe.Address) func() int {
	return func() (n int) {
		all, err := socket.Listeners(at.Network)
		if err != nil {
			return 0
		}
		for _, l := range socket.Serving(all, at.Network, at.Addr) {
			n += l.Accepted
		}
		return n
	}
}

// madeBefore reports whether a command that the unit runs before its own names a directory: it may make it.
func (v *evidence) madeBefore(dir string) bool {
	return slices.ContainsFunc(v.files.Around, func(argv []string) bool { return strings.Contains(strings.Join(argv, " "), dir) })
}

// madeByUnit reports whether the files of any service have it make a directory of /run.
func madeByUnit(dir string) bool {
	for _, place := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"} {
		for _, pattern := range []string{"*.service", "*.service.d/*.conf"} {
			files, _ := untrusted.Glob(filepath.Join(place, pattern)) // the pattern is a good one
			for _, file := range files {
				for line := range strings.SplitSeq(head(file), "\n") {
					made, is := strings.CutPrefix(line, "RuntimeDirectory=")
					if is && slices.ContainsFunc(strings.Fields(made), func(d string) bool { return dir == d || strings.HasPrefix(dir, d+"/") }) {
						return true
					}
				}
			}
		}
	}
	return false
}

// inTmpfiles reports whether a configuration of tmpfiles.d(5) makes a directory.
func inTmpfiles(dir string) bool {
	const enough = 64 << 10 // bytes of one
	files, _ := untrusted.Glob("/etc/tmpfiles.d/*.conf")
	more, _ := untrusted.Glob("/usr/lib/tmpfiles.d/*.conf")
	for _, file := range append(files, more...) {
		text, _, err := untrusted.ReadFile(file, enough, nil)
		if err == nil && slices.Contains(strings.Fields(string(text)), dir) {
			return true
		}
	}
	return false
}
