package main

import (
	"fmt"
	"math"
	"slices"
)

// limit is a figure that has one.
type limit struct {
	What   string  `json:"what"`
	Figure float64 `json:"figure"`
	Limit  float64 `json:"limit"`
	Unit   string  `json:"unit"`
	Least  bool    `json:"at_least,omitempty"` // else: at most
	How    string  `json:"how,omitempty"`      // it was calculated
}

func (l limit) met() bool {
	if l.Least {
		return l.Figure >= l.Limit
	}
	return l.Figure <= l.Limit
}

// row is the limit's in the table.
func (l limit) row() string {
	word, verdict := "at most", "met"
	if l.Least {
		word = "at least"
	}
	if !l.met() {
		verdict = "**missed**"
	}
	return fmt.Sprintf("| %s | %s | %s %s | %s | %s |", l.What, number(l.Figure, l.Unit), word, number(l.Limit, l.Unit), verdict, l.How)
}

func number(x float64, unit string) string {
	format := "%.0f"
	if x != math.Trunc(x) {
		format = "%.2f"
	}
	text := fmt.Sprintf(format, x)
	if unit != "" {
		text += " " + unit
	}
	return text
}

// limits are what was promised, as far as it was measured. Of several rounds the median counts, but for requests that
// must not fail: there the worst does.
func (r *results) limits() (limits []limit) {
	for _, g := range r.groups() {
		for _, rel := range releases {
			if all := r.of("rehearse", rel.name, g); !rel.good && len(all) > 0 {
				limits = append(limits, limit{
					What: fmt.Sprintf("%s with rehearsal, %s", rel.name, g), Figure: maximum(figures(all, failed)), Unit: "failed requests",
				})
			}
		}
		for _, c := range contenders {
			if all := r.of(c.name, "good", g); c.must != nil && g.socket && len(all) > 0 {
				limits = append(limits, limit{
					What: fmt.Sprintf("good, %s, %s", c.title, g), Figure: maximum(figures(all, failed)), Unit: "failed requests",
				})
			}
		}
		if !g.socket {
			limits = append(limits, r.inPlace(g)...)
		}
	}
	if r.Overheads != nil {
		limits = append(limits, r.Overheads.limits()...)
	}
	return limits
}

// inPlace are the limits of deploygate without rehearsal and without a socket unit.
func (r *results) inPlace(g group) (limits []limit) {
	bad, good := r.of("deploygate", "import-error", g), r.of("deploygate", "good", g)
	restart, broken, script := r.of("restart", "good", g), r.of("restart", "import-error", g), r.of("script", "import-error", g)
	if len(bad) > 0 && len(restart) > 0 && len(broken) > 0 {
		had, visible, bare := median(figures(bad, outage)), median(figures(broken, crash)), median(figures(restart, outage))
		limits = append(limits, limit{
			What: fmt.Sprintf("import-error in place, outage to that of crash and bare restart, %s", g), Figure: ratio(had, visible+bare), Limit: 1.25, Unit: "times",
			How: fmt.Sprintf("%.2f s / (%.2f s + %.2f s)", had, visible, bare),
		})
	}
	if len(bad) > 0 && len(script) > 0 {
		had, usual := median(figures(bad, outage)), median(figures(script, outage))
		limits = append(limits, limit{
			What: fmt.Sprintf("import-error in place, the script's outage to deploygate's, %s", g), Figure: ratio(usual, had), Limit: 8, Unit: "times", Least: true,
			How: fmt.Sprintf("%.2f s / %.2f s", usual, had),
		})
	}
	if len(good) > 0 && len(restart) > 0 {
		had, bare := median(figures(good, outage)), median(figures(restart, outage))
		limits = append(limits, limit{
			What: fmt.Sprintf("good in place, outage to a bare restart's, %s", g), Figure: ratio(had, bare), Limit: 1.1, Unit: "times",
			How: fmt.Sprintf("%.2f s / %.2f s", had, bare),
		})
	}
	// Where the other had no outage, there is nothing to compare with, nor a number for JSON.
	return slices.DeleteFunc(limits, func(l limit) bool { return math.IsInf(l.Figure, 0) })
}
