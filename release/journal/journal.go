// Package journal is the durable record of one app's deploys, and the lock that lets one deploy run at a time. Both
// live in the app's state directory.
//
// The journal is a file of JSON records, one a line, that is only ever appended to; each record is on disk before the
// call returns. An intent is written before each change of the host and its result after it, so that what a dead
// deploy may have done can be told. A torn last line, which a power cut can leave, is left out when reading.
//
// The journal alone counts. So that not all of it has to be read each time, a snapshot beside it keeps what it tells up to
// the last deploy; whoever holds the lock makes it again with each verdict. It is used only where it was made of the very
// bytes that the journal still begins with; where it is missing, damaged or of another journal, all of that is read.
//
// The lock is flock(2): the kernel frees it when its holder dies. Its file is never removed, since a file that is
// unlinked while someone waits for it would be locked twice.
//
// Not guaranteed: that a version of deploygate older than the one that wrote the journal understands it; it says so.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
	"deploygate/release"
)

const (
	fileName = "journal.jsonl"
	lockName = "lock"
	format   = 1
)

// Event is the kind of a record.
type Event string

// The events of one deploy, in the order in which they can come.
const (
	Began    Event = "began"    // preflight passed; nothing has been touched
	Intent   Event = "intent"   // Step is about to change the host
	Done     Event = "done"     // Step ended, with Error if it failed
	Passed   Event = "passed"   // Version passed its gate
	Failed   Event = "failed"   // Version failed its gate
	Finished Event = "finished" // the verdict
)

// Record is one line of the journal. Which fields are set depends on the event.
type Record struct {
	Format int       `json:"format"`
	At     time.Time `json:"at"`
	Deploy string    `json:"deploy"`
	Event  Event     `json:"event"`

	Command   string          `json:"command,omitempty"`   // began
	Requested release.Version `json:"requested,omitempty"` // began
	Previous  release.Version `json:"previous,omitempty"`  // began
	User      string          `json:"user,omitempty"`      // began
	PID       int             `json:"pid,omitempty"`       // began
	Override  string          `json:"override,omitempty"`  // began: why a blocking marker was overridden
	Program   string          `json:"program,omitempty"`   // began: the version of deploygate
	// Invocations are those of the app's units when the deploy began, by name: while one is the same, the unit was not restarted.
	Invocations map[string]string `json:"invocations,omitempty"` // began
	// Binds are where units listened of whose text it isn't known, by name, in gunicorn's syntax: their processes showed it.
	Binds   map[string]string `json:"binds,omitempty"`   // began
	Healthy bool              `json:"healthy,omitempty"` // began: Previous was live and answered as it should
	Schema  *release.Schema   `json:"schema,omitempty"`  // began
	// Which directories Requested and Previous were then; nil where it was not recorded.
	Directory         *release.Identity `json:"directory,omitempty"`          // began
	PreviousDirectory *release.Identity `json:"previous_directory,omitempty"` // began

	Step    string          `json:"step,omitempty"`    // intent, done
	Version release.Version `json:"version,omitempty"` // intent, done, passed, failed
	Error   string          `json:"error,omitempty"`   // done, failed
	Blames  string          `json:"blames,omitempty"`  // failed: release, host or unknown; only the first marks the release

	Verdict json.RawMessage `json:"verdict,omitempty"` // finished: what --output json printed
}

// Journal is the open record of one app.
type Journal struct {
	file *os.File
	dir  string
	torn bool // the last write may have ended in the middle of a line

	reserved bool // there may be blocks behind the end of the file
}

// Open opens the journal in dir for appending, and makes both where they don't exist. The directory belongs to the
// caller alone: records hold lines of logs.
func Open(dir string) (*Journal, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, fileName)
	file, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return nil, fmt.Errorf("cannot open the journal %s: %w", name, untrusted.Cause(err))
	}
	j := &Journal{file: file, dir: dir}
	if err := j.repair(); err != nil {
		file.Close()
		return nil, err
	}
	return j, nil
}

// Writable says why Open would fail in dir, as far as can be told without changing anything.
func Writable(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Access(at, unix.W_OK|unix.X_OK)
		if errors.Is(err, fs.ErrNotExist) && at != "/" {
			continue // it would be made in its parent
		}
		if err != nil {
			return fmt.Errorf("cannot write to the state directory %s: %w", dir, err)
		}
		return nil
	}
}

// repair finds a torn last line, so that the next record begins on a line of its own, and makes the file's name durable.
func (j *Journal) repair() error {
	info, err := j.file.Stat()
	if err != nil {
		return fmt.Errorf("cannot read the journal %s: %w", j.file.Name(), untrusted.Cause(err))
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the journal %s is not a regular file", j.file.Name())
	}
	last := make([]byte, 1)
	if info.Size() > 0 {
		if _, err := j.file.ReadAt(last, info.Size()-1); err != nil {
			return fmt.Errorf("cannot read the journal %s: %w", j.file.Name(), untrusted.Cause(err))
		}
		j.torn = last[0] != '\n'
	}
	if err := untrusted.SyncDir(j.dir); err != nil {
		return fmt.Errorf("cannot write the state directory %s to disk: %w", j.dir, untrusted.Cause(err))
	}
	return nil
}

// reserve is more than what a deploy writes from its first change to its verdict, in bytes.
const reserve = 64 << 10

// Reserve sets blocks of the disk aside for the records of one deploy, so that a disk that becomes full meanwhile doesn't
// keep them from being written. Where the file system can't do that it does nothing.
func (j *Journal) Reserve() error {
	info, err := j.file.Stat()
	if err == nil {
		err = unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, info.Size(), reserve)
	}
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		j.reserved = err == nil
		return nil
	}
	return fmt.Errorf("cannot reserve space for the journal %s: %w", j.file.Name(), untrusted.Cause(err))
}

// free gives back what Reserve set aside and no record has used.
func (j *Journal) free() {
	if info, err := j.file.Stat(); err == nil && j.reserved {
		j.reserved = j.file.Truncate(info.Size()) != nil
	}
}

// Close closes the file.
func (j *Journal) Close() error {
	j.free()
	return j.file.Close()
}

// Append writes one record; it is on disk when Append returns nil. After an error it may be there in part, or whole.
// The lock's holder alone may call it.
func (j *Journal) Append(r Record) error {
	r.Format = format
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	line = append(line, '\n')
	if j.torn {
		line = append([]byte{'\n'}, line...)
	}
	j.torn = true
	_, err = j.file.Write(line)
	if err == nil {
		j.torn = false
		err = j.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot write the journal %s: %w", j.file.Name(), untrusted.Cause(err))
	}
	if r.Event == Finished {
		j.free()         // before the snapshot, which knows the file as it is then
		_ = j.snapshot() // without it reading takes longer, and gives the same
	}
	return nil
}

// Read returns the records in dir, oldest first; none where there is no journal yet. Lines that are no record are
// counted, not given: a torn one is no reason to refuse the next deploy.
func Read(dir string) (records []Record, torn int, err error) {
	f, err := openToRead(dir)
	if f == nil {
		return nil, 0, err
	}
	defer f.Close()
	return parse(f, f.Name())
}

// openToRead opens the journal in dir; nil where there is none yet.
func openToRead(dir string) (*os.File, error) {
	name := filepath.Join(dir, fileName)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(name, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("the journal %s is not a regular file", name)
	}
	return f, nil
}

func unreadable(name string, err error) error {
	return fmt.Errorf("cannot read the journal %s: %w", name, untrusted.Cause(err))
}

func parse(from io.Reader, name string) (records []Record, torn int, err error) {
	torn, err = scan(from, name, func(r Record) error {
		records = append(records, r)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return records, torn, nil
}

// scan hands out the records one by one, oldest first, and counts the lines that are none.
func scan(from io.Reader, name string, each func(Record) error) (torn int, err error) {
	in := bufio.NewReader(from)
	for {
		line, end := in.ReadBytes('\n')
		if end != nil && !errors.Is(end, io.EOF) {
			return 0, unreadable(name, end)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			switch r, ok, err := decode(line, name); {
			case err != nil:
				return 0, err
			case !ok:
				torn++
			default:
				if err := each(r); err != nil {
					return 0, err
				}
			}
		}
		if end != nil {
			return torn, nil
		}
	}
}

// decode reads a line that isn't empty; not ok is one that is no record.
func decode(line []byte, name string) (r Record, ok bool, err error) {
	ok = json.Unmarshal(line, &r) == nil
	head := struct{ Format int }{r.Format}
	if !ok { // a newer format may use other types
		head.Format = 0
		if json.Unmarshal(line, &head) != nil {
			return Record{}, false, nil
		}
	}
	if head.Format > format {
		return Record{}, false, fmt.Errorf("the journal %s was written by a newer deploygate (format %d); use that one", name, head.Format)
	}
	return r, ok && r.Format >= 1 && r.Event != "", nil
}

// since returns the records from the n-th last Began on, oldest first, and where in the journal they begin: all of them
// where there are fewer. It reads from the end, and not much further than it must.
func since(f *os.File, n int) (records []Record, at int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, unreadable(f.Name(), err)
	}
	at = info.Size()
	for b := (backward{from: f, start: at}); at > 0 && n > 0; {
		var line []byte
		if at, line, err = b.line(); err != nil {
			return nil, 0, unreadable(f.Name(), err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		r, ok, err := decode(line, f.Name())
		if err != nil {
			return nil, 0, err
		}
		if ok {
			records = append(records, r)
		}
		if ok && r.Event == Began {
			n--
		}
	}
	slices.Reverse(records)
	return records, at, nil
}

// backward reads lines, the last one first.
type backward struct {
	from  io.ReaderAt
	start int64  // where block begins; all before it has yet to be read
	block []byte // up to the lines that were given
	chunk int64
}

// line returns the next line and where it begins. The last one begins at 0.
func (b *backward) line() (at int64, line []byte, err error) {
	end := bytes.LastIndexByte(b.block, '\n')
	for end < 0 && b.start > 0 {
		b.chunk = min(max(64<<10, 2*b.chunk), b.start) // twice, since a line without an end is searched again each time
		b.start -= b.chunk
		b.block = append(make([]byte, b.chunk), b.block...)
		if _, err := b.from.ReadAt(b.block[:b.chunk], b.start); err != nil {
			return 0, nil, err
		}
		end = bytes.LastIndexByte(b.block, '\n')
	}
	line = b.block[end+1:]
	b.block = b.block[:max(end, 0)]
	return b.start + int64(end) + 1, line, nil
}
