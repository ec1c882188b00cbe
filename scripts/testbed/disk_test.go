package testbed

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCutPower cuts the power of a machine: what was written to its disk is
// there afterwards, and what wasn't is not.
func TestCutPower(t *testing.T) {
	need(t)
	for _, kinds := range [][]string{{"ext4"}, {"xfs"}, {"ext4", "xfs"}} {
		t.Run(strings.Join(kinds, "+"), func(t *testing.T) {
			if missing := MissingForDisk(kinds...); missing != "" {
				t.Skip(missing)
			}
			volumes := []Volume{{Kind: kinds[0]}}
			other := "/data" // on the first volume if it has none of its own
			if len(kinds) > 1 {
				volumes = append(volumes, Volume{Kind: kinds[1], Guest: other})
			}
			disk, err := NewDisk(t.Context(), t.TempDir(), volumes...)
			check(t, err)
			m := boot(t, Suites[0], Options{Disk: disk})
			content := strings.Repeat("content\n", 10_000)
			for _, dir := range []string{"/srv", other} {
				check(t, m.WriteFile(dir+"/written", content, 0o644))
			}
			check(t, m.Sync())
			for _, dir := range []string{"/srv", other} {
				check(t, m.WriteFile(dir+"/lost", content, 0o644))
			}
			check(t, m.CutPower())
			check(t, disk.Look(t.Context(), func(path func(string) string) error {
				for _, dir := range []string{"/srv", other} {
					if text, err := os.ReadFile(path(dir + "/written")); err != nil || string(text) != content {
						t.Errorf("%s/written has %d bytes, %v", dir, len(text), err)
					}
					if text, _ := os.ReadFile(path(dir + "/lost")); string(text) == content {
						t.Errorf("%s/lost is whole", dir)
					}
				}
				return nil
			}))
			m = boot(t, Suites[0], Options{Disk: disk})
			if text, err := m.ReadFile("/srv/written"); err != nil || text != content {
				t.Errorf("after a boot it has %d bytes, %v", len(text), err)
			}
		})
	}
}

// entry is one of a log of writes, as the recorder writes it.
func entry(at, sectors, flags uint64, content string) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, [4]uint64{at, sectors, flags})
	b.Write(make([]byte, sector-b.Len()))
	data := make([]byte, sectors*sector)
	copy(data, content)
	b.Write(data)
	return b.Bytes()
}

// TestCrashes makes the disks that a power cut might leave of a log of four
// writes, the second of which ends with a flush.
func TestCrashes(t *testing.T) {
	dir := t.TempDir()
	d := &Disk{dir: dir, log: filepath.Join(dir, "log"), volumes: []Volume{{Kind: "ext4"}}}
	check(t, os.WriteFile(d.start(), make([]byte, block), 0o600))
	log := bytes.Join([][]byte{
		make([]byte, sector),
		entry(0, 1, 0, "a"), entry(1, 1, 0, "b"), entry(0, 0, 1, ""),
		entry(2, 1, 0, "c"), entry(3, 1, 0, "d"), entry(0, 0, 1, ""),
		entry(4, 1, 0, "torn")[:sector],
	}, nil)
	check(t, os.WriteFile(d.log, log, 0o600))
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it has to be the same each time
	var found []string
	check(t, d.Crashes(t.Context(), random, func(at int64) bool { return at > 5*sector }, func(crash *Disk, _ int64, _ string) error {
		f, err := os.Open(crash.image)
		if err != nil {
			return err
		}
		defer f.Close()
		image := make([]byte, 5*sector) // the rest is a large hole
		if _, err := io.ReadFull(f, image); err != nil {
			return err
		}
		var state strings.Builder
		for n := range 5 {
			if c := image[n*sector]; c != 0 {
				state.WriteByte(c)
			}
		}
		found = append(found, state.String())
		return nil
	}))
	// After the flush of a and b: c written; c and d; and three of their subsets. Before it, those of a and b.
	if len(found) < 5 {
		t.Errorf("crash images %q", found)
	}
	for _, state := range found {
		if strings.ContainsAny(state, "cd") && !strings.HasPrefix(state, "ab") {
			t.Errorf("%q: what was flushed is gone", state)
		}
	}
	for _, want := range []string{"abc", "abcd"} {
		if !strings.Contains(" "+strings.Join(found, " ")+" ", " "+want+" ") {
			t.Errorf("no crash image has %s: %q", want, found)
		}
	}
}
