package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// results is what results.json holds.
type results struct {
	Started   time.Time  `json:"started"`
	Took      float64    `json:"seconds"`
	Machine   machine    `json:"machine"`
	LeftOut   []string   `json:"left_out,omitempty"`
	Deploys   []deploy   `json:"deploys"`
	Overheads *overheads `json:"overheads,omitempty"`
	Limits    []limit    `json:"limits"`
}

func (r *results) leaveOut(why string) {
	if !slices.Contains(r.LeftOut, why) {
		r.LeftOut = append(r.LeftOut, why)
	}
}

// write writes all but the samples into dir.
func (r *results) write(dir string) error {
	r.Limits = r.limits()
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	files := map[string]string{"results.json": string(text) + "\n"}
	var table strings.Builder
	r.print(&table)
	files["table.md"] = table.String()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (r *results) rates() (rates []int) {
	for _, d := range r.Deploys {
		if !slices.Contains(rates, d.Rate) {
			rates = append(rates, d.Rate)
		}
	}
	slices.Sort(rates)
	return rates
}

// group is what is compared with each other: the same users, on the same kind of host.
type group struct {
	rate   int
	socket bool
}

func (g group) String() string {
	if g.socket {
		return fmt.Sprintf("%d requests a second, with a socket unit", g.rate)
	}
	return fmt.Sprintf("%d requests a second, without a socket unit", g.rate)
}

func (r *results) groups() (groups []group) {
	for _, socket := range []bool{false, true} {
		for _, rate := range r.rates() {
			g := group{rate, socket}
			if slices.ContainsFunc(r.Deploys, func(d deploy) bool { return d.in(g) }) {
				groups = append(groups, g)
			}
		}
	}
	return groups
}

func (d deploy) in(g group) bool { return d.Rate == g.rate && d.Socket == g.socket }

// of returns all rounds of one case.
func (r *results) of(contender, release string, g group) (all []deploy) {
	for _, d := range r.Deploys {
		if d.Contender == contender && d.Release == release && d.in(g) {
			all = append(all, d)
		}
	}
	return all
}

func figures(all []deploy, figure func(deploy) float64) (values []float64) {
	for _, d := range all {
		values = append(values, figure(d))
	}
	return values
}

func failed(d deploy) float64  { return float64(d.Failed) }
func outage(d deploy) float64  { return d.Outage }
func slowest(d deploy) float64 { return d.Slowest }
func command(d deploy) float64 { return d.Seconds }
func crash(d deploy) float64   { return d.Crash }
