package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"deploygate/gate"
	"deploygate/release/deploy"
	"deploygate/rollback"
)

// verdict prints a deploy's verdict, once and in one place, and gives its exit code.
func (s *session) verdict(r *deploy.Report) error {
	if s.json {
		return s.printJSON(r, r.ExitCode)
	}
	if f := r.Failure; f != nil && len(f.Evidence)+len(f.Advice) > 0 { // else the line of the verdict says all of it
		printFinding(s.err, f)
	}
	fmt.Fprintln(s.out, gate.OneLine(sentence(r)))
	return exit(r.ExitCode)
}

func exit(code int) error {
	if code == 0 {
		return nil
	}
	return &verdictError{code}
}

func (s *session) printJSON(v any, code int) error {
	var doc bytes.Buffer
	e := json.NewEncoder(&doc)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	if err == nil {
		_, err = s.out.w.Write(s.secrets.HideJSON(doc.Bytes()))
	}
	if err != nil {
		fmt.Fprintf(s.err, "deploygate: cannot print the verdict: %v\n", err) // the exit code still says it
	}
	return exit(code)
}

// sentence is the verdict in one line.
func sentence(r *deploy.Report) string {
	why := ""
	if r.Failure != nil {
		why = r.Failure.Summary
	}
	was := ""
	if r.Previous != "" && r.Previous != r.Current {
		was = fmt.Sprintf(" (was %s)", r.Previous)
	}
	switch r.Outcome {
	case deploy.Released:
		switch r.Command {
		case deploy.Release, deploy.Recover:
		case deploy.Restart:
			return fmt.Sprintf("restarted: %s is live and passed its gate in %.1f s", r.Current, r.Seconds)
		case deploy.Rollback:
			return fmt.Sprintf("rolled back to %s: it is live and passed its gate%s in %.1f s", r.Current, was, r.Seconds)
		}
		return fmt.Sprintf("released: %s is live and passed its gate%s in %.1f s", r.Current, was, r.Seconds)
	case deploy.Unchanged:
		if r.Command == deploy.Recover {
			return "nothing to recover: the last deploy came to a verdict"
		}
		return fmt.Sprintf("unchanged: %s is live and healthy already", r.Current)
	case deploy.Refused:
		if n := len(r.Steps); n > 0 && r.Steps[n-1].Name == deploy.StepRehearse && r.Failure.Cause != gate.Interrupted {
			why = fmt.Sprintf("%s failed its rehearsal: %s", r.Requested, why)
		}
		return fmt.Sprintf("refused: %s; %s", why, stillLive(r))
	case deploy.Unknown:
		return fmt.Sprintf("not known: %s; %s", why, stillLive(r))
	case deploy.RolledBack:
		return fmt.Sprintf("rolled back: %s is live again and passed its gate after %.1f s; %s failed: %s", r.Current, r.Seconds, r.Requested, why)
	case deploy.Held:
		return fmt.Sprintf("held: %s stays live though it failed: %s; %s", r.Requested, why, heldBecause(r.RollbackTarget))
	case deploy.Stuck:
		if r.Current == r.Previous && r.Current != r.Requested && r.RollbackTarget != nil && r.RollbackTarget.Verdict == rollback.Blocked { // the hooks'
			return fmt.Sprintf("stuck: a person is needed: %s was not made live: %s; %s is live still, and its code can't run on the schema that the hooks left: %s",
				r.Requested, why, r.Current, r.RollbackTarget.Reason)
		}
		return fmt.Sprintf("stuck: a person is needed: %s is live and not healthy, after %s failed: %s", r.Current, r.Requested, why)
	case deploy.Locked:
		return "locked: " + r.Failure.Summary
	}
	return string(r.Outcome)
}

func stillLive(r *deploy.Report) string {
	if r.Current == "" {
		return "nothing was changed"
	}
	return fmt.Sprintf("%s stays live, untouched", r.Current)
}

func heldBecause(w *rollback.Target) string {
	if w == nil || w.Verdict == rollback.Safe {
		return "automatic rollback is off"
	}
	return "there is no way back: " + w.Reason
}

// judgement is what check and diagnose found, and its exit code: what could not be looked at is not unhealthy.
func judgement(findings []*gate.Finding) (outcome string, code int) {
	switch {
	case len(findings) == 0:
		return "healthy", 0
	case gate.AllUnseen(findings):
		return string(deploy.Unknown), deploy.Unknown.ExitCode()
	}
	return "unhealthy", 1
}

// inWords is a judgement as a line of text begins.
func inWords(outcome string) string {
	if outcome == string(deploy.Unknown) {
		return "not known"
	}
	return outcome
}

// printFinding shows why, what proves it, and what to do.
func printFinding(w io.Writer, f *gate.Finding) {
	cause := ""
	if f.Cause != gate.Unknown {
		cause = fmt.Sprintf(" (%s)", f.Cause)
	}
	fmt.Fprintf(w, "\n%s%s: %s\n", f.Layer, cause, gate.OneLine(f.Summary))
	for _, e := range f.Evidence {
		fmt.Fprintf(w, "  %s:\n", gate.OneLine(e.Source))
		for line := range strings.SplitSeq(gate.Clean(e.Text), "\n") {
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	for _, a := range f.Advice {
		fmt.Fprintf(w, "  -> %s\n", gate.OneLine(a))
	}
	fmt.Fprintln(w)
}
