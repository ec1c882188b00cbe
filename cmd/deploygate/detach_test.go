package main

import (
	"slices"
	"testing"
)

// What the app's environment has, anybody could read from the unit that goes on with a deploy.
func TestPassedOn(t *testing.T) {
	got := passedOn([]string{
		"SECRET_KEY=s3cret", "PATH=/usr/bin", "DEPLOYGATE_APP=shop", "DATABASE_URL=postgres://u:p@h/d", "NO_COLOR=1", "SUDO_USER=ann",
		"PATHS=/x", "NOTIFY_SOCKET=/run/systemd/notify", "LISTEN_FDS=1",
	})
	want := []string{"PATH=/usr/bin", "DEPLOYGATE_APP=shop", "NO_COLOR=1", "SUDO_USER=ann"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
