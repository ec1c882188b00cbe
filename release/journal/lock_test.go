package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"deploygate/scripts/assert"
)

// The test binary is another process for the tests that need one: it holds the lock in the directory that holdEnv
// names until it is killed, fills the journal in the one that fullEnv names, or deploys in the one that deployEnv names.
const (
	holdEnv   = "DEPLOYGATE_TEST_HOLD"
	fullEnv   = "DEPLOYGATE_TEST_FULL"
	deployEnv = "DEPLOYGATE_TEST_DEPLOY"
)

func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(holdEnv) != "":
		err = holdUntilKilled(os.Getenv(holdEnv))
	case os.Getenv(fullEnv) != "":
		err = fill(os.Getenv(fullEnv))
	case os.Getenv(deployEnv) != "":
		err = deployForever(os.Getenv(deployEnv))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func holdUntilKilled(dir string) error {
	l, err := Acquire(context.Background(), dir, Holder{PID: os.Getpid(), User: "ops", Command: "release", Version: "v42"}, 0)
	if err != nil {
		return err
	}
	fmt.Println("held")
	_, _ = os.Stdin.Read(make([]byte, 1)) // it ends with the test at the latest
	return l.Unlock()
}

func child(t *testing.T, env, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	assert.OK(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), env+"="+dir)
	return cmd
}

// hold starts a process that holds the lock in dir.
func hold(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := child(t, holdEnv, dir)
	_, err := cmd.StdinPipe()
	assert.OK(t, err)
	out, err := cmd.StdoutPipe()
	assert.OK(t, err)
	assert.OK(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

func acquire(t *testing.T, dir string, wait time.Duration) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), dir, Holder{PID: os.Getpid(), User: "me", Command: "prune"}, wait)
	assert.OK(t, err)
	return l
}

func TestALockThatIsHeldNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	cmd := hold(t, dir)
	want := Holder{PID: cmd.Process.Pid, User: "ops", Command: "release", Version: "v42"}
	_, err := Acquire(t.Context(), dir, Holder{}, 0)
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("Acquire() = %v", err)
	}
	if d := cmp.Diff(want, locked.Holder); d != "" {
		t.Error(d)
	}
	if h, running := Running(dir); !running || h != want {
		t.Errorf("Running() = %v, %v", h, running)
	}
}

func TestALockIsFreedWhenItsHolderIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := hold(t, dir)
	assert.OK(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if h, running := Running(dir); running {
		t.Errorf("%v is running", h)
	}
	l := acquire(t, dir, 0)
	defer l.Unlock()
	if h, running := Running(dir); !running || h.Command != "prune" {
		t.Errorf("Running() = %v, %v: the dead holder's words were left", h, running)
	}
}

func TestAcquireWaitsForTheHolder(t *testing.T) {
	dir := t.TempDir()
	first := acquire(t, dir, 0)
	got := make(chan error, 1)
	go func() {
		second, err := Acquire(context.WithoutCancel(t.Context()), dir, Holder{}, time.Minute)
		if err == nil {
			err = second.Unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("locked twice: %v", err)
	case <-time.After(2 * probeTime):
	}
	assert.OK(t, first.Unlock())
	assert.OK(t, <-got)
}

func TestAwaitGetsTheLockWhenItsHolderIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := hold(t, dir)
	ready := func() error {
		if _, running := Running(dir); !running {
			return errors.New("nobody holds the lock yet")
		}
		return cmd.Process.Kill()
	}
	l, err := Await(dir, Holder{PID: os.Getpid(), Command: "guard"}, ready)
	assert.OK(t, err)
	defer l.Unlock()
	if h, running := Running(dir); !running || h.Command != "guard" {
		t.Errorf("Running() = %v, %v", h, running)
	}
	gone := errors.New("gone")
	if _, err := Await(dir, Holder{}, func() error { return gone }); !errors.Is(err, gone) {
		t.Errorf("Await() = %v: it must not wait when it could not get ready", err)
	}
}

func TestAnInterruptionEndsTheWaitForTheLock(t *testing.T) {
	dir := t.TempDir()
	l := acquire(t, dir, 0)
	defer l.Unlock()
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	_, err := Acquire(ctx, dir, Holder{}, time.Hour)
	if !errors.Is(err, interrupted) {
		t.Errorf("Acquire() = %v", err)
	}
}

func TestUnlockedMeansThatNobodyRuns(t *testing.T) {
	dir := t.TempDir()
	if _, running := Running(filepath.Join(dir, "shop")); running {
		t.Error("running without a state directory")
	}
	assert.OK(t, acquire(t, dir, 0).Unlock())
	if h, running := Running(dir); running {
		t.Errorf("%v is running", h)
	}
	text, err := os.ReadFile(filepath.Join(dir, lockName)) // the file itself must stay: see the package's words
	if err != nil || len(text) != 0 {
		t.Errorf("the lock's file holds %q, %v", text, err)
	}
	assert.OK(t, acquire(t, dir, 0).Unlock())
}

func TestTwoAppsDoNotLockEachOther(t *testing.T) {
	state := t.TempDir()
	shop, blog := acquire(t, filepath.Join(state, "shop"), 0), acquire(t, filepath.Join(state, "blog"), 0)
	assert.OK(t, shop.Unlock())
	if _, running := Running(filepath.Join(state, "blog")); !running {
		t.Error("shop's lock freed blog's")
	}
	assert.OK(t, blog.Unlock())
}

func TestLookingDoesNotDisturbWhoeverWantsTheLock(t *testing.T) {
	dir := t.TempDir()
	assert.OK(t, acquire(t, dir, 0).Unlock())
	stop := make(chan struct{})
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for {
			select {
			case <-stop:
				return
			default:
				Running(dir)
			}
		}
	}()
	for range 20 {
		assert.OK(t, acquire(t, dir, 0).Unlock())
	}
	close(stop)
	<-looked
}

func TestALockThatIsALinkIsRefused(t *testing.T) {
	dir := t.TempDir()
	assert.OK(t, os.Symlink("/dev/null", filepath.Join(dir, lockName)))
	if l, err := Acquire(t.Context(), dir, Holder{}, 0); err == nil {
		_ = l.Unlock()
		t.Error("it was followed")
	}
}

func TestHolderIsReadable(t *testing.T) {
	since := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	for want, h := range map[string]Holder{
		"another deploygate": {},
		"release v42 (pid 7, ops, since 2026-11-21T03:00:00Z)": {PID: 7, User: "ops", Command: "release", Version: "v42", Since: since},
		"prune (pid 7, ops, since 2026-11-21T03:00:00Z)":       {PID: 7, User: "ops", Command: "prune", Since: since},
	} {
		if got := h.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
