package main

import (
	"math"
	"slices"
	"time"

	"deploygate/scripts/testbed"
)

// bucket is the width of what failures are counted in.
const bucket = 100 * time.Millisecond

// buckets counts the requests that failed by when they were sent, from start on; the last one is that of the last request.
func buckets(samples []testbed.Sample, start time.Time) []int {
	var counts []int
	for _, s := range samples {
		at := s.At.Sub(start)
		if at < 0 {
			continue
		}
		for n := int(at / bucket); len(counts) <= n; {
			counts = append(counts, 0)
		}
		if !s.Good() {
			counts[at/bucket]++
		}
	}
	return counts
}

// percentile returns the value that p of 1 of the figures don't exceed (nearest rank), NaN of none.
func percentile(figures []float64, p float64) float64 {
	if len(figures) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(figures))
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// median is the mean of the two in the middle where there is no middle, NaN of none.
func median(figures []float64) float64 {
	n := len(figures)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(figures))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func maximum(figures []float64) float64 { return percentile(figures, 1) }

// ratio of a to b; of nothing to nothing it is 1, and of something to nothing infinite.
func ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}
