package inuse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"deploygate/scripts/assert"
)

// helperEnv makes the test binary another process, which does what its arguments say and then waits for the end of its
// standard input.
const helperEnv = "DEPLOYGATE_TEST_USE"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread()
	for _, do := range os.Args[1:] {
		verb, path, _ := strings.Cut(do, "=")
		if err := helper(verb, path); err != nil {
			fmt.Println(do, err)
			os.Exit(1)
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func helper(verb, path string) error {
	switch verb {
	case "cwd":
		return os.Chdir(path)
	case "root":
		return unix.Chroot(path)
	case "open":
		_, err := unix.Open(path, unix.O_RDONLY, 0)
		return err
	case "map":
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
		return errors.Join(err, unix.Close(fd))
	case "namespace":
		return errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	case "bind":
		from, to, _ := strings.Cut(path, ":")
		return unix.Mount(from, to, "", unix.MS_BIND, "")
	case "tmpfs":
		return unix.Mount("tmpfs", path, "tmpfs", 0, "")
	case "detach":
		return unix.Unmount(path, unix.MNT_DETACH)
	case "thread": // has a directory of its own
		failed := make(chan error)
		go func() {
			runtime.LockOSThread()
			failed <- errors.Join(unix.Unshare(unix.CLONE_FS), unix.Chdir(path))
			select {}
		}()
		return <-failed
	}
	return fmt.Errorf("unheard of")
}

// helped starts program, the test binary under whatever name, and waits until it has done what it is told.
func helped(t *testing.T, program string, do ...string) (pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, do...)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Dir = "/"
	in, err := cmd.StdinPipe()
	assert.OK(t, err)
	out, err := cmd.StdoutPipe()
	assert.OK(t, err)
	assert.OK(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		if strings.Contains(line, "not permitted") {
			t.Skip(line)
		}
		t.Fatalf("%q, %v", line, err)
	}
	return cmd.Process.Pid
}

// releases makes directories and gives their parent, every link resolved.
func releases(t *testing.T, names ...string) string {
	t.Helper()
	parent, err := filepath.EvalSymlinks(t.TempDir())
	assert.OK(t, err)
	for _, name := range names {
		write(t, filepath.Join(parent, name, "project/settings.py"), strings.Repeat("#", 4096))
	}
	return parent
}

func write(t *testing.T, file, text string) {
	t.Helper()
	assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.OK(t, os.WriteFile(file, []byte(text), 0o755))
}

func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("processes of others, mounts and root directories take root")
	}
}

// holds asserts why v1 is held, and that v2, v10 and v1-rc aren't.
func holds(t *testing.T, parent string, reason Reason, why string) {
	t.Helper()
	held, err := Held(t.Context(), parent, []string{"v1", "v2", "v10", "v1-rc"})
	if hidden := new(unseen); !errors.As(err, &hidden) { // a machine may hide what runs it; the helpers aren't hidden
		assert.OK(t, err)
	}
	if h := held["v1"]; h.Reason != reason || !strings.Contains(h.Why, why) {
		t.Errorf("v1 is held by %+v, want %s: …%s…", h, reason, why)
	}
	delete(held, "v1")
	if len(held) > 0 {
		t.Errorf("others are held: %+v", held)
	}
}

func TestAProcessHoldsWhereItLives(t *testing.T) {
	root(t)
	self, err := os.Executable()
	assert.OK(t, err)
	for _, c := range []struct {
		name string
		do   func(dir string) []string // with v1
		why  string
	}{
		{"nothing", func(string) []string { return nil }, ""},
		{"its working directory", func(dir string) []string { return []string{"cwd=" + dir} }, "runs in it"},
		{"below it", func(dir string) []string { return []string{"cwd=" + dir + "/project"} }, "runs in it"},
		{"its root directory", func(dir string) []string { return []string{"root=" + dir, "cwd=/"} }, "in it"},
		{"its root directory alone", func(dir string) []string { return []string{"root=" + dir} }, "has its root directory in it"},
		{"a mapped file", func(dir string) []string { return []string{"map=" + dir + "/project/settings.py"} }, "has project/settings.py of it mapped"},
		{"an open file", func(dir string) []string { return []string{"open=" + dir + "/project/settings.py"} }, "has project/settings.py of it open"},
		{"an open directory", func(dir string) []string { return []string{"open=" + dir} }, " of it open"},
		{"a thread alone", func(dir string) []string { return []string{"thread=" + dir + "/project"} }, "runs in it"},
		{"through another name", func(dir string) []string {
			return []string{"namespace=", "bind=" + filepath.Dir(dir) + ":/mnt", "cwd=/mnt/v1/project"}
		}, "runs in it"},
		{"mapped through another name", func(dir string) []string {
			return []string{"namespace=", "bind=" + filepath.Dir(dir) + ":/mnt", "map=/mnt/v1/project/settings.py"}
		}, "has project/settings.py of it mapped"},
		{"through a mount that was detached", func(dir string) []string {
			return []string{"namespace=", "bind=" + filepath.Dir(dir) + ":/mnt", "cwd=/mnt/v1/project", "detach=/mnt"}
		}, "runs in it"},
		{"in a root directory of another namespace", func(dir string) []string {
			return []string{"namespace=", "bind=" + filepath.Dir(dir) + ":/mnt", "root=/mnt", "cwd=/v1"}
		}, "runs in it"},
		{"mapped in a root directory of another namespace", func(dir string) []string {
			return []string{"namespace=", "bind=" + filepath.Dir(filepath.Dir(dir)) + ":/mnt", "root=/mnt", "cwd=/", "map=/" + filepath.Base(filepath.Dir(dir)) + "/v1/project/settings.py"}
		}, "has project/settings.py of it mapped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := releases(t, "v1", "v2", "v10", "v1-rc")
			pid := helped(t, self, c.do(filepath.Join(parent, "v1"))...)
			if c.why == "" {
				holds(t, parent, "", "")
				return
			}
			holds(t, parent, Process, c.why)
			holds(t, parent, Process, fmt.Sprintf("(pid %d)", pid))
		})
	}
}

func TestAProgramHoldsItsRelease(t *testing.T) {
	root(t)
	self, err := os.Executable()
	assert.OK(t, err)
	binary, err := os.ReadFile(self)
	assert.OK(t, err)
	parent := releases(t, "v1", "v2", "v10", "v1-rc")
	worker := filepath.Join(parent, "v1/venv/bin/worker")
	write(t, worker, string(binary))
	// A hard link in another release is another file by name: that release may go.
	assert.OK(t, os.Link(worker, filepath.Join(parent, "v2/worker")))
	pid := helped(t, worker)
	holds(t, parent, Process, fmt.Sprintf("runs venv/bin/worker of it (pid %d)", pid))
	other := helped(t, worker)
	holds(t, parent, Process, fmt.Sprintf("(pid %d and 1 more)", min(pid, other)))
}

// What is deleted goes by its name: a directory that is there again under it is not removed under its user.
func TestADeletedDirectory(t *testing.T) {
	root(t)
	self, err := os.Executable()
	assert.OK(t, err)
	for _, c := range []struct {
		name, at string
		change   func(t *testing.T, dir string)
		held     bool
	}{
		{"made again", "", func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.RemoveAll(dir))
			write(t, filepath.Join(dir, "manage.py"), "")
		}, true},
		{"a part of it", "/project", func(t *testing.T, dir string) { t.Helper(); assert.OK(t, os.RemoveAll(dir+"/project")) }, true},
		{"gone", "", func(t *testing.T, dir string) { t.Helper(); assert.OK(t, os.RemoveAll(dir)) }, false},
		{"renamed, and another one has its name", "", func(t *testing.T, dir string) {
			t.Helper()
			assert.OK(t, os.Rename(dir, dir+".old"))
			assert.OK(t, os.Mkdir(dir, 0o755))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := releases(t, "v1", "v2", "v10", "v1-rc")
			dir := filepath.Join(parent, "v1")
			helped(t, self, "cwd="+dir+c.at)
			c.change(t, dir)
			if c.held {
				holds(t, parent, Process, "runs in it")
			} else {
				holds(t, parent, "", "")
			}
		})
	}
}

func TestAMountHoldsWhereItLies(t *testing.T) {
	root(t)
	self, err := os.Executable()
	assert.OK(t, err)
	for _, c := range []struct {
		name string
		do   func(dir string) []string // in another namespace
		why  string
	}{
		{"a bind mount below it", func(dir string) []string { return []string{"bind=/tmp:" + dir + "/project"} }, "a mount lies below it: project for "},
		{"a mounted file", func(dir string) []string { return []string{"bind=/etc/hostname:" + dir + "/project/settings.py"} }, "a mount lies below it: project/settings.py"},
		{"a tmpfs", func(dir string) []string { return []string{"tmpfs=" + dir + "/project"} }, "a mount lies below it: project"},
		{"through another name", func(dir string) []string {
			return []string{"bind=" + filepath.Dir(dir) + ":/mnt", "tmpfs=/mnt/v1/project"}
		}, "a mount lies below it: project"},
		{"it is mounted elsewhere", func(dir string) []string { return []string{"bind=" + dir + ":/mnt"} }, "v1 is mounted at /mnt for "},
		{"a part of it is", func(dir string) []string { return []string{"bind=" + dir + "/project:/mnt"} }, "v1/project is mounted at /mnt for "},
		{"on top of it", func(dir string) []string { return []string{"tmpfs=" + dir} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := releases(t, "v1", "v2", "v10", "v1-rc")
			pid := helped(t, self, append([]string{"namespace="}, c.do(filepath.Join(parent, "v1"))...)...)
			if c.why == "" {
				c.why = "it is a mount point"
			}
			holds(t, parent, Mounted, c.why)
			holds(t, parent, Mounted, fmt.Sprintf("(pid %d)", pid))
		})
	}
}

// A host that can't be looked at whole may use anything.
func TestWhatIsNotSeen(t *testing.T) {
	parent := releases(t, "v1")
	proc := t.TempDir()
	look := func(prepare func(p string)) error {
		assert.OK(t, os.RemoveAll(proc))
		assert.OK(t, os.MkdirAll(filepath.Join(proc, "self"), 0o755))
		text, err := os.ReadFile("/proc/self/mountinfo")
		assert.OK(t, err)
		write(t, filepath.Join(proc, "self/mountinfo"), string(text))
		prepare(filepath.Join(proc, "12345678"))
		l := &look{proc: proc, parent: parent, held: map[string]Hold{}, ids: map[inode]string{}, views: map[view][]string{}}
		if err := l.begin([]string{"v1"}); err != nil {
			return err
		}
		return l.processes(t.Context())
	}
	assert.OK(t, look(func(string) {}))
	assert.OK(t, look(func(p string) { assert.OK(t, os.Mkdir(p, 0o755)) })) // it has just ended
	for name, c := range map[string]struct {
		prepare func(p string)
		err     string
	}{
		"mounts that aren't understood": {func(p string) {
			assert.OK(t, os.MkdirAll(filepath.Join(p, "ns"), 0o755))
			assert.OK(t, os.Symlink("/", filepath.Join(p, "root")))
			assert.OK(t, os.Symlink("mnt:[1]", filepath.Join(p, "ns/mnt")))
			write(t, filepath.Join(p, "mountinfo"), "x\n")
		}, "cannot look at process 12345678: cannot understand the mount"},
		"our own mounts":      {func(string) { assert.OK(t, os.Remove(filepath.Join(proc, "self/mountinfo"))) }, "no such file"},
		"a link that is none": {func(p string) { write(t, filepath.Join(p, "root"), "") }, "cannot look at process 12345678"},
	} {
		if err := look(c.prepare); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Held(t.Context(), filepath.Join(parent, "gone"), nil); err == nil {
		t.Error("a parent that is gone")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	if _, err := Held(ctx, parent, []string{"v1"}); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}

// Without rights the processes of others are not known, and that is said.
func TestProcessesOfOthers(t *testing.T) {
	root(t)
	parent := releases(t, "v1")
	for dir := parent; dir != "/"; dir = filepath.Dir(dir) {
		assert.OK(t, os.Chmod(dir, 0o755))
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread, and who it is, ends with it
		const same = ^uintptr(0)
		if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, same, 65534, same); err != 0 {
			done <- err
			return
		}
		l := &look{proc: "/proc", parent: parent, held: map[string]Hold{}, ids: map[inode]string{}, views: map[view][]string{}}
		err := l.begin([]string{"v1"})
		if err == nil {
			err = l.processes(context.Background())
		}
		done <- err
	}()
	hidden := new(unseen)
	if err := <-done; !errors.As(err, &hidden) || hidden.pid != 1 || !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v", err)
	}
}
