package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/release"
)

const (
	snapshotName = "snapshot"
	// snapshotFormat must be another one as soon as the text is written differently, or Replay makes something else of
	// the same records.
	snapshotFormat = 3
	// snapshotLimit is what some 200,000 deploys take, in bytes.
	snapshotLimit = 64 << 20
)

// snapshot is the history of a journal up to where its last deploy begins. As a file it is a line of JSON, a line for
// each thing that is known, and a checksum of them all.
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
	Gated   int    `json:"gated"` // gates so far
	// How many bytes of lines there are of each, in this order. Lives come as they went, the others sorted by version.
	Lives    int `json:"lives"`
	Gates    int `json:"gates"`
	Schemas  int `json:"schemas"`
	Deployed int `json:"deployed"`
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

// of reports whether s was made of what f still holds. It looks at what lies before the offset only if the file isn't as
// it was left: a deploy is under way or has died, or someone replaced it or wrote to it.
func (s *snapshot) of(f *os.File) bool {
	now, err := sealOf(f)
	if err != nil {
		return false
	}
	if now == s.Journal && now.Changed < s.written { // else a write could have come at the same tick of the kernel's clock
		return true
	}
	sum, err := checksum(f, s.Offset)
	return err == nil && sum == s.Sum
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of the first size bytes of f; fewer are an error.
func checksum(f *os.File, size int64) (uint32, error) {
	h := crc32.New(castagnoli)
	_, err := io.CopyN(h, io.NewSectionReader(f, 0, size), size)
	return h.Sum32(), err
}

var errEarlier = errors.New("a record of a deploy that began before the snapshot's end")

// replay returns the history up to an offset in the journal. It goes on from s if that was made of this journal and what
// follows it stands alone: there is a deploy, since the last one is asked for, and no record of an earlier one.
func replay(f *os.File, s *snapshot, end int64) (History, error) {
	h, from := Replay(nil), int64(0)
	if s != nil && s.of(f) {
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

// snapshot writes the snapshot again. The last deploy is left out of it, so that whatever may still be recorded of it is
// read with its beginning.
func (j *Journal) snapshot() error {
	now, err := sealOf(j.file)
	if err != nil {
		return err
	}
	_, at, err := since(j.file, 1)
	if err != nil {
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

// readSnapshot returns the snapshot in dir; nil where there is none that can be used.
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
	s := decodeSnapshot(f, int(info.Size()))
	if s != nil {
		s.written = info.ModTime().UnixNano()
	}
	return s
}

// lifeFlags are the words for what Replay knows of a Live.
var lifeFlags = []struct {
	word string
	of   func(*release.Activation) *bool
}{
	{"forward", func(l *release.Activation) *bool { return &l.Forward }},
	{"by-hand", func(l *release.Activation) *bool { return &l.ByHand }},
	{"hooks", func(l *release.Activation) *bool { return &l.HooksOnly }},
	{"ended", func(l *release.Activation) *bool { return &l.HooksEnded }},
	{"passed", func(l *release.Activation) *bool { return &l.Passed }},
	{"rollback", func(l *release.Activation) *bool { return &l.Rollback }},
	{"override", func(l *release.Activation) *bool { return &l.Override }},
}

// flags returns the words for l, with commas.
func flags(l release.Activation) string {
	var words []string
	for _, f := range lifeFlags {
		if *f.of(&l) {
			words = append(words, f.word)
		}
	}
	return strings.Join(words, ",")
}

func parseLive(v release.Version, flags string) release.Activation {
	l := release.Activation{Version: v}
	for word := range strings.SplitSeq(flags, ",") {
		for _, f := range lifeFlags {
			if f.word == word {
				*f.of(&l) = true
			}
		}
	}
	return l
}

func (g gateRecord) String() string { return fmt.Sprint(g.result, " ", g.at) }

func parseGate(text string) gateRecord {
	word, at, _ := strings.Cut(text, " ")
	n, _ := strconv.Atoi(at) // the checksum vouches for it
	return gateRecord{gateResult(word), n}
}

// encode returns the file's text; none of a journal that holds what no deploygate writes.
func (s *snapshot) encode() ([]byte, error) {
	var body []byte
	var err error
	line := func(v release.Version, what string) {
		if _, bad := release.ParseVersion(string(v)); bad != nil {
			err = bad
		}
		body = append(append(append(append(body, v...), ' '), what...), '\n')
	}
	for _, l := range s.history.activations {
		line(l.Version, flags(l))
	}
	s.Lives = len(body)
	gates := s.history.allGates()
	for _, v := range slices.Sorted(maps.Keys(gates)) {
		line(v, gates[v].String())
	}
	s.Gates = len(body) - s.Lives
	schemas := maps.Collect(s.history.oldSchemas.all())
	maps.Copy(schemas, s.history.schemas)
	for _, v := range slices.Sorted(maps.Keys(schemas)) {
		line(v, schemas[v])
	}
	s.Schemas = len(body) - s.Lives - s.Gates
	deployed := s.history.allDeployed()
	for _, v := range slices.Sorted(maps.Keys(deployed)) {
		line(v, deployed[v].String())
	}
	s.Deployed = len(body) - s.Lives - s.Gates - s.Schemas
	if err != nil {
		return nil, err
	}
	s.Format, s.Torn, s.Gated = snapshotFormat, s.history.Torn, s.history.gated
	text, err := json.Marshal(s.header)
	if err != nil {
		return nil, err
	}
	text = append(append(text, '\n'), body...)
	return append(text, trailer(crc32.Checksum(text, castagnoli))...), nil
}

// trailer is the last line of a snapshot.
func trailer(sum uint32) string { return fmt.Sprintf("crc32c %08x\n", sum) }

// decodeSnapshot returns nil for anything but what encode, of this format, wrote. Only lives are taken apart.
func decodeSnapshot(from io.Reader, size int) *snapshot {
	size -= len(trailer(0))
	var text strings.Builder
	text.Grow(max(0, size))
	sum := crc32.New(castagnoli)
	if _, err := io.CopyN(io.MultiWriter(&text, sum), from, int64(size)); err != nil {
		return nil
	}
	if end, err := io.ReadAll(from); err != nil || string(end) != trailer(sum.Sum32()) {
		return nil
	}
	s := &snapshot{history: Replay(nil)}
	head, body, _ := strings.Cut(text.String(), "\n")
	if json.Unmarshal([]byte(head), &s.header) != nil || s.Format != snapshotFormat {
		return nil
	}
	take := func(size int) (part string, ok bool) {
		if ok = 0 <= size && size <= len(body); ok {
			part, body = body[:size], body[size:]
		}
		return part, ok
	}
	lives, ok := take(s.Lives)
	gates, ok2 := take(s.Gates)
	schemas, ok3 := take(s.Schemas)
	deployed, ok4 := take(s.Deployed)
	if !ok || !ok2 || !ok3 || !ok4 || body != "" {
		return nil
	}
	h := &s.history
	h.Torn, h.gated, h.oldGates, h.oldSchemas, h.oldDeployed = s.Torn, s.Gated, index(gates), index(schemas), index(deployed)
	h.activations = make([]release.Activation, 0, strings.Count(lives, "\n"))
	for v, word := range index(lives).all() {
		h.activations = append(h.activations, parseLive(v, word))
	}
	return s
}

// index is text with a line for each version: its name, a space, and what is known of it. Sorted by name it is looked up
// as it is, without a copy of what is in it.
type index string

func (x index) all() iter.Seq2[release.Version, string] {
	return func(yield func(release.Version, string) bool) {
		for line := range strings.SplitSeq(string(x), "\n") {
			if v, what, ok := strings.Cut(line, " "); ok && !yield(release.Version(v), what) {
				return
			}
		}
	}
}

// find needs the lines to be sorted.
func (x index) find(v release.Version) (what string, found bool) {
	for rest := string(x); rest != ""; {
		begin := strings.LastIndexByte(rest[:len(rest)/2], '\n') + 1
		line, after, _ := strings.Cut(rest[begin:], "\n")
		name, what, _ := strings.Cut(line, " ")
		switch c := strings.Compare(name, string(v)); {
		case c < 0:
			rest = after
		case c > 0:
			rest = rest[:begin]
		default:
			return what, true
		}
	}
	return "", false
}
