package diagnosis

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"deploygate/gate"
	"deploygate/gate/socket"
)

// What Python says of a module that isn't there.
const noModule = `^(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[^' ;]+)'?`

// What PostgreSQL (libpq), MySQL and SQLite say, in the words of their Django backends.
const (
	databaseRefuses = `password authentication failed[^.]*|no pg_hba\.conf entry[^.]*|database "[^"]+" does not exist|role "[^"]+" does not exist|` +
		`remaining connection slots[^.]*|sorry, too many clients already|too many connections[^.]*|` +
		`Access denied for user[^.]*|Unknown database '[^']+'`
	databaseAway = `connection to server [^:]*?(?:port \d+|failed|")[^:]*(?: failed)?.*|could not translate host name .*|could not connect to server.*|` +
		`connection failed: .*|failed to resolve host .*|server closed the connection unexpectedly|Connection refused.*|timeout expired|` +
		`Can't connect to (?:local )?(?:MySQL )?server.*|unable to open database file`
	schemaBehind = `relation "[^"]+" does not exist|column \S+ (?:of relation \S+ )?does not exist|no such table: \S+|` +
		`no such column: \S+|has no column named \S+|` +
		`Table '[^']+' doesn't exist|Unknown column '[^']+'[^"]*`
)

// missingPath names the path of that kind that is missing.
func missingPath(cause gate.Cause) logProof {
	return func(f *Facts, _ gate.LogLine, m *match) bool {
		m.words["missing"] = "what EnvironmentFile= names"
		if p := f.path(cause); p != nil {
			m.words["missing"] = p.Path
		}
		return true
	}
}

// shebang: the program is there, and what its first line names isn't.
func shebang(f *Facts) *match {
	p := f.path(gate.ExecMissing)
	if p == nil || p.What != Shebang {
		return nil
	}
	return newMatch("interpreter", p.Path).with(f.Unit.Program, "#!"+p.Path+": "+p.Problem)
}

// Shebang is what Path.What says of the interpreter that the program's first line names.
const Shebang = "interpreter"

// holder names who listens where gunicorn wants to.
func holder(f *Facts, _ gate.LogLine, m *match) bool {
	m.words["holder"] = "another process"
	for _, l := range f.Socket.Listens {
		for _, h := range l.Holders {
			if h.Unit == f.Unit.Name {
				continue
			}
			m.words["holder"] = fmt.Sprintf("%s (pid %d)", h.Name, h.PID)
			if h.Unit != "" {
				m.words["holder"] += " of " + h.Unit
			}
			m.with("/proc", fmt.Sprintf("%s is held by process %d, %s", l.Addr, h.PID, h.Name))
			return true
		}
	}
	return true
}

// socketDir tells what is wrong with the directory that the socket is to be made in.
func (f *Facts) socketDir() string {
	w := f.Socket.Reach
	dir := path.Dir(f.socketPath())
	switch {
	case f.socketPath() == "":
		return ""
	case w != nil && w.Missing != "" && w.Missing != f.socketPath():
		return "there is no directory " + w.Missing
	case slices.ContainsFunc(f.Unit.RuntimeDirectories, func(d string) bool { return path.Join("/run", d) == dir }):
		return ""
	}
	return fmt.Sprintf("%s may not make it in %s", f.Unit.user(), dir)
}

func (f *Facts) socketPath() string {
	p, _ := strings.CutPrefix(f.Bind, "unix:")
	if p == f.Bind {
		return ""
	}
	return p
}

func (u Unit) user() string {
	if u.User == "" {
		return "root"
	}
	return u.User
}

func (m *match) noDir(f *Facts) bool {
	m.words["problem"] = f.socketDir()
	m.words["runtime"] = strings.TrimPrefix(path.Dir(f.socketPath()), "/run/")
	return m.words["problem"] != ""
}

func noSocketDir[T gate.LogLine | *traceback](f *Facts, _ T, m *match) bool { return m.noDir(f) }

// binding: gunicorn itself raised it as it made its socket.
func binding(_ *Facts, t *traceback, _ *match) bool {
	return slices.ContainsFunc(t.frames, func(f frame) bool { return f.in == "create_sockets" })
}

// inReleases: the file that may not be read is one of a release's.
func inReleases(f *Facts, _ *traceback, m *match) bool {
	return strings.HasPrefix(m.words["path"], f.Release.Root+"/")
}

// fromEnvironment: os.environ raised it, and not some other mapping.
func fromEnvironment(_ *Facts, t *traceback, _ *match) bool {
	return slices.ContainsFunc(t.frames, func(f frame) bool {
		return f.in == "__getitem__" && (path.Base(f.file) == "os.py" || f.file == "<frozen os>") || strings.Contains(f.code, "environ[")
	})
}

// namedBySettings: Django's own import of DJANGO_SETTINGS_MODULE raised it, and no import of the app's.
func namedBySettings(f *Facts, t *traceback, m *match) bool {
	in := t.innermost()
	if !strings.HasSuffix(in.file, "/django/conf/__init__.py") {
		return false
	}
	if name := f.Unit.SettingsModule; name != "" {
		m.words["module"] = name
	}
	return true
}

// onlyBefore: the module is one of the release before, and not of this one.
func onlyBefore(f *Facts, _ *traceback, m *match) bool {
	module := m.words["module"]
	if f.Release.Files == nil || f.Release.Before == nil || f.Release.has(f.Release.Files, module) || !f.Release.has(f.Release.Before, module) {
		return false
	}
	m.with("releases", fmt.Sprintf("%s is in %s and not in %s", module, f.Release.Previous, f.Release.Version))
	return true
}

// ofRelease: the module's package is one of the release's own, or its own code asks for a part of it.
func ofRelease(f *Facts, _ *traceback, m *match) bool {
	top, _, isPart := strings.Cut(m.words["module"], ".")
	return f.Release.Files != nil && isPart && f.Release.has(f.Release.Files, top)
}

// has reports whether a release has a module, as Python would find it from its base directory.
func (r Release) has(files fs.FS, module string) bool {
	name := strings.ReplaceAll(module, ".", "/")
	for _, dir := range []string{r.Base, "."} {
		for _, candidate := range []string{name + ".py", name} {
			if _, err := fs.Stat(files, path.Join(dir, candidate)); err == nil {
				return true
			}
		}
	}
	return false
}

var syntaxFrame = regexp.MustCompile(`\(([^()]+), line (\d+)\)$`)

// presentButClosed: the release has the module, and the unit's user can't get to it, which Python takes for its lack.
func presentButClosed(f *Facts, _ *traceback, m *match) bool {
	if f.Release.Files == nil || f.Release.Closed == nil || !f.Release.has(f.Release.Files, m.words["module"]) {
		return false
	}
	denied := f.Release.Closed(path.Join(f.Release.Base, strings.ReplaceAll(m.words["module"], ".", "/")))
	m.words["denied"] = denied
	return denied != ""
}

// namedByUnit: gunicorn's own import of the app raised it.
func namedByUnit(_ *Facts, t *traceback, _ *match) bool {
	in := t.innermost()
	return in.in == "import_app"
}

// syntaxAt says where a syntax error is: in the last frame, or, where the message has it, there.
func syntaxAt(f *Facts, t *traceback, m *match) bool {
	if n := len(t.frames); n > 0 && t.frames[n-1].in == "" {
		at := t.frames[n-1]
		m.words["at"] = fmt.Sprintf(" (%s, line %d)", f.inRelease(at.file), at.line)
	} else if at := syntaxFrame.FindStringSubmatch(t.line); at != nil {
		m.words["at"] = fmt.Sprintf(" (%s, line %s)", at[1], at[2])
	}
	return true
}

func whileLoading(f *Facts, _ *traceback, _ *match) bool { return f.exception().loading() }

// notKilled: gunicorn ends a worker that takes too long by an exception, which says nothing of its own.
func notKilled(_ *Facts, t *traceback, _ *match) bool { return t.class != "SystemExit" }

var away = regexp.MustCompile(databaseAway + "|" + databaseRefuses)

// notAway: the database was there.
func notAway(_ *Facts, t *traceback, _ *match) bool { return !away.MatchString(t.line) }

// isHealth reports whether an exception was raised by the health request.
func (f *Facts) isHealth(t *traceback) bool {
	return f.Path != "" && strings.HasSuffix(strings.TrimSpace(t.header), " "+f.Path)
}

// outOfMemory: systemd says so of the unit, the kernel of one of its processes, or gunicorn takes a SIGKILL for it that
// neither it nor, as far as the kernel's log can be read, anything but the kernel has sent.
func outOfMemory(f *Facts) *match {
	if f.Unit.State.Result == "oom-kill" {
		return newMatch().with("systemd", f.Unit.Name+": Result=oom-kill")
	}
	const byOOMKiller = "fe6faa94e7774663a0da52717891d8ef" // systemd's message catalogue
	for l := range f.backward() {
		if l.MessageID == byOOMKiller {
			return newMatch().with(f.source(l.At), l.Text)
		}
	}
	for _, l := range f.Killed {
		if pid := killedPID.FindStringSubmatch(l.Text); pid != nil && f.index.processes[pid[1]] {
			return newMatch().with("kernel at "+l.At.Format(time.TimeOnly), l.Text)
		}
	}
	return logged(`Worker \(pid:\s*(?P<pid>\d+)\) was sent SIGKILL! Perhaps out of memory\?`, notItsOwnKill, recently)(f)
}

var killedPID = regexp.MustCompile(`Killed process (\d+)`)

// notItsOwnKill: gunicorn kills workers that time out, with SIGABRT and then SIGKILL; that is no crash.
func notItsOwnKill(f *Facts, l gate.LogLine, m *match) bool {
	if at, timedOut := f.index.timeouts[m.words["pid"]]; timedOut && !at.After(l.At) {
		return false
	}
	if n, err := strconv.Atoi(m.words["how"]); err == nil {
		m.words["how"] = "killed by signal " + strconv.Itoa(n)
	} else if m.words["how"] != "" {
		m.words["how"] = "killed by " + m.words["how"]
	}
	return recently(f, l, m)
}

// workerTimeout: gunicorn itself has killed a worker.
var workerTimeout = logged(`WORKER TIMEOUT \(pid:\s*(?P<pid>\d+)\)`, recently)

// recent is how long before the first request a worker's end still counts as of now.
const recent = 2 * time.Minute

func recently(f *Facts, l gate.LogLine, _ *match) bool { return !l.At.Before(f.Asked.Add(-recent)) }

// cutOff: a worker exited, which counts only where the app closed a connection without an answer or has none to give.
func cutOff(f *Facts, l gate.LogLine, m *match) bool {
	m.words["how"] = "exited with status " + m.words["how"]
	return recently(f, l, m) && f.closes()
}

// closes reports whether a request was cut off without an answer. One that began is the app's: its worker lives.
func (f *Facts) closes() bool {
	return f.Direct.err() != nil && f.Direct.Answer.Status == 0 && !f.Direct.Answer.Timeout && !isErrno(f.Direct.err())
}

func isErrno(err error) bool {
	var n syscall.Errno
	return errors.As(err, &n) && n != syscall.ECONNRESET && n != syscall.EPIPE
}

var booting = regexp.MustCompile(`Booting worker with pid: (\d+)`)

// replaced: gunicorn 20 says nothing of a worker that exits or is killed, but boots another.
func replaced(f *Facts) *match {
	if !f.closes() || workerTimeout(f) != nil {
		return nil
	}
	for l := range f.backward() {
		if !booting.MatchString(l.Text) || l.At.Before(f.Asked) {
			continue
		}
		return newMatch("how", "a request ends without an answer, and a new worker is booted").
			with("http", f.Direct.Answer.Err.Error()).with(f.source(l.At), l.Text)
	}
	return nil
}

func result(name string) proof {
	return func(f *Facts) *match {
		if f.Unit.State.Result != name {
			return nil
		}
		return newMatch().with("systemd", f.Unit.Name+": Result="+name)
	}
}

// ended: the unit isn't up any more.
func ended(f *Facts, _ gate.LogLine, _ *match) bool {
	return f.Unit.State.ActiveState == "failed" || f.Unit.State.ActiveState == "inactive"
}

// stopped: it ended without a failure, was never started, or was killed.
func stopped(f *Facts) *match {
	st := f.Unit.State
	m := newMatch("killed", "").with("systemd", fmt.Sprintf("%s: %s (%s), Result=%s", f.Unit.Name, st.ActiveState, st.SubState, st.Result))
	switch {
	case st.ActiveState == "inactive", st.ActiveState == "deactivating" && st.Result == "success":
		return m
	case st.ActiveState == "failed" && st.Result == "signal" && !f.Replaced: // else starting it again is no way out
		m.words["killed"] = fmt.Sprintf(": it was killed by signal %d", st.ExecMainStatus)
		return m
	}
	return nil
}

// up: the unit runs, so that what its socket shows is no consequence of its end.
func (f *Facts) up() bool { return f.Unit.State.ActiveState == "active" && !f.restarted() }

// restarted: systemd has started it again by itself a short time ago, so that it may be about to crash once more.
func (f *Facts) restarted() bool {
	st := f.Unit.State
	return st.NRestarts > 0 && !st.Started.IsZero() && f.Asked.Sub(st.Started) < recent
}

// logRead: no crash is in the log, since it was read.
func logRead(f *Facts) *match {
	if f.LogUnread {
		return nil
	}
	return newMatch()
}

// socketGone: there is nothing at the app's address.
func socketGone(f *Facts) *match {
	err := f.Direct.err()
	if err == nil || !f.up() || !errors.Is(err, syscall.ENOENT) && (f.socketPath() != "" || !errors.Is(err, syscall.ECONNREFUSED)) {
		return nil
	}
	return newMatch().with("connect to "+f.Bind, err.Error())
}

// elsewhere: the unit's processes listen at another address.
func elsewhere(f *Facts) *match {
	for _, l := range f.Socket.Elsewhere {
		return newMatch("addr", l.Addr).with("/proc/net", fmt.Sprintf("%s listens at %s", f.Unit.Name, l.Addr))
	}
	return nil
}

// listensUnlinked: the unit listens at a path that is no longer there.
func listensUnlinked(f *Facts) *match {
	for _, l := range f.Socket.Listens {
		if slices.ContainsFunc(l.Holders, func(h socket.Holder) bool { return h.Unit == f.Unit.Name }) {
			return newMatch().with("/proc/net/unix", fmt.Sprintf("%s listens at %s, which is not in the file system", f.Unit.Name, l.Addr))
		}
	}
	return nil
}

// stale: the socket's file outlived the process that listened.
func stale(f *Facts) *match {
	killed := f.Unit.State.ActiveState == "failed" && f.Unit.State.Result == "signal"
	err := f.Direct.err()
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) || f.socketPath() == "" || !f.up() && !killed {
		return nil
	}
	return newMatch().with("connect to "+f.Bind, err.Error())
}

// backlogFull: the kernel takes no more connections for it. At a unix socket it says so, at a port it lets them wait.
func backlogFull(f *Facts) *match {
	err := f.Direct.err()
	if err == nil || !errors.Is(err, syscall.EAGAIN) && (!f.Direct.Answer.Timeout || f.Direct.Answer.Connected || len(f.Socket.Listens) == 0) {
		return nil
	}
	return newMatch("waiting", strconv.Itoa(f.Socket.Waiting)).
		with("connect to "+f.Bind, err.Error()).
		with("/proc/net", fmt.Sprintf("%d connections wait, %d are accepted", f.Socket.Waiting, f.Socket.Busy))
}

// answersLate: asked once more with more patience, it does answer as it should.
func answersLate(f *Facts) *match {
	if f.timedOut() && f.Direct.Answer.Late != nil {
		f.Patient = Asked{Answer: f.Direct.Answer.Late}
	}
	if !f.Patient.good() {
		return nil
	}
	return newMatch("status", strconv.Itoa(f.Patient.Answer.Status), "took", seconds(f.Patient.Answer.Took), "limit", f.Limit.String()).
		with("http", fmt.Sprintf("%d after %s", f.Patient.Answer.Status, seconds(f.Patient.Answer.Took)))
}

// incomplete: an answer began, and had no end.
func incomplete(f *Facts) *match {
	a := f.Direct.Answer
	if a == nil || a.Err == nil || a.Status == 0 {
		return nil
	}
	asked := "http://" + f.Bind + f.Path
	if f.socketPath() != "" {
		asked = "--unix-socket " + f.socketPath() + " http://" + f.Host + f.Path
	}
	why := a.Err.Error()
	if a.Timeout {
		why = "it has no end within " + f.Limit.String()
	}
	return newMatch("status", strconv.Itoa(a.Status), "why", why, "asked", asked).
		with("http", fmt.Sprintf("%d, Content-Length %q, then: %v", a.Status, a.Header.Get("Content-Length"), a.Err))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// timedOut: the connection was made, and no answer came.
func (f *Facts) timedOut() bool {
	return f.Direct.err() != nil && f.Direct.Answer.Timeout
}

// busy is how many connections the app had accepted, now or at one of the probes that it gave no answer to.
func (f *Facts) busy() int {
	if f.Failed != nil && f.Failed.Answer != nil {
		return max(f.Socket.Busy, f.Failed.Answer.Busy)
	}
	return f.Socket.Busy
}

// nobodyAccepts: connections wait, and none was ever accepted, so that the workers are not busy but not ready.
func nobodyAccepts(f *Facts) *match {
	answered := f.Failed != nil && f.Failed.Cause == gate.NoAnswer
	if !f.timedOut() || answered || f.Socket.Waiting == 0 || f.busy() > 0 {
		return nil
	}
	m := newMatch().with("/proc/net", fmt.Sprintf("%d connections wait at %s, and no process has accepted one", f.Socket.Waiting, f.Bind))
	if boot := logged(`Booting worker with pid`)(f); boot != nil {
		m.evidence = append(m.evidence, boot.evidence...)
	}
	return m
}

// hangs: a worker has accepted a connection and doesn't answer it, or did answer before.
func hangs(f *Facts) *match {
	answered := f.Failed != nil && f.Failed.Cause == gate.NoAnswer
	if !f.timedOut() || f.busy() == 0 && !answered {
		return nil
	}
	return newMatch().with("/proc/net", fmt.Sprintf("%d connections at %s are accepted, %d wait", f.busy(), f.Bind, f.Socket.Waiting))
}

func answers500(f *Facts) *match {
	if f.Direct.status() != 500 {
		return nil
	}
	return newMatch().with("http", "500 for GET "+f.Path+" at "+f.Bind)
}
