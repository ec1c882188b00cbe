package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"deploygate/gate/untrusted"
)

// makeDir makes the state directory where it doesn't exist, and those that it lies in. Each is on disk by name when
// makeDir returns: a record is no use in a directory that a power cut takes away.
func makeDir(dir string) error {
	if err := makeDirs(dir); err != nil {
		return fmt.Errorf("cannot make the state directory %s: %w", dir, untrusted.Cause(err))
	}
	return nil
}

// Share lets a group read the journal in dir, whose files come to belong to it. It has to get there: those above dir stay as they
// are.
func Share(dir string, gid int) error {
	const mode = 0o750 | fs.ModeSetgid // new files belong to the directory's group
	names := []string{""}
	entries, err := untrusted.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		if err == nil {
			err = os.Lchown(filepath.Join(dir, name), -1, gid)
		}
	}
	if err == nil {
		err = os.Chmod(dir, mode)
	}
	if err != nil {
		return fmt.Errorf("cannot let a group read %s: %w", dir, untrusted.Cause(err))
	}
	return nil
}

func makeDirs(dir string) error {
	parent := filepath.Dir(dir)
	err := os.Mkdir(dir, 0o750)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err = makeDirs(parent); err == nil {
			err = os.Mkdir(dir, 0o750)
		}
	}
	if info, lookErr := os.Stat(dir); err != nil && lookErr == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	return untrusted.SyncDir(parent)
}
