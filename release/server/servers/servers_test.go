package servers_test

import (
	"strings"
	"testing"

	"deploygate/release/server"
	"deploygate/release/server/servers"
)

// Where a server listens, by what its command and its environment say.
// Of a shell's line nothing is shown but which program it runs.
func TestNothingOfAShellLineIsShown(t *testing.T) {
	for _, line := range []string{"TOKEN=s3cret gunicorn -c /etc/s3cret shop:app", "hypercorn -c /etc/s3cret shop:app", "uvicorn --port ${s3cret} app:app"} {
		c := server.Command{Args: []string{"/bin/sh", "-c", line}, Dir: "/srv/app/current"}
		b := servers.Parse(c).Bind()
		_, err := servers.Of(c).Rewrite(t.Context(), server.Live{Command: c, Link: "/srv/app/current"}, server.Candidate{})
		if b.Addr != "" || b.Why == "" || strings.Contains(b.Why, "s3cret") || err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %+v, %v", line, b, err)
		}
	}
}

func TestBind(t *testing.T) {
	for _, c := range []struct{ command, environment, want string }{
		{"uvicorn --uds /run/gunicorn/gunicorn.sock shop:app", "", "unix:/run/gunicorn/gunicorn.sock"},
		{"uvicorn --uds=run/x.sock shop:app", "", "unix:/srv/app/current/run/x.sock"},
		{"uvicorn shop:app --host 0.0.0.0 --port=9000", "", "0.0.0.0:9000"},
		{"uvicorn shop:app --host ::1", "", "[::1]:8000"},
		{"uvicorn shop:app --port ${PORT}", "PORT=9001", "127.0.0.1:9001"},
		{"uvicorn shop:app", "UVICORN_PORT=9002 UVICORN_HOST=127.0.0.2", "127.0.0.2:9002"},
		{"uvicorn shop:app --port 1", "UVICORN_PORT=2", "127.0.0.1:1"},
		{"uvicorn shop:app", "", "by default 127.0.0.1:8000"},
		{"uvicorn shop:app --port ${PORT}", "", "not known: its --port has a variable that isn't known"},
		{"uvicorn shop:app --fd 3", "", "not known: its --fd names a socket that it is given"},
		{"gunicorn -k uvicorn.workers.UvicornWorker -b :9 shop:app", "", ":9"},
		{"hypercorn -b unix:/run/h.sock shop:app", "", "unix:/run/h.sock"},
		{"python -m hypercorn --bind 127.0.0.1 shop:app", "", "127.0.0.1:8000"},
		{"hypercorn -c /etc/h.toml shop:app", "", "not known: its bind may be in /etc/h.toml"},
		{"hypercorn --bind fd://3 shop:app", "", "not known: its --bind names a socket that it is given"},
		{"hypercorn shop:app", "", "by default 127.0.0.1:8000"},
		{"daphne -u /run/d.sock shop:app", "", "unix:/run/d.sock"},
		{"daphne -b 0.0.0.0 -p 8001 shop:app", "", "0.0.0.0:8001"},
		{"daphne -p8001 shop:app", "", "127.0.0.1:8001"},
		{"daphne -e tcp:port=8000 shop:app", "", "not known: its --endpoint is Twisted's, which is not read"},
		{"daphne shop:app", "", "by default 127.0.0.1:8000"},
		{"/srv/app/start", "", "not known: its ExecStart names no server whose options are known"},
	} {
		l := servers.Parse(server.Command{Args: strings.Fields(c.command), Dir: "/srv/app/current", Environment: strings.Fields(c.environment)})
		b := l.Bind()
		got := b.Addr
		switch {
		case got == "":
			got = "not known: " + b.Why
		case b.Default:
			got = "by default " + got
		}
		if got != c.want {
			t.Errorf("%s (%s): %s; want %s", c.command, c.environment, got, c.want)
		}
	}
}
