package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// systemd's catalog ids of what it logs about a unit (sd-messages.h).
const (
	unitStarting = "7d4958e842da4a758f6c1cdc7b36dcc5"
	processExit  = "98e322203f7a4ed290d09fe03c09fe15"
)

// entry is what systemd logged about a unit.
type entry struct {
	ID     string `json:"MESSAGE_ID"`
	Unit   string `json:"UNIT"`
	Micros string `json:"_SOURCE_REALTIME_TIMESTAMP"`
}

func (e entry) at() time.Time {
	us, _ := strconv.ParseInt(e.Micros, 10, 64) // zero is not after anything
	return time.UnixMicro(us)
}

// logged returns what systemd has logged since a time with one of the ids, oldest first.
func (h *host) logged(ctx context.Context, since time.Time, ids ...string) ([]entry, error) {
	argv := []string{"journalctl", "--output=json", fmt.Sprintf("--since=@%d", since.Unix()), "_PID=1"}
	for _, id := range ids {
		argv = append(argv, "MESSAGE_ID="+id)
	}
	r := h.Exec(ctx, argv...)
	if r.Err != nil {
		return nil, r.Err
	}
	return parseLog(r.Stdout, since)
}

func parseLog(text string, since time.Time) (entries []entry, err error) {
	for line := range strings.Lines(text) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, err
		}
		if !e.at().Before(since) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// crashVisible returns how long the first start of the app since a time lasted, in seconds, until systemd saw it end.
func (h *host) crashVisible(ctx context.Context, since time.Time) (float64, error) {
	log, err := h.logged(ctx, since, unitStarting, processExit)
	if err != nil {
		return 0, err
	}
	var started time.Time
	for _, e := range log {
		switch {
		case e.Unit != h.site.Unit:
		case e.ID == unitStarting && started.IsZero():
			started = e.at()
		case e.ID == processExit && !started.IsZero():
			return e.at().Sub(started).Seconds(), nil
		}
	}
	return 0, fmt.Errorf("systemd did not log that %s started and ended", h.site.Unit)
}
