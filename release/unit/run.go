package unit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
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
	Timeout     time.Duration
	Output      io.Writer // stdout and stderr
}

// Run runs a command as a transient unit with the app unit's environment and waits for it. systemd starts it, so user,
// groups and environment files are exactly what the app gets, and all of its processes end with it.
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
	_, err = conn.StartTransientUnitContext(ctx, name, "fail", u.transient(app, c, write), done)
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

func (u Unit) transient(app Description, c Command, out *os.File) []sd.Property {
	prop := func(name string, value any) sd.Property {
		return sd.Property{Name: name, Value: dbus.MakeVariant(value)}
	}
	props := []sd.Property{
		sd.PropDescription("deploygate: " + c.Name),
		sd.PropType("oneshot"),
		sd.PropExecStart(literal(c.Args), false), // go-systemd calls it uncleanIsFailure, but true has systemd ignore failures
		prop("WorkingDirectory", c.Dir),
		prop("Environment", append(append([]string{}, app.Environment...), c.Environment...)),
		prop("EnvironmentFiles", app.EnvironmentFiles),
		prop("StandardOutputFileDescriptor", dbus.UnixFD(out.Fd())), //nolint:gosec // a file descriptor is small
		prop("StandardErrorFileDescriptor", dbus.UnixFD(out.Fd())),  //nolint:gosec // a file descriptor is small
		prop("TimeoutStartUSec", uint64(c.Timeout.Microseconds())),  //nolint:gosec // configuration takes no negative one
	}
	if user := c.User; u.m.scope == System {
		if user == "" {
			user = app.User
			if app.Group != "" {
				props = append(props, prop("Group", app.Group))
			}
		}
		if user != "" {
			props = append(props, prop("User", user))
		}
	}
	return props
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
}
