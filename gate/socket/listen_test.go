package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// short makes a directory whose path leaves room for a socket's name: t.TempDir() may be longer than sun_path.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sock") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(context.Background(), l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// raw shows a socket's rows as the kernel writes them.
func raw(t *testing.T, file, part string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, part) {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func one(t *testing.T, l net.Listener) Listener {
	t.Helper()
	all, err := Listeners("")
	if err != nil {
		t.Fatal(err)
	}
	found := Serving(all, l.Addr().Network(), l.Addr().String())
	if len(found) != 1 {
		t.Fatalf("%v: %d listeners", l.Addr(), len(found))
	}
	return found[0]
}

// The kernel's own rows through the life of three connections.
func TestCounts(t *testing.T) {
	for _, test := range []struct{ network, addr, file string }{
		{"unix", filepath.Join(short(t), "s"), "/proc/net/unix"},
		{"unix", filepath.Join(short(t), "a b\nc\r"), "/proc/net/unix"},
		{"tcp", "127.0.0.1:0", "/proc/net/tcp"},
		{"tcp", "[::1]:0", "/proc/net/tcp6"},
	} {
		t.Run(fmt.Sprintf("%q", test.addr), func(t *testing.T) {
			l := listen(t, test.network, test.addr)
			part := l.Addr().String()
			if tcp, ok := l.Addr().(*net.TCPAddr); ok {
				part = fmt.Sprintf(":%04X", tcp.Port)
			}
			want := func(when string, waiting, accepted int) {
				t.Helper()
				if got := one(t, l); got.Waiting != waiting || got.Accepted != accepted || got.Inode == 0 {
					raw(t, test.file, part)
					t.Errorf("%s: got %+v, want %d waiting and %d accepted", when, got, waiting, accepted)
				}
			}
			want("nobody", 0, 0)
			first, second, third := dial(t, l), dial(t, l), dial(t, l)
			want("three connected", 3, 0)
			server := accept(t, l)
			want("one accepted", 2, 1)
			third.Close()
			want("a waiting client has gone", 2, 1)
			first.Close()
			want("the accepted client has gone", 2, 1)
			server.Close()
			want("the server has closed too", 2, 0)
			accept(t, l)
			want("another accepted", 1, 1)
			second.Close()
			accept(t, l).Close()
			want("the one whose client had gone accepted and closed", 0, 1)
		})
	}
}

func TestDualStack(t *testing.T) {
	l := listen(t, "tcp", "[::]:0")
	_, port, _ := net.SplitHostPort(l.Addr().String())
	var d net.Dialer
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		c, err := d.DialContext(context.Background(), "tcp", host+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		accept(t, l)
	}
	if got := one(t, l); got.Accepted != 2 {
		t.Error(got)
	}
}

const unixTable = `Num       RefCount Protocol Flags    Type St Inode Path
ffff8880057f8c00: 00000003 00000000 00000000 0001 03 12346 /run/a.sock
ffff8880057f8c00: 00000002 00000000 00010000 0001 01 12345 /run/a.sock
ffff8880057f8c00: 00000003 00000000 00000000 0001 02     0 /run/a.sock
ffff8880057f8c00: 00000003 00000000 00000000 0001 03 12347
ffff8880057f8c00: 00000002 00000000 00010000 0001 01 12348 @/abstract
goes on
ffff8880057f8c00: 00000002 00000000 00010000 0005 01 12349 /run/seqpacket
ffff8880057f8c00: 00000002 00000000 00000000 0002 01 12350 /dev/log
c57f8c00: 00000002 00000000 00010000 0001 01    51 /run/with blanks 
and a newline

0: 1234
0000000000000000: 00000002 00000000 00010000 0001 01 12345678901 relative
0000000000000000: 00000002 00000000 00010000 0001 01 12352 /run/bound twice
0000000000000000: 00000002 00000000 00010000 0001 01 12353 /run/bound twice
0000000000000000: 00000003 00000000 00000000 0001 02     0 /run/bound twice
`

func TestUnixTable(t *testing.T) {
	got, err := unixListeners(strings.NewReader(unixTable))
	want := []Listener{
		{"unix", "/run/a.sock", 12345, 1, 1},
		{"unix", "/run/with blanks \nand a newline\n\n0: 1234", 51, 0, 0},
		{"unix", "relative", 12345678901, 0, 0},
		{"unix", "/run/bound twice", 12352, 1, 0},
		{"unix", "/run/bound twice", 12353, 1, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// failing is a file whose reading fails after all.
type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestPartlyRead(t *testing.T) {
	got, err := unixListeners(failing{strings.NewReader(unixTable)})
	if len(got) != 5 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(got, err)
	}
}

func TestLongLines(t *testing.T) {
	var got []int
	table := strings.NewReader("a\n" + strings.Repeat("x", 1<<20) + "\nb\r\nend")
	if err := eachLine(table, func(line string) { got = append(got, len(line)) }); err != nil {
		t.Fatal(err)
	}
	if want := []int{1, 4096, 2, 3}; !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestServing(t *testing.T) {
	tcp := func(addrs ...string) (all []Listener) {
		for i, addr := range addrs {
			all = append(all, Listener{Network: "tcp", Addr: addr, Inode: uint64(i + 1)})
		}
		return all
	}
	for _, test := range []struct {
		all  []Listener
		addr string
		want []uint64
	}{
		{tcp("0.0.0.0:8000", "[::]:8001"), "127.0.0.1:8000", []uint64{1}},
		{tcp("0.0.0.0:8000", "[::]:8001"), "127.0.0.1:8001", []uint64{2}},
		{tcp("0.0.0.0:8000", "[::]:8000"), "127.0.0.1:8000", []uint64{1}},
		{tcp("0.0.0.0:8000", "[::]:8000"), "[::1]:8000", []uint64{2}},
		{tcp("0.0.0.0:8000", "[::]:8000"), "localhost:8000", []uint64{1}},
		{tcp("0.0.0.0:8000", "127.0.0.1:8000", "127.0.0.1:8000"), "127.0.0.1:8000", []uint64{2, 3}},
		{tcp("127.0.0.1:8000", "[::1]:8000"), "localhost:8000", []uint64{1, 2}},
		{tcp("127.0.0.1:8000"), "0.0.0.0:8000", []uint64{1}},
		{tcp("127.0.0.1:8000"), ":8000", []uint64{1}},
		{tcp("[::1]:8000"), "[::]:8000", []uint64{1}},
		{tcp("127.0.0.1:8000"), "[::ffff:127.0.0.1]:8000", []uint64{1}},
		{tcp("0.0.0.0:8000"), "[::1]:8000", nil},
		{tcp("127.0.0.1:8000"), "127.0.0.2:8000", nil},
		{tcp("[fe80::1]:8000"), "[fe80::1%eth0]:8000", []uint64{1}},
		{tcp("127.0.0.1:8000"), "app.example:8000", nil},
		{tcp("127.0.0.1:8000"), "127.0.0.1:http", nil},
		{tcp("127.0.0.1:8000"), "127.0.0.1", nil},
	} {
		var got []uint64
		for _, l := range Serving(test.all, "tcp", test.addr) {
			got = append(got, l.Inode)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.addr, got, test.want)
		}
	}
	l := []Listener{{Network: "unix", Addr: "/run/../run/a.sock"}}
	if len(Serving(l, "unix", "/run//a.sock")) == 0 || len(Serving(l, "unix", "/run/b.sock")) > 0 || len(Serving(l, "unix", "")) > 0 || len(Serving(l, "tcp", "127.0.0.1:80")) > 0 {
		t.Error("a path is not compared as it should be")
	}
}

// Which of two listeners the kernel chooses is as Serving has it.
func TestServingAsTheKernel(t *testing.T) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
				t.Error(err)
			}
		})
	}}
	config.SetMultipathTCP(false)
	bind := func(network, addr string) net.Listener {
		l, err := config.Listen(context.Background(), network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	six := bind("tcp", "[::]:0")
	_, port, _ := net.SplitHostPort(six.Addr().String())
	four := bind("tcp4", "0.0.0.0:"+port)
	loopback := bind("tcp4", "127.0.0.1:"+port)
	for to, want := range map[string]net.Listener{"127.0.0.1": loopback, "127.0.0.2": four, "::1": six} {
		addr := net.JoinHostPort(to, port)
		var d net.Dialer
		c, err := d.DialContext(context.Background(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all, err := Listeners("")
		if err != nil {
			t.Fatal(err)
		}
		got := Serving(all, "tcp", addr)
		if len(got) != 1 || got[0].Addr != want.Addr().String() || got[0].Waiting != 1 {
			t.Errorf("%s: got %+v, want %v", addr, got, want.Addr())
		}
	}
}

func TestMany(t *testing.T) {
	l := listen(t, "unix", filepath.Join(short(t), "s"))
	for range 500 {
		dial(t, l)
		accept(t, l)
	}
	if got := one(t, l); got.Accepted != 500 {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkUnixListeners(b *testing.B) {
	const row = "ffff8880057f8c00: 00000003 00000000 00000000 0001 03 12346 /run/gunicorn/app.sock\n"
	table := strings.Repeat(row, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unixListeners(strings.NewReader(table)); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzUnixRow(f *testing.F) {
	for line := range strings.Lines(unixTable) {
		f.Add(strings.TrimSuffix(line, "\n"))
	}
	f.Fuzz(func(t *testing.T, line string) {
		row, ok := parseUnixRow(line)
		if ok && !strings.HasSuffix(line, row.path) || len(row.path) > maxSunPath {
			t.Errorf("%q: %+v", line, row)
		}
	})
}

func FuzzUnixTable(f *testing.F) {
	f.Add(unixTable)
	f.Fuzz(func(t *testing.T, table string) {
		all, err := unixListeners(strings.NewReader(table))
		if err != nil || len(all) > strings.Count(table, "\n")+1 {
			t.Error(all, err)
		}
		for _, l := range all {
			if l.Addr == "" || len(l.Addr) > maxSunPath {
				t.Errorf("%+v", l)
			}
		}
	})
}

func FuzzTCPRow(f *testing.F) {
	f.Add("   0: 0100007F:1F40 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 5303317 1 0")
	f.Add("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode")
	f.Fuzz(func(t *testing.T, line string) {
		if row, ok := parseTCPRow(line); ok && !row.local.IsValid() {
			t.Errorf("%q: %+v", line, row)
		}
	})
}
