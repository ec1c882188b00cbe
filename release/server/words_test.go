package server_test

import (
	"fmt"
	"slices"
	"testing"

	"deploygate/gate"
	"deploygate/release/server"
	"deploygate/release/server/gunicorn"
	"deploygate/release/server/uvicorn"
)

func TestFailures(t *testing.T) {
	said := func(format string, pids ...int) (log []gate.LogLine) {
		for _, pid := range pids {
			log = append(log, gate.LogLine{PID: 7, Text: fmt.Sprintf(format, pid)})
		}
		return log
	}
	by := func(text string, pids ...int) (log []gate.LogLine) {
		for _, pid := range pids {
			log = append(log, gate.LogLine{PID: pid, Text: text})
		}
		return log
	}
	const (
		boots  = "[2026-11-26 01:00:00 +0000] [1] [INFO] Booting worker with pid: %d"
		exited = "Worker (pid:%d) exited with code 1"
		child  = "INFO:     Child process [%d] died"
	)
	for _, c := range []struct {
		name string
		log  []gate.LogLine
		want []int
	}{
		{"nothing", nil, nil},
		{"gunicorn's worker", said(exited, 11, 12), []int{11, 12}},
		{"twice of the same", said(exited, 11, 11), []int{11}},
		{"one that gunicorn 20 says only the boots of", said(boots, 10, 11), []int{10, 11}},
		{"killed by a signal, in the words of version 20", said("Worker with pid %d was terminated due to signal 11", 11), []int{11}},
		{"and of later ones", said("Worker (pid:%d) was sent SIGSEGV!", 11), []int{11}},
		{"a dirty worker", said("Dirty worker failed to boot (pid:%d)", 30), []int{30}},
		{"uvicorn's child", said(child, 10, 11), []int{10, 11}},
		{"their own tracebacks", by("Traceback (most recent call last):", 11, 12), []int{11, 12}},
		{"an app that uvicorn can't load", by(`ERROR:    Error loading ASGI app. Could not import module "shop".`, 11), []int{11}},
		{"a process that it started", by("Process SpawnProcess-3:", 11), []int{11}},

		{"workers that have done their share", append(said(boots, 10, 11), by("Autorestarting worker after current request.", 10, 11)...), nil},
		{"uvicorn's that have", append(said(child, 11), by("WARNING:  Maximum request limit of 1 exceeded. Terminating process.", 11)...), nil},
		{"killed for what requests did", append(said("[CRITICAL] WORKER TIMEOUT (pid:%d)", 11), said("Worker (pid:%d) was sent SIGKILL! Perhaps out of memory?", 11)...), nil},
		{"asked to stop", said("Worker (pid:%d) was sent SIGTERM!", 11), nil},
		{"ended well", said("Worker (pid:%d) exited with code 0", 11), nil},
		{"systemd's own words", by("Traceback (most recent call last):", 1), nil},
	} {
		var got []int
		for _, l := range server.Failures(c.log, server.Python, gunicorn.Server.Words(), uvicorn.Server.Words()) {
			got = append(got, l.PID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The line that says most of a failure is the one that is shown.
func TestFailuresSayTheMost(t *testing.T) {
	log := []gate.LogLine{
		{PID: 7, Text: "Booting worker with pid: 11"},
		{PID: 7, Text: "Worker (pid:11) exited with code 1"},
		{PID: 7, Text: "Booting worker with pid: 11"},
	}
	if found := server.Failures(log, gunicorn.Server.Words()); len(found) != 1 || found[0].Text != log[1].Text {
		t.Errorf("%+v", found)
	}
}
