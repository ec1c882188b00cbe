package diagnosis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/gate"
)

// testdata/*.log is what gunicorn wrote, by its version and what was wrong.
func TestExceptionFindsTheFirstTraceback(t *testing.T) {
	const dir = "/srv/app/releases/v42"
	for _, c := range []struct{ file, what, where string }{
		{"20.1-chained.log", "KeyError: 'SHOP_SECRET'", "File \"" + dir + "/project/chained.py\", line 4, in secret\n    return os.environ[\"SHOP_SECRET\"]"},
		{"20.1-missing.log", "ModuleNotFoundError: No module named 'reportlab'", "File \"" + dir + "/project/missing.py\", line 1, in <module>\n    import reportlab"},
		{"20.1-syntax.log", "SyntaxError: '(' was never closed", "File \"" + dir + "/project/syntax.py\", line 1\n    def app(environ, start_response:"},
		{"20.1-noattr.log", "ModuleNotFoundError: No module named 'project.noattr'", ""},
		{"20.1-attr.log", "", ""},
		{"23.0-missing.log", "ModuleNotFoundError: No module named 'reportlab'", "File \"" + dir + "/project/missing.py\", line 1, in <module>\n    import reportlab"},
	} {
		t.Run(c.file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", c.file))
			if err != nil {
				t.Fatal(err)
			}
			what, where := exception(logOf(string(text)), dir)
			if what != c.what || where != c.where {
				t.Errorf("%q at %q; want %q at %q", what, where, c.what, c.where)
			}
			if _, elsewhere := exception(logOf(string(text)), "/srv/app/releases/v4"); elsewhere != "" {
				t.Errorf("%q is no file of v4", elsewhere)
			}
		})
	}
}

func TestExceptionPassesOverWhatIsNone(t *testing.T) {
	const dir = "/srv/app"
	halt := `Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/gunicorn/arbiter.py", line 209, in run
    self.sleep()
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>`
	own := `Traceback (most recent call last):
  File "/srv/app/shop/a.py", line 7, in f
[2026-11-21 03:54:04 +0000] [9] [INFO] Worker exiting (pid: 9)
    raise Odd
  [Previous line repeated 970 more times]
shop.errors.Odd`
	for _, c := range []struct{ name, text, what, where string }{
		{"gunicorn's own HaltServer", halt, "", ""},
		{"the app's after it", halt + "\n" + own, "shop.errors.Odd", "File \"/srv/app/shop/a.py\", line 7, in f\n    raise Odd"},
		{"lines of another process in between", own, "shop.errors.Odd", "File \"/srv/app/shop/a.py\", line 7, in f\n    raise Odd"},
		{"what looks like one outside of a traceback", "ValueError: no traceback", "", ""},
		{"cut off", "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 1, in f", "", ""},
		{"cut off, then a whole one", "Traceback (most recent call last):\n  File \"/srv/app/a.py\", line 1, in f\n" + own, "shop.errors.Odd", "File \"/srv/app/shop/a.py\", line 7, in f\n    raise Odd"},
		{"nothing", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			what, where := exception(logOf(c.text), dir)
			if what != c.what || where != c.where {
				t.Errorf("%q at %q; want %q at %q", what, where, c.what, c.where)
			}
		})
	}
}

// logOf is what one process wrote.
func logOf(text string) (lines []gate.LogLine) {
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, gate.LogLine{PID: 7, Text: line})
	}
	return lines
}

// Two processes write at once; the worker's error comes before the master's, whose lines began earlier.
func TestExceptionKeepsProcessesApart(t *testing.T) {
	lines := []gate.LogLine{
		{PID: 1, Text: "Starting gunicorn"},
		{PID: 2, Text: "Traceback (most recent call last):"},
		{PID: 2, Text: `  File "/srv/app/a.py", line 1, in <module>`},
		{PID: 1, Text: "Traceback (most recent call last):"},
		{PID: 2, Text: "    import payments"},
		{PID: 1, Text: `  File "/usr/lib/gunicorn/arbiter.py", line 9, in kill`},
		{PID: 2, Text: "ModuleNotFoundError: No module named 'payments'"},
		{PID: 1, Text: "ProcessLookupError: [Errno 3] No such process"},
	}
	what, where := exception(lines, "/srv/app")
	if what != "ModuleNotFoundError: No module named 'payments'" || where != "File \"/srv/app/a.py\", line 1, in <module>\n    import payments" {
		t.Errorf("%q at %q", what, where)
	}
}

// exception is the first that a log holds whole, reduced to what is shown of it.
func exception(lines []gate.LogLine, dir string) (what, where string) {
	found := tracebacks(lines)
	if len(found) == 0 {
		return "", ""
	}
	for _, t := range found[0].chain() {
		what = t.line
		if at := t.where(dir); at != nil {
			where = at.String()
		}
	}
	return what, where
}
