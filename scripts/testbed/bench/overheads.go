package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// overheads is what deploygate itself costs, measured on hosts that nobody else uses, with its default configuration.
type overheads struct {
	Binary  float64   `json:"binary_mb"`
	Start   []float64 `json:"start_ms"`       // `deploygate --version`
	True    []float64 `json:"start_true_ms"`  // `/bin/true`, started the same way
	Notice  []float64 `json:"notice_ms"`      // from the first 200 of the new release that a client got until deploygate said that it saw one
	Revert  []float64 `json:"revert_call_ms"` // from systemd's seeing the crash until deploygate was about to call the restart of the old release
	CPU     []float64 `json:"cpu_ms"`         // of a good deploy, its children included
	Memory  []float64 `json:"peak_mb"`
	Took    []float64 `json:"deploy_seconds"`
	Guard   []float64 `json:"guard_cpu_ms"`
	GuardMB []float64 `json:"guard_peak_mb"`
	// With 10,000 deploys recorded and 1,000 releases on disk.
	Status  []float64 `json:"status_ms"`
	History []float64 `json:"history_ms"`
	Prune   []float64 `json:"prune_ms"`
	Removed int       `json:"pruned_releases"`
	Journal float64   `json:"journal_mb"`
	// Ten apps on one host.
	Alone    float64 `json:"one_app_seconds"`
	Together float64 `json:"ten_apps_seconds"`
}

const mega = 1e6

func measureOverheads(ctx context.Context, o options) (_ *overheads, err error) {
	rounds, starts := 10, 50
	if o.quick {
		rounds, starts = 4, 20
	}
	info, err := os.Stat(o.binary)
	if err != nil {
		return nil, err
	}
	x := &overheads{Binary: float64(info.Size()) / mega}
	h, err := newHost(ctx, o, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := knownToDeploygate(ctx, h); err != nil {
		return nil, err
	}
	say("overheads: start-up")
	if x.Start, err = h.times(ctx, starts, program, "--version"); err != nil {
		return nil, err
	}
	if x.True, err = h.times(ctx, starts, "/bin/true"); err != nil {
		return nil, err
	}
	say("overheads: %d good deploys", rounds)
	for n := range rounds {
		if err := h.watchedDeploy(ctx, []string{"good", before}[n%2], x); err != nil {
			return nil, err
		}
	}
	say("overheads: %d bad deploys", rounds/2)
	for range rounds / 2 {
		if err := h.watchedRevert(ctx, x); err != nil {
			return nil, err
		}
	}
	say("overheads: %d deploys recorded, %d releases on disk", recorded, onDisk)
	if err := h.withMany(ctx, rounds, x); err != nil {
		return nil, err
	}
	say("overheads: ten apps")
	return x, tenApps(ctx, o, x)
}

//go:embed ways/timed.py
var timedScript string

const timedPath = "/usr/local/lib/timed.py"

// cost is what one run of a program came to.
type cost struct {
	Ms   float64
	CPU  float64 `json:"cpu_seconds"`
	Peak float64 `json:"peak_kib"`
	Exit int
}

func (h *host) timed(n int, argv ...string) ([]string, error) {
	if err := h.WriteFile(timedPath, timedScript, 0o644); err != nil {
		return nil, err
	}
	return append([]string{"python3", timedPath, fmt.Sprint(n)}, argv...), nil
}

// times runs a program n times, and gives how long each took in milliseconds.
func (h *host) times(ctx context.Context, n int, argv ...string) (ms []float64, err error) {
	command, err := h.timed(n, argv...)
	if err != nil {
		return nil, err
	}
	r := h.Exec(ctx, command...)
	if r.Err != nil {
		return nil, r.Err
	}
	for line := range strings.Lines(r.Stdout) {
		c, err := costOf(line)
		if err != nil {
			return nil, err
		}
		if c.Exit != 0 {
			return nil, fmt.Errorf("%s: exit code %d: %s", strings.Join(argv, " "), c.Exit, r.Stderr)
		}
		ms = append(ms, c.Ms)
	}
	return ms, nil
}

func costOf(line string) (c cost, err error) {
	return c, json.Unmarshal([]byte(line), &c)
}

func (x *overheads) limits() []limit {
	return []limit{
		{
			What: "noticing health after the first possible 200", Figure: median(x.Notice), Limit: 30, Unit: "ms",
			How: fmt.Sprintf("median of %d, slowest %.0f ms", len(x.Notice), maximum(x.Notice)),
		},
		{
			What: "CPU of a good deploy", Figure: maximum(x.CPU), Limit: 150, Unit: "ms",
			How: fmt.Sprintf("most of %d, median %.0f ms; its guard besides: %.0f ms", len(x.CPU), median(x.CPU), median(x.Guard)),
		},
		{
			What: "peak memory of a good deploy", Figure: maximum(x.Memory), Limit: 25, Unit: "MB",
			How: fmt.Sprintf("most of %d; its guard besides: %.1f MB", len(x.Memory), maximum(x.GuardMB)),
		},
		{
			What: "start-up", Figure: median(x.Start), Limit: 10, Unit: "ms",
			How: fmt.Sprintf("`--version`, median of %d; /bin/true, started the same way: %.1f ms", len(x.Start), median(x.True)),
		},
		{
			What: "status with 10,000 deploys recorded", Figure: median(x.Status), Limit: 30, Unit: "ms",
			How: fmt.Sprintf("median of %d, slowest %.0f ms", len(x.Status), maximum(x.Status)),
		},
	}
}

func (x *overheads) print(w io.Writer) {
	fmt.Fprint(w, "\n## What deploygate costs\n\nNobody else used the host, and the configuration was the default. Median (range).\n\n| | |\n| --- | --- |\n")
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	line("size of the program", "%.1f MB", x.Binary)
	line("start-up: `deploygate --version`, from posix_spawn to wait4", "%s; /bin/true: %s", spread(x.Start, "%.1f ms"), spread(x.True, "%.1f ms"))
	line("noticing health: from the first 200 of the new release that a client got, who asks its socket every 2 ms, until deploygate said so", "%s", spread(x.Notice, "%.0f ms"))
	line("way back: from systemd's seeing the crash until deploygate's restart call", "%s", spread(x.Revert, "%.0f ms"))
	line("a good deploy, which holds for 2 s", "%s", spread(x.Took, "%.2f s"))
	line("its CPU time, its children's included", "%s", spread(x.CPU, "%.0f ms"))
	line("its peak memory", "%s", spread(x.Memory, "%.1f MB"))
	line("its guard's CPU time", "%s", spread(x.Guard, "%.0f ms"))
	line("its guard's peak memory", "%s", spread(x.GuardMB, "%.1f MB"))
	line(fmt.Sprintf("`status` with 10,000 deploys recorded (%.0f MB) and 1,000 releases on disk", x.Journal), "%s", spread(x.Status, "%.0f ms"))
	line("`history`, of the same", "%s", spread(x.History, "%.0f ms"))
	line(fmt.Sprintf("`prune`, of the same, which removes %d releases", x.Removed), "%s", spread(x.Prune, "%.0f ms"))
	line("ten apps released at once on one host, against one alone", "%.1f s against %.1f s: %.1f times", x.Together, x.Alone, ratio(x.Together, x.Alone))
}
