package unit

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogIsReadInBothFormsOfTheJournalsExport(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []Line
	}{
		{"text", `{"_PID":"7","MESSAGE":"Booting worker"}`, []Line{{7, "Booting worker"}}},
		{"bytes, since it is not printable", `{"_PID":"7","MESSAGE":[27,91,50,74,255]}`, []Line{{7, "\x1b[2J\xff"}}},
		{"several lines in one", `{"_PID":"7","MESSAGE":"a\r\nb\n  c"}`, []Line{{7, "a"}, {7, "b"}, {7, "  c"}}},
		{"no process", `{"MESSAGE":"a"}`, []Line{{0, "a"}}},
		{"no text", `{"_PID":"7","MESSAGE":null}` + "\n" + `{"_PID":"8"}`, []Line{{7, ""}, {8, ""}}},
		{"what is no entry is left out", "-- No entries --\n" + `{"_PID":"7","MESSAGE":"a"}` + "\n{\"_PID\":\"7\",\"MESS", []Line{{7, "a"}}},
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
	if d := cmp.Diff([]Line{{7, "first"}}, parseLog(io.LimitReader(endless, maxLog))); d != "" {
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
