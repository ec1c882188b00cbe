package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

const (
	slowRate = 5                // requests a second that take 2 s, of all
	settled  = 2 * time.Second  // of good answers alone: before a deploy, and after it has ended
	longest  = 60 * time.Second // that a deploy is watched
)

// deploy is one that was measured.
type deploy struct {
	Contender string `json:"contender"`
	Release   string `json:"release"`
	Socket    bool   `json:"socket_unit"`
	Rate      int    `json:"requests_per_second"`
	Round     int    `json:"round"`

	Requests int     `json:"requests"`                    // sent since the start
	Failed   int     `json:"failed_requests"`             // of them
	Outage   float64 `json:"outage_seconds"`              // the longest time without a good answer to a short request
	Slowest  float64 `json:"slowest_good_answer_seconds"` // to a short request
	Late     float64 `json:"sent_late_seconds"`           // at most: the bench's own fault
	Seconds  float64 `json:"command_seconds"`
	Exit     *int    `json:"exit_code"` // -1: killed; null: it was still running in the end
	Outcome  string  `json:"outcome,omitempty"`
	After    state   `json:"after"`
	Well     bool    `json:"well_after"`                         // the users get good answers in the end
	Crash    float64 `json:"crash_visible_seconds,omitempty"`    // from the start of the bad release until systemd saw it end
	Watched  float64 `json:"watched_seconds"`                    // from the start
	Failures []int   `json:"failed_requests_per_100ms_of_start"` // by when they were sent

	Wrong string `json:"wrong,omitempty"` // how it didn't end as it must
}

// users are those of the site: most want a page, some one that takes 2 s.
func (h *host) users(ctx context.Context, rate int) *testbed.Load {
	return h.LoadMix(ctx, h.site, rate, func(n int) string {
		if n%(rate/slowRate) == 0 {
			return "/slow/"
		}
		return "/"
	})
}

// measure has users ask the site while it is deployed to, until it answers well again, or it is clear that it won't.
func (h *host) measure(ctx context.Context, c contender, rel release, rate int, rec *recorder) (d deploy, err error) {
	d = deploy{Contender: c.name, Release: rel.name, Socket: h.site.Socket, Rate: rate}
	if err := h.configure(rel); err != nil {
		return d, err
	}
	if err := h.reset(ctx, c); err != nil {
		return d, err
	}
	argv := c.deploy(rel.name)
	if rel.killed {
		var disarm func() error
		if argv, disarm, err = h.armed(ctx, argv); err != nil {
			return d, err
		}
		defer func() { err = errors.Join(err, disarm()) }()
	}
	load := h.users(ctx, rate)
	defer load.Stop()
	if err := h.carries(ctx, load); err != nil {
		return d, err
	}

	start := time.Now()
	cmd := h.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return d, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code is looked at below
		d.Seconds = time.Since(start).Seconds()
	}()
	minimum := rel.watch
	if !rel.good {
		minimum = max(minimum, c.watch)
	}
	d.Well = watch(ctx, load, start, minimum, ended)
	d.Watched = time.Since(start).Seconds()
	select {
	case <-ended:
		code := cmd.ProcessState.ExitCode()
		d.Exit = &code
	default:
		_ = h.Signal(cmd, unix.SIGKILL) // it may just have ended
		<-ended
		d.Seconds = d.Watched
	}
	if d.After, err = h.state(ctx); err != nil {
		return d, err
	}
	// A bad release that is live may look well for a moment.
	d.Well = d.Well && (rel.good || !d.After.live(rel.name))
	if c.name == "restart" && !rel.good {
		if d.Crash, err = h.crashVisible(ctx, start); err != nil {
			return d, err
		}
	}
	samples := load.Stop()
	d.Late = load.Late().Seconds()
	d.count(samples, start)
	var verdict struct{ Outcome string }
	if json.Unmarshal(stdout.Bytes(), &verdict) == nil {
		d.Outcome = verdict.Outcome
	}
	if c.must != nil {
		if d.Wrong = d.differs(c.must(rel)); d.Wrong != "" {
			d.Wrong += "\n" + stderr.String() + stdout.String()
		}
	}
	return d, rec.add(d, samples, start)
}

// carries waits until the site carries the load, for a minute at most: else it would be the load that is measured.
func (h *host) carries(ctx context.Context, load *testbed.Load) error {
	now := make(chan struct{})
	close(now)
	if !watch(ctx, load, time.Now(), 0, now) {
		return errors.New("requests fail before the deploy: the machine can't carry them")
	}
	return nil
}

// watch waits until the command has ended, minimum has passed since start, and users have had nothing but good answers
// for a while: it says whether they have. It gives up after a time.
func watch(ctx context.Context, load *testbed.Load, start time.Time, minimum time.Duration, ended <-chan struct{}) (well bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var since time.Time // when the command ended
	for {
		now := time.Now()
		if since.IsZero() {
			select {
			case <-ended:
				since = now
			default:
			}
		}
		good, bad := load.Last()
		answers := now.Sub(good) < 300*time.Millisecond
		if !since.IsZero() && answers && now.Sub(since) >= settled && now.Sub(bad) >= settled && now.Sub(start) >= minimum {
			return true
		}
		// Who was given up just now has a moment to get well.
		if now.Sub(start) >= longest && (since.IsZero() || now.Sub(since) >= 3*settled) ||
			!since.IsZero() && minimum > 0 && now.Sub(start) >= minimum && now.Sub(since) >= settled {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// count sums up what the users got from start on.
func (d *deploy) count(samples []testbed.Sample, start time.Time) {
	var short, since []testbed.Sample
	for _, s := range samples {
		if s.Path != "/slow/" {
			short = append(short, s)
		}
		if s.At.Before(start) {
			continue
		}
		since = append(since, s)
		if s.Good() && s.Path != "/slow/" {
			d.Slowest = max(d.Slowest, s.Took.Seconds())
		}
	}
	// A good answer that takes 2 s must not make an outage longer.
	_, outage := testbed.Outage(short)
	d.Outage = outage.Seconds()
	d.Requests = len(since)
	d.Failures = buckets(since, start)
	for _, n := range d.Failures {
		d.Failed += n
	}
}

// differs says how the deploy didn't end as it must.
func (d deploy) differs(exit int, live string) string {
	switch {
	case d.Exit == nil:
		return "it does not end"
	case *d.Exit != exit:
		return fmt.Sprintf("exit code %d instead of %d", *d.Exit, exit)
	case !d.After.live(live):
		return fmt.Sprintf("%s instead of %s live", d.After, live)
	case !d.Well:
		return "the site does not recover"
	}
	return ""
}

// line says in one line what was seen.
func (d deploy) line() string {
	socket := ""
	if d.Socket {
		socket = ", socket unit"
	}
	return fmt.Sprintf("%-10s %-13s %3d/s%s, round %d: %d of %d failed, no good answer for %.2f s, slowest good answer %.2f s, command %.1f s, %s, %s",
		d.Contender, d.Release, d.Rate, socket, d.Round, d.Failed, d.Requests, d.Outage, d.Slowest, d.Seconds, d.exit(), d.ending())
}

func (d deploy) exit() string {
	switch {
	case d.Exit == nil:
		return "still trying"
	case *d.Exit == -1 || *d.Exit == killedExit:
		return "killed"
	}
	return strings.TrimSpace(fmt.Sprintf("exit %d %s", *d.Exit, strings.ReplaceAll(d.Outcome, "_", " ")))
}

func (d deploy) ending() string {
	if d.Well {
		return d.After.String()
	}
	return d.After.String() + ", the site fails"
}
