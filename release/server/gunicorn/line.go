package gunicorn

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// Line is what a command tells gunicorn, as far as that is understood: the arguments of GUNICORN_CMD_ARGS in the unit's own
// environment, and those after gunicorn's name, which beat them.
type Line struct {
	known         bool   // it names gunicorn, itself or as a module
	shell         bool   // a shell runs it
	dir           string // the working directory
	variables     server.Variables
	variable, own []argument
}

// Parse reads a command. Words that hold variables which are not known are taken as they stand.
func Parse(c server.Command) Line {
	l := Line{dir: c.Dir, variables: c.Variables(), shell: server.InShell(c.Args, named)}
	var own []string
	if own, l.known = server.Own(c.Args, named); !l.known {
		return l
	}
	// What was understood until an error counts.
	l.own, _ = sorted(l.variables.Words(own), "its ExecStart")
	l.variable, _ = sortVariable(l.variables[cmdArgs])
	return l
}

// Known implements server.Line.
func (l Line) Known() bool { return l.known }

// PIDFile implements server.Line.
func (l Line) PIDFile() string { return l.Option("--pid") }

// Timeout implements server.Line. It isn't known where a configuration file may say it.
func (l Line) Timeout() time.Duration {
	if s := l.Option("--timeout"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return 0
		}
		return time.Duration(n) * time.Second
	}
	_, err := untrusted.Stat(filepath.Join(l.dir, "gunicorn.conf.py"))
	if l.Option("--config") != "" || !errors.Is(err, fs.ErrNotExist) || !l.known {
		return 0
	}
	return 30 * time.Second // gunicorn's default
}

// Option returns the last value of an option, by its long name; "" if it isn't there.
func (l Line) Option(name string) string {
	values := append(valuesOf(l.variable, name), valuesOf(l.own, name)...)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// Has reports whether an option is there, by its long name.
func (l Line) Has(name string) bool {
	return slices.ContainsFunc(slices.Concat(l.variable, l.own), func(a argument) bool { return a.is(name) })
}

// Binds returns every bind, as it is written: of the command line, else of GUNICORN_CMD_ARGS.
func (l Line) Binds() []string {
	if own := valuesOf(l.own, "--bind"); len(own) > 0 {
		return own
	}
	return valuesOf(l.variable, "--bind")
}

func valuesOf(args []argument, name string) (values []string) {
	for _, a := range args {
		if a.is(name) {
			values = append(values, a.value.Text)
		}
	}
	return values
}

// LogFiles returns the files that gunicorn logs errors to, those that are named by an absolute path.
func (l Line) LogFiles() (files []string) {
	for _, option := range []string{"--error-logfile", "--log-file"} {
		if file := l.Option(option); filepath.IsAbs(file) {
			files = append(files, file)
		}
	}
	return files
}

// Dir returns where gunicorn works: in the unit's working directory, or where --chdir leads from there.
func (l Line) Dir() string {
	if to := l.Option("--chdir"); to != "" {
		return join(l.dir, to)
	}
	return l.dir
}

// Bind implements server.Line: a bind on the command line beats GUNICORN_CMD_ARGS, that the configuration file, and that
// the default (config.py, Bind).
func (l Line) Bind() server.Bind {
	args := l.own
	if len(valuesOf(args, "--bind")) == 0 {
		args = l.variable
	}
	for _, a := range args {
		if a.is("--bind") {
			return l.bound(a.value)
		}
	}
	file := filepath.Join(l.dir, "gunicorn.conf.py")
	if given := l.Option("--config"); given != "" {
		file = given
	} else if _, err := untrusted.Stat(file); errors.Is(err, fs.ErrNotExist) {
		file = ""
	}
	switch port := l.variables["PORT"]; {
	case !l.known:
		return server.NotSaid("its ExecStart names no server whose options are known")
	case file != "":
		return server.InFile(file, l.shell)
	case port != "":
		return server.Bind{Addr: "0.0.0.0:" + port, Default: true}
	}
	return server.At("", "")
}

// bound is the first bind of an option's value.
func (l Line) bound(value server.Word) server.Bind {
	bind := strings.TrimSpace(strings.Split(value.Text, ",")[0])
	if !server.Plain(bind) {
		return server.Unset("--bind")
	}
	if file, isUnix := strings.CutPrefix(bind, "unix:"); isUnix && !strings.HasPrefix(file, "/") && l.dir != "" {
		bind = "unix:" + filepath.Join(l.Dir(), file)
	}
	return server.Bind{Addr: bind}
}

// Inherits implements server.Line: gunicorn takes what systemd listens on instead of every bind.
func (Line) Inherits() bool { return true }
