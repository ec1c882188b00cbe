package gunicorn

import (
	"regexp"

	"deploygate/release/server"
)

// words are gunicorn's, from 20.1 to 26 (gunicorn/arbiter.py). Before version 21 it says nothing of a worker that exits.
var words = server.Words{
	Died: []*regexp.Regexp{
		regexp.MustCompile(`Worker \(pid:\s*(\d+)\) exited with code [1-9]`),
		regexp.MustCompile(`Worker \(pid:\s*(\d+)\) was sent SIG(?:ABRT|BUS|FPE|ILL|KILL|SEGV|SYS|TRAP|XCPU|XFSZ)\b`),
		regexp.MustCompile(`Worker with pid (\d+) was terminated due to signal (?:4|5|6|7|8|9|11|24|25|31)\b`),
		regexp.MustCompile(`failed to boot \(pid:\s*(\d+)\)`),
	},
	Boots:   regexp.MustCompile(`Booting worker with pid: (\d+)`),
	Excuses: regexp.MustCompile(`WORKER TIMEOUT \(pid:\s*(\d+)\)`),
	Done:    regexp.MustCompile(`(?i)autorestarting worker|max_requests`),
}
