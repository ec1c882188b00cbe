package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"deploygate/release/journal"
)

// stateDir is deploygate's, of the default app.
const stateDir = "/var/lib/deploygate/app"

// holding is what deploygate says when it has seen the first good answer.
const holding = "healthy, holding for"

// watchedDeploy deploys a good release while a client of its socket looks for the first possible 200.
func (h *host) watchedDeploy(ctx context.Context, version string, x *overheads) error {
	argv, err := h.timed(1, program, "release", version)
	if err != nil {
		return err
	}
	cmd := h.Command(ctx, argv...)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	asking, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	first, guard := make(chan time.Time, 1), make(chan usage, 1)
	go func() { first <- h.firstAnswer(asking, version) }()
	guarding, unguard := context.WithCancel(ctx)
	defer unguard()
	go func() { guard <- h.watchGuard(guarding) }()
	if err := cmd.Start(); err != nil {
		return err
	}
	var noticed time.Time
	var text strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if text.WriteString(lines.Text() + "\n"); noticed.IsZero() && strings.Contains(lines.Text(), holding) {
			noticed = time.Now()
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("cannot release %s: %w", version, err)
	}
	c, err := costOf(stdout.String())
	if err != nil {
		return err
	}
	answered := <-first
	unguard()
	stoodBy := <-guard
	if c.Exit != 0 || noticed.IsZero() || answered.IsZero() {
		return fmt.Errorf("cannot tell when %s was noticed, exit code %d: %s", version, c.Exit, &text)
	}
	x.Notice = append(x.Notice, ms(noticed.Sub(answered)))
	x.CPU = append(x.CPU, c.CPU*1000)
	x.Memory = append(x.Memory, c.Peak*1024/mega)
	x.Took = append(x.Took, c.Ms/1000)
	x.Guard = append(x.Guard, stoodBy.cpu)
	x.GuardMB = append(x.GuardMB, stoodBy.peak)
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// firstAnswer asks the app's socket until the release answers with 200, and gives when it did; zero if it never does.
func (h *host) firstAnswer(ctx context.Context, version string) time.Time {
	client := &http.Client{
		Timeout: 500 * time.Millisecond,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				// A socket in the file system is reached from any network namespace.
				return (&net.Dialer{}).DialContext(ctx, "unix", h.Path(h.site.SocketPath()))
			},
		},
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if asked(ctx, client, version) {
			return time.Now()
		}
		select {
		case <-ctx.Done():
			return time.Time{}
		case <-tick.C:
		}
	}
}

func asked(ctx context.Context, client *http.Client, version string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/health/", nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusOK && res.Header.Get("X-Release") == version
}

// usage is what a process has used, as far as it was seen.
type usage struct{ cpu, peak float64 } // milliseconds, megabytes

// watchGuard looks at the guard until ctx ends, and gives what it had used when it was last seen: less than 20 ms of
// its life are missed. systemd logs the CPU time of a unit only where it is long.
func (h *host) watchGuard(ctx context.Context) (u usage) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		groups, _ := filepath.Glob(h.Path("/sys/fs/cgroup/system.slice/deploygate-guard-*")) // the pattern is well-formed
		for _, group := range groups {
			if us := field(filepath.Join(group, "cpu.stat"), "usage_usec"); us > 0 {
				u.cpu = us / 1000
			}
			pids, _ := os.ReadFile(filepath.Join(group, "cgroup.procs")) // it may just have ended
			for pid := range strings.FieldsSeq(string(pids)) {
				u.peak = max(u.peak, field("/proc/"+pid+"/status", "VmHWM:")*1024/mega)
			}
		}
		select {
		case <-ctx.Done():
			return u
		case <-tick.C:
		}
	}
}

// field reads the number after a name at the start of a line of one of the kernel's files; 0 where there is none.
func field(file, name string) float64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			x, _ := strconv.ParseFloat(words[1], 64) // the kernel's own number
			return x
		}
	}
	return 0
}

// watchedRevert deploys a release that crashes, and looks when deploygate was about to call the restart of the old one.
func (h *host) watchedRevert(ctx context.Context, x *overheads) error {
	began := time.Now()
	const bad = "import-error"
	if r := h.Exec(ctx, program, "release", bad); r.Code != 3 {
		return fmt.Errorf("release %s: exit code %d: %s", bad, r.Code, r.Stderr)
	}
	log, err := h.logged(ctx, began, processExit)
	if err != nil {
		return err
	}
	records, _, err := journal.Read(h.Path(stateDir))
	if err != nil {
		return err
	}
	for _, e := range log {
		if e.Unit != h.site.Unit {
			continue
		}
		for _, r := range records {
			if r.Event == journal.Intent && r.Step == "restart" && r.Version != bad && r.At.After(e.at()) {
				x.Revert = append(x.Revert, ms(r.At.Sub(e.at())))
				return nil
			}
		}
	}
	return errors.New("nothing recorded a crash and a restart after it")
}
