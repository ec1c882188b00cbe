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

	"deploygate/release"
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
	old, err := readRegular(dir + "/" + MarkerName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("cannot replace the marker %s/%s: %w", dir, MarkerName, err)
	case !bytes.HasPrefix(old, []byte(written)):
		return fmt.Errorf("%s/%s was not made by deploygate and is left as it is; remove it to have it made", dir, MarkerName)
	case bytes.Equal(old, m.Text()):
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("cannot write the marker: %w", release.Reason(err))
	}
	defer root.Close()
	const temporary = MarkerName + ".new"
	_ = root.Remove(temporary) // of one who died at it
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write the marker %s/%s: %w", dir, MarkerName, release.Reason(err))
	}
	_, err = f.Write(m.Text())
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = root.Rename(temporary, MarkerName)
	}
	if err == nil {
		err = syncDir(root)
	}
	if err != nil {
		_ = root.Remove(temporary)
		return fmt.Errorf("cannot write the marker %s/%s: %w", dir, MarkerName, release.Reason(err))
	}
	return nil
}

// syncDir makes a rename in a directory durable: a marker that blocks must not be lost with the power.
func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
