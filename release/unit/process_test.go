package unit

import (
	"context"
	"os"
	"os/exec"
	"testing"
)

func TestEndedTellsOfTheEndOfAProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := Ended(t.Context(), cmd.Process.Pid)
	if ended == nil {
		t.Skip("this kernel doesn't tell")
	}
	select {
	case <-ended:
		t.Fatal("it is still there")
	default:
	}
	in.Close()
	<-ended
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	<-Ended(t.Context(), cmd.Process.Pid) // it is gone already
}

func TestEndedGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := Ended(ctx, os.Getpid())
	if ended == nil {
		t.Skip("this kernel doesn't tell")
	}
	cancel()
	<-ended
}
