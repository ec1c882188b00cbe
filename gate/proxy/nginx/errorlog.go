package nginx

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate/proxy"
	"deploygate/gate/untrusted"
)

const (
	logBlock = 64 << 10 // what is read at once
	maxLine  = 64 << 10 // of a longer line the beginning is kept
	// maxRead bounds what is read of plain files, in bytes, and maxUnpacked what is unpacked of each packed one.
	maxRead     = 8 << 20
	maxUnpacked = 64 << 20
	maxText     = 2 << 10
	maxRaw      = 4 << 10
	// disorder is how far back a later line's time may lie: each worker writes the time at which it last looked.
	disorder = 2 * time.Second
	// rotations is how many older files are looked at.
	rotations = 2
)

// ReadErrorLog returns the last entries of an error log, at most limit, oldest first, logged since a moment (inclusive,
// in whole seconds, as the log's are).
//
// It reads backwards, and goes on in FILE.1 and FILE.2, plain or packed with gzip, while all that it saw is younger
// than that moment. It ends early, without an error, after 8 MiB, and with what it has at the context's end. Lines that
// are no entries are skipped. In the hour that the end of summer time repeats, entries may be missed.
//
// The error, "cannot read FILE: why", wraps fs.ErrNotExist or fs.ErrPermission where that is why. Older files that
// can't be read are no error.
func ReadErrorLog(ctx context.Context, file string, since time.Time, limit int) ([]proxy.Entry, error) {
	l := &logReader{ctx: ctx, since: since.Truncate(time.Second), limit: limit, budget: maxRead}
	f, info, err := openLog(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, err)
	}
	defer f.Close()
	if err := l.plain(f, info.Size()); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", file, untrusted.Cause(err))
	}
	for n := 1; n <= rotations && !l.done; n++ {
		l.rotated(file+"."+strconv.Itoa(n), info)
	}
	slices.Reverse(l.found)
	return l.found, nil
}

// openLog opens a regular file, and nothing that could make it wait: a FIFO without a writer, for one.
func openLog(file string) (*os.File, fs.FileInfo, error) {
	f, err := untrusted.Open(file, nil) // where a link to it isn't root's, with the rights of whoever made it
	if err != nil {
		return nil, nil, untrusted.Cause(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, untrusted.Cause(err)
	}
	return f, info, nil
}

// logReader collects entries, the youngest first.
type logReader struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	since  time.Time
	limit  int
	budget int64
	found  []proxy.Entry
	done   bool
}

// add takes the entry before the ones it has, and tells whether it wants more.
func (l *logReader) add(line []byte) bool {
	if len(l.found) >= l.limit || l.ctx.Err() != nil {
		l.done = true
		return false
	}
	e, ok := parseEntry(string(line))
	switch {
	case !ok:
	case !e.At.Before(l.since):
		l.found = append(l.found, e)
		l.done = len(l.found) == l.limit
	case e.At.Before(l.since.Add(-disorder)):
		l.done = true
	}
	return !l.done
}

// plain reads a file from its end.
func (l *logReader) plain(r io.ReaderAt, size int64) error {
	if l.limit <= 0 {
		l.done = true
		return nil
	}
	var carry []byte // the beginning of the line that goes on in the block after
	buf := make([]byte, logBlock)
	for off := size; off > 0; {
		n := min(logBlock, off, l.budget)
		if n == 0 || l.ctx.Err() != nil {
			l.done = true
			return nil
		}
		off -= n
		l.budget -= n
		got, err := r.ReadAt(buf[:n], off)
		if err != nil && !errors.Is(err, io.EOF) { // cut short meanwhile, by copytruncate, say
			return err
		}
		var more bool
		if carry, more = l.block(buf[:got], carry); !more {
			return nil
		}
	}
	if len(carry) > 0 {
		l.add(carry)
	}
	return nil
}

// block takes a block's lines, the last one first; after is how that one goes on. It gives the beginning of the line
// that began before the block.
func (l *logReader) block(block, after []byte) (before []byte, more bool) {
	for {
		i := bytes.LastIndexByte(block, '\n')
		line := join(block[i+1:], after)
		if i < 0 {
			return line, true
		}
		if len(line) > 0 && !l.add(line) {
			return nil, false
		}
		block, after = block[:i], nil
	}
}

// join copies: the block's memory is used again.
func join(a, b []byte) []byte {
	a = a[:min(len(a), maxLine)]
	return slices.Concat(a, b[:min(len(b), maxLine-len(a))])
}

// rotated goes on in an older file: a plain one, or else a packed one. It was written to for the last time when it was
// rotated, so that one which is older than what is looked for needs no reading.
func (l *logReader) rotated(file string, current fs.FileInfo) {
	f, info, err := openLog(file)
	if err == nil {
		defer f.Close()
		switch {
		case os.SameFile(info, current): // rotated since it was opened, and read
		case info.ModTime().Before(l.since), l.plain(f, info.Size()) != nil:
			l.done = true
		}
		return
	}
	packed, info, err := openLog(file + ".gz")
	if err != nil {
		l.done = true
		return
	}
	defer packed.Close()
	if info.ModTime().Before(l.since) {
		l.done = true
		return
	}
	l.unpack(packed)
}

// unpack reads a packed file, which goes forwards alone. If that can't be done to its end, none of it counts: its last
// lines, which come before the ones found so far, are missing.
func (l *logReader) unpack(r io.Reader) {
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		l.done = true
		return
	}
	limited := &io.LimitedReader{R: unpacked, N: maxUnpacked}
	wanted := l.limit - len(l.found)
	ring := make([]proxy.Entry, 0, min(wanted, 64))
	older, next := false, 0
	err = lines(l.ctx, limited, func(line []byte) {
		e, ok := parseEntry(string(line))
		switch {
		case !ok:
		case e.At.Before(l.since):
			older = true
		case len(ring) < wanted:
			ring = append(ring, e)
		default:
			ring[next] = e
			next = (next + 1) % wanted
		}
	})
	if err != nil || limited.N <= 0 {
		l.done = true
		return
	}
	ring = slices.Concat(ring[next:], ring[:next])
	slices.Reverse(ring)
	l.found = append(l.found, ring...)
	l.done = older || len(l.found) == l.limit
}

// lines returns a reader's lines, of long ones the beginning.
func lines(ctx context.Context, r io.Reader, use func([]byte)) error {
	buffered := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := buffered.ReadSlice('\n')
		use(bytes.TrimSuffix(line, []byte("\n")))
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = buffered.ReadSlice('\n')
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

const logTime = "2006/01/02 15:04:05"

var (
	entryHead = regexp.MustCompile(`^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(emerg|alert|crit|error|warn|notice|info|debug)\] \d+#\d+: (?:\*\d+ )?`)
	// entryWhile is what nginx was doing (ngx_log_t.action): plain words.
	entryWhile = regexp.MustCompile(` while ([A-Za-z0-9/ -]{1,80})$`)
	entryErrno = regexp.MustCompile(`\((\d{1,4}): [^()]*\)`)
	query      = regexp.MustCompile(`\?[^\s"]+`)
)

// tail are the fields after the message, in the order in which ngx_http_log_error_handler writes them.
var tail = []string{"client: ", "server: ", "request: ", "subrequest: ", "upstream: ", "host: ", "referrer: "}

// parseEntry understands one line.
func parseEntry(line string) (e proxy.Entry, ok bool) {
	line = strings.TrimSuffix(line, "\r")
	head := entryHead.FindStringSubmatch(line)
	if head == nil {
		return e, false
	}
	at, err := time.ParseInLocation(logTime, head[1], time.Local)
	if err != nil {
		return e, false
	}
	e.At, e.Level = at, strings.Clone(head[2])
	text, rest, connected := strings.Cut(line[len(head[0]):], ", client: ")
	text = query.ReplaceAllString(text, "?…")
	raw := head[0] + text
	if connected {
		raw += fields(&e, ", client: "+rest)
		if m := entryWhile.FindStringSubmatch(text); m != nil {
			e.While = strings.Clone(m[1])
			text = strings.TrimSuffix(text, m[0])
		}
	}
	if m := entryErrno.FindAllStringSubmatch(text, -1); m != nil {
		e.Errno, _ = strconv.Atoi(m[len(m)-1][1])
	}
	// Copies: a long line must not stay because a part of it does.
	e.Text, e.Raw = strings.Clone(text[:min(len(text), maxText)]), strings.Clone(raw[:min(len(raw), maxRaw)])
	return e, true
}

// fields reads the tail and gives it without query strings. A field ends where one that may follow begins: what it
// holds may look like any that came before.
func fields(e *proxy.Entry, rest string) (clean string) {
	var out strings.Builder
	for i := 0; i < len(tail); {
		value, ok := strings.CutPrefix(rest, ", "+tail[i])
		if !ok {
			i++
			continue
		}
		var next int
		value, rest, next = cutField(value, i+1)
		value = setField(e, tail[i], value)
		out.WriteString(", " + tail[i] + value)
		i = next
	}
	return out.String()
}

// cutField finds where a value ends, which is before the first of the fields from the given one on.
func cutField(s string, from int) (value, rest string, next int) {
	end, next := len(s), len(tail)
	quoted := strings.HasPrefix(s, `"`)
	for i, name := range tail[min(from, len(tail)):] {
		separator := ", " + name
		at := 0
		if quoted {
			separator, at = `", `+name, 1
		}
		if j := strings.Index(s, separator); j >= 0 && j+at < end {
			end, next = j+at, from+i
		}
	}
	return s[:end], s[end:], next
}

// setField keeps a field's value and gives it without a query string, quotes included.
func setField(e *proxy.Entry, name, value string) string {
	quoted := len(value) > 1 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`)
	if quoted {
		value = value[1 : len(value)-1]
	}
	value = withoutQuery(value)
	kept := strings.Clone(value[:min(len(value), maxText)])
	switch name {
	case "server: ":
		e.Server = kept
	case "request: ":
		e.Request = kept
	case "upstream: ":
		e.Upstream = kept
	case "host: ":
		e.Host = kept
	}
	if quoted {
		value = `"` + value + `"`
	}
	return value
}

// withoutQuery cuts a query string off, but keeps the protocol after it.
func withoutQuery(s string) string {
	before, after, ok := strings.Cut(s, "?")
	if !ok {
		return s
	}
	protocol := ""
	if i := strings.LastIndex(after, " HTTP/"); i >= 0 && len(after)-i <= len(" HTTP/1.1") {
		protocol = after[i:]
	}
	return before + "?…" + protocol
}
