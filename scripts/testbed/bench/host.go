package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"deploygate/scripts/testbed"
)

const (
	program = "/usr/local/bin/deploygate" // on the host
	killat  = "/usr/local/bin/killat"
)

// packages are what the contenders need beyond a testbed's.
var packages = []string{"openssh-server", "openssh-client", "capistrano", "ansible-core", "git"}

// gunicornArgs let two workers carry 500 requests a second, of which some take 2 s. A gthread worker that is told to
// stop finishes what it has accepted; what waits in the backlog then is lost without a socket unit, and only then. Behind
// one, the backlog and nginx hold as many connections as 10 s of requests: with the 2048 and 768 that are usual, requests
// would fail while the app restarts.
const gunicornArgs = "--worker-class gthread --threads 16 --backlog 8192"

const nginxTuning = `s/worker_connections 768/worker_connections 8192/; s/^worker_processes.*/&\nworker_rlimit_nofile 20000;/`

// host is a machine with a site that is deployed to.
type host struct {
	*testbed.Machine
	site    testbed.Site
	restart int // which change of the host by deploygate is the restart; 0: not looked up yet, -1: it never restarts
}

func newHost(ctx context.Context, o options, socket bool) (_ *host, err error) {
	m, err := testbed.Boot(ctx, o.suite, testbed.Options{
		Packages: packages, Bind: []string{o.binary + ":" + program, o.killat + ":" + killat},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	h := &host{Machine: m, site: testbed.DefaultSite()}
	h.site.Socket, h.site.Args = socket, gunicornArgs
	if err := h.run(ctx, "sysctl", "-q", "-w", "net.core.somaxconn=8192"); err != nil { // bounds every backlog
		return nil, err
	}
	if err := h.run(ctx, "sed", "-i", nginxTuning, "/etc/nginx/nginx.conf"); err != nil {
		return nil, err
	}
	if err := h.run(ctx, "systemctl", "restart", "nginx"); err != nil {
		return nil, err
	}
	return h, h.InstallSite(ctx, h.site)
}

func (h *host) run(ctx context.Context, argv ...string) error { return h.Exec(ctx, argv...).Err }

// upload puts all releases where they are deployed from.
func (h *host) upload(ctx context.Context) error {
	if err := h.AddRelease(h.site, before, modsOf(before, nil)...); err != nil {
		return err
	}
	for _, r := range releases {
		if err := h.AddRelease(h.site, r.name, modsOf(r.name, r.mods)...); err != nil {
			return err
		}
	}
	return h.GoLive(ctx, h.site, before)
}

// state is what a host was left with.
type state struct {
	Link string   `json:"link"` // the release that current names
	Runs []string `json:"runs"` // the releases that processes of the app were started from
}

func (s state) live(name string) bool { return s.Link == name && slices.Equal(s.Runs, []string{name}) }

func (s state) String() string {
	switch {
	case len(s.Runs) == 0:
		return s.Link + " linked, nothing runs"
	case s.live(s.Link):
		return s.Link + " live"
	}
	return fmt.Sprintf("half-deployed: %s linked, %s runs", s.Link, strings.Join(s.Runs, " and "))
}

func (h *host) state(ctx context.Context) (s state, err error) {
	if s.Link, err = h.nameOf(path.Join(h.site.Root, "current")); err != nil {
		return s, err
	}
	cwds, err := h.Cwds(ctx, h.site)
	if err != nil {
		return s, err
	}
	for _, dir := range cwds {
		name, err := h.nameOf(strings.TrimSuffix(dir, " (deleted)"))
		if err != nil {
			name = "a removed release"
		}
		if !slices.Contains(s.Runs, name) {
			s.Runs = append(s.Runs, name)
		}
	}
	return s, nil
}

// nameOf reads which release is in a directory, or behind a link to it.
func (h *host) nameOf(dir string) (string, error) {
	r := h.Exec(context.Background(), "cat", path.Join(dir, named))
	return strings.TrimSpace(r.Stdout), r.Err
}

// reset makes the release before live again, by the contender's own means. What hangs is killed first, since its end
// would be waited for.
func (h *host) reset(ctx context.Context, c contender) error {
	s, err := h.state(ctx)
	if err != nil {
		return err
	}
	if !s.live(before) {
		_ = h.run(ctx, "systemctl", "kill", "--signal=SIGKILL", h.site.Unit) // there may be nothing to kill
		_ = h.run(ctx, "systemctl", "reset-failed", h.site.Unit)             // of a start limit that it hit meanwhile
		if r := h.Exec(ctx, c.deploy(before)...); r.Err != nil {
			return fmt.Errorf("cannot go back to a good release: %w", r.Err)
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("the good release doesn't get well again"))
	defer cancel()
	for {
		s, err := h.state(ctx)
		if err != nil {
			return err
		}
		if code, _, _, err := h.Get(ctx, h.site, "/health/"); err == nil && code == 200 && s.live(before) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), s)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
