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
