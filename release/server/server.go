// Package server is what application servers share for a deploy: the command that a unit runs, what goes through the live link in
// it, and a place beside the live release to run a candidate. Each server has a package of its own below this one.
package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release/unit"
)

// Server is a kind of application server.
type Server interface {
	// Parse reads a command, whether or not it is this server's.
	Parse(c Command) Line
	// Read returns what the live unit's command names. The error is an *Uncertain.
	Read(l Live) (Names, error)
	// Rewrite returns what runs the candidate beside the live release, or an *Uncertain, or ctx's error.
	Rewrite(ctx context.Context, l Live, c Candidate) (Command, error)
	// Adopt returns the live unit's arguments as they have to be for it to listen on the socket of a .socket unit: as they are, if it
	// takes that by itself. The error is an *Uncertain.
	Adopt(l Live) ([]string, error)
	// Words are what it logs of its workers.
	Words() Words
	// ReadLog reads the end of a log file of its own with the rights of a user, nil for those of this process.
	ReadLog(file string, as *untrusted.User) ([]gate.LogLine, error)
	// Starts finds the starts in such a log.
	Starts(lines []gate.LogLine) []Start
}

// Line is what a command tells its server, as far as that is understood.
type Line interface {
	// Known reports whether the command names the server, itself or as a module.
	Known() bool
	// Bind returns where it listens.
	Bind() Bind
	// Inherits reports whether it takes the socket of a .socket unit.
	Inherits() bool
	// Dir returns the directory in which it works.
	Dir() string
	// PIDFile returns the file for the main process's id, as it is written; "" if there is none.
	PIDFile() string
	// LogFiles returns the files for errors that are named by an absolute path.
	LogFiles() []string
	// Timeout returns how long a worker may take for a request; 0 where that isn't known.
	Timeout() time.Duration
}

// Bind is where a command has its server listen.
type Bind struct {
	Addr    string // in gunicorn's syntax; "" where it isn't known
	Default bool   // neither the command nor its environment says so: the server listens there by default
	Why     string // it isn't known
}

// NotSaid is a Bind that isn't known, with why.
func NotSaid(format string, args ...any) Bind { return Bind{Why: fmt.Sprintf(format, args...)} }

// Names is what a unit's command names, as far as its arguments are the server's and understood. Its paths are absolute; those
// that a variable which is not known is part of are left out.
type Names struct {
	Dir     string   // where the app is imported: the working directory, or what --chdir makes of it
	Chdir   bool     // --chdir is given
	Config  string   // the configuration file: the given one, else the one that the server reads by default
	Given   bool     // it is given, so that the server doesn't start without it
	Path    []string // further directories to import from
	App     string   // MODULE:NAME; "" if none is given, or a variable
	Outputs []string // files that the server makes: sockets, pid files, logs
}

// Start is a start of a server in a log of its own, with its lines.
type Start struct {
	At    time.Time // to the second
	PID   int       // of the main process
	Lines []gate.LogLine
}

// Command is what a unit runs, as systemd has loaded it.
type Command struct {
	// Args is argv as in ExecStart=: systemd replaces ${NAME}, a word $NAME, and $$ in it (systemd.service(5), "Command
	// lines"). Args[0] is the program's path.
	Args        []string
	Dir         string   // WorkingDirectory=; "" is the root directory, which it isn't for a user's manager
	Environment []string // NAME=value: Environment=, and where its files are read too, EnvironmentFile= after it
}

// CommandOf returns what a unit runs.
func CommandOf(d unit.Description) Command {
	return Command{Args: d.ExecStart, Dir: d.WorkingDirectory, Environment: d.Environment}
}

// Live is the unit that runs the live release.
type Live struct {
	Command
	Files []string // what its EnvironmentFile=s assign, NAME=value, in their order: they beat Environment
	Link  string   // the live link, /srv/app/current
}

// LiveOf returns the unit that runs the live release, with its program by the path that systemd executes. Its Files are the
// caller's to read.
func LiveOf(d unit.Description, link string) Live {
	l := Live{Command: CommandOf(d), Link: link}
	if d.Program != "" && len(l.Args) > 0 {
		l.Args = append([]string{d.Program}, l.Args[1:]...)
	}
	return l
}

// Candidate is where a candidate runs.
type Candidate struct {
	Release string // the candidate's directory, every link resolved
	Bind    string // in gunicorn's syntax, unix:/run/deploygate-rehearsal-app/app.sock
	PIDFile string // its directory is private too: the candidate's XDG_RUNTIME_DIR
	Workers int
}

// Uncertain says why a command can't be rewritten with certainty.
type Uncertain struct {
	Summary string // one sentence, no final stop; no value of a variable is in it
}

func (u *Uncertain) Error() string { return u.Summary }

// Unsure is an *Uncertain.
func Unsure(format string, args ...any) error {
	return &Uncertain{fmt.Sprintf(format, args...)}
}

// Fill puts the stage into a command of the operator's own: {bind}, {socket} (the path of a unix bind) and {release}.
// The arguments are the operator's words, without variables; the result has them in systemd's syntax, as Command.Args.
//
// An error says why the command can't run beside the live release.
func Fill(run []string, s Candidate) ([]string, error) {
	all := strings.Join(run, "\x00")
	socket, isUnix := strings.CutPrefix(s.Bind, "unix:")
	switch {
	case strings.Contains(all, "{socket}") && !isUnix:
		return nil, fmt.Errorf("there is no {socket} where %s is bound", s.Bind)
	case !strings.Contains(all, "{socket}") && !strings.Contains(all, "{bind}"):
		return nil, fmt.Errorf("neither {bind} nor {socket} is in it, so that it would listen where the live release does")
	}
	// A unix bind may be written unix:/path and unix:///path.
	if rest, found := strings.CutPrefix(socket, "//"); found {
		socket = rest
	}
	fill := strings.NewReplacer("{bind}", s.Bind, "{socket}", socket, "{release}", s.Release)
	filled := make([]string, len(run))
	for i, arg := range run {
		filled[i] = Escape(fill.Replace(arg))
	}
	return filled, nil
}

// Escape keeps systemd from seeing variables in a word.
func Escape(text string) string { return strings.ReplaceAll(text, "$", "$$") }
