package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// roots is where the hosts' file systems are kept. It remembers what was there, to leave it so.
type roots struct {
	dir    string
	suite  string
	made   bool     // dir itself was not there
	before []string // the suite's files that were there
	built  bool     // by this run
}

func lookAt(dir, suite string) *roots {
	_, err := os.Stat(dir)
	r := &roots{dir: dir, suite: suite, made: err != nil}
	r.before = r.files()
	return r
}

func (r *roots) files() []string {
	files, _ := filepath.Glob(filepath.Join(r.dir, r.suite+"-*")) // fails only on a bad pattern
	return files
}

// Write gets the progress of building a root, which there is only if one is built.
func (r *roots) Write(p []byte) (int, error) {
	if !r.built {
		r.built = true
		fmt.Printf("building the file system of a %s host in %s, which takes about half a minute\n", suites[r.suite], r.dir)
	}
	return len(p), nil
}

// tidy removes what this run has built, or says that it keeps it.
func (r *roots) tidy(keep bool) error {
	if !r.built {
		return nil
	}
	if keep {
		fmt.Printf("Its file system is kept for the next time; to remove it: rm -r %s\n", r.dir)
		return nil
	}
	for _, file := range r.files() {
		if slices.Contains(r.before, file) {
			continue
		}
		if err := os.RemoveAll(file); err != nil {
			return err
		}
	}
	if r.made {
		if err := os.Remove(r.dir); err != nil {
			return err
		}
	}
	fmt.Println("The file system that was built for it is removed too; --keep would keep it for the next time.")
	return nil
}
