package untrusted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is whose rights to files count: what the kernel checks access with.
type User struct {
	UID, GID int
	Groups   []int // supplementary
}

// maxLinks is how many symlinks the kernel follows on one way (path_resolution(7)).
const maxLinks = 40

func open(file string, as *User) (*os.File, error) {
	if os.Geteuid() != 0 || as != nil && as.UID == 0 {
		return openRegular(file)
	}
	if as == nil {
		fd, owner, err := walk(file)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: file, Err: err}
		}
		if owner == 0 {
			return reopen(fd, file)
		}
		_ = unix.Close(fd)
		as = userOf(owner)
	}
	var f *os.File
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The kernel's own check, at the moment of opening: rights that are compared before can be changed in between. It is
		// made with what belongs to the thread; the thread is not given back, and ends with the goroutine.
		runtime.LockOSThread()
		if err = become(*as); err == nil {
			f, err = openRegular(file)
		}
	}()
	<-done
	return f, err
}

// become gives the calling thread a user's rights to files. A file system user that isn't root has none of the capabilities
// that root has for files (capabilities(7), "Effect of user ID changes on capabilities").
func become(u User) error {
	groups := make([]uint32, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = uint32(g) //nolint:gosec // a group id has 32 bits
	}
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0]) //nolint:gosec // the system call wants their address
	}
	// Package syscall's own would change every thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return fmt.Errorf("cannot take the groups of user %d: %w", u.UID, errno)
	}
	_, _ = unix.SetfsgidRetGid(u.GID)
	_, _ = unix.SetfsuidRetUid(u.UID)
	gid, _ := unix.SetfsgidRetGid(-1) // which changes nothing, and says what it is
	uid, _ := unix.SetfsuidRetUid(-1)
	if gid != u.GID || uid != u.UID {
		return fmt.Errorf("cannot take the rights of user %d", u.UID)
	}
	return nil
}

// userOf is a user with the groups of /etc/group; one who is not known has none.
func userOf(uid int) *User {
	const nogroup = 65534
	u := &User{UID: uid, GID: nogroup}
	known, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return u
	}
	if gid, err := strconv.Atoi(known.Gid); err == nil {
		u.GID = gid
	}
	ids, _ := known.GroupIds()
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			u.Groups = append(u.Groups, gid)
		}
	}
	return u
}

// openRegular looks what it is before it is opened to be read: to open a device may do something.
func openRegular(file string) (*os.File, error) {
	fd, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	return reopen(fd, file)
}

// reopen opens to read what is open as a path only, and closes that.
func reopen(fd int, file string) (*os.File, error) {
	defer func() { _ = unix.Close(fd) }()
	fail := func(err error) (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: file, Err: err} }
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fail(ErrNotRegular)
	}
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	readable, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags, 0)
	if err != nil {
		return fail(err)
	}
	return os.NewFile(uintptr(readable), file), nil
}

// walk goes to a file as the kernel does, and gives it open as a path, and the owner of the first symlink on the way that
// isn't root's; 0 if there is none. Nobody can exchange an element between the look at it and its use.
func walk(file string) (fd, owner int, err error) {
	if !path.IsAbs(file) {
		return -1, 0, errors.New("it is not an absolute path")
	}
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	root := func() (int, error) { return unix.Open("/", flags, 0) }
	at, err := root()
	if err != nil {
		return -1, 0, err
	}
	rest := strings.Split(file, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next, err := unix.Openat(at, name, flags, 0)
		if err != nil {
			_ = unix.Close(at)
			return -1, 0, err
		}
		var st unix.Stat_t
		if err = unix.Fstat(next, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
			_ = unix.Close(at)
			at = next
			continue
		}
		to := make([]byte, unix.PathMax)
		n := 0
		if err == nil {
			n, err = unix.Readlinkat(next, "", to)
		}
		_ = unix.Close(next)
		if links++; links > maxLinks {
			err = unix.ELOOP
		}
		if target := string(to[:n]); err == nil {
			if owner == 0 {
				owner = int(st.Uid)
			}
			if path.IsAbs(target) {
				_ = unix.Close(at)
				if at, err = root(); err != nil {
					return -1, 0, err
				}
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		}
		_ = unix.Close(at)
		return -1, 0, err
	}
	return at, owner, nil
}
