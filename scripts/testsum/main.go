// Command testsum reads what `go test -json` writes and prints what `go test` would have: a line for each package, and
// the output of the tests that failed. It appends how many passed, failed and were skipped, "1 2 3", to a file, for
// which go test has no option: go test -json ./... | testsum FILE
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ./... | testsum FILE")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, file string) error {
	s := newSummary(out)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			s.add(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, s.passed, s.failed, s.skipped)
	return err
}

// event is one of `go doc test2json`.
type event struct{ Action, Package, Test, Output string }

type test struct{ pkg, name string }

type summary struct {
	out io.Writer

	output  map[test]string // of the tests that run
	broken  map[test]bool   // a subtest of it failed
	parents map[test]bool   // it has subtests, which are counted in its stead
	unsound map[string]bool // a test of the package failed

	passed, failed, skipped int
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out: out, output: map[test]string{}, broken: map[test]bool{}, parents: map[test]bool{}, unsound: map[string]bool{},
	}
}

func (s *summary) add(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		_, _ = s.out.Write(line) // of the go command itself
		return
	}
	t := test{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		fmt.Fprint(s.out, e.Output)
	case e.Test == "":
		s.addPackage(e)
	case e.Action == "run":
		s.output[t] = ""
		for _, parent := range t.ancestors() {
			s.parents[parent] = true
		}
	case e.Action == "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			s.output[t] += e.Output
		}
	case e.Action == "pass":
		s.end(t, &s.passed)
	case e.Action == "skip":
		s.end(t, &s.skipped)
	case e.Action == "fail":
		s.fail(t)
	}
}

func (s *summary) addPackage(e event) {
	switch e.Action {
	case "output":
		if e.Output != "PASS\n" && e.Output != "FAIL\n" && !strings.HasSuffix(e.Output, "[no test files]\n") {
			fmt.Fprint(s.out, e.Output)
		}
	case "fail":
		// Tests that never ended were cut off with the package, by a timeout or a panic.
		for t := range s.output {
			if t.pkg == e.Package {
				s.fail(t)
			}
		}
		if !s.unsound[e.Package] { // it did not even build
			s.failed++
		}
	}
}

func (s *summary) fail(t test) {
	fmt.Fprint(s.out, s.output[t])
	s.unsound[t.pkg] = true
	for _, parent := range t.ancestors() {
		s.broken[parent] = true
	}
	delete(s.output, t)
	if !s.broken[t] {
		s.failed++
	}
}

func (s *summary) end(t test, count *int) {
	delete(s.output, t)
	if !s.parents[t] {
		*count++
	}
}

// ancestors are the tests that t is a subtest of.
func (t test) ancestors() (all []test) {
	for i, c := range t.name {
		if c == '/' {
			all = append(all, test{t.pkg, t.name[:i]})
		}
	}
	return all
}
