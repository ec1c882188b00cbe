package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"deploygate/scripts/testbed"
)

// rate is how many requests a second the users send.
const rate = 100

// usualScript is what many sites deploy with: swap, restart, ask until it answers, else swap back.
const usualScript = `#!/bin/sh
# deploy NEW OLD
ln -sfn "releases/$1" /srv/app/current
systemctl restart gunicorn
for try in $(seq 30); do
	curl -fsS --max-time 2 -o /dev/null http://localhost/health/ && exit 0
	sleep 1
done
ln -sfn "releases/$2" /srv/app/current
systemctl restart gunicorn
exit 1
`

const (
	usual = "/usr/local/bin/deploy"
	good  = "v1" // is live before each deploy
	next  = "v2" // is as good
	bad   = "v3" // crashes on boot
)

// one is a way of deploying something, to be measured.
type one struct {
	key  string // in the JSON
	name string
	argv []string
	exit int
	live string // afterwards
}

var cases = []one{
	{"crash_script", "crash on boot, the usual script", []string{usual, bad, good}, 1, good},
	{"crash_deploygate", "crash on boot, deploygate", []string{program, "release", bad, "--output", "json"}, 3, good},
	{"good_restart", "good release, systemctl restart only", []string{"systemctl", "restart", "gunicorn"}, 0, good},
	{"good_deploygate", "good release, deploygate", []string{program, "release", next, "--output", "json"}, 0, next},
}

// sample is one measurement.
type sample struct {
	Case     string  `json:"case"`
	Round    int     `json:"round"`
	Outage   float64 `json:"outage_seconds"`  // the longest time without a good answer
	Requests int     `json:"requests"`        // sent
	Failed   int     `json:"failed_requests"` // of them
	Total    float64 `json:"deploy_seconds"`  // until the command ended
	Exit     int     `json:"exit_code"`
	Outcome  string  `json:"outcome,omitempty"` // deploygate's
}

// deploys is the host they are measured on.
type deploys struct {
	*testbed.Machine
	site testbed.Site
}

func (d *deploys) prepare(ctx context.Context) error {
	if err := d.InstallSite(ctx, d.site); err != nil {
		return err
	}
	for version, mods := range map[string][]testbed.Mod{good: nil, next: nil, bad: {testbed.ImportError()}} {
		if err := d.AddRelease(d.site, version, mods...); err != nil {
			return err
		}
	}
	if err := d.WriteFile(usual, usualScript, 0o755); err != nil {
		return err
	}
	// deploygate goes back only to a release that it has seen pass.
	return d.Exec(ctx, program, "release", good).Err
}

// measure has users ask the site while it is deployed to, until it answers well again.
func (d *deploys) measure(ctx context.Context, c one, round int) (sample, error) {
	s := sample{Case: c.key, Round: round}
	if link, _ := d.Link(d.site); link != "releases/"+good {
		if err := d.Exec(ctx, program, "release", good).Err; err != nil {
			return s, err
		}
	}
	load := d.Load(ctx, d.site, "/health/", rate)
	defer load.Stop()
	if err := answered(ctx, load, good); err != nil {
		return s, err
	}
	start := time.Now()
	result := d.Exec(ctx, c.argv...)
	s.Total, s.Exit = time.Since(start).Seconds(), result.Code
	if result.Code != c.exit {
		return s, fmt.Errorf("exit code %d instead of %d: %s%s", result.Code, c.exit, result.Stderr, result.Stdout)
	}
	if err := answered(ctx, load, c.live); err != nil {
		return s, err
	}
	samples := load.Stop()
	failed, outage := testbed.Outage(samples)
	s.Requests, s.Failed, s.Outage = len(samples), failed, outage.Seconds()
	if c.argv[0] == program {
		var verdict struct{ Outcome string }
		if err := json.Unmarshal([]byte(result.Stdout), &verdict); err != nil {
			return s, fmt.Errorf("cannot read deploygate's verdict: %w", err)
		}
		s.Outcome = verdict.Outcome
	}
	return s, d.isLive(ctx, c.live)
}

// answered waits until a request that is sent from now on is answered well by a release, and for a minute at most.
func answered(ctx context.Context, load *testbed.Load, version string) error {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the site does not recover"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if slices.ContainsFunc(load.Samples(), func(r testbed.Sample) bool {
			return r.Good() && r.Release == version && r.At.After(start)
		}) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// isLive checks that a release is linked, and all that runs.
func (d *deploys) isLive(ctx context.Context, version string) error {
	link, err := d.Link(d.site)
	if err != nil {
		return err
	}
	cwds, err := d.Cwds(ctx, d.site)
	if err != nil {
		return err
	}
	elsewhere := slices.ContainsFunc(cwds, func(dir string) bool { return dir != d.site.ReleaseDir(version) })
	if link != "releases/"+version || len(cwds) == 0 || elsewhere {
		return fmt.Errorf("the link names %s and processes run in %v: %s is not live", link, cwds, version)
	}
	return nil
}
