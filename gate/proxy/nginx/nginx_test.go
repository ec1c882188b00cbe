package nginx

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/scripts/assert"
)

// exited is the error of a program that ended with status 1, as nginx -t does.
func exited(t *testing.T) error {
	t.Helper()
	err := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 1").Run()
	if err == nil {
		t.Fatal("exit 1 succeeded")
	}
	return err
}

func TestJudgeTest(t *testing.T) {
	failed := "nginx: configuration file /etc/nginx/nginx.conf test failed\n"
	for _, c := range []struct {
		name, out string
		root      bool // only for root; for others the output says nothing
		cause     gate.Cause
		summary   string
		advice    string
	}{
		{
			"a line of a file", "nginx: [emerg] unknown directive \"proxy_pas\" in /etc/nginx/sites-enabled/shop:7\n" + failed, false,
			gate.ProxyConfigInvalid, `unknown directive "proxy_pas" in /etc/nginx/sites-enabled/shop:7`, "correct /etc/nginx/sites-enabled/shop:7, then nginx -t",
		},
		{
			"as Debian's nginx writes it", "2026/11/21 03:54:05 [emerg] 1149#1149: unknown directive \"proxy_pas\" in /etc/nginx/nginx.conf:3\n" + failed, false,
			gate.ProxyConfigInvalid, `unknown directive "proxy_pas" in /etc/nginx/nginx.conf:3`, "correct /etc/nginx/nginx.conf:3, then nginx -t",
		},
		{
			"a missing include", "nginx: [emerg] open() \"/etc/nginx/gone.conf\" failed (2: No such file or directory) in /etc/nginx/nginx.conf:2\n" + failed, false,
			gate.ProxyConfigInvalid, "gone.conf", "correct /etc/nginx/nginx.conf:2, then nginx -t",
		},
		{
			"warnings before it", "nginx: [warn] the \"user\" directive makes sense only if\nnginx: [emerg] host not found in upstream \"a\" in /etc/nginx/nginx.conf:2\n" + failed, false,
			gate.ProxyConfigInvalid, `host not found in upstream "a" in /etc/nginx/nginx.conf:2`, "correct",
		},
		{
			"no line", "nginx: [emerg] cannot load certificate \"/root/c.pem\": BIO_new_file() failed\n" + failed, false,
			gate.ProxyConfigInvalid, `cannot load certificate "/root/c.pem"`, "nginx -t",
		},
		{
			"no right to write the pid file", "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\nnginx: [emerg] open() \"/run/nginx.pid\" failed (13: Permission denied)\n" + failed, false,
			gate.ProxyUnverified, "can't be tested without root", "sudo nginx -t",
		},
		{
			"a file that even root can't read", "nginx: [emerg] open() \"/mnt/nfs/site\" failed (13: Permission denied) in /etc/nginx/nginx.conf:2\n" + failed, true,
			gate.ProxyConfigInvalid, "Permission denied", "correct",
		},
		{"escape sequences", "nginx: [emerg] unknown directive \"\x1b[2J\" in /etc/x:1\n" + failed, false, gate.ProxyConfigInvalid, "\uFFFD[2J", "correct /etc/x:1"},
		{"no word", "", false, gate.ProxyConfigInvalid, "not valid", "nginx -t"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("not root")
			}
			var f *gate.Finding
			if !errors.As((&Nginx{Program: "nginx"}).judgeTest(c.out, exited(t)), &f) {
				t.Fatal("no finding")
			}
			if f.Layer != gate.LayerProxy || f.Cause != c.cause || !strings.Contains(f.Summary, c.summary) || len(f.Advice) == 0 || !strings.Contains(f.Advice[0], c.advice) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestAProgramThatCannotBeRunIsNoInvalidConfiguration(t *testing.T) {
	err := (&Nginx{Program: filepath.Join(t.TempDir(), "gone")}).Begin(t.Context())
	var f *gate.Finding
	if !errors.As(err, &f) || f.Cause != gate.Unknown || !strings.Contains(f.Summary, "cannot run") {
		t.Errorf("Begin() = %v", err)
	}
}

// fake is a program in nginx's place. It notes how it is called; its configuration is the file "conf" in dir, which is
// invalid while the file "broken" is there.
type fake struct {
	*Nginx
	t   *testing.T
	dir string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "nginx")
	script := `#!/bin/sh
cd '` + dir + `' || exit 9
echo "$*" >>calls
case $1 in
-t) [ ! -e broken ] || { cat broken >&2; exit 1; } ;;
-T) [ ! -e unreadable ] && cat conf ;;
-s) [ ! -e stopped ] && { [ ! -p master ] || echo >master; } ;;
esac
`
	assert.OK(t, os.WriteFile(program, []byte(script), 0o755))
	f := &fake{&Nginx{Program: program, Master: func(context.Context) int { return 0 }, LogFile: "/var/log/nginx/error.log"}, t, dir}
	f.write("conf", "events {}\n")
	return f
}

func (f *fake) write(name, text string) {
	f.t.Helper()
	assert.OK(f.t, os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o644))
}

// calls returns how nginx was called since the last time.
func (f *fake) calls() []string {
	f.t.Helper()
	file := filepath.Join(f.dir, "calls")
	text, err := os.ReadFile(file)
	assert.OK(f.t, err)
	assert.OK(f.t, os.Remove(file))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func (f *fake) reloads() int {
	n := 0
	for _, c := range f.calls() {
		if c == "-s reload" {
			n++
		}
	}
	return n
}

func (f *fake) test(want bool) {
	f.t.Helper()
	if reloaded, err := f.Test(f.t.Context()); reloaded != want || err != nil {
		f.t.Errorf("Test() = %v, %v; want %v", reloaded, err, want)
	}
}

func TestAnUnchangedConfigurationIsNotReloaded(t *testing.T) {
	f := newFake(t)
	assert.OK(t, f.Begin(t.Context()))
	f.test(false)
	if d := cmp.Diff([]string{"-t", "-T -q", "-t", "-T -q"}, f.calls()); d != "" {
		t.Error(d)
	}
}

func TestAChangedConfigurationIsReloadedOnce(t *testing.T) {
	f := newFake(t)
	assert.OK(t, f.Begin(t.Context()))
	f.write("conf", "events {}\nhttp {}\n")
	f.test(true)
	if got := f.reloads(); got != 1 {
		t.Errorf("%d reloads", got)
	}
	f.test(false)
	f.write("conf", "events {}\n") // the way back changes it once more
	f.test(true)
	if got := f.reloads(); got != 1 {
		t.Errorf("%d reloads", got)
	}
}

func TestAnInvalidConfigurationIsNeverReloaded(t *testing.T) {
	f := newFake(t)
	assert.OK(t, f.Begin(t.Context()))
	f.write("conf", "changed")
	f.write("broken", "nginx: [emerg] unknown directive \"changed\" in /etc/nginx/nginx.conf:1\n")
	reloaded, err := f.Test(t.Context())
	var found *gate.Finding
	if reloaded || !errors.As(err, &found) || found.Cause != gate.ProxyConfigInvalid {
		t.Errorf("Test() = %v, %v", reloaded, err)
	}
	if err := f.Begin(t.Context()); !errors.As(err, &found) || found.Cause != gate.ProxyConfigInvalid {
		t.Errorf("Begin() = %v", err)
	}
	if got := f.calls(); slices.Contains(got, "-s reload") {
		t.Errorf("calls %q", got)
	}
	assert.OK(t, os.Remove(filepath.Join(f.dir, "broken")))
	f.test(true)
}

func TestAConfigurationThatCannotBeReadIsNotReloaded(t *testing.T) {
	f := newFake(t)
	assert.OK(t, f.Begin(t.Context()))
	f.write("unreadable", "")
	if reloaded, err := f.Test(t.Context()); reloaded || err == nil {
		t.Errorf("Test() = %v, %v", reloaded, err)
	}
	if n := f.reloads(); n != 0 {
		t.Errorf("%d reloads", n)
	}
}

func TestNeverReloadOnlyTests(t *testing.T) {
	f := newFake(t)
	f.NeverReload = true
	assert.OK(t, f.Begin(t.Context()))
	f.write("conf", "changed")
	f.test(false)
	if n := f.reloads(); n != 0 {
		t.Errorf("%d reloads", n)
	}
	f.write("broken", "")
	if _, err := f.Test(t.Context()); err == nil {
		t.Error("an invalid configuration passed")
	}
}

func TestAReloadThatIsRefusedIsTriedAgain(t *testing.T) {
	f := newFake(t)
	assert.OK(t, f.Begin(t.Context()))
	f.write("conf", "changed")
	f.write("stopped", "")
	if reloaded, err := f.Test(t.Context()); reloaded || err == nil {
		t.Errorf("Test() = %v, %v", reloaded, err)
	}
	assert.OK(t, os.Remove(filepath.Join(f.dir, "stopped")))
	f.test(true)
}

func TestAReloadIsBelievedWhenTheMasterHasANewWorker(t *testing.T) {
	f := newFake(t)
	master := f.startMaster()
	f.Master = func(context.Context) int { return master }
	assert.OK(t, f.Begin(t.Context()))
	f.write("conf", "changed")
	f.test(true)
	if now, err := children(master); len(now) != 2 || err != nil {
		t.Errorf("workers %v, %v", now, err)
	}
}

func TestAReloadWithoutANewWorkerIsNone(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f.Master = func(context.Context) int { // asked just before the reload
		time.AfterFunc(500*time.Millisecond, cancel)
		return os.Getpid() // without any child
	}
	assert.OK(t, f.Begin(t.Context()))
	f.write("conf", "changed")
	if reloaded, err := f.Test(ctx); reloaded || err == nil {
		t.Errorf("Test() = %v, %v", reloaded, err)
	}
	if n := f.reloads(); n != 1 {
		t.Errorf("%d reloads", n)
	}
}

// startMaster runs a process in the master's place: it has one worker, and one more after each reload.
func (f *fake) startMaster() (pid int) {
	f.t.Helper()
	assert.OK(f.t, unix.Mkfifo(filepath.Join(f.dir, "master"), 0o600))
	cmd := exec.CommandContext(f.t.Context(), "/bin/sh", "-c", "exec 3<>master; sleep 300 & echo ready; while read x <&3; do sleep 300 & done")
	cmd.Dir = f.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	assert.OK(f.t, err)
	assert.OK(f.t, cmd.Start())
	f.t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		f.t.Fatalf("%q, %v", line, err)
	}
	return cmd.Process.Pid
}

func TestChildrenAreKnownWhateverTheirName(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	assert.OK(t, err)
	odd := filepath.Join(t.TempDir(), "a) S 1 (b")
	assert.OK(t, os.Symlink(sleep, odd))
	cmd := exec.CommandContext(t.Context(), odd, "300")
	assert.OK(t, cmd.Start())
	if got, err := children(os.Getpid()); !slices.Contains(got, cmd.Process.Pid) || err != nil {
		t.Errorf("children %v, %v; want %d among them", got, err, cmd.Process.Pid)
	}
	assert.OK(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if got, err := children(os.Getpid()); slices.Contains(got, cmd.Process.Pid) || err != nil {
		t.Errorf("children %v, %v", got, err)
	}
	if got, err := children(cmd.Process.Pid); len(got) != 0 || err != nil {
		t.Errorf("children %v of a process that is gone, %v", got, err)
	}
}
