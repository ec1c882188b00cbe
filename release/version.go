package release

import (
	"fmt"
	"slices"
	"strings"
)

// Version names one release: a single path element below releases/.
type Version string

// maxVersion keeps a version usable as a file name with a suffix (NAME_MAX is 255 on Linux).
const maxVersion = 200

// ParseVersion accepts letters, digits, '.', '_', '+' and '-', not starting with '.' or '-'.
// What it accepts can't leave releases/, can't be taken for a flag and needs no quoting.
func ParseVersion(s string) (Version, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("the version is empty; name a directory below releases/")
	case len(s) > maxVersion:
		return "", fmt.Errorf("the version is %d bytes long; at most %d are allowed", len(s), maxVersion)
	case s[0] == '.' || s[0] == '-':
		return "", fmt.Errorf("version %q starts with %q; it must start with a letter, a digit, '_' or '+'", s, s[:1])
	}
	for _, r := range s {
		if !strings.ContainsRune("._+-", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return "", fmt.Errorf("version %q contains %q; only letters, digits, '.', '_', '+' and '-' are allowed", s, r)
		}
	}
	return Version(s), nil
}

// Compare orders versions as people read them: runs of digits by their value, so v9 comes before v10.
// It is a display order and a last resort; what was live after what is the journal's to say.
func Compare(a, b Version) int {
	x, y := string(a), string(b)
	for x != "" && y != "" {
		xr, yr := run(x), run(y)
		if c := compareRuns(x[:xr], y[:yr]); c != 0 {
			return c
		}
		x, y = x[xr:], y[yr:]
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(string(a), string(b))
}

// run returns the length of the leading run of digits, or of non-digits.
func run(s string) int {
	digits := isDigit(s[0])
	n := strings.IndexFunc(s, func(r rune) bool { return (r >= '0' && r <= '9') != digits })
	if n < 0 {
		return len(s)
	}
	return n
}

func compareRuns(a, b string) int {
	if isDigit(a[0]) && isDigit(b[0]) {
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		if c := len(a) - len(b); c != 0 {
			return c
		}
	}
	return strings.Compare(a, b)
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// Sort orders versions by Compare, in place.
func Sort(vs []Version) { slices.SortFunc(vs, Compare) }
