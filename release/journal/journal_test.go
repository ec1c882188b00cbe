package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/release"
	"deploygate/scripts/assert"
)

// sample is a deploy that went back, as the journal of a real one reads.
func sample() []Record {
	at := time.Date(2026, 11, 21, 3, 54, 4, 0, time.UTC)
	schema := &release.Schema{Marker: "safe", Reason: "adds a \"column\"\n", NewMigrations: []string{"shop.0002_x"}}
	records := []Record{
		{Event: Began, Command: "release", Requested: "v42", Previous: "v41", User: "ops", PID: 17, Schema: schema},
		{Event: Intent, Step: "swap", Version: "v42"},
		{Event: Done, Step: "swap", Version: "v42"},
		{Event: Failed, Version: "v42", Error: "gunicorn.service crashed"},
		{Event: Intent, Step: "swap", Version: "v41"},
		{Event: Done, Step: "swap", Version: "v41", Error: "no space left on device"},
		{Event: Passed, Version: "v41"},
		{Event: Finished, Verdict: json.RawMessage(`{"outcome":"rolled_back","failure":{"summary":"é"}}`)},
	}
	for i := range records {
		records[i].Deploy, records[i].At = "d1", at.Add(time.Duration(i)*time.Second)
	}
	return records
}

// written returns the sample as it comes back, and the journal file that holds it.
func written(t *testing.T) (records []Record, text []byte) {
	t.Helper()
	dir := t.TempDir()
	appendAll(t, dir, sample()...)
	records, torn, err := Read(dir)
	if err != nil || torn != 0 {
		t.Fatalf("torn %d, %v", torn, err)
	}
	text, err = os.ReadFile(filepath.Join(dir, fileName))
	assert.OK(t, err)
	return records, text
}

func appendAll(t *testing.T, dir string, records ...Record) {
	t.Helper()
	j, err := Open(dir)
	assert.OK(t, err)
	defer j.Close()
	for _, r := range records {
		assert.OK(t, j.Append(r))
	}
}

func TestReadGivesWhatWasAppended(t *testing.T) {
	want := sample()
	for i := range want {
		want[i].Format = format
	}
	got, text := written(t)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := bytes.Count(text, []byte("\n")); n != len(want) {
		t.Errorf("%d lines for %d records", n, len(want))
	}
}

func TestReadWithoutAJournalIsEmpty(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "gone")} {
		if records, torn, err := Read(dir); records != nil || torn != 0 || err != nil {
			t.Errorf("Read(%s) = %v, %d, %v", dir, records, torn, err)
		}
	}
}

func TestJournalCutAnywhereReplaysToAPrefix(t *testing.T) {
	all, text := written(t)
	for cut := range len(text) + 1 {
		got, torn, err := parse(bytes.NewReader(text[:cut]), "journal")
		assert.OK(t, err)
		whole := bytes.Count(text[:cut], []byte("\n"))
		if cut < len(text) && text[cut] == '\n' {
			whole++ // only the line's end is missing
		}
		if d := cmp.Diff(all[:whole], got); len(got) != whole || whole > 0 && d != "" {
			t.Fatalf("cut at %d: %s", cut, d)
		}
		if torn > 1 {
			t.Fatalf("cut at %d: %d torn lines", cut, torn)
		}
	}
}

func TestAppendingAfterATornLineLosesNothingElse(t *testing.T) {
	all, text := written(t)
	for cut := 1; cut <= len(text); cut += len(text) / 12 {
		dir := t.TempDir()
		assert.OK(t, os.WriteFile(filepath.Join(dir, fileName), text[:cut], 0o640))
		before, _, err := Read(dir)
		assert.OK(t, err)
		next := Record{Format: format, Deploy: "d2", Event: Began, At: all[0].At}
		appendAll(t, dir, next)
		after, torn, err := Read(dir)
		assert.OK(t, err)
		if d := cmp.Diff(append(before, next), after); d != "" || torn > 1 {
			t.Errorf("cut at %d: torn %d, %s", cut, torn, d)
		}
	}
}

func TestAWriteThatFailedHalfWayTakesNoOtherRecordWithIt(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, fullEnv, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	records, torn, err := Read(dir)
	if err != nil || len(records) != 2 || torn != 1 {
		t.Fatalf("%d records, %d torn, %v", len(records), torn, err)
	}
	if records[0].Event != Began || records[1].Event != Passed {
		t.Errorf("%+v", records)
	}
}

// fill writes three records, of which the second finds the disk full: the limit of a file's size stands in for it.
func fill(dir string) error {
	signal.Ignore(unix.SIGXFSZ)
	j, err := Open(dir)
	if err != nil {
		return err
	}
	defer j.Close()
	if err := j.Append(sample()[0]); err != nil {
		return err
	}
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := unix.Rlimit{Cur: uint64(info.Size()) + 30, Max: limit.Max} //nolint:gosec // a size is positive
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	if j.Append(sample()[3]) == nil {
		return errors.New("the disk was not full")
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	return j.Append(sample()[6])
}

func TestLinesThatAreNoRecordAreCountedAndLeftOut(t *testing.T) {
	_, text := written(t)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	for name, noise := range map[string]string{
		"zeroes that a power cut left": strings.Repeat("\x00", 512),
		"half a record":                string(line[:len(line)/2]),
		"two records glued":            string(line) + string(line),
		"another type":                 `{"format":1,"event":17}`,
		"no object":                    `[1]`,
		"no UTF-8, no JSON":            "\xff\xfe",
	} {
		records, torn, err := parse(strings.NewReader(string(line)+"\n"+noise+"\n\n"+string(line)+"\n"), "journal")
		if err != nil || len(records) != 2 || torn != 1 {
			t.Errorf("%s: %d records, %d torn, %v", name, len(records), torn, err)
		}
	}
}

func TestANewerFormatIsRefusedNotMisread(t *testing.T) {
	dir := t.TempDir()
	appendAll(t, dir, sample()...)
	f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_WRONLY|os.O_APPEND, 0)
	assert.OK(t, err)
	_, err = f.WriteString(`{"format":2,"deploy":"d2","event":"began","new":true}` + "\n")
	assert.OK(t, err)
	assert.OK(t, f.Close())
	if h, err := Load(dir); err == nil || !strings.Contains(err.Error(), "newer deploygate (format 2)") {
		t.Errorf("Load() = %v, %v", h, err)
	}
}

func TestOpenMakesTheStateDirectoryForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "shop")
	appendAll(t, dir, sample()[0])
	for name, most := range map[string]os.FileMode{dir: 0o750, filepath.Join(dir, fileName): 0o640} {
		info, err := os.Stat(name)
		assert.OK(t, err)
		if more := info.Mode().Perm() &^ most; more != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestAJournalThatIsNoFileIsRefused(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	assert.OK(t, os.WriteFile(elsewhere, []byte("precious"), 0o600))
	for name, plant := range map[string]func(file string) error{
		"link":      func(file string) error { return os.Symlink(elsewhere, file) },
		"directory": func(file string) error { return os.Mkdir(file, 0o750) },
	} {
		dir := t.TempDir()
		assert.OK(t, plant(filepath.Join(dir, fileName)))
		if j, err := Open(dir); err == nil {
			_ = j.Close()
			t.Errorf("%s: Open succeeded", name)
		}
		if _, _, err := Read(dir); err == nil {
			t.Errorf("%s: Read succeeded", name)
		}
	}
	if text, _ := os.ReadFile(elsewhere); string(text) != "precious" {
		t.Errorf("the link's target is now %q", text)
	}
}

func TestWritableMakesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	assert.OK(t, os.WriteFile(file, nil, 0o600))
	for name, want := range map[string]bool{
		dir:                             true,
		filepath.Join(dir, "a", "b"):    true, // it would be made
		filepath.Join(file, "a"):        false,
		"/proc/self/deploygate/unheard": false,
	} {
		if err := Writable(name); (err == nil) != want {
			t.Errorf("Writable(%s) = %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err == nil {
		t.Error("it made the directory")
	}
}

// FuzzParse: whatever stands in the file, a record appended on a line of its own is read, and what stood before it
// reads as before.
func FuzzParse(f *testing.F) {
	first := sample()[0]
	first.Format = format
	whole, err := json.Marshal(first)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"", "\n", string(whole), string(whole[:40]), "\x00\x00", `{"format":9}`, "null", `{"verdict":1}` + "\n{"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before, torn, err := parse(bytes.NewReader(text), "journal")
		if err != nil {
			return
		}
		after, tornAfter, err := parse(strings.NewReader(string(text)+"\n"+string(whole)+"\n"), "journal")
		if err != nil || len(after) != len(before)+1 || tornAfter != torn {
			t.Fatalf("%d records and %d torn became %d and %d, %v", len(before), torn, len(after), tornAfter, err)
		}
		if d := cmp.Diff(sample()[0].Schema, after[len(before)].Schema); d != "" {
			t.Error(d)
		}
		Replay(before)
	})
}
