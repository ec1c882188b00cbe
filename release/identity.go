package release

import (
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// Identity tells a directory from another one that has, or had, the same name.
type Identity struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Born   int64  `json:"born,omitempty"` // nanoseconds since 1970; 0: its file system doesn't tell
	// Handle is what its file system tells where it doesn't tell Born (name_to_handle_at(2)), in hexadecimal.
	Handle string `json:"handle,omitempty"`
}

// Is reports whether two identities are of one directory, and whether that can be told. Numbers of devices change as a host
// boots, and numbers of inodes are given again: a time of birth, or a handle, never is.
func (a Identity) Is(b Identity) (same, known bool) {
	if a.Inode == 0 || b.Inode == 0 {
		return false, false
	}
	if a.Inode != b.Inode {
		return false, true
	}
	if a.Born != 0 && b.Born != 0 {
		return a.Born == b.Born, true
	}
	return a.Handle == b.Handle, a.Handle != "" && b.Handle != ""
}

// identify asks the kernel, of what is open or of a name below it. No link is followed.
func identify(fd int, name string) (Identity, error) {
	var s unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Statx(fd, name, flags, unix.STATX_INO|unix.STATX_TYPE|unix.STATX_BTIME, &s); err != nil {
		return Identity{}, err
	}
	if s.Mode&unix.S_IFMT != unix.S_IFDIR {
		return Identity{}, unix.ENOTDIR
	}
	id := Identity{Device: unix.Mkdev(s.Dev_major, s.Dev_minor), Inode: s.Ino}
	if s.Mask&unix.STATX_BTIME != 0 {
		id.Born = s.Btime.Sec*1e9 + int64(s.Btime.Nsec)
		return id, nil
	}
	if handle, _, err := unix.NameToHandleAt(fd, name, flags&unix.AT_EMPTY_PATH); err == nil { // it follows no link unless told to
		id.Handle = hex.EncodeToString(handle.Bytes())
	}
	return id, nil
}

// Identify returns the identity of version's directory.
func (t *Tree) Identify(v Version) (Identity, error) {
	d, err := t.openReleases()
	if err != nil {
		return Identity{}, fmt.Errorf("cannot look at release %s: %w", v, untrusted.Cause(err))
	}
	defer d.Close()
	id, err := identify(int(d.Fd()), string(v))
	if err != nil {
		return Identity{}, fmt.Errorf("cannot look at release %s: %w", v, err)
	}
	return id, nil
}

// changedLimit bounds how many entries of a release ChangedAfter looks at.
const changedLimit = 20_000

// ChangedAfter returns a file of version's that was changed after a time, as far as its upper levels tell; "" if there is none.
// What Python compiles on its way counts for nothing.
func (t *Tree) ChangedAfter(v Version, after time.Time) string {
	left := changedLimit
	for queue := []string{""}; len(queue) > 0 && left > 0; queue = queue[1:] {
		dir, err := t.dir.OpenFile(path.Join(releasesName, string(v), queue[0]), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		entries, _ := dir.ReadDir(left)
		left -= len(entries)
		for _, e := range entries {
			name := path.Join(queue[0], e.Name())
			if e.IsDir() && e.Name() != "__pycache__" {
				queue = append(queue, name)
			}
			if !e.IsDir() && changed(int(dir.Fd()), e.Name()).After(after) {
				dir.Close()
				return name
			}
		}
		dir.Close()
	}
	return ""
}

// changed is when a file was changed, or put there. Another link to it, in a release uploaded beside this one, sets that time
// too, so that then only the time of its contents tells.
func changed(dir int, name string) time.Time {
	var s unix.Stat_t
	switch err := unix.Fstatat(dir, name, &s, unix.AT_SYMLINK_NOFOLLOW); {
	case err != nil:
		return time.Time{}
	case s.Nlink > 1:
		return time.Unix(s.Mtim.Unix())
	default:
		return time.Unix(s.Ctim.Unix())
	}
}
