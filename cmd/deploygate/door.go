package main

import (
	"io"

	"deploygate/gate"
)

// door is where all text leaves: what is said on stdout and stderr passes it. Behind it there are no secrets and no control
// characters.
type door struct {
	w       io.Writer
	secrets *gate.Secrets
	colored bool // what is written has control characters of its own
}

// Write takes whole lines: a secret that is written in two parts isn't found.
func (d *door) Write(p []byte) (int, error) {
	text := string(p)
	if !d.colored {
		text = gate.Printable(text)
	}
	if _, err := io.WriteString(d.w, d.secrets.Hide(text)); err != nil {
		return 0, err
	}
	return len(p), nil
}
