package unit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/program"
)

const (
	// maxLog bounds what is read of the journal, in bytes of its JSON.
	maxLog = 4 << 20
	// maxEntry bounds one entry. A longer one is passed over: a traceback is far shorter.
	maxEntry = 256 << 10
	// logLimit bounds how long reading may take.
	logLimit = 5 * time.Second
	// syncLimit bounds how long journald may take to write what it was told: on a busy disk that must not leave no time to read.
	syncLimit = 3 * time.Second
)

// LogQuery says which part of the journal is wanted.
type LogQuery struct {
	Since time.Time // zero: unbounded
	Last  int       // only the last entries; 0: all, from the first
}

// Log reads what the unit's processes, and systemd about the unit, logged, oldest first. Of a log that is too long to
// be read whole it is the beginning, since the first crash says the most, and the last entries, or, where only these were
// asked for, the last of them. An error that is fs.ErrPermission says that more may be there.
func (u Unit) Log(ctx context.Context, q LogQuery) ([]gate.LogLine, error) {
	match := u.match()
	lines, whole, err := journal(ctx, q, match)
	if err == nil && !whole && q.Last == 0 {
		q.Last = lastOfMany
		var end []gate.LogLine
		end, _, err = journal(ctx, q, match)
		lines = append(lines, end...)
	}
	return lines, err
}

// Events reads what systemd said of the unit in messages of these kinds, by their ids in its catalogue.
func (u Unit) Events(ctx context.Context, since time.Time, ids ...string) ([]gate.LogLine, error) {
	match := []string{u.match()}
	for _, id := range ids {
		match = append(match, "MESSAGE_ID="+id)
	}
	lines, _, err := journal(ctx, LogQuery{Since: since}, match...)
	return lines, err
}

func (u Unit) match() string {
	if u.m.scope == User {
		return "--user-unit=" + u.name
	}
	return "--unit=" + u.name
}

// lastOfMany entries are read of a log that is too long.
const lastOfMany = 1000

// KernelLog reads what the kernel logged.
func KernelLog(ctx context.Context, q LogQuery) ([]gate.LogLine, error) {
	lines, _, err := journal(ctx, q, "_TRANSPORT=kernel")
	return lines, err
}

func journal(ctx context.Context, q LogQuery, match ...string) (lines []gate.LogLine, whole bool, err error) {
	journalctl := program.Find("journalctl")
	if journalctl == "" {
		return nil, true, errors.New("cannot read the journal: journalctl is not installed")
	}
	// What a process wrote just before it died may not be in the files yet. Only root may ask for that.
	written, stop := context.WithTimeout(ctx, syncLimit)
	_ = program.Run(written, program.Command(written, journalctl, "--sync"))
	stop()
	ctx, cancel := context.WithTimeout(ctx, logLimit)
	defer cancel()
	var complaint bytes.Buffer
	cmd := program.Command(ctx, journalctl, append(q.args(), match...)...)
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, true, fmt.Errorf("cannot read the journal: %w", err)
	}
	defer context.AfterFunc(ctx, func() { out.Close() })() // should journalctl hang
	entries, whole := parseLog(io.LimitReader(out, maxLog))
	if !whole {
		cancel() // it has more to say than is wanted
	}
	err = program.Wait(ctx, cmd)
	if q.Last > 0 {
		slices.Reverse(entries)
	}
	lines = slices.Concat(entries...)
	switch said := complaint.String(); {
	case strings.Contains(said, "not seeing messages"), strings.Contains(said, "insufficient permissions"):
		return lines, whole, fmt.Errorf("cannot read the whole journal: %w", fs.ErrPermission)
	case whole && err != nil:
		return lines, whole, fmt.Errorf("cannot read the journal: %s", gate.Clean(said))
	}
	return lines, whole, nil
}

func (q LogQuery) args() []string {
	args := []string{
		"--output=json", "--all", "--no-pager",
		"--output-fields=MESSAGE,MESSAGE_ID,_PID,INVOCATION_ID,_SYSTEMD_INVOCATION_ID,USER_INVOCATION_ID",
	}
	if !q.Since.IsZero() {
		args = append(args, "--since="+stamp(q.Since))
	}
	if q.Last > 0 { // newest first, so that it is the oldest that a limit leaves out
		args = append(args, "--reverse", fmt.Sprintf("--lines=%d", q.Last))
	}
	return args
}

// parseLog reads journalctl's JSON, one entry a line, into the lines of each; whole says that they ended before the
// reader's limit.
func parseLog(r io.Reader) (entries [][]gate.LogLine, whole bool) {
	in := bufio.NewReaderSize(r, maxEntry)
	read := 0
	for tooLong := false; ; {
		line, err := in.ReadSlice('\n')
		read += len(line)
		full := errors.Is(err, bufio.ErrBufferFull)
		if lines := parseEntry(line); lines != nil && !full && !tooLong {
			entries = append(entries, lines)
		}
		if tooLong = full; err != nil && !full {
			return entries, read < maxLog
		}
	}
}

func parseEntry(line []byte) (lines []gate.LogLine) {
	var e struct {
		Time       string          `json:"__REALTIME_TIMESTAMP"` // microseconds
		PID        string          `json:"_PID"`
		MessageID  string          `json:"MESSAGE_ID"`
		Invocation string          `json:"_SYSTEMD_INVOCATION_ID"` // of the process that logged
		Of         string          `json:"INVOCATION_ID"`          // what systemd's own message is about
		OfUser     string          `json:"USER_INVOCATION_ID"`
		Message    json.RawMessage `json:"MESSAGE"`
	}
	if json.Unmarshal(line, &e) != nil {
		return nil
	}
	us, _ := strconv.ParseInt(e.Time, 10, 64)
	l := gate.LogLine{MessageID: e.MessageID, Invocation: e.Invocation}
	if us > 0 {
		l.At = time.UnixMicro(us)
	}
	l.PID, _ = strconv.Atoi(e.PID)
	for _, about := range []string{e.OfUser, e.Of} {
		if about != "" {
			l.Invocation = about
		}
	}
	for text := range strings.SplitSeq(message(e.Message), "\n") {
		l.Text = strings.TrimRight(text, "\r")
		lines = append(lines, l)
	}
	return lines
}

// message understands both forms of the journal's JSON export: a text, or an array of bytes where it isn't printable.
func message(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var numbers []uint16
	if json.Unmarshal(raw, &numbers) != nil {
		return ""
	}
	var b bytes.Buffer
	for _, n := range numbers {
		b.WriteByte(byte(n)) //nolint:gosec // the journal exports bytes
	}
	return b.String()
}

// stamp is a time as journalctl takes it: seconds since the epoch, with a fraction.
func stamp(t time.Time) string { return fmt.Sprintf("@%d.%06d", t.Unix(), t.Nanosecond()/1000) }
