package gunicorn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// maxTail bounds what is read of a log file, in bytes from its end.
const maxTail = 256 << 10

// logged is how gunicorn begins a line of its log: time, process, level.
var logged = regexp.MustCompile(`^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[(\d+)\] `)

// ReadLog reads the end of what gunicorn logged to a file of its own. Lines without a time, as
// those of a traceback, belong to the line before them. It is read with the rights of the app's user, who may put what
// they like in its place.
func ReadLog(file string, as *untrusted.User) ([]gate.LogLine, error) {
	f, err := untrusted.Open(file, as)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, untrusted.Cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, untrusted.Cause(err))
	}
	tail := make([]byte, maxTail)
	n, err := untrusted.Within(file, func() (int, error) { return f.ReadAt(tail, max(0, info.Size()-maxTail)) })
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read %s: %w", file, untrusted.Cause(err))
	}
	return parseLogFile(bytes.NewReader(tail[:n])), nil
}

func parseLogFile(r io.Reader) (lines []gate.LogLine) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxTail)
	var l gate.LogLine
	for in.Scan() {
		l.Text = in.Text()
		if m := logged.FindStringSubmatch(l.Text); m != nil {
			l.At, _ = time.Parse("2006-01-02 15:04:05 -0700", m[1])
			l.PID, _ = strconv.Atoi(m[2])
		}
		if !l.At.IsZero() { // else it is half of what was cut off
			lines = append(lines, l)
		}
	}
	return lines
}

// starts finds the starts in a log file. Lines of several don't mix: a master begins when the one before has ended.
func starts(lines []gate.LogLine) (found []server.Start) {
	for _, l := range lines {
		if strings.Contains(l.Text, "] Starting gunicorn ") {
			found = append(found, server.Start{At: l.At, PID: l.PID})
		}
		if n := len(found); n > 0 {
			found[n-1].Lines = append(found[n-1].Lines, l)
		}
	}
	return found
}
