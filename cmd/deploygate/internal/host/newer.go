package host

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/unit"
)

// changes looks for files that were changed after the unit's processes had read them.
func (v *evidence) changes(n unit.Needs) {
	st := v.Unit.State
	if st.ActiveState != "active" || st.MainPID == 0 {
		return
	}
	since := later(st.Started, processStart(st.MainPID))
	if since.IsZero() {
		return
	}
	v.Unit.Since = since
	add := func(cause gate.Cause, what, file string, at time.Time, more int) {
		v.Newer = append(v.Newer, diagnosis.Newer{Cause: cause, What: what, Path: file, At: at, More: more})
	}
	if !v.Unit.StaleOnDisk {
		for _, file := range append([]string{v.files.File}, n.DropIns...) {
			if at, is := changedAt(file, since); is {
				add(gate.UnitChanged, "the unit's file", file, at, 0)
			}
		}
	}
	if !v.sameEnvironment() {
		for _, f := range v.files.EnvironmentFiles {
			if at, is := changedAt(f.Path, since); is {
				add(gate.EnvChanged, "EnvironmentFile=", f.Path, at, 0)
			}
		}
	}
	read := later(since, n.Reloaded) // a reload reads configuration and code again
	config := ""
	if names, err := serverOf(v.files).Read(v.command()); err == nil {
		config = names.Config
		if at, is := changedAt(config, read); is {
			add(gate.ConfigChanged, "gunicorn's configuration", config, at, 0)
		}
	}
	if file, at, more := v.editedRelease(config, later(read, v.oldestWorker())); file != "" {
		add(gate.ReleaseChanged, "the live release's", file, at, more)
	}
}

// oldestWorker is when the oldest of the processes beside the main one was started: it may have loaded the code again.
func (v *evidence) oldestWorker() (oldest time.Time) {
	for _, p := range v.Unit.State.Processes {
		if at := processStart(p.PID); p.PID != v.Unit.State.MainPID && !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
	}
	return oldest
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// tick is more than the clock ticks in which the kernel counts a process's start (proc_pid_stat(5), starttime).
const tick = 20 * time.Millisecond

// processStart is when a process was started, by the clock as it is set now; zero if it isn't known.
func processStart(pid int) time.Time {
	p, known := socket.OfPID(pid)
	var up unix.Timespec
	if !known || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}
	}
	age := time.Duration(up.Nano()) - p.Born
	return time.Now().Add(-age).Add(tick)
}

// changedAt reports whether a file's text was changed, or put there, after a moment, and when. Only its inode's time of change
// can't be set by whoever writes it, but rights and owners change it as well. So a text counts as new if that is, and its
// own time is, or the file was made since: by a tool that keeps the times that a text had elsewhere.
func changedAt(file string, since time.Time) (at time.Time, is bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, file, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return at, false
	}
	return newerThan(&st, since)
}

func newerThan(st *unix.Statx_t, since time.Time) (at time.Time, is bool) {
	changed, written, made := instant(st.Ctime), instant(st.Mtime), time.Time{}
	if st.Mask&unix.STATX_BTIME != 0 {
		made = instant(st.Btime)
	}
	switch {
	case !changed.After(since):
		return at, false
	case written.After(since) && !written.After(changed):
		return written, true
	case written.After(since): // a time that was set, and lies in the future
		return changed, true
	}
	return made, made.After(since)
}

func instant(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

// The bounds of a look at a release's files: entries, directories within each other, and time. What lies beyond them is not
// looked at, and nothing is said of it.
const (
	maxEdited      = 20_000
	maxEditedDepth = 12
	maxEditedTime  = 2 * time.Second
)

// notCode are the directories of a release that the app or its build write, or that hold other people's code.
var notCode = []string{
	"__pycache__", "node_modules", "venv", "env", "site-packages", "static", "staticfiles", "assets", "dist", "build", "media", "uploads",
	"logs", "log", "tmp", "cache", "data", "var", "run",
}

// isCode reports whether a file is read once, when the app is started: its code and settings. What it writes itself while it
// runs (logs, databases, uploads, compiled code) isn't.
func isCode(name string) bool {
	if name == ".env" {
		return true
	}
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".py", ".toml", ".ini", ".cfg", ".env"}, filepath.Ext(name))
}

// editedRelease finds a file of the live release that was changed after the unit's processes had loaded it: the latest, and
// how many more there are. It is asked only where a process works in that release.
func (v *evidence) editedRelease(config string, since time.Time) (file string, at time.Time, more int) {
	dir := v.Release.Dir
	works := slices.ContainsFunc(v.Unit.State.Processes, func(p gate.Process) bool { return p.Dir == dir || strings.HasPrefix(p.Dir, dir+"/") })
	if dir == "" || !works {
		return "", at, 0
	}
	w := editedWalk{since: since, left: maxEdited, until: time.Now().Add(maxEditedTime)}
	if _, err := untrusted.WithinLimit(dir, 2*maxEditedTime, func() (struct{}, error) { w.directory(dir, 0); return struct{}{}, nil }); err != nil {
		return "", at, 0 // it may go on for itself
	}
	if real, err := untrusted.EvalSymlinks(config); config != "" && err == nil {
		w.found = slices.DeleteFunc(w.found, func(e edited) bool { return e.file == real }) // it is said already
	}
	if len(w.found) == 0 {
		return "", at, 0
	}
	// Files written in one go may have the same time: which is named doesn't depend on the directory's order.
	latest := slices.MinFunc(w.found, func(a, b edited) int { return cmp.Or(b.at.Compare(a.at), strings.Compare(a.file, b.file)) })
	return latest.file, latest.at, len(w.found) - 1
}

type edited struct {
	file string
	at   time.Time
}

type editedWalk struct {
	since time.Time
	until time.Time
	left  int
	dev   uint64
	found []edited
}

func (w *editedWalk) directory(dir string, depth int) {
	var st unix.Statx_t
	if depth > maxEditedDepth || unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st) != nil ||
		st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	if dev := unix.Mkdev(st.Dev_major, st.Dev_minor); depth == 0 {
		w.dev = dev
	} else if dev != w.dev {
		return // a mount is not the release's
	}
	if _, err := os.Lstat(filepath.Join(dir, "pyvenv.cfg")); err == nil {
		return
	}
	d, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer d.Close()
	const some = 512
	for {
		entries, err := d.ReadDir(some)
		for _, e := range entries {
			if w.left--; w.left < 0 || time.Now().After(w.until) {
				return
			}
			w.entry(filepath.Join(dir, e.Name()), e, depth)
		}
		if err != nil {
			return
		}
	}
}

func (w *editedWalk) entry(file string, e os.DirEntry, depth int) {
	switch {
	case e.IsDir():
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(notCode, e.Name()) {
			w.directory(file, depth+1)
		}
	case e.Type().IsRegular() && isCode(e.Name()):
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, file, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st) != nil {
			return
		}
		if at, is := newerThan(&st, w.since); is {
			w.found = append(w.found, edited{file, at})
		}
	}
}

// bySystemd are the variables that systemd sets by itself (systemd.exec(5), "Environment variables in spawned processes").
var bySystemd = regexp.MustCompile(`^(PATH|LANG|LANGUAGE|LC_\w+|USER|LOGNAME|HOME|SHELL|TERM|INVOCATION_ID|JOURNAL_STREAM|` +
	`SYSTEMD_EXEC_PID|MAINPID|MANAGERPID|` +
	`NOTIFY_SOCKET|LISTEN_\w+|\w+_DIRECTORY|MEMORY_PRESSURE_\w+|WATCHDOG_\w+|FDSTORE|XDG_\w+|DBUS_SESSION_BUS_ADDRESS)$`)

// sameEnvironment reports whether the main process has what the environment files say, and nothing that they may have said
// before: then whatever touched them changed nothing.
func (v *evidence) sameEnvironment() bool {
	text, more, err := untrusted.ReadFile(fmt.Sprintf("/proc/%d/environ", v.Unit.State.MainPID), maxEnvironment, nil)
	if err != nil || more || len(text) == 0 {
		return false
	}
	want := map[string]string{}
	for _, a := range append(slices.Clone(v.files.Environment), v.command().Files...) {
		name, value, _ := strings.Cut(a, "=")
		want[name] = value
	}
	return sameVariables(string(text), want)
}

// sameVariables compares a process's environment with what its unit assigns.
func sameVariables(environ string, want map[string]string) bool {
	have := map[string]bool{}
	for a := range strings.SplitSeq(strings.TrimRight(environ, "\x00"), "\x00") {
		name, value, _ := strings.Cut(a, "=")
		wanted, assigned := want[name]
		switch {
		case assigned && wanted != value, !assigned && !bySystemd.MatchString(name):
			return false
		}
		have[name] = true
	}
	for name := range want {
		if !have[name] {
			return false
		}
	}
	return true
}
