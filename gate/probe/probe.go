// Package probe asks an app for its health over HTTP, at a unix socket or a TCP address, without proxies, redirects,
// connection reuse or cookies: every probe is a connection of its own, as a fresh client's would be.
//
// Guaranteed: an answer is one that was read to its end, within the probe's timeout and MaxAnswer bytes. One that is cut
// off, never ends or is longer is an error, whatever its status says. At most MaxBody bytes of it are kept, and nothing is
// decompressed: no encoding is asked for, and one that comes all the same is left as it is.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/sys/unix"

	"deploygate/gate"
)

// The bounds of an answer, in bytes. A health path may be a whole page, so the bounds are far above one.
const (
	MaxBody   = 1 << 20  // of a body are kept, to be looked through
	MaxAnswer = 16 << 20 // of a body are read until it counts as one without an end
	maxHeader = 256 << 10
)

// errEndless is the error of an answer that is longer than MaxAnswer.
var errEndless = fmt.Errorf("the body has no end within %d MiB", MaxAnswer>>20)

// Address is where an app listens.
type Address struct {
	Network string // "unix" or "tcp"
	Addr    string // a path, or host:port
}

func (a Address) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Addr
	}
	return a.Addr
}

var scheme = regexp.MustCompile(`^[a-z]+://`)

// ParseBind understands gunicorn's bind syntax (gunicorn.util.parse_address): unix:PATH, unix://PATH, tcp://HOST:PORT,
// HOST:PORT, HOST, :PORT, [V6]:PORT; the port is 8000 where none is given. A wildcard host is asked at loopback. Paths
// must be absolute: what gunicorn takes relative paths relative to is not known here.
func ParseBind(bind string) (Address, error) {
	if rest, ok := strings.CutPrefix(bind, "unix:"); ok {
		file := strings.TrimPrefix(rest, "//")
		switch {
		case strings.HasPrefix(file, "@"):
			return Address{}, fmt.Errorf("bind %q is an abstract socket, which gunicorn does not know", bind)
		case !path.IsAbs(file):
			return Address{}, fmt.Errorf("bind %q is not an absolute path; write unix:/run/…", bind)
		case len(file) > 107: // sun_path is 108 bytes with its NUL, unix(7)
			return Address{}, fmt.Errorf("bind %q is longer than a unix socket's path can be (107 bytes)", bind)
		}
		return Address{"unix", path.Clean(file)}, nil
	}
	rest := strings.TrimPrefix(bind, "tcp://")
	if scheme.MatchString(rest) {
		return Address{}, fmt.Errorf("bind %q is neither unix:PATH nor HOST:PORT", bind)
	}
	host, port := rest, "8000"
	switch i := strings.LastIndexByte(rest, ':'); {
	case strings.HasPrefix(rest, "["):
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return Address{}, fmt.Errorf("bind %q: the ] is missing", bind)
		}
		host = rest[1:end]
		if after := rest[end+1:]; after != "" {
			port = strings.TrimPrefix(after, ":")
		}
	case i >= 0:
		host, port = rest[:i], rest[i+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Address{}, fmt.Errorf("bind %q: %q is not a port", bind, port)
	}
	if strings.ContainsAny(host, "/ @=[]") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return Address{}, fmt.Errorf("bind %q: %q is not a host", bind, host)
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return Address{"tcp", net.JoinHostPort(host, port)}, nil
}

// Request is what a probe sends.
type Request struct {
	URL     string
	Host    string
	Headers map[string]string
	Timeout time.Duration // one probe, whole answer
	// Via is where to connect to instead of URL's host; the zero value: the URL's host.
	Via Address
	// Log hears what the HTTP client does; nil is silence. It never gets credentials of a URL or header values.
	Log retryablehttp.LeveledLogger
}

// Prober sends one kind of request.
type Prober struct {
	request Request
	dialer  net.Dialer
}

// New makes a Prober.
func New(r Request) *Prober { return &Prober{request: r} }

// noRedirect shows a redirect as the answer it is.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Probe implements gate.Prober. go-retryablehttp does the repeating; what counts as enough is observe's to say.
func (p *Prober) Probe(ctx context.Context, observe func(gate.Answer) (next time.Duration, again bool)) error {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, p.request.URL, nil)
	if err != nil {
		return fmt.Errorf("cannot ask %s: the address is not valid", p.request.URL)
	}
	req.Host = p.request.Host
	req.Header.Set("User-Agent", "deploygate")
	for name, value := range p.request.Headers {
		req.Header.Set(name, value)
	}
	var connected atomic.Bool
	var remote atomic.Value
	var peer atomic.Int64 // a dial that has timed out may still end, in a goroutine of its own
	var began time.Time
	var next time.Duration
	transport := &http.Transport{
		TLSClientConfig:   p.tls(),
		DisableKeepAlives: true, // the next probe must not reach a worker that no longer accepts
		// A few bytes of gzip can stand for gigabytes.
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if p.request.Via.Network != "" {
				network, addr = p.request.Via.Network, p.request.Via.Addr
			}
			conn, err := p.dialer.DialContext(ctx, network, addr)
			peer.Store(int64(peerOf(conn)))
			if err == nil {
				remote.Store(conn.RemoteAddr().String())
			}
			connected.Store(err == nil)
			return conn, err
		},
	}
	client := retryablehttp.Client{
		HTTPClient: &http.Client{Transport: transport, Timeout: p.request.Timeout, CheckRedirect: noRedirect},
		RetryMax:   math.MaxInt,
		RequestLogHook: func(retryablehttp.Logger, *http.Request, int) {
			began = time.Now()
			peer.Store(0)
			remote.Store("")
			connected.Store(false)
		},
		// The default obeys Retry-After, which would let the app decide how long it is watched.
		Backoff: func(_, _ time.Duration, _ int, _ *http.Response) time.Duration {
			return next - min(next, time.Since(began))
		},
		CheckRetry: func(ctx context.Context, resp *http.Response, err error) (bool, error) {
			if ctx.Err() != nil {
				return false, ctx.Err()
			}
			a := answer(resp, err)
			a.Peer, a.Took, a.Connected = int(peer.Load()), time.Since(began), connected.Load()
			a.Remote, _ = remote.Load().(string)
			var again bool
			next, again = observe(a)
			return again, nil
		},
		ErrorHandler: func(resp *http.Response, err error, _ int) (*http.Response, error) { return resp, err },
	}
	if p.request.Log != nil {
		client.Logger = p.request.Log
	}
	resp, err := client.Do(req)
	if resp != nil {
		resp.Body.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// tls asks for the site by its name, whatever address it is reached at. At loopback the certificate is not verified: it
// is not what is being tested, and no one is in between.
func (p *Prober) tls() *tls.Config {
	u, err := url.Parse(p.request.URL)
	if err != nil {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	host, _, err := net.SplitHostPort(p.request.Host)
	if err != nil {
		host = p.request.Host
	}
	return &tls.Config{ServerName: host, InsecureSkipVerify: ip != nil && ip.IsLoopback()} //nolint:gosec // see above
}

// answer reads a whole answer within the client's timeout. What came of one that has no end is kept beside the error.
func answer(resp *http.Response, err error) gate.Answer {
	var a gate.Answer
	if err == nil {
		var body string
		body, err = whole(resp.Body)
		resp.Body.Close()
		a = gate.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
	}
	if err == nil {
		return a
	}
	var timeout interface{ Timeout() bool }
	// connect(2) on a full backlog gives EAGAIN, which says Timeout() of itself.
	a.Timeout = errors.As(err, &timeout) && timeout.Timeout() && !errors.Is(err, syscall.EAGAIN)
	a.Err = bare(err)
	return a
}

// whole reads a body to its end and gives its beginning.
func whole(r io.Reader) (string, error) {
	var kept strings.Builder
	n, err := io.Copy(&kept, io.LimitReader(r, MaxBody))
	if err == nil && n == MaxBody {
		n, err = io.Copy(io.Discard, io.LimitReader(r, MaxAnswer-MaxBody+1))
		if err == nil && n > MaxAnswer-MaxBody {
			err = errEndless
		}
	}
	return kept.String(), err
}

// bare drops the method and URL that net/http puts before the cause: a URL may carry credentials.
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if sys, ok := errors.AsType[*os.SyscallError](op.Err); ok {
			return fmt.Errorf("%s: %w", sys.Syscall, sys.Err)
		}
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// peerOf asks the kernel who listens at the other end of a unix socket: the process that called listen(2), unix(7).
func peerOf(conn net.Conn) int {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cred == nil {
		return 0
	}
	return int(cred.Pid)
}
