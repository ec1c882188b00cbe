package socket

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAProcessIsKnownByItsParentAndItsAge(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	own, ok := OfPID(os.Getpid())
	if !ok || own.Parent != os.Getppid() || own.Born <= 0 || own.Exe == "" {
		t.Errorf("this process: %+v, %v", own, ok)
	}
	p, ok := OfPID(cmd.Process.Pid)
	if !ok || p.PID != cmd.Process.Pid || p.Parent != os.Getpid() || p.Born < own.Born || p.Exe == "" || p.Exe == own.Exe {
		t.Errorf("its child: %+v, %v; itself: %+v", p, ok, own)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	if age := time.Duration(now.Nano()) - p.Born; age < 0 || age > time.Minute {
		t.Errorf("the child is %v old", age)
	}
	in.Close()
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if p, ok := OfPID(cmd.Process.Pid); ok {
		t.Errorf("it has ended, and is taken for running: %+v", p)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if p, ok := OfPID(cmd.Process.Pid); ok {
		t.Errorf("it is gone: %+v", p)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 12 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2"
	for _, name := range []string{"gunicorn", "a b", ") R 1 (", "", "x\ny"} {
		if p, ok := parseStat([]byte("99 (" + name + ")" + rest)); !ok || p.Parent != 12 || p.Born != 47110*time.Millisecond {
			t.Errorf("%q: %+v, %v", name, p, ok)
		}
	}
	for _, stat := range []string{"", "99 (x)", "99 (x) S 12", "99 (x) Z 12 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2", "99 (x) S y 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1 2"} {
		if p, ok := parseStat([]byte(stat)); ok {
			t.Errorf("%q: %+v", stat, p)
		}
	}
}
