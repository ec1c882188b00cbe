// Package socket says what a unix socket or a port looks like to whoever connects to it: the way to a path with the
// rights of another user, who listens where, and which process holds a listener.
//
// Guaranteed: nothing is opened but /proc, /etc/passwd and /etc/group; no socket is connected to, and nothing is
// written. Reach follows the kernel's own algorithm, POSIX ACLs and fs.protected_symlinks included, and is tested
// against it.
//
// Not guaranteed: what lies outside the permissions of the file system. Security modules (AppArmor, SELinux), NFSv4
// ACLs, other mount namespaces (PrivateTmp=, chroot) and capabilities other than root's are not seen. What is read is
// a moment's picture, and any local user can name a socket so that /proc/net/unix seems to have one row more (see
// Listeners): it is evidence for a diagnosis, never a ground for a right.
package socket

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// Identity is who connects: the user and groups that the kernel checks.
type Identity struct {
	Name   string // the user's name; the number where it has none
	UID    int
	GID    int
	Groups []int // supplementary groups; GID may be among them
}

// in reports whether one of the identity's groups is gid (in_group_p in the kernel).
func (i Identity) in(gid int) bool { return i.GID == gid || slices.Contains(i.Groups, gid) }

func (i Identity) String() string {
	if i.Name == "" {
		return "user " + strconv.Itoa(i.UID)
	}
	return i.Name
}

// maxStatus bounds what is read of /proc/PID/status. A process can be in 65,536 groups (NGROUPS_MAX), each of at most
// eleven characters, all on one line.
const maxStatus = 1 << 20

// OfProcess is the identity of a running process: the file system user and group, which are what access to files is
// checked with, and the supplementary groups (credentials(7), proc_pid_status(5)). The numbers are as this process's
// user namespace shows them.
//
// The error satisfies errors.Is(err, fs.ErrNotExist) if there is no such process.
func OfProcess(pid int) (Identity, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Identity{}, fmt.Errorf("cannot tell who process %d is: %w", pid, err)
	}
	defer f.Close()
	status, err := io.ReadAll(io.LimitReader(f, maxStatus))
	if len(status) == 0 && err == nil {
		err = fs.ErrNotExist
	}
	if err != nil { // it may have ended since (ESRCH)
		return Identity{}, fmt.Errorf("cannot tell who process %d is: %w", pid, gone(err))
	}
	id, err := parseStatus(string(status))
	if err != nil {
		return Identity{}, fmt.Errorf("cannot tell who process %d is: %w", pid, err)
	}
	id.Name = userName(id.UID)
	return id, nil
}

// parseStatus reads the lines Uid, Gid (real, effective, saved, file system) and Groups.
func parseStatus(status string) (Identity, error) {
	id := Identity{UID: -1, GID: -1}
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		if key != "Uid" && key != "Gid" && key != "Groups" {
			continue
		}
		ids, err := numbers(strings.Fields(value))
		switch {
		case err != nil:
			return Identity{}, fmt.Errorf("its status line %q is not understood", strings.TrimSpace(line))
		case key == "Groups":
			id.Groups = ids
		case len(ids) != 4:
			return Identity{}, fmt.Errorf("its status line %q is not understood", strings.TrimSpace(line))
		case key == "Uid":
			id.UID = ids[3]
		default:
			id.GID = ids[3]
		}
	}
	if id.UID < 0 || id.GID < 0 {
		return Identity{}, fmt.Errorf("its status has no Uid or no Gid")
	}
	return id, nil
}

// OfUser is the identity of a user with the primary and supplementary groups of /etc/passwd and /etc/group: what a
// service with User= gets, without its SupplementaryGroups= or a Group= of its own.
//
// A user whom only NSS knows (LDAP, DynamicUser=) is a user.UnknownUserError where cgo is off: ask OfProcess instead.
func OfUser(name string) (Identity, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return Identity{}, fmt.Errorf("cannot tell who %s is: %w", name, err)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return Identity{}, fmt.Errorf("cannot tell the groups of %s: %w", name, err)
	}
	ids, err := numbers(append([]string{u.Uid, u.Gid}, groups...))
	if err != nil {
		return Identity{}, fmt.Errorf("cannot tell who %s is: %w", name, err)
	}
	return Identity{Name: name, UID: ids[0], GID: ids[1], Groups: ids[2:]}, nil
}

// numbers understands user and group ids, which are 32 bits wide.
func numbers(words []string) ([]int, error) {
	var ids []int
	for _, word := range words {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, int(n))
	}
	return ids, nil
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return g.Name
	}
	return strconv.Itoa(gid)
}
