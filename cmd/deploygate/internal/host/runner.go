package host

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"deploygate/gate/program"
	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/server"
	"deploygate/release/unit"
)

// runner runs hooks and checks beside the app's unit.
type runner struct {
	unit  unit.Unit
	app   string
	point func(dir, path string) string // where a path of the unit's settings leads for the release in a directory
}

// pointed has what goes through the live link lead to a release's directory: a hook of the candidate has the candidate's
// settings and code, as it will when it is live.
func pointed(tree *release.Tree) func(dir, path string) string {
	return func(dir, path string) string {
		return server.Candidate{Release: dir}.Point(tree.CurrentPath(), path)
	}
}

// pointAt is where a path of the unit's settings leads for a task of the release in dir: into that release, or, where it isn't
// there yet and a hook may be about to make it, where it leads now.
func (r runner) pointAt(dir, path string) string {
	to := r.point(dir, path)
	if to != path && filepath.IsAbs(path) && missingReason(to) != "" {
		return path
	}
	return to
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// Run implements deploy.Runner.
func (r runner) Run(ctx context.Context, t deploy.Task) error {
	file, err := findProgram(t.Run[0], t.Dir)
	if err != nil {
		return err
	}
	return r.unit.Run(ctx, unit.Command{
		Name: r.app + "-" + strings.Trim(notInName.ReplaceAllString(filepath.Base(file), "-"), "-"),
		Args: append([]string{file}, t.Run[1:]...), Dir: t.Dir, User: t.User,
		Environment: t.Environment, Timeout: t.Timeout, Output: t.Output,
		Point: func(path string) string { return r.pointAt(t.Dir, path) }, Writable: []string{t.Dir},
	})
}

// findProgram makes a program's path absolute, as systemd wants it: relative to the release if it has a slash, else
// from the directories where a host keeps programs.
func findProgram(name, dir string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if strings.Contains(name, "/") {
		return filepath.Join(dir, name), nil
	}
	if file := program.Find(name); file != "" {
		return file, nil
	}
	return "", fmt.Errorf("there is no program %s", name)
}
