package deploy

import (
	"errors"
	"syscall"

	"deploygate/gate"
)

// comparison is how an older release did on the same host, right after the one that failed.
type comparison int

const (
	notCompared comparison = iota // none was run
	olderPassed
	olderFailed
)

// proved decides whom a failed gate blames. Only what is proved of a release may mark it as failed: by its cause alone, or by
// an older release that passes where it did not. Where both fail the fault is in what they share, whatever each says; a
// release that was interrupted or never run has proved nothing.
func proved(failure, cause *gate.Finding, older comparison) gate.Blame {
	own := cause.Blame()
	switch {
	case failure.NeverStarted, failure.Cause == gate.Interrupted:
		return gate.BlamesUnknown
	case own == gate.BlamesHost:
		return gate.BlamesHost
	case older == olderPassed:
		return gate.BlamesRelease
	case older == olderFailed && own == gate.BlamesRelease:
		return gate.BlamesUnknown // each may be broken in its own way
	case older == olderFailed:
		return gate.BlamesHost
	}
	return own
}

// neverRun is the failure of a step before the release is run: whatever it is, the release has not shown anything.
func neverRun(err error) *gate.Finding {
	f := *gate.AsFinding(gate.LayerRelease, err)
	f.NeverStarted = true
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		f.Layer, f.Cause = gate.LayerResources, gate.DiskFull
		f.Advise("free space or inodes: df -h, df -i")
	}
	return &f
}
