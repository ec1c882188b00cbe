package diagnosis

import (
	"fmt"
	"time"

	"deploygate/gate"
)

// What Flaps wants of the log, by systemd's message catalogue (sd-messages.h): its own restarts, and stops that someone
// asked for.
const (
	ScheduledRestart = "5eb03494b6584870a536b337290809b3"
	Stopping         = "de5b426a63be47a7b6ac3eaac82e2f6f"
)

// loopWindow is how far back restarts count: what crashes less often than twice in that time isn't found by this.
const loopWindow = 10 * time.Minute

// Flaps finds a unit that crashes and is started again by systemd, over and over, though it is up at this moment: at least
// two of systemd's own restarts, nobody's in between, and no life since then that was clearly longer than those before it.
// One crash is none, nor is what is over. log is the unit's for LoopSince; read is false where it could not be read, so that
// only NRestarts counts, which goes back to the unit's last start by hand.
func Flaps(st gate.UnitState, log []gate.LogLine, read bool, now time.Time) *gate.Finding {
	if st.NRestarts < 2 || st.ActiveState != "active" {
		return nil
	}
	if !read {
		if st.NRestarts > 2 && now.Sub(st.Started) < recent {
			return loops(st, fmt.Sprintf("%d times, the last %s ago", st.NRestarts, now.Sub(st.Started).Round(time.Second)))
		}
		return nil
	}
	var restarts []time.Time
	for _, l := range log {
		switch {
		case l.MessageID == Stopping:
			restarts = nil // someone restarted it
		case l.MessageID == ScheduledRestart && now.Sub(l.At) < loopWindow:
			restarts = append(restarts, l.At)
		}
	}
	if len(restarts) < 2 {
		return nil
	}
	var longest time.Duration
	for i, at := range restarts[1:] {
		longest = max(longest, at.Sub(restarts[i]))
	}
	last := restarts[len(restarts)-1]
	if now.Sub(last) > 2*longest {
		return nil // it has outlived its earlier lives
	}
	return loops(st, fmt.Sprintf("%d times in %s, the last %s ago", len(restarts), now.Sub(restarts[0]).Round(time.Second), now.Sub(last).Round(time.Second)))
}

// LoopSince is where the log begins that Flaps wants.
func LoopSince(now time.Time) time.Time { return now.Add(-loopWindow) }

func loops(st gate.UnitState, howOften string) *gate.Finding {
	f := gate.NewFinding(gate.LayerApp, gate.Unknown,
		fmt.Sprintf("%s crashes again and again, though it is up now: systemd has started it again %s", st.Unit, howOften)).
		With("systemd", st.String()).Advise("why: journalctl -u " + st.Unit + " -n 100")
	f.State = &st
	return f
}
