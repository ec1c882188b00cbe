package deploy

import (
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/rollback"
)

// Outcome is how a deploy ended.
type Outcome string

// The outcomes and what they say of the host.
const (
	Released   Outcome = "released"    // the version is live and passed its gate
	Unchanged  Outcome = "unchanged"   // it was live and healthy already
	Refused    Outcome = "refused"     // the live release was not touched
	RolledBack Outcome = "rolled_back" // it failed; an earlier good release is live again and passed its gate
	Held       Outcome = "held"        // it failed and stays: there is no way back
	Stuck      Outcome = "stuck"       // it failed, and so did the way back
	Locked     Outcome = "locked"      // another deploy is running
	Unknown    Outcome = "unknown"     // the host can't be looked at; nothing was changed
)

// ExitCode is the process's exit code for an outcome. 2 is a usage or configuration error, which is no outcome.
func (o Outcome) ExitCode() int {
	switch o {
	case Released, Unchanged:
		return 0
	case Refused:
		return 1
	case RolledBack:
		return 3
	case Held:
		return 4
	case Stuck:
		return 5
	case Locked:
		return 6
	case Unknown:
		return 7
	}
	return 1
}

// Refusal is the outcome of a deploy that can't begin: Unknown where the reason is that the host can't be looked at.
func Refusal(why ...*gate.Finding) Outcome {
	if gate.AllUnseen(why) {
		return Unknown
	}
	return Refused
}

// StepName names a step of the sequence.
type StepName string

// The steps, in order.
const (
	StepPreflight  StepName = "preflight"
	StepBeforeSwap StepName = "before_swap"
	StepRehearse   StepName = "rehearse"
	StepSwap       StepName = "swap"
	StepRestart    StepName = "restart"
	StepHealth     StepName = "health"
	StepProxy      StepName = "proxy"
	StepChecks     StepName = "checks"
	StepCommit     StepName = "commit"
	StepRollback   StepName = "rollback"
	StepPrune      StepName = "prune"
)

// StepOutcome is how a step ended.
type StepOutcome string

// The outcomes of a step.
const (
	Passed  StepOutcome = "passed"
	Failed  StepOutcome = "failed"
	Skipped StepOutcome = "skipped"
)

// Step is one step as it ended.
type Step struct {
	Name    StepName    `json:"name"`
	Outcome StepOutcome `json:"outcome"`
	Seconds float64     `json:"seconds"`
	Detail  string      `json:"detail"`
}

// Report is the verdict of a deploy, as --output json prints it.
type Report struct {
	Command   Command         `json:"command"`
	App       string          `json:"app"`
	Program   string          `json:"program"` // the version of deploygate
	DeployID  string          `json:"deploy_id"`
	Requested release.Version `json:"requested"`
	Previous  release.Version `json:"previous"`
	Current   release.Version `json:"current"` // as the link says at the end
	Outcome   Outcome         `json:"outcome"`
	ExitCode  int             `json:"exit_code"`
	Changed   bool            `json:"changed"` // anything was swapped or restarted

	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	Seconds    float64   `json:"duration_seconds"`

	Steps          []Step           `json:"steps"`
	Failure        *gate.Finding    `json:"failure"`
	RollbackTarget *rollback.Target `json:"way_back"`
	// Before is what was broken before anything was touched, and so is not the release's doing.
	Before []*gate.Finding `json:"before"`
	// Unfinished: a recovery changed nothing, and the deploy that it was for has no verdict yet.
	Unfinished bool `json:"-"`
	// Warnings are what went wrong without changing the outcome.
	Warnings []string `json:"warnings"`
}
