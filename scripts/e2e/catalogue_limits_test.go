package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"deploygate/scripts/testbed"
)

// Three things are wrong at once, none following from another: all are found, in the order in which to fix them.
func TestThreeFailuresAtOnce(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.ImportError())
		h.command("--workers 2 --bind unix:/run/gunicorn/app.sock project.wsgi:application")
		h.sh("systemctl stop nginx")
		mark := h.mark()
		h.swap()
		h.shows(inWorker, mark)
		var got []string
		for _, f := range h.diagnose().Findings {
			got = append(got, f.Layer+"/"+f.Cause)
		}
		if want := []string{"app/import_error", "proxy/bind_mismatch", "proxy/proxy_stopped"}; !slices.Equal(got, want) {
			h.t.Errorf("found %q, want %q", got, want)
		}
	})
}

// Users who may not read the evidence are told what wasn't read and how root would; nothing is made of its lack.
func TestDiagnoseWithoutRights(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.add("v2", testbed.ImportError())
		states := []struct {
			name    string
			produce func()
			// causes are those that such a user may find; anything else is made up.
			causes []string
		}{
			{"healthy", func() {}, nil},
			{"nginx stopped", func() { h.sh("systemctl stop nginx") }, []string{"proxy/proxy_stopped"}},
			{"v2 can't be imported", func() {
				h.sh("systemctl start nginx")
				mark := h.mark()
				h.swap()
				h.shows(inWorker, mark)
			}, []string{"app/import_error", "app/unknown", "service/start_limit_hit"}},
		}
		for _, state := range states {
			state.produce()
			for _, user := range []string{"nobody", "www-data"} {
				h.sub(state.name+", "+user, func() {
					as := []string{"runuser", "-u", user, "--", program, "diagnose", "--app", h.site.Name}
					r := h.Exec(h.t.Context(), append(as, "--output", "json")...)
					h.t.Logf("exit %d\n%s%s", r.Code, r.Stderr, r.Stdout)
					d := h.diagnosed(r)
					if len(d.Unread) == 0 {
						h.t.Error("nothing is said to be unread")
					}
					unverified := false
					for _, u := range d.Unread {
						unverified = unverified || strings.Contains(u.Command, "nginx -t")
						if u.What == "" || u.Why == "" || !strings.Contains(u.Command, "sudo ") {
							h.t.Errorf("unread: %+v", u)
						}
					}
					if !unverified {
						h.t.Error("nginx -t is not said to be impossible")
					}
					for _, f := range d.Findings {
						if strings.HasPrefix(f.Summary, "no right to see") {
							continue
						}
						if !slices.Contains(state.causes, f.Layer+"/"+f.Cause) {
							h.t.Errorf("found %+v", f)
						}
					}
					if text := h.Exec(h.t.Context(), as...); text.Code != r.Code || !strings.Contains(text.Stdout, "sudo ") {
						h.t.Errorf("as text: exit %d\n%s%s", text.Code, text.Stderr, text.Stdout)
					}
				})
			}
		}
	})
}

// hostile is what a log may hold that acts on a terminal, isn't text, or is long: an escape sequence that names the
// window, one that clears it, invalid UTF-8, text that runs backwards, and a line of 10 MB.
const hostile = `b"\x1b]0;owned\x07\x1b[2J\x9b31m \xff\xfe\xc3 \xe2\x80\xaecba \x00\r" + b"x" * (10 << 20) + b"\n"`

// harmless asserts that a terminal may show a text.
func (h *host) harmless(what, text string) {
	h.t.Helper()
	if !utf8.ValidString(text) {
		h.t.Errorf("%s: not UTF-8", what)
	}
	if i := strings.IndexFunc(text, func(r rune) bool {
		return r != '\n' && r != '\t' && (unicode.IsControl(r) || r >= 0x202a && r <= 0x202e)
	}); i >= 0 {
		h.t.Errorf("%s: %q", what, text[max(0, i-20):min(len(text), i+20)])
	}
	if len(text) > 100<<10 {
		h.t.Errorf("%s: %d bytes", what, len(text))
	}
}

// harmlessJSON asserts the same of each text in a JSON document.
func (h *host) harmlessJSON(what, document string) {
	h.t.Helper()
	h.harmless(what, document)
	var v any
	h.must(json.Unmarshal([]byte(document), &v))
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			h.harmless(what, v)
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
}

// Whatever the logs hold, what is shown of them harms no terminal, and the cause is found beside it.
func TestHostileLogs(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.must(h.WriteFile("/opt/hostile.py", "import sys\nsys.stdout.buffer.write("+hostile+")\n", 0o644))
		const spoil = "import sys\nsys.stderr.buffer.write(" + hostile + ")\nsys.stderr.flush()\n"
		for _, f := range []failure{
			{layer: "app", cause: "import_error", mods: []testbed.Mod{testbed.Prepend("project/wsgi.py", spoil+"import payments")}, await: inWorker},
			{layer: "app", cause: "app_error", variant: "the exception too", mods: []testbed.Mod{
				testbed.LogToConsole(),
				testbed.HealthView(spoil + `raise RuntimeError("\x1b]0;owned\x07\x1b[2J\u202ecba\r")`),
			}},
			{layer: "proxy", cause: "proxy_config_invalid", await: "-", produce: script(`printf 'no_\033]0;owned\007\377directive on;\n' > /etc/nginx/conf.d/failure.conf`)},
		} {
			h.sub(f.name(), func() {
				h.sh("python3 /opt/hostile.py >> " + errorLog)
				h.produced(f)
				r := h.run("diagnose")
				h.harmless("text", r.Stdout)
				h.harmless("progress", r.Stderr)
				h.harmlessJSON("JSON", h.run("diagnose", "--output=json").Stdout)
				if f.produce == nil {
					r := h.run("release", "v2", "--output=json")
					h.harmlessJSON("verdict", r.Stdout)
					h.harmless("progress", r.Stderr)
					h.harmless("history", h.run("history").Stdout)
				}
			})
		}
	})
}

// The values of the app's secrets may be in its tracebacks. They are nowhere in what deploygate says.
func TestSecretsAreNotShown(t *testing.T) {
	environment := []string{
		"SECRET_KEY=dj-0x&2#key!not-for-eyes",
		"DATABASE_PASSWORD=pw-of-the-database",
		"DATABASE_URL=postgres://shop:pw%40in-the-url@db.internal/shop",
		"STRIPE_TOKEN=sk_live_51H8x0not",
	}
	hidden := []string{"pw%40in-the-url", "pw@in-the-url"}
	for _, assignment := range environment {
		_, value, _ := strings.Cut(assignment, "=")
		hidden = append(hidden, value)
	}
	const told = `raise RuntimeError("cannot work with %s %s %s %s %s" % (os.environ["SECRET_KEY"], os.environ["DATABASE_PASSWORD"],
    os.environ["DATABASE_URL"], urlparse(os.environ["DATABASE_URL"]).password, os.environ["STRIPE_TOKEN"]))`
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		shows := func(what string, r testbed.Result) {
			h.t.Helper()
			for _, value := range hidden {
				if strings.Contains(r.Stdout+r.Stderr, value) {
					h.t.Errorf("%s shows %q:\n%s%s", what, value, r.Stderr, r.Stdout)
				}
			}
		}
		for name, mods := range map[string][]testbed.Mod{
			"at boot":      {testbed.Append("project/wsgi.py", "from urllib.parse import urlparse\n\n"+told)},
			"on a request": {testbed.LogToConsole(), testbed.HealthView("import os\nfrom urllib.parse import urlparse\n" + told)},
		} {
			h.sub(name, func() {
				h.reset(failure{})
				h.setenv(environment...)
				h.add("v2", mods...)
				r := h.run("release", "v2", "--output=json")
				shows("release", r)
				if !strings.Contains(r.Stdout, "cannot work with") {
					h.t.Errorf("the exception isn't shown at all: %s", r.Stdout)
				}
				mark := h.mark()
				h.swap()
				h.shows("", mark)
				h.shows("cannot work with", mark)
				shows("diagnose", h.run("diagnose"))
				shows("diagnose", h.run("diagnose", "--output=json", "--log-level=debug"))
				shows("history", h.run("history", "--output=json"))
				shows("status", h.run("status", "--output=json"))
			})
		}
	})
}

// Logs of any size: the cause is found among 200,000 lines of the unit beside an error log of 2 GB, and little memory is
// taken for it.
func TestDiagnoseIsBounded(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.onDisk(oneDisk) // what a machine writes is in memory otherwise
		h.configure("")
		h.add("v1")
		h.released("v1")
		h.sh(`mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nSystemMaxUse=2G\nRuntimeMaxUse=2G\nRateLimitBurst=0\n' > /etc/systemd/journald.conf.d/all.conf
systemctl restart systemd-journald`)
		h.sh(fmt.Sprintf(`yes '2020/01/01 00:00:00 [crit] 1#1: *1 connect() to unix:/run/gunicorn/gunicorn.sock failed (13: Permission denied) while connecting to upstream, client: 127.0.0.1, server: _, request: "GET /health/ HTTP/1.1", upstream: "http://unix:/run/gunicorn/gunicorn.sock:/health/", host: "localhost"' |
head -c 2G >> %s
printf '\n' >> %[1]s`, errorLog))
		h.add("v2", testbed.Prepend("project/wsgi.py", `import sys
for i in range(200_000):
    print("line", i, "of very many that say nothing", file=sys.stderr)
import payments`))
		h.dropIn("[Service]\nRestart=no\nLogRateLimitIntervalSec=0")
		h.swap()
		h.sh(`until journalctl --unit=gunicorn --lines=200 --output=cat | grep -q "No module named 'payments'"; do sleep 0.5; done
lines=$(journalctl --unit=gunicorn --output=cat --grep='of very many' | wc -l)
[ "$lines" -ge 200000 ] || { echo "the journal has $lines lines"; exit 1; }`)

		began := time.Now()
		r, peak := h.measured(program, "diagnose", "--output", "json")
		h.t.Logf("%d KiB at most, %.2f s\n%s%s", peak, time.Since(began).Seconds(), r.Stderr, r.Stdout)
		if d := h.diagnosed(r); len(d.Findings) == 0 || d.Findings[0].Cause != "import_error" {
			h.t.Errorf("found %+v, want import_error", d.Findings)
		}
		if peak == 0 || peak > 50<<10 {
			h.t.Errorf("it takes %d KiB of memory", peak)
		}
		_ = os.Remove(h.Path(errorLog)) // the test's own directory is on a disk
	})
}

// measured runs a program and gives the most memory that it had, in KiB, without that of the programs that it runs: what
// journalctl maps of the journal isn't ours to bound.
func (h *host) measured(argv ...string) (r testbed.Result, peak int) {
	h.t.Helper()
	cmd := h.Command(h.t.Context(), argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	h.must(cmd.Start())
	pid, err := h.Pid(cmd)
	h.must(err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		// It only grows, so that the last one that is read is the one.
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, rest, found := strings.Cut(string(status), "VmHWM:"); found {
			_, err := fmt.Sscan(rest, &peak)
			h.must(err)
		}
		select {
		case <-tick.C:
		case <-ended:
			return testbed.Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}, peak
		}
	}
}
