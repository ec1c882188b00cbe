package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/host"
	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate/probe"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// WriteSocketUnit writes the files, unless something is in the way.
func WriteSocketUnit(ctx context.Context, manager *unit.Manager, d unit.Description, p socketunit.Pair) error {
	other, err := manager.Unit(p.Socket).Describe(ctx)
	if err != nil {
		return err
	}
	if other.LoadState != "not-found" {
		return inputf("there is a %s already (%s), which does not listen for %s; nothing was written", p.Socket, other.File, d.Name)
	}
	if err := missing(p.Files...); err != nil {
		return err
	}
	if d.StaleOnDisk {
		return fmt.Errorf("the files of %s were changed and systemd still uses the old ones: systemctl daemon-reload, then again", d.Name)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; nothing was written")
	}
	return Create(p.Files...)
}

// SocketUnit collects what a socket unit for the service has to be like.
func SocketUnit(c *config.Config, d unit.Description) (socketunit.Pair, error) {
	at := host.BindOf(d, c.Root)
	bind := cmp.Or(at.Addr, c.Health.Bind)
	if bind == "" {
		return socketunit.Pair{}, fmt.Errorf("it isn't known where %s listens: %s; set health.bind to it", d.Name, at.Why)
	}
	f := socketunit.Facts{
		Service: d, Scope: c.Service.Manager, Server: cmp.Or(servers.Name(server.CommandOf(d)), host.ServerAt(d.MainPID)),
		Releases: filepath.Join(c.Root, "releases"), Runtime: "/run", Dir: "/etc/systemd/system",
	}
	if real, err := untrusted.EvalSymlinks(f.Releases); err == nil {
		f.Releases = real
	}
	if f.Scope == unit.User {
		f.Dir = filepath.Join(config.HomeDir(), ".config/systemd/user")
		f.Runtime = cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid()))
	}
	if f.Server != "gunicorn" && servers.Name(server.CommandOf(d)) == "" { // a script starts it, whose options can't be changed
		f.Server = ""
	}
	live := server.LiveOf(d, filepath.Join(c.Root, "current"))
	live.Files = host.Assigned(d)
	command, err := servers.Of(live.Command).Adopt(live)
	if err != nil {
		return socketunit.Pair{}, fmt.Errorf("%s can't be had to take a socket of systemd: %w", d.Name, err)
	}
	if !slices.Equal(command, live.Args) {
		f.Command = command
	}
	if d.MainPID != 0 {
		f.Listen, f.Seen, err = lookAt(d, bind)
	} else {
		f.Listen, err = listenStream(bind)
	}
	if err != nil {
		return socketunit.Pair{}, err
	}
	return socketunit.Make(f)
}

// listenStream is where a service that doesn't run will listen.
func listenStream(bind string) (string, error) {
	if _, err := probe.ParseBind(bind); err != nil {
		return "", err
	}
	listen, err := socketunit.ListenStream(bind)
	if filepath.IsAbs(listen) {
		listen = realPath(listen)
	}
	return listen, err
}

// lookAt looks at the socket of a service that runs. The main process has to hold it itself: sd_listen_fds(3) gives
// sockets to the process that systemd started, and to none below it.
func lookAt(d unit.Description, bind string) (listen string, seen *socketunit.Seen, err error) {
	via, err := probe.ParseBind(bind)
	if err != nil {
		return "", nil, err
	}
	own, err := listens(d.MainPID)
	if err != nil {
		return "", nil, err
	}
	here := socket.Serving(own, via.Network, via.Addr)
	if len(here) == 0 {
		if all, err := socket.Listeners(via.Network); err == nil && len(socket.Serving(all, via.Network, via.Addr)) == 0 {
			return "", nil, fmt.Errorf("%s runs, and nothing listens on %s: have it healthy first, see deploygate diagnose", d.Name, bind)
		}
		return "", nil, fmt.Errorf("the main process of %s (%d) doesn't listen on %s itself, and sockets of systemd go to that process alone: start "+
			"the server without a program between, by exec", d.Name, d.MainPID, bind)
	}
	seen = &socketunit.Seen{}
	for _, l := range own {
		if l != here[0] {
			seen.More = append(seen.More, l.Bind())
		}
	}
	if via.Network != "unix" {
		return here[0].Addr, seen, nil
	}
	listen = realPath(via.Addr)
	if seen.Socket, err = rightsOf(listen, fs.ModeSocket); err != nil {
		return "", nil, fmt.Errorf("the socket of %s is not to be seen from here: %w", d.Name, err)
	}
	if seen.Directory, err = rightsOf(filepath.Dir(listen), fs.ModeDir); err != nil {
		return "", nil, err
	}
	entries, err := untrusted.ReadDir(filepath.Dir(listen))
	if err != nil {
		return "", nil, fmt.Errorf("cannot list %s: %w", filepath.Dir(listen), untrusted.Cause(err))
	}
	for _, e := range entries {
		if own := filepath.Base(listen); e.Name() != own && e.Name() != own+".lock" { // which daphne makes for a socket of its own
			seen.Beside = append(seen.Beside, e.Name())
		}
	}
	return listen, seen, nil
}

// rightsOf reads the owner and mode of a file of a kind.
func rightsOf(file string, kind fs.FileMode) (r socketunit.Rights, err error) {
	info, err := untrusted.Lstat(file)
	if err != nil {
		return r, fmt.Errorf("cannot look at %s: %w", file, untrusted.Cause(err))
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode()&fs.ModeType != kind {
		return r, fmt.Errorf("%s is %s, which was not expected", file, info.Mode())
	}
	uid, gid := strconv.FormatUint(uint64(st.Uid), 10), strconv.FormatUint(uint64(st.Gid), 10)
	r = socketunit.Rights{Owner: uid, Group: gid, Mode: info.Mode().Perm()}
	if u, err := user.LookupId(uid); err == nil {
		r.Owner = u.Username
	}
	if g, err := user.LookupGroupId(gid); err == nil {
		r.Group = g.Name
	}
	return r, nil
}
