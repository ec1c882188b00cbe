package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/release"
	"deploygate/scripts/assert"
)

// facts is all that a History can be asked.
type facts struct {
	Lives      []release.Activation
	Torn       int
	Gated      []release.Version
	Good, Bad  map[release.Version]bool
	Schemas    map[release.Version]*release.Schema
	Deployed   map[release.Version]Deployed
	Seen       map[release.Version][]release.Activation
	Last       Deploy
	Any        bool
	Unfinished bool
}

func factsOf(h History, asked []release.Version) facts {
	f := facts{
		Lives: slices.Concat(h.activations), Torn: h.Torn, Gated: h.Gated(), Good: map[release.Version]bool{}, Bad: map[release.Version]bool{},
		Schemas: map[release.Version]*release.Schema{}, Deployed: map[release.Version]Deployed{}, Seen: map[release.Version][]release.Activation{},
	}
	for _, v := range asked {
		f.Deployed[v], _ = h.Deployed(v)
		f.Good[v], f.Bad[v], f.Schemas[v], f.Seen[v] = h.Good(v), h.Bad(v), h.Schema(v), slices.Concat(h.Seen(v).activations)
	}
	f.Last, f.Any = h.Last()
	_, f.Unfinished = h.Unfinished()
	return f
}

// told is what a replay of the whole journal says.
func told(t *testing.T, text []byte) History {
	t.Helper()
	records, torn, err := parse(bytes.NewReader(text), "journal")
	assert.OK(t, err)
	h := Replay(records)
	h.Torn = torn
	return h
}

// loads fails the test unless what is read in dir is what a replay of its whole journal says.
func loads(t *testing.T, dir string, asked ...release.Version) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, fileName))
	assert.OK(t, err)
	want := told(t, text)
	got, err := Load(dir)
	assert.OK(t, err)
	if d := cmp.Diff(factsOf(want, asked), factsOf(got, asked), cmp.AllowUnexported(Deploy{})); d != "" {
		t.Fatal(d)
	}
}

// used reports whether Load goes on from the snapshot in dir.
func used(t *testing.T, dir string) bool {
	t.Helper()
	f, err := openToRead(dir)
	assert.OK(t, err)
	defer f.Close()
	s := readSnapshot(dir)
	return s != nil && s.of(f)
}

// snap writes a snapshot of the journal in dir.
func snap(t *testing.T, dir string) error {
	t.Helper()
	j, err := Open(dir)
	assert.OK(t, err)
	defer j.Close()
	return j.snapshot()
}

func withTrailer(text string) []byte {
	return []byte(text + trailer(crc32.Checksum([]byte(text), castagnoli)))
}

func decoded(text []byte) *snapshot { return decodeSnapshot(bytes.NewReader(text), len(text)) }

func put(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	assert.OK(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
}

// chance makes journals at random: of deploys that end and that don't, of versions old and new, with all that can go
// wrong in a file.
type chance struct {
	*rand.Rand
	versions []release.Version
	current  release.Version
	began    []string
	n        int
}

func newChance(seed uint64) *chance {
	return &chance{Rand: rand.New(rand.NewPCG(seed, 0)), versions: []release.Version{"v1", "v2"}} //nolint:gosec // repeatable
}

func pick[T any](c *chance, from []T) T { return from[c.IntN(len(from))] }

// oneIn is true once in n times.
func (c *chance) oneIn(n int) bool { return c.IntN(n) == 0 }

func (c *chance) version() release.Version {
	if c.oneIn(3) {
		c.versions = append(c.versions, release.Version(fmt.Sprintf("v%d", len(c.versions)+1)))
	}
	return pick(c, c.versions)
}

func (c *chance) schema() *release.Schema {
	migration := func() string { return fmt.Sprintf("shop.%04d", c.IntN(4)) }
	switch c.IntN(4) {
	case 0:
		return nil
	case 1:
		return &release.Schema{Marker: pick(c, []string{"safe", "blocked"}), Reason: "dröps \"x\"\n<&>", Migrations: []string{migration()}}
	case 2:
		return &release.Schema{Unknown: "unreadable", NewMigrations: []string{migration()}}
	default:
		m := migration()
		return &release.Schema{Judged: c.oneIn(2), NewMigrations: []string{m, migration()}, Blocking: []release.Block{{Migration: m, Why: "drops x"}}}
	}
}

func (c *chance) directory() *release.Identity {
	if c.oneIn(3) {
		return nil
	}
	return &release.Identity{Device: 8, Inode: c.Uint64N(9) + 1, Born: c.Int64N(3), Handle: pick(c, []string{"", "0a1b"})}
}

func (c *chance) record(r Record) string {
	c.n++
	r.Format, r.At = format, time.Unix(int64(c.n), 0).UTC()
	line, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(line) + "\n"
}

// deploy returns the lines of one, which may end anywhere.
func (c *chance) deploy() (lines []string) {
	id := fmt.Sprint("d", c.n)
	if c.oneIn(20) && len(c.began) > 0 {
		id = pick(c, c.began)
	}
	c.began = append(c.began, id)
	v, before := c.version(), c.current
	if c.oneIn(10) {
		before = c.version() // someone has put it there by hand
	}
	command := pick(c, []string{"release", "release", "rollback"})
	lines = append(lines, c.record(Record{
		Event: Began, Deploy: id, Command: command, Requested: v, Previous: before, User: "ops", PID: c.n, Schema: c.schema(),
		Directory: c.directory(), PreviousDirectory: c.directory(),
	}))
	add := func(r Record) {
		if r.Deploy = id; c.oneIn(15) {
			r.Deploy = pick(c, append(c.began, "unheard"))
		}
		lines = append(lines, c.record(r))
		if c.oneIn(12) {
			lines = append(lines, c.noise(lines[len(lines)-1]))
		}
	}
	step := func(name string, v release.Version) {
		add(Record{Event: Intent, Step: name, Version: v})
		if name == swapStep {
			c.current = v
		}
		add(Record{Event: Done, Step: name, Version: v})
	}
	if c.oneIn(2) {
		step(hooksStep, v)
	}
	if !c.oneIn(5) {
		step(swapStep, v)
		step("restart", v)
		if c.oneIn(2) {
			add(Record{Event: Passed, Version: v})
		} else {
			add(Record{Event: Failed, Version: v, Error: "it crashed"})
			if before != "" {
				step(swapStep, before)
				add(Record{Event: pick(c, []Event{Passed, Failed}), Version: before})
			}
		}
	}
	add(Record{Event: Finished, Verdict: json.RawMessage(`{"outcome":"` + strings.Repeat("x", c.IntN(50)) + `"}`)})
	if c.oneIn(5) {
		lines = lines[:1+c.IntN(len(lines))] // its process died
	}
	return lines
}

func (c *chance) noise(line string) string {
	return pick(c, []string{
		"\n", " \r\n", strings.Repeat("\x00", 100) + "\n", line[:len(line)/2] + "\n", line[:1+c.IntN(len(line)-1)] + line,
		`{"format":1,"event":17}` + "\n",
	})
}

// A snapshot may be of any point, made again or from an older one, and the journal that it is found beside may end
// anywhere, before that point too: what is read is what a replay of the whole says.
func TestLoadGivesWhatAReplayOfTheWholeDoes(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			c := newChance(seed)
			var lines []string
			for len(lines) < 40 {
				lines = append(lines, c.deploy()...)
			}
			journal := []byte(strings.Join(lines, ""))
			var cuts []int
			at := 0
			for _, l := range lines {
				cuts = append(cuts, at, at+1+c.IntN(len(l)))
				at += len(l)
			}
			cuts = append(cuts, at)
			want := make([]facts, len(cuts))
			for i, cut := range cuts {
				want[i] = factsOf(told(t, journal[:cut]), c.versions)
			}
			dir := t.TempDir()
			check := func(i int) {
				t.Helper()
				got, err := Load(dir)
				assert.OK(t, err)
				if d := cmp.Diff(want[i], factsOf(got, c.versions), cmp.AllowUnexported(Deploy{})); d != "" {
					t.Fatalf("with %d bytes: %s", cuts[i], d)
				}
			}
			fast := 0
			all := 0
			for i, cut := range cuts {
				put(t, dir, fileName, journal[:cut])
				if c.oneIn(3) {
					_ = os.Remove(filepath.Join(dir, snapshotName))
				}
				assert.OK(t, snap(t, dir))
				check(i)
				for range 20 {
					k := c.IntN(len(cuts))
					put(t, dir, fileName, journal[:cuts[k]])
					if all++; used(t, dir) {
						fast++
					}
					check(k)
				}
			}
			if fast < all/4 || fast > all*3/4 {
				t.Errorf("the snapshot was used %d times of %d", fast, all)
			}
		})
	}
}

func TestPastGivesTheLastDeploys(t *testing.T) {
	for seed := range uint64(5) {
		c := newChance(seed)
		dir := t.TempDir()
		var text []byte
		for range 12 {
			for _, l := range c.deploy() {
				text = append(text, l...)
				put(t, dir, fileName, text[:len(text)-c.IntN(2)])
				records, _, err := Read(dir)
				assert.OK(t, err)
				var all []Deploy
				for _, d := range slices.Backward(Replay(records).deploys) {
					all = append(all, *d)
				}
				for limit := range len(all) + 2 {
					want := all
					if limit > 0 {
						want = all[:min(limit, len(all))]
					}
					got, err := Past(dir, limit)
					assert.OK(t, err)
					if d := cmp.Diff(slices.Concat(want), got, cmp.AllowUnexported(Deploy{})); d != "" {
						t.Fatalf("seed %d, the last %d of %d: %s", seed, limit, len(all), d)
					}
				}
			}
		}
	}
}

// A line may be longer than what is read at once, and end where that does.
func TestPastReadsLinesOfAnyLength(t *testing.T) {
	dir := t.TempDir()
	var text []byte
	var want []string
	c := newChance(1)
	for n := range 8 {
		id := fmt.Sprint("d", n)
		want = append([]string{id}, want...)
		text = append(text, c.record(Record{Event: Began, Deploy: id})...)
		text = append(text, c.record(Record{Event: Finished, Deploy: id, Verdict: json.RawMessage(`"` + strings.Repeat("x", 64<<10*n/2) + `"`)})...)
		text = append(text, strings.Repeat("\x00", 10_000*n)...)
		text = append(text, strings.Repeat("\n", 64<<10-len(text)%(64<<10)+n-4)...)
	}
	put(t, dir, fileName, text)
	for limit := range len(want) + 1 {
		past, err := Past(dir, limit)
		assert.OK(t, err)
		var got []string
		for _, d := range past {
			got = append(got, d.ID)
			if !d.Finished() {
				t.Errorf("%s has no verdict", d.ID)
			}
		}
		if limit == 0 {
			limit = len(want)
		}
		if d := cmp.Diff(want[:limit], got); d != "" {
			t.Errorf("limit %d: %s", limit, d)
		}
	}
}

// threeDeploys makes a journal with a snapshot, as a deploygate does. v2 failed in it.
func threeDeploys(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	appendAll(t, dir, new(story).released("1", "v1", "").
		add("2", Record{Event: Began, Command: "release", Requested: "v2", Previous: "v1", Schema: &release.Schema{Marker: "safe"}}).
		swapped("2", "v2").gated("2", "v2", false).swapped("2", "v1").gated("2", "v1", true).finished("2").
		released("3", "v3", "v1").records...)
	if !used(t, dir) {
		t.Fatal("a deploy that ended left no snapshot")
	}
	return dir
}

func TestASnapshotOfAnotherJournalIsNoticed(t *testing.T) {
	for name, change := range map[string]func(text []byte) []byte{
		"a word of it changed":       func(text []byte) []byte { return bytes.Replace(text, []byte(`"failed"`), []byte(`"passed"`), 1) },
		"its first record cut out":   func(text []byte) []byte { return text[bytes.IndexByte(text, '\n')+1:] },
		"a record of another put in": func(text []byte) []byte { return append(slices.Clone(text[:len(text)/9]), text...) },
		"an older one":               func(text []byte) []byte { return text[:len(text)/2] },
		"an older one, gone on with": func(text []byte) []byte {
			return append(slices.Clone(text[:len(text)/2]), bytes.ReplaceAll(text, []byte(`v`), []byte(`w`))...)
		},
		"another one": func(text []byte) []byte { return regexp.MustCompile(`"v(\d)`).ReplaceAll(text, []byte(`"w$1`)) },
		"zeroes":      func(text []byte) []byte { return make([]byte, len(text)) },
		"nothing":     func([]byte) []byte { return nil },
	} {
		for way, write := range map[string]func(dir string, text []byte){
			"in place": func(dir string, text []byte) { put(t, dir, fileName, text) },
			"another file": func(dir string, text []byte) {
				put(t, dir, "other", text)
				assert.OK(t, os.Rename(filepath.Join(dir, "other"), filepath.Join(dir, fileName)))
			},
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				dir := threeDeploys(t)
				text, err := os.ReadFile(filepath.Join(dir, fileName))
				assert.OK(t, err)
				write(dir, change(text))
				if used(t, dir) {
					t.Error("it is used")
				}
				loads(t, dir, "v1", "v2", "v3", "w1", "w2", "w3")
				appendAll(t, dir, new(story).released("4", "v4", "v3").released("5", "v5", "v4").records...)
				if !used(t, dir) {
					t.Error("it wasn't made again")
				}
				loads(t, dir, "v1", "v2", "v3", "v4", "w1", "w2", "w3")
			})
		}
	}
}

// What a copy of the state directory holds belongs together: only what the kernel knows of the file is different.
func TestACopyOfBothIsUsed(t *testing.T) {
	dir, other := threeDeploys(t), t.TempDir()
	assert.OK(t, os.CopyFS(other, os.DirFS(dir)))
	if !used(t, other) {
		t.Error("it is not")
	}
	loads(t, other, "v1", "v2", "v3")
}

// The journal is read again only if it may have changed: a time of the last change that could hide a write doesn't count.
func TestAJournalThatIsAsItWasLeftIsTrusted(t *testing.T) {
	dir := threeDeploys(t)
	f, err := openToRead(dir)
	assert.OK(t, err)
	defer f.Close()
	s := readSnapshot(dir)
	s.Sum++
	s.written = s.Journal.Changed + 1
	if !s.of(f) {
		t.Error("it is read again")
	}
	s.written = s.Journal.Changed
	if s.of(f) {
		t.Error("it isn't read again, and could have been changed at the moment when it was left")
	}
	s.written = s.Journal.Changed + 1
	for name, changed := range map[string]*int64{"size": &s.Journal.Size, "time": &s.Journal.Changed} {
		if *changed--; s.of(f) {
			t.Errorf("it isn't read again, and has another %s", name)
		}
		*changed++
	}
	s.Journal.Inode++
	if s.of(f) {
		t.Error("it isn't read again, and is another file")
	}
	if s.Sum--; !s.of(f) {
		t.Error("it holds the same, and the snapshot isn't used")
	}
}

func TestADamagedSnapshotIsNoticed(t *testing.T) {
	dir := threeDeploys(t)
	file := filepath.Join(dir, snapshotName)
	good, err := os.ReadFile(file)
	assert.OK(t, err)
	unusable := func(what string) {
		t.Helper()
		if used(t, dir) {
			t.Errorf("%s: it is used", what)
		}
		loads(t, dir, "v1", "v2", "v3")
	}
	for at := range good {
		put(t, dir, snapshotName, good[:at])
		unusable(fmt.Sprintf("cut at %d", at))
		bad := slices.Clone(good)
		bad[at] ^= 1
		put(t, dir, snapshotName, bad)
		unusable(fmt.Sprintf("byte %d changed", at))
	}
	body := string(good[:len(good)-len(trailer(0))])
	for name, text := range map[string]string{
		"another format": strings.Replace(body, `{"format":3,`, `{"format":1,`, 1),
		"no format":      strings.Replace(body, `{"format":3,`, `{`, 1),
		"a line more":    body + "v9 passed\n",
		"lives less":     strings.Replace(body, `"lives":`, `"lives":-`, 1),
		"many lives":     strings.Replace(body, `"lives":`, `"lives":900000000000`, 1),
		"too few lives":  strings.Replace(body, `"lives":`, `"lives":1,"x":`, 1),
		"no JSON":        "snapshot\n",
		"nothing":        "",
	} {
		if text == body {
			t.Fatalf("%s: nothing was changed", name)
		}
		put(t, dir, snapshotName, withTrailer(text))
		unusable(name)
	}
	put(t, dir, snapshotName, withTrailer(body))
	if !used(t, dir) {
		t.Error("the good one is not used either")
	}
	for name, plant := range map[string]func() error{
		"gone": func() error { return nil },
		"a link": func() error {
			put(t, dir, "elsewhere", good)
			return os.Symlink("elsewhere", file)
		},
		"a directory":  func() error { return os.Mkdir(file, 0o750) },
		"a fifo":       func() error { return unix.Mkfifo(file, 0o600) },
		"far too long": func() error { return os.WriteFile(file, make([]byte, snapshotLimit+1), 0o600) },
	} {
		assert.OK(t, os.RemoveAll(file))
		assert.OK(t, plant())
		unusable(name)
	}
}

// Reading must not write, whatever it finds.
func TestReadingMakesNoSnapshot(t *testing.T) {
	dir := threeDeploys(t)
	for _, name := range []string{snapshotName, fileName} {
		assert.OK(t, os.Remove(filepath.Join(dir, name)))
		_, err := Load(dir)
		assert.OK(t, err)
		_, err = Past(dir, 1)
		assert.OK(t, err)
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there again", name)
		}
	}
}

// A verdict is recorded whether or not the snapshot can be written.
func TestASnapshotThatCanNotBeWrittenIsDoneWithout(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	put(t, filepath.Dir(elsewhere), "elsewhere", []byte("precious"))
	for name, plant := range map[string]func(file string) error{
		"a directory": func(file string) error { return os.Mkdir(file, 0o750) },
		"a link":      func(file string) error { return os.Symlink(elsewhere, file) },
		"a fifo":      func(file string) error { return unix.Mkfifo(file, 0o600) },
	} {
		for _, in := range []string{snapshotName, snapshotName + ".new"} {
			dir := threeDeploys(t)
			assert.OK(t, os.RemoveAll(filepath.Join(dir, in)))
			assert.OK(t, plant(filepath.Join(dir, in)))
			appendAll(t, dir, new(story).released("4", "v4", "v3").records...)
			loads(t, dir, "v1", "v2", "v3", "v4")
			if h, _ := Load(dir); !h.Good("v4") {
				t.Errorf("%s in the place of %s: the deploy was not recorded", name, in)
			}
		}
	}
	if text, _ := os.ReadFile(elsewhere); string(text) != "precious" {
		t.Errorf("the link's target is now %q", text)
	}
}

func TestWhatADeadWriterLeftIsWrittenOver(t *testing.T) {
	dir := threeDeploys(t)
	put(t, dir, snapshotName+".new", bytes.Repeat([]byte("x"), 1<<20))
	appendAll(t, dir, new(story).released("4", "v4", "v3").records...)
	if s := readSnapshot(dir); s == nil || !s.history.Good("v3") {
		t.Error("the snapshot wasn't made again")
	}
	if _, err := os.Lstat(filepath.Join(dir, snapshotName+".new")); err == nil {
		t.Error("it is still there")
	}
}

// A journal in which a person or a defect has written what is no version is read whole.
func TestAStrangeVersionIsReadAsItIs(t *testing.T) {
	for _, v := range []release.Version{"", "a b", "a\nb", "../x", "-"} {
		dir := t.TempDir()
		appendAll(t, dir, new(story).released("1", "v1", "").released("2", v, "v1").released("3", "v3", v).released("4", "v4", "v3").records...)
		loads(t, dir, "v1", v, "v3", "v4")
	}
}

// The same records mean the same to every deploygate that writes this format, and none leaves out what another one keeps
// of them. If this test must be changed, or doesn't compile since Schema or Block has one field more, then so must
// snapshotFormat.
func TestTheSnapshotIsOfThisFormat(t *testing.T) {
	s := new(story).released("1", "v1", "v0").
		add("2", Record{Event: Began, Command: "release", Requested: "v2", Previous: "v1", Schema: &release.Schema{Marker: "safe"}}).
		add("2", Record{Event: Intent, Step: hooksStep, Version: "v2"}).
		add("2", Record{Event: Done, Step: hooksStep, Version: "v2"}).
		swapped("2", "v2").gated("2", "v2", false).swapped("2", "v1").gated("2", "v1", true).finished("2").
		add("3", Record{Event: Began, Command: "release", Requested: "v2", Previous: "v1", Schema: &release.Schema{Judged: true, NewMigrations: []string{"shop.0002"}}}).
		add("3", Record{Event: Began, Command: "release", Requested: "v2", Previous: "v1", Schema: &release.Schema{
			Unknown: "unreadable", NewMigrations: []string{"shop.0003"}, Blocking: []release.Block{{Migration: "shop.0003", Why: "drops x"}},
		}}).
		add("4", Record{
			Event: Began, Command: "rollback", Requested: "v0", Previous: "v9", Override: "I know", Directory: &release.Identity{Device: 8, Inode: 12, Born: 34},
			Schema: &release.Schema{
				Marker: "blocked", Reason: "r", Migrations: []string{"m"}, NewMigrations: []string{"n"}, Unknown: "u", Judged: true,
				Blocking: []release.Block{{Migration: "n", Operation: "o", Why: "w", Reversible: true, Reverse: "b"}},
			},
		}).swapped("4", "v0").gated("4", "v0", true).
		began("5", "release", "v3", "v0").add("5", Record{Event: Failed, Version: "v3", Blames: "unknown"}).
		swapped("5", "v0").finished("5")
	made := snapshot{header: header{Offset: 7, Sum: 8, Journal: seal{1, 2, 3}}, history: Replay(s.records)}
	made.history.Torn = 4
	got, err := made.encode()
	assert.OK(t, err)
	want := `{"format":3,"offset":7,"sum":8,"journal":{"inode":1,"size":2,"changed":3},"torn":4,"gated":5,"lives":132,"gates":50,"schemas":341,"deployed":132}
v0 forward,by-hand
v1 forward,passed
v2 forward,hooks,ended
v2 forward
v1 passed
v9 forward,by-hand
v0 passed,rollback,override
v0 
v0 passed 4
v1 passed 3
v2 failed 2
v3 unproven 5
v0 {"marker":"blocked","reason":"r","migrations":["m"],"new_migrations":["n"],"unknown":"u","judged":true,"blocking":[{"migration":"n","operation":"o","why":"w","reversible":true,"reverse":"b"}]}
v2 {"new_migrations":["shop.0003","shop.0002"],"unknown":"unreadable","blocking":[{"migration":"shop.0003","why":"drops x","reversible":false}]}
v0 8 12 34 18000000000 21000000000
v1 0 0 0 6000000000 15000000000
v2 0 0 0 6000000000 15000000000
v3 0 0 0 22000000000 26000000000
`
	if d := cmp.Diff(string(withTrailer(want)), string(got)); d != "" {
		t.Error(d)
	}
}

// Its process may be killed at any moment, and whoever comes next goes on.
func TestAKilledWriterLeavesNothingWrong(t *testing.T) {
	dir := t.TempDir()
	ended := 0
	for round := range 20 {
		cmd := child(t, deployEnv, dir)
		out, err := cmd.StdoutPipe()
		assert.OK(t, err)
		assert.OK(t, cmd.Start())
		_, err = io.ReadFull(out, make([]byte, 1+round%4)) // a byte for each deploy that has ended
		assert.OK(t, err)
		assert.OK(t, cmd.Process.Kill())
		_ = cmd.Wait()
		loads(t, dir)
		h, err := Load(dir)
		assert.OK(t, err)
		if ended += 1 + round%4; len(h.Gated()) < ended {
			t.Fatalf("%d deploys of at least %d", len(h.Gated()), ended)
		}
	}
	appendAll(t, dir, new(story).released("last", "v", "").records...)
	if !used(t, dir) {
		t.Error("no snapshot in the end")
	}
	loads(t, dir, "v")
}

// deployForever deploys one version after the other in dir, and says each time that it has.
func deployForever(dir string) error {
	j, err := Open(dir)
	if err != nil {
		return err
	}
	defer j.Close()
	for n := 0; ; n++ {
		id := fmt.Sprintf("%d-%d", os.Getpid(), n)
		for _, r := range new(story).released(id, release.Version(id), "").records {
			if err := j.Append(r); err != nil {
				return err
			}
		}
		if _, err := fmt.Print("."); err != nil {
			return err
		}
	}
}

// Who only looks has no lock, and sees each deploy as soon as it is on disk.
func TestLookingWhileDeploysEnd(t *testing.T) {
	dir := t.TempDir()
	const all = 60
	var ended atomic.Int64
	deployed := make(chan error, 1)
	go func() {
		j, err := Open(dir)
		for n := 0; err == nil && n < all; n++ {
			v := release.Version(fmt.Sprint("v", n))
			for _, r := range new(story).released(string(v), v, "").records {
				if err == nil {
					err = j.Append(r)
				}
			}
			ended.Add(1)
		}
		deployed <- err
	}()
	for ended.Load() < all {
		before := ended.Load()
		h, err := Load(dir)
		assert.OK(t, err)
		past, err := Past(dir, 3)
		assert.OK(t, err)
		after := ended.Load() + 1
		if n := int64(len(h.Gated())); n < before || n > after || h.Torn > 1 {
			t.Fatalf("%d deploys, %d torn lines; it were %d to %d", n, h.Torn, before, after)
		}
		if n := int64(len(past)); n < min(3, before) || n > 3 {
			t.Fatalf("%d past deploys of at least %d", n, before)
		}
	}
	assert.OK(t, <-deployed)
	loads(t, dir)
}

// FuzzSnapshot: whatever stands in the file, it is refused, or is one that can be asked and written again.
func FuzzSnapshot(f *testing.F) {
	s := snapshot{history: Replay(new(story).released("1", "v1", "v0").began("2", "rollback", "v0", "v1").swapped("2", "v0").gated("2", "v0", false).records)}
	text, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text[:len(text)-len(trailer(0))]))
	f.Add(`{"format":3,"schemas":6}` + "\nv1 {}\n")
	f.Add(`{"format":3,"gates":9}` + "\nb c\n\na  x ")
	f.Add(`{"format":3,"lives":9223372036854775807,"gates":9223372036854775807,"schemas":2}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := decoded(withTrailer(text))
		if s == nil {
			return
		}
		factsOf(s.history, append(s.history.Gated(), "", "v1", "\xff"))
		again, err := s.encode()
		if err != nil {
			return
		}
		if d := cmp.Diff(s.history.Gated(), decoded(again).history.Gated()); d != "" {
			t.Error(d)
		}
	})
}
