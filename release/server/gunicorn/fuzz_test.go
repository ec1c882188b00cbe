package gunicorn

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"deploygate/release/server"
)

const (
	liveBind = "unix:/run/live/gunicorn.sock"
	livePID  = "/run/live/gunicorn.pid"
)

// units are what commands are made of. The live bind and pid file stand only where gunicorn would use them.
var units = []string{
	"--bind " + liveBind, "--bind=" + liveBind, "-b " + liveBind, "-b" + liveBind, "-b=" + liveBind, "--bin " + liveBind, "--bi=" + liveBind,
	"-Db " + liveBind, "-RDb" + liveBind, "--pid " + livePID, "--pid=" + livePID, "-p " + livePID, "-p" + livePID, "--pi=" + livePID, "-Rp " + livePID,
	"-w 7", "-w7", "--workers=7", "--workers $N", "-Dw3", "-D", "--daemon", "--daem", "-R", "--reuse-port", "--reuse", "-n x", "--name=x",
	"--log-config /etc/passwd", "--log-config=/etc/passwd", "--access-logfile /run/live/a", "--log-file=/run/live/e", "--error-logfile -", "--certfile /etc/passwd",
	"--chdir {root}/current", "--chdir=src", "--chdir ${ROOT}", "--chdir ${BASE}/current/src", "--pythonpath {root}/current/a,src", "-e A={root}/current",
	"-eB=${ROOT}", "--env=C=$$D", "--env D=", "--env E=-b", "--timeout 30", "-t30", "-t ${T}", "-t $T", "--timeout=-1", "--preload", "--threads 2", "-k sync", "--reload",
	"--log-syslog", "--statsd-host h:1", "-m 7", "-m0", "--backlog=9", "--umask 0x7", "--proxy-protocol", "--paste x", "--frob", "--frob=1", "--conf=", "-c /etc/none",
	"-c {root}/etc/good.py", "-c={root}/etc/good.py", "-c {root}/etc/bad.py", "-c={root}/etc/bad.py", "--config={root}/etc/bad.py", "-c=", "--config=",
	"app:app", "${APP}", "$APP", "$OPTS", "${OPTS}", "--", "-", "-5", "$", "$$", "${", "x", "--p", "--w", "-", "--bind", "-b", "-w", "--timeout", "--env", "-e",
	"", "=", "'", `"`, `\`, " ", "/", "{root}/current", "{root}//current/", "{root}/current-old", "é",
}

// compose makes a live unit of a fuzzer's bytes: each is a unit, those above 127 join the words before and after.
func compose(s site, data string) server.Live {
	all := [][]string{{}}
	for _, b := range []byte(data) {
		if b&0x7f == 0x7f {
			all = append(all, nil)
			continue
		}
		last := &all[len(all)-1]
		words := strings.Split(s.fill(units[int(b&0x7f)%len(units)]), " ")
		if b >= 0x80 && len(*last) > 0 && !strings.Contains(strings.Join(words, " "), "live") && !strings.Contains((*last)[len(*last)-1], "live") {
			(*last)[len(*last)-1] += words[0]
			words = words[1:]
		}
		*last = append(*last, words...)
	}
	live := server.Live{
		Command: server.Command{
			Args:        append([]string{s.root + "/venv/bin/gunicorn"}, all[0]...),
			Dir:         s.link,
			Environment: []string{"ROOT=" + s.link + "/src", "BASE=" + s.root, "T=60", "APP=app:app", "OPTS=--bind unix:/run/live/other.sock"},
		},
		Link: s.link,
	}
	if len(all) > 1 {
		live.Environment = append(live.Environment, "GUNICORN_CMD_ARGS="+strings.Join(all[1], " "))
	}
	if len(all) > 2 {
		live.Files = append(live.Files, "GUNICORN_CMD_ARGS="+strings.Join(all[2], " "))
	}
	return live
}

// FuzzRewrite sees that a command that comes out has nothing of the live release, by its text and by what the gunicorns
// that are there make of it; and that all else is as it was.
func FuzzRewrite(f *testing.F) {
	app := byte(slices.Index(units, "app:app")) //nolint:gosec // there are fewer than 127
	for i := range byte(len(units)) {           //nolint:gosec // likewise
		f.Add(string([]byte{i, app, i / 2}))
	}
	s := newSite(f)
	s.write(f, "etc/good.py", "bind = 'h:1'\nworkers = 9\nbacklog = 77\naccesslog = errorlog = pidfile = '/run/live/x'\n")
	s.write(f, "etc/bad.py", "daemon = True\n")
	through := regexp.MustCompile(regexp.QuoteMeta(s.link) + `($|[^\w.+\-\x{80}-\x{10ffff}])`)
	var resolvers []*resolver
	for _, version := range gunicorns(f) {
		resolvers = append(resolvers, version.resolver(f))
	}
	f.Fuzz(func(t *testing.T, data string) {
		live := compose(s, data)
		got, err := Rewrite(t.Context(), live, s.stage)
		if err != nil {
			u, ok := errors.AsType[*server.Uncertain](err)
			if !ok || u.Summary == "" || strings.ContainsAny(u.Summary, "\n\x00") {
				t.Fatalf("Rewrite: %v", err)
			}
			return
		}
		// In the environment, between quotes, it may stand where it is no bind.
		for _, arg := range got.Args {
			if strings.Contains(arg, liveBind) || strings.Contains(arg, livePID) {
				t.Errorf("%q is the live release's", arg)
			}
		}
		for _, text := range slices.Concat(argumentsOf(got, live.Files), got.Args, got.Environment, []string{got.Dir}) {
			if through.MatchString(text) {
				t.Errorf("%q goes through the live link", text)
			}
		}
		for _, r := range resolvers {
			r.agrees(t, s, live, got)
		}
	})
}
