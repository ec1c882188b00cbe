package gunicorn

import (
	"bytes"
	"context"
	_ "embed" // settings.py
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"deploygate/gate/untrusted"
	"deploygate/release/python"
	"deploygate/release/server"
)

//go:embed settings.py
var program string

const (
	// maxSettings bounds a configuration file, in bytes.
	maxSettings = 256 << 10
	// maxAnswer bounds what is said of it, in bytes: the program keeps to 4 MiB.
	maxAnswer = 5 << 20
	// maxParse bounds how long that may take; the program keeps to 5 seconds of processor time.
	maxParse = 30 * time.Second
)

// statement is one of a configuration file.
type statement struct {
	Line     int      `json:"line"`
	Kind     string   `json:"kind"` // import, assign, define, call, change, nothing; else the name that Python's ast has for it
	Names    []string `json:"names"`
	Value    string   `json:"value"`    // of a constant
	Strings  []string `json:"strings"`  // with a slash in them
	Calls    []string `json:"calls"`    // of what can set names that no statement has
	Handlers []string `json:"handlers"` // the classes of a logging configuration's handlers
}

// configuration judges the candidate's configuration file: --config, else gunicorn.conf.py in the working directory
// that systemd sets, whatever --chdir says.
func (w *work) configuration(ctx context.Context) error {
	file := filepath.Join(w.Dir, "gunicorn.conf.py")
	if w.config.value.Text != "" {
		scheme, p := cutScheme(w.text(w.config))
		switch {
		case !w.config.value.Known():
			return server.Unsure("its --config has a variable that is not known")
		case scheme == "python:":
			return server.Unsure("its --config is a Python module, which may do anything")
		}
		file = join(w.Dir, p)
		if err := w.NotLive("its configuration file", file, filepath.Dir(file)); err != nil {
			return err
		}
	}
	text, more, err := untrusted.ReadFile(file, maxSettings, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return nil // gunicorn has none, or will say so
	case err != nil:
		return server.Unsure("%s can't be read: %v", file, untrusted.Cause(err))
	case more:
		return server.Unsure("%s is longer than %d KiB", file, maxSettings>>10)
	}
	statements, problem, err := w.parse(ctx, text)
	switch {
	case err != nil:
		return err
	case problem != "":
		return server.Unsure("%s %s", file, problem)
	}
	for _, s := range statements {
		if why := w.judge(s, statements); why != "" {
			return server.Unsure("%s, line %d, %s", file, s.Line, why)
		}
	}
	return nil
}

// parse has Python look at a configuration file. A problem is one of the file or of the host, an error ctx's.
func (r rewriter) parse(ctx context.Context, text []byte) (statements []statement, problem string, err error) {
	if r.python == "" {
		return nil, "can't be read: python3 is not installed", nil
	}
	within, cancel := context.WithTimeout(ctx, maxParse)
	defer cancel()
	cmd := python.Command(within, r.python, program)
	out := &bounded{}
	cmd.Stdin, cmd.Stdout = bytes.NewReader(text), out
	failed := cmd.Run()
	if ctx.Err() != nil {
		return nil, "", fmt.Errorf("cannot read the configuration file in time: %w", context.Cause(ctx))
	}
	var answer struct {
		Statements []statement `json:"statements"`
		Problem    string      `json:"problem"`
	}
	if failed != nil || json.Unmarshal(out.text, &answer) != nil {
		return nil, "ends or blocks the Python that parses it", nil
	}
	return answer.Statements, answer.Problem, nil
}

// bounded keeps an answer, and ends the program whose answer is too long.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > maxAnswer {
		return 0, errors.New("too long")
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// hooks are called by gunicorn (config.py, "Server Hooks" and "Dirty Arbiter Hooks").
var hooks = []string{
	"on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort",
	"pre_exec", "pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed", "on_exit", "ssl_context",
	"on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit",
}

// beaten are the settings that the rehearsal's command line has, too.
var beaten = []string{"bind", "workers", "pidfile", "proc_name", "errorlog", "accesslog"}

// lasting are settings that the command line can't take back, and what they do. Off, they do nothing.
var lasting = map[string]string{
	"daemon":         "which puts gunicorn into the background",
	"reuse_port":     "which a unix socket can't have",
	"logconfig":      "which may name the live release's log files",
	"logconfig_dict": "which may name the live release's log files",
	"logconfig_json": "which may name the live release's log files",
	"certfile":       "which has gunicorn speak something else than plain HTTP",
	"keyfile":        "which has gunicorn speak something else than plain HTTP",
	"protocol":       "which has gunicorn speak something else than plain HTTP",
	"http_protocols": "which has gunicorn speak something else than plain HTTP",
	"control_socket": "which both releases would have",
}

// off is what a setting may be and do nothing.
var off = []string{"None", "False", "0", "''", "'http'", "'h1'"}

// judge tells what a statement does that a rehearsal must not do, "" for nothing.
func (w *work) judge(s statement, all []statement) string {
	switch s.Kind {
	case "nothing":
	case "import":
		if slices.Contains(s.Names, "*") {
			return "imports names that are not known"
		}
	case "assign":
		if len(s.Calls) > 0 {
			return "calls " + s.Calls[0] + ", which may set anything"
		}
	case "define":
		return "defines " + s.Names[0]
	case "call":
		return "calls " + s.Names[0]
	case "change":
		return "changes " + s.Names[0]
	default:
		return "does more than set something: " + strings.ToLower(s.Kind)
	}
	w.accesslog = w.accesslog || slices.Contains(s.Names, "accesslog") && s.Value != "None"
	for _, name := range s.Names {
		why, lasts := lasting[name]
		switch {
		case slices.Contains(hooks, name):
			return "sets " + name + ", which gunicorn would call"
		case !lasts, s.harmless(name), name == "control_socket" && w.controlOff(all):
		default:
			return "sets " + name + ", " + why
		}
	}
	if slices.ContainsFunc(s.Strings, w.Link.Mentioned) && !s.beaten() {
		return "names " + w.Link.Name()
	}
	return ""
}

// harmless reports whether a setting that lasts does nothing.
func (s statement) harmless(name string) bool {
	if name == "logconfig_dict" && s.Handlers != nil {
		return !slices.ContainsFunc(s.Handlers, func(class string) bool {
			return class != "logging.StreamHandler" && class != "logging.NullHandler"
		})
	}
	return slices.Contains(off, s.Value)
}

// beaten reports whether a statement sets nothing but what the command line has, too.
func (s statement) beaten() bool {
	return !slices.ContainsFunc(s.Names, func(name string) bool { return !slices.Contains(beaten, name) })
}

// controlOff reports whether there is no control socket.
func (w *work) controlOff(all []statement) bool {
	set := slices.DeleteFunc(slices.Clone(all), func(s statement) bool { return !slices.Contains(s.Names, "control_socket_disable") })
	return w.control || len(set) > 0 && set[len(set)-1].Value == "True"
}
