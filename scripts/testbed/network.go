package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects to an address in the machine's network, given as a number:
// names are not looked up there.
func (m *Machine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	// A socket belongs to the network namespace of the thread that makes it,
	// whoever uses it later.
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer host.Close()

	runtime.LockOSThread()
	if err := unix.Setns(int(m.network.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("cannot enter the machine's network: %w", err)
	}
	var d net.Dialer
	conn, dialErr := d.DialContext(ctx, network, address)
	if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); err != nil {
		// The thread stays locked, and so dies with its goroutine instead of
		// running others in the wrong network.
		return nil, errors.Join(dialErr, fmt.Errorf("cannot leave the machine's network: %w", err))
	}
	runtime.UnlockOSThread()
	return conn, dialErr
}

// newClient returns an HTTP client inside the machine's network, to which
// every host name is the machine itself. Each request has a connection of its
// own, as different users' have, and redirects are answers.
func (m *Machine) newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return m.Dial(ctx, network, net.JoinHostPort("127.0.0.1", port))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Get asks the site for path, through nginx, from within the machine.
func (m *Machine) Get(ctx context.Context, site Site, path string) (status int, header http.Header, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site.url(path), nil)
	if err != nil {
		return 0, nil, "", err
	}
	return m.Do(req)
}

// Do sends a request from within the machine, to which every host name is the
// machine itself.
func (m *Machine) Do(req *http.Request) (status int, header http.Header, body string, err error) {
	res, err := m.client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(content), err
}

// requestTimeout is how long a user of Load waits before giving up.
const requestTimeout = 10 * time.Second

// Sample is the outcome of one request.
type Sample struct {
	Path    string        // that was asked for
	At      time.Time     // when it was sent
	Took    time.Duration // until the whole answer was read, or there was none
	Status  int           // 0 if there was no answer
	Err     string        // why not
	Release string        // that answered, by its X-Release header
}

// Good says whether a user got what they asked for.
func (s Sample) Good() bool { return s.Err == "" && s.Status >= 200 && s.Status < 400 }

func (s Sample) end() time.Time { return s.At.Add(s.Took) }

// Load is a stream of requests.
type Load struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu                sync.Mutex
	samples           []Sample
	lastGood, lastBad time.Time
	late              time.Duration
}

// Load sends rate requests a second for path through nginx until ctx ends or
// Stop is called, however slow the answers are, and keeps each outcome.
// Nobody waits longer than 10 s for an answer.
func (m *Machine) Load(ctx context.Context, site Site, path string, rate int) *Load {
	return m.LoadMix(ctx, site, rate, func(int) string { return path })
}

// LoadMix is a Load whose request n, counted from 0, is for path(n). Request n
// is due n/rate seconds after the start: those that this process is late with
// are sent at once, and none is left out. As nobody waits longer than 10 s,
// no more than 10 s of requests are ever under way.
func (m *Machine) LoadMix(ctx context.Context, site Site, rate int, path func(n int) string) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		var requests sync.WaitGroup
		defer requests.Wait()
		start := time.Now()
		timer := time.NewTimer(0)
		defer timer.Stop()
		for n := 0; ; n++ {
			due := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
			timer.Reset(time.Until(due))
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			path := path(n)
			requests.Go(func() {
				// A request in flight when the load ends is still answered:
				// cutting it off would count as a failure.
				s := m.sample(context.WithoutCancel(ctx), site, path)
				l.add(s, s.At.Sub(due))
			})
		}
	}()
	return l
}

// Stop ends the load, waits for the answers under way, and returns all
// outcomes in the order the requests were sent.
func (l *Load) Stop() []Sample {
	l.cancel()
	<-l.done
	return l.Samples()
}

// Samples returns the outcomes so far, in the order the requests were sent.
func (l *Load) Samples() []Sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(slices.Values(l.samples), bySending)
}

// Last returns when the latest request was sent that was answered well, and
// the latest that wasn't, of those with an outcome. Zero is none.
func (l *Load) Last() (good, bad time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastGood, l.lastBad
}

// Late returns by how much the latest of all requests was sent too late, which
// is this process's own fault.
func (l *Load) Late() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.late
}

func (l *Load) add(s Sample, late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
	l.late = max(l.late, late)
	if s.Good() {
		l.lastGood = later(l.lastGood, s.At)
	} else {
		l.lastBad = later(l.lastBad, s.At)
	}
}

func (m *Machine) sample(ctx context.Context, site Site, path string) Sample {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	s := Sample{Path: path, At: time.Now()}
	status, header, _, err := m.Get(ctx, site, path)
	s.Took, s.Status = time.Since(s.At), status
	if err != nil {
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err // the same method and URL in every sample say nothing
		}
		s.Err = err.Error()
		return s
	}
	s.Release = header.Get("X-Release")
	return s
}

// Outage returns how many requests failed, and the longest time without a
// good answer around any of them: from the last good answer before to the
// first good one after.
func Outage(samples []Sample) (failed int, longest time.Duration) {
	samples = slices.SortedFunc(slices.Values(samples), bySending)
	var from, to time.Time // the outage under way; the last good answer
	inOutage := false
	for i, s := range samples {
		if s.Good() {
			if inOutage {
				longest = max(longest, s.end().Sub(from))
			}
			inOutage = false
			to = later(to, s.end())
			continue
		}
		failed++
		if !inOutage {
			inOutage = true
			// Answers may overtake each other, so the last good one may have
			// come after this request was sent, but is no part of its outage.
			from = s.At
			if !to.IsZero() && to.Before(s.At) {
				from = to
			}
		}
		if i == len(samples)-1 {
			longest = max(longest, s.end().Sub(from))
		}
	}
	return failed, longest
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func bySending(a, b Sample) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) }

// NginxReloads returns how often nginx was told to reload since the machine
// booted, by whatever means.
func (m *Machine) NginxReloads() (int, error) {
	log, err := m.ReadFile(noticeLog)
	if err != nil {
		return 0, err
	}
	return strings.Count(log, "(SIGHUP) received"), nil
}

// NginxMaster returns the process id of nginx's master, as the machine sees it.
func (m *Machine) NginxMaster(ctx context.Context) (int, error) {
	return m.mainPID(ctx, "nginx.service")
}
