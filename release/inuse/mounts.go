package inuse

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of a mountinfo file (proc_pid_mountinfo(5)).
type mount struct {
	id      int
	device  string // major:minor of the file system; all subvolumes of a btrfs share one
	root    string // the directory of the file system that is seen there
	point   string // where it is seen, from the reader's root
	options string // of the file system: an overlay names its layers there
}

// mountLimit bounds one mountinfo file, in bytes: a host with 10,000 containers stays below it.
const mountLimit = 16 << 20

// readMounts reads a mountinfo file of /proc.
func readMounts(file string) ([]mount, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, mountLimit+1))
	if err != nil {
		return nil, err
	}
	if len(text) > mountLimit {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, mountLimit)
	}
	return parseMounts(text)
}

// parseMounts takes a mountinfo file apart. A line that isn't understood is an error: what it says of may matter.
func parseMounts(text []byte) (all []mount, err error) {
	for line := range bytes.Lines(text) {
		m, ok := parseMount(string(bytes.TrimSuffix(line, []byte("\n"))))
		if !ok {
			return nil, fmt.Errorf("cannot understand the mount %q", line)
		}
		all = append(all, m)
	}
	return all, nil
}

func parseMount(line string) (m mount, ok bool) {
	// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
	before, after, ok := strings.Cut(line, " - ")
	fields := strings.Split(before, " ")
	if !ok || len(fields) < 6 {
		return m, false
	}
	id, err := strconv.Atoi(fields[0])
	if err != nil {
		return m, false
	}
	m.id, m.device, m.point = id, fields[2], unescape(fields[4])
	// A directory that was removed while it was mounted elsewhere keeps its old name.
	m.root = strings.TrimSuffix(unescape(fields[3]), "//deleted")
	if rest := strings.SplitN(after, " ", 3); len(rest) == 3 {
		m.options = unescape(rest[2])
	}
	return m, m.device != "" && strings.HasPrefix(m.point, "/")
}

// unescape undoes what the kernel does to spaces, tabs, newlines and backslashes: three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for s != "" {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+4 > len(s) {
			break
		}
		b.WriteString(s[:i])
		if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
			b.WriteByte(byte(n))
			s = s[i+4:]
			continue
		}
		b.WriteByte('\\')
		s = s[i+1:]
	}
	return b.String() + s
}

// within returns the path from dir to p, "." for dir itself. Both are clean and absolute.
func within(p, dir string) (rest string, ok bool) {
	if p == dir {
		return ".", true
	}
	if dir != "/" {
		dir += "/"
	}
	rest, ok = strings.CutPrefix(p, dir)
	return rest, ok && rest != ""
}

// place is where a directory really is: a path in a file system, whatever names mounts give it.
type place struct{ device, path string }

// locate finds the place of a directory, which has to be open.
func locate(d *os.File, dir string, mounts []mount) (place, error) {
	id, err := mountID(int(d.Fd()))
	if err != nil {
		return place{}, fmt.Errorf("cannot tell which mount %s is on: %w", dir, err)
	}
	for _, m := range mounts {
		if rest, in := within(dir, m.point); m.id == id && in {
			return place{m.device, path.Join(m.root, rest)}, nil
		}
	}
	return place{}, fmt.Errorf("cannot tell which mount %s is on: none of them has the number %d", dir, id)
}

func mountID(fd int) (int, error) {
	var s unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &s); err != nil {
		return 0, err
	}
	if s.Mask&unix.STATX_MNT_ID == 0 {
		return 0, fmt.Errorf("the kernel doesn't tell (Linux 5.8 and later do)")
	}
	return int(s.Mnt_id), nil //nolint:gosec // the kernel counts them in an int
}

// names returns the paths under which the place is seen through some mounts.
func (p place) names(mounts []mount) (found []string) {
	for _, m := range mounts {
		if rest, in := within(p.path, m.root); m.device == p.device && in {
			found = append(found, path.Join(m.point, rest))
		}
	}
	return found
}
