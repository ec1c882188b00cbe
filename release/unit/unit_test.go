package unit

import (
	"errors"
	"fmt"
	"testing"

	"github.com/godbus/dbus/v5"
)

func TestInvocationIsEmptyBeforeTheFirstStart(t *testing.T) {
	for want, id := range map[string][]byte{
		"":                                 make([]byte, 16),
		"0a000000000000000000000000000000": append([]byte{10}, make([]byte, 15)...),
	} {
		if got := invocation(id); got != want {
			t.Errorf("invocation(%v) = %q, want %q", id, got, want)
		}
	}
	if got := invocation(nil); got != "" {
		t.Errorf("invocation(nil) = %q", got)
	}
}

func TestPlainTakesTheMessageOutOfADBusError(t *testing.T) {
	for want, err := range map[string]error{
		"Unit x.service not found": dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit", Body: []any{"Unit x.service not found."}},
		"Access denied":            fmt.Errorf("call: %w", dbus.Error{Name: "n", Body: []any{"Access denied"}}),
		"n":                        dbus.Error{Name: "n"},
		"other":                    errors.New("other"),
	} {
		if got := plain(err).Error(); got != want {
			t.Errorf("plain(%v) = %q, want %q", err, got, want)
		}
	}
}

func TestAPropertyOfAnotherTypeReadsAsAbsent(t *testing.T) {
	p := map[string]any{"MainPID": uint32(7), "Result": 7}
	if got := get[uint32](p, "MainPID"); got != 7 {
		t.Errorf("MainPID %d", got)
	}
	if got := get[string](p, "Result"); got != "" {
		t.Errorf("Result %q", got)
	}
	if got := get[[]string](nil, "Environment"); got != nil {
		t.Errorf("Environment %q", got)
	}
}
