package migrations

import (
	"bufio"
	"context"
	_ "embed" // inspect.py
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"deploygate/gate/program"
	"deploygate/release/python"
)

//go:embed inspect.py
var parser string

const (
	// maxLine bounds one answer of the program, which keeps to 4 MiB.
	maxLine = 5 << 20
	// maxDeaths bounds how many files may end a Python before the rest isn't tried.
	maxDeaths = 20
	// many is from how many files on a second Python pays for its start.
	many = 400
)

const (
	noPython = "python3 is not installed, so that it was not read"
	deadly   = "ends or blocks the Python that parses it"
	tooMany  = "was not read: too many files of the release end the Python that parses them"
)

// job is one text for the program, and where its answer belongs.
type job struct {
	kind   byte // M, a migration; A, an apps.py
	text   []byte
	answer *answer
}

// ask has Python look at all jobs. An error is one of the context, not of a file or the host.
func (r *Reader) ask(ctx context.Context, jobs []job) error {
	if r.python == "" {
		fail(jobs, noPython)
		return nil
	}
	half := len(jobs)
	if half >= many {
		half /= 2
	}
	var second error
	var wait sync.WaitGroup
	if half < len(jobs) {
		wait.Go(func() { second = r.askAll(ctx, jobs[half:]) })
	}
	first := r.askAll(ctx, jobs[:half])
	wait.Wait()
	return errors.Join(first, second)
}

func fail(jobs []job, why string) {
	for _, j := range jobs {
		*j.answer = answer{Problem: why}
	}
}

// askAll starts Pythons until every job has an answer: the one at which a Python ends has its problem.
func (r *Reader) askAll(ctx context.Context, jobs []job) error {
	for deaths := 0; len(jobs) > 0; deaths++ {
		if deaths == maxDeaths {
			fail(jobs, tooMany)
			return nil
		}
		done, err := r.run(ctx, jobs)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cannot read the migrations in time: %w", context.Cause(ctx))
		}
		if err != nil {
			fail(jobs, strings.ReplaceAll(fmt.Sprintf("was not read: cannot run %s: %v", r.python, err), "\n", ": "))
			return nil
		}
		jobs = jobs[done:]
		if len(jobs) > 0 {
			fail(jobs[:1], deadly)
			jobs = jobs[1:]
		}
	}
	return nil
}

// run gives jobs to one Python, and tells how many it answered before it ended.
func (r *Reader) run(ctx context.Context, jobs []job) (done int, err error) {
	cmd := python.Command(ctx, r.python, parser)
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	said := &program.Head{Limit: 200}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var wait sync.WaitGroup
	wait.Go(func() { feed(in, jobs) })
	done, runs := collect(out, jobs)
	// It has answered all, or says what nobody understands: either way nothing more is wanted of it.
	out.Close()
	if done < len(jobs) {
		_ = cmd.Process.Kill()
	}
	wait.Wait()
	if err := cmd.Wait(); !runs {
		return 0, fmt.Errorf("it does not start: %w%s", errors.Join(err, errNothing), firstLine(said.String()))
	}
	return done, nil
}

var errNothing = errors.New("it says nothing")

// firstLine is what a Python that doesn't start says, as the end of a sentence.
func firstLine(said string) string {
	line, _, _ := strings.Cut(strings.ToValidUTF8(said, "?"), "\n")
	if line == "" {
		return ""
	}
	return ": " + line
}

// feed writes the frames. A Python that ends is seen where its answers are read.
func feed(in io.WriteCloser, jobs []job) {
	defer in.Close()
	w := bufio.NewWriterSize(in, 64<<10)
	for _, j := range jobs {
		var head [5]byte
		head[0] = j.kind
		binary.BigEndian.PutUint32(head[1:], uint32(len(j.text))) //nolint:gosec // at most maxFile
		if _, err := w.Write(head[:]); err != nil {
			return
		}
		if _, err := w.Write(j.text); err != nil {
			return
		}
	}
	_ = w.Flush()
}

// collect reads answers, one a line, until they end or are none. The first line says that the program runs.
func collect(out io.Reader, jobs []job) (done int, runs bool) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for done < len(jobs) && lines.Scan() {
		a, err := parseAnswer(lines.Bytes())
		switch {
		case err != nil:
			return done, runs
		case a.Fatal != "":
			fail(jobs, "was not read: "+a.Fatal)
			return len(jobs), true
		case !runs:
			runs = true
			continue
		}
		*jobs[done].answer = a
		done++
	}
	return done, runs
}
