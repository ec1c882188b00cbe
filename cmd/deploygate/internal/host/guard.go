package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"deploygate/release/unit"
)

// guard starts the process that finishes a deploy if this one dies.
func (h *Host) guard(ctx context.Context, deployID string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot start the guard: %w", err)
	}
	args := []string{self, "--app", h.Config.App}
	if h.Config.File != "" {
		file, err := filepath.Abs(h.Config.File)
		if err != nil {
			return nil, fmt.Errorf("cannot start the guard: %w", err)
		}
		args = append(args, "--config", file)
	}
	end, err := h.Manager.StartGuard(ctx, "deploygate-guard-"+h.Config.App+"-"+deployID+".service", append(args, "guard", deployID))
	if err != nil {
		return nil, err
	}
	// Between the swap and the verdict a shutdown is delayed, where logind does that; the deploy doesn't depend on it.
	allow, err := unit.DelayShutdown(context.WithoutCancel(ctx), "a deploy of "+h.Config.App+" is under way")
	if err != nil {
		return end, nil
	}
	return func() { end(); allow() }, nil
}
