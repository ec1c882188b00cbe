// Command mkroot builds the file systems of the testbed's machines ahead of their use: mkroot SUITE...
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"deploygate/scripts/testbed"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(suites []string) int {
	// A build that is told to stop takes along what it has so far.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	for _, suite := range suites {
		if _, err := testbed.Root(ctx, suite, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}
