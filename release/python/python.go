// Package python starts a Python that parses what a release holds, for programs of this project that read Python's syntax
// and execute none of it.
//
// Guaranteed: it is one that only root can have put there; it runs as nobody if we are root, in the root
// directory, without environment, site packages or anything else that a release could put in its way.
//
// Not guaranteed: that the program ends, or answers little. Its caller bounds both.
package python

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"

	"deploygate/gate/program"
)

const (
	// drain is how long a Python that is told to end may take.
	drain = 5 * time.Second

	nobody = 65534
)

// Find looks where only root may put a python3; "" is none.
func Find() string { return program.Find("python3") }

// Command is a Python that will run a program, until ctx ends.
func Command(ctx context.Context, python, text string) *exec.Cmd {
	cmd := program.Command(ctx, python, "-I", "-S", "-B", "-W", "ignore", "-c", text)
	cmd.Env = []string{}
	cmd.WaitDelay = drain
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return cmd
}
