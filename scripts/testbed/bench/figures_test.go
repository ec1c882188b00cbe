package main

import (
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"deploygate/scripts/testbed"
)

var start = time.Unix(1_700_000_000, 0)

func sent(after time.Duration, status int) testbed.Sample {
	return testbed.Sample{Path: "/", At: start.Add(after), Took: time.Millisecond, Status: status}
}

func TestBuckets(t *testing.T) {
	samples := []testbed.Sample{
		sent(-time.Millisecond, 502), // before the start: not counted
		sent(0, 502), sent(99*time.Millisecond, 502), sent(100*time.Millisecond, 200),
		sent(350*time.Millisecond, 0), sent(420*time.Millisecond, 200), sent(200*time.Millisecond, 500),
	}
	if got := buckets(samples, start); !slices.Equal(got, []int{2, 0, 1, 1, 0}) {
		t.Errorf("got %v", got)
	}
	if got := buckets(nil, start); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

func TestPercentileAndMedian(t *testing.T) {
	for _, c := range []struct {
		figures              []float64
		low, half, ninety, m float64
	}{
		{[]float64{3}, 3, 3, 3, 3},
		{[]float64{4, 1}, 1, 1, 4, 2.5},
		{[]float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 1, 5, 9, 5.5},
		{[]float64{2, 9, 4}, 2, 4, 9, 4},
	} {
		low, half, ninety, m := percentile(c.figures, 0), percentile(c.figures, 0.5), percentile(c.figures, 0.9), median(c.figures)
		if low != c.low || half != c.half || ninety != c.ninety || m != c.m {
			t.Errorf("%v: %v, %v, %v, median %v", c.figures, low, half, ninety, m)
		}
	}
	if !math.IsNaN(percentile(nil, 0.5)) || !math.IsNaN(median(nil)) {
		t.Error("of nothing there is a figure")
	}
}

func TestRatio(t *testing.T) {
	for _, c := range []struct{ a, b, want float64 }{{6, 3, 2}, {0, 0, 1}, {0, 4, 0}, {1, 0, math.Inf(1)}} {
		if got := ratio(c.a, c.b); got != c.want {
			t.Errorf("%v to %v: %v", c.a, c.b, got)
		}
	}
}

func TestCountLeavesSlowRequestsOutOfOutages(t *testing.T) {
	slow := sent(300*time.Millisecond, http.StatusOK)
	slow.Path, slow.Took = "/slow/", 2*time.Second
	samples := []testbed.Sample{
		sent(-100*time.Millisecond, http.StatusOK), sent(100*time.Millisecond, 502), sent(200*time.Millisecond, 502),
		slow, sent(400*time.Millisecond, http.StatusOK),
	}
	var d deploy
	d.count(samples, start)
	if d.Requests != 4 || d.Failed != 2 || d.Outage != 0.5 || d.Slowest != 0.001 {
		t.Errorf("%d of %d failed, outage %v, slowest %v", d.Failed, d.Requests, d.Outage, d.Slowest)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		format string
		want   string
	}{
		{[]float64{2.001, 2.002}, "%.1f s", "2.0 s"},
		{[]float64{1, 4, 2}, "%.1f s", "2.0 s (1.0–4.0)"},
		{[]float64{10, 30}, "%.0f ms", "20 ms (10–30)"},
		{[]float64{1, 2, 3}, "%.0f", "2 (1–3)"},
	} {
		if got := spread(c.values, c.format); got != c.want {
			t.Errorf("%v: %q, not %q", c.values, got, c.want)
		}
	}
}

func TestFirstRestart(t *testing.T) {
	list := "change 1: write /var/lib/x\nchange 12: RestartUnit\nchange 13: write /y\nchange 14: RestartUnit\n"
	if got := firstRestart(list); got != 12 {
		t.Errorf("got %d", got)
	}
	if got := firstRestart("change 1: StartTransientUnit\n"); got != -1 {
		t.Errorf("without one: %d", got)
	}
}

func TestStateIsToldApart(t *testing.T) {
	for want, s := range map[string]state{
		"v2 live":                                  {Link: "v2", Runs: []string{"v2"}},
		"half-deployed: v2 linked, v1 runs":        {Link: "v2", Runs: []string{"v1"}},
		"half-deployed: v2 linked, v1 and v2 runs": {Link: "v2", Runs: []string{"v1", "v2"}},
		"v2 linked, nothing runs":                  {Link: "v2"},
	} {
		if got := s.String(); got != want {
			t.Errorf("%+v: %q, not %q", s, got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	exit := 0
	at := func(contender, release string, socket bool, failed int, outage, crash float64) deploy {
		return deploy{Contender: contender, Release: release, Socket: socket, Rate: 100, Failed: failed, Outage: outage, Crash: crash, Exit: &exit}
	}
	r := results{Deploys: []deploy{
		at("restart", "good", false, 200, 2, 0), at("restart", "import-error", false, 600, 6, 0.5),
		at("deploygate", "good", false, 210, 2.1, 0), at("deploygate", "import-error", false, 300, 3, 0),
		at("script", "import-error", false, 3000, 30, 0),
		at("rehearse", "import-error", false, 1, 0, 0), at("rehearse", "import-error", false, 0, 0, 0),
		at("deploygate", "good", true, 0, 0, 0),
	}}
	want := []struct {
		figure, limit float64
		met           bool
	}{{1, 0, false}, {1.2, 1.25, true}, {10, 8, true}, {1.05, 1.1, true}, {0, 0, true}}
	got := r.limits()
	if len(got) != len(want) {
		t.Fatalf("%d limits: %+v", len(got), got)
	}
	for i, w := range want {
		if g := got[i]; math.Abs(g.Figure-w.figure) > 1e-9 || g.Limit != w.limit || g.met() != w.met {
			t.Errorf("%s: %v, limit %v, met %v", g.What, g.Figure, g.Limit, g.met())
		}
	}
}
