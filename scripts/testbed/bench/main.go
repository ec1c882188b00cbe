// Command bench measures what the users of a site see of a deploy, by several ways of deploying, on throw-away Debian
// hosts, and what deploygate itself costs. It judges no figure, as those are the machine's, but exits with 1 if a
// deploy by deploygate didn't end as it must.
//
// Every way of deploying has hosts of its own, one with and one without a systemd socket unit, and finds them as a
// careful operator of that way would have set them up. Users send requests on time, however slow the answers are, and
// give up after 10 s; what they got is in samples.csv.gz, request by request.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"deploygate/scripts/testbed"
)

func main() { os.Exit(run(os.Args[1:])) }

const usageText = `usage: scripts/bench [flags] [bookworm|trixie]
  --quick            100 requests a second, no socket unit, few cases, few rounds: about 3 minutes
  --rates LIST       requests a second: 100,500
  --contenders LIST  of restart, script, capistrano, ansible, deploygate, rehearse
  --releases LIST    of good, import-error, answers-500, hangs, crashes-later, killed
  --sockets LIST     without, with a systemd socket unit: no,yes
  --rounds N         how often to measure deploygate's outages in place, at the highest rate: 3
  --full             measure answers-500 and hangs at every rate, not at the highest alone: 15 minutes more
  --parts LIST       of deploys, overheads
  --out DIR          where to write table.md, results.json and samples.csv.gz: ./bench-TIME
`

// options are what is to be measured, and where it goes.
type options struct {
	suite, binary, killat, commit, out string
	rates                              []int
	contenders                         []contender
	releases                           []release
	sockets                            []bool
	rounds                             int
	overheads                          bool
	quick, full                        bool
}

func run(args []string) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n%s", err, usageText)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usageText) }
	flags.StringVar(&o.binary, "deploygate", "", "")
	flags.StringVar(&o.killat, "killat", "", "")
	flags.StringVar(&o.commit, "commit", "unknown", "")
	flags.StringVar(&o.out, "out", "bench-"+time.Now().UTC().Format("20060102-1504"), "")
	flags.IntVar(&o.rounds, "rounds", 3, "")
	flags.BoolVar(&o.quick, "quick", false, "")
	flags.BoolVar(&o.full, "full", false, "")
	rates := flags.String("rates", "100,500", "")
	names := flags.String("contenders", strings.Join(keys(contenders), ","), "")
	kinds := flags.String("releases", strings.Join(keys(releases), ","), "")
	sockets := flags.String("sockets", "no,yes", "")
	parts := flags.String("parts", "deploys,overheads", "")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		set := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
		for name, value := range map[string]string{
			"rates": "100", "contenders": "restart,script,deploygate,rehearse", "releases": "good,import-error", "sockets": "no", "rounds": "1",
		} {
			if !set[name] {
				_ = flags.Set(name, value) // both are ours
			}
		}
	}
	o.suite = "bookworm"
	if flags.NArg() > 0 {
		o.suite = flags.Arg(0)
	}
	if o.binary == "" || o.killat == "" || o.rounds < 1 || flags.NArg() > 1 {
		return o, errors.New("wrong arguments")
	}
	for word := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(word)
		if err != nil || rate < slowRate || rate%slowRate != 0 {
			return o, fmt.Errorf("--rates: %q is no multiple of %d", word, slowRate)
		}
		o.rates = append(o.rates, rate)
	}
	for word := range strings.SplitSeq(*sockets, ",") {
		if word != "no" && word != "yes" {
			return o, fmt.Errorf("--sockets: %q is neither no nor yes", word)
		}
		o.sockets = append(o.sockets, word == "yes")
	}
	var deploys bool
	for word := range strings.SplitSeq(*parts, ",") {
		switch word {
		case "deploys":
			deploys = true
		case "overheads":
			o.overheads = true
		default:
			return o, fmt.Errorf("--parts: there is no %q", word)
		}
	}
	if o.releases, err = choose(releases, *kinds); err != nil {
		return o, fmt.Errorf("--releases: %w", err)
	}
	if o.contenders, err = choose(contenders, *names); err != nil {
		return o, fmt.Errorf("--contenders: %w", err)
	}
	if !deploys {
		o.contenders = nil
	}
	return o, nil
}

// keyed is something that the command line names.
type keyed interface{ key() string }

func keys[T keyed](all []T) (names []string) {
	for _, one := range all {
		names = append(names, one.key())
	}
	return names
}

// choose picks those that list names, in the order of all.
func choose[T keyed](all []T, list string) (chosen []T, err error) {
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if !slices.Contains(keys(all), name) {
			return nil, fmt.Errorf("%q is not one of %s", name, strings.Join(keys(all), ", "))
		}
	}
	for _, one := range all {
		if slices.Contains(wanted, one.key()) {
			chosen = append(chosen, one)
		}
	}
	return chosen, nil
}

// say tells of the progress.
func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func bench(ctx context.Context, o options) (err error) {
	began := time.Now()
	say("the hosts' file system, which takes about a minute if it has to be built")
	if _, err := testbed.Root(ctx, o.suite, nil, packages...); err != nil {
		return err
	}
	rec, err := newRecorder(o.out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.close()) }()
	r := &results{Started: began.UTC().Truncate(time.Second)}
	var wrong []error
	// What was measured is kept, whatever happens to the rest.
	defer func() {
		r.Took = time.Since(began).Seconds()
		err = errors.Join(err, r.write(o.out))
	}()
	if r.Machine, err = describe(ctx, o); err != nil {
		return err
	}
	for _, c := range o.contenders {
		for _, socket := range o.sockets {
			bad, err := measureAll(ctx, o, c, socket, rec, r)
			wrong = append(wrong, bad...)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil { // the others are measured all the same
				wrong = append(wrong, fmt.Errorf("%s: %w", c.name, err))
				r.leaveOut(fmt.Sprintf("the rest of %s: %v", c.name, err))
				say("%v", wrong[len(wrong)-1])
			}
		}
	}
	if o.overheads {
		if r.Overheads, err = measureOverheads(ctx, o); err != nil {
			wrong = append(wrong, fmt.Errorf("overheads: %w", err))
		}
	}
	r.print(os.Stdout)
	path, err := filepath.Abs(o.out)
	if err != nil {
		return err
	}
	say("written to %s, after %s", path, time.Since(began).Round(time.Second))
	return errors.Join(wrong...)
}

// times is how often a case is measured. The rate makes no difference to how long a deploy waits, so that what is waited
// for long is measured at the highest alone; what the limits compare is measured several times there.
func (o options) times(c contender, rel release, rate int, socket bool) int {
	highest := rate == slices.Max(o.rates)
	switch {
	case rel.long && !highest && !o.full:
		return 0
	case rel.quick && c.ours && highest && !socket:
		return o.rounds
	}
	return 1
}

// measureAll measures what one contender makes of the releases, on one host of its own. Deploys that didn't end as
// they must are wrong; an error is that it couldn't be measured.
func measureAll(ctx context.Context, o options, c contender, socket bool, rec *recorder, r *results) (wrong []error, err error) {
	h, err := newHost(ctx, o, socket)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if c.usable != nil {
		if why := c.usable(ctx, h); why != "" {
			say("%s is left out: %s", c.name, why)
			r.leaveOut(c.name + ": " + why)
			return nil, nil
		}
	}
	if err := c.prepare(ctx, h); err != nil {
		return nil, err
	}
	for _, rel := range o.releases {
		if c.only != nil && !slices.Contains(c.only, rel.name) {
			continue
		}
		for _, rate := range o.rates {
			for round := range o.times(c, rel, rate, socket) {
				d, err := h.measure(ctx, c, rel, rate, rec)
				if err != nil {
					return wrong, fmt.Errorf("%s at %d requests a second: %w", rel.name, rate, err)
				}
				d.Round = round + 1
				r.Deploys = append(r.Deploys, d)
				say("%s", d.line())
				if d.Wrong != "" {
					wrong = append(wrong, fmt.Errorf("%s: %s", d.line(), d.Wrong))
				}
			}
		}
	}
	return wrong, nil
}
