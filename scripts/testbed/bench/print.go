package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

// machine is what the figures depend on.
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Load       string `json:"load_average_at_start"` // what else went on
	Kernel     string `json:"kernel"`
	Systemd    string `json:"systemd"`
	Nginx      string `json:"nginx"`
	Gunicorn   string `json:"gunicorn"`
	Django     string `json:"django"`
	Python     string `json:"python"`
	Deploygate string `json:"deploygate_commit"`
}

func describe(ctx context.Context, m *testbed.Machine, commit string) (machine, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return machine{}, err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return machine{}, err
	}
	d := machine{
		CPU: processor(), Cores: runtime.NumCPU(), Load: strings.Fields(string(load))[0],
		Kernel: unix.ByteSliceToString(uname.Release[:]), Deploygate: commit,
	}
	for name, version := range map[string]*string{
		"systemd": &d.Systemd, "nginx-light": &d.Nginx, "gunicorn": &d.Gunicorn,
		"python3-django": &d.Django, "python3": &d.Python,
	} {
		result := m.Exec(ctx, "dpkg-query", "-W", "-f", "${source:Upstream-Version}", name)
		if result.Err != nil {
			return machine{}, result.Err
		}
		*version = result.Stdout
	}
	return d, nil
}

// processor names the CPU, or gives "" where the kernel doesn't.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// print writes the table, the machine, and what the figures come to.
func (r results) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "\n%d cores (%s), load %s at the start, Linux %s\n", m.Cores, m.CPU, m.Load, m.Kernel)
	fmt.Fprintf(w, "systemd %s, nginx %s, gunicorn %s, Django %s, Python %s, deploygate %s\n",
		m.Systemd, m.Nginx, m.Gunicorn, m.Django, m.Python, m.Deploygate)
	fmt.Fprintf(w, "%d requests a second through nginx; median (min–max) of %d round(s)\n\n", r.Rate, len(r.Runs)/len(cases))

	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\toutage of users\trequests failed\tdeploy took\texit")
	for _, c := range cases {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d%s\n", c.name,
			r.of(c.key, outage).text("%.2f s"), r.of(c.key, failed).text("%.0f"), r.of(c.key, total).text("%.1f s"),
			c.exit, r.outcome(c.key))
	}
	_ = table.Flush() // as for any print
	fmt.Fprintln(w)
	r.compare(w, "crash_script", "crash_deploygate", "release that crashes on boot: the usual script's")
	r.compare(w, "good_deploygate", "good_restart", "good release: deploygate's")
}

// compare says how much longer an outage is than another.
func (r results) compare(w io.Writer, key, than, title string) {
	a, b := r.of(key, outage), r.of(than, outage)
	if b.median == 0 {
		fmt.Fprintf(w, "%s outage is %.2f s, against none\n", title, a.median)
		return
	}
	fmt.Fprintf(w, "%s outage is %.1f times as long (%.2f s against %.2f s)\n", title, a.median/b.median, a.median, b.median)
}

func outage(s sample) float64 { return s.Outage }
func failed(s sample) float64 { return float64(s.Failed) }
func total(s sample) float64  { return s.Total }

// spread is a figure over the rounds.
type spread struct{ median, low, high float64 }

func (r results) of(key string, figure func(sample) float64) spread {
	var all []float64
	for _, s := range r.Runs {
		if s.Case == key {
			all = append(all, figure(s))
		}
	}
	slices.Sort(all)
	n := len(all)
	return spread{(all[(n-1)/2] + all[n/2]) / 2, all[0], all[n-1]}
}

func (s spread) text(format string) string {
	low, high := fmt.Sprintf(format, s.low), fmt.Sprintf(format, s.high)
	if low == high {
		return low
	}
	return fmt.Sprintf(format+" (%s–%s)", s.median, strings.TrimSuffix(low, " s"), strings.TrimSuffix(high, " s"))
}

// outcome is deploygate's word, which was the same each time but for surprises: then all are given.
func (r results) outcome(key string) string {
	var words []string
	for _, s := range r.Runs {
		if s.Case == key && s.Outcome != "" && !slices.Contains(words, " "+s.Outcome) {
			words = append(words, " "+s.Outcome)
		}
	}
	return strings.Join(words, ",")
}
