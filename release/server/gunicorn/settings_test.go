package gunicorn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"deploygate/release/python"
	"deploygate/release/server"
)

func TestConfigurationFile(t *testing.T) {
	needPython(t)
	for _, c := range []struct{ name, text, why string }{
		{"nothing", "", ""},
		{"settings", "bind = ':80'\nworkers = 3\ntimeout: int = 60\npidfile, errorlog = '/run/g.pid', '-'\nthreads += 1\n", ""},
		{"what many have", "\"\"\"gunicorn\"\"\"\nimport multiprocessing\nimport os.path as p\nfrom pathlib import Path\n\n" +
			"BASE = Path(__file__).resolve().parent\nworkers = multiprocessing.cpu_count() * 2 + 1\nbind = os.environ.get('BIND', 'unix:/run/g.sock')\n" +
			"accesslog = '-' if True else None\nkeyword = [x for x in (1, 2)]\nkey = lambda x: x\npass\n...\n", ""},
		{"what is off", "daemon = False\nreuse_port = False\nlogconfig = None\ncertfile = None\nkeyfile = ''\nprotocol = 'http'\nlogconfig_dict = {}\n", ""},
		{"logging to the console", "logconfig_dict = {'version': 1, 'handlers': {'a': {'class': 'logging.StreamHandler', 'level': X, 'stream': 'ext://sys.stdout'}," +
			" 'b': {'class': 'logging.NullHandler'}}, 'formatters': {'f': {'()': 'json.Formatter', 'format': '/'}}}", ""},
		{"a control socket that is off", "control_socket = '/run/g.ctl'\ncontrol_socket_disable = True\n", ""},
		{"the link where the command line beats it", "bind = 'unix:{root}/current/g.sock'\npidfile = errorlog = '{root}/current/x'\n", ""},
		{"beside the link", "pythonpath = '{root}/current-old'\n", ""},
		{"the link in a comment", "# {root}/current\nworkers = 2 # {root}/current/x\n", ""},
		{"the link in a text that nothing has", "'''{root}/current/x'''\n", ""},

		{"a hook", "import os\n\n\ndef on_starting(server):\n    pass\n", "line 4, defines on_starting"},
		{"a hook of two", "async def f():\n  pass\n", "line 1, defines f"},
		{"a hook that is assigned", "workers = 2\nwhen_ready = lambda server: None\n", "line 2, sets when_ready, which gunicorn would call"},
		{"a hook by its path", "post_fork = 'shop.hooks.post_fork'\n", "line 1, sets post_fork, which gunicorn would call"},
		{"a hook that is imported", "from shop import hooks as pre_request\n", "line 1, sets pre_request, which gunicorn would call"},
		{"a hook among others", "a, (b, *post_fork) = x\n", "line 1, sets post_fork, which gunicorn would call"},
		{"a hook within an expression", "a = [(post_fork := f)]\n", "line 1, sets post_fork, which gunicorn would call"},
		{"a hook in another alphabet", "post_ｆork = f\n", "line 1, sets post_fork, which gunicorn would call"},
		{"a hook of gunicorn 25", "dirty_worker_init = f\n", "line 1, sets dirty_worker_init, which gunicorn would call"},
		{"a class", "class A: pass\n", "line 1, defines A"},
		{"a call", "bind = ':80'\nos.makedirs('/run/x', exist_ok=True)\n", "line 2, calls os.makedirs"},
		{"a call of a call", "f()()\n", "line 1, calls something"},
		{"a change", "os.environ['A'] = 's3cret'\n", "line 1, changes os.environ"},
		{"a change of many", "a = b.c = 1\n", "line 1, changes b.c"},
		{"a change by arithmetic", "a.b[0] += 1\n", "line 1, changes a.b"},
		{"if", "if True:\n    daemon = True\n", "line 1, does more than set something: if"},
		{"for", "for a in b:\n    pass\n", "line 1, does more than set something: for"},
		{"with", "with open('x') as f:\n    pass\n", "line 1, does more than set something: with"},
		{"try", "try:\n    pass\nexcept E:\n    pass\n", "line 1, does more than set something: try"},
		{"del", "del a\n", "line 1, does more than set something: delete"},
		{"an expression", "\na and b()\n", "line 2, does more than set something: expr"},
		{"exec", "a = exec('s3cret')\n", "line 1, calls exec, which may set anything"},
		{"globals", "a = globals().update(daemon=True)\n", "line 1, calls globals, which may set anything"},
		{"everything", "from shop.common import *\n", "line 1, imports names that are not known"},
		{"daemon", "daemon = True\n", "line 1, sets daemon, which puts gunicorn into the background"},
		{"daemon, perhaps", "daemon = not DEBUG\n", "line 1, sets daemon, which puts gunicorn into the background"},
		{"daemon, imported", "import daemon\n", "line 1, sets daemon, which puts gunicorn into the background"},
		{"daemon, by addition", "daemon += 0\n", "line 1, sets daemon, which puts gunicorn into the background"},
		{"a port for everybody", "reuse_port = True\n", "line 1, sets reuse_port, which a unix socket can't have"},
		{"logging configuration", "logconfig = '/etc/log.ini'\n", "line 1, sets logconfig, which may name the live release's log files"},
		{"logging to a file", "logconfig_dict = {'handlers': {'a': {'class': 'logging.FileHandler', 'filename': 'x'}}}", "line 1, sets logconfig_dict, which may name the live release's log files"},
		{"logging by a factory", "logconfig_dict = {'handlers': {'a': {'()': 'x', 'class': 'logging.StreamHandler'}}}", "line 1, sets logconfig_dict, which may name the live release's log files"},
		{"logging by something else", "logconfig_dict = {'handlers': {'a': A}}", "line 1, sets logconfig_dict, which may name the live release's log files"},
		{"logging by all of something", "logconfig_dict = {**LOGGING}", "line 1, sets logconfig_dict, which may name the live release's log files"},
		{"logging by a call", "logconfig_dict = dict(handlers={})", "line 1, sets logconfig_dict, which may name the live release's log files"},
		{"TLS", "certfile = '/etc/c.pem'\n", "line 1, sets certfile, which has gunicorn speak something else than plain HTTP"},
		{"a control socket", "control_socket = '/run/g.ctl'\n", "line 1, sets control_socket, which both releases would have"},
		{"a control socket that is on again", "control_socket = '/run/g.ctl'\ncontrol_socket_disable = True\ncontrol_socket_disable = X\n", "line 1, sets control_socket, which both releases would have"},
		{"the link", "chdir = '{root}/current/src'\n", "line 1, names {root}/current"},
		{"the link in a list", "raw_env = ['A=s3cret', 'B={root}/current']\n", "line 1, names {root}/current"},
		{"the link in bytes", "a = b'{root}/current'\n", "line 1, names {root}/current"},
		{"the link in a format", "chdir = f'{root}/current/{X}'\n", "line 1, names {root}/current"},
		{"the link in parts", "chdir = ('{root}/'\n 'current')\n", "line 1, names {root}/current"},
		{"the link in a helper", "LOG = '{root}/current/log'\nerrorlog = LOG + '/e.log'\n", "line 1, names {root}/current"},

		{"nested", "a = " + strings.Repeat("a.", 5_000) + "b", "is nested too deeply"},
		{"NUL", "\x00", "can't be parsed: ValueError"},
		{"big", strings.Repeat("a\n", 100_000), "line 1, does more than set something: expr"},
		{"more than is said", strings.Repeat("a=0\n", 60_000), "says more than can be judged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.write(t, "releases/v42/gunicorn.conf.py", c.text)
			_, err := Rewrite(t.Context(), row{exec: g + "app:app"}.live(s), s.stage)
			if c.why == "" && err != nil {
				t.Fatal(err)
			}
			if c.why != "" {
				between := " "
				if strings.HasPrefix(c.why, "line ") {
					between = ", "
				}
				check(t, err, s.fill("{new}/gunicorn.conf.py"+between+c.why))
			}
		})
	}
}

// What Python itself says depends on its version, and is no text of the file.
func TestConfigurationFileThatIsNoPython(t *testing.T) {
	needPython(t)
	for _, c := range []struct{ name, text string }{
		{"a quote", "bind = s3cret'\n"},
		{"a word", "bind = s3cret s3cret\n"},
		{"bytes", "a = 's3cret\xff'\n"},
		{"nested without end", "a = " + strings.Repeat("(", 100_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.write(t, "releases/v42/gunicorn.conf.py", c.text)
			_, err := Rewrite(t.Context(), row{exec: g + "app:app"}.live(s), s.stage)
			u, ok := errors.AsType[*server.Uncertain](err)
			if !ok || !strings.HasPrefix(u.Summary, s.stage.Release+"/gunicorn.conf.py is not Python 3.") {
				t.Fatalf("Rewrite: %v", err)
			}
			check(t, err, u.Summary)
		})
	}
}

func TestConfigurationFileNeedsAPython(t *testing.T) {
	// Not t.TempDir, which nobody may enter.
	dir, err := os.MkdirTemp("", "python")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, python, why string }{
		{"none", "", "can't be read: python3 is not installed"},
		{"one that fails", "echo '{}'; exit 1", "ends or blocks the Python that parses it"},
		{"one that says nothing", "exit 0", "ends or blocks the Python that parses it"},
		{"one without an end", "yes", "ends or blocks the Python that parses it"},
		{"an old one", "echo '{\"problem\":\"is fine\"}'", "is fine"},
		{"nobody's", "echo '{\"problem\":\"is read by '$(id -u)', '$(pwd)', '${HOME-without}'\"}'", fmt.Sprintf("is read by %d, /, without", reader())},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.write(t, "releases/v42/gunicorn.conf.py", "bind = ':80'\n")
			r := rewriter{}
			if c.python != "" {
				r.python = filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
				if err := os.WriteFile(r.python, []byte("#!/bin/sh\n"+c.python+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			_, err := r.rewrite(t.Context(), row{exec: g + "app:app"}.live(s), s.stage)
			check(t, err, s.fill("{new}/gunicorn.conf.py "+c.why))
		})
	}
}

// reader is who parses.
func reader() int {
	if os.Geteuid() == 0 {
		return 65534 // nobody
	}
	return os.Geteuid()
}

func TestSplitIsPythons(t *testing.T) {
	needPython(t)
	for _, text := range []string{
		"", " ", "a", " a  b\tc\nd\re ", "'a b'c", `"a b"'c'`, `a\ b`, `"a\b\"c\\d\$"`, `'a\b'`, "''", `a ""`, "'", `"`, `a\`, `"a\`, "a#b #c", "é\u00a0ü", `'"'"'`,
	} {
		out, err := exec.CommandContext(t.Context(), python.Find(), "-c", "import json, shlex, sys; print(json.dumps(shlex.split(sys.argv[1])))", text).Output()
		got, ok := server.Split(text)
		if (err == nil) != ok {
			t.Errorf("server.Split(%q) = %v, Python: %v", text, ok, err)
			continue
		}
		var want []string
		if err == nil {
			if err := json.Unmarshal(out, &want); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("server.Split(%q) = %q, Python: %q", text, got, want)
			}
			if again, ok := server.Split(quoted(got)); !ok || !slices.Equal(again, got) {
				t.Errorf("quoted(%q) is %q, which is split into %q", got, quoted(got), again)
			}
		}
	}
}
