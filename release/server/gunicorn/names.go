package gunicorn

import (
	"path/filepath"
	"slices"
	"strings"

	"deploygate/release/server"
)

// Read returns what the live unit's command names. The error is an *Uncertain.
func Read(l server.Live) (server.Names, error) {
	w := &work{link: server.NewLink(l.Link, l.Link)} // so that nothing is pointed elsewhere
	w.stage.PIDFile = "/gunicorn.pid"
	if err := w.directory(l.Dir); err != nil {
		return server.Names{}, err
	}
	w.variables = server.Command{Environment: slices.Concat(l.Environment, l.Files)}.Variables()
	if err := w.ownWords(l.Args); err != nil {
		return server.Names{}, err
	}
	words := make([]server.Word, len(w.words))
	for i, raw := range w.words {
		var err error
		if words[i], err = w.variables.Expand(raw); err != nil {
			return server.Names{}, err
		}
	}
	line, err := sorted(words, "its ExecStart")
	if err != nil {
		return server.Names{}, err
	}
	variable, err := sortVariable(w.variables[cmdArgs])
	if err != nil {
		return server.Names{}, err
	}
	w.adopt(variable)
	w.adopt(line)
	return w.names(append(variable, line...)), nil
}

// ownWords finds gunicorn's own arguments.
func (w *work) ownWords(args []string) error {
	switch {
	case len(args) == 0:
		return server.Unsure("its ExecStart is empty")
	case gunicornName.MatchString(filepath.Base(args[0])):
		w.words = args[1:]
		return nil
	case server.PythonName.MatchString(filepath.Base(args[0])):
		return w.interpreter(args[1:])
	}
	return server.Unsure("its ExecStart runs %s, not gunicorn itself", filepath.Base(args[0]))
}

func (w *work) names(args []argument) server.Names {
	n := server.Names{Dir: w.live, Config: filepath.Join(w.live, "gunicorn.conf.py")}
	if w.chdir.valued {
		n.Dir, n.Chdir = join(w.live, w.chdir.value.Text), true
	}
	if w.config.value.Text != "" {
		scheme, p := cutScheme(w.config.value.Text)
		if n.Config, n.Given = "", false; scheme != "python:" {
			n.Config = join(w.live, p)
			n.Given = n.Config != ""
		}
	}
	if n.Dir == "" {
		return n
	}
	for _, a := range args {
		text := strings.TrimPrefix(a.value.Text, "unix:")
		switch {
		case !a.valued || !a.value.Known() || text == "":
		case a.option == nil && a.head == "":
			n.App = text
		case a.is("--pythonpath"):
			for p := range strings.SplitSeq(text, ",") {
				n.Path = append(n.Path, join(n.Dir, p))
			}
		case a.is("--bind") && text == a.value.Text: // a port
		case a.is("--bind"), a.is("--pid"), a.is("--error-logfile"), a.is("--log-file"), a.is("--access-logfile"):
			if text != "-" {
				n.Outputs = append(n.Outputs, join(n.Dir, text))
			}
		}
	}
	return n
}
