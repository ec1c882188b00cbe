package unit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"deploygate/gate/untrusted"
)

// Where is what the unit's processes show of where they run.
type Where struct {
	// Known: the unit has run long enough for them to be where they stay, and could be looked at.
	Known     bool
	InRelease bool   // the main process works in a release
	Uses      bool   // one of them works in a release, is its program, or has it or the live link in its arguments or environment
	Seen      string // where the main process works
	// Settles is after how long it can be known; 0: not by waiting.
	Settles time.Duration
}

const (
	// settling is how long a process may take from its start until it works where it stays.
	settling = 2 * time.Second
	// maxProcesses and maxProc bound what is looked at: processes, and bytes of each one's arguments and environment.
	maxProcesses = 64
	maxProc      = 256 << 10
)

// Where looks at the unit's processes. They are the truth about where the app runs: a start script or a configuration file
// leads there as well as the unit's own text.
func (u Unit) Where(ctx context.Context, link, releases string) (w Where, err error) {
	st, err := u.State(ctx)
	if err != nil {
		return w, err
	}
	if real, err := untrusted.EvalSymlinks(releases); err == nil {
		releases = real
	}
	if st.ActiveState == "active" && st.MainPID != 0 {
		w.Settles = max(0, settling-time.Since(st.Started))
		w.Known = w.Settles == 0
	}
	for _, p := range st.Processes[:min(len(st.Processes), maxProcesses)] {
		in := below(p.Dir, releases) || sameAsRelease(p.PID, link)
		if p.PID == st.MainPID {
			w.InRelease, w.Seen = below(p.Dir, releases), p.Dir
			w.Known = w.Known && p.Dir != ""
		}
		w.Uses = w.Uses || in || usesRelease(p.PID, link, releases)
	}
	return w, nil
}

func below(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

// sameAsRelease reports whether a process works in the live release under another name: one that a mount of its own gives it.
func sameAsRelease(pid int, link string) bool {
	cwd, err := untrusted.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	live, err2 := untrusted.Stat(link)
	return err == nil && err2 == nil && os.SameFile(cwd, live)
}

// usesRelease looks at a process's program, root directory, arguments and environment.
func usesRelease(pid int, link, releases string) bool {
	for _, name := range []string{"exe", "root"} {
		if to, err := untrusted.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name)); err == nil && below(to, releases) {
			return true
		}
	}
	for _, name := range []string{"cmdline", "environ"} {
		words := readProc(fmt.Sprintf("/proc/%d/%s", pid, name))
		if slices.ContainsFunc(words, func(word string) bool { return mentions(word, link) || mentions(word, releases) }) {
			return true
		}
	}
	return false
}

// readProc reads the words of a file of /proc that are ended by zero bytes; none if it can't be read.
func readProc(file string) []string {
	text, _, err := untrusted.ReadFile(file, maxProc, nil) // what the process has left of it
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
}

// NamesRelease returns the release below releases that the unit's own text names, past the live link; "" if it names none.
func (d Description) NamesRelease(releases string) string {
	for _, p := range append([]string{d.WorkingDirectory}, d.ExecStart...) {
		_, value, found := strings.Cut(p, "=")
		if !found || !strings.HasPrefix(p, "-") {
			value = p
		}
		if Through(value, releases) && filepath.Clean(value) != releases {
			return value
		}
	}
	return ""
}
