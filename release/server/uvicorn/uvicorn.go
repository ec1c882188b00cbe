// Package uvicorn knows uvicorn: what it logs of its own processes.
package uvicorn

import (
	"regexp"

	"deploygate/release/server"
)

// Words are uvicorn's (uvicorn/supervisors/multiprocess.py, uvicorn/server.py), with those of the processes that it starts by
// multiprocessing.
var Words = server.Words{
	Died:   []*regexp.Regexp{regexp.MustCompile(`Child process \[(\d+)\] died`)},
	Done:   regexp.MustCompile(`(?i)request limit`),
	Raised: regexp.MustCompile(`^(?:(?:ERROR: +)?Error loading ASGI app|Process (?:Spawn|Fork)Process-\d+:)`),
}
