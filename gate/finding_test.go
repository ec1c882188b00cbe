package gate

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanMakesRemoteTextHarmless(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "ok", "ok"},
		{"other scripts", "größer 日本語 🎉", "größer 日本語 🎉"},
		{"lines and tabs stay", "a\n\tb", "a\n\tb"},
		{"space around", " \n a \n", "a"},
		{"escape sequence", "\x1b[2Jgone", "\uFFFD[2Jgone"},
		{"OSC 52", "\x1b]52;c;eA==\x07", "\uFFFD]52;c;eA==\uFFFD"},
		{"8-bit escape", "\u009b2J", "\uFFFD2J"},
		{"NUL, backspace, delete", "a\x00b\bc\x7f", "a\uFFFDb\uFFFDc\uFFFD"},
		{"overwriting the line", "bad\rgood", "bad\uFFFDgood"},
		{"bidi override", "a\u202egnp.exe", "a\uFFFDgnp.exe"},
		{"bidi isolate and marks", "\u2066a\u2069\u200eb\u200fc\u202a", "\uFFFDa\uFFFD\uFFFDb\uFFFDc\uFFFD"},
		{"invalid UTF-8", "a\xff\xfeb\xc3", "a\uFFFDb\uFFFD"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Clean(c.text); got != c.want {
				t.Errorf("Clean(%q) = %q, want %q", c.text, got, c.want)
			}
		})
	}
}

func TestCleanBoundsWhatIsLong(t *testing.T) {
	const mark = " […]"
	for name, text := range map[string]string{
		"ASCII":                 strings.Repeat("x", maxEvidence+1),
		"cut in a character":    "x" + strings.Repeat("é", maxEvidence),
		"cut in a broader one":  "xx" + strings.Repeat("🎉", maxEvidence),
		"characters to replace": strings.Repeat("\x1b", maxEvidence+1),
	} {
		got := Clean(text)
		kept, ok := strings.CutSuffix(got, mark)
		if !ok || !utf8.ValidString(got) || len(kept) > 3*maxEvidence || utf8.RuneCountInString(kept) > maxEvidence {
			t.Errorf("%s: %d bytes are left of %d", name, len(got), len(text))
		}
		if name != "characters to replace" && strings.ContainsRune(got, utf8.RuneError) {
			t.Errorf("%s: a character was cut in two", name)
		}
	}
	whole := strings.Repeat("x", maxEvidence)
	if Clean(whole) != whole {
		t.Error("what is just short enough was cut")
	}
}

func TestFindingKeepsCleanEvidenceAndNoEmptyOne(t *testing.T) {
	f := NewFinding(LayerApp, Unknown, "it failed").With("a", " \n").With("b", "\x1bx").Advise("look")
	got, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"layer":"app","cause":"unknown","blames":"unknown","summary":"it failed","evidence":[{"source":"b","text":"` + "\uFFFD" + `x"}],"advice":["look"]}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
	got, err = json.Marshal(NewFinding(LayerApp, Unknown, ""))
	if err != nil || !strings.Contains(string(got), `"evidence":[],"advice":[]`) {
		t.Errorf("%s, %v: lists must not be null", got, err)
	}
}
