package main

import (
	"testing"

	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/scripts/assert"
)

func TestPrintSocket(t *testing.T) {
	r := socketReport{
		Files: []socketunit.File{{Path: "/etc/x.socket", Text: "[Socket]\nA=b\n"}}, Steps: []string{"one", "two"}, Back: []string{"three"}, Notes: []string{assert.Hostile},
	}
	s, stdout, stderr := spoken(false)
	s.printSocket(r)
	assert.Harmless(t, "notes", stderr.String())
	const steps = "\nto switch to it (requests fail once more, until the app has booted; the last command passes when it has):\n\n    one\n    two\n\nto go back:\n\n    three\n"
	assert.Equal(t, "printed", stdout.String(), "/etc/x.socket:\n\n    [Socket]\n    A=b\n\n"+steps)
	r.Written = true
	s, stdout, _ = spoken(false)
	s.printSocket(r)
	assert.Equal(t, "written", stdout.String(), "written: /etc/x.socket\n"+steps)
}
