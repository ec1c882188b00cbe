package unit

import (
	"io"
	"slices"
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
			entries, whole := parseLog(strings.NewReader(c.text))
			if d := cmp.Diff(c.want, slices.Concat(entries...)); d != "" || !whole {
				t.Error(d)
			}
		})
	}
}

func TestALogThatIsTooLongKeepsItsBeginning(t *testing.T) {
	entry := `{"_PID":"7","MESSAGE":"first"}` + "\n"
	endless := io.MultiReader(strings.NewReader(entry), strings.NewReader(strings.Repeat("x", 3*maxLog)))
	entries, whole := parseLog(io.LimitReader(endless, maxLog))
	if d := cmp.Diff([][]gate.LogLine{{{PID: 7, Text: "first"}}}, entries); d != "" || whole {
		t.Error(d, whole)
	}
}

func TestAnEntryThatIsTooLongIsPassedOver(t *testing.T) {
	long := `{"_PID":"7","MESSAGE":"` + strings.Repeat("x", 2*maxEntry) + `"}` + "\n"
	entry := `{"_PID":"7","MESSAGE":"after it"}` + "\n"
	entries, _ := parseLog(strings.NewReader(long + entry))
	if d := cmp.Diff([][]gate.LogLine{{{PID: 7, Text: "after it"}}}, entries); d != "" {
		t.Error(d)
	}
}

// systemd's own messages carry the start that they are about, and not systemd's.
func TestAnEntryBelongsToAStartOfTheUnit(t *testing.T) {
	for text, want := range map[string]string{
		`{"_PID":"7","_SYSTEMD_INVOCATION_ID":"aa","MESSAGE":"x"}`:                           "aa",
		`{"_PID":"1","INVOCATION_ID":"bb","MESSAGE":"x"}`:                                    "bb",
		`{"_PID":"9","_SYSTEMD_INVOCATION_ID":"aa","USER_INVOCATION_ID":"cc","MESSAGE":"x"}`: "cc",
	} {
		if got := parseEntry([]byte(text)); len(got) != 1 || got[0].Invocation != want {
			t.Errorf("%s: %+v", text, got)
		}
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
