package rollback

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
	"deploygate/rollback/migrations"
)

// written begins a marker that was made by inspection. Any other is its author's, and is never replaced.
const written = "# Made by deploygate marker from the migrations; write one without this line to decide yourself.\n"

// MarkerOf makes the marker of a release from what its migrations do. The same migrations give the same marker.
func MarkerOf(j migrations.Judgement) Marker {
	if len(j.Blocking) == 0 {
		m := Marker{Rollback: Safe, Reason: "it brings no migrations", Migrations: names(j.New)}
		if len(j.New) > 0 {
			m.Reason = "the code before it can live with its migrations"
		}
		told := map[migrations.Name]bool{}
		for _, r := range j.Safe {
			if strings.HasPrefix(r.Why, "its author says so") && !told[r.Migration] {
				told[r.Migration] = true
				m.Reason += fmt.Sprintf("; of %s %s", r.Migration, r.Why)
			}
		}
		return m
	}
	m := Marker{Rollback: Blocked, Reason: first(blocks(j.Blocking))}
	for _, r := range j.Blocking {
		if name := r.Migration.String(); !slices.Contains(m.Migrations, name) {
			m.Migrations = append(m.Migrations, name)
		}
	}
	return m
}

// Text is the marker as its file holds it.
func (m Marker) Text() []byte {
	var b bytes.Buffer
	b.WriteString(written)
	e := toml.NewEncoder(&b)
	_ = e.Encode(m) // three strings and a list of them
	return b.Bytes()
}

// WriteMarker puts a marker into a release's directory, whole or not at all. It replaces only what it has made itself.
func WriteMarker(dir string, m Marker) error {
	root, err := openDirectory(dir)
	if err != nil {
		return fmt.Errorf("cannot write the marker: %w", untrusted.Cause(err))
	}
	defer root.Close()
	// It is looked at and written in the directory that was opened: another one, or a link, that is put in its place
	// meanwhile gets nothing.
	old, err := readRegular(fmt.Sprintf("/proc/self/fd/%d/%s", root.fd, MarkerName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("cannot replace the marker %s/%s: %w", dir, MarkerName, err)
	case !bytes.HasPrefix(old, []byte(written)):
		return fmt.Errorf("%s/%s was not made by deploygate and is left as it is; remove it to have it made", dir, MarkerName)
	case bytes.Equal(old, m.Text()):
		return nil
	}
	const temporary = MarkerName + ".new"
	_ = root.Remove(temporary) // of one who died at it
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write the marker %s/%s: %w", dir, MarkerName, untrusted.Cause(err))
	}
	_, err = f.Write(m.Text())
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil { // which replaces a link, and doesn't follow it
		err = root.Rename(temporary, MarkerName)
	}
	if err == nil {
		err = root.sync()
	}
	if err != nil {
		_ = root.Remove(temporary)
		return fmt.Errorf("cannot write the marker %s/%s: %w", dir, MarkerName, untrusted.Cause(err))
	}
	return nil
}

// directory is one that was opened as it is named.
type directory struct {
	*os.Root
	fd int
}

// openDirectory opens a directory, and nothing that a link in its place leads to.
func openDirectory(dir string) (*directory, error) {
	fd, err := untrusted.Within(dir, func() (int, error) {
		return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &directory{root, fd}, nil
}

func (d *directory) sync() error { return unix.Fsync(d.fd) }

func (d *directory) Close() {
	_ = d.Root.Close()
	_ = unix.Close(d.fd)
}
