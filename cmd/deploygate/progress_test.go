package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/release/deploy"
	"deploygate/scripts/assert"
)

// show plays a deploy to a progress: one step that is waited for, and one that has nothing to do.
func show(p *progress) {
	p.Started(deploy.StepPreflight)
	p.Ended(deploy.Step{Name: deploy.StepPreflight, Outcome: deploy.Passed, Detail: "v1 → v2; way back v1"})
	p.Started(deploy.StepHealth)
	p.Waiting(deploy.StepHealth, "the socket does not exist")
	for range 8 {
		<-time.After(4 * time.Second)
		p.Waiting(deploy.StepHealth, "it answers 503")
	}
	p.Warned("look\nhere")
	p.Ended(deploy.Step{Name: deploy.StepHealth, Outcome: deploy.Failed, Seconds: 32, Detail: "it answers 503\nstill"})
	p.Started(deploy.StepChecks)
	p.Ended(deploy.Step{Name: deploy.StepChecks, Outcome: deploy.Skipped, Detail: "none configured"})
	p.Warned("and here")
}

// In a pipe there is a line for each change, and one every so often where nothing changes.
func TestProgressInAPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out, false)
		assert.Equal(t, "live", p.live(), false)
		show(p)
		assert.Equal(t, "lines", strings.Split(out.String(), "\n"), []string{
			"deploygate: preflight: passed (0.0 s): v1 → v2; way back v1",
			"deploygate: health: the socket does not exist",
			"deploygate: health: it answers 503",
			"deploygate: health: still waiting after 14s: it answers 503",
			"deploygate: health: still waiting after 24s: it answers 503",
			"deploygate: warning: look here",
			"deploygate: health: failed (32.0 s): it answers 503 still",
			"deploygate: warning: and here",
			"",
		})
	})
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &progress{out: &out, fd: -1, beat: 100 * time.Millisecond}
		p.Started(deploy.StepRestart)
		<-time.After(350 * time.Millisecond)
		p.Ended(deploy.Step{Name: deploy.StepRestart, Outcome: deploy.Passed, Seconds: 0.35})
		<-time.After(time.Hour) // the clock has stopped
		assert.Equal(t, "lines", strings.Count(out.String(), "\n"), 4)
		if !strings.HasPrefix(out.String(), "deploygate: restart: still waiting after 0s\n") {
			t.Errorf("%q", out.String())
		}
	})
}

// On a terminal the line of the step that is waited for is drawn again.
func TestProgressOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &progress{out: &out, fd: 1 << 30, beat: time.Second, color: true}
		show(p)
		first, _, _ := strings.Cut(out.String(), "\n")
		assert.Equal(t, "first line", strings.Split(first, "\r\x1b[K"), []string{
			"", "  preflight    ...        0s   ", "  preflight    \x1b[32mpassed  \x1b[0m   0.0s  v1 → v2; way back v1",
		})
		for _, want := range []string{"health       ...       31s   it answers 503", "  warning      look here\n", "  health       \x1b[31mfailed  \x1b[0m  32.0s  it answers 503 still\n", "  warning      and here\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in %q", want, out.String())
			}
		}
		if strings.Contains(out.String(), "none configured") {
			t.Errorf("nothing to do is nothing to read: %q", out.String())
		}
	})
}

func TestProgressOfHostileText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fd := range []int{-1, 1 << 30} {
			var out bytes.Buffer
			p := &progress{out: &out, fd: fd, beat: time.Second}
			p.Started(deploy.StepHealth)
			p.Waiting(deploy.StepHealth, assert.Hostile)
			p.Warned(assert.Hostile)
			p.Ended(deploy.Step{Name: deploy.StepHealth, Outcome: deploy.Failed, Detail: assert.Hostile})
			assert.Harmless(t, "progress", strings.ReplaceAll(out.String(), "\r\x1b[K", ""))
		}
	})
}

// terminal returns a terminal of some columns, and what is seen on it once it is closed.
func terminal(t *testing.T, columns uint16) (tty *os.File, seen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	assert.OK(t, err)
	assert.OK(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	assert.OK(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	all := make(chan string)
	go func() {
		text, _ := io.ReadAll(master) // EIO is its end
		all <- string(text)
	}()
	return tty, func() string { tty.Close(); return <-all }
}

func TestRealTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	tty, seen := terminal(t, 40)
	p := newProgress(tty, false)
	if !p.live() || !p.color {
		t.Fatalf("not taken for a terminal: %+v", p)
	}
	p.Started(deploy.StepHealth)
	p.Waiting(deploy.StepHealth, strings.Repeat("ä", 100))
	p.Ended(deploy.Step{Name: deploy.StepHealth, Outcome: deploy.Passed, Detail: "healthy"})
	for draw := range strings.SplitSeq(seen(), "\r\x1b[K") {
		if n := len([]rune(draw)); strings.Contains(draw, "...") && n >= 40 {
			t.Errorf("%d columns: %q", n, draw)
		}
	}

	tty, seen = terminal(t, 80)
	assert.Equal(t, "colour", newProgress(tty, true).color, false)
	t.Setenv("TERM", "dumb")
	assert.Equal(t, "live when dumb", newProgress(tty, false).live(), false)
	seen()
}

func TestNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	assert.OK(t, err)
	defer null.Close()
	p := newProgress(null, false)
	assert.Equal(t, "live", p.live(), false)
	assert.Equal(t, "colour", p.color, false)
	assert.Equal(t, "beat", p.beat, heartbeat)
}
