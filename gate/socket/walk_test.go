package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

var stranger = Identity{Name: "www-data", UID: 54321, GID: 54321}

// place makes a directory with a socket that everybody may reach, and says where.
func place(t *testing.T) (dir, sock string) {
	t.Helper()
	top := short(t)
	dir = filepath.Join(top, "run")
	sock = filepath.Join(dir, "app.sock")
	for _, err := range []error{
		os.Chmod(top, 0o755), // for all to enter
		os.Mkdir(dir, 0o755),
		unix.Mknod(sock, unix.S_IFSOCK|0o666, 0), // nobody needs to listen
		unix.Chmod(sock, 0o666),
		os.WriteFile(filepath.Join(dir, "file"), nil, 0o666),
		unix.Chmod(filepath.Join(dir, "file"), 0o666), // whatever the umask is
		os.Symlink("app.sock", filepath.Join(dir, "link")),
		os.Symlink(dir, filepath.Join(top, "abs")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("nowhere", filepath.Join(dir, "dangling")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir, sock
}

func TestReach(t *testing.T) {
	dir, sock := place(t)
	top := filepath.Dir(dir)
	self := Identity{UID: os.Geteuid(), GID: os.Getegid()}
	for _, test := range []struct {
		name, path string
		who        Identity
		dir, sock  uint32 // modes
		want       Walk
	}{
		{"open", sock, stranger, 0o755, 0o666, Walk{IsSocket: true}},
		{"w is all it takes", sock, stranger, 0o711, 0o622, Walk{IsSocket: true}},
		{
			"the directory is closed", sock, stranger, 0o750, 0o666,
			Walk{IsSocket: true, Denied: dir, Need: NeedSearch},
		},
		{
			"the first one denied counts", sock, stranger, 0o750, 0o660,
			Walk{IsSocket: true, Denied: dir, Need: NeedSearch},
		},
		{"the socket is closed", sock, stranger, 0o755, 0o664, Walk{IsSocket: true, Denied: sock, Need: NeedWrite}},
		{"the owner", sock, self, 0o700, 0o600, Walk{IsSocket: true}},
		{"root", sock, Identity{Name: "root"}, 0o700, 0, Walk{IsSocket: true}},
		{"the group", sock, Identity{UID: 54321, GID: 1, Groups: []int{2, self.GID}}, 0o710, 0o620, Walk{IsSocket: true}},
		{
			"the group's class excludes the others'", sock,
			Identity{UID: 54321, GID: self.GID},
			0o755, 0o606,
			Walk{IsSocket: true, Denied: sock, Need: NeedWrite},
		},
		{"missing", dir + "/x/y", stranger, 0o755, 0o666, Walk{Missing: dir + "/x"}},
		{
			"missing behind a closed door", dir + "/x/y", stranger, 0o750, 0o666,
			Walk{Missing: dir + "/x", Denied: dir, Need: NeedSearch},
		},
		{"dangling", dir + "/dangling", stranger, 0o755, 0o666, Walk{Missing: dir + "/nowhere"}},
		{"relative link", dir + "/link", stranger, 0o755, 0o666, Walk{IsSocket: true}},
		{"absolute link", top + "/abs/../run//./link", stranger, 0o755, 0o666, Walk{IsSocket: true}},
		{
			"through a link", top + "/abs/app.sock", stranger, 0o750, 0o666,
			Walk{IsSocket: true, Denied: dir, Need: NeedSearch},
		},
		{"not a socket", dir + "/file", stranger, 0o755, 0o666, Walk{}},
		{"a directory", dir, stranger, 0o757, 0o666, Walk{}},
		{"through a file", dir + "/file/x", stranger, 0o755, 0o666, Walk{Err: dir + "/file is not a directory"}},
		{"a blank after it", sock + " ", stranger, 0o755, 0o666, Walk{Missing: sock + " "}},
		{"a slash after it", sock + "/", stranger, 0o755, 0o666, Walk{Err: sock + " is not a directory"}},
		{
			"loop", dir + "/loop", stranger, 0o755, 0o666,
			Walk{Err: dir + "/loop: more than 40 symlinks, or a loop of them"},
		},
		{"relative", "run/app.sock", stranger, 0o755, 0o666, Walk{Err: "run/app.sock is not an absolute path"}},
		{"empty", "", stranger, 0o755, 0o666, Walk{Err: " is not an absolute path"}},
		{"zero", "/a\x00", stranger, 0o755, 0o666, Walk{Err: `"/a\x00" has a zero byte in it`}},
		{
			"too long", "/" + strings.Repeat("a/", 3000), stranger, 0o755, 0o666,
			Walk{Err: "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a… is too long for a path"},
		},
		{
			"a name too long", "/" + strings.Repeat("a", 256), stranger, 0o755, 0o666,
			Walk{Err: "cannot look at /" + strings.Repeat("a", 256) + ": file name too long"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			modes(t, dir, test.dir, sock, test.sock)
			got := Reach(test.path, test.who)
			test.want.Who = test.who
			ignore := []cmp.Option{cmpopts.IgnoreFields(Walk{}, "Steps"), cmpopts.IgnoreUnexported(Walk{})}
			if diff := cmp.Diff(test.want, got, ignore...); diff != "" {
				t.Errorf("%s\n%v", diff, got)
			}
			if want := got.IsSocket && got.Denied == ""; got.Reachable() != want {
				t.Errorf("Reachable is %v", !want)
			}
		})
	}
}

func modes(t *testing.T, dir string, dirMode uint32, sock string, sockMode uint32) {
	t.Helper()
	for _, err := range []error{unix.Chmod(sock, sockMode), unix.Chmod(dir, dirMode)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The kernel follows 40 symlinks and no more; TestKernelAgrees has no chain that long.
func TestManyLinks(t *testing.T) {
	dir, sock := place(t)
	last := sock
	for i := range 41 {
		link := fmt.Sprint(dir, "/", i)
		if err := os.Symlink(last, link); err != nil {
			t.Fatal(err)
		}
		last = link
		w := Reach(link, stranger)
		if _, err := os.Stat(link); (err == nil) != w.Reachable() || w.Reachable() != (i < 40) {
			t.Errorf("%d links: stat says %v, %v", i+1, err, w)
		}
	}
}

func TestEnd(t *testing.T) {
	dir, sock := place(t)
	if got := Reach(filepath.Dir(dir)+"/abs/link", stranger).End(); got != sock {
		t.Errorf("got %q, want %q", got, sock)
	}
	if got := Reach(dir+"/missing", stranger).End(); got != "" {
		t.Errorf("got %q of what is missing", got)
	}
}

func TestString(t *testing.T) {
	dir, sock := place(t)
	modes(t, dir, 0o750, sock, 0o660)
	odd := dir + "/a\nb\x1b[31m"
	if err := os.Symlink("file", odd); err != nil {
		t.Fatal(err)
	}
	own := userName(os.Geteuid()) + " " + groupName(os.Getegid())
	top := filepath.Dir(dir)
	for _, test := range []struct {
		path string
		who  Identity
		want []string
	}{
		{top + "/abs/link", stranger, []string{
			"lrwxrwxrwx " + own + " " + top + "/abs -> " + dir,
			"drwxr-x--- " + own + " " + dir + "  <- www-data may not enter",
			"lrwxrwxrwx " + own + " " + dir + "/link -> app.sock",
			"srw-rw---- " + own + " " + sock,
		}},
		{sock, Identity{Name: "app", UID: 54321, GID: 54321, Groups: []int{os.Getegid()}}, []string{
			"drwxr-x--- " + own + " " + dir,
			"srw-rw---- " + own + " " + sock,
		}},
		{dir + "/x/y", Identity{}, []string{
			"drwxr-x--- " + own + " " + dir,
			"? ? ? " + dir + "/x  <- does not exist",
		}},
		{odd, Identity{}, []string{
			"drwxr-x--- " + own + " " + dir,
			`lrwxrwxrwx ` + own + ` "` + dir + `/a\nb\x1b[31m" -> file`,
			"-rw-rw-rw- " + own + " " + dir + "/file  <- is not a socket",
		}},
		{sock + "/", Identity{}, []string{
			"srw-rw---- " + own + " " + sock,
			sock + " is not a directory",
		}},
	} {
		got := strings.Split(Reach(test.path, test.who).String(), "\n")
		for i, line := range got { // columns are as wide as /tmp's owner's name
			note := strings.Index(line, "  <-")
			if note < 0 {
				note = len(line)
			}
			got[i] = strings.Join(strings.Fields(line[:note]), " ") + line[note:]
		}
		tail := got[len(got)-min(len(got), len(test.want)):]
		if !slices.Equal(tail, test.want) {
			t.Errorf("%q: %s", test.path, cmp.Diff(test.want, tail))
		}
	}
}

func TestStepMode(t *testing.T) {
	dir := t.TempDir()
	for mode, want := range map[uint32]string{
		0o1777: "drwxrwxrwt", 0o1776: "drwxrwxrwT", 0o2750: "drwxr-s---", 0o4640: "drwSr-----", 0o6755: "drwsr-sr-x",
	} {
		if err := unix.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		steps := Reach(dir, Identity{}).Steps
		if got := steps[len(steps)-1].mode(); got != want {
			t.Errorf("%o: got %s, want %s", mode, got, want)
		}
	}
	if err := unix.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]byte{"/dev/null": 'c', "/etc/passwd": '-'} {
		steps := Reach(file, Identity{}).Steps
		if got := steps[len(steps)-1].mode()[0]; got != want {
			t.Errorf("%s: got %c, want %c", file, got, want)
		}
	}
}

func TestReachACL(t *testing.T) {
	dir, sock := place(t)
	for _, test := range []struct {
		name string
		a    acl
		mode uint32 // 0: as the ACL makes it
		want bool
	}{
		{"granted", acl{{aclUserObj, 7, noID}, {aclUser, 1, 54321}, {aclGroupObj, 0, noID}, {aclMask, 1, noID}, {aclOther, 0, noID}}, 0, true},
		{"denied", acl{{aclUserObj, 7, noID}, {aclUser, 0, 54321}, {aclGroupObj, 5, noID}, {aclMask, 5, noID}, {aclOther, 5, noID}}, 0, false},
		{"masked", acl{{aclUserObj, 7, noID}, {aclUser, 7, 54321}, {aclGroupObj, 0, noID}, {aclMask, 4, noID}, {aclOther, 5, noID}}, 0, false},
		{"masked by chmod g-x", acl{{aclUserObj, 7, noID}, {aclUser, 7, 54321}, {aclGroupObj, 7, noID}, {aclMask, 7, noID}, {aclOther, 5, noID}}, 0o745, false},
		{"not asked, as the mask is empty", acl{{aclUserObj, 7, noID}, {aclUser, 0, 54321}, {aclGroupObj, 7, noID}, {aclMask, 7, noID}, {aclOther, 5, noID}}, 0o705, true},
		{"group", acl{{aclUserObj, 7, noID}, {aclGroupObj, 0, noID}, {aclGroup, 1, 54321}, {aclMask, 1, noID}, {aclOther, 0, noID}}, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			setACL(t, dir, test.a)
			if test.mode != 0 {
				modes(t, dir, test.mode, sock, 0o666)
			}
			w := Reach(sock, stranger)
			if w.Reachable() != test.want || !test.want && w.Denied != dir {
				t.Errorf("%+v", w)
			}
			if !strings.Contains(w.String(), "+ ") {
				t.Error("the ACL is not shown")
			}
			if os.Geteuid() == 0 { // without root the test can't become another
				if errno := connectAs(t, stranger, []string{sock})[0]; (errno != unix.EACCES) != test.want {
					t.Errorf("the kernel says %v", errno)
				}
			}
		})
	}
}

// An ACL of hundreds of entries doesn't fit the first buffer.
func TestLongACL(t *testing.T) {
	dir, sock := place(t)
	a := acl{{aclUserObj, 7, noID}}
	for uid := range 300 {
		a = append(a, aclEntry{aclUser, 7, 54321 - 299 + uid})
	}
	a = append(a, aclEntry{aclGroupObj, 0, noID}, aclEntry{aclMask, 7, noID}, aclEntry{aclOther, 0, noID})
	if err := unix.Lsetxattr(dir, aclXattr, pack(a), 0); err != nil {
		t.Skip("the file system has no room for it:", err)
	}
	if w := Reach(sock, stranger); !w.Reachable() {
		t.Error(w)
	}
}

// fs.protected_symlinks is the host's setting, and not for a test to change; where it is on, TestKernelAgrees meets it.
func TestProtectedSymlinks(t *testing.T) {
	dir, sock := place(t)
	link, self, other := dir+"/link", os.Geteuid(), 54322
	for _, test := range []struct {
		owner     int // of the link; the directory's is self
		mode      uint32
		who       int
		protected bool
		denied    bool
	}{
		{other, 0o1777, 54321, true, true},
		{other, 0o1777, 0, true, true},
		{self, 0o1777, 54321, true, false},
		{other, 0o1777, other, true, false},
		{other, 0o1777, 54321, false, false},
		{other, 0o0777, 54321, true, false},
		{other, 0o1775, 54321, true, false},
	} {
		if err := os.Lchown(link, test.owner, -1); errors.Is(err, fs.ErrPermission) {
			continue // another user's link takes root
		} else if err != nil {
			t.Fatal(err)
		}
		modes(t, dir, test.mode, sock, 0o666)
		w := reach(link, Identity{UID: test.who, GID: 54321}, test.protected)
		said := w.Denied == link && w.Need == NeedFollow && strings.Contains(w.String(), "may not follow")
		if said != test.denied || w.Reachable() == test.denied {
			t.Errorf("%+v: %+v", test, w)
		}
	}
}

// What this process may not see is no verdict.
func TestUnseen(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root sees everything")
	}
	dir, sock := place(t)
	modes(t, dir, 0, sock, 0o666)
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	w := Reach(sock, Identity{Name: "root"})
	if w.Unseen != sock || w.Denied != "" || w.Missing != "" || w.Reachable() || w.End() != "" {
		t.Errorf("%+v", w)
	}
	if !strings.Contains(w.String(), sock+"  <- deploygate itself may not look at it") {
		t.Error(w)
	}
}
