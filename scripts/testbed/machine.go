package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how a machine differs from the plain one.
type Options struct {
	Name string   // the machine's host name; "web1" if empty
	Bind []string // "HOST:GUEST": files or directories of this host, to be seen read-only in the machine
	// Disk keeps what the machine writes. With none, everything is forgotten on
	// Close.
	Disk *Disk
	// Packages are Debian packages to have beyond the usual ones: its root is
	// built with them.
	Packages []string
	Log      io.Writer // gets the progress of building a root, and the console; may be nil
}

// Machine is a booted Debian host. Its methods may be called concurrently.
type Machine struct {
	Suite string

	cmd      *exec.Cmd
	done     chan struct{} // closed when every process of the machine is gone
	console  *console
	cgroup   string
	commands *os.File // the control group that commands run in
	network  *os.File // the network namespace
	leader   int
	files    *os.Root
	client   *http.Client
	disk     *Disk // nil if there is none
	close    func() error
}

// bootScript starts systemd-nspawn as PID 1 of a process id namespace, with
// mounts of its own: killing it kills everything in the machine, which killing
// systemd-nspawn elsewhere doesn't, and no mount or file of it is seen outside.
// It is given a plain cgroup2 hierarchy that begins at the machine's group,
// whatever the host's look like.
const bootScript = `
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
eval "$TESTBED_MOUNTS"
exec systemd-nspawn "$@"`

// bootTimeout is generous: a machine is up within 3 s on an idle host.
const bootTimeout = 2 * time.Minute

// Boot starts a fresh machine of suite and returns once it has booted and all
// its units run. ctx is for booting alone: the machine then lives until Close,
// or until this process dies.
func Boot(ctx context.Context, suite string, opts Options) (_ *Machine, err error) {
	root, err := Root(ctx, suite, opts.Log, opts.Packages...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot boot a machine of %s: %w", suite, err)
		}
	}()
	cgroup, err := newCgroup()
	if err != nil {
		return nil, err
	}
	m := &Machine{
		Suite:   suite,
		done:    make(chan struct{}),
		console: &console{log: opts.Log},
		cgroup:  cgroup,
		disk:    opts.Disk,
	}
	m.close = sync.OnceValue(m.shutdown)
	m.client = m.newClient()
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()

	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	// An abstract socket leaves no file, and its name is unique with the group's.
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + filepath.Base(cgroup), Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	if err := m.start(root, opts, notify.LocalAddr().String()); err != nil {
		return nil, err
	}
	if err := m.awaitReady(ctx, notify); err != nil {
		return nil, fmt.Errorf("%w; its console ends:\n%s", err, lastLines(m.console.String(), 10))
	}
	if err := m.enter(); err != nil {
		return nil, err
	}
	return m, m.checkRunning(ctx)
}

// start runs systemd-nspawn, which reports to the socket notify.
func (m *Machine) start(root string, opts Options, notify string) error {
	name := opts.Name
	if name == "" {
		name = "web1"
	}
	args := []string{
		"--pid", "--mount", "--cgroup", "--fork", "--kill-child", "--mount-proc", "--",
		"sh", "-ec", bootScript, "sh",
		"--quiet", "--boot", "--machine=" + name,
		"--private-network", "--register=no", "--keep-unit", "--link-journal=no",
		"--console=pipe", "--notify-ready=yes",
	}
	mounts := ""
	if opts.Disk == nil {
		args = append(args, "--directory="+root, "--volatile=overlay")
	} else {
		args = append(append(args, "--directory="+opts.Disk.root()), opts.Disk.binds()...)
		mounts = opts.Disk.mounts(root)
	}
	for _, bind := range opts.Bind {
		args = append(args, "--bind-ro="+bind)
	}
	group, err := os.Open(m.cgroup)
	if err != nil {
		return err
	}
	defer group.Close()

	m.cmd = exec.Command("unshare", args...) //nolint:noctx // it outlives the context of booting; Close ends it
	m.cmd.Env = append(os.Environ(),
		"NOTIFY_SOCKET="+notify,
		"SYSTEMD_NSPAWN_LOCK=0", // machines may share a root: none writes to it
		"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
		"TESTBED_MOUNTS="+mounts,
	)
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.console
	m.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:      true, // Ctrl-C is for the caller, who then closes the machine
		Pdeathsig:   unix.SIGKILL,
		UseCgroupFD: true,
		CgroupFD:    int(group.Fd()),
	}
	if err := start(m.cmd); err != nil {
		m.cmd = nil
		return err
	}
	go func() {
		_ = m.cmd.Wait() // it is killed in the end, always
		close(m.done)
	}()
	return nil
}

// start starts a command that has a Pdeathsig. That strikes when the OS thread
// that forked ends, and Go ends threads as it likes: this thread lives as long
// as the process.
func start(cmd *exec.Cmd) error {
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

var starter = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// awaitReady waits for the machine's systemd to say that it has booted.
func (m *Machine) awaitReady(ctx context.Context, notify *net.UnixConn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-m.done:
			cancel(errors.New("systemd-nspawn exited"))
		case <-ctx.Done():
		}
	}()
	defer context.AfterFunc(ctx, func() { _ = notify.SetReadDeadline(time.Unix(1, 0)) })()

	message := make([]byte, 4096)
	for {
		n, err := notify.Read(message)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(message[:n])) {
			if strings.TrimSpace(line) == "READY=1" {
				return nil
			}
		}
	}
}

// enter finds the machine's PID 1 and opens what is needed to reach into it.
func (m *Machine) enter() error {
	nspawn, err := child(m.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if m.leader, err = initBelow(nspawn); err != nil {
		return err
	}
	if m.files, err = os.OpenRoot(m.Path("/")); err != nil {
		return err
	}
	commands := filepath.Join(m.cgroup, "payload", "testbed")
	if err := os.Mkdir(commands, 0o755); err != nil {
		return err
	}
	if m.commands, err = os.Open(commands); err != nil {
		return err
	}
	m.network, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", m.leader))
	return err
}

func (m *Machine) checkRunning(ctx context.Context) error {
	state := m.Exec(ctx, "systemctl", "is-system-running", "--wait")
	if state.Err == nil {
		return nil
	}
	failed := m.Exec(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
	log := m.Exec(ctx, "journalctl", "--no-pager", "--boot", "--lines", "30", "--unit", strings.Join(strings.Fields(failed.Stdout + " ")[:1], ""))
	return fmt.Errorf("the machine is %q, failed units: %s\n%s", strings.TrimSpace(state.Stdout), strings.TrimSpace(failed.Stdout), log.Stdout)
}

// Close kills the machine and returns nil once its processes, mounts, memory
// and control groups are gone. Further calls return the same.
func (m *Machine) Close() error { return m.close() }

func (m *Machine) shutdown() error {
	if m.files != nil {
		m.files.Close()
	}
	// An [os.File] that is closed, or was never opened, fails whoever uses it.
	m.commands.Close()
	m.network.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if m.cmd != nil {
		// systemd-nspawn is the init of its process id namespace: the kernel
		// lets unshare reap it when nothing is left in there, not before.
		target := m.cmd.Process.Pid
		if nspawn, err := child(target); err == nil {
			target = nspawn
		}
		_ = unix.Kill(target, unix.SIGKILL) // fails only if it is dead already
		select {
		case <-m.done:
		case <-ctx.Done():
			return fmt.Errorf("cannot close the machine: process %d outlives SIGKILL", target)
		}
	}
	if err := removeCgroup(ctx, m.cgroup); err != nil {
		return fmt.Errorf("cannot close the machine: %w", err)
	}
	if m.disk != nil {
		if err := m.disk.released(ctx); err != nil {
			return fmt.Errorf("cannot close the machine: its disk is still mounted: %w", err)
		}
	}
	return nil
}

// Leader returns this host's process id of the machine's PID 1.
func (m *Machine) Leader() int { return m.leader }

// Path returns where this host sees the file guest of the machine. It is for
// reading files whose path has no absolute symlink in it: the kernel would
// follow that on this host. ReadFile and WriteFile have no such trap.
func (m *Machine) Path(guest string) string {
	return filepath.Join("/proc", strconv.Itoa(m.leader), "root", guest)
}

// inside turns a path of the machine into one of m.files.
func inside(guest string) string {
	if guest = path.Clean("/" + guest); guest == "/" {
		return "."
	}
	return guest[1:]
}

// ReadFile returns the content of a file of the machine.
func (m *Machine) ReadFile(guest string) (string, error) {
	content, err := m.files.ReadFile(inside(guest))
	return string(content), err
}

// WriteFile writes a file of the machine and gives it mode, whatever the
// umask. Missing parents are made.
func (m *Machine) WriteFile(guest, content string, mode fs.FileMode) error {
	name := inside(guest)
	if err := m.files.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := m.files.WriteFile(name, []byte(content), mode); err != nil {
		return err
	}
	return m.files.Chmod(name, mode)
}

// Result is the outcome of a command.
type Result struct {
	Stdout, Stderr string
	Code           int   // exit status; -1 if it was not run or was killed
	Err            error // nil if it exited with status 0
}

// Exec runs a command in the machine to its end, as root in a clean
// environment; see [Machine.Command].
func (m *Machine) Exec(ctx context.Context, argv ...string) Result {
	cmd := m.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	if err != nil {
		result.Err = fmt.Errorf("cannot run %s: %w: %s",
			strings.Join(argv, " "), err, lastLines(result.Stdout+result.Stderr, 5))
	}
	return result
}

// Command returns a command to be started in the machine, for those who want
// pipes, or to signal it. Leading NAME=VALUE words of argv are put into its
// otherwise minimal environment. The process that is started on this host is
// a proxy which ends as the command does, but passes no signals on: use
// [Machine.Signal]. The command is killed when ctx ends.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	args := append([]string{
		"--target=" + strconv.Itoa(m.leader), "--all", "--", "/usr/bin/env", "-i",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8",
	}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Cancel = func() error { return m.Signal(cmd, unix.SIGKILL) }
	// A daemon that the command left behind may hold its pipes for ever.
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(m.commands.Fd())}
	return cmd
}

// Signal sends a signal to the program that cmd, made by Command, runs.
func (m *Machine) Signal(cmd *exec.Cmd, sig unix.Signal) error {
	pid, err := m.Pid(cmd)
	if err != nil {
		return err
	}
	return unix.Kill(pid, sig)
}

// Pid returns this host's process id of the program that cmd, made by Command
// and started, runs. It is [os.ErrProcessDone] that it has ended.
func (m *Machine) Pid(cmd *exec.Cmd) (int, error) {
	// nsenter has to fork to get into the process id namespace. That takes it
	// some milliseconds, in which it has no child yet.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	pid := 0
	err := poll(ctx, time.Millisecond, func() (bool, error) {
		if !alive(cmd.Process.Pid) {
			return false, os.ErrProcessDone
		}
		var err error
		pid, err = child(cmd.Process.Pid)
		return err == nil, nil
	})
	if err != nil {
		return 0, fmt.Errorf("cannot find the process of %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return pid, nil
}

// child returns the first child of process pid.
func child(pid int) (int, error) {
	all, err := children(pid)
	if err != nil {
		return 0, err
	}
	return all[0], nil
}

// children returns the children of process pid, at least one.
func children(pid int) (pids []int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		pids = append(pids, child)
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("process %d has no child", pid)
	}
	return pids, nil
}

// initBelow returns the child of process pid that is the init of a process id
// namespace: what was started before it, and left to it, isn't.
func initBelow(pid int) (int, error) {
	all, err := children(pid)
	if err != nil {
		return 0, err
	}
	namespace := func(pid int) string {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			return "" // it has just ended
		}
		return name
	}
	outside := namespace(pid)
	for _, child := range all {
		if ns := namespace(child); ns != "" && ns != outside {
			return child, nil
		}
	}
	return 0, fmt.Errorf("process %d has no child in a process id namespace of its own", pid)
}

// alive says whether process pid exists and is no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// "PID (NAME) STATE ...", where the name may contain anything.
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// console keeps what the machine writes to its console, and passes it on.
type console struct {
	log io.Writer

	mu   sync.Mutex
	text bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.log != nil {
		_, _ = c.log.Write(p) // a log that fails is no reason to stop the machine
	}
	return c.text.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
