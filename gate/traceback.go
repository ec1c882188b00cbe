package gate

import (
	"regexp"
	"strings"
)

var (
	frame = regexp.MustCompile(`^\s+File "([^"]+)", line (\d+)`)
	// An exception's last line is its class, and mostly a message.
	exception = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*(:|$)`)
	// A line of Python's logging looks alike.
	logged = regexp.MustCompile(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL):`)
	// Third-party code in the release's own environment is not where to look first.
	packages = regexp.MustCompile(`/(site|dist)-packages/`)
)

// Exception finds the first Python traceback among one process's lines: the exception, and the innermost frame that
// lies in dir with its line of code ("" where none does). gunicorn's own HaltServer only says that a worker failed.
func Exception(lines []string, dir string) (what, where string) {
	inside := false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "Traceback (most recent call last):"):
			inside, where = true, ""
		case !inside:
		case frame.MatchString(line):
			if m := frame.FindStringSubmatch(line); strings.HasPrefix(m[1], dir+"/") && !packages.MatchString(m[1]) {
				where = strings.TrimSpace(line)
				if i+1 < len(lines) && !frame.MatchString(lines[i+1]) && strings.HasPrefix(lines[i+1], " ") {
					where += "\n    " + strings.TrimSpace(lines[i+1])
				}
			}
		case exception.MatchString(line) && !logged.MatchString(line):
			inside = false
			if !strings.Contains(line, "HaltServer") {
				return line, where
			}
		}
	}
	return "", ""
}
