package nginx

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/gate/proxy"
	"deploygate/scripts/assert"
)

const refused = `2026/11/21 05:51:30 [error] 12#12: *3 connect() to unix:/run/g.sock failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: _, request: "GET /pay?token=secret HTTP/1.1", upstream: "http://unix:/run/g.sock:/pay?token=secret", host: "localhost"`

func TestParseEntry(t *testing.T) {
	at := time.Date(2026, 11, 21, 5, 51, 30, 0, time.Local)
	const head = "2026/11/21 05:51:30 "
	for _, c := range []struct {
		name, line string
		want       proxy.Entry // without Raw, but where it matters
	}{
		{
			"an upstream that is gone", refused,
			proxy.Entry{
				Level: "error", Text: "connect() to unix:/run/g.sock failed (2: No such file or directory)", While: "connecting to upstream", Errno: 2,
				Server: "_", Request: "GET /pay?… HTTP/1.1", Upstream: "http://unix:/run/g.sock:/pay?…", Host: "localhost",
				Raw: `2026/11/21 05:51:30 [error] 12#12: *3 connect() to unix:/run/g.sock failed (2: No such file or directory) while connecting to upstream, client: 127.0.0.1, server: _, request: "GET /pay?… HTTP/1.1", upstream: "http://unix:/run/g.sock:/pay?…", host: "localhost"`,
			},
		},
		{
			"a time-out", head + `[error] 12#12: *3 upstream timed out (110: Connection timed out) while reading response header from upstream, client: ::1, server: shop.example, request: "GET / HTTP/2.0", upstream: "http://127.0.0.1:8000/", host: "shop.example", referrer: "https://shop.example/?secret"`,
			proxy.Entry{
				Level: "error", Text: "upstream timed out (110: Connection timed out)", While: "reading response header from upstream", Errno: 110,
				Server: "shop.example", Request: "GET / HTTP/2.0", Upstream: "http://127.0.0.1:8000/", Host: "shop.example",
				Raw: head + `[error] 12#12: *3 upstream timed out (110: Connection timed out) while reading response header from upstream, client: ::1, server: shop.example, request: "GET / HTTP/2.0", upstream: "http://127.0.0.1:8000/", host: "shop.example", referrer: "https://shop.example/?…"`,
			},
		},
		{
			"no errno", head + `[error] 1#1: *3 upstream prematurely closed connection while reading response header from upstream, client: unix:, server: , request: "GET / HTTP/1.1", subrequest: "/auth?secret", upstream: "http://unix:/g.sock/", host: "a"`,
			proxy.Entry{Level: "error", Text: "upstream prematurely closed connection", While: "reading response header from upstream", Request: "GET / HTTP/1.1", Upstream: "http://unix:/g.sock/", Host: "a"},
		},
		{"no connection", head + "[emerg] 9#9: bind() to 0.0.0.0:80 failed (98: Address already in use)", proxy.Entry{Level: "emerg", Text: "bind() to 0.0.0.0:80 failed (98: Address already in use)", Errno: 98}},
		{"no tail", head + "[notice] 9#9: using the \"epoll\" event method while it lasts", proxy.Entry{Level: "notice", Text: `using the "epoll" event method while it lasts`}},
		{
			"a file", head + `[error] 9#9: *1 open() "/srv/x" failed (13: Permission denied), client: 10.0.0.1, server: a, request: "GET /x HTTP/1.1", host: "a"`,
			proxy.Entry{Level: "error", Text: `open() "/srv/x" failed (13: Permission denied)`, Errno: 13, Server: "a", Request: "GET /x HTTP/1.1", Host: "a"},
		},
		{"a socket of another kind", head + "[crit] 9#9: *1 SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share) while SSL handshaking, client: 10.0.0.1, server: 0.0.0.0:443", proxy.Entry{Level: "crit", Text: "SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share)", While: "SSL handshaking", Server: "0.0.0.0:443"}},
		{"what a client sends in a field that comes last", head + `[error] 9#9: *1 x while y, client: a, server: b, request: "GET / HTTP/1.1", host: "c", referrer: "", upstream: "http://evil/"`, proxy.Entry{Level: "error", Text: "x", While: "y", Server: "b", Request: "GET / HTTP/1.1", Host: "c"}},
		{"a query with quotes and spaces", head + `[error] 9#9: *1 x while y, client: a, server: b, request: "GET /?a="secret", x: "secret secret HTTP/1.1", host: "c"`, proxy.Entry{Level: "error", Text: "x", While: "y", Server: "b", Request: "GET /?… HTTP/1.1", Host: "c"}},
		{"cut off by nginx", head + `[error] 9#9: *1 x while y, client: a, server: b, request: "GET /?secret`, proxy.Entry{Level: "error", Text: "x", While: "y", Server: "b", Request: `"GET /?…`}},
		{"a query in the message", head + `[info] 9#9: *1 client sent invalid request: "GET /?secret HTTP/1.1", client: a`, proxy.Entry{Level: "info", Text: `client sent invalid request: "GET /?… HTTP/1.1"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := parseEntry(c.line)
			c.want.At = at
			if c.want.Raw == "" {
				c.want.Raw = got.Raw
			}
			if d := cmp.Diff(c.want, got); d != "" || !ok || strings.Contains(got.Raw, "secret") || !strings.HasPrefix(got.Raw, head) {
				t.Error(ok, d, got.Raw)
			}
		})
	}
}

func TestOtherLinesAreNoEntries(t *testing.T) {
	for _, line := range []string{
		"", "x", "2026/11/21", "2026/13/21 05:51:30 [error] 1#1: x", "2026/11/21 05:51:30 [worse] 1#1: x", "2026/11/21 05:51:30 [error] x",
		`127.0.0.1 - - [21/Nov/2026:05:51:30 +0000] "GET / HTTP/1.1" 200 1`, "\x00\x00" + refused, "  " + refused,
	} {
		if e, ok := parseEntry(line); ok {
			t.Errorf("%q: %+v", line, e)
		}
	}
}

func TestEntriesAreBounded(t *testing.T) {
	e, ok := parseEntry(refused[:40] + strings.Repeat("x", 1<<20) + refused[40:])
	if !ok || len(e.Text) != maxText || len(e.Raw) != maxRaw || e.While != "connecting to upstream" || e.Errno != 2 {
		t.Errorf("%v, %d, %d, %q", ok, len(e.Text), len(e.Raw), e.While)
	}
}

// moment is the time of the first line that a test writes.
var moment = time.Date(2026, 11, 21, 5, 0, 0, 0, time.Local)

// logged writes n lines, one each second from the given one on; the text is the second.
func logged(from, n int) string {
	var b strings.Builder
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, "%s [error] 1#1: *%d line %d\n", moment.Add(time.Duration(i)*time.Second).Format(logTime), i, i)
	}
	return b.String()
}

// texts says which lines entries are of: "3 4 5".
func texts(entries []proxy.Entry) string {
	var numbers []string
	for _, e := range entries {
		numbers = append(numbers, strings.TrimPrefix(e.Text, "line "))
	}
	return strings.Join(numbers, " ")
}

func packed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, text)
	assert.OK(t, err)
	assert.OK(t, w.Close())
	return b.String()
}

func TestReadErrorLog(t *testing.T) {
	long := strings.Repeat("y", 3*maxLine)
	for _, c := range []struct {
		name  string
		files map[string]string // by what follows the log's name
		since int
		limit int
		want  string
	}{
		{"an empty file", map[string]string{"": ""}, 0, 9, ""},
		{"all of it", map[string]string{"": logged(0, 3)}, -9, 9, "0 1 2"},
		{"from a second on", map[string]string{"": logged(0, 9)}, 6, 9, "6 7 8"},
		{"nothing so young", map[string]string{"": logged(0, 9)}, 60, 9, ""},
		{"the last ones", map[string]string{"": logged(0, 9)}, -9, 2, "7 8"},
		{"none wanted", map[string]string{"": logged(0, 9)}, -9, 0, ""},
		{"no newline at the end", map[string]string{"": strings.TrimSuffix(logged(0, 2), "\n")}, -9, 9, "0 1"},
		{"lines that are none", map[string]string{"": "a\n" + logged(0, 1) + "\n\x00\xff\x1b[2J\n  File \"x\"\n" + logged(1, 1) + "b"}, -9, 9, "0 1"},
		{"Windows' newlines", map[string]string{"": strings.ReplaceAll(logged(0, 2), "\n", "\r\n")}, -9, 9, "0 1"},
		{"workers that write out of order", map[string]string{"": logged(5, 1) + logged(4, 1) + logged(6, 1)}, 5, 9, "5 6"},
		{"a long line", map[string]string{"": logged(0, 1) + long + "\n" + logged(1, 1)}, -9, 9, "0 1"},
		{"more than a block", map[string]string{"": logged(0, 3000)}, 2998, 9, "2998 2999"},
		{"blocks with long lines", map[string]string{"": strings.Repeat(logged(0, 1)+long+"\n", 20)}, -9, 19, strings.TrimSpace(strings.Repeat("0 ", 19))},
		{"the file before", map[string]string{"": logged(2, 2), ".1": logged(0, 2)}, -9, 9, "0 1 2 3"},
		{"the file before, in part", map[string]string{"": logged(2, 2), ".1": logged(0, 2)}, 1, 9, "1 2 3"},
		{"enough without it", map[string]string{"": logged(2, 2), ".1": logged(0, 2)}, -9, 2, "2 3"},
		{"old enough without it", map[string]string{"": logged(0, 9), ".1": logged(0, 2)}, 7, 9, "7 8"},
		{"just rotated", map[string]string{"": "", ".1": logged(0, 9)}, 7, 9, "7 8"},
		{"packed", map[string]string{"": logged(2, 2), ".1.gz": packed(t, "x\n"+logged(0, 2)+strings.TrimSuffix(long, "y"))}, 1, 9, "1 2 3"},
		{"packed, the last of them", map[string]string{"": logged(9, 1), ".1.gz": packed(t, logged(0, 9))}, -9, 4, "6 7 8 9"},
		{"packed, all but full", map[string]string{"": logged(9, 1), ".1.gz": packed(t, logged(0, 9))}, -9, 10, "0 1 2 3 4 5 6 7 8 9"},
		{"plain before packed", map[string]string{"": logged(4, 1), ".1": logged(2, 2), ".1.gz": packed(t, logged(2, 2)), ".2.gz": packed(t, logged(0, 2))}, -9, 9, "0 1 2 3 4"},
		{"not a third", map[string]string{"": logged(4, 1), ".1": logged(3, 1), ".2": logged(2, 1), ".3": logged(1, 1)}, -9, 9, "2 3 4"},
		{"a gap", map[string]string{"": logged(4, 1), ".2": logged(2, 1)}, -9, 9, "4"},
		{"packed, damaged", map[string]string{"": logged(4, 1), ".1.gz": packed(t, logged(0, 999))[:900], ".2": logged(0, 1)}, -9, 9, "4"},
		{"packed, not at all", map[string]string{"": logged(4, 1), ".1.gz": "x"}, -9, 9, "4"},
		{"packed, too large", map[string]string{"": logged(4, 1), ".1.gz": packed(t, logged(0, 1)+strings.Repeat("\x00", maxUnpacked))}, -9, 9, "4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "error.log")
			for suffix, text := range c.files {
				assert.OK(t, os.WriteFile(log+suffix, []byte(text), 0o644))
				rotated := moment.Add(time.Hour)
				assert.OK(t, os.Chtimes(log+suffix, rotated, rotated))
			}
			got, err := ReadErrorLog(t.Context(), log, moment.Add(time.Duration(c.since)*time.Second+500*time.Millisecond), c.limit)
			if err != nil || texts(got) != c.want {
				t.Errorf("%q, %v; want %q", texts(got), err, c.want)
			}
		})
	}
}

func TestAnOlderFileThatIsTooOldIsNotRead(t *testing.T) {
	for _, suffix := range []string{".1", ".1.gz"} {
		log := filepath.Join(t.TempDir(), "error.log")
		assert.OK(t, os.WriteFile(log, []byte(logged(5, 1)), 0o644))
		text := logged(4, 1) // younger than the file says: it was not read
		if suffix == ".1.gz" {
			text = packed(t, text)
		}
		assert.OK(t, os.WriteFile(log+suffix, []byte(text), 0o644))
		old := moment.Add(-time.Hour)
		assert.OK(t, os.Chtimes(log+suffix, old, old))
		if got, err := ReadErrorLog(t.Context(), log, moment, 9); err != nil || texts(got) != "5" {
			t.Errorf("%s: %q, %v", suffix, texts(got), err)
		}
	}
}

func TestAFileThatIsRotatedMeanwhileIsReadOnce(t *testing.T) {
	log := filepath.Join(t.TempDir(), "error.log")
	assert.OK(t, os.WriteFile(log, []byte(logged(5, 1)), 0o644))
	assert.OK(t, os.Link(log, log+".1"))
	if got, err := ReadErrorLog(t.Context(), log, moment, 9); err != nil || texts(got) != "5" {
		t.Errorf("%q, %v", texts(got), err)
	}
}

func TestALinkIsFollowed(t *testing.T) {
	dir := t.TempDir()
	assert.OK(t, os.WriteFile(filepath.Join(dir, "log"), []byte(logged(5, 1)), 0o644))
	assert.OK(t, os.Symlink("log", filepath.Join(dir, "error.log")))
	if got, err := ReadErrorLog(t.Context(), filepath.Join(dir, "error.log"), moment, 9); err != nil || texts(got) != "5" {
		t.Errorf("%q, %v", texts(got), err)
	}
}

func TestWhatIsNoLogIsAnError(t *testing.T) {
	dir := t.TempDir()
	assert.OK(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	assert.OK(t, os.WriteFile(filepath.Join(dir, "denied"), nil, 0))
	for _, c := range []struct {
		name, want string
		is         error
	}{
		{"gone", "cannot read " + dir + "/gone: no such file or directory", fs.ErrNotExist},
		{"fifo", "cannot read " + dir + "/fifo: it is not a regular file", nil},
		{"", "cannot read " + dir + "/: it is not a regular file", nil},
		{"denied", "cannot read " + dir + "/denied: permission denied", fs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "denied" && os.Geteuid() == 0 {
				t.Skip("root may read everything")
			}
			_, err := ReadErrorLog(t.Context(), dir+"/"+c.name, moment, 9)
			if err == nil || err.Error() != c.want || c.is != nil && !errors.Is(err, c.is) {
				t.Error(err)
			}
		})
	}
}

// counted counts the bytes that are read of it.
type counted struct {
	io.ReaderAt
	bytes int
	err   error
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += n
	return n, err
}

func TestLargeFilesAreReadInPart(t *testing.T) {
	const size = 200 << 20
	file := filepath.Join(t.TempDir(), "error.log")
	f, err := os.Create(file)
	assert.OK(t, err)
	defer f.Close()
	dense := logged(0, 2000)
	for _, c := range []struct {
		name  string
		tail  string
		since int
		limit int
		want  int // entries
		most  int // bytes
	}{
		{"no lines at all", "", 0, 9, 0, maxRead},
		{"old ones", dense, 9999, 9, 0, logBlock},
		{"as many as are wanted", dense, 0, 10, 10, logBlock},
		{"younger ones than can be read", strings.Repeat(dense, 100), 0, 1 << 20, 120_000, maxRead},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.OK(t, f.Truncate(0))
			assert.OK(t, f.Truncate(size)) // of zeros, which are no line
			_, err := f.WriteAt([]byte("\n"+c.tail), size)
			assert.OK(t, err)
			info, err := f.Stat()
			assert.OK(t, err)
			r := &counted{ReaderAt: f}
			l := &logReader{ctx: t.Context(), since: moment.Add(time.Duration(c.since) * time.Second), limit: c.limit, budget: maxRead}
			assert.OK(t, l.plain(r, info.Size()))
			if !l.done || r.bytes > c.most || len(l.found) < c.want || c.want == 0 && len(l.found) > 0 {
				t.Errorf("%v, %d bytes read, %d entries", l.done, r.bytes, len(l.found))
			}
		})
	}
}

func TestReadErrorsAreKept(t *testing.T) {
	l := &logReader{ctx: t.Context(), limit: 9, budget: maxRead}
	if err := l.plain(&counted{err: &fs.PathError{Err: unix.EIO}}, 9); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
}

func TestAFileThatIsCutShortMeanwhile(t *testing.T) {
	l := &logReader{ctx: t.Context(), since: moment, limit: 9, budget: maxRead}
	assert.OK(t, l.plain(strings.NewReader(logged(0, 2)), 1<<20))
	for i, e := range l.found {
		if e.Text != fmt.Sprintf("line %d", 1-i) {
			t.Errorf("%+v", e)
		}
	}
}

func TestItEndsWithTheContext(t *testing.T) {
	log := filepath.Join(t.TempDir(), "error.log")
	assert.OK(t, os.WriteFile(log, []byte(logged(0, 9)), 0o644))
	assert.OK(t, os.WriteFile(log+".1.gz", []byte(packed(t, logged(0, 9))), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ReadErrorLog(ctx, log, moment, 9); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	l := &logReader{ctx: ctx, since: moment, limit: 9}
	l.unpack(strings.NewReader(packed(t, logged(0, 9))))
	if !l.done || len(l.found) != 0 {
		t.Errorf("%+v", l)
	}
}

func TestALogThatIsBeingWritten(t *testing.T) {
	log := filepath.Join(t.TempDir(), "error.log")
	f, err := os.Create(log)
	assert.OK(t, err)
	defer f.Close()
	var wait sync.WaitGroup
	stop := make(chan struct{})
	wait.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = f.WriteString(logged(i, 1))
		}
	})
	for range 50 {
		got, err := ReadErrorLog(t.Context(), log, moment, 100)
		assert.OK(t, err)
		for i := 1; i < len(got); i++ {
			if !got[i].At.Equal(got[i-1].At.Add(time.Second)) {
				t.Fatalf("%v after %v", got[i].At, got[i-1].At)
			}
		}
	}
	close(stop)
	wait.Wait()
}

// FuzzEntry: whatever a line holds, an entry is bounded and no query string of the request is left in it.
func FuzzEntry(f *testing.F) {
	f.Add(refused)
	f.Add("2026/11/21 05:51:30 [emerg] 9#9: bind() to 0.0.0.0:80 failed (98: Address already in use)")
	f.Add(`2026/11/21 05:51:30 [error] 9#9: *1 x while y, client: a, server: b, request: "GET /?a", upstream: "b`)
	f.Fuzz(func(t *testing.T, line string) {
		e, ok := parseEntry(line)
		if !ok {
			if e != (proxy.Entry{}) {
				t.Errorf("%+v", e)
			}
			return
		}
		if len(e.Text) > maxText || len(e.Raw) > maxRaw || e.At.Nanosecond() != 0 || e.Level == "" || e.Errno < 0 {
			t.Errorf("%+v", e)
		}
		for _, field := range []string{e.Request, e.Upstream} {
			if before, after, cut := strings.Cut(field, "?"); cut && len(line) < maxText && !strings.HasPrefix(after, "…") {
				t.Errorf("%q is left of the query after %q", after, before)
			}
		}
		if utf8.ValidString(line) && len(line) < maxText && !strings.Contains(line, "?") && e.Raw != strings.TrimSuffix(line, "\r") {
			t.Errorf("%q became %q", line, e.Raw)
		}
	})
}
