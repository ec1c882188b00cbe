// Package diagnosis says why an app doesn't answer as it should: which layer fails, the cause, what proves it, and what
// to do next.
//
// Its rules are one table (rules.go), read from the inside out: what systemd could not start, what the app could not
// load, how its socket is reached, what it answers, and last what the proxy makes of it. In each of these the first
// rule that is proved is the finding, since what follows from it is no cause of its own.
//
// Guaranteed: it only thinks. What was seen comes in as Facts, and the same facts give the same findings.
//
// Not guaranteed: that everything that fails has a rule. What has none is unknown, with the evidence. Findings quote logs as
// they are: whoever shows them hides the secrets (gate.Secrets).
package diagnosis

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/proxy"
	"deploygate/gate/socket"
)

// Facts is what was seen of an app and its host. Whatever couldn't be looked at is left at its zero value, and Unread
// says so.
type Facts struct {
	Failed *gate.Finding // what the gate found; nil if it found nothing
	Asked  time.Time     // since when the app was asked, so that what was logged since may be about it
	// Replaced: the release that is judged isn't live any more, so that its processes can't be looked at.
	Replaced bool
	Unit     Unit
	Release  Release
	// Log is what the unit's processes and systemd about it logged in the start that is judged, and in the crashed
	// ones before it.
	Log     []gate.LogLine
	LogName string // where Log was read, "" is the unit's log
	// LogUnread: it couldn't be read, so that an app that is just crashing can't be told from one that listens nowhere.
	LogUnread bool
	Killed    []gate.LogLine // the kernel's records of processes killed for lack of memory

	Path    string        // of the health request
	Host    string        // Host header of the request to the app
	Bind    string        // where the app listens, in gunicorn's syntax; "" unknown
	Direct  Asked         // there
	Proxied Asked         // through the proxy
	Patient Asked         // at Bind again, where there was no answer in time
	Limit   time.Duration // of one request
	Socket  Socket
	Proxy   Proxy
	Disks   []Disk
	Newer   []Newer    // what was changed after what uses it had started
	Next    *Candidate // the release that is to be made live; nil: none is

	Recovery Recovery

	Unread []Unread

	index  *index
	visits int // of lines of the log
}

// Asked is what a request came to. Neither an answer nor a finding: it wasn't made.
type Asked struct {
	Answer  *gate.Answer
	Finding *gate.Finding // what is wrong with it; nil: nothing
}

// Good reports whether the request was made and nothing is wrong with its answer.
func (a Asked) Good() bool { return a.Answer != nil && a.Finding == nil }

// failed reports whether the request was made and something is wrong with its answer.
func (a Asked) failed() bool { return a.Finding != nil }

// err is the request's error, nil without one.
func (a Asked) err() error {
	if a.Answer == nil {
		return nil
	}
	return a.Answer.Err
}

func (a Asked) status() int {
	if a.Answer == nil || a.Answer.Err != nil {
		return 0
	}
	return a.Answer.Status
}

// Unit is the app's unit: how it is, and what its files say.
type Unit struct {
	State gate.UnitState
	Name  string

	RehearsedFor       string // the live unit that this one, a rehearsal's, has its settings from; "" if this is the live one
	File               string // where the settings are
	FileState          string // enabled, disabled, static, …
	StaleOnDisk        bool   // changed on disk, and not loaded
	Restart            string // no, always, on-failure, …
	User               string
	WorkingDirectory   string
	Program            string
	Python             string // the interpreter that Program names, "" unknown
	RuntimeDirectories []string
	Paths              []Path
	SocketUnit         bool          // a .socket unit listens for it
	Timeout            time.Duration // gunicorn's for a worker; 0 unknown or none
	OfUser             bool          // the user's own service manager runs it
	Server             string        // gunicorn, uvicorn, …; "" unknown
	Django             bool          // the app is Django's
	SettingsModule     string        // DJANGO_SETTINGS_MODULE of the unit's environment, "" unknown

	FileGone bool         // its file was removed, and systemd still has what it said
	WantedBy []string     // the units that start it with themselves
	Sockets  []SocketUnit // that start it
	Missing  []string     // the units without which it isn't started, and that don't exist
	NoUser   string       // the user or group that it runs as, where that doesn't exist
	Looked   bool         // systemd was asked for the units that start or are needed by it
	Unplaced bool         // nothing shows whether it goes through the live link
	Since    time.Time    // since when its main process runs; zero: it doesn't
}

// SocketUnit is a .socket unit.
type SocketUnit struct {
	Name, FileState string
	WantedBy        []string
}

// Path is a path that a start of the unit needs.
type Path struct {
	Cause   gate.Cause // what its lack is called
	What    string     // WorkingDirectory=, EnvironmentFile=, …
	Path    string
	Problem string // "does not exist"; "" if there is none
	InLink  bool   // it leads through the live link, so that each release has its own
	Skips   bool   // without it systemd skips the start, instead of failing it
}

// Newer is a file that was changed after what uses it had started.
type Newer struct {
	Cause gate.Cause
	What  string // EnvironmentFile=, …
	Path  string
	At    time.Time
	More  int // further files of that kind
}

// Release is the code that is judged, and the release before it.
type Release struct {
	Version string
	Dir     string // every link resolved
	Root    string // below which all releases are
	Base    string // where imports start, relative to Dir
	Files   fs.FS  // of Dir; nil unknown
	// Closed returns the directory that keeps the unit's user from a path below Dir, "" if none does; nil unknown.
	Closed   func(path string) string
	Previous string // the release before it, "" if there is none
	Before   fs.FS  // its files
}

// Socket is what is known of the place where the app listens.
type Socket struct {
	Reach     *socket.Walk // the way to a unix socket, as the proxy's workers see it; nil unknown
	Listens   []Listener   // what listens at Bind
	Elsewhere []Listener   // what else the unit's processes listen on
	Busy      int          // connections at Bind that a process has accepted
	Waiting   int          // connections at Bind that none has
	Tmpfiles  bool         // tmpfiles.d(5), a command before the app or another unit makes its directory
}

// Listener is a socket that listens, and who holds it.
type Listener struct {
	Addr    string // gunicorn's syntax
	Holders []socket.Holder
}

// Proxy is nginx as it is.
type Proxy struct {
	Program   string // "" without one
	Host      string // Host header of the request through it
	URL       string // of that request; "" if none is made
	Unit      string // its systemd unit
	Running   bool
	State     string          // as systemd shows it
	Test      *gate.Finding   // of its configuration; nil: valid, or not tested
	User      string          // of its workers
	Route     *proxy.Route    // of the health request; nil unknown
	Upstreams []string        // all that any request is sent to; nil unknown
	Risks     []*gate.Finding // that the gate knows of
	Log       []proxy.Entry   // since Asked, oldest first
	LogFiles  []string
	FileState string    // of its unit: enabled, disabled, …
	WantedBy  []string  // the units that start it with themselves
	Loaded    time.Time // when it last read its configuration; zero: unknown
	Changed   *Newer    // the file of it that was changed since
}

// Disk is a file system that the app or its logs need.
type Disk struct {
	Path string
	What string // "bytes" or "inodes", none of which are left
}

// Unread is evidence that couldn't be looked at.
type Unread struct {
	What    string `json:"what"` // "nginx's error log"
	Why     string `json:"why"`
	Command string `json:"command"` // that would show it
}

// unserved reports whether the app itself can't have answered: there is no answer, or it isn't up, so that whoever answers
// is someone else.
func (f *Facts) unserved() bool {
	return f.Direct.status() == 0 || !f.up() || f.Failed != nil && f.Failed.State != nil && f.Failed.State.ActiveState != "active"
}

// ofAnother reports whether an exception was raised by another release's code: it says nothing of the one that is judged, in
// whichever log it stands.
func (f *Facts) ofAnother(t *traceback) bool {
	if f.Release.Dir == "" {
		return false
	}
	releases, others := path.Dir(f.Release.Dir)+"/", false
	for _, t := range t.chain() {
		for _, frame := range t.frames {
			switch {
			case strings.HasPrefix(frame.file, f.Release.Dir+"/"):
				return false
			case strings.HasPrefix(frame.file, releases) && !packages.MatchString(frame.file):
				others = true
			}
		}
	}
	return others
}

// findException finds the one that says why the app fails. Where it gives no answer that is the first that was raised while it
// was loaded; else the latest that a request raised since the app was asked, that for the health path first.
func (f *Facts) findException() *traceback {
	all := slices.DeleteFunc(tracebacks(f.Log), f.ofAnother)
	if i := slices.IndexFunc(all, f.loading); i >= 0 && f.unserved() {
		return all[i]
	}
	var latest *traceback
	for _, t := range all {
		if !t.at.Before(f.Asked) && (latest == nil || f.isHealth(t) || !f.isHealth(latest)) {
			latest = t
		}
	}
	return latest
}
