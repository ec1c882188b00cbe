package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release/deploy"
	"deploygate/release/server"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// appService is the app's unit, as a deploy sees it.
type appService struct {
	unit              unit.Unit
	manager           *unit.Manager // may be nil
	link              string
	config            *config.Config
	bindErr, proxyErr error  // what the configuration leaves open
	bind              string // where it listens, if its text doesn't say it
	placed            bool   // its processes have been seen to go through the link
}

// NewService is an app's unit as a deploy sees it. link is the path that names the live release.
func NewService(u unit.Unit, link string, c *config.Config) *appService {
	return &appService{unit: u, link: link, config: c}
}

// Name implements deploy.Service.
func (s *appService) Name() string { return s.unit.Name() }

// Ready implements deploy.Service.
func (s *appService) Ready(ctx context.Context) (deploy.Unit, error) {
	d, err := s.unit.Describe(ctx)
	if err != nil {
		return deploy.Unit{}, err
	}
	refuse := func(summary, advice string) (deploy.Unit, error) {
		return deploy.Unit{}, gate.NewFinding(gate.LayerService, gate.Unknown, summary).Advise(advice)
	}
	where, elsewhere := whereabouts{}, error(nil)
	if d.LoadState == "loaded" {
		where, elsewhere = s.whereabouts(ctx, d)
	}
	switch {
	case d.LoadState == "not-found":
		return refuse("there is no unit "+d.Name, "set service.unit to the app's unit"+s.likely(ctx))
	case d.LoadState == "masked":
		return refuse(d.Name+" is masked, so it can't be started", "systemctl unmask "+d.Name)
	case d.LoadState != "loaded":
		return refuse(fmt.Sprintf("systemd can't load %s: %s", d.Name, gate.Clean(d.LoadError)), "systemctl status "+d.Name)
	case elsewhere != nil:
		return deploy.Unit{}, elsewhere
	case s.reloads() && !d.CanReload:
		return refuse(d.Name+" can't be reloaded: it has no ExecReload=", `set service.action = "restart"`)
	case s.reloads() && !strings.Contains(s.config.Health.Body, "{version}"):
		// A master that has preloaded the app goes to the new directory, and forks workers with the old code.
		return refuse(fmt.Sprintf("what %s runs after a reload can't be verified: no answer names its release", d.Name),
			`set health.body to a string with {version} in it, or service.action = "restart"`)
	case s.bindErr != nil:
		return deploy.Unit{}, s.bindErr
	case s.proxyErr != nil:
		return deploy.Unit{}, s.proxyErr
	}
	dir := ""
	if d.MainPID != 0 {
		if dir, err = untrusted.Readlink(fmt.Sprintf("/proc/%d/cwd", d.MainPID)); errors.Is(err, fs.ErrPermission) {
			_, err := refuse(fmt.Sprintf("no right to see which release the processes of %s run", d.Name), "run deploygate as root")
			f := gate.AsFinding(gate.LayerService, err)
			f.Unseen = true
			return deploy.Unit{}, f
		}
	}
	u := deploy.Unit{
		Name: d.Name, InLink: where.inLink, Socket: d.Listen != "", Running: d.Settled && d.MainPID != 0, Invocation: d.InvocationID, Dir: dir,
		Bind: s.bind,
	}
	if s.reloads() {
		st, err := s.unit.State(ctx)
		if err != nil {
			return deploy.Unit{}, err
		}
		for _, p := range st.Processes {
			u.Processes = append(u.Processes, p.PID)
		}
	}
	return u, nil
}

// likely names the units that may be meant: those that run a web application by their command.
func (s *appService) likely(ctx context.Context) string {
	const otherwise = ": systemctl list-units --type=service"
	if s.manager == nil {
		return otherwise
	}
	all, err := s.manager.Loaded(ctx)
	if err != nil {
		return otherwise
	}
	var names []string
	for _, d := range all {
		if servers.Name(server.CommandOf(d)) != "" {
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		return otherwise
	}
	return ", of which there is " + strings.Join(names, ", ")
}

// Restart implements deploy.Service.
func (s *appService) Restart(ctx context.Context, kill bool, say gate.Progress) error {
	return s.unit.Restart(ctx, s.config.Service.RestartTimeout, kill, say)
}

// Reload implements deploy.Service.
func (s *appService) Reload(ctx context.Context, say gate.Progress) error {
	return s.unit.Reload(ctx, s.config.Service.RestartTimeout, say)
}

// Reread implements deploy.Service.
func (s *appService) Reread(ctx context.Context) (bool, error) { return s.unit.Reread(ctx) }

func (s *appService) reloads() bool { return s.config.Service.Action == config.ActionReload }

// inLink reports whether the unit's processes work in what the link named when they started.
func inLink(d unit.Description, link string) bool { return unit.Through(lineOf(d).Dir(), link) }

// whereabouts is how the app's unit goes through the live link.
type whereabouts struct {
	inLink    bool // its main process works in the release that the link names
	uncertain bool // nothing shows whether it goes through it; then inLink demands that it is seen
}

// whereabouts tells it from the unit's processes while it runs, and else from its text: a start script, or gunicorn's
// configuration file, leads to the release without a word of it in the unit. The error is a finding: a swap would change
// nothing.
func (s *appService) whereabouts(ctx context.Context, d unit.Description) (w whereabouts, err error) {
	releases := filepath.Join(filepath.Dir(s.link), "releases")
	advice := fmt.Sprintf("set WorkingDirectory=%s in the unit, or root and service.unit here", s.link)
	byText := d.UsesLink(s.link)
	if named := d.NamesRelease(releases); named != "" && !byText {
		return w, gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("%s names %s itself and does not go through %s, so a swap would change nothing", d.Name, named, s.link)).Advise(advice)
	}
	seen, err := s.unit.Where(ctx, s.link, releases)
	if err == nil && seen.Settles > 0 && !byText && !s.placed {
		select { // nothing else would show it
		case <-time.After(seen.Settles):
		case <-ctx.Done():
			return w, context.Cause(ctx)
		}
		seen, err = s.unit.Where(ctx, s.link, releases)
	}
	switch {
	case err != nil: // systemd doesn't answer at this moment: its text is what is left
		seen = unit.Where{}
	case seen.Known && (seen.Uses || byText):
		s.placed = true
		return whereabouts{inLink: seen.InRelease}, nil
	case seen.Known && !s.placed: // what a failed release made of it is no reason to leave it there
		return w, gate.NewFinding(gate.LayerService, gate.Unknown,
			fmt.Sprintf("%s does not go through %s, so a swap would change nothing", d.Name, s.link)).
			With("processes", fmt.Sprintf("its main process %d works in %s, and no process of it has the live release in its program, arguments "+
				"or environment", d.MainPID, seen.Seen)).
			Advise(advice)
	case byText:
		return whereabouts{inLink: inLink(d, s.link)}, nil
	}
	return whereabouts{inLink: true, uncertain: true}, nil
}
