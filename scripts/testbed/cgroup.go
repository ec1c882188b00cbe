package testbed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupPrefix = "deploygate-testbed-"

var cgroups atomic.Int64

// cgroupMount returns where the host has cgroup2 mounted: at the usual place,
// or beside the version 1 hierarchies.
func cgroupMount() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && int64(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted below /sys/fs/cgroup")
}

// newCgroup makes an empty control group for one machine. Left to itself,
// systemd-nspawn puts every machine into the same one, where the systemds
// inside would see each other's units as theirs.
func newCgroup() (string, error) {
	mount, err := cgroupMount()
	if err != nil {
		return "", err
	}
	sweepCgroups(mount)
	dir := filepath.Join(mount, fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), cgroups.Add(1)))
	return dir, os.Mkdir(dir, 0o755)
}

// sweepCgroups removes the control groups of processes that died without
// closing their machines. It is no failure if one can't be: the next may.
func sweepCgroups(mount string) {
	dirs, _ := filepath.Glob(filepath.Join(mount, cgroupPrefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), cgroupPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = removeTree(dir)
		}
	}
}

// removeCgroup kills what is left in the group and removes it, which the
// kernel allows only once the last process in it is dead.
func removeCgroup(ctx context.Context, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err != nil {
		return err
	}
	var last error
	err := poll(ctx, 10*time.Millisecond, func() (bool, error) {
		last = removeTree(dir)
		return last == nil, nil
	})
	if err != nil {
		return last
	}
	return nil
}

// removeTree removes the control group dir and those below it. [os.RemoveAll]
// can't: it would try to unlink the files of a control group.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
