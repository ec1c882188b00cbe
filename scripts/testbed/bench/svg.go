package main

import (
	"cmp"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"
)

// The picture's measures, in its own units.
const (
	nameWidth   = 150.0 // of the lanes' names
	timeWidth   = 330.0 // of a lane
	resultWidth = 130.0 // of what is written after it
	laneHeight  = 15.0
	laneGap     = 7.0
	headHeight  = 92.0
	rowHead     = 44.0
	rowGap      = 14.0
	margin      = 16.0
)

// style follows the reader's choice of a light or a dark page.
const style = `
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
.page { fill: #ffffff }
.title { font-size: 18px; font-weight: 600 }
.head { font-size: 13px; font-weight: 600 }
.dim { fill: #59636e }
.small { font-size: 11px }
.ours { font-weight: 600 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.line { stroke: #59636e; stroke-width: 1 }
.end { stroke: #0969da; stroke-width: 2 }
.failed { fill: #cf222e }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.page { fill: #0d1117 }
.dim { fill: #9198a1 }
.grid { stroke: #30363d }
.line { stroke: #9198a1 }
.end { stroke: #58a6ff }
.failed { fill: #ff6a69 }
}
`

// drawing is an SVG under way.
type drawing struct{ strings.Builder }

func (d *drawing) text(x, y float64, class, anchor, text string) {
	fmt.Fprintf(d, `<text x="%g" y="%g" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(text))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(d, `<line x1="%.4g" y1="%g" x2="%.4g" y2="%g" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

// picture draws the failed requests over time: a row for each release, a column for hosts without and with a socket
// unit, a lane for each contender, all on the same axes. A column without any deploy is left out. Of several rounds it is the one in the middle.
func (r *results) picture(rate int) string {
	rows := r.rows(rate)
	columns := r.columns(rate)
	height := headHeight + margin
	for _, row := range rows {
		height += row.height()
	}
	right := margin + nameWidth + 2*(timeWidth+resultWidth) // as wide for one column, for the sake of the texts above
	width := right + margin
	d := &drawing{}
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(d, "<title>Failed requests during a deploy, at %d requests a second</title>\n<style>%s</style>\n", rate, style)
	fmt.Fprintf(d, `<rect class="page" width="%g" height="%g"/>`+"\n", width, height)
	d.text(margin, 32, "title", "start", fmt.Sprintf("Failed requests during a deploy, at %d requests a second", rate))
	d.text(margin, 52, "dim", "start", fmt.Sprintf("Each lane: failed requests per 100 ms, by when they were sent, over the seconds since the deploy's start; a full lane is %d, all of them. After it: their sum.", rate/10))
	for i, socket := range columns {
		title := "without a socket unit"
		if socket {
			title = "with a systemd socket unit"
		}
		d.text(left(i), 80, "head", "start", title)
	}
	d.text(width-margin-100, 32, "dim", "end", "the command ended")
	d.line(width-margin-90, 20, width-margin-90, 36, "end")
	y := headHeight
	for _, row := range rows {
		row.draw(d, y, rate, columns)
		y += row.height()
	}
	d.WriteString("</svg>\n")
	return d.String()
}

// left is where the lanes of a column begin.
func left(column int) float64 { return margin + nameWidth + float64(column)*(timeWidth+resultWidth) }

// columns are the kinds of hosts that there was a deploy on: without and with a socket unit.
func (r *results) columns(rate int) (columns []bool) {
	for _, g := range r.groups() {
		if g.rate == rate {
			columns = append(columns, g.socket)
		}
	}
	return columns
}

// row is one release.
type row struct {
	release release
	lanes   []lane
}

// lane is what one contender made of it: in each column, nil if not measured.
type lane struct {
	contender contender
	deploys   []*deploy
}

func (r *results) rows(rate int) (rows []row) {
	for _, rel := range releases {
		row := row{release: rel}
		for _, c := range contenders {
			l := lane{contender: c}
			measured := false
			for _, socket := range r.columns(rate) {
				d := middle(r.of(c.name, rel.name, group{rate, socket}))
				l.deploys = append(l.deploys, d)
				measured = measured || d != nil
			}
			if measured {
				row.lanes = append(row.lanes, l)
			}
		}
		if len(row.lanes) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// middle is the round with the median of failed requests, the lower of two.
func middle(rounds []deploy) *deploy {
	if len(rounds) == 0 {
		return nil
	}
	sorted := slices.SortedStableFunc(slices.Values(rounds), func(a, b deploy) int { return cmp.Compare(a.Failed, b.Failed) })
	return &sorted[(len(sorted)-1)/2]
}

func (r row) height() float64 {
	return rowHead + float64(len(r.lanes))*(laneHeight+laneGap) + 16 + rowGap
}

func (r row) draw(d *drawing, top float64, rate int, columns []bool) {
	d.line(margin, top, margin+nameWidth+2*(timeWidth+resultWidth), top, "grid")
	fmt.Fprintf(d, `<text x="%g" y="%g"><tspan class="head">%s</tspan><tspan class="dim" dx="10">%s</tspan></text>`+"\n",
		margin, top+24, html.EscapeString(r.release.name), html.EscapeString(r.release.what))
	bottom := top + rowHead + float64(len(r.lanes))*(laneHeight+laneGap)
	for column := range columns {
		x := left(column)
		for s := 0.0; s <= longest.Seconds(); s += 10 {
			d.line(x+at(s), top+rowHead-6, x+at(s), bottom, "grid")
			label := fmt.Sprintf("%g", s)
			if s == 0 {
				label = "0 s"
			}
			d.text(x+at(s), bottom+13, "dim small", "middle", label)
		}
	}
	for i, l := range r.lanes {
		base := top + rowHead + float64(i)*(laneHeight+laneGap) + laneHeight
		class := "start"
		if l.contender.must != nil {
			class = "ours"
		}
		d.text(margin, base-3, class, "start", l.contender.title)
		for column, deploy := range l.deploys {
			if deploy != nil {
				deploy.draw(d, left(column), base, rate)
			}
		}
	}
}

// at is where a second is in a lane.
func at(second float64) float64 { return second / longest.Seconds() * timeWidth }

func (x deploy) draw(d *drawing, from, base float64, rate int) {
	d.line(from, base, from+min(at(x.Watched), timeWidth), base, "line")
	if path := area(x.Failures, rate, from, base); path != "" {
		fmt.Fprintf(d, `<path class="failed" d="%s"/>`+"\n", path)
	}
	if x.Exit != nil {
		end := from + min(at(x.Seconds), timeWidth)
		d.line(end, base-laneHeight, end, base+3, "end")
	}
	d.text(from+timeWidth+10, base-3, "small", "start", x.result())
}

// result is what is written after a lane.
func (x deploy) result() string {
	switch {
	case x.After.Link != "" && !x.After.live(x.After.Link) && len(x.After.Runs) > 0:
		return fmt.Sprintf("%d, half-deployed", x.Failed)
	case x.Exit == nil:
		return fmt.Sprintf("%d, still trying", x.Failed)
	case !x.Well:
		return fmt.Sprintf("%d, left broken", x.Failed)
	}
	return fmt.Sprint(x.Failed)
}

// area is the path of the failures of one lane: steps of a bucket's width, and nothing where nothing failed.
func area(failures []int, rate int, x, base float64) string {
	full := float64(rate) * bucket.Seconds()
	var path strings.Builder
	for from := 0; from < len(failures); {
		if failures[from] == 0 {
			from++
			continue
		}
		to := from
		fmt.Fprintf(&path, "M%.2f %g", x+edge(from), base)
		for ; to < len(failures) && failures[to] > 0; to++ {
			y := base - min(float64(failures[to])/full, 1)*laneHeight
			fmt.Fprintf(&path, "V%.2fH%.2f", y, x+edge(to+1))
		}
		fmt.Fprintf(&path, "V%gZ", base)
		from = to
	}
	return path.String()
}

// edge is where a bucket begins.
func edge(n int) float64 { return min(at((time.Duration(n) * bucket).Seconds()), timeWidth) }
