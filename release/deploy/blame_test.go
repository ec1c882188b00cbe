package deploy

import (
	"testing"

	"deploygate/gate"
	"deploygate/scripts/assert"
)

func TestProved(t *testing.T) {
	const release, host, unknown = gate.BlamesRelease, gate.BlamesHost, gate.BlamesUnknown
	started := gate.Finding{Cause: gate.Unknown}
	never := gate.Finding{Cause: gate.Unknown, NeverStarted: true}
	interrupted := gate.Finding{Cause: gate.Interrupted}
	for _, c := range []struct {
		name             string
		failure          gate.Finding
		cause            gate.Cause
		alone            gate.Blame // what follows if no older release was run
		passed, olderToo gate.Blame // or it passed, or failed as well
	}{
		{"its own fault", started, gate.SyntaxError, release, release, unknown},
		{"the host's", started, gate.DatabaseUnreachable, host, host, host},
		{"either's", started, gate.SecretKey, unknown, release, host},
		{"no cause found", started, gate.Unknown, unknown, release, host},
		{"never started", never, gate.Unknown, unknown, unknown, unknown},
		{"never started, whatever else is seen", never, gate.SyntaxError, unknown, unknown, unknown},
		{"interrupted", interrupted, gate.Interrupted, unknown, unknown, unknown},
		{"interrupted, whatever else is seen", interrupted, gate.ImportError, unknown, unknown, unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			cause := gate.NewFinding(gate.LayerApp, c.cause, "why")
			assert.Equal(t, "without a comparison", proved(&c.failure, cause, notCompared), c.alone)
			assert.Equal(t, "an older one passes", proved(&c.failure, cause, olderPassed), c.passed)
			assert.Equal(t, "an older one fails too", proved(&c.failure, cause, olderFailed), c.olderToo)
		})
	}
}
