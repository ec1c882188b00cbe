package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/journal"
	"deploygate/rollback"
	"deploygate/scripts/testbed"
)

// window is the part of a recording in which one release was uploaded and deployed.
type window struct {
	kind              string
	from, ended, till int64 // of the recording: ended is when deploygate had ended
	upload            upload
	after             string // what was live then
}

// Every write to the disk is recorded while releases of each kind are uploaded and released at once. Then the disk is
// made as a power cut at any moment might have left it, a disk that forgets what it hasn't been told to flush and keeps
// no order included, and looked at, before and after what deploygate does at boot.
func TestCrashImages(t *testing.T) {
	if !full {
		t.Skip("scripts/soak runs it")
	}
	for _, l := range []layout{{kind: "ext4"}, {kind: "xfs"}, {kind: "btrfs"}, {kind: "ext4", state: "ext4"}, {kind: "ext4", state: "xfs"}, {kind: "xfs", state: "ext4"}} {
		t.Run(l.String(), func(t *testing.T) {
			if missing := testbed.MissingForRecording(l.kinds()...); missing != "" {
				t.Skip(missing)
			}
			onSuites(t, testbed.Suites[:1], testbed.DefaultSite(), func(h *host) {
				windows := h.recorded(l)
				began, images := time.Now(), h.crashImages(windows)
				h.t.Logf("%s: %d crash images, %.2f s each", l, images, time.Since(began).Seconds()/float64(images))
			})
		})
	}
}

// recorded deploys a release of each kind on a disk that records, and ends the machine.
func (h *host) recorded(l layout) (windows []window) {
	h.t.Helper()
	h.must(h.Close())
	h.disk = l.disk(h.t)
	h.must(h.disk.Record())
	h.boot()
	h.uploads.digests = map[string]string{}
	h.must(h.InstallSite(h.t.Context(), h.site))
	h.prepareKills()
	now := func() int64 {
		h.t.Helper()
		size, err := h.disk.Recorded()
		h.must(err)
		return size
	}
	// What is blocked comes last: no release after it would have a way back.
	for _, kind := range []string{"good", "bad", "rehearsed", "refused", "blocked"} {
		h.must(h.Sync())
		w := window{kind: kind, from: now()}
		h.add(kind, append([]testbed.Mod{bulk()}, kinds[kind]...)...)
		h.Exec(h.t.Context(), h.release(kind, kind)...)
		w.ended, w.upload = now(), h.uploads
		link, err := h.Link(h.site)
		h.must(err)
		w.after = link[len("releases/"):]
		h.must(h.Sync())
		w.till = now()
		h.backToV1()
		windows = append(windows, w)
	}
	h.must(h.Close())
	return windows
}

// crashImages looks at all crash images of a recording, and tells how many there were.
func (h *host) crashImages(windows []window) (images int) {
	h.t.Helper()
	seed := uint64(time.Now().UnixNano())
	h.t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it has to be repeatable, not secret
	within := func(at int64) int {
		return slices.IndexFunc(windows, func(w window) bool { return w.from < at && at <= w.till })
	}
	h.must(h.disk.Crashes(h.t.Context(), random, func(at int64) bool { return within(at) >= 0 },
		func(crash *testbed.Disk, at int64, what string) error {
			images++
			w := windows[within(at)]
			if w.upload.ended = ""; at > w.ended {
				w.upload.ended = w.after
			}
			err := crash.Look(h.t.Context(), func(path func(string) string) error {
				root, state := path(h.site.Root), path("/var/lib/deploygate/"+h.site.Name)
				problems := crashed(root, state, w.upload)
				problems = append(problems, atBoot(root, state, w)...)
				for _, p := range problems {
					h.t.Errorf("%s at %d (%d to %d), %s: %s", w.kind, at, w.from, w.ended, what, p)
				}
				if len(problems) > 0 {
					text, _ := os.ReadFile(state + "/journal.jsonl")
					h.t.Logf("its journal ends:\n%s", text[max(0, len(text)-4096):])
				}
				return nil
			})
			if h.t.Failed() && err == nil {
				err = errors.New("stopped at the first disk that isn't well")
			}
			return err
		}))
	if images < 50 {
		h.t.Errorf("only %d crash images", images)
	}
	return images
}

// atBoot does on a disk what deploygate-boot.service does before the app is started, and gives what is wrong then: the app
// must start on a whole release, and never on a bad one whose deploy was cut off.
func atBoot(root, state string, w window) (problems []string) {
	tree, err := release.Open(root)
	if err != nil {
		return []string{err.Error()}
	}
	defer tree.Close()
	j, err := journal.Open(state)
	if err != nil {
		return []string{err.Error()}
	}
	defer j.Close()
	d := &deploy.Deployer{
		App: "app", StateDir: state, Tree: tree, Journal: j, Require: []string{"manage.py"},
		NoMarker: rollback.Inspect, Automatic: true,
	}
	if _, err := d.RecoverLink(); err != nil {
		return []string{"at boot: " + err.Error()}
	}
	live, err := tree.Current()
	if err != nil {
		return []string{"at boot: " + err.Error()}
	}
	if (w.kind == "bad" || w.kind == "refused") && string(live) != w.upload.before {
		problems = append(problems, fmt.Sprintf("at boot %s is live", live))
	}
	if got, err := digest(tree.Dir(live)); err != nil || got != w.upload.digests[string(live)] {
		problems = append(problems, fmt.Sprintf("at boot the app starts on %s, whose files aren't whole (%v)", live, err))
	}
	return problems
}
