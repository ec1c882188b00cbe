package unit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"deploygate/gate"
)

const (
	// maxLog bounds what is read of the journal, in bytes of its JSON.
	maxLog = 1 << 20
	// logLimit bounds how long reading may take.
	logLimit = 5 * time.Second
)

// Log reads what the unit's processes, and systemd about the unit, logged between two moments, oldest first; of a log that is too long the beginning,
// since the first crash says the most.
func (u Unit) Log(ctx context.Context, from, until time.Time) ([]gate.LogLine, error) {
	ctx, cancel := context.WithTimeout(ctx, logLimit)
	defer cancel()
	// What a process wrote just before it died may not be in the files yet.
	_ = exec.CommandContext(ctx, "journalctl", "--sync").Run()
	args := []string{"--output=json", "--all", "--no-pager", "--since=" + stamp(from), "--until=" + stamp(until.Add(time.Second))}
	if u.m.scope == User {
		args = append(args, "--user")
	}
	cmd := exec.CommandContext(ctx, "journalctl", append(args, "--unit="+u.name)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	lines := parseLog(io.LimitReader(out, maxLog))
	cancel() // it may have more to say than is wanted
	_ = cmd.Wait()
	return lines, nil
}

func parseLog(r io.Reader) (lines []gate.LogLine) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLog)
	for s.Scan() {
		var entry struct {
			PID     string          `json:"_PID"`
			Message json.RawMessage `json:"MESSAGE"`
		}
		if json.Unmarshal(s.Bytes(), &entry) != nil {
			continue
		}
		pid, _ := strconv.Atoi(entry.PID)
		for line := range strings.SplitSeq(message(entry.Message), "\n") {
			lines = append(lines, gate.LogLine{PID: pid, Text: strings.TrimRight(line, "\r")})
		}
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
