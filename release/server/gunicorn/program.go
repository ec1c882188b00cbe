package gunicorn

import (
	"regexp"

	"deploygate/release/server"
)

var gunicornName = regexp.MustCompile(`^gunicorn(-?\d+(\.\d+)*)?$`)

// named reports whether a program, or a module of Python, is gunicorn.
func named(program string) bool {
	return gunicornName.MatchString(program) || program == "gunicorn.app.wsgiapp"
}

var itself = server.Program{Name: "gunicorn", Is: named, Variable: cmdArgs}
