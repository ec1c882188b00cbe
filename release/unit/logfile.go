package unit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate"
)

// maxTail bounds what is read of a log file, in bytes from its end.
const maxTail = 256 << 10

// logged is how gunicorn begins a line of its log: time, process, level.
var logged = regexp.MustCompile(`^\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})\] \[(\d+)\] `)

// LogFile reads what gunicorn logged to a file of its own since a moment, from the file's end. Lines without a time, as
// those of a traceback, belong to the line before them.
func LogFile(file string, since time.Time) ([]gate.LogLine, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hold it up
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, bare(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read %s: it is no regular file", file)
	}
	start := max(0, info.Size()-maxTail)
	return parseLogFile(io.NewSectionReader(f, start, maxTail), since), nil
}

// bare drops the call and the path that package os puts before the cause.
func bare(err error) error {
	if pe, is := errors.AsType[*fs.PathError](err); is {
		return pe.Err
	}
	return err
}

func parseLogFile(r io.Reader, since time.Time) (lines []gate.LogLine) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxTail)
	var l gate.LogLine
	for in.Scan() {
		l.Text = in.Text()
		if m := logged.FindStringSubmatch(l.Text); m != nil {
			l.At, _ = time.Parse("2006-01-02 15:04:05 -0700", m[1])
			l.PID, _ = strconv.Atoi(m[2])
		}
		if !l.At.Before(since) {
			lines = append(lines, l)
		}
	}
	return lines
}
