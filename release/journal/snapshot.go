package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/release"
)

const (
	snapshotName = "snapshot"
	// snapshotFormat must be another one as soon as the text is written differently, or Replay makes something else of
	// the same records.
	snapshotFormat = 1
	// snapshotLimit is what some 200,000 deploys take, in bytes.
	snapshotLimit = 64 << 20
)

// snapshot is the history of a journal up to where its last deploy begins. As a file it is a line of JSON, a line for
// each thing that is known, and a checksum of it all.
type snapshot struct {
	header
	history History
	written int64 // when the file was, in nanoseconds since 1970
}

type header struct {
	Format  int    `json:"format"`
	Offset  int64  `json:"offset"` // in the journal, in bytes: what stands before it is known
	Sum     uint32 `json:"sum"`    // CRC-32C of what stands before it
	Journal seal   `json:"journal"`
	Torn    int    `json:"torn"`
	// How many lines there are of each, in this order.
	Lives   int `json:"lives"`
	Gates   int `json:"gates"`
	Schemas int `json:"schemas"`
}

// seal is what the kernel knows of a journal. As long as it stays the same so do the contents: every write sets the
// time of the last change, which nobody can set back.
type seal struct {
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // nanoseconds since 1970
}

func sealOf(f *os.File) (seal, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return seal{}, err
	}
	return seal{s.Ino, s.Size, s.Ctim.Nano()}, nil
}

// of tells whether s was made of what f still holds. It looks at what lies before the offset only if the file isn't as
// it was left: a deploy is under way or has died, or somebody replaced it or wrote to it.
func (s *snapshot) of(f *os.File) bool {
	now, err := sealOf(f)
	if err != nil || now.Size < s.Offset {
		return false
	}
	if now == s.Journal && now.Changed < s.written { // else a write could have come at the same tick of the kernel's clock
		return true
	}
	sum, err := checksum(f, s.Offset)
	return err == nil && sum == s.Sum
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of the first size bytes of f.
func checksum(f *os.File, size int64) (uint32, error) {
	h := crc32.New(castagnoli)
	_, err := io.Copy(h, io.NewSectionReader(f, 0, size))
	return h.Sum32(), err
}

var errEarlier = errors.New("a record of a deploy that began before the snapshot's end")

// replay gives the history up to an offset in the journal. It goes on from s if that was made of this journal and what
// follows it stands alone: there is a deploy, since the last one is asked for, and no record of an earlier one.
func replay(f *os.File, s *snapshot, end int64) (History, error) {
	h, from := Replay(nil), int64(0)
	if s != nil && s.Offset <= end && s.of(f) {
		h, from = s.history, s.Offset
	}
	torn, err := scan(io.NewSectionReader(f, from, end-from), f.Name(), func(r Record) error {
		if !h.add(r) && from > 0 {
			return errEarlier
		}
		return nil
	})
	if from > 0 && (errors.Is(err, errEarlier) || err == nil && len(h.deploys) == 0) {
		return replay(f, nil, end)
	}
	if err != nil {
		return History{}, err
	}
	h.Torn += torn
	return h, nil
}

// snapshot writes the snapshot anew. The last deploy is left out of it, so that whatever may still be recorded of it is
// read with its beginning.
func (j *Journal) snapshot() error {
	now, err := sealOf(j.file)
	if err != nil {
		return err
	}
	_, at, err := since(j.file, 1)
	if err != nil || at == 0 {
		return err
	}
	h, err := replay(j.file, readSnapshot(j.dir), at)
	if err != nil {
		return err
	}
	sum, err := checksum(j.file, at)
	if err != nil {
		return err
	}
	s := snapshot{header: header{Offset: at, Sum: sum, Journal: now}, history: h}
	text, err := s.encode()
	if err != nil {
		return err
	}
	return writeSnapshot(j.dir, text)
}

// writeSnapshot puts text in the place of the old snapshot. After a power cut there is one of the two, or none: which
// of them makes no difference, so that the directory isn't synced.
func writeSnapshot(dir string, text []byte) error {
	name := filepath.Join(dir, snapshotName)
	temp := name + ".new" // the lock's holder is alone, and writes over what a dead one left
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	f.Close()
	if err != nil {
		_ = os.Remove(temp) // a full disk needs the space
		return err
	}
	return os.Rename(temp, name)
}

// readSnapshot gives the snapshot in dir; nil where there is none that can be used.
func readSnapshot(dir string) *snapshot {
	f, err := os.OpenFile(filepath.Join(dir, snapshotName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > snapshotLimit {
		return nil
	}
	text := make([]byte, info.Size())
	if _, err := io.ReadFull(f, text); err != nil {
		return nil
	}
	s := decodeSnapshot(text)
	if s != nil {
		s.written = info.ModTime().UnixNano()
	}
	return s
}

// lifeWords are the words for every kind of Live that Replay makes.
var lifeWords = []struct {
	word string
	Live
}{
	{"released", Live{Forward: true}},
	{"back", Live{}},
	{"hooks", Live{Forward: true, HooksOnly: true}},
	{"found", Live{Forward: true, ByHand: true}},
}

const (
	passedWord = "passed"
	failedWord = "failed"
)

// encode gives the file's text; none of a journal that holds what no deploygate writes.
func (s *snapshot) encode() ([]byte, error) {
	var body []byte
	var err error
	line := func(v release.Version, what string) {
		if _, bad := release.ParseVersion(string(v)); bad != nil {
			err = bad
		}
		body = append(append(append(append(body, v...), ' '), what...), '\n')
	}
	for _, l := range s.history.Lives {
		for _, w := range lifeWords {
			if w.Version = l.Version; w.Live == l {
				line(l.Version, w.word)
			}
		}
	}
	gated := s.history.Gated()
	for _, v := range slices.Backward(gated) {
		if s.history.Good(v) {
			line(v, passedWord)
		} else {
			line(v, failedWord)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(s.history.schemas)) {
		line(v, s.history.schemas[v])
	}
	if err != nil {
		return nil, err
	}
	s.Format, s.Torn = snapshotFormat, s.history.Torn
	s.Lives, s.Gates, s.Schemas = len(s.history.Lives), len(gated), len(s.history.schemas)
	text, err := json.Marshal(s.header)
	if err != nil {
		return nil, err
	}
	text = append(append(text, '\n'), body...)
	return append(text, trailer(text)...), nil
}

// trailer is the last line of a snapshot.
func trailer(text []byte) string {
	return fmt.Sprintf("crc32c %08x\n", crc32.Checksum(text, castagnoli))
}

// decodeSnapshot gives nil for anything but what encode, of this format, wrote.
func decodeSnapshot(text []byte) *snapshot {
	size := max(0, len(text)-len(trailer(nil)))
	if string(text[size:]) != trailer(text[:size]) {
		return nil
	}
	head, body, _ := strings.Cut(string(text[:size]), "\n")
	s := &snapshot{history: Replay(nil)}
	if json.Unmarshal([]byte(head), &s.header) != nil || s.Format != snapshotFormat {
		return nil
	}
	lines := strings.Count(body, "\n")
	if min(s.Lives, s.Gates, s.Schemas) < 0 || max(s.Lives, s.Gates, s.Schemas) > lines || s.Lives+s.Gates+s.Schemas != lines {
		return nil
	}
	next := func() (v release.Version, what string) {
		line, rest, _ := strings.Cut(body, "\n")
		version, what, _ := strings.Cut(line, " ")
		body = rest
		return release.Version(version), what
	}
	h := &s.history
	h.Torn = s.Torn
	h.Lives = make([]Live, s.Lives)
	for i := range h.Lives {
		v, what := next()
		for _, w := range lifeWords {
			if w.word == what {
				h.Lives[i] = w.Live
			}
		}
		h.Lives[i].Version = v
	}
	h.gates = make(map[release.Version]gateRecord, s.Gates)
	for h.gated < s.Gates {
		v, what := next()
		h.gated++
		h.gates[v] = gateRecord{what == passedWord, h.gated}
	}
	h.schemas = make(map[release.Version]string, s.Schemas)
	for range s.Schemas {
		v, what := next()
		h.schemas[v] = what
	}
	return s
}
