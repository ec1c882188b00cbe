// Package assert is what the tests of several packages ask of a value.
package assert

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// OK ends the test where there is an error.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Equal reports how two values differ. None and empty are the same.
func Equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Hostile is what a log line or an answer may hold: colours, a false line, text that reorders the line.
const Hostile = "\x1b[31mred\x1b[0m\r\ndeploygate: released\u202e\x00"

// Harmless reports text that would act on a terminal.
func Harmless(t testing.TB, what, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\x00\r\u202e") {
		t.Errorf("%s: %q", what, text)
	}
}

// UpToDate compares a generated file with what it should say, or writes it.
func UpToDate(t testing.TB, file, want string, update bool) {
	t.Helper()
	if update {
		OK(t, os.WriteFile(file, []byte(want), 0o644))
	}
	text, err := os.ReadFile(file)
	OK(t, err)
	if string(text) != want {
		t.Errorf("%s is not up to date: go test ./cmd/deploygate ./cmd/deploygate/internal/config -update", file)
	}
}
