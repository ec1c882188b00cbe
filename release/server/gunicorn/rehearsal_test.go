package gunicorn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/release/python"
	"deploygate/release/server"
)

// site is a host's /srv/app: {root} in what follows. {new} is the candidate's directory.
type site struct {
	root  string
	link  string
	stage server.Candidate
}

func newSite(tb testing.TB) site {
	tb.Helper()
	root, err := filepath.EvalSymlinks(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	s := site{root: root, link: root + "/current", stage: server.Candidate{
		Release: root + "/releases/v42",
		Bind:    "unix:" + root + "/run/private/gunicorn.sock",
		PIDFile: root + "/run/private/gunicorn.pid",
		Workers: 2,
	}}
	for _, dir := range []string{"releases/v41/src", "releases/v42/src", "run/private", "etc"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Symlink("releases/v41", s.link); err != nil {
		tb.Fatal(err)
	}
	s.write(tb, "venv/bin/gunicorn", "#!{root}/venv/bin/python3\n")
	for _, v := range []string{"v41", "v42"} {
		s.write(tb, "releases/"+v+"/venv/bin/gunicorn", "#!{root}/current/venv/bin/python3\n")
	}
	return s
}

func (s site) write(tb testing.TB, name, text string) {
	tb.Helper()
	file := filepath.Join(s.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(s.fill(text)), 0o755); err != nil {
		tb.Fatal(err)
	}
}

// fill puts the site's paths into a text.
func (s site) fill(text string) string {
	return strings.NewReplacer("{root}", s.root, "{new}", s.stage.Release, "{bind}", s.stage.Bind, "{pid}", s.stage.PIDFile).Replace(text)
}

func (s site) fillAll(texts []string) []string {
	var filled []string
	for _, text := range texts {
		filled = append(filled, s.fill(text))
	}
	return filled
}

// own are the arguments that every rehearsal has.
const own = "--bind {bind} --pid {pid} --workers 2 --name private --error-logfile -"

// row is a live unit.
type row struct {
	name  string
	exec  string   // its words are its fields, unless
	args  []string // there are some
	dir   string   // "" is {root}/current
	env   []string
	files []string
	conf  string // gunicorn.conf.py of the candidate
	set   func(tb testing.TB, s site)
	pass  []string // variables from elsewhere, which are not known
	alien bool     // gunicorn 20.1 and 23.0 would not start it

	want    string // the words; * stands for the rehearsal's own
	wantDir string // "" is {new}
	wantEnv []string
	why     string // it is uncertain
}

func (r row) live(s site) server.Live {
	args := r.args
	if args == nil {
		args = strings.Fields(r.exec)
	}
	dir := r.dir
	if dir == "" {
		dir = "{root}/current"
	}
	return server.Live{
		Command: server.Command{Args: s.fillAll(args), Dir: s.fill(dir), Environment: s.fillAll(r.env)},
		Files:   s.fillAll(r.files),
		Link:    s.link,
	}
}

func (r row) site(tb testing.TB) site {
	tb.Helper()
	s := newSite(tb)
	if r.conf != "" {
		needPython(tb)
		s.write(tb, "releases/v42/gunicorn.conf.py", r.conf)
	}
	if r.set != nil {
		r.set(tb, s)
	}
	return s
}

func needPython(tb testing.TB) {
	tb.Helper()
	if python.Find() == "" {
		tb.Skip("python3 is not installed")
	}
}

const g = "{root}/venv/bin/gunicorn "

// certain are commands that can be rewritten.
var certain = []row{
	{name: "nothing but the app", exec: g + "app:app", want: g + "* app:app"},
	{name: "as in the README", exec: g + "--bind unix:/run/gunicorn/gunicorn.sock --workers 3 shop.wsgi", want: g + "* shop.wsgi"},
	{name: "--bind=", exec: g + "--bind=0.0.0.0:80 app:app", want: g + "* app:app"},
	{name: "-b", exec: g + "-b :80 app:app", want: g + "* app:app"},
	{name: "-bX", exec: g + "-b:80 app:app", want: g + "* app:app"},
	{name: "-b=X", exec: g + "-b=:80 app:app", want: g + "* app:app"},
	{name: "-t=X", exec: g + "-t=60 -e=A=1 app:app", want: g + "* -t=60 -e=A=1 app:app"},
	{name: "several, after the app too", exec: g + "-b :80 app:app --bind [::]:81 --bind=:82", want: g + "* app:app"},
	{
		name: "shortened", exec: g + "--bin :80 --worker 9 --pi /run/g.pid --daem --error /var/log/e.log app:app",
		why: "its ExecStart has --worker, which is short for more than one option",
	},
	{name: "shortened, but unique", exec: g + "--bin :80 --workers=9 --pi /run/g.pid --daem --err /var/log/e.log app:app", want: g + "* app:app"},
	{name: "workers", exec: g + "-w 4 app:app --workers 5 -w6", want: g + "* app:app"},
	{name: "pid file", exec: g + "-p /run/g.pid --pid=/run/h.pid app:app", want: g + "* app:app"},
	{
		name: "logs", exec: g + "--access-logfile /var/log/a --error-logfile=/var/log/e --log-file /var/log/f --log-level debug app:app",
		want: g + "* --log-level debug app:app",
	},
	{name: "logging configuration", exec: g + "--log-config /etc/log.ini app:app", want: g + "* app:app"},
	{name: "syslog", exec: g + "--log-syslog --log-syslog-to udp://h:1 --log-syslog-prefix x --log-syslog-facility y app:app", want: g + "* app:app"},
	{name: "StatsD", exec: g + "--statsd-host h:8125 --statsd-prefix shop --dogstatsd-tags a:b app:app", want: g + "* app:app"},
	{name: "daemon", exec: g + "-D app:app --daemon", want: g + "* app:app"},
	{name: "a cluster", exec: g + "-RDw3 app:app", want: g + "* -R app:app"},
	{name: "a cluster whose value is the next word", exec: g + "-DRb :80 app:app", want: g + "* -R app:app"},
	{name: "reloading", exec: g + "--reload --reload-engine poll --reload-extra-file /etc/passwd app:app", want: g + "* app:app"},
	{
		name: "TLS", exec: g + "--certfile {root}/c --keyfile {root}/k --cert-reqs 0 app:app", want: g + "* --cert-reqs 0 app:app",
		set: func(tb testing.TB, s site) { s.write(tb, "c", ""); s.write(tb, "k", "") },
	},
	{name: "a port for everybody", exec: g + "--reuse-port app:app", want: g + "* app:app"},
	{name: "a name", exec: g + "-n shop app:app --name=shop", want: g + "* app:app"},
	{name: "user and group", exec: g + "--user nobody -g nogroup --umask 007 --initgroups app:app", want: g + "* --user nobody -g nogroup --umask 007 --initgroups app:app"},
	{name: "preload", exec: g + "--preload --timeout 60 -k gthread --threads 4 app:app", want: g + "* --preload --timeout 60 -k gthread --threads 4 app:app"},
	{name: "a value that looks like an option of ours", exec: g + "--env A=--bind -e B=-b:80 app:app", want: g + "* --env A=--bind -e B=-b:80 app:app"},
	{name: "a negative number", alien: true, exec: g + "--timeout -5 app:app", want: g + "* --timeout -5 app:app"},
	{name: "an option of tomorrow", alien: true, exec: g + "--frobnicate app:app", want: g + "* --frobnicate app:app"},
	{name: "an option of tomorrow with a value", alien: true, exec: g + "--frobnicate 3 app:app", want: g + "* --frobnicate 3 app:app"},
	{name: "PROXY protocol", exec: g + "--proxy-protocol app:app", want: g + "* --proxy-protocol app:app"},
	{name: "PROXY protocol, from 24.1", exec: g + "--proxy-protocol v2 app:app", want: g + "* --proxy-protocol v2 app:app"},
	{name: "control socket, from 25.1", alien: true, exec: g + "--control-socket /run/app.ctl --control-socket-mode 432 app:app", want: g + "* --no-control-socket app:app"},
	{name: "without control socket", alien: true, exec: g + "--no-control-socket app:app", want: g + "* --no-control-socket app:app"},
	{name: "dirty workers, from 25.0", alien: true, exec: g + "--dirty-app a:B --dirty-workers 2 app:app", want: g + "* --dirty-app a:B --dirty-workers 2 app:app"},

	{
		name: "paths through the link", exec: g + "--chdir {root}/current/src --pythonpath={root}/current/src,/opt/x,{root}/current --env DIR={root}/current/b -e{root}/current app:app",
		want: g + "* --chdir {new}/src --pythonpath={new}/src,/opt/x,{new} --env DIR={new}/b -e{new} app:app",
	},
	{
		name: "a path beside the link", exec: g + "--env A={root}/current-old --env B={root}/current.bak/x app:app",
		want: g + "* --env A={root}/current-old --env B={root}/current.bak/x app:app",
	},
	{
		name: "an app with an argument", args: []string{"{root}/venv/bin/gunicorn", "app:create('{root}/current/app.ini')"},
		want: g + "* app:create('{new}/app.ini')",
	},
	{
		name: "URLs", exec: g + "--env A=file://{root}/current/a --env B=sqlite:///{root}/current/db app:app",
		want: g + "* --env A=file://{new}/a --env B=sqlite:///{new}/db app:app",
	},
	{name: "relative paths in the release", exec: g + "--chdir src --pythonpath lib app:app", want: g + "* --chdir src --pythonpath lib app:app"},
	{
		name: "relative paths to the link", dir: "{root}", exec: g + "--chdir current/src --pythonpath lib,../../current app:app",
		want: g + "* --chdir {new}/src --pythonpath lib,../../current app:app", wantDir: "{root}",
	},
	{
		name: "relative python path to the link", dir: "{root}", exec: g + "--pythonpath current/src,lib app:app",
		want: g + "* --pythonpath {new}/src,lib app:app", wantDir: "{root}",
	},
	{name: "a directory below the link", dir: "{root}/current/src", exec: g + "app:app", want: g + "* app:app", wantDir: "{new}/src"},
	{name: "a directory in another spelling", dir: "{root}//releases/../current/", exec: g + "app:app", want: g + "* app:app", wantDir: "{new}"},
	{name: "a directory elsewhere", dir: "{root}/etc", exec: g + "--chdir {root}/current app:app", want: g + "* --chdir {new} app:app", wantDir: "{root}/etc"},

	{name: "Python and a module", exec: "/usr/bin/python3 -m gunicorn -b :80 app:app", want: "/usr/bin/python3 -m gunicorn * app:app"},
	{name: "Python and the module within", exec: "/usr/bin/python3.11 -m gunicorn.app.wsgiapp app:app", want: "/usr/bin/python3.11 -m gunicorn.app.wsgiapp * app:app"},
	{name: "Python and a script", exec: "{root}/current/venv/bin/python {root}/current/venv/bin/gunicorn app:app", want: "{new}/venv/bin/python {new}/venv/bin/gunicorn * app:app"},
	{
		name: "Python and a relative script", dir: "{root}", exec: "/usr/bin/python3 current/venv/bin/gunicorn --chdir current app:app",
		want: "/usr/bin/python3 {new}/venv/bin/gunicorn * --chdir {new} app:app", wantDir: "{root}",
	},
	{
		name: "Python's own options", exec: "/usr/bin/python3 -u -EsB -W ignore -Wdefault -X dev -OOm gunicorn app:app",
		want: "/usr/bin/python3 -u -EsB -W ignore -Wdefault -X dev -OOm gunicorn * app:app",
	},
	{
		name: "Python's option with a path", exec: "/usr/bin/python3 -Xpycache_prefix={root}/current/pyc -X pycache_prefix={root}/current/pyc -mgunicorn app:app",
		want: "/usr/bin/python3 -Xpycache_prefix={new}/pyc -X pycache_prefix={new}/pyc -mgunicorn * app:app",
	},
	{name: "the release's own environment", exec: "{root}/current/venv/bin/gunicorn app:app", want: "{new}/venv/bin/python3 {new}/venv/bin/gunicorn * app:app"},
	{
		name: "the release's own environment, with an option", exec: "{root}/current/venv/bin/gunicorn app:app", want: "{new}/venv/bin/python3 -sP {new}/venv/bin/gunicorn * app:app",
		set: func(tb testing.TB, s site) {
			s.write(tb, "releases/v42/venv/bin/gunicorn", "#! {root}/current/venv/bin/python3  -sP \nimport x\n")
		},
	},
	{
		name: "the release's own environment, built where it is", exec: "{root}/current/venv/bin/gunicorn app:app", want: "{new}/venv/bin/gunicorn * app:app",
		set: func(tb testing.TB, s site) {
			s.write(tb, "releases/v42/venv/bin/gunicorn", "#!{new}/venv/bin/python3\n")
		},
	},
	{
		name: "the release's own environment, which was copied", exec: "{root}/current/venv/bin/gunicorn app:app", want: "{new}/venv/bin/gunicorn * app:app",
		set: func(tb testing.TB, s site) {
			s.write(tb, "releases/v42/venv/bin/gunicorn", "#!{root}/releases/v41/venv/bin/python3\n")
		},
	},
	{
		name: "a candidate that is live already", exec: "{new}/venv/bin/gunicorn app:app", want: "{new}/venv/bin/python3 {new}/venv/bin/gunicorn * app:app",
		set: func(tb testing.TB, s site) {
			if err := os.Remove(s.link); err != nil {
				tb.Fatal(err)
			}
			s.symlink(tb, "releases/v42", "current")
		},
	},
	{name: "a program that the candidate hasn't", exec: "{root}/current/env/bin/gunicorn app:app", want: "{new}/env/bin/gunicorn * app:app"},
	{name: "Debian's second name", exec: "{root}/bin/gunicorn3 app:app", want: "{root}/bin/gunicorn3 * app:app"},
	{name: "a versioned name", exec: "{root}/bin/gunicorn-3.11 app:app", want: "{root}/bin/gunicorn-3.11 * app:app"},
	{name: "behind env", exec: "/usr/bin/env PORT=80 " + g + "-b :80 app:app", want: "/usr/bin/env PORT=80 " + g + "* app:app"},
	{
		name: "behind env, in the release's own environment", exec: "/usr/bin/env A={root}/current {root}/current/venv/bin/gunicorn app:app",
		want: "/usr/bin/env A={new} {new}/venv/bin/python3 {new}/venv/bin/gunicorn * app:app",
	},
	{name: "behind others", exec: "/usr/bin/nice -n 5 /usr/bin/env " + g + "app:app", want: "/usr/bin/nice -n 5 /usr/bin/env " + g + "* app:app"},
	{
		name: "python by env", exec: "{root}/bin/gunicorn app:app", want: "{root}/bin/gunicorn * app:app",
		set: func(tb testing.TB, s site) { s.write(tb, "bin/gunicorn", "#!/usr/bin/env python3\n") },
	},

	{name: "a variable in a value that stays", pass: []string{"T=3", "A=x"}, exec: g + "--timeout ${T} --env=A=${A}/${B} -t${T} app:app", want: g + "* --timeout ${T} --env=A=${A}/${B} -t${T} app:app"},
	{name: "a variable in a value that goes", pass: []string{"BIND=:80", "WORKERS=9", "PID=/run/g.pid"}, exec: g + "--bind ${BIND} -w $WORKERS --pid=${PID} app:app", want: g + "* app:app"},
	{name: "a variable that is one word", exec: g + "-t $T $APP", files: []string{"T=30", "APP=app:app"}, want: g + "* -t $T $APP"},
	{name: "a variable of several words", exec: g + "$OPTS app:app", env: []string{"OPTS=--bind :80  -t 5"}, want: g + "* -t 5 app:app", wantEnv: []string{"OPTS=--bind :80  -t 5"}},
	{name: "a variable without words", exec: g + "$OPTS app:app", env: []string{"OPTS="}, want: g + "* app:app", wantEnv: []string{"OPTS="}},
	{name: "a variable for the app", exec: g + "${APP}", env: []string{"APP=app:app"}, want: g + "* ${APP}", wantEnv: []string{"APP=app:app"}},
	{name: "a variable within the app", exec: g + "app.${NAME}:app", want: g + "* app.${NAME}:app"},
	{
		name: "a variable that goes through the link", exec: g + "--chdir ${ROOT}/src app:app", env: []string{"ROOT={root}/current"},
		want: g + "* --chdir ${ROOT}/src app:app", wantEnv: []string{"ROOT={new}"},
	},
	{
		name: "a variable that ends before the link", exec: g + "--chdir ${ROOT}/current/src --env A=$$,${ROOT}/current app:app", files: []string{"ROOT={root}"},
		want: g + "* --chdir {new}/src --env A=$$,{new} app:app",
	},
	{name: "no variable", exec: g + "--env A=$$HOME --env B=x$y app:app", want: g + "* --env A=$$HOME --env B=x$y app:app"},

	{
		name: "the environment", exec: g + "app:app",
		env:     []string{"PATH={root}/current/venv/bin:/usr/bin", "PYTHONPATH={root}/current/src:{root}/current-old", "XDG_RUNTIME_DIR=/run/user/33", "PORT=8000", "WEB_CONCURRENCY=9"},
		want:    g + "* app:app",
		wantEnv: []string{"PATH={new}/venv/bin:/usr/bin", "PYTHONPATH={new}/src:{root}/current-old", "PORT=8000", "WEB_CONCURRENCY=9"},
	},
	{name: "a file's environment", exec: g + "app:app", files: []string{"A={root}/current", "A=/opt", "PORT=8000", "SECRET=s3cret"}, want: g + "* app:app"},
	{
		name: "GUNICORN_CMD_ARGS", exec: g + "app:app",
		env:     []string{"A=1", "GUNICORN_CMD_ARGS=--bind=:80 -w 4 --timeout 60 --daemon --env 'A=b c' --chdir={root}/current/src --access-logfile /var/log/a"},
		want:    g + "* app:app",
		wantEnv: []string{"A=1", "GUNICORN_CMD_ARGS=--timeout 60 --env 'A=b c' --chdir={new}/src"},
	},
	{
		name: "GUNICORN_CMD_ARGS that stays", exec: g + "app:app", env: []string{`GUNICORN_CMD_ARGS=--timeout  "60"`}, want: g + "* app:app",
		wantEnv: []string{`GUNICORN_CMD_ARGS=--timeout  "60"`},
	},
	{
		name: "GUNICORN_CMD_ARGS with dollars", exec: g + "app:app", env: []string{"GUNICORN_CMD_ARGS=-D --env A=$$B${C}"}, want: g + "* app:app",
		wantEnv: []string{"GUNICORN_CMD_ARGS=--env 'A=$$B${C}'"},
	},
	{
		name: "GUNICORN_CMD_ARGS of a file", exec: g + "app:app", env: []string{"GUNICORN_CMD_ARGS=--daemon"},
		files: []string{"GUNICORN_CMD_ARGS=-b :80 -w 4 --pid {root}/current/g.pid --access-logfile {root}/a.log --error-logfile {root}/e.log --reload --timeout 60"},
		want:  g + "* --access-logfile - app:app", wantEnv: []string{"GUNICORN_CMD_ARGS=--daemon"},
	},
	{
		name: "GUNICORN_CMD_ARGS knows of a control socket", alien: true, exec: g + "app:app", files: []string{"GUNICORN_CMD_ARGS=--control-socket /run/app.ctl"},
		want: g + "* --no-control-socket app:app",
	},

	{name: "a configuration file", exec: g + "app:app", want: g + "* app:app", conf: "import multiprocessing\nbind = ':80'\nworkers = multiprocessing.cpu_count() * 2 + 1\n"},
	{name: "a configuration file with an access log", exec: g + "app:app", want: g + "* --access-logfile - app:app", conf: "accesslog = '{root}/current/a.log'\n"},
	{
		name: "a configuration file by its path", exec: g + "-c {root}/current/etc/g.py app:app", want: g + "* -c {new}/etc/g.py app:app",
		set: func(tb testing.TB, s site) {
			s.write(tb, "releases/v41/etc/g.py", "")
			s.write(tb, "releases/v42/etc/g.py", "pidfile = '/run/g.pid'\naccesslog = None\n")
			s.write(tb, "releases/v42/gunicorn.conf.py", "daemon = True\n") // not read
		},
	},
	{name: "a configuration file that the candidate hasn't", alien: true, exec: g + "--config=file:etc/g.py app:app", want: g + "* --config=file:etc/g.py app:app"},
	{
		name: "a configuration file relative to the link", dir: "{root}", exec: g + "--config file:current/g.py --chdir current app:app",
		want: g + "* --config file:{new}/g.py --chdir {new} app:app", wantDir: "{root}",
		set: func(tb testing.TB, s site) {
			s.write(tb, "releases/v41/g.py", "")
			s.write(tb, "releases/v42/g.py", "")
		},
	},
	{
		name: "the last configuration file", exec: g + "-c python:x -c {root}/etc/g.py app:app", want: g + "* -c python:x -c {root}/etc/g.py app:app",
		set: func(tb testing.TB, s site) { s.write(tb, "etc/g.py", "") },
	},
	{
		name: "--chdir has no say in the configuration file", exec: g + "--chdir {root}/etc app:app", want: g + "* --chdir {root}/etc app:app",
		set: func(tb testing.TB, s site) { s.write(tb, "etc/gunicorn.conf.py", "daemon = True\n") },
	},
}

// doubtful are commands that can't.
var doubtful = []row{
	{name: "nothing", args: []string{}, why: "its ExecStart is empty"},
	{name: "a shell", args: []string{"/bin/sh", "-c", "exec {root}/venv/bin/gunicorn app:app"}, why: "its ExecStart runs a shell, whose line is not rewritten"},
	{name: "a program that changes the user", exec: "/usr/sbin/gosu www-data " + g + "app:app", why: "its ExecStart runs gosu, which changes the user"},
	{name: "a program that leaves it in the background", exec: "/usr/bin/setsid " + g + "app:app", why: "its ExecStart runs setsid, which may leave it in the background"},
	{name: "env that changes the directory", exec: "/usr/bin/env -C {root}/current " + g + "app:app", why: "its ExecStart has env change the directory"},
	{name: "env that sets gunicorn's variable", exec: "/usr/bin/env GUNICORN_CMD_ARGS=-D " + g + "app:app", why: "its ExecStart sets GUNICORN_CMD_ARGS before gunicorn's own arguments"},
	{
		name: "a program of $PATH whose Python is the live release's", exec: "/usr/bin/env gunicorn app:app", env: []string{"PATH={root}/current/venv/bin:/usr/bin"},
		why: "its ExecStart runs gunicorn of {new}/venv/bin, whose Python may be the live release's",
	},
	{name: "uvicorn", exec: "{root}/venv/bin/uvicorn app:app", why: "its ExecStart runs uvicorn, which is no server that is known"},
	{name: "a script of one's own", exec: "{root}/bin/gunicorn_start", why: "its ExecStart runs gunicorn_start, which is no server that is known"},
	{name: "another program of gunicorn's", exec: "{root}/bin/gunicorn_paster x.ini", why: "its ExecStart runs gunicorn_paster, which is no server that is known"},
	{name: "no path", exec: "gunicorn app:app", why: "its ExecStart runs gunicorn, which is not a path"},
	{
		name: "a shell script that is named so", exec: g + "app:app", why: "{root}/venv/bin/gunicorn is a script for sh, not gunicorn itself",
		set: func(tb testing.TB, s site) { s.write(tb, "venv/bin/gunicorn", "#!/bin/sh\nexec python3 -m gunicorn\n") },
	},
	{
		name: "env with more than Python", exec: g + "app:app", why: "{root}/venv/bin/gunicorn is a script for env, not gunicorn itself",
		set: func(tb testing.TB, s site) { s.write(tb, "venv/bin/gunicorn", "#!/usr/bin/env -S python3 -c pass\n") },
	},
	{
		name: "the candidate's is a shell script", exec: "{root}/current/venv/bin/gunicorn app:app", why: "{new}/venv/bin/gunicorn is a script for bash, not gunicorn itself",
		set: func(tb testing.TB, s site) { s.write(tb, "releases/v42/venv/bin/gunicorn", "#!/bin/bash\n") },
	},
	{
		name: "a binary", exec: g + "app:app", why: "{root}/venv/bin/gunicorn is not a script, so that what it does is not known",
		set: func(tb testing.TB, s site) { s.write(tb, "venv/bin/gunicorn", "\x7fELF"+strings.Repeat("x", 1<<20)) },
	},
	{
		name: "a fifo", exec: "{root}/bin/gunicorn app:app", why: "{root}/bin/gunicorn can't be read: it is not a regular file",
		set: func(tb testing.TB, s site) { s.fifo(tb, "bin/gunicorn") },
	},
	{name: "Python and a command", args: []string{"/usr/bin/python3", "-c", "import gunicorn"}, why: "its ExecStart runs Python without a server that is known"},
	{name: "Python and another module", exec: "/usr/bin/python3 -m uvicorn app:app", why: "its ExecStart runs uvicorn, which is no server that is known"},
	{name: "Python and another script", exec: "/usr/bin/python3 manage.py run_gunicorn", why: "its ExecStart runs manage.py, which is no server that is known"},
	{name: "Python, an option that isn't known", exec: "/usr/bin/python3 --frob -m gunicorn", why: "its ExecStart runs Python without a server that is known"},
	{name: "Python alone", exec: "/usr/bin/python3 -u", why: "its ExecStart runs Python without a server that is known"},
	{name: "Python and standard input", exec: "/usr/bin/python3 -", why: "its ExecStart runs Python without a server that is known"},
	{name: "Python and a variable", exec: "/usr/bin/python3 $OPTS -m gunicorn", why: "its ExecStart runs $OPTS, which is no server that is known"},
	{name: "Python's option and a variable", exec: "/usr/bin/python3 -W $W -m gunicorn", why: "its ExecStart has a variable before gunicorn's own arguments"},

	{name: "a variable that is not known", exec: g + "$OPTS app:app", why: "its ExecStart has $OPTS, which may hold options"},
	{name: "a variable in braces that is not known", exec: g + "${OPTS} app:app", why: "its ExecStart has ${OPTS}, which may hold options"},
	{name: "a variable with quotes", exec: g + "$OPTS app:app", env: []string{"OPTS=--bind ':80'"}, why: "its ExecStart has $OPTS, which has quotes"},
	{name: "a variable that is an option", exec: g + "${OPT} :80 app:app", files: []string{"OPT=--bind"}, why: "its ExecStart has ${OPT}, which may hold options"},
	{name: "a variable with several words for a value", exec: g + "--timeout $T app:app", env: []string{"T=3 '--bind' :80"}, why: "its ExecStart has $T, which has quotes"},
	{name: "a variable that is not known for a value that stays", exec: g + "--timeout $T app:app", why: "its ExecStart has $T, which may hold options"},
	{name: "a variable in an option's name", exec: g + "--${OPT}=s3cret app:app", why: "its ExecStart has an option whose name is a variable"},
	{name: "a known variable in an option's name", exec: g + "--${OPT}=s3cret app:app", env: []string{"OPT=bind"}, why: "its ExecStart has an option whose name is a variable"},
	{name: "a variable in a short option", exec: g + "-R${O}s3cret app:app", env: []string{"O=D"}, why: "its ExecStart has -R…, with an option that is not known"},
	{name: "a variable that begins like its value", exec: g + "$tX app:app", env: []string{"tX=-t5"}, why: "its ExecStart has $tX, which may hold options"},

	{name: "--", exec: g + "-- app:app", why: "its ExecStart has --, after which nothing is an option"},
	{name: "two apps", exec: g + "app:app :80", why: "its ExecStart has more than one word that is no option"},
	{name: "no value", exec: g + "app:app --bind", why: "its ExecStart has --bind without a value"},
	{name: "an option for a value", exec: g + "--timeout --bind :80 app:app", why: "its ExecStart has --timeout without a value"},
	{name: "short for several", exec: g + "--p x app:app", why: "its ExecStart has --p, which is short for more than one option"},
	{name: "a short option that isn't known", exec: g + "-Rx :80 app:app", why: "its ExecStart has -R…, with an option that is not known"},
	{name: "Paste", exec: g + "--paste x.ini", why: "its ExecStart has --paste, which may name the live release's log files"},

	{
		name: "GUNICORN_CMD_ARGS of a file, into the background", exec: g + "app:app", files: []string{"GUNICORN_CMD_ARGS=--daemon --env A=s3cret"},
		why: "its EnvironmentFile sets GUNICORN_CMD_ARGS with --daemon, which puts it into the background",
	},
	{
		name: "GUNICORN_CMD_ARGS of a file, through the link", exec: g + "app:app", files: []string{"GUNICORN_CMD_ARGS=--chdir {root}/current"},
		why: "its EnvironmentFile sets GUNICORN_CMD_ARGS with a path through {root}/current",
	},
	{
		name: "GUNICORN_CMD_ARGS of a file, relative to the link", dir: "{root}", exec: "{root}/current/venv/bin/gunicorn app:app", files: []string{"GUNICORN_CMD_ARGS=--chdir current"},
		why: "its EnvironmentFile sets GUNICORN_CMD_ARGS with a path through {root}/current",
	},
	{
		name: "GUNICORN_CMD_ARGS without an end", exec: g + "app:app", env: []string{"GUNICORN_CMD_ARGS=--env 'A=s3cret"},
		why: "its GUNICORN_CMD_ARGS has a quote that nothing closes",
	},
	{
		name: "GUNICORN_CMD_ARGS with a module", exec: g + "app:app", files: []string{"GUNICORN_CMD_ARGS=--config python:conf"},
		why: "its --config is a Python module, which may do anything",
	},
	{
		name: "a file through the link", exec: g + "app:app", files: []string{"TOKEN=s3cret", "MEDIA={root}/current/s3cret"},
		why: "its EnvironmentFile sets MEDIA to a path through {root}/current",
	},
	{
		name: "a file through the link in another spelling", exec: g + "app:app", files: []string{"MEDIA={root}/releases/../current/s3cret"},
		why: "its EnvironmentFile sets MEDIA to a path through {root}/current",
	},
	{
		name: "a file's runtime directory", exec: g + "app:app", files: []string{"XDG_RUNTIME_DIR=/run/app"},
		why: "its EnvironmentFile sets XDG_RUNTIME_DIR, where both releases would have a control socket",
	},

	{name: "an argument in another spelling", exec: g + "--env A={root}/./current/s3cret app:app", why: "its ExecStart goes through {root}/current in a way that can't be pointed elsewhere"},
	{name: "a longer path that ends with the link's", exec: g + "--env A=/mnt{root}/current/s3cret app:app", why: "its ExecStart goes through {root}/current in a way that can't be pointed elsewhere"},
	{name: "environment in another spelling", exec: g + "app:app", env: []string{"A={root}//current/s3cret"}, why: "its Environment sets A to a path through {root}/current in a way that can't be pointed elsewhere"},
	{name: "not through the link at all", dir: "{root}/etc", exec: g + "app:app", why: "nothing in it goes through {root}/current, so that it would run the live release once more"},
	{
		name: "the live release by its name", dir: "{root}/releases/v41", exec: g + "--env A={root}/current app:app",
		why: "its working directory {root}/releases/v41 is the live release's, and does not go through {root}/current",
	},
	{
		name: "the live release by another link", dir: "{root}/site", exec: g + "--env A={root}/current app:app",
		why: "its working directory {root}/site is the live release's, and does not go through {root}/current",
		set: func(tb testing.TB, s site) { s.symlink(tb, "releases/v41/src", "site") },
	},
	{
		name: "the live release's program", exec: "{root}/env/bin/gunicorn app:app", why: "its program {root}/env/bin/gunicorn is the live release's, and does not go through {root}/current",
		set: func(tb testing.TB, s site) { s.symlink(tb, "current/venv", "env") },
	},
	{
		name: "the live release's Python", exec: "{root}/env/bin/python3 -m gunicorn app:app", why: "its program {root}/env/bin/python3 is the live release's, and does not go through {root}/current",
		set: func(tb testing.TB, s site) { s.symlink(tb, "current/venv", "env") },
	},
	{
		name: "the live release's script", exec: "/usr/bin/python3 ../../env/bin/gunicorn app:app", why: "its program ../../env/bin/gunicorn is the live release's, and does not go through {root}/current",
		set: func(tb testing.TB, s site) { s.symlink(tb, "current/venv", "env") },
	},
	{
		name: "the live release's Python in the first line", exec: "{root}/bin/gunicorn app:app", why: "the Python of its program {root}/releases/v41/venv/bin/python3 is the live release's, and does not go through {root}/current",
		set: func(tb testing.TB, s site) {
			s.write(tb, "bin/gunicorn", "#!{root}/releases/v41/venv/bin/python3\n")
		},
	},
	{name: "the live release's configuration file", exec: g + "-c {root}/releases/v41/g.py app:app", why: "its configuration file {root}/releases/v41/g.py is the live release's, and does not go through {root}/current"},
	{name: "a home directory", dir: "~", exec: g + "app:app", why: "its working directory ~ is not known"},
	{
		name: "gunicorn 25.1 in one directory", dir: "{root}", exec: "{root}/current/venv/bin/gunicorn app:app", why: "both releases would have gunicorn's control socket in {root}",
		set: func(tb testing.TB, s site) { s.socket(tb, "gunicorn.ctl") },
	},

	{
		name: "an empty --config after another", exec: g + "-c {root}/etc/none -c= app:app", files: []string{"GUNICORN_CMD_ARGS=-c={root}/etc/g.py"},
		why: "{root}/etc/g.py, line 1, sets daemon, which puts gunicorn into the background",
		set: func(tb testing.TB, s site) { s.write(tb, "etc/g.py", "daemon = True\n") },
	},
	{
		name: "the live release by its name, and then the link", dir: "{root}/releases/v41", exec: g + "--chdir {root}/current app:app",
		why: "its working directory {root}/releases/v41 is the live release's, and does not go through {root}/current",
	},
	{name: "an equals sign in a cluster", exec: g + "-Rc={root}/etc/g.py app:app", why: "its ExecStart has -R…, with an option that is not known"},
	{name: "an equals sign after a flag", exec: g + "-R=b:80 app:app", why: "its ExecStart has -R…, with an option that is not known"},
	{name: "an equals sign in a variable", exec: g + "-t${T} app:app", env: []string{"T=={root}/etc/g.py"}, why: "its ExecStart has -t…, with an option that is not known"},
	{name: "a module for configuration", exec: g + "-c python:conf app:app", why: "its --config is a Python module, which may do anything"},
	{name: "a variable for configuration", exec: g + "-c ${CONF} app:app", why: "its --config has a variable that is not known"},
	{
		name: "a configuration file with a hook", exec: g + "app:app", conf: "bind = ':80'\n\ndef post_fork(server, worker):\n    pass\n",
		why: "{new}/gunicorn.conf.py, line 3, defines post_fork",
	},
	{
		name: "a configuration file by a variable", exec: g + "-c ${ROOT}/g.py app:app", env: []string{"ROOT={root}/current/etc"}, why: "{new}/etc/g.py, line 1, sets daemon, which puts gunicorn into the background",
		set: func(tb testing.TB, s site) { s.write(tb, "releases/v42/etc/g.py", "daemon = True\n") },
	},
	{
		name: "a configuration file of GUNICORN_CMD_ARGS", exec: g + "app:app", files: []string{"GUNICORN_CMD_ARGS=-c {root}/etc/g.py"}, why: "{root}/etc/g.py, line 1, sets daemon, which puts gunicorn into the background",
		set: func(tb testing.TB, s site) { s.write(tb, "etc/g.py", "daemon = True\n") },
	},
	{name: "an empty --config is none", exec: g + "--config= app:app", why: "{new}/gunicorn.conf.py, line 1, sets daemon, which puts gunicorn into the background", conf: "daemon = True\n"},
	{
		name: "a configuration file that is a fifo", exec: g + "app:app", why: "{new}/gunicorn.conf.py can't be read: it is not a regular file",
		set: func(tb testing.TB, s site) { s.fifo(tb, "releases/v42/gunicorn.conf.py") },
	},
	{name: "a configuration file that is a directory", exec: g + "-c {root}/etc app:app", why: "{root}/etc can't be read: it is not a regular file"},
	{name: "a configuration file without end", exec: g + "app:app", conf: "# " + strings.Repeat("x", maxSettings), why: "{new}/gunicorn.conf.py is longer than 256 KiB"},
}

func (s site) fifo(tb testing.TB, name string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(s.root, name)), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(s.root, name), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func (s site) symlink(tb testing.TB, to, name string) {
	tb.Helper()
	if err := os.Symlink(to, filepath.Join(s.root, name)); err != nil {
		tb.Fatal(err)
	}
}

func (s site) socket(tb testing.TB, name string) {
	tb.Helper()
	if err := syscall.Mknod(filepath.Join(s.root, name), syscall.S_IFSOCK|0o600, 0); err != nil {
		tb.Fatal(err)
	}
}

func TestRewrite(t *testing.T) {
	for _, r := range slices.Concat(certain, doubtful) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			s := r.site(t)
			got, err := Rewrite(t.Context(), r.live(s), s.stage)
			if r.why != "" {
				check(t, err, s.fill(r.why))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantDir := r.wantDir
			if wantDir == "" {
				wantDir = "{new}"
			}
			want := server.Command{
				Args:        strings.Fields(s.fill(strings.Replace(r.want, "*", own, 1))),
				Dir:         s.fill(wantDir),
				Environment: append(s.fillAll(r.wantEnv), s.fill("XDG_RUNTIME_DIR={root}/run/private")),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Rewrite (-want +got):\n%s", diff)
			}
		})
	}
}

// check sees that an error says so, in one line, and no secret.
func check(t *testing.T, err error, want string) {
	t.Helper()
	u, ok := errors.AsType[*server.Uncertain](err)
	if !ok {
		t.Fatalf("Rewrite: %v, want an *Uncertain that says %q", err, want)
	}
	if u.Summary != want {
		t.Errorf("Rewrite says %q, want %q", u.Summary, want)
	}
	if strings.ContainsAny(u.Summary, "\n\x00") || strings.Contains(u.Summary, "s3cret") {
		t.Errorf("Rewrite says %q", u.Summary)
	}
}

func TestRewriteWhereADirectoryAboveTheLinkIsALink(t *testing.T) {
	s := newSite(t)
	other := filepath.Join(t.TempDir(), "app")
	if err := os.Symlink(s.root, other); err != nil {
		t.Fatal(err)
	}
	live := server.Live{
		Command: server.Command{Args: []string{s.root + "/venv/bin/gunicorn", "--chdir", s.root + "/current/src", "--env", "A=" + other + "/current", "app:app"}, Dir: other + "/current"},
		Link:    other + "/current",
	}
	got, err := Rewrite(t.Context(), live, s.stage)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--chdir", s.stage.Release + "/src", "--env", "A=" + s.stage.Release, "app:app"}
	if diff := cmp.Diff(want, got.Args[len(got.Args)-len(want):]); diff != "" || got.Dir != s.stage.Release {
		t.Errorf("Rewrite gives %s, and (-want +got):\n%s", got.Dir, diff)
	}
}

func TestRewriteLeavesTheUnitAsItIs(t *testing.T) {
	s := newSite(t)
	live := server.Live{
		Command: server.Command{Args: []string{s.root + "/venv/bin/gunicorn", "-b", ":80", "app:app"}, Dir: s.link, Environment: []string{"A=" + s.link, "GUNICORN_CMD_ARGS=-D"}},
		Files:   []string{"B=1"}, Link: s.link,
	}
	before := server.Live{
		Command: server.Command{Args: slices.Clone(live.Args), Dir: live.Dir, Environment: slices.Clone(live.Environment)},
		Files:   slices.Clone(live.Files), Link: live.Link,
	}
	if _, err := Rewrite(t.Context(), live, s.stage); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, live); diff != "" {
		t.Errorf("Rewrite changed what it was given:\n%s", diff)
	}
}

func TestRewriteHasAWorker(t *testing.T) {
	s := newSite(t)
	s.stage.Workers = 0
	got, err := Rewrite(t.Context(), row{exec: g + "app:app"}.live(s), s.stage)
	if i := slices.Index(got.Args, "--workers"); err != nil || got.Args[i+1] != "1" {
		t.Errorf("Rewrite gives %q, %v", got.Args, err)
	}
}

func TestRewriteEscapesTheStage(t *testing.T) {
	s := newSite(t)
	s.stage.Bind = "unix:/run/${PID}$$/x"
	got, err := Rewrite(t.Context(), row{exec: g + "app:app"}.live(s), s.stage)
	if i := slices.Index(got.Args, "--bind"); err != nil || got.Args[i+1] != "unix:/run/$${PID}$$$$/x" {
		t.Errorf("Rewrite gives %q, %v", got.Args, err)
	}
}

func TestRewriteEndsWithItsContext(t *testing.T) {
	needPython(t)
	s := newSite(t)
	s.write(t, "releases/v42/gunicorn.conf.py", "bind = ':80'\n")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	cancel(why)
	_, err := Rewrite(ctx, row{exec: g + "app:app"}.live(s), s.stage)
	if _, ok := errors.AsType[*server.Uncertain](err); ok || !errors.Is(err, why) {
		t.Errorf("Rewrite: %v", err)
	}
}

func TestFill(t *testing.T) {
	stage := server.Candidate{Release: "/srv/app/releases/v42", Bind: "unix:/run/x/g.sock"}
	for _, c := range []struct {
		name  string
		run   string
		stage server.Candidate
		want  string
		err   string
	}{
		{"bind", "{release}/bin/serve --bind={bind} {other}", stage, "/srv/app/releases/v42/bin/serve --bind=unix:/run/x/g.sock {other}", ""},
		{"socket", "/usr/bin/uvicorn --uds {socket}", stage, "/usr/bin/uvicorn --uds /run/x/g.sock", ""},
		{"socket of a URL", "serve {socket}", server.Candidate{Bind: "unix:///run/g.sock"}, "serve /run/g.sock", ""},
		{"no variables", "serve {bind} $HOME ${A} $$", stage, "serve unix:/run/x/g.sock $$HOME $${A} $$$$", ""},
		{"what is filled in isn't filled again", "serve {bind}", server.Candidate{Bind: "unix:{release}", Release: "/x"}, "serve unix:{release}", ""},
		{"port", "serve {bind}", server.Candidate{Bind: "127.0.0.1:9"}, "serve 127.0.0.1:9", ""},
		{"no socket", "serve {socket}", server.Candidate{Bind: "127.0.0.1:9"}, "", "there is no {socket} where 127.0.0.1:9 is bound"},
		{"neither", "serve {release}", stage, "", "neither {bind} nor {socket} is in it, so that it would listen where the live release does"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := server.Fill(strings.Fields(c.run), c.stage)
			if err != nil && err.Error() != c.err || err == nil && c.err != "" {
				t.Fatalf("Fill: %v, want %q", err, c.err)
			}
			if line := strings.Join(got, " "); line != c.want {
				t.Errorf("Fill gives %q, want %q", line, c.want)
			}
		})
	}
}
