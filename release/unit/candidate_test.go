package unit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// What godbus reads it can't write back where it has structs; each setting has one of these types.
func TestASettingCanBeSentAsItWasRead(t *testing.T) {
	for signature, value := range map[string]any{
		"s":       "www-data",
		"b":       true,
		"i":       int32(-5),
		"u":       uint32(0o27),
		"t":       uint64(1 << 40),
		"as":      []string{"adm", "ssl"},
		"ay":      []byte{1, 2},
		"(bas)":   []any{true, []string{"read", "write"}},
		"(bs)":    []any{false, "profile"},
		"a(sb)":   [][]any{{"/etc/app.env", true}, {"/etc/b.env", false}},
		"a(ss)":   [][]any{{"/mnt", "ro"}},
		"a(say)":  [][]any{{"key", []byte("value")}},
		"a(iayu)": [][]any{{int32(2), []byte{127, 0, 0, 0}, uint32(8)}},
		"a(iiqq)": [][]any{{int32(2), int32(6), uint16(1), uint16(8000)}},
		"a(ssbt)": [][]any{{"/a", "/b", false, uint64(16384)}},
	} {
		sig, err := dbus.ParseSignature(signature)
		if err != nil {
			t.Fatal(err)
		}
		got, err := settable(dbus.MakeVariantWithSignature(value, sig), strings.ToUpper)
		if err != nil || got.Signature() != sig {
			t.Errorf("%s: %v of type %s, %v", signature, got, got.Signature(), err)
		}
	}
	unknown := dbus.MakeVariantWithSignature(map[string]string{}, dbus.ParseSignatureMust("a{ss}"))
	if _, err := settable(unknown, nil); err == nil {
		t.Error("a dictionary is no setting")
	}
}

func TestPathsOfASettingArePointedElsewhere(t *testing.T) {
	point := func(s string) string { return strings.ReplaceAll(s, "current", "v2") }
	sig := dbus.ParseSignatureMust("a(sb)")
	got, err := settable(dbus.MakeVariantWithSignature([][]any{{"/srv/current/.env", true}, {"/etc/env", false}}, sig), point)
	if err != nil {
		t.Fatal(err)
	}
	if text, want := fmt.Sprint(got.Value()), "[{/srv/v2/.env true} {/etc/env false}]"; text != want {
		t.Errorf("%s, want %s", text, want)
	}
}

func TestWhatIsReadOtherwiseThanItIsWritten(t *testing.T) {
	bs := dbus.ParseSignatureMust("(bs)")
	for want, value := range map[string][]any{"label": {false, "label"}, "-label": {true, "label"}} {
		if got := written(dbus.MakeVariantWithSignature(value, bs)); got.Value() != want {
			t.Errorf("%v: %v", value, got)
		}
	}
}

func TestAPrefixOfACommandIsFound(t *testing.T) {
	ex := func(flags ...string) [][]any { return [][]any{{"/bin/x", []string{"x"}, flags}} }
	for want, v := range map[string][][]any{
		"": ex("ignore-failure"), "privileged": ex("ignore-failure", "privileged"), "no-env-expand": ex("no-env-expand"),
	} {
		if got := prefixOf(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if got := prefixOf(nil); got != "" {
		t.Errorf("none: %q", got)
	}
}
