package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// print writes the tables, in Markdown that a terminal shows well enough.
func (r *results) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "# What users see of a deploy\n\n")
	fmt.Fprintf(w, "%s, %.0f min. %d cores (%s), %d MB, load %s at the start, Linux %s.\n", r.Started.Format("2 January 2006 15:04 MST"), r.Took/60,
		m.Cores, m.CPU, m.Memory, m.Load, m.Kernel)
	var versions []string
	for _, s := range software {
		versions = append(versions, s.name+" "+m.Versions[s.name])
	}
	fmt.Fprintf(w, "Debian %s: %s; deploygate %s.\n\n", m.Suite, strings.Join(versions, ", "), m.Commit)
	fmt.Fprint(w, setting)
	if late := maximum(figures(r.Deploys, func(d deploy) float64 { return d.Late * 1000 })); len(r.Deploys) > 0 {
		fmt.Fprintf(w, "The latest request was sent %.0f ms after it was due.\n", late)
	}
	for _, why := range r.LeftOut {
		fmt.Fprintf(w, "\nLeft out: %s.\n", why)
	}
	for _, g := range r.groups() {
		fmt.Fprintf(w, "\n## %s\n\n", capital(g.String()))
		r.summary(w, g)
		r.details(w, g)
	}
	if r.Overheads != nil {
		r.Overheads.print(w)
	}
	if limits := r.limits(); len(limits) > 0 {
		fmt.Fprint(w, "\n## Limits\n\n| what | figure | limit | | how |\n| --- | --- | --- | --- | --- |\n")
		for _, l := range limits {
			fmt.Fprintln(w, l.row())
		}
	}
}

const setting = `Users send requests through nginx to gunicorn (2 workers of 16 threads, gthread), all on this machine. They send them
when they are due, however slow the answers are, and give up after 10 s; 5 a second are for a page that takes 2 s. A
failed request is one without an answer below 400; an outage is the longest time without a good answer to a short
request, around one that failed. nginx may hold 8192 connections for each worker instead of Debian's 768, and gunicorn's
backlog is 8192 instead of 2048. deploygate has its defaults, but for health.stable, which is 4 s instead of 2 s for the
release that crashes after 3 s. The script, Ansible and Capistrano ask the health page up to 30, 10 and 10 times; see
scripts/testbed/bench/ways. A deploy is watched until users have had good answers for 2 s after it ended; one that goes on
for 60 s is cut off then. What crashes later is watched for 15 s at least, and what a killed deployer left for 10 s.
Each figure is the median of its rounds; failed requests count from the deploy's start.
`

// summary compares the failed requests.
func (r *results) summary(w io.Writer, g group) {
	var columns []contender
	for _, c := range contenders {
		for _, rel := range releases {
			if len(r.of(c.name, rel.name, g)) > 0 {
				columns = append(columns, c)
				break
			}
		}
	}
	fmt.Fprint(w, "Failed requests, and in brackets how many times those of deploygate in place:\n\n| |")
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", c.title)
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" --- |", len(columns)))
	for _, rel := range releases {
		var cells []string
		measured := false
		ours := r.of("deploygate", rel.name, g)
		for _, c := range columns {
			all := r.of(c.name, rel.name, g)
			if len(all) == 0 {
				cells = append(cells, "")
				continue
			}
			measured = true
			cell := fmt.Sprintf("%.0f", median(figures(all, failed)))
			if base := median(figures(ours, failed)); c.name != "deploygate" && base > 0 {
				cell += fmt.Sprintf(" (%.2g ×)", ratio(median(figures(all, failed)), base))
			}
			cells = append(cells, cell)
		}
		if measured {
			fmt.Fprintf(w, "| %s: %s | %s |\n", rel.name, rel.what, strings.Join(cells, " | "))
		}
	}
}

func (r *results) details(w io.Writer, g group) {
	fmt.Fprint(w, "\n| release | deployed by | failed of sent | outage | slowest good answer | command | rounds | afterwards |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, rel := range releases {
		for _, c := range contenders {
			all := r.of(c.name, rel.name, g)
			if len(all) == 0 {
				continue
			}
			fmt.Fprintf(w, "| %s | %s | %s of %d | %s | %s | %s, %s | %d | %s |\n", rel.name, c.title,
				spread(figures(all, failed), "%.0f"), all[0].Requests, spread(figures(all, outage), "%.2f s"), spread(figures(all, slowest), "%.2f s"),
				spread(figures(all, command), "%.1f s"), words(all, deploy.exit), len(all), words(all, deploy.ending))
		}
	}
}

// spread is the median, and the range if the rounds differ.
func spread(values []float64, format string) string {
	low, high := fmt.Sprintf(format, percentile(values, 0)), fmt.Sprintf(format, maximum(values))
	if low == high {
		return low
	}
	_, unit, _ := strings.Cut(format, " ")
	return fmt.Sprintf(format+" (%s–%s)", median(values), strings.TrimSuffix(low, " "+unit), strings.TrimSuffix(high, " "+unit))
}

// words are what was said of each round, which is the same but for surprises.
func words(all []deploy, word func(deploy) string) string {
	var said []string
	for _, d := range all {
		if text := word(d); !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	return strings.Join(said, " / ")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
