package unit

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// hasten kills the processes that the unit has now, as soon as it is being stopped, until done is called. It is their pidfds
// that are signalled, so that none is hit that was started since. Earlier they must not be killed: systemd would start again
// by itself what just dies, and count that as a crash.
func (u Unit) hasten(ctx context.Context) (done func()) {
	pids, err := u.Members(ctx)
	if err != nil {
		return func() {} // it takes as long as systemd allows
	}
	var processes []int
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			processes = append(processes, fd)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			for _, fd := range processes {
				_ = unix.Close(fd)
			}
		}()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if p, err := u.properties(ctx); err == nil && get[string](p, "ActiveState") == "deactivating" {
				for _, fd := range processes {
					_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may have ended
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}
