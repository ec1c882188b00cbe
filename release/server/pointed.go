package server

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"deploygate/gate/untrusted"
)

// Pointed is the live unit's command while it is pointed at a candidate: all that goes through the live link leads to the
// candidate's directory. What the server's own arguments mean is for the server's package.
type Pointed struct {
	Candidate   Candidate
	Link        *Link
	Live, Dir   string // the working directory, of the live release and of the candidate
	Environment []string
	Variables   Variables
	Run         []string // the program, up to the server's own arguments
	Words       []string // those, as the unit has them; a variable of several words is replaced by them

	files []string // the names that the unit's EnvironmentFile=s assign
}

// Program is a server's.
type Program struct {
	Name     string                 // as it is called in what is said
	Is       func(name string) bool // whether a program, or a module of Python, is it
	Variable string                 // that it takes arguments from, which its own package judges; "" if there is none
}

// Point points a unit's working directory, environment and program. The error is an *Uncertain.
func Point(l Live, c Candidate, server Program) (*Pointed, error) {
	p := &Pointed{Candidate: c, Link: NewLink(l.Link, c.Release)}
	for _, step := range []func() error{
		func() error { return p.directory(l.Dir) },
		func() error { return p.variables(l, server.Variable) },
		func() error { return p.program(l.Args, server) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// AsItIs returns a unit's command with nothing in it pointed elsewhere.
func AsItIs(l Live, server Program) (*Pointed, error) {
	p := &Pointed{Link: NewLink(l.Link, l.Link), Variables: Command{Environment: slices.Concat(l.Environment, l.Files)}.Variables()}
	if err := p.directory(l.Dir); err != nil {
		return nil, err
	}
	c, err := chainTo(l.Args, server)
	if err != nil {
		return nil, err
	}
	p.Run = l.Args[:len(l.Args)-len(c.own)]
	return p, p.own(c.own)
}

// FromFile reports whether an EnvironmentFile= sets a variable, which Environment= can't change.
func (p *Pointed) FromFile(name string) bool { return slices.Contains(p.files, name) }

// directory points the working directory at the candidate.
func (p *Pointed) directory(live string) error {
	if live == "" {
		live = "/"
	}
	if !filepath.IsAbs(live) {
		return Unsure("its working directory %s is not known", live)
	}
	p.Live, p.Dir = live, p.Link.Path(live)
	return nil
}

// runtimeDirectory is where gunicorn 25.2 and later put their control socket, after they removed the one that is there.
// An option against it would be the end of an older gunicorn; a variable is not.
const runtimeDirectory = "XDG_RUNTIME_DIR"

// variables points the unit's own environment at the candidate. What an EnvironmentFile sets can't be changed.
func (p *Pointed) variables(l Live, judged string) error {
	p.Variables = Variables{}
	for _, assignment := range l.Environment {
		name, value, _ := strings.Cut(assignment, "=")
		if name == runtimeDirectory {
			continue
		}
		p.Variables[name] = p.Link.Point(value)
		p.Environment = append(p.Environment, name+"="+p.Variables[name])
	}
	p.Variables[runtimeDirectory] = filepath.Dir(p.Candidate.PIDFile)
	p.Environment = append(p.Environment, runtimeDirectory+"="+p.Variables[runtimeDirectory])
	for i, assignment := range l.Files {
		name, value, _ := strings.Cut(assignment, "=")
		again := func(later string) bool { return strings.HasPrefix(later, name+"=") }
		switch {
		case slices.ContainsFunc(l.Files[i+1:], again):
			continue
		case name == runtimeDirectory:
			return Unsure("its EnvironmentFile sets %s, where both releases would have a control socket", name)
		case name != judged && p.Link.Mentioned(value):
			return Unsure("its EnvironmentFile sets %s to a path through %s", name, p.Link.Name())
		}
		p.files = append(p.files, name)
		p.Variables[name] = value
	}
	return nil
}

// program finds where the server's own arguments begin, and points what is before them.
func (p *Pointed) program(args []string, server Program) error {
	c, err := chainTo(args, server)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(args[0]) {
		return Unsure("its ExecStart runs %s, which is not a path", args[0])
	}
	before := args[:len(args)-len(c.own)]
	if err := p.before(before, c.programs, server.Name); err != nil {
		return err
	}
	byPython := false
	for _, word := range before {
		if len(c.programs) == 0 || word != c.programs[0] {
			pointed, err := p.between(word)
			if err != nil {
				return err
			}
			p.Run = append(p.Run, pointed)
			continue
		}
		c.programs = c.programs[1:]
		run, err := p.runs(word, len(c.programs) == 0, byPython, server.Name)
		if err != nil {
			return err
		}
		p.Run = append(p.Run, run...)
		byPython = PythonName.MatchString(filepath.Base(word))
	}
	return p.own(c.own)
}

// chainTo finds how a command comes to a server, without a shell between.
func chainTo(args []string, server Program) (chain, error) {
	if len(args) == 0 {
		return chain{}, Unsure("its ExecStart is empty")
	}
	c := chainOf(args, server.Is)
	last := filepath.Base(c.programs[len(c.programs)-1])
	switch {
	case c.shell:
		return c, Unsure("its ExecStart runs a shell, whose line is not rewritten")
	case !c.found && PythonName.MatchString(last):
		return c, Unsure("its ExecStart runs Python without a server that is known")
	case !c.found:
		return c, Unsure("its ExecStart runs %s, which is no server that is known", last)
	}
	return c, nil
}

// before judges the words before the server's own, which may have programs of others among them.
func (p *Pointed) before(words, programs []string, server string) error {
	running := "" // the program that a word is an option of
	for _, word := range words {
		if len(programs) > 0 && word == programs[0] {
			running, programs = filepath.Base(word), programs[1:]
			if w := wrappers[running]; w.never != "" {
				return Unsure("its ExecStart runs %s, which %s", running, w.never)
			}
		}
		name, _, _ := strings.Cut(word, "=")
		switch {
		case strings.Contains(word, "$"):
			return Unsure("its ExecStart has a variable before %s's own arguments", server)
		case len(programs) > 0 && slices.Contains([]string{"-C", "--chdir", "--directory"}, name):
			return Unsure("its ExecStart has %s change the directory", running)
		case strings.HasPrefix(word, "-") && running == "env":
			return Unsure("its ExecStart has env with %.2s, which may take variables away", word)
		case assignment.MatchString(word) && (name == runtimeDirectory || strings.HasPrefix(name, strings.ToUpper(server)+"_")):
			return Unsure("its ExecStart sets %s before %s's own arguments", name, server)
		}
	}
	return nil
}

// between points a word that stands before the server: an option of another program, its value, a variable.
func (p *Pointed) between(word string) (string, error) {
	name, value, joined := strings.Cut(word, "=")
	if !joined {
		name, value = "", word
	} else {
		name += "="
	}
	pointed := p.Link.Relative(p.Link.Point(value), p.Live)
	return name + pointed, p.NotLive("a directory in its ExecStart,", value, join(p.Dir, pointed))
}

// runs returns how one of the programs is run for the candidate. It may be a word that is looked for in $PATH, or a module of
// Python.
func (p *Pointed) runs(program string, isServer, byPython bool, server string) ([]string, error) {
	if !strings.Contains(program, "/") {
		if byPython {
			return []string{program}, nil
		}
		return p.found(program, isServer, server)
	}
	file := p.Link.Path(program)
	if byPython {
		file = p.Link.Path(p.Link.Relative(program, p.Live))
	}
	if err := p.NotLive("its program", program, filepath.Dir(join(p.Dir, file))); err != nil {
		return nil, err
	}
	// A script that Python is told to run is run by that, whatever its first line says.
	if byPython || PythonName.MatchString(filepath.Base(program)) {
		return []string{file}, nil
	}
	return p.script(join(p.Dir, file), isServer, server)
}

// found sees that a program of $PATH isn't run by the live release's Python. It may also be found in the project's own
// environment, by programs like uv and poetry.
func (p *Pointed) found(program string, isServer bool, server string) ([]string, error) {
	path := cmp.Or(p.Variables["PATH"], "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin") // systemd.exec(5), $PATH
	for _, word := range p.Run {
		if set, is := strings.CutPrefix(word, "PATH="); is {
			path = set
		}
	}
	for _, dir := range append([]string{filepath.Join(p.Dir, ".venv", "bin")}, filepath.SplitList(path)...) {
		file := filepath.Join(dir, program)
		if _, err := untrusted.Stat(file); !filepath.IsAbs(dir) || err != nil {
			continue
		}
		run, err := p.script(file, isServer, server)
		if err != nil {
			return nil, err
		}
		if len(run) > 1 {
			return nil, Unsure("its ExecStart runs %s of %s, whose Python may be the live release's", program, dir)
		}
	}
	return []string{program}, nil
}

// maxLine is more than Linux reads of a script's first line (BINPRM_BUF_SIZE), in bytes.
const maxLine = 1 << 10

// script sees that a program is Python's. One whose first line goes through the live link is run by the candidate's
// Python: the live release's would import the live release's packages. What a program does that only runs the server isn't
// judged.
func (p *Pointed) script(file string, isServer bool, server string) (run []string, err error) {
	text, _, err := untrusted.ReadFile(file, maxLine, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return []string{file}, nil // systemd will say so
	}
	if err != nil {
		return nil, Unsure("%s can't be read: %v", file, untrusted.Cause(err))
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	line, found := strings.CutPrefix(string(first), "#!")
	python, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
	rest = strings.TrimSpace(rest) // the kernel makes one argument of it
	isPython := PythonName.MatchString(filepath.Base(python))
	switch {
	case !isServer && !isPython:
		return []string{file}, nil
	case !found:
		return nil, Unsure("%s is not a script, so that what it does is not known", file)
	case filepath.Base(python) == "env" && PythonName.MatchString(rest):
		return []string{file}, nil // $PATH finds it, which is pointed at the candidate
	case !isPython:
		return nil, Unsure("%s is a script for %s, not %s itself", file, filepath.Base(python), server)
	}
	pointed := p.Link.Path(python)
	switch {
	case pointed == python && Below(file, p.Candidate.Release):
		return []string{file}, nil // the candidate's own, whatever Python it names: so it would run when it is live
	case pointed == python:
		return []string{file}, p.NotLive("the Python of its program", python, filepath.Dir(python))
	case rest == "":
		return []string{pointed, file}, nil
	}
	return []string{pointed, rest, file}, nil
}

// own takes the server's own arguments. A variable that is several words, or none, is replaced by them.
func (p *Pointed) own(words []string) error {
	for _, raw := range words {
		if _, err := p.Variables.Expand(raw); err == nil {
			p.Words = append(p.Words, raw)
			continue
		}
		value := p.Variables[strings.TrimPrefix(raw, "$")]
		if strings.ContainsAny(value, `"'\`) {
			return Unsure("its ExecStart has %s, which has quotes", raw)
		}
		for word := range strings.FieldsSeq(value) {
			p.Words = append(p.Words, Escape(word))
		}
	}
	return nil
}

// word returns one of the server's arguments as the candidate must have it: as it was, if systemd makes of that what it should.
func (p *Pointed) word(w Word) string {
	name, value, joined := strings.Cut(w.Text, "=")
	text := p.Link.Relative(p.Link.Point(w.Text), p.Live)
	if joined && strings.HasPrefix(name, "-") {
		text = name + "=" + p.Link.Relative(p.Link.Point(value), p.Live)
	}
	raw := p.Link.Point(w.Raw)
	if again, err := p.Variables.Expand(raw); w.Known() && (err != nil || again.Text != text) {
		return Escape(text)
	}
	return raw
}

// NotLive sees that a directory is not in the live release by a way that doesn't name the link: by its version, by
// another link. One that can't be followed is systemd's or the server's to report.
func (p *Pointed) NotLive(what, name, dir string) error {
	real, err := untrusted.EvalSymlinks(dir)
	if err != nil {
		return nil
	}
	live, err := untrusted.EvalSymlinks(p.Link.Name())
	if err != nil || !Below(real, live) || Below(real, p.Candidate.Release) {
		return nil
	}
	return Unsure("%s %s is the live release's, and does not go through %s", what, name, p.Link.Name())
}

// Command puts the command together, of the rehearsal's own arguments and what of the unit's stays. It looks once more for the
// link in what came out, however it got there.
func (p *Pointed) Command(own, kept []string) (Command, error) {
	for i, arg := range own {
		own[i] = Escape(arg)
	}
	c := Command{Args: slices.Concat(p.Run, own, kept), Dir: p.Dir, Environment: p.Environment}
	for _, arg := range c.Args {
		if value, err := p.Variables.Expand(arg); err != nil || p.Link.Mentioned(value.Text) {
			return Command{}, Unsure("its ExecStart goes through %s in a way that can't be pointed elsewhere", p.Link.Name())
		}
	}
	for _, assignment := range c.Environment {
		if p.Link.Mentioned(assignment) {
			name, _, _ := strings.Cut(assignment, "=")
			return Command{}, Unsure("its Environment sets %s to a path through %s in a way that can't be pointed elsewhere", name, p.Link.Name())
		}
	}
	if !p.Link.Used {
		return Command{}, Unsure("nothing in it goes through %s, so that it would run the live release once more", p.Link.Name())
	}
	return c, nil
}

// join enters a directory from another one.
func join(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}
