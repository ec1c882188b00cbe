package server

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// PythonName matches the names of Python's interpreters.
var PythonName = regexp.MustCompile(`^(python|pypy)(\d+(\.\d+)*)?$`)

var shellName = regexp.MustCompile(`^(ba|da|z|k|a)?sh$`)

// wrapper is a program that runs the rest of its command line.
type wrapper struct {
	commands []string // one of them has to come first, "" is any word; nil: none
	valued   []string // its options whose value is the next word
	module   []string // its options whose value is a module for Python to run
	never    string   // what it does that can't be done beside the live release; "" if there is nothing
}

const changesUser = "changes the user"

// wrappers are those that unit files put before a server. They run it, and give it its arguments as they are.
var wrappers = map[string]wrapper{
	"env":                      {valued: []string{"-u", "--unset", "-C", "--chdir"}},
	"exec":                     {valued: []string{"-a"}},
	"nice":                     {valued: []string{"-n", "--adjustment"}},
	"ionice":                   {valued: []string{"-c", "-n", "--class", "--classdata"}},
	"nohup":                    {},
	"setsid":                   {never: "may leave it in the background"},
	"stdbuf":                   {valued: []string{"-i", "-o", "-e"}},
	"tini":                     {valued: []string{"-e", "-p"}},
	"dumb-init":                {valued: []string{"-r", "--rewrite"}},
	"setpriv":                  {valued: []string{"--reuid", "--regid", "--groups"}, never: changesUser},
	"gosu":                     {commands: []string{""}, never: changesUser},
	"su-exec":                  {commands: []string{""}, never: changesUser},
	"envdir":                   {commands: []string{""}},
	"poetry":                   {commands: []string{"run"}, valued: []string{"-C", "--directory", "-P", "--project"}},
	"pipenv":                   {commands: []string{"run"}, valued: []string{"--python"}},
	"pdm":                      {commands: []string{"run"}, valued: []string{"-p", "--project", "-c", "--config"}},
	"hatch":                    {commands: []string{"run"}, valued: []string{"-e", "--env", "-p", "--project"}},
	"rye":                      {commands: []string{"run"}},
	"dotenv":                   {commands: []string{"run"}, valued: []string{"-f", "--file", "-e", "--export"}},
	"doppler":                  {commands: []string{"run"}, valued: []string{"-p", "--project", "-c", "--config", "-t", "--token"}},
	"ddtrace-run":              {},
	"newrelic-admin":           {commands: []string{"run-program", "run-python"}},
	"opentelemetry-instrument": {},
	"uv": {
		commands: []string{"run"},
		valued: []string{
			"--with", "--with-editable", "--with-requirements", "--extra", "--no-extra", "--group", "--no-group", "--only-group", "--package",
			"-p", "--python", "--project", "--directory", "--env-file", "--config-file", "--cache-dir", "--index", "--default-index",
		},
		module: []string{"-m", "--module"},
	},
}

// Own finds the server that a command runs, by whether its name is one's, and returns the server's own arguments. It may run
// it itself, as a module or a script of Python, through programs that run the rest of their command line, or as the last
// command of a shell's -c. Where the server isn't found, found is false: a start script may run anything.
func Own(args []string, is func(name string) bool) (own []string, found bool) {
	c := chainOf(args, is)
	return c.own, c.found
}

// InShell reports whether a command comes to the server through a shell, whose line may hold secrets.
func InShell(args []string, is func(name string) bool) bool { return chainOf(args, is).shell }

// InFile is where a server listens whose configuration file may say so. Of a shell's line the file's name isn't shown.
func InFile(file string, inShell bool) Bind {
	if inShell {
		file = "its configuration file"
	}
	return NotSaid("its bind may be in %s", file)
}

// chain is how a command comes to its server: the programs that run one another.
type chain struct {
	programs []string // as the command has them; where a server is found it is the last
	own      []string // the server's own arguments
	found    bool
	shell    bool // a shell is among them, so that own aren't the last words of the command as they are written
}

func chainOf(args []string, is func(name string) bool) (c chain) {
	const enough = 8 // of them within each other
	for len(args) > 0 && len(c.programs) < enough {
		c.programs = append(c.programs, args[0])
		name := filepath.Base(args[0])
		switch w, wraps := wrappers[name]; {
		case is(name):
			c.own, c.found = args[1:], true
			return c
		case PythonName.MatchString(name):
			args = afterPython(args[1:])
		case shellName.MatchString(name):
			args, c.shell = afterShell(args[1:]), true
		case wraps:
			args = w.rest(args[1:])
		default:
			return c
		}
	}
	return c
}

// rest returns the command that it runs.
func (w wrapper) rest(args []string) []string {
	commands := w.commands
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return args[1:]
		case slices.Contains(w.module, arg):
			return args[1:]
		case slices.Contains(w.valued, arg):
			args = args[min(2, len(args)):]
		case strings.HasPrefix(arg, "-"):
			args = args[1:]
		case commands != nil:
			if commands[0] != "" && !slices.Contains(commands, arg) {
				return nil
			}
			commands, args = nil, args[1:]
		case assignment.MatchString(arg): // env's
			args = args[1:]
		default:
			return args
		}
	}
	return nil
}

var assignment = regexp.MustCompile(`^[A-Za-z_]\w*=`)

// afterPython returns the module or script that Python runs, and its arguments (python(1)).
func afterPython(args []string) []string {
	for len(args) > 0 {
		arg := args[0]
		if !strings.HasPrefix(arg, "-") {
			return args
		}
		args = args[1:]
		// Of the rest of the word, the first letter is an option with a value, which is what follows it.
		rest := strings.TrimLeft(arg[1:], "bBdEiIOPqRsSuv")
		switch {
		case rest == "":
			continue
		case rest[0] != 'm' && rest[0] != 'W' && rest[0] != 'X':
			return nil
		case rest[0] == 'm' && rest != "m":
			return append([]string{rest[1:]}, args...)
		case rest[0] == 'm':
			return args
		case len(rest) == 1:
			args = args[min(1, len(args)):]
		}
	}
	return nil
}

// afterShell returns the words of the last command of a shell's -c, as far as they can be told without running it: variables
// and substitutions stand in them as they are written.
func afterShell(args []string) []string {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		isCommand := !strings.HasPrefix(args[0], "--") && strings.HasSuffix(args[0], "c")
		args = args[1:]
		if !isCommand || len(args) == 0 {
			continue
		}
		words, closed := Split(spaced.Replace(args[0]))
		if !closed {
			return nil
		}
		for i, word := range slices.Backward(words) {
			if strings.Trim(word, ";&|") == "" {
				words = words[i+1:]
				break
			}
		}
		for len(words) > 0 && assignment.MatchString(words[0]) {
			words = words[1:]
		}
		return words
	}
	return nil
}

// spaced gives what stands between commands a space on each side. (In quotes, which is rare, it does harm to a value.)
var spaced = strings.NewReplacer("&&", " && ", "||", " || ", ";", " ; ", "\n", " ; ")

// Split splits words as Python's shlex.split does. It isn't ok where something is left open.
func Split(text string) (words []string, ok bool) {
	var one strings.Builder
	quote, inWord, escaped := byte(0), false, false
	for i := range len(text) {
		switch b := text[i]; {
		case escaped:
			// Between double quotes, a backslash is one unless a quote or another one follows.
			if quote != 0 && b != quote && b != '\\' {
				one.WriteByte('\\')
			}
			one.WriteByte(b)
			escaped = false
		case b == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && b == quote:
			quote = 0
		case quote != 0:
			one.WriteByte(b)
		case b == '"' || b == '\'':
			quote, inWord = b, true
		case strings.IndexByte(" \t\r\n", b) < 0:
			one.WriteByte(b)
			inWord = true
		case inWord:
			words = append(words, one.String())
			one.Reset()
			inWord = false
		}
	}
	if inWord {
		words = append(words, one.String())
	}
	return words, quote == 0 && !escaped
}
