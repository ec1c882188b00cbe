package nginx

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"deploygate/gate"
)

// reload asks the master to load the configuration and waits for its new workers.
func (n *Nginx) reload(ctx context.Context) error {
	master := n.Master(ctx)
	before, _ := children(master)
	if out, err := n.run(ctx, "-s", "reload"); err != nil {
		return gate.NewFinding(gate.LayerProxy, gate.Unknown, "nginx could not be told to reload").With(n.Program+" -s reload", out)
	}
	if master == 0 {
		return nil
	}
	limit := time.NewTimer(reloadLimit)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := children(master)
		if err != nil || slices.ContainsFunc(now, func(pid int) bool { return !slices.Contains(before, pid) }) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return gate.NewFinding(gate.LayerProxy, gate.Unknown, "nginx was told to reload and keeps its old configuration").
				With("processes", fmt.Sprintf("master %d has no new worker after %s", master, reloadLimit)).
				Advise("its error log says why: grep emerg " + n.LogFile + " | tail -n 3")
		}
	}
}

// children lists the processes whose parent is pid, from /proc/PID/stat (proc(5)).
func children(pid int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it ended in between
		}
		// The command's name stands in parentheses and may hold anything; the state and the parent follow the last one.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found, nil
}
