package untrusted

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, file, text string, mode fs.FileMode) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// open returns a directory that every user may enter: those of testing are closed.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "untrusted")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("fifo", link); err != nil {
		t.Fatal(err)
	}
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(sock) }()
	if err := unix.Bind(sock, &unix.SockaddrUnix{Name: filepath.Join(dir, "sock")}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fifo, link, dir, filepath.Join(dir, "sock"), "/dev/null", "/dev/tty"} {
		if _, _, err := ReadFile(file, 10, nil); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "gone"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadingIsBounded(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "0123456789", 0o600)
	for _, c := range []struct {
		limit int64
		want  string
		more  bool
	}{{4, "0123", true}, {10, "0123456789", false}, {20, "0123456789", false}} {
		if got, more, err := ReadFile(file, c.limit, nil); string(got) != c.want || more != c.more || err != nil {
			t.Errorf("%d: %q %v %v", c.limit, got, more, err)
		}
	}
}

func TestAFileIsReadWithTheRightsOfItsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can take another user's rights")
	}
	dir := openDir(t)
	ofRoot, ofGroup := write(t, filepath.Join(dir, "root"), "root's", 0o600), write(t, filepath.Join(dir, "group"), "group's", 0o640)
	if err := os.Chown(ofGroup, 0, 4711); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"planted", "roots"} {
		if err := os.Symlink("root", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Lchown(filepath.Join(dir, "planted"), 4712, 4712); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(closed, "f"), "behind it", 0o644)
	stranger, member := &User{UID: 4712, GID: 4712}, &User{UID: 4712, GID: 4712, Groups: []int{4711}}
	for _, c := range []struct {
		name string
		as   *User
		may  bool
	}{
		{"root", nil, true},
		{"roots", nil, true},
		{"planted", nil, false},
		{"root", &User{}, true},
		{"planted", &User{}, true},
		{"root", stranger, false},
		{"group", stranger, false},
		{"group", member, true},
		{"closed/f", member, false},
		{"closed/f", nil, true},
	} {
		_, _, err := ReadFile(filepath.Join(dir, c.name), 10, c.as)
		if (err == nil) != c.may || err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s as %+v: %v", c.name, c.as, err)
		}
	}
	if _, err := os.ReadFile(ofRoot); err != nil {
		t.Errorf("the process has lost its own rights: %v", err)
	}
}

func TestALoopOfLinksEnds(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("b", filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "a"), nil); !errors.Is(err, syscall.ELOOP) {
		t.Error(err)
	}
}

// A look that doesn't come back is left behind, and so is whatever lies beside it, until it has.
func TestAFileSystemThatDoesNotAnswer(t *testing.T) {
	answer := make(chan struct{})
	discarded := make(chan string)
	look := func() (string, error) { <-answer; return "late", nil }
	_, err := within("/hung/dir/file", time.Millisecond, look, func(s string) { discarded <- s })
	if slow := new(SlowError); !errors.As(err, &slow) {
		t.Fatal(err)
	}
	for path, isIn := range map[string]bool{"/hung/dir/other": true, "/hung/dir": true, "/hung/dir/x/y": true, "/hung/directory": false, "/hung": false} {
		if isStuck(path) != isIn {
			t.Errorf("%s: %v", path, !isIn)
		}
	}
	close(answer)
	if s := <-discarded; s != "late" {
		t.Errorf("%q", s)
	}
	for isStuck("/hung/dir/other") {
		select { // until the other goroutine has said so
		case <-t.Context().Done():
			t.Fatal("it stays stuck")
		default:
		}
	}
}
