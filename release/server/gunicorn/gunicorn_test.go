package gunicorn

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"deploygate/release/server"
)

// gunicorn is one of a Debian root that the testbed has cached, with the Python of that root.
type gunicorn struct {
	name    string
	command []string // python
	env     []string
}

// gunicorns are those that are there: 20.1 of Debian 12, 23.0 of Debian 13.
func gunicorns(tb testing.TB) (found []gunicorn) {
	tb.Helper()
	for _, suite := range []string{"bookworm", "trixie"} {
		packages, err := filepath.Glob("/var/cache/deploygate-testbed/" + suite + "-*/usr/lib/python3/dist-packages/gunicorn")
		if err != nil {
			tb.Fatal(err)
		}
		if len(packages) == 0 {
			continue
		}
		usr := filepath.Clean(packages[0] + "/../../../..")
		// Its own Python needs its own loader and libraries, and no chroot.
		loaders, _ := filepath.Glob(usr + "/lib*/ld-linux-*.so.*")
		libraries, _ := filepath.Glob(usr + "/lib/*-linux-gnu")
		pythons, _ := filepath.Glob(usr + "/bin/python3.[0-9]*[0-9]")
		if len(loaders) == 0 || len(libraries) == 0 || len(pythons) == 0 {
			tb.Fatalf("%s has no Python that can be run", usr)
		}
		found = append(found, gunicorn{
			name:    suite,
			command: []string{loaders[0], "--library-path", libraries[0], pythons[0], "-B"},
			env:     []string{"PYTHONHOME=" + usr, "PYTHONPATH=" + usr + "/lib/python3/dist-packages"},
		})
	}
	return found
}

// resolver tells what gunicorn makes of a command.
type resolver struct {
	in      io.Writer
	out     *bufio.Reader
	options map[string]string // how many values each option takes, as argparse has it
}

func (g gunicorn) resolver(tb testing.TB) *resolver {
	tb.Helper()
	script, err := filepath.Abs("testdata/resolve.py")
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), g.command[0], append(g.command[1:], script)...)
	cmd.Env, cmd.Stderr = g.env, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	r := &resolver{in: in, out: bufio.NewReader(out)}
	r.read(tb, &r.options)
	return r
}

func (r *resolver) read(tb testing.TB, answer any) {
	tb.Helper()
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		tb.Fatal(err)
	}
}

// resolve returns gunicorn's settings, in Python's words; none if gunicorn would not start.
func (r *resolver) resolve(tb testing.TB, args []string, dir string, environment []string) (settings map[string]string) {
	tb.Helper()
	env := map[string]string{}
	for _, assignment := range environment {
		name, value, _ := strings.Cut(assignment, "=")
		env[name] = value
	}
	line, err := json.Marshal(map[string]any{"args": args, "dir": dir, "env": env})
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		tb.Fatal(err)
	}
	r.read(tb, &settings)
	return settings
}

// arguments are gunicorn's own, as systemd gives them to it: after its path, or -m gunicorn.
func argumentsOf(c server.Command, files []string) []string {
	env := map[string]string{}
	for _, assignment := range slices.Concat(c.Environment, files) {
		name, value, _ := strings.Cut(assignment, "=")
		env[name] = value
	}
	program := slices.IndexFunc(c.Args, func(arg string) bool { return strings.Contains(filepath.Base(arg), "gunicorn") })
	var args []string
	for _, arg := range c.Args[program+1:] {
		args = append(args, expanded(arg, env)...)
	}
	return args
}

// expanded follows the letter of replace_env_argv in systemd's env-util.c.
func expanded(arg string, env map[string]string) []string {
	if len(arg) > 1 && arg[0] == '$' && arg[1] != '{' && arg[1] != '$' {
		return strings.Fields(env[arg[1:]])
	}
	out := ""
	for arg != "" {
		name, after, closed := strings.Cut(strings.TrimPrefix(arg, "${"), "}")
		switch {
		case strings.HasPrefix(arg, "$$"):
			out, arg = out+"$", arg[2:]
		case strings.HasPrefix(arg, "${") && closed:
			out, arg = out+env[name], after
		default:
			out, arg = out+arg[:1], arg[1:]
		}
	}
	return []string{out}
}

// agrees sees that what gunicorn makes of a command is what it made of the live one, but for what a rehearsal changes.
// It reports whether gunicorn would have started the live one at all.
func (r *resolver) agrees(tb testing.TB, s site, live server.Live, got server.Command) bool {
	tb.Helper()
	was := r.resolve(tb, argumentsOf(live.Command, live.Files), live.Dir, slices.Concat(live.Environment, live.Files))
	if len(was) == 0 {
		return false
	}
	is := r.resolve(tb, argumentsOf(got, live.Files), got.Dir, slices.Concat(got.Environment, live.Files))
	for name, want := range map[string]string{
		"bind":               "['" + s.stage.Bind + "']",
		"pidfile":            "'" + s.stage.PIDFile + "'",
		"workers":            "2",
		"proc_name":          "'private'",
		"daemon":             "False",
		"reuse_port":         "False",
		"errorlog":           "'-'",
		"logconfig":          "None",
		"logconfig_dict":     "{}",
		"certfile":           "None",
		"keyfile":            "None",
		"accesslog":          is["accesslog"],      // see below
		"logconfig_json":     is["logconfig_json"], // 20.1 takes it as an option, and does nothing with it
		"reload":             is["reload"],
		"reload_engine":      is["reload_engine"],
		"reload_extra_files": is["reload_extra_files"],
		"statsd_host":        is["statsd_host"],
		"statsd_prefix":      is["statsd_prefix"],
		"dogstatsd_tags":     is["dogstatsd_tags"],
		"syslog":             is["syslog"],
		"syslog_addr":        is["syslog_addr"],
		"syslog_prefix":      is["syslog_prefix"],
		"syslog_facility":    is["syslog_facility"],
	} {
		if is[name] != want {
			tb.Errorf("gunicorn makes %s of %s, want %s: %q", is[name], name, want, got.Args)
		}
		delete(was, name)
	}
	if log := is["accesslog"]; log != "None" && log != "'-'" {
		tb.Errorf("gunicorn logs to %s: %q", log, got.Args)
	}
	same := strings.NewReplacer(s.link, "R", s.root+"/releases/v41", "R", s.stage.Release, "R")
	for name, before := range was {
		// One that was relative to the link isn't any more.
		now := strings.ReplaceAll(is[name], s.stage.Release, "current")
		if same.Replace(is[name]) != same.Replace(before) && now != before {
			tb.Errorf("gunicorn makes %s of %s, and %s in the live release: %q", now, name, before, got.Args)
		}
	}
	for name, now := range is {
		if strings.Contains(now, s.link+"/") || strings.Contains(now, s.link+"'") || strings.Contains(now, "/v41") {
			tb.Errorf("gunicorn makes %s of %s, which is the live release: %q", now, name, got.Args)
		}
	}
	return true
}

func TestGunicornAgrees(t *testing.T) {
	all := gunicorns(t)
	if len(all) == 0 {
		t.Skip("the testbed has no cached root")
	}
	for _, version := range all {
		t.Run(version.name, func(t *testing.T) {
			resolver := version.resolver(t)
			for _, r := range certain {
				if r.why != "" {
					continue
				}
				t.Run(r.name, func(t *testing.T) {
					s := r.site(t)
					live := r.live(s)
					got, err := Rewrite(t.Context(), live, s.stage)
					if err != nil {
						t.Fatal(err)
					}
					live.Files = append(live.Files, r.pass...)
					if agrees := resolver.agrees(t, s, live, got); agrees == r.alien {
						t.Errorf("gunicorn would start the live release: %v", agrees)
					}
				})
			}
		})
	}
}

// TestOptionsAreGunicorns sees that the table has every option of the gunicorns that are there, and what it takes.
func TestOptionsAreGunicorns(t *testing.T) {
	all := gunicorns(t)
	if len(all) == 0 {
		t.Skip("the testbed has no cached root")
	}
	for _, version := range all {
		t.Run(version.name, func(t *testing.T) {
			r := version.resolver(t)
			if len(r.options) < 80 {
				t.Fatalf("it has %d options", len(r.options))
			}
			for name, count := range r.options {
				switch o := byName[name]; {
				case o == nil:
					t.Errorf("%s is not in the table", name)
				case o.takes == maybe && name == "--proxy-protocol": // without a value before 24.1
				case (o.takes == value) != (count == "None"):
					t.Errorf("%s takes %s", name, count)
				}
			}
		})
	}
}
