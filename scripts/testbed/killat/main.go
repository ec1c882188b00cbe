//go:build linux && amd64

// Command killat runs a program and kills it at the entry of its Nth change of the host: a system call that changes a
// file or its durability, or a message to systemd that changes a unit. The call itself is not carried out.
//
//	killat [-hold] [-skip CALL,…] N PROGRAM [ARGUMENT …]
//
// N = 0 kills nothing. Each change is printed on standard error as "change N: CALL WHAT", so that a run with 0 lists
// them all. With -hold the program is not killed but kept from going on, for ever, once "holding" is printed: its
// machine is about to lose its power. The calls of -skip, out of fsync, fdatasync and syncfs, are not carried out, and seem to
// succeed: what a test must notice.
//
// It is a ptrace(2) tracer, since strace counts calls for each thread by itself, and Go moves between threads.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	var o options
	flag.BoolVar(&o.hold, "hold", false, "keep the program from going on instead of killing it")
	skip := flag.String("skip", "", "system calls that seem to succeed and are not carried out")
	flag.Parse()
	for name := range strings.SplitSeq(*skip, ",") {
		if call, known := syncs[name]; known {
			o.skip = append(o.skip, call)
		}
	}
	n, err := strconv.Atoi(flag.Arg(0))
	if err != nil || flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: killat [-hold] [-skip CALL,…] N PROGRAM [ARGUMENT …]")
		os.Exit(2)
	}
	code, err := run(n, o, flag.Args()[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "killat:", err)
		os.Exit(2)
	}
	os.Exit(code)
}

type options struct {
	hold bool
	skip []uint64 // numbers of system calls
}

var syncs = map[string]uint64{"fsync": unix.SYS_FSYNC, "fdatasync": unix.SYS_FDATASYNC, "syncfs": unix.SYS_SYNCFS}

// killed is the exit code for a program that was killed.
const killed = 137

func run(n int, o options, argv []string) (code int, err error) {
	runtime.LockOSThread()                    // ptrace is bound to the thread
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // it is waited for, or killed
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	main := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(main, &status, 0, nil); err != nil {
		return 0, err
	}
	wanted := unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(main, wanted); err != nil {
		return 0, err
	}
	if err := unix.PtraceSyscall(main, 0); err != nil {
		return 0, err
	}
	t := tracer{inside: map[int]bool{}, left: map[int]bool{}}
	for {
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case tid == main && status.Exited():
			return status.ExitStatus(), nil
		case tid == main && status.Signaled():
			return killed, nil
		case !status.Stopped():
			continue
		}
		signal := 0
		switch stop := status.StopSignal(); stop {
		case unix.SIGTRAP | 0x80: // a system call, with PTRACE_O_TRACESYSGOOD
			if t.inside[tid] = !t.inside[tid]; t.inside[tid] && t.changes(main, tid) && t.count == n {
				if o.hold {
					// Its other threads stop at their next system call, as nobody lets them go on.
					fmt.Fprintln(os.Stderr, "holding")
					_ = unix.Pause()
				}
				_ = unix.Kill(main, unix.SIGKILL)
			}
			if len(o.skip) > 0 {
				t.leaveOut(tid, o.skip)
			}
		case unix.SIGTRAP, unix.SIGSTOP: // clone, a new thread's first stop
		default:
			signal = int(stop)
		}
		_ = unix.PtraceSyscall(tid, signal) // it may be dead by now
	}
}

type tracer struct {
	inside map[int]bool // between the entry of a system call and its exit, by thread
	left   map[int]bool // inside of a system call that is left out, by thread
	count  int
}

// leaveOut has a thread that is about to make one of the calls do nothing instead, and find that it succeeded.
func (t *tracer) leaveOut(tid int, calls []uint64) {
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &regs) != nil {
		return // it was killed meanwhile
	}
	switch {
	case t.inside[tid] && slices.Contains(calls, regs.Orig_rax):
		t.left[tid] = true
		regs.Orig_rax = ^uint64(0) // no system call
	case !t.inside[tid] && t.left[tid]:
		t.left[tid] = false
		regs.Rax = 0
	default:
		return
	}
	if err := unix.PtraceSetRegs(tid, &regs); err != nil {
		fmt.Fprintln(os.Stderr, "killat: cannot leave out a system call:", err)
	}
}

// changes reports whether the thread is about to change the host, counts it and says so.
func (t *tracer) changes(pid, tid int) bool {
	var regs unix.PtraceRegs
	if unix.PtraceGetRegs(tid, &regs) != nil {
		return false
	}
	what, is := change(pid, tid, &regs)
	if is {
		t.count++
		fmt.Fprintf(os.Stderr, "change %d: %s\n", t.count, what)
	}
	return is
}

// systemdCalls are the messages that change something.
var systemdCalls = []string{"RestartUnit", "StartTransientUnit", "ResetFailedUnit", "StopUnit", "Inhibit"}

// change names a system call that changes the host. The registers are those of x86-64's calling convention.
func change(pid, tid int, r *unix.PtraceRegs) (what string, is bool) {
	fd := func(n uint64) string {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, n&0xffffffff))
		if err != nil {
			return fmt.Sprint("descriptor ", n)
		}
		return name
	}
	switch r.Orig_rax {
	case unix.SYS_SYMLINKAT:
		return "symlinkat " + text(tid, r.Rdx), true
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return "renameat " + text(tid, r.Rsi) + " to " + text(tid, r.R10), true
	case unix.SYS_UNLINKAT:
		return "unlinkat " + text(tid, r.Rsi), true
	case unix.SYS_MKDIRAT:
		return "mkdirat " + text(tid, r.Rsi), true
	case unix.SYS_OPENAT:
		return "openat " + text(tid, r.Rsi) + " to create it", r.Rdx&unix.O_CREAT != 0
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		return "fsync " + fd(r.Rdi), true
	case unix.SYS_SYNCFS:
		return "syncfs " + fd(r.Rdi), true
	case unix.SYS_FTRUNCATE:
		return "ftruncate " + fd(r.Rdi), true
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		file := fd(r.Rdi)
		switch {
		case strings.HasPrefix(file, "/dev/"), strings.HasPrefix(file, "pipe:"), strings.HasPrefix(file, "anon_inode:"):
			return "", false
		case strings.HasPrefix(file, "socket:"):
			return message(memory(tid, r.Rsi, r.Rdx))
		}
		return "write " + file, true
	case unix.SYS_SENDMSG:
		// struct msghdr: name, namelen, iov, …; struct iovec: base, len. The first part is enough.
		iov := word(memory(tid, r.Rsi+16, 8))
		part := memory(tid, iov, 16)
		if len(part) == 16 {
			return message(memory(tid, word(part), word(part[8:])))
		}
	}
	return "", false
}

// message names a D-Bus message that changes something.
func message(b []byte) (string, bool) {
	for _, call := range systemdCalls {
		if bytes.Contains(b, []byte(call+"\x00")) {
			return call, true
		}
	}
	return "", false
}

// memory reads a little of the traced program's.
func memory(tid int, at, n uint64) []byte {
	b := make([]byte, min(n, 4096))
	got, err := unix.PtracePeekData(tid, uintptr(at), b)
	if err != nil {
		return nil
	}
	return b[:got]
}

// text reads a C string, or as much of it as lies on its page.
func text(tid int, at uint64) string {
	b := memory(tid, at, 256)
	if b == nil {
		b = memory(tid, at, 4096-at%4096)
	}
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func word(b []byte) uint64 {
	var w uint64
	for _, v := range slices.Backward(b) {
		w = w<<8 | uint64(v)
	}
	return w
}
