package gunicorn

import (
	"path/filepath"
	"strings"

	"deploygate/release/server"
)

// Read returns what the live unit's command names. The error is an *Uncertain.
func Read(l server.Live) (server.Names, error) {
	p, err := server.AsItIs(l, itself)
	if err != nil {
		return server.Names{}, err
	}
	w := &work{Pointed: p}
	words := make([]server.Word, len(w.Words))
	for i, raw := range w.Words {
		if words[i], err = w.Variables.Expand(raw); err != nil {
			return server.Names{}, err
		}
	}
	line, err := sorted(words, "its ExecStart")
	if err != nil {
		return server.Names{}, err
	}
	variable, err := sortVariable(w.Variables[cmdArgs])
	if err != nil {
		return server.Names{}, err
	}
	w.adopt(variable)
	w.adopt(line)
	return w.names(append(variable, line...)), nil
}

func (w *work) names(args []argument) server.Names {
	n := server.Names{Dir: w.Live, Config: filepath.Join(w.Live, "gunicorn.conf.py")}
	if w.chdir.valued {
		n.Dir, n.Chdir = join(w.Live, w.chdir.value.Text), true
	}
	if w.config.value.Text != "" {
		scheme, p := cutScheme(w.config.value.Text)
		if n.Config, n.Given = "", false; scheme != "python:" {
			n.Config = join(w.Live, p)
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
