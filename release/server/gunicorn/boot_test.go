package gunicorn

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"deploygate/release/server"
)

// TestBootsBesideTheLiveRelease runs both, and sees that the live one doesn't notice.
func TestBootsBesideTheLiveRelease(t *testing.T) {
	all := gunicorns(t)
	if len(all) == 0 {
		t.Skip("the testbed has no cached root")
	}
	for _, version := range all {
		t.Run(version.name, func(t *testing.T) {
			s := newSite(t)
			needPython(t)
			for _, v := range []string{"v41", "v42"} {
				s.write(t, "releases/"+v+"/src/app.py", "import os\n\n\ndef app(environ, start):\n    start('200 OK', [])\n    return [("+
					fmt.Sprintf("%q", v)+" + ' ' + os.getcwd() + ' ' + os.environ['HERE'] + ' ' + os.environ.get('CONF', '')).encode()]\n")
				s.write(t, "releases/"+v+"/gunicorn.conf.py", "bind = 'unix:{root}/run/conf.sock'\npidfile = '{root}/run/conf.pid'\n"+
					"errorlog = '{root}/e.log'\naccesslog = '{root}/a.log'\nraw_env = ['CONF="+v+"']\n")
			}
			live := server.Live{
				Command: server.Command{
					Args: s.fillAll(strings.Fields(g + "-b unix:{root}/run/live.sock -p {root}/run/live.pid -w 1 --graceful-timeout 1 --chdir src app:app")),
					Dir:  s.link, Environment: []string{"HERE=" + s.link, "GUNICORN_CMD_ARGS=--bind unix:" + s.root + "/run/env.sock"},
				},
				Link: s.link,
			}
			socket := s.root + "/run/live.sock"
			version.start(t, live.Command)
			s.answers(t, socket, "v41 "+s.root+"/releases/v41/src "+s.link+" v41")
			before := s.see(t)

			c, err := Rewrite(t.Context(), live, s.stage)
			if err != nil {
				t.Fatal(err)
			}
			candidate := version.start(t, c)
			private := strings.TrimPrefix(s.stage.Bind, "unix:")
			s.answers(t, private, "v42 "+s.stage.Release+"/src "+s.stage.Release+" v42")
			if pid := s.read(t, s.stage.PIDFile); pid != fmt.Sprintln(candidate.Process.Pid) {
				t.Errorf("its pid file has %q, and it is %d", pid, candidate.Process.Pid)
			}
			if err := candidate.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := candidate.Wait(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(private); !os.IsNotExist(err) {
				t.Errorf("it left its socket: %v", err)
			}
			if after := s.see(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			s.answers(t, socket, "v41 "+s.root+"/releases/v41/src "+s.link+" v41")
			if log := s.read(t, s.root+"/a.log"); strings.Contains(log, "/v42") {
				t.Errorf("the live release's access log has the candidate's requests:\n%s", log)
			}
		})
	}
}

// start runs a command as systemd would, but with this gunicorn.
func (g gunicorn) start(t *testing.T, c server.Command) *exec.Cmd {
	t.Helper()
	args := append(g.command[1:len(g.command):len(g.command)], "-m", "gunicorn")
	cmd := exec.CommandContext(t.Context(), g.command[0], append(args, argumentsOf(c, nil)...)...)
	cmd.Dir, cmd.Env = c.Dir, append(append([]string{}, g.env...), c.Environment...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	said := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said)
		}
	})
	return cmd
}

// answers waits until an app answers on a socket.
func (s site) answers(t *testing.T, socket, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/"+want[:3], http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(req); err == nil {
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(body) != want {
				t.Fatalf("%s answers %q, want %q", socket, body, want)
			}
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%s doesn't answer", socket)
		}
	}
}

// see is what the live release has outside of its directory, but for its access log, which comes after the answers.
func (s site) see(t *testing.T) string {
	t.Helper()
	out := ""
	for _, dir := range []string{"/run", ""} {
		entries, err := os.ReadDir(s.root + dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() == "a.log" {
				continue
			}
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprint(e.Name(), " ", info.Mode())
			if stat, ok := info.Sys().(*syscall.Stat_t); ok && !e.IsDir() {
				out += fmt.Sprint(" ", stat.Ino, " ", stat.Size)
			}
			if info.Mode().IsRegular() {
				out += " " + s.read(t, s.root+dir+"/"+e.Name())
			}
			out += "\n"
		}
	}
	return out
}

func (s site) read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
