package diagnosis

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"deploygate/gate"
)

// What Python says of a module that isn't there.
const noModule = `^(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[^' ;]+)'?`

// What PostgreSQL (libpq), MySQL and SQLite say, in the words of their Django backends.
const (
	databaseRefuses = `password authentication failed[^.]*|no pg_hba\.conf entry[^.]*|database "[^"]+" does not exist|role "[^"]+" does not exist|` +
		`remaining connection slots[^.]*|sorry, too many clients already|too many connections[^.]*|` +
		`Access denied for user[^.]*|Unknown database '[^']+'`
	databaseAway = `connection to server [^:]*?(?:port \d+|failed|")[^:]*(?: failed)?.*|could not translate host name .*|could not connect to server.*|` +
		`connection failed: .*|failed to resolve host .*|server closed the connection unexpectedly|Connection refused.*|timeout expired|` +
		`Can't connect to (?:local )?(?:MySQL )?server.*|unable to open database file`
	schemaBehind = `relation "[^"]+" does not exist|column \S+ (?:of relation \S+ )?does not exist|no such table: \S+|` +
		`no such column: \S+|has no column named \S+|` +
		`Table '[^']+' doesn't exist|Unknown column '[^']+'[^"]*`
)

// missingPath names the path of that kind that is missing.
func missingPath(cause gate.Cause) logProof {
	return func(f *Facts, _ gate.LogLine, m *match) bool {
		m.words["missing"] = "what EnvironmentFile= names"
		if p := f.path(cause); p != nil {
			m.words["missing"] = p.Path
		}
		return true
	}
}

// shebang: the program is there, and what its first line names isn't.
func shebang(f *Facts) *match {
	p := f.path(gate.ExecMissing)
	if p == nil || p.What != Shebang {
		return nil
	}
	return newMatch("interpreter", p.Path).with(f.Unit.Program, "#!"+p.Path+": "+p.Problem)
}

// Shebang is what Path.What says of the interpreter that the program's first line names.
const Shebang = "interpreter"

// servedBy: one of these servers has said it.
func servedBy(names ...string) logProof {
	return func(f *Facts, _ gate.LogLine, _ *match) bool {
		return slices.Contains(names, f.Unit.Server)
	}
}

// django: the app is Django's.
func django(f *Facts) *match {
	if !f.Unit.Django {
		return nil
	}
	return newMatch()
}

// inUse names who listens where the server wants to.
func inUse(f *Facts, _ *traceback, m *match) bool { return holder(f, gate.LogLine{}, m) }

// holder names who listens where the server wants to.
func holder(f *Facts, _ gate.LogLine, m *match) bool {
	if m.words["address"] == "" {
		m.words["address"] = f.Bind
	}
	m.words["holder"] = "another process"
	for _, l := range f.Socket.Listens {
		for _, h := range l.Holders {
			if h.Unit == f.Unit.Name {
				continue
			}
			m.words["holder"] = fmt.Sprintf("%s (pid %d)", h.Name, h.PID)
			if h.Unit != "" {
				m.words["holder"] += " of " + h.Unit
			}
			m.with("/proc", fmt.Sprintf("%s is held by process %d, %s", l.Addr, h.PID, h.Name))
			return true
		}
	}
	return true
}

func (u Unit) user() string {
	if u.User == "" {
		return "root"
	}
	return u.User
}

// binding: the server itself raised it as it made its socket.
func binding(_ *Facts, t *traceback, _ *match) bool {
	return slices.ContainsFunc(t.frames, func(f frame) bool {
		return slices.Contains([]string{"create_sockets", "bind_socket", "create_unix_server"}, f.in)
	})
}

// inReleases: the file that may not be read is one of a release's.
func inReleases(f *Facts, _ *traceback, m *match) bool {
	return strings.HasPrefix(m.words["path"], f.Release.Root+"/")
}

// fromEnvironment: os.environ raised it, and not some other mapping.
func fromEnvironment(_ *Facts, t *traceback, _ *match) bool {
	return slices.ContainsFunc(t.frames, func(f frame) bool {
		return f.in == "__getitem__" && (path.Base(f.file) == "os.py" || f.file == "<frozen os>") || strings.Contains(f.code, "environ[")
	})
}

// namedBySettings: Django's own import of DJANGO_SETTINGS_MODULE raised it, and no import of the app's.
func namedBySettings(f *Facts, t *traceback, m *match) bool {
	in := t.innermost()
	if !strings.HasSuffix(in.file, "/django/conf/__init__.py") {
		return false
	}
	if name := f.Unit.SettingsModule; name != "" {
		m.words["module"] = name
	}
	return true
}

// onlyBefore: the module is one of the release before, and not of this one.
func onlyBefore(f *Facts, _ *traceback, m *match) bool {
	module := m.words["module"]
	if f.Release.Files == nil || f.Release.Before == nil || f.Release.has(f.Release.Files, module) || !f.Release.has(f.Release.Before, module) {
		return false
	}
	m.with("releases", fmt.Sprintf("%s is in %s and not in %s", module, f.Release.Previous, f.Release.Version))
	return true
}

// ofRelease: the module's package is one of the release's own, or its own code asks for a part of it.
func ofRelease(f *Facts, _ *traceback, m *match) bool {
	top, _, isPart := strings.Cut(m.words["module"], ".")
	return f.Release.Files != nil && isPart && f.Release.has(f.Release.Files, top)
}

// has reports whether a release has a module, as Python would find it from its base directory.
func (r Release) has(files fs.FS, module string) bool {
	name := strings.ReplaceAll(module, ".", "/")
	for _, dir := range []string{r.Base, "."} {
		for _, candidate := range []string{name + ".py", name} {
			if _, err := fs.Stat(files, path.Join(dir, candidate)); err == nil {
				return true
			}
		}
	}
	return false
}

var syntaxFrame = regexp.MustCompile(`\(([^()]+), line (\d+)\)$`)

// presentButClosed: the release has the module, and the unit's user can't get to it, which Python takes for its lack.
func presentButClosed(f *Facts, _ *traceback, m *match) bool {
	if f.Release.Files == nil || f.Release.Closed == nil || !f.Release.has(f.Release.Files, m.words["module"]) {
		return false
	}
	denied := f.Release.Closed(path.Join(f.Release.Base, strings.ReplaceAll(m.words["module"], ".", "/")))
	m.words["denied"] = denied
	return denied != ""
}

// namedByUnit: the server's own import of the app raised it.
func namedByUnit(_ *Facts, t *traceback, _ *match) bool {
	in := t.innermost()
	return slices.Contains(loads, in.in)
}

// syntaxAt says where a syntax error is: in the last frame, or, where the message has it, there.
func syntaxAt(f *Facts, t *traceback, m *match) bool {
	if n := len(t.frames); n > 0 && t.frames[n-1].in == "" {
		at := t.frames[n-1]
		m.words["at"] = fmt.Sprintf(" (%s, line %d)", f.inRelease(at.file), at.line)
	} else if at := syntaxFrame.FindStringSubmatch(t.line); at != nil {
		m.words["at"] = fmt.Sprintf(" (%s, line %s)", at[1], at[2])
	}
	return true
}

func whileLoading(f *Facts, _ *traceback, _ *match) bool { return f.loading(f.exception()) }

// notKilled: gunicorn ends a worker that takes too long by an exception, which says nothing of its own.
func notKilled(_ *Facts, t *traceback, _ *match) bool { return t.class != "SystemExit" }

var away = regexp.MustCompile(databaseAway + "|" + databaseRefuses)

// notAway: the database was there.
func notAway(_ *Facts, t *traceback, _ *match) bool { return !away.MatchString(t.line) }

// isHealth reports whether an exception was raised by the health request.
func (f *Facts) isHealth(t *traceback) bool {
	return f.Path != "" && strings.HasSuffix(strings.TrimSpace(t.header), " "+f.Path)
}
