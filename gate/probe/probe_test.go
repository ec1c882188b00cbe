package probe

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/gate"
)

func TestParseBindUnderstandsGunicornsSyntax(t *testing.T) {
	// The addresses are what gunicorn's util.parse_address gives, but for wildcards, which are asked at loopback.
	for bind, want := range map[string]Address{
		"unix:/run/g.sock":         {"unix", "/run/g.sock"},
		"unix:///run/g.sock":       {"unix", "/run/g.sock"},
		"unix:////run/g.sock":      {"unix", "/run/g.sock"},
		"unix:/run/./app//g.sock":  {"unix", "/run/app/g.sock"},
		"unix:/run/a b:1,[].sock":  {"unix", "/run/a b:1,[].sock"},
		"unix:/" + name(106):       {"unix", "/" + name(106)},
		"127.0.0.1:8000":           {"tcp", "127.0.0.1:8000"},
		"localhost":                {"tcp", "localhost:8000"},
		"":                         {"tcp", "127.0.0.1:8000"},
		":9000":                    {"tcp", "127.0.0.1:9000"},
		"0.0.0.0":                  {"tcp", "127.0.0.1:8000"},
		"0.0.0.0:80":               {"tcp", "127.0.0.1:80"},
		"[::1]:8001":               {"tcp", "[::1]:8001"},
		"[::1]":                    {"tcp", "[::1]:8000"},
		"[::]:80":                  {"tcp", "[::1]:80"},
		"tcp://127.0.0.1:80":       {"tcp", "127.0.0.1:80"},
		"tcp://[::1]:65535":        {"tcp", "[::1]:65535"},
		"app-1.internal.example:1": {"tcp", "app-1.internal.example:1"},
	} {
		if got, err := ParseBind(bind); got != want || err != nil {
			t.Errorf("ParseBind(%q) = %v, %v; want %v", bind, got, err, want)
		}
	}
}

func name(n int) string { return strings.Repeat("x", n) }

func TestParseBindRefusesWhatCannotBeAsked(t *testing.T) {
	for _, bind := range []string{
		"unix:", "unix://", "unix:run/g.sock", "unix://run/g.sock", "unix:@abstract", "unix:/" + name(107),
		"/run/g.sock", "gunicorn.sock:", "fd://3", "http://127.0.0.1:8000", "https://x", "tcp://unix:/x",
		"h:", "h:0", "h:65536", "h:-1", "h:80x", "h:nosuchport", "[::1", "[::1]:", "h h:1", "a/b:1", "u@h:1", "${BIND}:x",
	} {
		if got, err := ParseBind(bind); err == nil {
			t.Errorf("ParseBind(%q) = %v", bind, got)
		}
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"unix:/run/g.sock", "unix://x", "h:1", "[::1]:8000", "tcp://:80", "[", ":", "]:", "a:b:c", "unix:@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, bind string) {
		a, err := ParseBind(bind)
		if err != nil {
			return
		}
		switch a.Network {
		case "unix":
			if !filepath.IsAbs(a.Addr) || len(a.Addr) > 107 {
				t.Errorf("ParseBind(%q) = %q", bind, a.Addr)
			}
		case "tcp":
			port := a.Addr[strings.LastIndexByte(a.Addr, ':')+1:]
			if n, err := net.DefaultResolver.LookupPort(t.Context(), "tcp", port); err != nil || n == 0 || strings.HasPrefix(a.Addr, ":") {
				t.Errorf("ParseBind(%q) = %q: %v", bind, a.Addr, err)
			}
		default:
			t.Errorf("ParseBind(%q) = %+v", bind, a)
		}
	})
}

// serve runs an app on a unix socket or a port.
func serve(t *testing.T, network string, h http.HandlerFunc) Address {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "app.sock")
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), network, at)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return Address{network, l.Addr().String()}
}

// to is a request for an app that is asked where it listens.
func to(a Address) Request {
	return Request{URL: "http://shop.example/health/?full=1", Host: "shop.example", Timeout: 10 * time.Second, Via: a}
}

// collect probes until n answers are there.
func collect(t *testing.T, r Request, n int) []gate.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var answers []gate.Answer
	_ = New(r).Probe(ctx, func(a gate.Answer) (time.Duration, bool) {
		answers = append(answers, a)
		return time.Millisecond, len(answers) < n
	})
	if len(answers) != n {
		t.Fatalf("%d answers, want %d: %v", len(answers), n, ctx.Err())
	}
	return answers
}

func TestAProbeSendsWhatItIsTold(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			at := serve(t, network, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(r.Method, " ", r.Host, r.RequestURI, " ", r.Header.Get("X-Forwarded-Proto"), " ", r.UserAgent()))
				w.Header().Set("X-Release", "v42")
				fmt.Fprint(w, "fine")
			})
			r := to(at)
			r.Host, r.Headers = "other.example", map[string]string{"X-Forwarded-Proto": "https"}
			a := collect(t, r, 1)[0]
			if a.Err != nil || a.Status != http.StatusOK || a.Body != "fine" || a.Header.Get("X-Release") != "v42" {
				t.Errorf("%+v", a)
			}
			mu.Lock()
			defer mu.Unlock()
			if d := cmp.Diff([]string{"GET other.example/health/?full=1 https deploygate"}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestARedirectIsAnAnswer(t *testing.T) {
	var asked atomic.Int32
	at := serve(t, "tcp", func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "/elsewhere/", http.StatusFound)
	})
	a := collect(t, to(at), 1)[0]
	if a.Status != http.StatusFound || a.Header.Get("Location") != "/elsewhere/" || asked.Load() != 1 {
		t.Errorf("%+v after %d requests", a, asked.Load())
	}
}

func TestEveryProbeIsAConnectionOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	from := map[string]bool{}
	at := serve(t, "tcp", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from[r.RemoteAddr] = true
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"}) //nolint:gosec // a test's
		if len(r.Cookies()) > 0 {
			t.Error("a cookie came back")
		}
	})
	collect(t, to(at), 5)
	if len(from) != 5 {
		t.Errorf("%d connections for 5 probes", len(from))
	}
}

func TestRetryAfterIsNotObeyed(t *testing.T) {
	at := serve(t, "tcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	for _, a := range collect(t, to(at), 3) {
		if a.Status != http.StatusServiceUnavailable || a.Err != nil {
			t.Errorf("%+v", a)
		}
	}
}

func TestOnlyAWholeBodyIsAnAnswer(t *testing.T) {
	send := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for part := make([]byte, 64<<10); n != 0; {
				size, err := w.Write(part[:min(uint(n), uint(len(part)))])
				if err != nil {
					return
				}
				n -= size
			}
		}
	}
	// raw is a server that sends just that and closes the connection.
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack() //nolint:errcheck // it panics, as a test should
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n"+text)
		}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		kept  int
		err   error
	}{
		"nothing":                  {send(0), 0, nil},
		"a page":                   {send(300_000), 300_000, nil},
		"as much as is kept":       {send(MaxBody), MaxBody, nil},
		"a large page":             {send(MaxBody + 1), MaxBody, nil},
		"the largest":              {send(MaxAnswer), MaxBody, nil},
		"one byte more":            {send(MaxAnswer + 1), MaxBody, errEndless},
		"no end":                   {send(-1), MaxBody, errEndless},
		"shorter than it says":     {raw("Content-Length: 100000\r\n\r\nhalf"), 4, io.ErrUnexpectedEOF},
		"shorter than a large one": {raw("Content-Length: 9000000\r\n\r\n" + strings.Repeat("x", MaxBody)), MaxBody, io.ErrUnexpectedEOF},
		"no last chunk":            {raw("Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), 4, io.ErrUnexpectedEOF},
		"half a chunk":             {raw("Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"), 4, io.ErrUnexpectedEOF},
		"chunks and their end":     {raw("Transfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n"), 4, nil},
		"until it is closed":       {raw("Connection: close\r\n\r\nfine"), 4, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := collect(t, to(serve(t, "unix", c.serve)), 1)[0]
			if !errors.Is(a.Err, c.err) || (a.Err == nil) != (c.err == nil) || len(a.Body) != c.kept || a.Status != http.StatusOK || a.Timeout {
				t.Errorf("%d bytes of a %d, %v; want %d, %v", len(a.Body), a.Status, a.Err, c.kept, c.err)
			}
		})
	}
}

// Four thousand bytes of gzip would be four million.
func TestNothingIsDecompressed(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	at := serve(t, "unix", func(w http.ResponseWriter, r *http.Request) {
		if accepted := r.Header.Values("Accept-Encoding"); len(accepted) > 0 {
			t.Errorf("it accepts %q", accepted)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	if a := collect(t, to(at), 1)[0]; a.Err != nil || a.Body != packed.String() {
		t.Errorf("%d bytes, %v", len(a.Body), a.Err)
	}
}

func TestEndlessHeadersAreNoAnswer(t *testing.T) {
	at := serve(t, "unix", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 10_000 {
			w.Header().Set(fmt.Sprintf("X-%d", i), name(100))
		}
	})
	if a := collect(t, to(at), 1)[0]; a.Err == nil || a.Timeout {
		t.Errorf("%d, %v", a.Status, a.Err)
	}
}

func TestTheTimeLimitIsForTheWholeAnswer(t *testing.T) {
	drip := func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			fmt.Fprint(w, ".")
			w.(http.Flusher).Flush() //nolint:errcheck // it panics, as a test should
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}
	silence := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, h := range map[string]http.HandlerFunc{"drips": drip, "says nothing": silence} {
		r := to(serve(t, "unix", h))
		r.Timeout = 100 * time.Millisecond
		if a := collect(t, r, 1)[0]; a.Err == nil || !a.Timeout {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestAnAnswerThatIsCutOffIsNone(t *testing.T) {
	at := serve(t, "tcp", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half")
	})
	if a := collect(t, to(at), 1)[0]; !errors.Is(a.Err, io.ErrUnexpectedEOF) || a.Timeout {
		t.Errorf("%+v", a)
	}
}

func TestWhoListensOnAUnixSocketIsKnown(t *testing.T) {
	ok := func(http.ResponseWriter, *http.Request) {}
	if a := collect(t, to(serve(t, "unix", ok)), 1)[0]; a.Peer != os.Getpid() {
		t.Errorf("peer %d, want %d", a.Peer, os.Getpid())
	}
	if a := collect(t, to(serve(t, "tcp", ok)), 1)[0]; a.Peer != 0 {
		t.Errorf("peer %d of a port", a.Peer)
	}
}

func TestWhyAConnectFailed(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		at   Address
		want syscall.Errno
	}{
		{"no socket", Address{"unix", filepath.Join(dir, "gone.sock")}, syscall.ENOENT},
		{"nothing listens", Address{"unix", stale}, syscall.ECONNREFUSED},
		{"nothing at the port", closedPort(t), syscall.ECONNREFUSED},
		{"backlog full", fullBacklog(t), syscall.EAGAIN},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := collect(t, to(c.at), 1)[0]
			if !errors.Is(a.Err, c.want) || a.Timeout || a.Peer != 0 {
				t.Errorf("%+v, want %v", a, c.want)
			}
			if a.Err != nil && strings.Contains(a.Err.Error(), "shop.example") {
				t.Errorf("%v names the URL, which may carry a secret", a.Err)
			}
		})
	}
}

func closedPort(t *testing.T) Address {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return Address{"tcp", l.Addr().String()}
}

// fullBacklog listens and never accepts, with as many connections waiting as fit.
func fullBacklog(t *testing.T) Address {
	t.Helper()
	file := filepath.Join(t.TempDir(), "full.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: file}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", file)
		if err != nil {
			return Address{"unix", file}
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the backlog doesn't fill")
	return Address{}
}

func TestTheEndOfTheContextEndsTheProbing(t *testing.T) {
	asked := make(chan struct{}, 1)
	hanging := serve(t, "unix", func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	err := New(to(hanging)).Probe(ctx, func(a gate.Answer) (time.Duration, bool) {
		t.Errorf("what was cut off is no answer: %+v", a)
		return 0, false
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Probe() = %v", err)
	}

	quick := serve(t, "unix", func(http.ResponseWriter, *http.Request) {})
	ctx, cancel = context.WithCancel(t.Context())
	err = New(to(quick)).Probe(ctx, func(gate.Answer) (time.Duration, bool) { cancel(); return time.Hour, true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("between two probes: Probe() = %v", err)
	}
}

func TestProbingGoesOnThroughEveryKindOfFailure(t *testing.T) {
	var asked atomic.Int32
	at := serve(t, "unix", func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	var got []int
	for _, a := range collect(t, to(at), 4) {
		got = append(got, a.Status)
	}
	if d := cmp.Diff([]int{500, 0, 429, 200}, got); d != "" {
		t.Error(d)
	}
}

func TestAnInvalidAddressIsNotRepeated(t *testing.T) {
	err := New(Request{URL: "http://user:secret@\x7f/"}).Probe(t.Context(), func(gate.Answer) (time.Duration, bool) { return time.Hour, true })
	if err == nil {
		t.Error("it was asked")
	}
}

// spy is a logger that keeps what it hears.
type spy struct{ heard *strings.Builder }

func (s spy) note(msg string, kv []any)   { fmt.Fprintln(s.heard, msg, kv) }
func (s spy) Error(msg string, kv ...any) { s.note(msg, kv) }
func (s spy) Warn(msg string, kv ...any)  { s.note(msg, kv) }
func (s spy) Info(msg string, kv ...any)  { s.note(msg, kv) }
func (s spy) Debug(msg string, kv ...any) { s.note(msg, kv) }

func TestTheLogHearsNoSecrets(t *testing.T) {
	var heard strings.Builder
	r := to(closedPort(t))
	r.URL, r.Headers, r.Log = "http://user:secret@shop.example/health/", map[string]string{"Authorization": "secret"}, spy{&heard}
	collect(t, r, 2)
	if text := heard.String(); text == "" || strings.Contains(text, "secret") {
		t.Errorf("heard %s", text)
	}
}
