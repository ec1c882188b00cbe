// Package rollback answers one question: may an older release's code run on the schema that newer releases left?
//
// The answer comes from what is written beside each release (the marker), or, where nothing is written, from whether
// the release brought new migrations. Decide is pure; reading is bounded, follows no links and runs nothing.
//
// Not guaranteed: that a marker tells the truth. A health check that passes after a rollback doesn't prove
// compatibility either: a SELECT COUNT(*) works on a table whose columns are gone.
package rollback

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// MarkerName is the file in a release's directory that says whether the previous code may run after it.
const MarkerName = ".migration-compat.toml"

// maxMarker bounds what is read of a marker, in bytes.
const maxMarker = 64 << 10

// Marker is a release's word on the way back from it.
type Marker struct {
	Rollback   Verdict  `toml:"rollback" json:"rollback"` // safe or blocked
	Reason     string   `toml:"reason,omitempty" json:"reason,omitempty"`
	Migrations []string `toml:"migrations,omitempty" json:"migrations,omitempty"` // the ones that decided, as app.name
	// Made by inspection, against one older release. It says nothing of those before that one.
	Made bool `toml:"-" json:"-"`
}

// ReadMarker reads the marker in a release's directory; nil means that there is none. An unreadable marker is an
// error: it may be one that forbids.
func ReadMarker(dir string) (*Marker, error) {
	file := filepath.Join(dir, MarkerName)
	text, err := readRegular(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the marker %s: %w", file, err)
	}
	m, err := ParseMarker(text)
	if err != nil {
		return nil, fmt.Errorf("cannot understand the marker %s: %w", file, err)
	}
	m.Made = strings.HasPrefix(string(text), written)
	return m, nil
}

// readRegular reads a small regular file. A link is refused, since whoever uploads a release could point it at a file
// that only root may read; a fifo would make the reader wait for ever.
func readRegular(file string) ([]byte, error) {
	text, err := untrusted.Within(file, func() ([]byte, error) { return readAll(file) })
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, errors.New("it is a symbolic link; a marker is a file of the release itself")
	case err != nil:
		return nil, untrusted.Cause(err)
	case len(text) > maxMarker:
		return nil, fmt.Errorf("it is larger than %d KiB", maxMarker>>10)
	}
	return text, nil
}

func readAll(file string) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, untrusted.ErrNotRegular)
	}
	return io.ReadAll(io.LimitReader(f, maxMarker+1))
}

// ParseMarker understands a marker's text. Unknown keys are errors: a misspelt "rollback" must not read as absent.
func ParseMarker(text []byte) (*Marker, error) {
	var m Marker
	d := toml.NewDecoder(strings.NewReader(string(text))).DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, parseError(err)
	}
	// go-toml takes keys of any case for the field's, the last one winning: two spellings would be two answers.
	var keys map[string]any
	if err := toml.Unmarshal(text, &keys); err != nil {
		return nil, parseError(err)
	}
	for key := range keys {
		if key != "rollback" && key != "reason" && key != "migrations" {
			return nil, fmt.Errorf("unknown key %q; the keys are rollback, reason and migrations", key)
		}
	}
	switch m.Rollback {
	case Safe, Blocked:
		return &m, nil
	case "":
		return nil, errors.New(`it does not say rollback = "safe" or "blocked"`)
	default:
		return nil, fmt.Errorf(`rollback = %q is neither "safe" nor "blocked"`, m.Rollback)
	}
}

// parseError puts go-toml's errors, which span several lines, into one with its place.
func parseError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		row, col := strict.Errors[0].Position()
		return fmt.Errorf("line %d, column %d: unknown key %q", row, col, strings.Join(strict.Errors[0].Key(), "."))
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, col := decode.Position()
		return fmt.Errorf("line %d, column %d: %s", row, col, strings.TrimPrefix(decode.Error(), "toml: "))
	}
	return err
}
