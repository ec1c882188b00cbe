package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// connector makes the test binary connect to the paths on its standard input and say how that went.
const connector = "DEPLOYGATE_TEST_CONNECT"

func TestMain(m *testing.M) {
	if os.Getenv(connector) == "" {
		os.Exit(m.Run())
	}
	paths, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	for path := range strings.SplitSeq(string(paths), "\x00") {
		fmt.Println(int(tryConnect(path)))
	}
}

func tryConnect(path string) syscall.Errno {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	errno, _ := errors.AsType[syscall.Errno](err)
	return errno
}

// connectAs is what the kernel says to someone else, or to this process itself if it isn't root.
func connectAs(t *testing.T, who Identity, paths []string) []syscall.Errno {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe") // the way to the binary's name may be closed to others
	cmd.Env = []string{connector + "=1", "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(strings.Join(paths, "\x00"))
	cmd.Stderr = os.Stderr
	if os.Geteuid() == 0 {
		c := syscall.Credential{Uid: uint32(who.UID), Gid: uint32(who.GID)} //nolint:gosec // the test's own ids
		for _, gid := range who.Groups {
			c.Groups = append(c.Groups, uint32(gid)) //nolint:gosec // likewise
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &c}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal("the child that connects:", err)
	}
	var errnos []syscall.Errno
	for line := range bytes.Lines(out) {
		n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
		if err != nil {
			t.Fatal(err)
		}
		errnos = append(errnos, syscall.Errno(n))
	}
	if len(errnos) != len(paths) {
		t.Fatalf("%d answers to %d paths", len(errnos), len(paths))
	}
	return errnos
}

// errno is what connect(2) has to say after this walk, if everybody listens.
func (w Walk) errno() syscall.Errno {
	switch {
	case w.Denied != "", w.Unseen != "":
		return unix.EACCES
	case w.Missing != "":
		return unix.ENOENT
	case strings.Contains(w.Err, "not a directory"):
		return unix.ENOTDIR
	case strings.Contains(w.Err, "symlinks"):
		return unix.ELOOP
	case w.Err != "":
		return unix.EINVAL
	case !w.IsSocket:
		return unix.ECONNREFUSED
	}
	return 0
}

var someUIDs = []int{0, 33, 1001, 1002, 65534}

var someGIDs = []int{0, 33, 2001, 2002, 2003, 65534}

// tree is a small random file system.
type tree struct {
	t        *testing.T
	r        *rand.Rand
	dirs     []string
	others   []string // sockets and files
	symlinks []string
	acls     bool
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// name is a new file's path.
func (tr *tree) name() string {
	for {
		name := filepath.Join(pick(tr.r, tr.dirs), pick(tr.r, []string{"a", "b", "c", "d", "e"}))
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

func (tr *tree) grow() {
	for range 1 + tr.r.IntN(6) {
		dir := tr.name()
		tr.must(os.Mkdir(dir, 0o700))
		tr.dirs = append(tr.dirs, dir)
	}
	for range 3 {
		sock := tr.name()
		l := listen(tr.t, "unix", sock)
		l.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:errcheck // it is one
		tr.others = append(tr.others, sock)
	}
	file := tr.name()
	tr.must(os.WriteFile(file, nil, 0o600))
	tr.others = append(tr.others, file)
	for range tr.r.IntN(5) {
		link := tr.name()
		target := pick(tr.r, slices.Concat(tr.dirs, tr.others, tr.symlinks, []string{link, tr.name()}))
		if tr.r.IntN(2) == 0 {
			rel, err := filepath.Rel(filepath.Dir(link), target)
			tr.must(err)
			target = rel
		}
		tr.must(os.Symlink(target+pick(tr.r, []string{"", "", "", "/", "/.", "/..", "/a"}), link))
		tr.symlinks = append(tr.symlinks, link)
	}
}

// path is a way through the trees. One that leads out of them to something that exists is not for a test to connect to.
func (tr *tree) path() string {
	base := filepath.Dir(tr.dirs[0]) + "/"
	for {
		path := tr.stroll()
		if end, err := filepath.EvalSymlinks(path); err != nil || strings.HasPrefix(end+"/", base) {
			return path
		}
	}
}

// stroll goes mostly along what there is.
func (tr *tree) stroll() string {
	at := tr.dirs[0]
	for range 1 + tr.r.IntN(6) {
		next := pick(tr.r, []string{".", "..", "missing", "a", "b"})
		if in, err := os.ReadDir(at); err == nil && len(in) > 0 && tr.r.IntN(5) > 0 {
			next = pick(tr.r, in).Name()
		}
		at += pick(tr.r, []string{"/", "/", "/", "//", "/./"}) + next
		if info, err := os.Stat(at); (err != nil || !info.IsDir()) && tr.r.IntN(8) > 0 {
			break
		}
	}
	return at + pick(tr.r, []string{"", "", "", "", "", "", "/", "/."})
}

// close gives everything random owners and rights, the deepest first.
func (tr *tree) close() {
	for _, link := range tr.symlinks {
		tr.own(link)
	}
	for _, file := range slices.Concat(tr.dirs, tr.others) {
		tr.own(file)
	}
	all := slices.Concat(tr.dirs[1:], tr.others)
	slices.SortFunc(all, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, file := range all {
		tr.chmod(file)
		if tr.acls && tr.r.IntN(3) == 0 {
			tr.must(unix.Lsetxattr(file, aclXattr, pack(tr.acl()), 0))
			if tr.r.IntN(4) == 0 {
				tr.chmod(file) // changes the mask
			}
		}
	}
	tr.must(os.Chmod(tr.dirs[0], 0o755))
}

func (tr *tree) own(file string) {
	if os.Geteuid() == 0 {
		tr.must(os.Lchown(file, pick(tr.r, someUIDs), pick(tr.r, someGIDs)))
	}
}

func (tr *tree) chmod(file string) {
	mode := uint32(0)
	for range 3 {
		mode = mode<<3 | pick(tr.r, []uint32{7, 7, 5, 5, 3, 1, 6, 2, 4, 0})
	}
	if tr.r.IntN(10) == 0 {
		mode = 0o1777
	}
	tr.must(unix.Chmod(file, mode))
}

func (tr *tree) acl() acl {
	perm := func() access { return pick(tr.r, []access{7, 7, 5, 3, 2, 1, 4, 0}) }
	a := acl{{aclUserObj, perm(), noID}}
	for _, uid := range someUIDs[1:] {
		if tr.r.IntN(3) == 0 {
			a = append(a, aclEntry{aclUser, perm(), uid})
		}
	}
	a = append(a, aclEntry{aclGroupObj, perm(), noID})
	for _, gid := range someGIDs {
		if tr.r.IntN(4) == 0 {
			a = append(a, aclEntry{aclGroup, perm(), gid})
		}
	}
	return append(a, aclEntry{aclMask, perm(), noID}, aclEntry{aclOther, perm(), noID})
}

func (tr *tree) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

// grant gives the test its rights back, so that it can clean up.
func (tr *tree) grant() {
	for _, dir := range tr.dirs {
		_ = os.Chmod(dir, 0o700)
	}
}

// hasACLs reports whether a directory's file system has them.
func hasACLs(dir string) bool {
	a := acl{{aclUserObj, 7, noID}, {aclGroupObj, 5, noID}, {aclOther, 5, noID}}
	return unix.Lsetxattr(dir, aclXattr, pack(a), 0) == nil
}

// The walk's verdict is the kernel's, in hundreds of random trees, for several identities. Without root the only
// identity is the test's own.
func TestKernelAgrees(t *testing.T) {
	const trees, pathsEach = 200, 10
	base := short(t)
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	acls := hasACLs(base)
	if !acls {
		t.Log("without ACLs: the file system has none")
	}
	var paths []string
	for i := range trees {
		root := filepath.Join(base, strconv.Itoa(i))
		tr := tree{t: t, r: rand.New(rand.NewPCG(1, uint64(i))), dirs: []string{root}, acls: acls} //nolint:gosec // repeatable
		tr.must(os.Mkdir(root, 0o700))
		tr.grow()
		for range pathsEach {
			if path := tr.path(); len(path) < maxSunPath {
				paths = append(paths, path)
			}
		}
		tr.close()
		t.Cleanup(tr.grant)
	}
	compare(t, paths)
}

func compare(t *testing.T, paths []string) {
	self, err := OfProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	who := []Identity{self}
	if os.Geteuid() == 0 {
		who = []Identity{
			{"root", 0, 0, nil},
			{"nobody", 65534, 65534, nil},
			{"nobody in root's group", 65534, 0, nil},
			{"www-data", 33, 33, []int{2002, 33}},
			{"one", 1001, 2001, []int{2002}},
			{"one by other groups", 1001, 2003, nil},
			{"two", 1002, 2002, []int{2001, 2003}},
			{"stranger", 4000, 4000, []int{4001}},
		}
	} else {
		t.Log("for one identity only: without root the test can't become another")
	}
	seen := map[syscall.Errno]int{}
	for _, id := range who {
		for i, kernel := range connectAs(t, id, paths) {
			seen[kernel]++
			w := Reach(paths[i], id)
			if w.errno() != kernel || w.Reachable() != (kernel == 0) {
				t.Errorf("%s to %s: the kernel says %d (%v), Reach %+v\n%v", id, paths[i], kernel, kernel, w, w)
			}
		}
	}
	t.Log(len(paths), "paths:", seen)
	for _, errno := range []syscall.Errno{0, unix.EACCES, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ECONNREFUSED} {
		if seen[errno] == 0 {
			t.Errorf("no path gives %v: that proves less than it should", errno)
		}
	}
}
