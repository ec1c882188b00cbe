// Package program starts the host's own programs: nginx, journalctl, Python.
//
// Guaranteed: a program is found where the host keeps its own, whatever PATH the caller has, and as root only if nobody else
// can have written it; nothing of the caller's environment reaches it; Run comes back soon after its context's end, though
// the program may hang in a file system that doesn't answer.
package program

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// waitDelay is how long a process that a program left behind may hold its output open.
const waitDelay = time.Second

// leave is how long a program that was killed may take to end.
const leave = 3 * time.Second

// Find returns a program's path, "" if there is none in the directories for the host's own ones and in some others.
func Find(name string, more ...string) string {
	for _, dir := range append(filepath.SplitList(path), more...) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && trusted(info) {
			return file
		}
	}
	return ""
}

// trusted reports whether only root, or who runs this, can have written a program.
func trusted(info fs.FileInfo) bool {
	const others = 0o002
	st, is := info.Sys().(*syscall.Stat_t)
	return is && (st.Uid == 0 || int(st.Uid) == os.Geteuid()) && (info.Mode()&others == 0)
}

// Command is a program that will run with an environment of its own, until ctx ends.
func Command(ctx context.Context, file string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Env = []string{"PATH=" + path, "LC_ALL=C.UTF-8"}
	cmd.Dir = "/"
	cmd.WaitDelay = waitDelay
	return cmd
}

// Run runs a command and waits for its end. One that doesn't end when it is killed is left behind.
func Run(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	return Wait(ctx, cmd)
}

// Wait is the second half of Run.
func Wait(ctx context.Context, cmd *exec.Cmd) error {
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(leave)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s does not end: %w", cmd.Path, context.Cause(ctx))
	}
}

// Head keeps the first bytes of an output, and drops the rest.
type Head struct {
	Limit int
	kept  []byte
}

func (h *Head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(max(h.Limit-len(h.kept), 0), len(p))]...)
	return len(p), nil
}

func (h *Head) String() string { return string(h.kept) }
