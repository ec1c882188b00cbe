package host

import (
	"context"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/unit"
)

// maxEnvironment bounds an environment, in bytes.
const maxEnvironment = 256 << 10

// learn makes known which values of the app's environment must not be shown: of the unit's settings, of the environment
// files as they are, and as the release in dir has them, and of the process that runs.
func (h *Host) learn(d unit.Description, dir string) {
	c := h.Config
	h.secrets.Public(c.App, c.Service.Unit, c.Root, c.StateDir, c.Health.Host, c.Health.Path, c.Proxy.Host, h.bind, d.User, d.Group, d.WorkingDirectory)
	h.secrets.AddAll(d.Environment)
	files := []string{filepath.Join(d.WorkingDirectory, ".env")} // which the app may read by itself
	for _, f := range d.EnvironmentFiles {
		files = append(files, f.Path)
	}
	for _, f := range files {
		for _, file := range h.alsoIn(dir, f) {
			h.secrets.AddAll(assignments(file))
		}
	}
	if d.MainPID > 0 {
		text, _, err := untrusted.ReadFile(fmt.Sprintf("/proc/%d/environ", d.MainPID), maxEnvironment, nil)
		if err == nil {
			h.secrets.AddAll(strings.Split(string(text), "\x00"))
		}
	}
}

// alsoIn returns a path, and where it leads in a release's directory if it goes through the live link.
func (h *Host) alsoIn(dir, path string) []string {
	if below, is := strings.CutPrefix(path, h.tree.CurrentPath()+"/"); is && dir != "" {
		return []string{path, filepath.Join(dir, below)}
	}
	return []string{path}
}

// learnOfConfiguration does so for the environments that the configuration gives to hooks, and for the headers of a probe.
func (h *Host) learnOfConfiguration() {
	for name, value := range h.Config.Health.Headers {
		h.secrets.Add(name, value)
	}
	for _, tasks := range h.Config.Hooks {
		for _, t := range tasks {
			h.secrets.AddAll(t.Environment)
		}
	}
	for _, c := range h.Config.Checks {
		h.secrets.AddAll(c.Environment)
	}
}

// assignments reads an environment file; none where it can't be read. Whatever stands in a pattern's files counts. It is
// read with root's rights, as systemd does: what isn't known can't be hidden.
func assignments(file string) (found []string) {
	files := []string{file}
	if strings.ContainsAny(file, "*?[") { // EnvironmentFile= takes patterns
		if matching, err := untrusted.Glob(file); err == nil {
			files = matching
		}
	}
	for _, f := range files {
		if text, _, err := untrusted.ReadFile(f, maxEnvironment, &untrusted.User{}); err == nil {
			found = append(found, unit.ParseEnvironment(string(text))...)
		}
	}
	return found
}

// appUser is whose rights to files the app has; nil: this process's own, where it is root's, or isn't known.
func appUser(scope unit.Scope, d unit.Description) *untrusted.User {
	if scope == unit.User || d.User == "" && !d.DynamicUser || d.User == "root" || d.User == "0" {
		return nil
	}
	who, err := socket.OfUser(d.User)
	if err != nil && d.MainPID > 0 { // a dynamic one
		who, err = socket.OfProcess(d.MainPID)
	}
	if err != nil {
		const nobody = 65534
		return &untrusted.User{UID: nobody, GID: nobody}
	}
	u := &untrusted.User{UID: who.UID, GID: who.GID, Groups: who.Groups}
	if gid, known := groupID(d.Group); known {
		u.GID = gid
	}
	for _, name := range d.Groups {
		if gid, known := groupID(name); known {
			u.Groups = append(u.Groups, gid)
		}
	}
	if d.MainPID > 0 { // it may have been started with other settings
		if running, err := socket.OfProcess(d.MainPID); err == nil && running.UID == u.UID {
			u.GID, u.Groups = running.GID, running.Groups
		}
	}
	return u
}

func groupID(name string) (int, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		g, err = user.LookupGroupId(name)
	}
	if err != nil {
		return 0, false
	}
	id, err := strconv.Atoi(g.Gid)
	return id, err == nil
}

// describe is the app's unit as systemd has loaded it, with its secrets made known.
func (h *Host) describe(ctx context.Context, dir string) (unit.Description, error) {
	d, err := h.Manager.Unit(h.Config.Service.Unit).Describe(ctx)
	if err == nil {
		h.learn(d, dir)
	}
	return d, err
}
