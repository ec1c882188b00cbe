package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/inuse"
)

// uses looks at this host for what uses releases.
type uses struct{ *Host }

// releases is the directory of all releases, with every link resolved.
func (u uses) releases() (string, error) {
	dir, err := untrusted.EvalSymlinks(filepath.Join(u.tree.Root(), "releases"))
	if err != nil {
		return "", fmt.Errorf("cannot tell what uses the releases: %w", err)
	}
	return dir, nil
}

// Held implements deploy.Uses.
func (u uses) Held(ctx context.Context, names []string) (map[string]inuse.Hold, error) {
	dir, err := u.releases()
	if err != nil {
		return nil, err
	}
	held, err := inuse.Held(ctx, dir, names)
	if err != nil && os.Geteuid() != 0 {
		err = fmt.Errorf("%w; root can", err)
	}
	return held, err
}

func (u uses) leads(into []release.Version) (inuse.Leads, error) {
	dir, err := u.releases()
	l := inuse.Leads{Parent: dir, Paths: []string{dir}, Names: names(into)}
	if written := filepath.Join(u.tree.Root(), "releases"); written != dir {
		l.Paths = append(l.Paths, written)
	}
	return l, err
}

// Needs implements deploy.Uses.
func (u uses) Needs(ctx context.Context, from release.Version, into []release.Version) ([]inuse.Lead, error) {
	l, err := u.leads(into)
	if err != nil {
		return nil, err
	}
	return l.Of(ctx, string(from))
}

// Around implements deploy.Uses.
func (u uses) Around(ctx context.Context, into []release.Version) ([]inuse.Lead, error) {
	l, err := u.leads(into)
	if err != nil {
		return nil, err
	}
	d, err := u.Manager.Unit(u.Config.Service.Unit).Describe(ctx)
	if err != nil {
		return nil, err
	}
	words := append([]string{d.Program}, d.ExecStart...)
	words = append(words, d.WorkingDirectory)
	for _, command := range d.Around {
		words = append(words, command...)
	}
	for _, assignment := range d.Environment {
		words = append(words, values(assignment)...)
	}
	for _, f := range d.EnvironmentFiles {
		words = append(words, f.Path)
		for _, assignment := range assignments(f.Path) {
			words = append(words, values(assignment)...)
		}
	}
	theirs := func(link string) bool { return !u.tree.Ours(link) }
	return l.Around(ctx, []string{u.tree.Root(), l.Parent}, theirs, d.Name, words)
}

// ChangedAfter implements deploy.Uses.
func (u uses) ChangedAfter(v release.Version, after time.Time) string {
	return u.tree.ChangedAfter(v, after)
}

// values are what a variable's may be a list of, like PATH's.
func values(assignment string) []string {
	_, value, _ := strings.Cut(assignment, "=")
	return append([]string{value}, strings.Split(value, ":")...)
}

func names(vs []release.Version) []string {
	list := []string{}
	for _, v := range vs {
		list = append(list, string(v))
	}
	return list
}
