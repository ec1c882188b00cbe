// Command deploygate makes a release of a Django app live if it is healthy, and puts the old one back if it isn't.
package main

import "os"

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }
