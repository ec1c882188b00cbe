package diagnosis

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
)

// traceback is one Python exception that a log holds whole.
type traceback struct {
	at      time.Time
	pid     int
	header  string     // the line that the process logged before it: gunicorn and Django say there what failed
	frames  []frame    // outermost first
	class   string     // with its module, but for builtins
	line    string     // the last line: class and the first line of the message
	context *traceback // the exception that this one was raised from, or while handling
}

type frame struct {
	file string
	line int
	in   string // the function; "" in a SyntaxError's
	code string
}

var (
	frameLine = regexp.MustCompile(`^\s+File "([^"]+)", line (\d+)(?:, in (\S+))?`)
	// An exception's last line is its class, and mostly a message.
	exceptionLine = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.]*)(:|$)`)
	// A line of Python's logging looks alike.
	loggedLine = regexp.MustCompile(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL):`)
	// Third-party code in the release's own environment is not where to look first.
	packages = regexp.MustCompile(`/(site|dist)-packages/`)
)

const (
	tracebackStart = "Traceback (most recent call last):"
	maxFrames      = 200
	maxMessage     = 12 // lines of an exception's message after its first
)

// reader is what one process has logged so far.
type reader struct {
	open     *traceback // being read
	last     *traceback // read whole, and maybe continued by the next
	since    int        // lines since last ended: a message may go on for some
	chained  bool       // the next one is raised from the last
	previous string     // the last line outside of a traceback
}

// tracebacks finds the exceptions in a log, each the last of its chain, in the order in which they ended. Several
// processes may write at once. gunicorn's own HaltServer only says that a worker failed.
func tracebacks(lines []gate.LogLine) (found []*traceback) {
	of := map[int]*reader{}
	at := map[*traceback]int{} // in found
	for _, l := range lines {
		r := of[l.PID]
		if r == nil {
			r = &reader{}
			of[l.PID] = r
		}
		t := r.read(l)
		if t == nil || strings.Contains(t.line, "HaltServer") {
			continue
		}
		if i, is := at[t.context]; is {
			found[i] = nil
		}
		at[t] = len(found)
		found = append(found, t)
	}
	return slices.DeleteFunc(found, func(t *traceback) bool { return t == nil })
}

// read takes one line and gives the traceback that ends with it.
func (r *reader) read(l gate.LogLine) *traceback {
	t := r.open
	switch {
	case strings.HasPrefix(l.Text, tracebackStart):
		r.open = &traceback{at: l.At, pid: l.PID, header: r.previous}
		if r.chained && r.last != nil {
			r.open.context, r.open.header = r.last, r.last.header
		}
		r.last, r.chained = nil, false
	case t == nil:
		if strings.Contains(l.Text, "the above exception") || strings.HasPrefix(l.Text, "The above exception") {
			r.chained = true
		} else if strings.TrimSpace(l.Text) != "" {
			r.previous = l.Text
			if r.since++; r.since > maxMessage {
				r.last = nil
			}
		}
	case frameLine.MatchString(l.Text):
		if len(t.frames) < maxFrames {
			m := frameLine.FindStringSubmatch(l.Text)
			n, _ := strconv.Atoi(m[2])
			t.frames = append(t.frames, frame{file: m[1], line: n, in: m[3]})
		}
	case strings.HasPrefix(l.Text, " "):
		if n := len(t.frames); n > 0 && t.frames[n-1].code == "" {
			t.frames[n-1].code = strings.TrimSpace(l.Text)
		}
	case exceptionLine.MatchString(l.Text) && !loggedLine.MatchString(l.Text):
		t.line, t.class = l.Text, exceptionLine.FindStringSubmatch(l.Text)[1]
		r.open, r.last, r.since = nil, t, 0
		return t
	}
	return nil
}

// chain is the exception and what it was raised from, the latest first.
func (t *traceback) chain() (all []*traceback) {
	for ; t != nil && len(all) < 10; t = t.context {
		all = append(all, t)
	}
	return all
}

// loads are the functions by which servers load an app: gunicorn's, uvicorn's, hypercorn's, daphne's.
var loads = []string{"load_wsgiapp", "import_app", "import_from_string", "load_application", "import_by_path"}

// loading reports whether the server was loading the app, or ended with the exception: then the traceback begins where Python
// does, in the program, a module that is run, or a process that multiprocessing starts.
func (f *Facts) loading(t *traceback) bool {
	return slices.ContainsFunc(t.chain(), func(t *traceback) bool {
		if strings.HasSuffix(t.header, "Exception in worker process") || slices.ContainsFunc(t.frames, func(f frame) bool { return slices.Contains(loads, f.in) }) {
			return true
		}
		if len(t.frames) == 0 {
			return false
		}
		first := t.frames[0]
		isChild := first.in == "_bootstrap" && strings.HasSuffix(first.file, "/multiprocessing/process.py")
		return first.file == f.Unit.Program || first.in == "_run_module_as_main" || isChild
	})
}

// where is the innermost frame in the app's own code, which lies in dir; nil where none does.
func (t *traceback) where(dir string) *frame {
	for _, f := range slices.Backward(t.frames) {
		if strings.HasPrefix(f.file, dir+"/") && !packages.MatchString(f.file) {
			return &f
		}
	}
	return nil
}

// innermost is the last frame that isn't Python's own import machinery.
func (t *traceback) innermost() frame {
	for _, f := range slices.Backward(t.frames) {
		if !strings.HasPrefix(f.file, "<frozen ") && !strings.HasSuffix(f.file, "/importlib/__init__.py") {
			return f
		}
	}
	return frame{}
}

// reduced is the traceback as it is shown: the app's own innermost frame and the exception.
func (t *traceback) reduced(dir string) string {
	if f := t.where(dir); f != nil {
		return f.String() + "\n" + t.line
	}
	return t.line
}

func (f frame) String() string {
	s := `File "` + f.file + `", line ` + strconv.Itoa(f.line)
	if f.in != "" {
		s += ", in " + f.in
	}
	if f.code != "" {
		s += "\n    " + f.code
	}
	return s
}
