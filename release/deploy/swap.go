package deploy

import (
	"context"

	"deploygate/gate"
	"deploygate/release"
)

// swap points the live link at v.
func (r *run) swap(ctx context.Context, v release.Version) error {
	return r.step(StepSwap, v, func(gate.Progress) (string, error) { return "current → " + string(v), r.point(ctx, v) })
}

func (r *run) point(ctx context.Context, v release.Version) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	before, _ := r.Tree.Current()
	if v == r.report.Requested { // what is gone back to has been on disk for long
		if err := r.Tree.Flush(v); err != nil {
			return neverRun(err)
		}
	}
	err := r.Tree.Swap(v)
	// A swap that failed may have been done all the same: the link as it is decides.
	if after, lookErr := r.Tree.Current(); lookErr != nil || after != before {
		r.report.Changed = true
	}
	if err != nil {
		return neverRun(err)
	}
	return nil
}
