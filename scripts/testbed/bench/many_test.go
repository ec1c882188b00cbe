package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deploygate/release/journal"
)

// aDeploy returns the records of a deploy of new over old.
func aDeploy(id, outcome string, at time.Time) []journal.Record {
	verdict := fmt.Sprintf(`{"command":"release","deploy_id":%q,"requested":"new","previous":"old","outcome":%q,"started_at":%q,"steps":[{"name":"swap"}]}`,
		id, outcome, at.Format(time.RFC3339Nano))
	records := []journal.Record{
		{Event: journal.Began, Command: "release", Requested: "new", Previous: "old"},
		{Event: journal.Intent, Step: "swap", Version: "new"},
		{Event: journal.Finished, Verdict: json.RawMessage(verdict)},
	}
	if outcome == "rolled_back" {
		records = append(records[:2], journal.Record{Event: journal.Failed, Version: "new"}, journal.Record{Event: journal.Intent, Step: "swap", Version: "old"},
			journal.Record{Event: journal.Passed, Version: "old"}, records[2])
	}
	for i := range records {
		records[i].Format, records[i].Deploy, records[i].At = 1, id, at.Add(time.Duration(i)*time.Second)
	}
	return records
}

func TestMultiply(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	released, failed := aDeploy("a", "released", at), aDeploy("b", "rolled_back", at.Add(time.Minute))
	until := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)
	text, err := lines(multiply(released, failed, 30, until))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journal.jsonl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := journal.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	deploys, err := journal.Past(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(deploys)
	ids := map[string]bool{}
	for i, d := range deploys {
		ids[d.ID] = true
		var verdict struct {
			Deploy    string    `json:"deploy_id"`
			Requested string    `json:"requested"`
			Previous  string    `json:"previous"`
			Started   time.Time `json:"started_at"`
		}
		if err := json.Unmarshal(d.Verdict, &verdict); err != nil {
			t.Fatal(err)
		}
		if !d.Finished() || verdict.Deploy != d.ID || verdict.Requested != string(d.Requested) || verdict.Previous != string(d.Previous) || !verdict.Started.Equal(d.Began) {
			t.Errorf("%+v has the verdict %+v", d, verdict)
		}
		if want := until.Add(-time.Duration(30-i) * time.Hour); !d.Began.Equal(want) {
			t.Errorf("%d began %v, not %v", i, d.Began, want)
		}
	}
	if len(deploys) != 30 || len(ids) != 30 {
		t.Errorf("%d deploys of %d ids", len(deploys), len(ids))
	}
	// The tenth failed, so that the eleventh follows on the ninth.
	if d := deploys[10]; d.Previous != "r00008" || d.Requested != "r00010" || !h.Bad("r00009") || h.Bad("r00010") {
		t.Errorf("%+v", d)
	}
}

func TestLastDeploy(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	all := append(append(aDeploy("a", "released", at), aDeploy("b", "rolled_back", at)...), aDeploy("c", "released", at)...)
	if got := lastDeploy(all, "released"); len(got) != 3 || got[0].Deploy != "c" {
		t.Errorf("released: %+v", got)
	}
	if got := lastDeploy(all, "rolled_back"); len(got) != 6 || got[5].Deploy != "b" {
		t.Errorf("rolled back: %+v", got)
	}
	if got := lastDeploy(all, "held"); got != nil {
		t.Errorf("held: %+v", got)
	}
}

func TestLinesAreTheJournals(t *testing.T) {
	text, err := lines(aDeploy("a", "released", time.Now()))
	if err != nil || strings.Count(text, "\n") != 3 || !strings.Contains(text, `"event":"began"`) {
		t.Errorf("%v: %s", err, text)
	}
}
