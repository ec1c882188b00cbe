// Package e2e runs deploygate on real Debian hosts, with systemd, nginx, gunicorn and Django, and asserts what a
// client of the site and an operator would find afterwards: the link, what the processes really run, the exit code,
// the verdict, and what nginx answers.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

const program = "/usr/local/bin/deploygate"

var binary string // on this machine; the hosts see it as program

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if testbed.Missing() == "" {
		dir, err := os.MkdirTemp("", "deploygate-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "deploygate")
		// Both land in dir, under their own names.
		build := exec.CommandContext(context.Background(), "go", "build", "-o", dir, "deploygate/cmd/deploygate", "deploygate/scripts/testbed/killat")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build deploygate: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// host is a machine with a site, whose releases can be deployed.
type host struct {
	*testbed.Machine
	t    *testing.T
	site testbed.Site

	disk    *testbed.Disk // nil where nothing outlives the machine
	uploads upload        // where there is a disk
	state   string        // the state directory; "" for the default
}

// onAHost runs a scenario on a fresh host: some scenarios on the one suite, some on the other. With full each is run on both.
func onAHost(t *testing.T, site testbed.Site, scenario func(h *host)) {
	t.Helper()
	name := fnv.New32a()
	_, _ = name.Write([]byte(t.Name()))
	onSuites(t, suitesOf(int(name.Sum32()%2)), site, scenario)
}

// suitesOf returns the suite whose turn it is, or with full all of them.
func suitesOf(turn int) []string {
	if full {
		return testbed.Suites
	}
	turn %= len(testbed.Suites)
	return testbed.Suites[turn : turn+1]
}

// onEachSuite runs a scenario on a fresh host of every suite, beside the others: one that depends on what systemd, nginx or
// gunicorn of a version does.
func onEachSuite(t *testing.T, site testbed.Site, scenario func(h *host)) {
	t.Helper()
	onSuites(t, testbed.Suites, site, scenario)
}

func onSuites(t *testing.T, suites []string, site testbed.Site, scenario func(h *host)) {
	t.Helper()
	if testing.Short() {
		t.Skip("it boots machines")
	}
	if missing := testbed.Missing(); missing != "" {
		t.Skip(missing)
	}
	t.Parallel()
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			if suite == testbed.Testing { // which changes daily
				if _, err := testbed.Root(t.Context(), suite, nil); err != nil {
					t.Skipf("not on Debian testing, which can't be built: %v", err)
				}
			}
			m, err := testbed.Boot(t.Context(), suite, testbed.Options{Bind: []string{binary + ":" + program}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			})
			h := &host{Machine: m, t: t, site: site}
			h.must(m.InstallSite(t.Context(), site))
			h.installUnits()
			scenario(h)
		})
	}
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// add uploads a release. Where there is a disk, all that was there before is on it, and the upload itself isn't yet, as
// that of a job that releases at once.
func (h *host) add(version string, mods ...testbed.Mod) {
	h.t.Helper()
	if h.disk != nil {
		h.must(h.Sync())
	}
	h.must(h.AddRelease(h.site, version, mods...))
	if h.disk != nil {
		h.uploaded(version)
	}
}

// configure writes the site's configuration: the site's own facts, and a shorter wait than the default so that the
// tests are quick. text goes on in [health] and adds sections after it; top are keys before any section.
func (h *host) configure(text string, top ...string) {
	h.t.Helper()
	h.must(h.WriteFile("/etc/deploygate/"+h.site.Name+".toml", fmt.Sprintf(`%s
root = %q
[service]
unit = %q
[proxy]
host = %q
url = "http://127.0.0.1:%d/health/"
[health]
host = %q
stable = "600ms"
%s
`, strings.Join(top, "\n"), h.site.Root, h.site.Unit, h.site.Host(), h.site.Port, h.site.Host(), onThisMachine(text)), 0o644))
}

var deadline = regexp.MustCompile(`deadline = "(\d+)s"`)

// onThisMachine stretches the deadlines of a configuration by how many processes wait for each of this machine's cores. On a busy
// one the boot of a healthy release takes that much longer, and would be taken for a hang.
func onThisMachine(text string) string {
	var load float64
	average, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, _ = fmt.Sscan(string(average), &load)
	}
	return deadline.ReplaceAllStringFunc(text, func(found string) string {
		seconds, _ := strconv.Atoi(deadline.FindStringSubmatch(found)[1])
		return fmt.Sprintf("deadline = \"%ds\"", int(math.Ceil(float64(seconds)*max(1, load/float64(runtime.NumCPU())))))
	})
}

// reconfigure replaces text in the site's configuration.
func (h *host) reconfigure(old, new string) {
	h.t.Helper()
	file := "/etc/deploygate/" + h.site.Name + ".toml"
	config, err := h.ReadFile(file)
	h.must(err)
	if !strings.Contains(config, old) {
		h.t.Fatalf("%s has no %q", file, old)
	}
	h.must(h.WriteFile(file, strings.ReplaceAll(config, old, onThisMachine(new)), 0o644))
}

// verdict is the JSON that a deploy prints, and its exit code.
type verdict struct {
	Code      int
	Stderr    string
	Requested string `json:"requested"`
	Previous  string `json:"previous"`
	Current   string `json:"current"`
	Outcome   string `json:"outcome"`
	ExitCode  int    `json:"exit_code"`
	Changed   bool   `json:"changed"`
	DeployID  string `json:"deploy_id"`
	Steps     []struct{ Name, Outcome, Detail string }
	Failure   *finding                                   `json:"failure"`
	WayBack   *struct{ Version, Verdict, Reason string } `json:"way_back"`
	Before    []finding
	Warnings  []string
}

type finding struct {
	Layer, Cause, Blames, Summary string
	Evidence                      []struct{ Source, Text string }
	Advice                        []string
}

// run runs deploygate as root.
func (h *host) run(args ...string) testbed.Result {
	h.t.Helper()
	r := h.Exec(context.WithoutCancel(h.t.Context()), append([]string{program}, args...)...)
	h.t.Logf("deploygate %s: exit %d\n%s%s", strings.Join(args, " "), r.Code, r.Stderr, r.Stdout)
	return r
}

// deploy runs a deploying command with --output json.
func (h *host) deploy(args ...string) verdict {
	h.t.Helper()
	return h.verdict(h.run(append(args, "--app", h.site.Name, "--output", "json")...))
}

// verdict is what a deploying command with --output json has said.
func (h *host) verdict(r testbed.Result) (v verdict) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(r.Stdout), &v); err != nil {
		h.t.Fatalf("the verdict is not JSON: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	v.Code, v.Stderr = r.Code, r.Stderr
	if v.Code != v.ExitCode {
		h.t.Errorf("exit code %d, but the verdict says %d", v.Code, v.ExitCode)
	}
	return v
}

// expect asserts a verdict's outcome.
func (h *host) expect(v verdict, outcome string, code int) {
	h.t.Helper()
	if v.Outcome != outcome || v.Code != code {
		h.t.Fatalf("outcome %s, exit %d; want %s, exit %d\nfailure: %+v", v.Outcome, v.Code, outcome, code, v.Failure)
	}
	if (outcome == "released" || outcome == "unchanged") != (v.Failure == nil) {
		h.t.Errorf("outcome %s with failure %+v", outcome, v.Failure)
	}
	if link, _ := h.Link(h.site); v.Current != strings.TrimPrefix(link, "releases/") {
		h.t.Errorf("the verdict says %q is current, the link %q", v.Current, link)
	}
}

// failed asserts a verdict's failure.
func (h *host) failed(v verdict, layer, cause, summary string) {
	h.t.Helper()
	switch f := v.Failure; {
	case f == nil:
		h.t.Error("there is no failure")
	case f.Layer != layer || f.Cause != cause || !strings.Contains(f.Summary, summary):
		h.t.Errorf("failure %s/%s: %s\nwant %s/%s: …%s…", f.Layer, f.Cause, f.Summary, layer, cause, summary)
	}
}

// step asserts how a step ended, "" for a step that must not be there.
func (h *host) step(v verdict, name, outcome string) {
	h.t.Helper()
	got := ""
	for _, s := range v.Steps {
		if s.Name == name {
			got = s.Outcome
		}
	}
	if got != outcome {
		h.t.Errorf("step %s: %q, want %q", name, got, outcome)
	}
}

// live asserts that version is what the link names, what every process of the unit runs, and what a client of nginx
// gets.
func (h *host) live(version string) {
	h.t.Helper()
	h.linked(version)
	h.running(version)
	status, header, body, err := h.Get(h.t.Context(), h.site, "/health/")
	if err != nil || status != 200 || header.Get("X-Release") != version || body != "ok "+version+"\n" {
		h.t.Errorf("a client of nginx gets %d %q of %q (%v), want 200 of %q", status, body, header.Get("X-Release"), err, version)
	}
}

func (h *host) linked(version string) {
	h.t.Helper()
	link, err := h.Link(h.site)
	if err != nil || link != "releases/"+version {
		h.t.Errorf("current links to %q (%v), want releases/%s", link, err, version)
	}
}

func (h *host) running(version string) {
	h.t.Helper()
	var cwds []string
	h.eventually(func() bool { // one worker may answer before another is there
		var err error
		cwds, err = h.Cwds(h.t.Context(), h.site)
		h.must(err)
		return len(cwds) > 2
	})
	if slices.ContainsFunc(cwds, func(dir string) bool { return dir != h.site.ReleaseDir(version) }) {
		h.t.Errorf("the processes run in %q, want %s", cwds, h.site.ReleaseDir(version))
	}
}

// answers asserts what a client of nginx gets.
func (h *host) answers(status int) {
	h.t.Helper()
	got, _, body, err := h.Get(h.t.Context(), h.site, "/health/")
	if err != nil || got != status {
		h.t.Errorf("a client of nginx gets %d %q (%v), want %d", got, body, err, status)
	}
}

// touched returns what a deploy that touches nothing leaves as it is: the link, the unit's process, nginx's reloads.
func (h *host) touched() string {
	h.t.Helper()
	link, _ := h.Link(h.site)
	pid, err := h.UnitProperty(h.t.Context(), h.site.Unit, "InvocationID")
	h.must(err)
	reloads, err := h.NginxReloads()
	h.must(err)
	return fmt.Sprintf("link %s, invocation %s, %d reloads of nginx", link, pid, reloads)
}

// refuses asserts that a deploy is refused and touches nothing.
func (h *host) refuses(layer, summary string, args ...string) {
	h.t.Helper()
	before := h.touched()
	v := h.deploy(args...)
	h.expect(v, "refused", 1)
	if v.Failure == nil || v.Failure.Layer != layer || !strings.Contains(v.Failure.Summary, summary) {
		h.t.Errorf("failure %+v, want %s: …%s…", v.Failure, layer, summary)
	}
	if v.Changed {
		h.t.Error("the verdict says that something was changed")
	}
	if after := h.touched(); after != before {
		h.t.Errorf("before: %s\nafter:  %s", before, after)
	}
}

// released deploys a release that must pass.
func (h *host) released(version string) verdict {
	h.t.Helper()
	v := h.deploy("release", version)
	h.expect(v, "released", 0)
	h.live(version)
	return v
}
