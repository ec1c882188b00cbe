package gunicorn

import (
	"regexp"
	"strings"

	"deploygate/release/server"
)

// use is what becomes of an option.
type use int

const (
	kept     use = iota // it stays as it is
	replaced            // the rehearsal's own beats it, wherever it stands
	dropped             // it is left out, and does no harm where it can't be
	shared              // it is left out, and must not be where it can't be
	control             // it is left out: it says that this gunicorn has a control socket
	refused             // what it brings is not known
)

// option is one of gunicorn's.
type option struct {
	names []string // the short one first, if there is one
	takes takes
	use   use
	why   string // it is shared or refused
}

// takes is whether an option has a value.
type takes int

const (
	nothing takes = iota
	value
	maybe // since 24.1, where it stands before an option or in the same word
)

// options are those of gunicorn 20.1 to 26 (config.py, the cli of each Setting). What isn't here stays as it is.
var options = func() (all []option) {
	add := func(use use, takes takes, why string, names ...string) {
		for _, n := range names {
			all = append(all, option{strings.Split(n, " "), takes, use, why})
		}
	}
	add(replaced, value, "", "-b --bind", "-w --workers", "-p --pid", "-n --name", "--error-logfile", "--log-file", "--access-logfile")

	// They say how a server restarts or reports itself, which a rehearsal must not do in the live one's name.
	add(dropped, nothing, "", "--reload", "--log-syslog")
	add(dropped, value, "", "--reload-engine", "--reload-extra-file", "--statsd-host", "--statsd-prefix", "--dogstatsd-tags",
		"--log-syslog-to", "--log-syslog-prefix", "--log-syslog-facility")

	add(shared, nothing, "which puts it into the background", "-D --daemon")
	add(shared, nothing, "which a unix socket can't have", "--reuse-port")
	add(shared, value, "which may name the live release's log files", "--log-config", "--log-config-json")
	add(shared, value, "which has it speak something else than plain HTTP", "--certfile", "--keyfile", "--http-protocols", "--protocol")
	add(refused, value, "which may name the live release's log files", "--paste", "--paster")

	add(control, nothing, "", "--no-control-socket")
	add(control, value, "", "--control-socket", "--control-socket-mode")

	add(kept, nothing, "", "-h --help", "-v --version", "-R --enable-stdio-inheritance", "--spew", "--check-config",
		"--print-config", "--preload", "--no-sendfile", "--initgroups", "--disable-redirect-access-to-syslog", "--capture-output",
		"--suppress-ragged-eofs", "--do-handshake-on-connect", "--strip-header-spaces", "--tolerate-dangerous-framing",
		"--permit-obsolete-folding", "--permit-unconventional-http-method", "--permit-unconventional-http-version",
		"--casefold-http-method", "--enable-backlog-metric")
	add(kept, maybe, "", "--proxy-protocol")
	add(kept, value, "", "-c --config", "-k --worker-class", "-t --timeout", "-e --env", "-u --user", "-g --group", "-m --umask",
		"--backlog", "--threads", "--worker-connections", "--max-requests", "--max-requests-jitter", "--graceful-timeout",
		"--keep-alive", "--limit-request-line", "--limit-request-fields", "--limit-request-field_size", "--chdir",
		"--worker-tmp-dir", "--forwarded-allow-ips", "--access-logformat", "--log-level", "--logger-class", "--pythonpath",
		"--proxy-allow-from", "--ssl-version", "--cert-reqs", "--ca-certs", "--ciphers", "--paste-global", "--forwarder-headers",
		"--header-map", "--dirty-app", "--dirty-workers", "--dirty-timeout", "--dirty-threads", "--dirty-graceful-timeout",
		"--http2-max-concurrent-streams", "--http2-initial-window-size", "--http2-max-frame-size", "--http2-max-header-list-size",
		"--uwsgi-allow-from", "--root-path", "--asgi-loop", "--asgi-lifespan", "--asgi-disconnect-grace-period", "--http-parser")
	return all
}()

var byName = func() map[string]*option {
	all := map[string]*option{}
	for i := range options {
		for _, name := range options[i].names {
			all[name] = &options[i]
		}
	}
	return all
}()

// argument is an option with its value, or another word.
type argument struct {
	option *option // nil for none, or one that is not known
	head   string  // what stands before the value: "--bind", "--bind=", "-b", ""
	value  server.Word
	valued bool
	apart  bool // the value is a word of its own
}

// is reports whether it is the option of that name.
func (a argument) is(name string) bool { return a.option != nil && a.option == byName[name] }

// number is what argparse takes for a negative number, and so for no option.
var number = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)

// sorter tells gunicorn's options and their values apart, as argparse does (_parse_optional, _parse_known_args).
type sorter struct {
	where string // it has the words
	words []server.Word
	args  []argument
	plain int // words that are no options
}

// sorted sorts words that stand in where.
func sorted(words []server.Word, where string) ([]argument, error) {
	s := sorter{where: where, words: words}
	for len(s.words) > 0 {
		if err := s.next(); err != nil {
			return s.args, err
		}
	}
	return s.args, nil
}

func (s *sorter) next() error {
	w := s.words[0]
	s.words = s.words[1:]
	dash := strings.HasPrefix(w.Text, "-")
	switch {
	case strings.HasPrefix(w.Text, server.Unknown), dash && !strings.HasPrefix(w.Raw, "-"):
		return server.Unsure("%s has %s, which may hold options", s.where, w.Raw)
	case w.Text == "--":
		return server.Unsure("%s has --, after which nothing is an option", s.where)
	case !dash, w.Text == "-", number.MatchString(w.Text):
		return s.other(w)
	case strings.HasPrefix(w.Text, "--"):
		return s.long(w)
	}
	return s.short(w)
}

// other sorts a word that is no option: the app, or what an option may have for a value.
func (s *sorter) other(w server.Word) error {
	if last := len(s.args) - 1; last < 0 || !s.args[last].open() {
		s.plain++
	}
	if s.plain > 1 {
		return server.Unsure("%s has more than one word that is no option", s.where)
	}
	s.args = append(s.args, argument{value: w, valued: true})
	return nil
}

// open reports whether the next word may be its value, as far as anybody knows.
func (a argument) open() bool {
	return !a.valued && (a.option == nil || a.option.takes == maybe)
}

// long sorts --name and --name=value. argparse takes the beginning of a name for all of it, if no other begins like it.
func (s *sorter) long(w server.Word) error {
	name, text, equals := strings.Cut(w.Text, "=")
	if !strings.HasPrefix(w.Raw, name) {
		return server.Unsure("%s has an option whose name is a variable", s.where)
	}
	a := argument{head: name, option: byName[name]}
	for _, o := range options {
		for _, full := range o.names {
			switch {
			case byName[name] != nil || !strings.HasPrefix(full, name):
			case a.option == nil:
				a.option = byName[full]
			case a.option.use != o.use || a.option.takes != o.takes:
				return server.Unsure("%s has %s, which is short for more than one option", s.where, name)
			}
		}
	}
	switch {
	case equals:
		a.head, a.value, a.valued = name+"=", server.Word{Raw: w.Raw[len(name)+1:], Text: text}, true
	case a.option != nil && a.option.takes == value:
		return s.withNext(a)
	}
	s.args = append(s.args, a)
	return nil
}

// short sorts -x, -xvalue, -x=value and -xyz, which is -x -yz if x takes no value.
func (s *sorter) short(w server.Word) error {
	for text, raw, first := w.Text[1:], w.Raw[1:], true; text != ""; first = false {
		a := argument{head: "-" + text[:1], option: byName["-"+text[:1]]}
		if a.option == nil || raw[0] != text[0] {
			return server.Unsure("%s has %.2s…, with an option that is not known", s.where, w.Raw)
		}
		text, raw = text[1:], raw[1:]
		if a.option.takes == value {
			switch {
			case text == "":
				return s.withNext(a)
			case text[0] != '=':
			case first && raw[0] == '=':
				a.head += "="
				text, raw = text[1:], raw[1:]
			default: // Pythons differ
				return server.Unsure("%s has %.2s…, with an option that is not known", s.where, w.Raw)
			}
			a.value, a.valued = server.Word{Raw: raw, Text: text}, true
			text = ""
		}
		s.args = append(s.args, a)
	}
	return nil
}

// withNext sorts an option whose value is the next word.
func (s *sorter) withNext(a argument) error {
	if len(s.words) == 0 {
		return server.Unsure("%s has %s without a value", s.where, a.head)
	}
	w := s.words[0]
	s.words = s.words[1:]
	switch {
	case strings.HasPrefix(w.Text, "-") && w.Text != "-" && !number.MatchString(w.Text):
		return server.Unsure("%s has %s without a value", s.where, a.head)
	case w.Loose && a.option.use == kept:
		return server.Unsure("%s has %s, which may hold options", s.where, w.Raw)
	}
	a.value, a.valued, a.apart = w, true, true
	s.args = append(s.args, a)
	return nil
}
