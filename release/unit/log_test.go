package unit

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate"
)

func TestLogIsReadInBothFormsOfTheJournalsExport(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []gate.LogLine
	}{
		{"text", `{"_PID":"7","MESSAGE":"Booting worker"}`, []gate.LogLine{{PID: 7, Text: "Booting worker"}}},
		{"bytes, since it is not printable", `{"_PID":"7","MESSAGE":[27,91,50,74,255]}`, []gate.LogLine{{PID: 7, Text: "\x1b[2J\xff"}}},
		{"several lines in one", `{"_PID":"7","MESSAGE":"a\r\nb\n  c"}`, []gate.LogLine{{PID: 7, Text: "a"}, {PID: 7, Text: "b"}, {PID: 7, Text: "  c"}}},
		{"no process", `{"MESSAGE":"a"}`, []gate.LogLine{{PID: 0, Text: "a"}}},
		{"no text", `{"_PID":"7","MESSAGE":null}` + "\n" + `{"_PID":"8"}`, []gate.LogLine{{PID: 7, Text: ""}, {PID: 8, Text: ""}}},
		{"what is no entry is left out", "-- No entries --\n" + `{"_PID":"7","MESSAGE":"a"}` + "\n{\"_PID\":\"7\",\"MESS", []gate.LogLine{{PID: 7, Text: "a"}}},
		{"nothing", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, parseLog(strings.NewReader(c.text))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestALogThatIsTooLongKeepsItsBeginning(t *testing.T) {
	entry := `{"_PID":"7","MESSAGE":"first"}` + "\n"
	endless := io.MultiReader(strings.NewReader(entry), strings.NewReader(strings.Repeat("x", 3*maxLog)))
	if d := cmp.Diff([]gate.LogLine{{PID: 7, Text: "first"}}, parseLog(io.LimitReader(endless, maxLog))); d != "" {
		t.Error(d)
	}
}

func TestStampIsATimeAsJournalctlTakesIt(t *testing.T) {
	for want, at := range map[string]time.Time{
		"@1700000000.000000": time.Unix(1700000000, 0),
		"@1700000000.000042": time.Unix(1700000000, 42_999),
		"@1700000000.999999": time.Unix(1700000000, 999_999_999).In(time.FixedZone("", 3600)),
	} {
		if got := stamp(at); got != want {
			t.Errorf("stamp(%v) = %s, want %s", at, got, want)
		}
	}
}
