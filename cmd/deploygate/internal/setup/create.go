package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate/untrusted"
)

// InputError is a mistake in what a person asked for, as far as this host can tell.
type InputError struct{ text string }

func (e *InputError) Error() string { return e.text }

func inputf(format string, args ...any) error { return &InputError{fmt.Sprintf(format, args...)} }

func inTheWay(path string) error {
	return inputf("%s is there already and is left as it is; nothing was written", path)
}

// Create makes all of the files, each with its text from the first moment, or none. A file is never overwritten, also
// not one that appears meanwhile: that is an *InputError. A process that dies leaves the first few of them, and maybe
// names that begin with a dot, which neither deploygate nor systemd reads.
func Create(files ...socketunit.File) (err error) {
	var made, staged []string
	defer func() {
		for _, path := range staged {
			_ = os.Remove(path)
		}
		if err == nil {
			return
		}
		for _, path := range slices.Backward(made) {
			_ = os.Remove(path) // a directory that someone else has put something into stays
		}
	}()
	if err := missing(files...); err != nil {
		return err
	}
	temporary := map[string]string{}
	for _, f := range files {
		dirs, err := makeDirs(filepath.Dir(f.Path))
		made = append(made, dirs...)
		if err != nil {
			return cannotWrite(f.Path, err)
		}
		name, err := stage(f)
		if name != "" {
			staged = append(staged, name)
			temporary[f.Path] = name
		}
		if err != nil {
			return cannotWrite(f.Path, err)
		}
	}
	for _, f := range files {
		err := os.Link(temporary[f.Path], f.Path)
		if errors.Is(err, fs.ErrExist) {
			return inTheWay(f.Path)
		}
		if err == nil {
			made = append(made, f.Path)
			err = untrusted.SyncDir(filepath.Dir(f.Path))
		}
		if err != nil {
			return cannotWrite(f.Path, err)
		}
	}
	return nil
}

// Written reports whether all of the files are there as they would be written.
func Written(files ...socketunit.File) bool {
	return !slices.ContainsFunc(files, func(f socketunit.File) bool {
		text, more, err := untrusted.ReadFile(f.Path, int64(len(f.Text)), nil)
		return err != nil || more || string(text) != f.Text
	})
}

// missing reports whether none of the files is there yet, else with an *InputError.
func missing(files ...socketunit.File) error {
	for _, f := range files {
		if _, err := untrusted.Lstat(f.Path); err == nil {
			return inTheWay(f.Path)
		}
	}
	return nil
}

func cannotWrite(path string, err error) error {
	return fmt.Errorf("cannot write %s: %w", path, untrusted.Cause(err))
}

// makeDirs makes a directory and those above it, as far as they are missing, and gives those that it made.
func makeDirs(dir string) (made []string, err error) {
	var missing []string
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := untrusted.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break // whether it is a directory, who writes into it finds out
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, 0o755); errors.Is(err, fs.ErrExist) {
			continue // someone else was faster
		} else if err != nil {
			return made, err
		}
		made = append(made, at)
		if err := os.Chmod(at, 0o755); err != nil { // whatever the umask
			return made, err
		}
		if err := untrusted.SyncDir(filepath.Dir(at)); err != nil {
			return made, err
		}
	}
	return made, nil
}

// stage writes a file under a temporary name beside its own.
func stage(f socketunit.File) (name string, err error) {
	file, err := os.CreateTemp(filepath.Dir(f.Path), "."+filepath.Base(f.Path)+".*")
	if err != nil {
		return "", err
	}
	defer file.Close()
	if _, err = file.WriteString(f.Text); err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	return file.Name(), err
}
