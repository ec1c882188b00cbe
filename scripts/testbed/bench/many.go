package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/release/journal"
)

const (
	recorded = 10_000 // deploys
	onDisk   = 1_000  // releases
)

// withMany measures what looks at all deploys and releases, where there are many: real records, repeated.
func (h *host) withMany(ctx context.Context, rounds int, x *overheads) error {
	real, _, err := journal.Read(h.Path(stateDir))
	if err != nil {
		return err
	}
	released, failed := lastDeploy(real, "released"), lastDeploy(real, "rolled_back")
	if released == nil || failed == nil {
		return fmt.Errorf("of %d records, none are of a deploy that was released, or of one that was rolled back", len(real))
	}
	// The copies are laid later. Of a deploy that isn't recorded with its directory, prune removes one that was there when the
	// deploy began.
	until := time.Now().Add((onDisk + 10) * time.Hour)
	text, err := lines(append(multiply(released, failed, recorded, until), real...))
	if err != nil {
		return err
	}
	x.Journal = float64(len(text)) / mega
	if err := h.WriteFile(path.Join(stateDir, "journal.jsonl"), text, 0o640); err != nil {
		return err
	}
	// As on any host, the last deploy was deploygate's own.
	if err := h.run(ctx, program, "release", "good"); err != nil {
		return err
	}
	// The latest of the deploys that were made up are those whose releases are there.
	const copies = `mkdir -p /srv/copies && for n in $(seq "$1" "$2"); do cp -r /srv/app/releases/before "$(printf /srv/copies/r%05d "$n")"; done`
	if err := h.run(ctx, "sh", "-ec", copies, "sh", strconv.Itoa(recorded-onDisk), strconv.Itoa(recorded-1)); err != nil {
		return err
	}
	const lay = `cp -rn /srv/copies/. /srv/app/releases/`
	if err := h.run(ctx, "sh", "-ec", lay); err != nil {
		return err
	}
	if x.Status, err = h.times(ctx, rounds, program, "status"); err != nil {
		return err
	}
	if x.History, err = h.times(ctx, rounds, program, "history"); err != nil {
		return err
	}
	for range rounds {
		if err := h.run(ctx, "sh", "-ec", lay); err != nil {
			return err
		}
		there, err := h.releases(ctx)
		if err != nil {
			return err
		}
		took, err := h.times(ctx, 1, program, "prune")
		if err != nil {
			return err
		}
		left, err := h.releases(ctx)
		if err != nil {
			return err
		}
		x.Prune, x.Removed = append(x.Prune, took...), there-left
	}
	return nil
}

// releases counts those on disk.
func (h *host) releases(ctx context.Context) (int, error) {
	r := h.Exec(ctx, "ls", "/srv/app/releases")
	return len(strings.Fields(r.Stdout)), r.Err
}

// lastDeploy returns the records of the latest deploy with an outcome.
func lastDeploy(records []journal.Record, outcome string) (all []journal.Record) {
	for _, last := range slices.Backward(records) {
		var verdict struct{ Command, Outcome string }
		if last.Event != journal.Finished || json.Unmarshal(last.Verdict, &verdict) != nil || verdict.Outcome != outcome {
			continue
		}
		for _, r := range records {
			if r.Deploy == last.Deploy {
				all = append(all, r)
			}
		}
		return all
	}
	return nil
}

// multiply makes n deploys of the records of two, every tenth of the one that failed: an hour apart, the last of them
// an hour before until, each with an id and a release of its own, from the one that was live before.
func multiply(released, failed []journal.Record, n int, until time.Time) (all []journal.Record) {
	live := "r-first"
	for i := range n {
		like := released
		if i%10 == 9 {
			like = failed
		}
		next := fmt.Sprintf("r%05d", i)
		moved := until.Add(-time.Duration(n-i) * time.Hour).Sub(like[0].At)
		rename := map[string]string{
			like[0].Deploy:            fmt.Sprintf("%s-%06d", like[0].At.Add(moved).UTC().Format("20060102T150405Z"), i),
			string(like[0].Requested): next,
			string(like[0].Previous):  live,
		}
		for _, r := range like {
			r.At = r.At.Add(moved)
			r.Deploy = rename[r.Deploy]
			r.Directory, r.PreviousDirectory = nil, nil
			r.Requested = renamed(rename, r.Requested)
			r.Previous = renamed(rename, r.Previous)
			r.Version = renamed(rename, r.Version)
			r.Verdict = rewritten(r.Verdict, rename, moved)
			all = append(all, r)
		}
		if i%10 != 9 {
			live = next
		}
	}
	return all
}

func renamed[T ~string](names map[string]string, v T) T {
	if to, known := names[string(v)]; known {
		return T(to)
	}
	return v
}

// rewritten renames what a verdict names, and moves its times.
func rewritten(verdict json.RawMessage, names map[string]string, moved time.Duration) json.RawMessage {
	if verdict == nil {
		return nil
	}
	var value any
	if json.Unmarshal(verdict, &value) != nil {
		return verdict
	}
	text, err := json.Marshal(each(value, func(s string) string {
		if to, known := names[s]; known {
			return to
		}
		if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
			return at.Add(moved).Format(time.RFC3339Nano)
		}
		return s
	}))
	if err != nil {
		return verdict
	}
	return text
}

// each applies a function to every string in a JSON value, but for the keys.
func each(value any, do func(string) string) any {
	switch v := value.(type) {
	case string:
		return do(v)
	case []any:
		for i := range v {
			v[i] = each(v[i], do)
		}
	case map[string]any:
		for k := range v {
			v[k] = each(v[k], do)
		}
	}
	return value
}

// lines writes records as the journal's file has them.
func lines(records []journal.Record) (string, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	for _, r := range records {
		if err := out.Encode(r); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}
