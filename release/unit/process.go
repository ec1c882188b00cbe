package unit

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Ended returns a channel that is closed when a process has ended, or when ctx has. It is nil on a kernel that doesn't tell
// (pidfd_open(2) with PIDFD_NONBLOCK: Linux 5.10).
func Ended(ctx context.Context, pid int) <-chan struct{} {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err == unix.ESRCH { //nolint:errorlint // an errno as it is
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	if err != nil {
		return nil
	}
	process := os.NewFile(uintptr(fd), "pidfd")
	raw, err := process.SyscallConn()
	if err != nil {
		process.Close()
		return nil
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer process.Close()
		defer context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Unix(1, 0)) })()
		_ = raw.Read(func(fd uintptr) bool { // it is readable once the process has ended
			polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a file descriptor is small
			n, err := unix.Poll(polled, 0)
			return n > 0 || err != nil && err != unix.EINTR
		})
	}()
	return ended
}
