package gunicorn

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"deploygate/release/server"
)

// cmdArgs is the environment variable that gunicorn takes arguments from. The command line beats it, and it beats the
// configuration file (Application.load_config, from 20.1 to 26).
const cmdArgs = "GUNICORN_CMD_ARGS"

// arguments points gunicorn's arguments at the candidate, and leaves out those whose place the rehearsal's own take.
func (w *work) arguments() error {
	words := make([]server.Word, len(w.Words))
	for i, raw := range w.Words {
		var err error
		if words[i], err = w.Variables.Expand(raw); err != nil {
			return err
		}
	}
	line, err := sorted(words, "its ExecStart")
	if err != nil {
		return err
	}
	variable, err := sortVariable(w.Variables[cmdArgs])
	if err != nil {
		return err
	}
	w.adopt(variable)
	w.adopt(line)
	w.liveRoot, w.root = w.Live, w.Dir
	if w.chdir.valued {
		w.liveRoot, w.root = join(w.Live, w.chdir.value.Text), join(w.Dir, w.text(w.chdir))
	}
	if w.kept, err = w.keep(line, "its ExecStart"); err != nil {
		return err
	}
	return w.changeVariable(variable)
}

// join enters a directory from another one; "" is one that is not known.
func join(dir, p string) string {
	switch {
	case strings.Contains(p, server.Unknown):
		return ""
	case filepath.IsAbs(p):
		return filepath.Clean(p)
	}
	return filepath.Join(dir, p)
}

// adopt notes what later steps need of arguments that beat those before. The last of an option counts, but an empty
// --config is none.
func (w *work) adopt(args []argument) {
	before := w.config
	for _, a := range args {
		switch {
		case a.option == nil:
		case a.option.use == control:
			w.control = true
		case a.is("--config"):
			w.config = a
		case a.is("--chdir"):
			w.chdir = a
		}
	}
	if w.config.value.Text == "" {
		w.config = before
	}
}

// keep returns the words of those arguments that stay.
func (w *work) keep(args []argument, where string) (words []string, err error) {
	for _, a := range args {
		switch {
		case a.option != nil && a.option.use == refused:
			return nil, server.Unsure("%s has %s, %s", where, a.head, a.option.why)
		case a.option != nil && a.option.use != kept:
			continue
		case !a.valued:
			words = append(words, a.head)
			continue
		}
		// As it was, if systemd makes of that what the candidate must get.
		v, text := w.Link.Point(a.value.Raw), w.text(a)
		if again, err := w.Variables.Expand(v); a.value.Known() && (err != nil || again.Text != text) {
			v = server.Escape(text)
		}
		if a.apart {
			words = append(words, a.head, v)
		} else {
			words = append(words, a.head+v)
		}
	}
	return words, nil
}

// text is the value that the candidate must get.
func (w *work) text(a argument) string {
	text := w.Link.Point(a.value.Text)
	switch {
	case a.is("--chdir"):
		return w.Link.Relative(text, w.Live)
	case a.is("--config"):
		scheme, file := cutScheme(text)
		return scheme + w.Link.Relative(file, w.Live)
	case a.is("--pythonpath"):
		dirs := strings.Split(text, ",")
		for i, dir := range dirs {
			dirs[i] = w.Link.Relative(dir, w.liveRoot)
		}
		return strings.Join(dirs, ",")
	}
	return text
}

// cutScheme cuts file: or python: from the beginning of a --config.
func cutScheme(config string) (scheme, rest string) {
	for _, scheme := range []string{"file:", "python:"} {
		if rest, found := strings.CutPrefix(config, scheme); found {
			return scheme, rest
		}
	}
	return "", config
}

// sortVariable sorts the value of GUNICORN_CMD_ARGS.
func sortVariable(value string) ([]argument, error) {
	texts, ok := server.Split(value)
	if !ok {
		return nil, server.Unsure("its %s has a quote that nothing closes", cmdArgs)
	}
	words := make([]server.Word, len(texts))
	for i, text := range texts {
		words[i] = server.Word{Raw: server.Escape(text), Text: text}
	}
	return sorted(words, "its "+cmdArgs)
}

// changeVariable does to GUNICORN_CMD_ARGS what was done to the command line.
func (w *work) changeVariable(args []argument) error {
	if w.FromFile(cmdArgs) {
		return w.leaveVariable(args)
	}
	words, err := w.keep(args, "its "+cmdArgs)
	if err != nil {
		return err
	}
	for i, raw := range words {
		again, err := w.Variables.Expand(raw)
		if err != nil {
			return err
		}
		words[i] = again.Text
	}
	for i, assignment := range w.Environment {
		if was, found := strings.CutPrefix(assignment, cmdArgs+"="); found {
			if before, _ := server.Split(was); !slices.Equal(before, words) {
				w.Environment[i] = cmdArgs + "=" + quoted(words)
			}
		}
	}
	return nil
}

// leaveVariable sees that GUNICORN_CMD_ARGS may stay as it is: an EnvironmentFile sets it, which beats Environment.
func (w *work) leaveVariable(args []argument) error {
	for _, a := range args {
		switch {
		case a.option == nil:
		case a.option.use == shared, a.option.use == refused:
			return server.Unsure("its EnvironmentFile sets %s with %s, %s", cmdArgs, a.head, a.option.why)
		case a.option.use == kept && (w.Link.Mentioned(a.value.Text) || w.text(a) != a.value.Text):
			return server.Unsure("its EnvironmentFile sets %s with a path through %s", cmdArgs, w.Link.Name())
		case a.is("--access-logfile"):
			w.accesslog = true
		}
	}
	return nil
}

var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// quoted is what server.Split splits into words again.
func quoted(words []string) string {
	all := make([]string, len(words))
	for i, one := range words {
		if all[i] = one; !plain.MatchString(one) {
			all[i] = "'" + strings.ReplaceAll(one, "'", `'"'"'`) + "'"
		}
	}
	return strings.Join(all, " ")
}
