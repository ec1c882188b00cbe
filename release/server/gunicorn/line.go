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
	dir           string // the working directory
	variable, own []argument
}

// Parse reads a command. Words that hold variables are taken as they stand.
func Parse(c server.Command) Line {
	l := Line{dir: c.Dir}
	name := slices.IndexFunc(c.Args, func(arg string) bool { return strings.HasPrefix(filepath.Base(arg), "gunicorn") })
	if l.known = name >= 0; !l.known {
		return l
	}
	var words []server.Word
	for _, raw := range c.Args[name+1:] {
		words = append(words, server.Word{Raw: raw, Text: raw})
	}
	l.own, _ = sorted(words, "its ExecStart") // what was understood until there counts
	for _, assignment := range c.Environment {
		if value, is := strings.CutPrefix(assignment, cmdArgs+"="); is {
			l.variable, _ = sortVariable(value)
		}
	}
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

// Bind returns where gunicorn listens, in its own syntax: its first bind. One in a configuration file or behind a variable is
// not known: ok is false, and why says what was in the way.
func (l Line) Bind() (bind, why string, ok bool) {
	binds := l.Binds()
	switch {
	case !l.known:
		return "", "its ExecStart does not name gunicorn", false
	case len(binds) > 0:
		bind = strings.TrimSpace(strings.Split(binds[0], ",")[0])
		if strings.Contains(bind, "$") {
			return "", "its --bind " + bind + " is a variable", false
		}
		if file, isUnix := strings.CutPrefix(bind, "unix:"); isUnix && !strings.HasPrefix(file, "/") && l.dir != "" {
			bind = "unix:" + filepath.Join(l.Dir(), file)
		}
		return bind, "", true
	case l.Option("--config") != "":
		return "", "its bind is in " + l.Option("--config"), false
	}
	return "", "its ExecStart has no --bind", false
}
