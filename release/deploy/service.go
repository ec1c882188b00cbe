package deploy

import (
	"context"

	"deploygate/gate"
)

// Instance is one unit that serves the app.
type Instance struct {
	Service
	Health *gate.HealthCheck
	// Outside says that what answers is none of the unit's processes, so that nothing can be proved of it; nil: it isn't known
	// to be. May be nil.
	Outside func(ctx context.Context) error
	// CaptureEvidence is called with the failure of what was restarted. May be nil.
	CaptureEvidence CaptureEvidence
}

// Service is how a unit of the app is started.
type Service interface {
	// Name is the unit's.
	Name() string
	// Ready describes the unit, or says why a deploy would have no effect: it doesn't exist, is masked, or doesn't go
	// through the live link.
	Ready(ctx context.Context) (Unit, error)
	// Restart restarts the unit, and waits until systemd says that it is done. With kill, what runs is not given the time to
	// end by itself.
	Restart(ctx context.Context, kill bool, say gate.Progress) error
	// Reload has it re-read the app, and waits until systemd says that it is done. What was re-read is for the gate to say.
	Reload(ctx context.Context, say gate.Progress) error
	// Reread has systemd read the unit's files again, if they have changed since it did, and reports whether they had.
	Reread(ctx context.Context) (bool, error)
}

// Unit is what a deploy needs to know of a unit of the app.
type Unit struct {
	Name       string
	InLink     bool   // its processes run in the directory that the live link names
	Socket     bool   // a .socket unit listens for it
	Running    bool   // active, and nothing is queued that would change it
	Invocation string // of this start; "" if it doesn't run
	Dir        string // where its main process runs, every link resolved
	Processes  []int
	// Bind is where it listens, in gunicorn's syntax, if its text doesn't say it: it has to be recorded, since nothing shows it
	// once the processes are gone.
	Bind string
}
