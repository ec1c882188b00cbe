// Command bench measures what the users of a site see of a deploy, with deploygate and without, on one throw-away
// Debian host. It judges no figure, as those are the machine's, but exits with 1 if a deploy didn't end as it must.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"deploygate/scripts/testbed"
)

const program = "/usr/local/bin/deploygate" // on the host

// roundTakes is for telling people how long it will take: most of it is the usual script's 30 tries.
const roundTakes = 50 * time.Second

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	binary := flags.String("deploygate", "", "the deploygate to measure, a statically linked `FILE`")
	commit := flags.String("commit", "unknown", "the `COMMIT` it was built from")
	rounds := flags.Int("rounds", 3, "measure everything `N` times")
	output := flags.String("json", "", "write the single measurements to `FILE`")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: scripts/bench [--rounds N] [--json FILE] [bookworm|trixie]")
	}
	_ = flags.Parse(args) // it exits
	suite := "bookworm"
	if flags.NArg() > 0 {
		suite = flags.Arg(0)
	}
	if *binary == "" || *rounds < 1 || flags.NArg() > 1 {
		flags.Usage()
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := bench(ctx, suite, *binary, *commit, *rounds, *output); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

// results is what --json writes.
type results struct {
	Started time.Time `json:"started"`
	Machine machine   `json:"machine"`
	Rate    int       `json:"requests_per_second"`
	Runs    []sample  `json:"runs"`
}

func bench(ctx context.Context, suite, binary, commit string, rounds int, output string) error {
	fmt.Printf("%d round(s) on a throw-away %s host, about %s", rounds, suite, (time.Duration(rounds) * roundTakes).Round(10*time.Second))
	fmt.Println(" (and half a minute more if its file system has to be built)")
	root, err := testbed.Root(ctx, suite, nil)
	if err != nil {
		return err
	}
	m, err := testbed.Boot(ctx, suite, testbed.Options{Bind: []string{binary + ":" + program}})
	if err != nil {
		return err
	}
	defer m.Close()
	b := &deploys{Machine: m, site: testbed.DefaultSite()}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	r := results{Started: time.Now().UTC().Truncate(time.Second), Rate: rate}
	if r.Machine, err = describe(ctx, m, commit); err != nil {
		return err
	}
	for round := range rounds {
		for _, c := range cases {
			s, err := b.measure(ctx, c, round+1)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, c.name, err)
			}
			fmt.Printf("round %d: %-58s %6.2f s outage, %5d of %5d requests failed\n",
				s.Round, c.name, s.Outage, s.Failed, s.Requests)
			r.Runs = append(r.Runs, s)
		}
	}
	r.print(os.Stdout)
	fmt.Printf("\nThe host is gone; its file system is kept in %s.\n", filepath.Dir(root))
	if output == "" {
		return m.Close()
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(output, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return m.Close()
}
