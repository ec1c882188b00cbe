package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/release/deploy"
)

func TestWhatOthersCanChangeIsNotUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it is about files of several users")
	}
	const stranger = 4711
	for name, c := range map[string]struct {
		change func(dir string) error
		path   string // below dir, to be looked at; "" is etc/app.toml
		want   string // in the error, "" is none
	}{
		"as it should be": {func(string) error { return nil }, "", ""},
		"of another user": {func(dir string) error { return os.Chown(dir+"/etc/app.toml", stranger, 0) }, "", "chown -h root DIR/etc/app.toml"},
		"a group's": {func(dir string) error {
			return errors.Join(os.Chown(dir+"/etc/app.toml", 0, stranger), os.Chmod(dir+"/etc/app.toml", 0o664))
		}, "", "chmod g-w DIR/etc/app.toml"},
		"a group's, to be read": {func(dir string) error { return os.Chown(dir+"/etc/app.toml", 0, stranger) }, "", ""},
		"root's group's":        {func(dir string) error { return os.Chmod(dir+"/etc/app.toml", 0o664) }, "", ""},
		"everybody's":           {func(dir string) error { return os.Chmod(dir+"/etc/app.toml", 0o646) }, "", "chmod o-w DIR/etc/app.toml"},
		"its directory":         {func(dir string) error { return os.Chown(dir+"/etc", stranger, 0) }, "", "chown -h root DIR/etc"},
		"one above":             {func(dir string) error { return os.Chmod(dir, 0o777) }, "", "chmod o-w DIR"},
		"a shared one above":    {func(dir string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, "", ""},
		"a stranger's shared": {func(dir string) error {
			return errors.Join(os.Chown(dir, stranger, 0), os.Chmod(dir, 0o777|fs.ModeSticky))
		}, "", "chown -h root DIR"},
		"a shared one itself": {func(dir string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, ".", "chmod o-w DIR"},
		"missing":             {func(string) error { return nil }, "etc/gone/x", ""},
		"missing in a shared": {func(dir string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) }, "gone/x", "anyone can create DIR/gone"},
		"a link to a stranger's": {func(dir string) error {
			return errors.Join(os.Chown(dir+"/etc/app.toml", stranger, 0), os.Symlink("etc/app.toml", dir+"/link"))
		}, "link", "chown -h root DIR/etc/app.toml"},
		"a stranger's link": {func(dir string) error {
			return errors.Join(os.Symlink("etc/app.toml", dir+"/link"), os.Lchown(dir+"/link", stranger, 0))
		}, "link", "chown -h root DIR/link"},
		"a link into a stranger's": {func(dir string) error {
			return errors.Join(os.Chown(dir+"/etc", stranger, 0), os.Symlink(dir+"/etc/app.toml", dir+"/link"))
		}, "link", "chown -h root DIR/etc"},
		"a loop": {func(dir string) error { return os.Symlink("loop", dir+"/loop") }, "loop", "cannot follow DIR/loop"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/tmp", "trust")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/etc", 0o755), os.WriteFile(dir+"/etc/app.toml", nil, 0o644), c.change(dir))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "etc/app.toml")
			if c.path != "" {
				path = filepath.Join(dir, c.path)
			}
			err = onlyRoots(path)
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

// What a task runs as root is only root's to change, also a script that an interpreter is given; what it runs as another user, or
// out of a release, isn't asked about.
func TestWhatTasksRunAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it is about files of several users")
	}
	dir, err := os.MkdirTemp("/tmp", "trust")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	theirs := filepath.Join(dir, "theirs")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(theirs, nil, 0o755), os.Chown(theirs, 4711, 0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user    string
		run     []string
		root    string
		refused bool
	}{
		{"root", []string{theirs}, "/srv/app", true},
		{"root", []string{"/bin/sh", theirs}, "/srv/app", true},
		{"root", []string{"/usr/bin/python3.11", theirs}, "/srv/app", true},
		{"root", []string{"/usr/bin/install", theirs}, "/srv/app", false},
		{"root", []string{"/bin/sh", "-c", theirs}, "/srv/app", false},
		{"root", []string{"./theirs"}, "/srv/app", false},
		{"root", []string{theirs}, dir, false},
		{"", []string{theirs}, "/srv/app", false},
		{"nobody", []string{theirs}, "/srv/app", false},
		{"no-such-user", []string{theirs}, "/srv/app", false},
	} {
		task := deploy.Task{Run: c.run, User: c.user}
		for what, config := range map[string]*Config{
			"the on_held hook": {Hooks: map[deploy.HookName][]deploy.Task{deploy.OnHeld: {task}}},
			"the check mail":   {Checks: []deploy.Check{{Task: deploy.Task{Name: "mail", Run: c.run, User: c.user}}}},
		} {
			config.Root = c.root
			err := config.trustedTasks()
			if (err != nil) != c.refused || err != nil && !strings.HasPrefix(err.Error(), what+"'s program "+theirs+" is not used: ") {
				t.Errorf("%s of %q runs %q: %v", what, c.user, c.run, err)
			}
		}
	}
}
