package unit

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// Command is one program to run beside the app: a hook or a check of the user's.
type Command struct {
	Name        string // part of the transient unit's name: letters, digits and '-'
	Args        []string
	Dir         string
	User        string // "" is the app unit's user
	Environment []string
	Point       func(path string) string // where a path of the unit's settings leads for it; nil: to the same
	Writable    []string                 // directories that the unit's sandbox must not keep it from changing
	Timeout     time.Duration
	Output      io.Writer // stdout and stderr
}

// Run runs a command as a transient unit and waits for it. systemd starts it, so user, groups, umask, limits, environment
// files and sandbox are exactly what the app gets, and all of its processes end with it. A command of another user than
// the app's gets the environment alone: the sandbox is made for the app's user and what that may do.
//
// An error says why it failed; when ctx ends the command is stopped first.
func (u Unit) Run(ctx context.Context, c Command) error {
	app, err := u.Describe(ctx)
	if err != nil {
		return err
	}
	conn, _, err := u.m.dialled()
	if err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer read.Close()
	name := fmt.Sprintf("deploygate-%s-%s.service", c.Name, rand.Text()[:8])
	done := make(chan string, 1)
	props, err := u.transient(ctx, app, c, name, write)
	if err != nil {
		write.Close()
		return err
	}
	_, err = conn.StartTransientUnitContext(ctx, name, "fail", sorted(props), done)
	write.Close() // systemd has its own copy; the reader ends when the last one is closed
	if err != nil {
		u.m.stop(name) // an answer that didn't come is no proof that it wasn't started
		return fmt.Errorf("cannot run %s: %w", c.Args[0], plain(err))
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(c.Output, read)
	}()
	result, err := u.m.Unit(name).await(ctx, conn, done)
	if err != nil {
		u.m.stop(name)
		return err
	}
	// A process that outlives the command could hold the pipe open for ever.
	_ = read.SetReadDeadline(time.Now().Add(time.Second))
	<-copied
	if result == "done" {
		return nil
	}
	return u.m.failure(name, result, c)
}

// transient are the settings of a command.
func (u Unit) transient(ctx context.Context, app Description, c Command, name string, out *os.File) (settings, error) {
	props := settings{}
	prop := func(name string, value any) { props[name] = dbus.MakeVariant(value) }
	point := c.Point
	if point == nil {
		point = func(path string) string { return path }
	}
	if u.m.scope == User || c.ofApp(app) {
		own, none, err := u.beside(ctx, name)
		if err != nil {
			return nil, err
		}
		if props, err = u.inherited(own, none, point); err != nil {
			return nil, err
		}
		if u.m.scope == System {
			readWrite, _ := props["ReadWritePaths"].Value().([]string)
			for _, dir := range app.RuntimeDirectories { // which the app may change, since they are its own
				readWrite = append(slices.Clip(readWrite), "-/run/"+dir)
			}
			for _, dir := range c.Writable {
				readWrite = append(slices.Clip(readWrite), "-"+dir)
			}
			if props["ProtectSystem"].Value() != nil || props["ReadOnlyPaths"].Value() != nil {
				prop("ReadWritePaths", readWrite) // else there is nothing to take back, and a mount namespace for nothing
			}
		}
	} else {
		files := slices.Clone(app.EnvironmentFiles)
		for i := range files {
			files[i].Path = point(files[i].Path)
		}
		prop("EnvironmentFiles", files)
		prop("User", c.User)
	}
	var environment []string
	for _, assignment := range app.Environment {
		environment = append(environment, point(assignment))
	}
	prop("Description", "deploygate: "+c.Name)
	prop("Type", "oneshot")
	props["ExecStart"] = sd.PropExecStart(literal(c.Args), false).Value // go-systemd calls it uncleanIsFailure, but true has systemd ignore failures
	prop("WorkingDirectory", c.Dir)
	prop("Environment", append(environment, c.Environment...))
	prop("StandardOutputFileDescriptor", dbus.UnixFD(out.Fd())) //nolint:gosec // a file descriptor is small
	prop("StandardErrorFileDescriptor", dbus.UnixFD(out.Fd()))  //nolint:gosec // a file descriptor is small
	prop("TimeoutStartUSec", uint64(c.Timeout.Microseconds()))  //nolint:gosec // configuration takes no negative one
	return props, nil
}

// ofApp reports whether a command runs as the app's user.
func (c Command) ofApp(app Description) bool {
	return c.User == "" || cmp.Or(c.User, "root") == cmp.Or(app.User, "root")
}

// literal keeps systemd from replacing variables in arguments (systemd.service(5), "Command lines").
func literal(args []string) []string {
	escaped := make([]string, len(args))
	for i, arg := range args {
		escaped[i] = strings.ReplaceAll(arg, "$", "$$")
	}
	return escaped
}

// stop ends a transient unit that nobody waits for any more and waits until its processes are gone.
func (m *Manager) stop(name string) {
	ctx, cancel := context.WithTimeout(m.life, 2*time.Minute)
	defer cancel()
	conn, _, err := m.dialled()
	if err != nil {
		return
	}
	done := make(chan string, 1)
	if _, err := conn.StopUnitContext(ctx, name, "replace", done); err == nil {
		_, _ = m.Unit(name).await(ctx, conn, done)
	}
	_ = conn.ResetFailedUnitContext(ctx, name)
}

// failure explains how a command ended whose job didn't end as "done", and has systemd forget it. It is nil where the end wasn't
// seen and was a good one.
func (m *Manager) failure(name, result string, c Command) error {
	ctx, cancel := context.WithTimeout(m.life, callLimit)
	defer cancel()
	p, err := m.Unit(name).properties(ctx)
	if err != nil {
		return err
	}
	if conn, _, err := m.dialled(); err == nil {
		_ = conn.ResetFailedUnitContext(ctx, name)
	}
	why := get[string](p, "Result")
	if why == "success" && result == ended {
		return nil
	}
	switch why {
	case "timeout":
		return fmt.Errorf("it did not end within %s and was stopped", c.Timeout)
	case "exit-code":
		status := get[int32](p, "ExecMainStatus")
		if why, ok := execFailures[status]; ok {
			return errors.New(why)
		}
		return fmt.Errorf("exit status %d", status)
	case "resources":
		return errors.New("systemd can't start it: an environment file of the app's unit can't be read, or a limit is reached")
	case "signal", "core-dump":
		return fmt.Errorf("killed by signal %d", get[int32](p, "ExecMainStatus"))
	default:
		return fmt.Errorf("systemd says %s", why)
	}
}

// execFailures are the exit statuses with which systemd itself gives up before the program runs (systemd.exec(5)).
var execFailures = map[int32]string{
	200: "its working directory can't be entered",
	203: "the program does not exist or can't be executed",
	216: "its group does not exist",
	217: "its user does not exist",
	226: "the sandbox of the app's unit can't be set up for it (ReadWritePaths= and the like)",
}
