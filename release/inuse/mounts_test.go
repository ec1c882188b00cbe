package inuse

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/scripts/assert"
)

func TestParseMounts(t *testing.T) {
	got, err := parseMounts([]byte(`22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
36 22 98:0 /mnt1 /mnt/with\040space\011tab\012line\134back rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw
40 22 0:45 /srv/app//deleted /x rw - tmpfs  rw,size=1k
41 22 0:4 net:[4026532281] /run/netns/blue rw shared:3 - nsfs nsfs rw
42 22 0:50 / /srv/merged rw - overlay overlay rw,lowerdir=/a:/b\134:c,upperdir=/u,workdir=/w
43 22 0:51 /sub /b rw - fuse.x\040y none rw
`))
	assert.OK(t, err)
	want := []mount{
		{22, "8:1", "/", "/", "rw,errors=remount-ro"},
		{36, "98:0", "/mnt1", "/mnt/with space\ttab\nline\\back", "rw"},
		{40, "0:45", "/srv/app", "/x", "rw,size=1k"},
		{41, "0:4", "net:[4026532281]", "/run/netns/blue", "rw"},
		{42, "0:50", "/", "/srv/merged", `rw,lowerdir=/a:/b\:c,upperdir=/u,workdir=/w`},
		{43, "0:51", "/sub", "/b", "rw"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(mount{})); d != "" {
		t.Error(d)
	}
}

// A line that isn't understood is no mount that may be passed over.
func TestMountsThatCantBeRead(t *testing.T) {
	for _, line := range []string{
		"x", "22 1 8:1 / / rw", "a 1 8:1 / / rw - ext4 /dev/sda1 rw", "22 1 8:1 / - ext4 /dev/sda1 rw", "22 1  / / rw - ext4 x rw", "22 1 8:1 / x rw - ext4 y rw", "\x00",
	} {
		if got, err := parseMounts([]byte("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + line + "\n")); err == nil {
			t.Errorf("%q gives %+v", line, got)
		}
	}
}

// FuzzMounts: whatever a mount is called, it is read as it was written, and nothing else is.
func FuzzMounts(f *testing.F) {
	for _, s := range []string{"/", "/srv/app", "/a b", "/a\\040b", "/tab\t", "/new\nline", "/ä", "/ - x", "/#", "/\xff"} {
		f.Add(s, s)
	}
	escape := func(s string) string {
		return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(s)
	}
	f.Fuzz(func(t *testing.T, root, point string) {
		_, _ = parseMounts([]byte(root))
		point = "/" + point
		text := fmt.Sprintf("36 35 98:0 %s %s rw master:1 - ext3 %s rw\n", escape(root), escape(point), escape(root))
		got, err := parseMounts([]byte(text + text))
		if err != nil || len(got) != 2 {
			t.Fatalf("%q: %+v, %v", text, got, err)
		}
		if want := (mount{36, "98:0", strings.TrimSuffix(root, "//deleted"), point, "rw"}); got[1] != want {
			t.Errorf("%+v, want %+v", got[1], want)
		}
	})
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		p, dir, rest string
		in           bool
	}{
		{"/a", "/a", ".", true},
		{"/a/b/c", "/a", "b/c", true},
		{"/a", "/", "a", true},
		{"/", "/", ".", true},
		{"/ab", "/a", "", false},
		{"/a", "/a/b", "", false},
		{"/", "/a", "", false},
		{"", "/a", "", false},
	} {
		if rest, in := within(c.p, c.dir); in != c.in || in && rest != c.rest {
			t.Errorf("within(%s, %s) = %q, %t", c.p, c.dir, rest, in)
		}
	}
}

// A place has a path through each mount that shows it.
func TestNamesOfAPlace(t *testing.T) {
	mounts := []mount{
		{1, "8:1", "/", "/", ""},
		{2, "8:1", "/data/app", "/srv/app", ""},
		{3, "8:1", "/data/app/releases", "/x", ""},
		{4, "8:1", "/data/app/releases/v1", "/y", ""},
		{5, "8:2", "/data", "/z", ""},
		{6, "8:1", "/dat", "/w", ""},
	}
	if d := cmp.Diff([]string{"/data/app/releases", "/srv/app/releases", "/x"}, place{"8:1", "/data/app/releases"}.names(mounts)); d != "" {
		t.Error(d)
	}
}

// The kernel's own file is understood, and tells where a directory is.
func TestLocate(t *testing.T) {
	mounts, err := readMounts("/proc/self/mountinfo")
	assert.OK(t, err)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	assert.OK(t, err)
	d, err := openDir(dir)
	assert.OK(t, err)
	defer d.Close()
	p, err := locate(d, dir, mounts)
	if err != nil || p.device == "" {
		t.Fatalf("%+v, %v", p, err)
	}
	found := false
	for _, name := range p.names(mounts) {
		found = found || name == dir
	}
	if !found {
		t.Errorf("%s is at %+v, which is called %q", dir, p, p.names(mounts))
	}
	if _, err := locate(d, dir, nil); err == nil || !strings.Contains(err.Error(), "cannot tell which mount") {
		t.Errorf("without mounts: %v", err)
	}
	if _, err := readMounts(filepath.Join(dir, "gone")); !os.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}
