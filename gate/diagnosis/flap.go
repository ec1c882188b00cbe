package diagnosis

import (
	"fmt"
	"slices"
	"time"

	"deploygate/gate"
)

// systemd's message catalogue (sd-messages.h).
const (
	scheduledRestart = "5eb03494b6584870a536b337290809b3"
	unitStopping     = "de5b426a63be47a7b6ac3eaac82e2f6f"
)

// Flaps finds a unit that crashes and is started again by systemd, though it is up at this moment: that it runs since a
// short time, and that systemd's own restart was the last thing that happened to it. NRestarts alone doesn't tell, since
// a restart by hand may leave it as it was.
func Flaps(st gate.UnitState, log []gate.LogLine, now time.Time) *gate.Finding {
	if st.NRestarts == 0 || st.ActiveState != "active" || now.Sub(st.Started) > recent {
		return nil
	}
	for i, l := range slices.Backward(log) {
		switch l.MessageID {
		case unitStopping:
			return nil // somebody restarted it
		case scheduledRestart:
			f := gate.NewFinding(gate.LayerApp, gate.Unknown,
				fmt.Sprintf("%s crashes again and again: systemd has started it anew %d times", st.Unit, st.NRestarts)).
				With("systemd", st.String())
			for _, before := range log[max(0, i-3):i] {
				f.With("log of "+st.Unit+" at "+before.At.Format(time.TimeOnly), before.Text)
			}
			f.State = &st
			return f
		}
	}
	return nil
}
