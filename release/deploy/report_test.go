package deploy

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"deploygate/release/journal"
	"deploygate/scripts/assert"
)

func TestExitCodes(t *testing.T) {
	for o, want := range map[Outcome]int{
		Released: 0, Unchanged: 0, Refused: 1, RolledBack: 3, Held: 4, Stuck: 5, Locked: 6, "": 1, "new": 1,
	} {
		assert.Equal(t, string(o), o.ExitCode(), want)
	}
}

// golden compares a report with what --output json prints of it, but for its random name.
func golden(t *testing.T, r *Report, want string) {
	t.Helper()
	text, err := json.MarshalIndent(r, "", "  ")
	assert.OK(t, err)
	got := regexp.MustCompile(`("deploy_id": ")[^"]*`).ReplaceAllString(string(text), "${1}ID")
	got = strings.ReplaceAll(got, "\u2192", "->")
	assert.Equal(t, "JSON", strings.Split(got, "\n"), strings.Split(strings.TrimSpace(want), "\n"))
}

func TestReportRolledBack(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		h.does["v2"] = behaviour{status: 500}
		h.d.Hooks[AfterRollback] = []Task{task("notify")}
		h.fails["notify"] = errBroken
		golden(t, h.release("v2"), `
{
  "command": "release",
  "app": "shop",
  "program": "1.2.3",
  "deploy_id": "ID",
  "requested": "v2",
  "previous": "v1",
  "current": "v1",
  "outcome": "rolled_back",
  "exit_code": 3,
  "changed": true,
  "started_at": "2000-01-01T00:00:02Z",
  "finished_at": "2000-01-01T00:00:34Z",
  "duration_seconds": 32,
  "steps": [
    {
      "name": "preflight",
      "outcome": "passed",
      "seconds": 0,
      "detail": "v1 -> v2; way back v1"
    },
    {
      "name": "before_swap",
      "outcome": "skipped",
      "seconds": 0,
      "detail": "no hooks"
    },
    {
      "name": "swap",
      "outcome": "passed",
      "seconds": 0,
      "detail": "current -> v2"
    },
    {
      "name": "restart",
      "outcome": "passed",
      "seconds": 0,
      "detail": "app.service"
    },
    {
      "name": "health",
      "outcome": "failed",
      "seconds": 30,
      "detail": "unix:/run/app.sock /health/ answers 500: the app raised an error (not healthy for 2s within 30s)"
    },
    {
      "name": "rollback",
      "outcome": "passed",
      "seconds": 2,
      "detail": "v1 is live again and passed its gate"
    }
  ],
  "failure": {
    "layer": "app",
    "cause": "app_error",
    "blames": "release",
    "summary": "unix:/run/app.sock /health/ answers 500: the app raised an error (not healthy for 2s within 30s)",
    "evidence": [
      {
        "source": "http",
        "text": "500 Internal Server Error"
      }
    ],
    "advice": [
      "read the app's log"
    ]
  },
  "way_back": {
    "version": "v1",
    "verdict": "safe",
    "reason": "no new migrations: v2"
  },
  "before": [],
  "warnings": [
    "notify failed: broken; its output ends with: output of notify"
  ]
}`)
	})
}

// A verdict without a host has every field too, and no null but for what there is none of.
func TestReportLocked(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		golden(t, h.d.NotBegun(Request{Command: Rollback}, Locked, &journal.LockedError{Holder: journal.Holder{}}), `
{
  "command": "rollback",
  "app": "shop",
  "program": "1.2.3",
  "deploy_id": "ID",
  "requested": "",
  "previous": "",
  "current": "",
  "outcome": "locked",
  "exit_code": 6,
  "changed": false,
  "started_at": "2000-01-01T00:00:00Z",
  "finished_at": "2000-01-01T00:00:00Z",
  "duration_seconds": 0,
  "steps": [],
  "failure": {
    "layer": "release",
    "cause": "unknown",
    "blames": "unknown",
    "summary": "another deploy of this app is running: another deploygate",
    "evidence": [],
    "advice": []
  },
  "way_back": null,
  "before": [],
  "warnings": []
}`)
	})
}

// What is journalled is what was printed.
func TestVerdictIsJournalled(t *testing.T) {
	onHost(t, func(t *testing.T, h *host) {
		h.began("v1")
		h.add("v2")
		r := h.release("v2")
		printed, err := json.Marshal(r)
		assert.OK(t, err)
		last, _ := h.history().Last()
		assert.Equal(t, "verdict", string(last.Verdict), string(printed))
		assert.Equal(t, "deploy", last.ID, r.DeployID)
		assert.Equal(t, "requested", last.Requested, "v2")
		assert.Equal(t, "previous", last.Previous, "v1")
	})
}

func TestUserName(t *testing.T) {
	t.Setenv("SUDO_USER", "ann")
	assert.Equal(t, "with sudo", UserName(), "ann")
	t.Setenv("SUDO_USER", "")
	if UserName() == "" || UserName() == "ann" {
		t.Errorf("without sudo: %q", UserName())
	}
}
