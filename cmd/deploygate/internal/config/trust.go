package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/deploy"
)

// trusted sees that nobody but root can change what root is told to do: the configuration names the commands that run, and
// the state says which release is gone back to. It is an error where someone can.
func trusted(what, file string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	path, err := filepath.Abs(file)
	if err == nil {
		err = onlyRoots(path)
	}
	if err != nil {
		return fmt.Errorf("%s %s is not used: %w", what, file, err)
	}
	return nil
}

// runsAnother matches a program that runs the one that its first argument names.
var runsAnother = regexp.MustCompile(`^(|ba|da|k|z)sh$|^(python|perl|ruby|node|php)[0-9.]*$`)

// trustedTasks sees that only root can change what hooks and checks run as root. What lies in a release is as trusted as those
// who upload releases, and isn't asked about.
func (c *Config) trustedTasks() error {
	if os.Geteuid() != 0 {
		return nil
	}
	ask := func(what string, t deploy.Task) error {
		if who, err := socket.OfUser(t.User); t.User == "" || err != nil || who.UID != 0 {
			return nil
		}
		programs := t.Run[:1]
		if len(t.Run) > 1 && runsAnother.MatchString(filepath.Base(t.Run[0])) {
			programs = t.Run[:2]
		}
		for _, file := range programs {
			if !filepath.IsAbs(file) || strings.HasPrefix(filepath.Clean(file), filepath.Clean(c.Root)+"/") {
				continue
			}
			if err := trusted(what+"'s program", file); err != nil {
				return err
			}
		}
		return nil
	}
	for _, hook := range hookNames {
		for _, t := range c.Hooks[hook] {
			if err := ask("the "+string(hook)+" hook", t); err != nil {
				return err
			}
		}
	}
	for _, check := range c.Checks {
		if err := ask("the check "+check.Name, check.Task); err != nil {
			return err
		}
	}
	return nil
}

// othersError is a file that others than root can write, and how that is put right.
type othersError struct {
	path        string
	owner, mode string
	remedy      string
}

func (e *othersError) Error() string {
	return fmt.Sprintf("%s (owner %s, mode %s) can be changed by others than root, who could have root run what they like: %s", e.path, e.owner, e.mode, e.remedy)
}

// onlyRoots says what on the way to a path others than root can change, from the root directory on, through every symlink. What
// doesn't exist is root's to make.
func onlyRoots(path string) error {
	const maxLinks = 40
	at := "/"
	rest := strings.Split(path, "/")
	shared := "" // at, where others may make what isn't there yet
	for links := 0; ; {
		info, err := untrusted.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && shared != "":
			return fmt.Errorf("anyone can create %s: create it as root, or name another", at)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if err := changeable(at, info); err != nil {
				return err
			}
			to, err := untrusted.Readlink(at)
			if links++; err != nil || links > maxLinks {
				return fmt.Errorf("cannot follow %s: %w", at, unix.ELOOP)
			}
			if at = filepath.Dir(at); filepath.IsAbs(to) {
				at = "/"
			}
			rest = append(strings.Split(to, "/"), rest...)
			shared = ""
		} else {
			if shared, err = "", changeable(at, info); err != nil {
				if !info.IsDir() || info.Mode()&fs.ModeSticky == 0 || ownerOf(info) != 0 {
					return err
				}
				shared = at // where nobody can take away or rename what is root's
			}
			if shared != "" && len(rest) == 0 {
				return err
			}
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return nil
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

func ownerOf(info fs.FileInfo) uint32 {
	if st, is := info.Sys().(*syscall.Stat_t); is {
		return st.Uid
	}
	return ^uint32(0)
}

// changeable says how others than root can write a file, or make and rename files in a directory.
func changeable(path string, info fs.FileInfo) error {
	const groupWrites, othersWrite = 0o020, 0o002
	st, is := info.Sys().(*syscall.Stat_t)
	if !is {
		return fmt.Errorf("the owner of %s is not known", path)
	}
	mode := info.Mode().Perm()
	link := info.Mode()&fs.ModeSymlink != 0 // its mode says nothing
	var remedies []string
	if st.Uid != 0 {
		remedies = append(remedies, "chown -h root "+path)
	}
	// With an ACL the group's bits are its mask: someone whom it names may have them (acl(5)).
	named, _ := unix.Lgetxattr(path, "system.posix_acl_access", nil)
	if !link && mode&groupWrites != 0 && (st.Gid != 0 || named > 0) {
		remedies = append(remedies, "chmod g-w "+path)
	}
	if !link && mode&othersWrite != 0 {
		remedies = append(remedies, "chmod o-w "+path)
	}
	if len(remedies) == 0 {
		return nil
	}
	return &othersError{path, fmt.Sprintf("%s:%s", userNamed(st.Uid), groupNamed(st.Gid)), fmt.Sprintf("%04o", mode), strings.Join(remedies, " && ")}
}

func userNamed(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupNamed(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}
