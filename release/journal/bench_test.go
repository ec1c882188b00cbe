package journal_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"deploygate/release"
	"deploygate/release/deploy"
	"deploygate/release/inuse"
	"deploygate/release/journal"
	"deploygate/rollback"
	"deploygate/scripts/assert"
)

// A host of ten years: 10,000 deploys of as many versions, of which the last 1,000 are on disk.
const (
	deploys = 10_000
	kept    = 1_000
)

func version(n int) release.Version {
	return release.Version(fmt.Sprintf("2026.11.%d-%07x", n, n*7919))
}

func tenYears(b *testing.B) (d *deploy.Deployer, onDisk []release.Version) {
	b.Helper()
	state, root := b.TempDir(), b.TempDir()
	f, err := os.Create(filepath.Join(state, "journal.jsonl"))
	assert.OK(b, err)
	out := bufio.NewWriter(f)
	for n := 1; n < deploys; n++ {
		for _, r := range records(n) {
			line, err := json.Marshal(r)
			assert.OK(b, err)
			_, err = fmt.Fprintf(out, "%s\n", line)
			assert.OK(b, err)
		}
	}
	assert.OK(b, out.Flush())
	assert.OK(b, f.Close())
	finishOneMore(b, state)
	for n := deploys - kept + 1; n <= deploys; n++ {
		onDisk = append(onDisk, version(n))
		assert.OK(b, os.MkdirAll(filepath.Join(root, "releases", string(version(n))), 0o755))
	}
	tree, err := release.Open(root)
	assert.OK(b, err)
	b.Cleanup(func() { _ = tree.Close() })
	assert.OK(b, tree.Swap(version(deploys)))
	return &deploy.Deployer{StateDir: state, Tree: tree, NoMarker: rollback.Allow}, onDisk
}

func finishOneMore(b *testing.B, state string) {
	b.Helper()
	j, err := journal.Open(state)
	assert.OK(b, err)
	defer j.Close()
	for _, r := range records(deploys) {
		assert.OK(b, j.Append(r))
	}
}

// records are those of one deploy, of the size that real ones have. Every fiftieth fails and goes back.
func records(n int) []journal.Record {
	v, before := version(n), version(n-1)
	at := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Hour)
	schema := &release.Schema{Judged: true, NewMigrations: []string{fmt.Sprintf("shop.%04d_order_note", n), fmt.Sprintf("accounts.%04d_auto", n)}}
	rs := []journal.Record{{Event: journal.Began, Command: "release", Requested: v, Previous: before, User: "ci", PID: 4711, Schema: schema, Invocations: map[string]string{"gunicorn.service": strings.Repeat("0af3", 8)}}}
	step := func(name string, v release.Version) {
		rs = append(rs, journal.Record{Event: journal.Intent, Step: name, Version: v}, journal.Record{Event: journal.Done, Step: name, Version: v})
	}
	step("before_swap", v)
	step("swap", v)
	step("restart", v)
	outcome := deploy.Released
	if n%50 == 0 && n < deploys {
		rs = append(rs, journal.Record{Event: journal.Failed, Version: v, Error: "gunicorn.service crashed"})
		step("swap", before)
		step("restart", before)
		v, outcome = before, deploy.RolledBack
	}
	rs = append(rs, journal.Record{Event: journal.Passed, Version: v})
	steps := []deploy.Step{}
	for range 9 {
		steps = append(steps, deploy.Step{Name: deploy.StepHealth, Outcome: deploy.Passed, Seconds: 2.04, Detail: strings.Repeat("healthy for 2s without interruption ", 6)})
	}
	verdict, _ := json.Marshal(deploy.Report{Command: deploy.Release, App: "shop", Outcome: outcome, Requested: version(n), Current: v, Steps: steps})
	rs = append(rs, journal.Record{Event: journal.Finished, Verdict: verdict})
	for i := range rs {
		rs[i].Format, rs[i].At, rs[i].Deploy = 1, at.Add(time.Duration(i)*time.Second), fmt.Sprintf("%08x%08x", n, n*31)
	}
	return rs
}

func BenchmarkTenYears(b *testing.B) {
	d, onDisk := tenYears(b)
	for _, name := range []string{"journal.jsonl", "snapshot"} {
		info, err := os.Stat(filepath.Join(d.StateDir, name))
		assert.OK(b, err)
		b.Logf("%s: %d kB", name, info.Size()>>10)
	}
	run := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				assert.OK(b, do())
			}
		})
	}
	current := onDisk[len(onDisk)-1]
	var h journal.History
	load := func() (err error) {
		h, err = journal.Load(d.StateDir)
		return err
	}
	run("Load", load)
	run("Standing", func() error {
		_, _, way, err := d.Standing()
		if err == nil && way.Version != onDisk[len(onDisk)-2] {
			err = fmt.Errorf("way back %+v", way)
		}
		return err
	})
	run("Past", func() error { _, err := journal.Past(d.StateDir, 20); return err })
	run("Candidates", func() error { rollback.Candidates(h, onDisk, current); return nil })
	none := func(release.Version) bool { return false }
	run("Crossings to the oldest", func() error { rollback.ReleasesSince(h, version(1), current, onDisk, none); return nil })
	run("Crossings to a stranger", func() error { rollback.ReleasesSince(h, "0", current, onDisk, none); return nil })
	shelf := deploy.Shelf{
		History: h, OnDisk: onDisk, Current: current, Keep: 5, Directories: map[release.Version]release.Identity{},
		Changed: func(release.Version, time.Time) string { return "" },
		Held:    func() (map[string]inuse.Hold, error) { return nil, nil },
		Around:  func() ([]inuse.Lead, error) { return nil, nil },
		Needs:   func(release.Version) ([]inuse.Lead, error) { return nil, nil },
	}
	for _, v := range onDisk {
		shelf.Directories[v] = release.Identity{Device: 1, Inode: 1, Born: 1}
	}
	run("Prunable", func() error { shelf.Prunable(); return nil })
	run("a deploy's records", func() error { finishOneMore(b, d.StateDir); return nil })
	run("Load with a deploy under way", func() error {
		assert.OK(b, os.Chmod(filepath.Join(d.StateDir, "journal.jsonl"), 0o600)) // so that it isn't as it was left
		return load()
	})
	assert.OK(b, os.Remove(filepath.Join(d.StateDir, "snapshot")))
	run("Load without a snapshot", load)
}
