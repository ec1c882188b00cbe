package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"deploygate/release"
	"deploygate/release/journal"
	"deploygate/scripts/testbed"
)

// layout is what kinds of file system a host's disk has: one for everything, or others for the state directory and the
// site.
type layout struct{ kind, state, root string }

var oneDisk = layout{kind: "ext4"}

func (l layout) String() string { return strings.Join(l.kinds(), "+") }

// kinds are those of its file systems.
func (l layout) kinds() (kinds []string) {
	for _, v := range l.volumes() {
		kinds = append(kinds, v.Kind)
	}
	return kinds
}

func (l layout) volumes() []testbed.Volume {
	volumes := []testbed.Volume{{Kind: l.kind}}
	if l.state != "" {
		volumes = append(volumes, testbed.Volume{Kind: l.state, Guest: "/var/lib/deploygate"})
	}
	if l.root != "" {
		site := testbed.Volume{Kind: l.root, Guest: testbed.DefaultSite().Root}
		if l.root == "ext4" {
			site.Make = []string{"-N", "2048"} // so few inodes can be used up
		}
		volumes = append(volumes, site)
	}
	return volumes
}

// disk makes one.
func (l layout) disk(t *testing.T) *testbed.Disk {
	t.Helper()
	if missing := testbed.MissingForDisk(l.kinds()...); missing != "" {
		t.Skip(missing)
	}
	disk, err := testbed.NewDisk(t.Context(), t.TempDir(), l.volumes()...)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// onDisk gives the host a disk that outlives it.
func (h *host) onDisk(l layout) {
	h.t.Helper()
	h.must(h.Close())
	h.disk = l.disk(h.t)
	h.boot()
	h.must(h.InstallSite(h.t.Context(), h.site))
	h.installUnits()
	h.uploads = upload{digests: map[string]string{}}
}

// upload is what a disk must be judged by.
type upload struct {
	version, before string            // what was uploaded last, and what was live then
	digests         map[string]string // of all releases, by version
	ended           string            // what was live when deploygate said that its deploy has ended; "" if it hasn't
	torn            int               // lines of the journal that earlier power cuts have torn, and that stay
}

// uploaded remembers a release as it was uploaded.
func (h *host) uploaded(version string) {
	h.t.Helper()
	sum, err := digest(h.Path(h.site.ReleaseDir(version)))
	h.must(err)
	link, _ := h.Link(h.site)
	h.uploads.version, h.uploads.ended, h.uploads.before = version, "", strings.TrimPrefix(link, "releases/")
	h.uploads.digests[version] = sum
}

// boot starts the host again from its disk.
func (h *host) boot() {
	h.t.Helper()
	m, err := testbed.Boot(h.t.Context(), h.Suite, testbed.Options{Bind: []string{binary + ":" + program}, Disk: h.disk})
	h.must(err)
	h.t.Cleanup(func() { _ = m.Close() })
	h.Machine = m
}

// powerCut cuts the power, looks at what is on the disk, and boots the machine again.
func (h *host) powerCut() {
	h.t.Helper()
	h.must(h.CutPower())
	h.onCrashedDisk(func(problems []string) {
		for _, p := range problems {
			h.t.Errorf("after the power cut, before the boot: %s", p)
		}
	})
	h.boot()
}

// onCrashedDisk returns what is wrong with what is on the disk of a machine that is off.
func (h *host) onCrashedDisk(report func(problems []string)) {
	h.t.Helper()
	h.must(h.disk.Look(h.t.Context(), func(path func(string) string) error {
		report(crashed(path(h.site.Root), path(h.stateDir()), h.uploads))
		if text, _ := os.ReadFile(filepath.Join(path(h.stateDir()), "journal.jsonl")); len(text) > 0 && text[len(text)-1] != '\n' {
			h.uploads.torn++
		}
		return nil
	}))
}

// stateDir is where the journal is.
func (h *host) stateDir() string {
	if h.state != "" {
		return h.state
	}
	return "/var/lib/deploygate/" + h.site.Name
}

// crashed is what must never be found on a disk, whenever the power was cut: the live link on a release that isn't whole,
// a journal that can't be read, or one that doesn't know of what the link says.
func crashed(root, state string, up upload) (problems []string) {
	link, err := os.Readlink(filepath.Join(root, "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing has been released yet
	}
	if err != nil {
		return []string{err.Error()}
	}
	live := strings.TrimPrefix(link, "releases/")
	if want, known := up.digests[live]; !known {
		problems = append(problems, "current links to "+link)
	} else if got, err := digest(filepath.Join(root, link)); err != nil || got != want {
		problems = append(problems, fmt.Sprintf("current links to %s, whose files aren't those that were uploaded (%v)", live, err))
	}
	if up.ended != "" && up.ended != live {
		problems = append(problems, fmt.Sprintf("current links to %s; the deploy had ended with %s", live, up.ended))
	}
	records, err := recordsIn(filepath.Join(state, "journal.jsonl"), up.torn)
	if err != nil {
		return append(problems, err.Error())
	}
	return append(problems, contradictions(records, release.Version(up.version), release.Version(up.before), release.Version(live))...)
}

// contradictions are between a journal and the live link, in the deploy of a version that began with another one live.
func contradictions(records []journal.Record, version, before, live release.Version) (problems []string) {
	certain, possible := before, []release.Version{before}
	known := false
	for _, r := range records {
		switch {
		case r.Event == journal.Began:
			known = r.Requested == version
		case !known:
		case r.Step == "swap" && r.Event == journal.Intent:
			certain, possible = "", append(possible, r.Version)
		case r.Step == "swap" && r.Event == journal.Done && r.Error == "":
			certain = r.Version
		case r.Event == journal.Finished:
			var v struct{ Current release.Version }
			if err := json.Unmarshal(r.Verdict, &v); err != nil {
				problems = append(problems, err.Error())
			}
			certain = v.Current
		}
	}
	switch {
	case certain != "" && certain != live:
		problems = append(problems, fmt.Sprintf("current links to %s; by the journal it must be %s", live, certain))
	case !slices.Contains(possible, live):
		problems = append(problems, fmt.Sprintf("current links to %s; by the journal it can only be one of %s", live, possible))
	}
	return problems
}

// recordsIn reads a journal, of which a last line may be torn, and as many others as were the last at an earlier power cut.
func recordsIn(file string, torn int) (records []journal.Record, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		var r journal.Record
		switch err := json.Unmarshal([]byte(line), &r); {
		case err == nil:
			records = append(records, r)
		case strings.HasSuffix(line, "\n"):
			if torn--; torn < 0 {
				return nil, fmt.Errorf("the journal has a line that is no record: %q", line)
			}
		}
	}
	return records, nil
}

// digest reports whether a release is the one that was uploaded.
func digest(dir string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name) //nolint:gosec // it is the test's own host's
		fmt.Fprintf(sum, "%s %d\n", strings.TrimPrefix(name, dir), len(content))
		_, _ = sum.Write(content)
		return err
	})
	return fmt.Sprintf("%x", sum.Sum(nil)), err
}

// awaitHolding waits until killat, whose standard error is given, holds what it runs; it gives the change that it is
// held at, and whether it is: the program may end before.
func awaitHolding(stderr io.Reader) (at string, held bool) {
	var said strings.Builder
	for part := make([]byte, 4096); !strings.Contains(said.String(), "\nholding\n"); {
		n, err := stderr.Read(part)
		said.Write(part[:n])
		if err != nil {
			return said.String(), false
		}
	}
	return lastChange(said.String()), true
}
