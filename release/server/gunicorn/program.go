package gunicorn

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// maxLine is more than Linux reads of a script's first line (BINPRM_BUF_SIZE), in bytes.
const maxLine = 1 << 10

var gunicornName = regexp.MustCompile(`^gunicorn(-?\d+(\.\d+)*)?$`)

// program finds where gunicorn's own arguments begin.
func (w *work) program(args []string) error {
	if len(args) == 0 {
		return server.Unsure("its ExecStart is empty")
	}
	switch program := args[0]; {
	case !filepath.IsAbs(program) || strings.Contains(program, "$"):
		return server.Unsure("its ExecStart runs %s, which is not a path", program)
	case gunicornName.MatchString(filepath.Base(program)):
		w.words = args[1:]
		return w.script(w.link.Path(program))
	case server.PythonName.MatchString(filepath.Base(program)):
		w.run = []string{w.link.Path(program)}
		if err := w.notLive("its program", program, filepath.Dir(w.run[0])); err != nil {
			return err
		}
		return w.interpreter(args[1:])
	default:
		return server.Unsure("its ExecStart runs %s, not gunicorn itself", filepath.Base(program))
	}
}

// script sees that a gunicorn is Python's. One whose first line goes through the live link is run by the candidate's
// Python: the live release's would import the live release's packages.
func (w *work) script(file string) error {
	w.run = []string{file}
	if err := w.notLive("its program", file, filepath.Dir(file)); err != nil {
		return err
	}
	line, err := firstLine(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil // systemd will say so
	}
	if err != nil {
		return server.Unsure("%s can't be read: %v", file, untrusted.Cause(err))
	}
	line, found := strings.CutPrefix(line, "#!")
	python, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
	rest = strings.TrimSpace(rest) // the kernel makes one argument of it
	switch {
	case !found:
		return server.Unsure("%s is not a script, so that what it does is not known", file)
	case filepath.Base(python) == "env" && server.PythonName.MatchString(rest):
		return nil // $PATH finds it, which is pointed at the candidate
	case !server.PythonName.MatchString(filepath.Base(python)):
		return server.Unsure("%s is a script for %s, not gunicorn itself", file, filepath.Base(python))
	}
	pointed := w.link.Path(python)
	switch {
	case pointed == python && server.Below(file, w.stage.Release):
		return nil // the candidate's own, whatever Python it names: so it would run when it is live
	case pointed == python:
		return w.notLive("the Python of its program", python, filepath.Dir(python))
	case rest == "":
		w.run = []string{pointed, file}
	default:
		w.run = []string{pointed, rest, file}
	}
	return nil
}

// interpreter passes Python's own options (python(1)) and finds -m gunicorn, or the script.
func (w *work) interpreter(args []string) error {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if !strings.HasPrefix(arg, "-") {
			return w.pythonScript(arg, args)
		}
		w.run = append(w.run, w.link.Point(arg))
		// Of the rest of the word, the first letter is an option with a value, which is what follows it.
		rest := strings.TrimLeft(arg[1:], "bBdEiIOPqRsSuv")
		if rest == "" && arg != "-" {
			continue
		}
		value := strings.TrimLeft(rest, "mWX")
		if value == "" && len(args) > 0 {
			value = args[0]
			args = args[1:]
			w.run = append(w.run, w.link.Point(value))
		}
		switch {
		case strings.ContainsAny(arg+value, "$"):
			return server.Unsure("its ExecStart has a variable before gunicorn's own arguments")
		case strings.HasPrefix(rest, "m") && (value == "gunicorn" || value == "gunicorn.app.wsgiapp"):
			w.words = args
			return nil
		case !strings.HasPrefix(rest, "W") && !strings.HasPrefix(rest, "X"):
			return server.Unsure("its ExecStart runs Python with %.2s, not gunicorn itself", arg)
		}
	}
	return server.Unsure("its ExecStart runs Python without gunicorn")
}

// pythonScript is run by the interpreter that the command names, whatever its first line says.
func (w *work) pythonScript(file string, args []string) error {
	if !gunicornName.MatchString(filepath.Base(file)) {
		return server.Unsure("its ExecStart runs %s, not gunicorn itself", filepath.Base(file))
	}
	script := w.link.Path(w.link.Relative(file, w.live))
	w.run = append(w.run, script)
	w.words = args
	return w.notLive("its program", file, filepath.Dir(join(w.dir, script)))
}

// firstLine reads a file's first line, or as much of it as counts.
func firstLine(file string) (string, error) {
	text, _, err := readFile(file, maxLine)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(line), err
}

// readFile reads at most limit bytes of a regular file, and tells whether there are more.
func readFile(file string, limit int64) (text []byte, more bool, err error) {
	return untrusted.ReadFile(file, limit, nil)
}
