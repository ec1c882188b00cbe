package release

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseVersionAcceptsOnePlainPathElement(t *testing.T) {
	for _, s := range []string{
		"v42", "1.2.3", "2026-11-21_03.54+9f8e7d6", "_x", "+1", "v..", "current", "0", "V", strings.Repeat("v", maxVersion),
	} {
		if v, err := ParseVersion(s); err != nil || string(v) != s {
			t.Errorf("ParseVersion(%q) = %q, %v", s, v, err)
		}
	}
}

func TestParseVersionRefusesEverythingElse(t *testing.T) {
	for _, s := range []string{
		"", ".", "..", ".v1", "-v1", "--force", "/v1", "v1/", "a/b", "../v1", "v1/../../etc", `a\b`,
		"v 1", " v1", "v1\n", "v1\x00", "v1\x1b[2J", "v\u202e1", "é", "v\u0661", "\xff", "v1\ufffd",
		"v1;id", "$(id)", "v*", "v?", "~root", "v1:1", "v1=1", "v@1", "%n", "v1 (deleted)",
		strings.Repeat("v", maxVersion+1), tempName, trashName,
	} {
		if v, err := ParseVersion(s); err == nil || v != "" {
			t.Errorf("ParseVersion(%q) = %q, %v; want an error", s, v, err)
		}
	}
}

func TestVersionsAreOrderedAsPeopleReadThem(t *testing.T) {
	want := []Version{
		"0", "1", "1.2.9", "1.2.10", "1.10.0", "2", "18446744073709551616", "18446744073709551617",
		"a", "a1", "v01", "v1", "v1-rc1", "v1-rc2", "v1-rc10", "v2", "v9", "v10", "v10.1",
	}
	got := slices.Clone(want)
	for range 20 {
		rand.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] }) //nolint:gosec // no secret
		Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"v42", "", "..", "-x", "a/b", "v1\n", "1.2+é", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			return
		}
		name := string(v)
		if name != s || name != filepath.Base(name) || !filepath.IsLocal(name) || name[0] == '.' || name[0] == '-' || len(name) > maxVersion {
			t.Errorf("ParseVersion(%q) accepts what is no plain name", s)
		}
	})
}

func FuzzCompareIsATotalOrder(f *testing.F) {
	f.Add("v1", "v01", "v1.0")
	f.Add("1", "a", "1a")
	f.Fuzz(func(t *testing.T, s1, s2, s3 string) {
		a, b, c := Version(s1), Version(s2), Version(s3)
		if (Compare(a, b) < 0) != (Compare(b, a) > 0) {
			t.Errorf("%q and %q: the order depends on who is asked first", a, b)
		}
		if (Compare(a, b) == 0) != (a == b) {
			t.Errorf("Compare(%q, %q) = %d", a, b, Compare(a, b))
		}
		if Compare(a, b) < 0 && Compare(b, c) < 0 && Compare(a, c) >= 0 {
			t.Errorf("%q < %q < %q, but not the first and the last", a, b, c)
		}
	})
}
