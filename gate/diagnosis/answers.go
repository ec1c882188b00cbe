package diagnosis

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"deploygate/gate"
	"deploygate/gate/socket"
)

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

func (m *match) noDir(f *Facts) bool {
	m.words["problem"] = f.socketDir()
	m.words["runtime"] = strings.TrimPrefix(path.Dir(f.socketPath()), "/run/")
	return m.words["problem"] != ""
}

func noSocketDir[T gate.LogLine | *traceback](f *Facts, _ T, m *match) bool { return m.noDir(f) }

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
	if !f.Patient.Good() {
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
