package main

import (
	"io"
	"strings"
	"testing"

	"deploygate/scripts/assert"
)

func TestArrange(t *testing.T) {
	for _, c := range []struct{ typed, want, err string }{
		{"", "", ""},
		{"release v42", "release -- v42", ""},
		{"release v42 --output json", "--output json release -- v42", ""},
		{"release --output json v42", "--output json release -- v42", ""},
		{"--output json release v42", "--output json release -- v42", ""},
		{"release v42 --output=json", "--output=json release -- v42", ""},
		{"release v42 -output json", "-output json release -- v42", ""},
		{"release v42 --lock-wait 5m --app shop", "--app shop release --lock-wait 5m -- v42", ""},
		{"release v42 --dry-run", "release --dry-run -- v42", ""},
		{"release --dry-run v42", "release --dry-run -- v42", ""},
		{"release v42 --dry-run=false", "release --dry-run=false -- v42", ""},
		{"--no-color release v42", "--no-color release -- v42", ""},
		{"release v42 --no-color", "--no-color release -- v42", ""},
		{"rollback --override-marker reason", "rollback --override-marker reason", ""},
		{"rollback v41 --override-marker --app", "rollback --override-marker --app -- v41", ""},
		{"rollback --override-marker= v41", "rollback --override-marker= -- v41", ""},
		{"release release", "release -- release", ""},
		{"release rollback --app shop", "--app shop release -- rollback", ""},
		{"--app release release v42", "--app release release -- v42", ""},
		{"v42 release", "-- v42 release", ""},
		{"release -- -v42", "release -- -v42", ""},
		{"release v42 -- --app shop", "release -- v42 --app shop", ""},
		{"release -", "release -- -", ""},
		{"release v42 --unknown x", "release --unknown -- v42 x", ""},
		{"--unknown release v42", "--unknown release -- v42", ""},
		{"release --help", "release --help", ""},
		{"--version", "--version", ""},
		{"history --limit 5", "history --limit 5", ""},
		{"release v42 --output", "", "--output needs a value; see deploygate --help"},
		{"release v42 --lock-wait", "", "--lock-wait needs a value; see deploygate --help"},
		{"--app", "", "--app needs a value; see deploygate --help"},
		{"--app -- release", "", "--app needs a value; see deploygate --help"},
		{"no such thing", "-- no such thing", ""},
	} {
		args := append([]string{"deploygate"}, strings.Fields(c.typed)...)
		got, err := arrange(newApp(io.Discard, io.Discard), args)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: error %v, want %s", c.typed, err, c.err)
			}
			continue
		}
		assert.OK(t, err)
		assert.Equal(t, c.typed, got, append([]string{"deploygate"}, strings.Fields(c.want)...))
	}
	got, err := arrange(newApp(io.Discard, io.Discard), nil)
	assert.OK(t, err)
	assert.Equal(t, "no arguments at all", got, nil)
	got, err = arrange(newApp(io.Discard, io.Discard), []string{"deploygate", "release", "", "--app", ""})
	assert.OK(t, err)
	assert.Equal(t, "empty arguments", got, []string{"deploygate", "--app", "", "release", "--", ""})
}
