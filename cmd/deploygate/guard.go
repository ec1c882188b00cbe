package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"deploygate/release/unit"
)

// guard starts the process that finishes a deploy if this one dies.
func (h *host) guard(ctx context.Context, deployID string) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot start the guard: %w", err)
	}
	args := []string{self, "--app", h.config.App}
	if h.config.File != "" {
		file, err := filepath.Abs(h.config.File)
		if err != nil {
			return nil, fmt.Errorf("cannot start the guard: %w", err)
		}
		args = append(args, "--config", file)
	}
	end, err := h.manager.StartGuard(ctx, "deploygate-guard-"+h.config.App+"-"+deployID+".service", append(args, "guard", deployID))
	if err != nil {
		return nil, err
	}
	// Between the swap and the verdict a shutdown is delayed, where logind does that; the deploy doesn't depend on it.
	allow, err := unit.DelayShutdown(context.WithoutCancel(ctx), "a deploy of "+h.config.App+" is under way")
	if err != nil {
		return end, nil
	}
	return func() { end(); allow() }, nil
}
