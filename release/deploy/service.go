package deploy

import (
	"context"

	"deploygate/gate"
)

// Service is the app's unit.
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

// Unit is what a deploy needs to know of the app's unit.
type Unit struct {
	Name       string
	InLink     bool // its processes run in the directory that the live link names
	Socket     bool // a .socket unit listens for it
	Running    bool // active, and nothing is queued that would change it
	Invocation string
	Dir        string // where its main process runs, every link resolved
	Processes  []int
}
