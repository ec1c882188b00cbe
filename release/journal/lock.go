package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
	"deploygate/release"
)

// Holder says who holds the lock.
type Holder struct {
	PID     int             `json:"pid"`
	User    string          `json:"user"`
	Command string          `json:"command"`
	Version release.Version `json:"version,omitempty"`
	Since   time.Time       `json:"since"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "another deploygate"
	}
	what := h.Command
	if h.Version != "" {
		what += " " + string(h.Version)
	}
	return fmt.Sprintf("%s (pid %d, %s, since %s)", what, h.PID, h.User, h.Since.Format(time.RFC3339))
}

// LockedError says that another deploy of the app is running.
type LockedError struct{ Holder Holder }

func (e *LockedError) Error() string {
	return "another deploy of this app is running: " + e.Holder.String()
}

// Lock is held until Unlock, or until its process ends.
type Lock struct{ file *os.File }

// Acquire takes the lock in dir, waiting at most wait for it. The error is a *LockedError where someone else holds
// it.
func Acquire(ctx context.Context, dir string, h Holder, wait time.Duration) (*Lock, error) {
	f, err := openLock(dir)
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, wait); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{holder(f)}
		}
		return nil, fmt.Errorf("cannot lock %s: %w", f.Name(), err)
	}
	return held(f, h), nil
}

// Await waits for the lock in dir for as long as it takes, without asking again and again: the kernel hands it over the
// moment its holder dies. ready is called just before the wait.
func Await(dir string, h Holder, ready func() error) (*Lock, error) {
	f, err := openLock(dir)
	if err != nil {
		return nil, err
	}
	if err = ready(); err == nil {
		err = unix.EINTR
	}
	for errors.Is(err, unix.EINTR) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot wait for the lock %s: %w", f.Name(), err)
	}
	return held(f, h), nil
}

func openLock(dir string) (*os.File, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock %s: %w", name, untrusted.Cause(err))
	}
	return f, nil
}

// held notes who holds the lock. That is for people to read; the lock itself is the kernel's.
func held(f *os.File, h Holder) *Lock {
	if text, err := json.Marshal(h); err == nil && f.Truncate(0) == nil {
		_, _ = f.WriteAt(append(text, '\n'), 0)
	}
	return &Lock{f}
}

// probeTime is longer than Running holds the lock to see whether it is free.
const probeTime = 50 * time.Millisecond

// flock asks again and again while it may wait: flock(2) itself can't be given a time limit.
func flock(ctx context.Context, f *os.File, wait time.Duration) error {
	limit := time.NewTimer(max(wait, probeTime))
	defer limit.Stop()
	tick := time.NewTicker(probeTime / 5)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return err
		case <-tick.C:
		}
	}
}

// holder reads who holds the lock; nobody is known if they have not written it yet.
func holder(f *os.File) (h Holder) {
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil || json.Unmarshal(text, &h) != nil {
		return Holder{}
	}
	return h
}

// Running tells who holds the lock in dir, if anybody does. It changes nothing.
func Running(dir string) (h Holder, running bool) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return Holder{}, false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return Holder{}, false // closing frees it
	}
	return holder(f), true
}

// Unlock frees the lock. The holder's words are taken away first, so that nobody reads of a deploy that is over.
func (l *Lock) Unlock() error {
	_ = l.file.Truncate(0)
	return l.file.Close()
}
