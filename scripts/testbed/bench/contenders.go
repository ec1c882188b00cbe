package main

import (
	"context"
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// contender is a way of deploying.
type contender struct {
	name  string
	title string // in tables
	ours  bool   // by deploygate, or what it is measured by
	only  []string
	// watch is how long users are watched of what nobody will bring back; 0: until they get good answers.
	watch time.Duration
	// usable says why the way can't be measured on this host; may be nil.
	usable  func(context.Context, *host) string
	prepare func(context.Context, *host) error
	deploy  func(version string) []string
	// must returns how a deploy must end: the exit code, and the release that is live then. nil: however it does.
	must func(release) (exit int, live string)
}

func (c contender) key() string { return c.name }

//go:embed ways/usual.sh
var usualScript string

//go:embed ways/play.yml
var play string

const (
	usual    = "/usr/local/bin/deploy"
	playbook = "/etc/deploy/play.yml"
)

// The yardstick comes first, then deploygate: a run may be cut short.
var contenders = []contender{
	{
		name: "restart", title: "restart only", ours: true, only: []string{"good", "import-error"}, watch: 6 * time.Second,
		prepare: uploaded,
		deploy: func(v string) []string {
			return []string{"sh", "-c", `ln -sfn "releases/$1" /srv/app/current && systemctl restart gunicorn`, "sh", v}
		},
	},
	{
		name: "deploygate", title: "deploygate", ours: true,
		prepare: knownToDeploygate,
		deploy:  func(v string) []string { return []string{program, "release", v, "--output", "json"} },
		must: func(r release) (int, string) {
			switch {
			case r.good:
				return 0, r.name
			case r.killed:
				return killedExit, before
			}
			return 3, before
		},
	},
	{
		name: "rehearse", title: "deploygate --rehearse", ours: true,
		usable: func(ctx context.Context, h *host) string {
			if !strings.Contains(h.Exec(ctx, program, "release", "--help").Stdout, "--rehearse") {
				return "this deploygate has no --rehearse"
			}
			return ""
		},
		prepare: knownToDeploygate,
		deploy:  func(v string) []string { return []string{program, "release", v, "--rehearse", "--output", "json"} },
		must: func(r release) (int, string) {
			if r.good {
				return 0, r.name
			}
			return 1, before
		},
	},
	{
		name: "script", title: "the usual script",
		prepare: func(ctx context.Context, h *host) error {
			if err := h.WriteFile(usual, usualScript, 0o755); err != nil {
				return err
			}
			return h.upload(ctx)
		},
		deploy: func(v string) []string { return []string{usual, v, before} },
	},
	{
		name: "ansible", title: "Ansible",
		prepare: func(ctx context.Context, h *host) error {
			if err := h.WriteFile(playbook, play, 0o644); err != nil {
				return err
			}
			return h.upload(ctx)
		},
		deploy: func(v string) []string {
			return []string{"ansible-playbook", "-i", "localhost,", playbook, "-e", "version=" + v}
		},
	},
	capistrano,
}

func uploaded(ctx context.Context, h *host) error { return h.upload(ctx) }

// knownToDeploygate: it goes back only to a release that it has seen pass.
func knownToDeploygate(ctx context.Context, h *host) error {
	if err := h.configure(release{}); err != nil {
		return err
	}
	if err := h.upload(ctx); err != nil {
		return err
	}
	return h.run(ctx, program, "release", before)
}

// configure writes deploygate's configuration: its defaults, but for what a release asks for.
func (h *host) configure(r release) error {
	text := "# the defaults\n"
	if r.stable != "" {
		text = fmt.Sprintf("[health]\nstable = %q\n", r.stable)
	}
	return h.WriteFile("/etc/deploygate/app.toml", text, 0o644)
}

//go:embed ways/systemctl.sh
var killingSystemctl string

const (
	systemctlBefore = "/usr/local/sbin/systemctl" // earlier in the PATH than the real one
	killedExit      = 137                         // killat's, for a program that it killed
)

// armed returns a command that is killed, as by kill -9, between its swap and its restart; disarm takes away what kills it.
// deploygate talks to systemd itself, not by systemctl.
func (h *host) armed(ctx context.Context, argv []string) (_ []string, disarm func() error, err error) {
	if argv[0] == program {
		if h.restart == 0 {
			h.restart = firstRestart(h.Exec(ctx, append([]string{killat, "0"}, argv...)...).Stderr)
		}
		return append([]string{killat, strconv.Itoa(max(h.restart, 0))}, argv...), func() error { return nil }, nil
	}
	if err := h.WriteFile(systemctlBefore, killingSystemctl, 0o755); err != nil {
		return nil, nil, err
	}
	disarm = func() error { return h.run(context.WithoutCancel(ctx), "rm", systemctlBefore) }
	return append([]string{"sh", "-c", `echo $$ >/run/deployer.pid && exec "$@"`, "sh"}, argv...), disarm, nil
}

var restartCall = regexp.MustCompile(`(?m)^change (\d+): RestartUnit$`)

// firstRestart finds in killat's list which change of the host is the first restart, or gives -1.
func firstRestart(list string) int {
	found := restartCall.FindStringSubmatch(list)
	if found == nil {
		return -1
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		return -1
	}
	return n
}
