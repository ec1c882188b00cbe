package socket

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Holder is a process that has a listener open.
type Holder struct {
	PID  int
	Name string // the process's comm, which it may set itself to any 15 bytes
	Unit string // its systemd unit, of /proc/PID/cgroup; "" is unknown
}

// Holders finds the processes that have sockets with these inodes open, in the order of their PIDs, by what the links
// in /proc/PID/fd read as (proc_pid_fd(5)). One that has none is not in the map.
//
// Looking into another user's process takes root (ptrace(2), PTRACE_MODE_READ). If any process could not be looked at,
// the error satisfies errors.Is(err, fs.ErrPermission), and the map has what was seen: a missing holder proves nothing
// then.
func Holders(inodes ...uint64) (map[uint64][]Holder, error) {
	held := map[uint64][]Holder{}
	if len(inodes) == 0 {
		return held, nil
	}
	wanted := map[string]uint64{}
	for _, inode := range inodes {
		wanted[fmt.Sprintf("socket:[%d]", inode)] = inode
	}
	unseen := 0
	err := eachName("/proc", func(name string) error {
		pid, err := strconv.Atoi(name)
		if err != nil {
			return nil
		}
		found, err := sockets(pid, wanted)
		for _, inode := range found {
			held[inode] = append(held[inode], describe(pid))
		}
		if errors.Is(err, fs.ErrPermission) {
			unseen++
			return nil
		}
		return err
	})
	for _, holders := range held {
		slices.SortFunc(holders, func(a, b Holder) int { return cmp.Compare(a.PID, b.PID) })
	}
	switch {
	case err != nil:
		return held, fmt.Errorf("cannot tell who holds a socket: %w", err)
	case unseen > 0:
		return held, fmt.Errorf("cannot look into %d processes for their sockets: %w", unseen, fs.ErrPermission)
	case hidden():
		return held, fmt.Errorf("cannot see the processes of other users: %w", fs.ErrPermission)
	}
	return held, nil
}

// HoldersOf finds the processes that hold listeners, by their inodes. See Holders.
func HoldersOf(all []Listener) (map[uint64][]Holder, error) {
	var inodes []uint64
	for _, l := range all {
		inodes = append(inodes, l.Inode)
	}
	return Holders(inodes...)
}

// hidden tells that /proc is mounted with hidepid=2 and hides other users' processes (proc(5)): process 1 always
// exists.
func hidden() bool {
	_, err := os.Lstat("/proc/1")
	return err != nil
}

// sockets finds which of the wanted sockets a process has open, each once. A process that ends meanwhile has none.
func sockets(pid int, wanted map[string]uint64) ([]uint64, error) {
	var found []uint64
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	err := eachName(dir, func(name string) error {
		target, err := os.Readlink(path.Join(dir, name))
		if inode, ok := wanted[target]; ok && !slices.Contains(found, inode) {
			found = append(found, inode)
		}
		if errors.Is(gone(err), fs.ErrNotExist) { // that one was closed
			return nil
		}
		return err
	})
	if errors.Is(gone(err), fs.ErrNotExist) {
		err = nil
	}
	return found, err
}

// eachName lists a directory in pieces: a process may have a million files open.
func eachName(dir string, see func(name string) error) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(256)
		for _, name := range names {
			if err := see(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// describe names a process. What cannot be read, as of one that has ended since, stays empty.
func describe(pid int) Holder {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return Holder{pid, strings.TrimSuffix(string(comm), "\n"), unitOf(string(cgroup))}
}

// unitOf finds the system unit in /proc/PID/cgroup (cgroups(7)): in cgroup v2's line or in that of systemd's own v1
// hierarchy, the first element below the slices, as systemd does itself (cg_path_get_unit).
func unitOf(cgroup string) string {
	for line := range strings.Lines(cgroup) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) < 3 || parts[1] != "name=systemd" && (parts[0] != "0" || parts[1] != "") {
			continue
		}
		if unit := unitIn(parts[2]); unit != "" {
			return unit
		}
	}
	return ""
}

func unitIn(cgroup string) string {
	for name := range strings.SplitSeq(strings.Trim(cgroup, "/"), "/") {
		name = strings.TrimPrefix(name, "_") // systemd puts it before names that the kernel could mistake
		switch kind := path.Ext(name); {
		case name == kind:
			return ""
		case kind == ".slice":
		case kind == ".service", kind == ".scope", kind == ".socket", kind == ".mount", kind == ".swap":
			return name
		default:
			return ""
		}
	}
	return ""
}
