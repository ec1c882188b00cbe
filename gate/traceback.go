package gate

import (
	"regexp"
	"strings"
)

// LogLine is one line that a process logged.
type LogLine struct {
	PID  int
	Text string
}

var (
	frame = regexp.MustCompile(`^\s+File "([^"]+)", line (\d+)`)
	// An exception's last line is its class, and mostly a message.
	exception = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*(:|$)`)
	// A line of Python's logging looks alike.
	logged = regexp.MustCompile(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL):`)
	// Third-party code in the release's own environment is not where to look first.
	packages = regexp.MustCompile(`/(site|dist)-packages/`)
)

// traceback is one process's, while its lines are read.
type traceback struct {
	inside bool
	where  string // the innermost frame in the app's own code, with its line of code
	frame  bool   // the last line was that frame, so that this one is its code
}

// Exception finds the first Python traceback that a log holds whole: the exception, and the innermost frame that lies in
// dir with its line of code ("" where none does). Several processes may write at once. gunicorn's own HaltServer only
// says that a worker failed.
func Exception(lines []LogLine, dir string) (what, where string) {
	of := map[int]*traceback{}
	for _, l := range lines {
		t := of[l.PID]
		if t == nil {
			t = &traceback{}
			of[l.PID] = t
		}
		if what = t.read(l.Text, dir); what != "" && !strings.Contains(what, "HaltServer") {
			return what, t.where
		}
	}
	return "", ""
}

// read takes one line and gives the exception when it is the traceback's last.
func (t *traceback) read(line, dir string) (exceptionLine string) {
	afterFrame := t.frame
	t.frame = false
	switch {
	case strings.HasPrefix(line, "Traceback (most recent call last):"):
		*t = traceback{inside: true}
	case !t.inside:
	case frame.MatchString(line):
		if m := frame.FindStringSubmatch(line); strings.HasPrefix(m[1], dir+"/") && !packages.MatchString(m[1]) {
			t.where, t.frame = strings.TrimSpace(line), true
		}
	case afterFrame && strings.HasPrefix(line, " "):
		t.where += "\n    " + strings.TrimSpace(line)
	case exception.MatchString(line) && !logged.MatchString(line):
		t.inside = false
		return line
	}
	return ""
}
