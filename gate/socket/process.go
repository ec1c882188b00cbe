package socket

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Process is what /proc tells of a process.
type Process struct {
	PID, Parent int
	// Born is when it started, since the machine booted. Together with PID it tells a process from one that had its
	// number before.
	Born time.Duration
	// Exe is the program that it runs, as /proc/PID/exe shows it; "" without the right to see it.
	Exe string
}

// tick is the unit of time in /proc/PID/stat: USER_HZ is 100 on every architecture that Debian has.
const tick = time.Second / 100

// OfPID looks a process up (proc_pid_stat(5), proc_pid_exe(5)); ok is false if there is none, or it has ended and
// only waits for its parent to notice.
func OfPID(pid int) (p Process, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // the kernel bounds it
	if err != nil {
		return p, false
	}
	if p, ok = parseStat(stat); !ok {
		return p, false
	}
	p.PID = pid
	p.Exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return p, true
}

// parseStat reads "PID (NAME) STATE PARENT …", where the name may hold anything.
func parseStat(stat []byte) (p Process, ok bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const state, parent, started = 0, 1, 19 // of what follows the name
	if len(fields) <= started || bytes.ContainsAny(fields[state], "ZXx") {
		return p, false
	}
	n, err := strconv.Atoi(string(fields[parent]))
	ticks, err2 := strconv.ParseInt(string(fields[started]), 10, 64)
	if err != nil || err2 != nil {
		return p, false
	}
	return Process{Parent: n, Born: time.Duration(ticks) * tick}, true
}
