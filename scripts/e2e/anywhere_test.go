package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// full makes the tests that sample a large space go through all of it: scripts/soak sets it.
var full = os.Getenv("DEPLOYGATE_FULL") != ""

const killat = "/usr/local/bin/killat"

// kinds are the releases that are killed at every point.
var kinds = map[string][]testbed.Mod{
	"good":      nil,
	"bad":       {testbed.ImportError()},
	"blocked":   {testbed.Marker(blocked)},
	"rehearsed": nil,
	"refused":   {testbed.ImportError()},
}

// release is the command that releases one of a kind.
func (h *host) release(kind, version string) []string {
	argv := []string{program, "release", version}
	if kind == "rehearsed" || kind == "refused" {
		argv = append(argv, "--rehearse")
	}
	return argv
}

// A deploy is killed at each of its changes of the host in turn: at every file that it makes, writes, renames or
// flushes, and every message that makes systemd do something. Nothing is typed afterwards, and each time the host is
// well in the end.
func TestKilledAnywhere(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			onAHost(t, testbed.DefaultSite(), func(h *host) {
				h.prepareKills()
				points := h.changes(kind)
				for n := h.firstPoint(); n <= points; n += h.stride(7) {
					version := fmt.Sprintf("%s-%d", kind, n)
					h.add(version, kinds[kind]...)
					r := h.Exec(h.t.Context(), append([]string{killat, strconv.Itoa(n)}, h.release(kind, version)...)...)
					at := lastChange(r.Stderr)
					if r.Code != 137 {
						h.t.Fatalf("point %d (%s): exit %d, want it killed\n%s", n, at, r.Code, r.Stderr)
					}
					h.settled()
					h.well(kind, version, "killed at point "+at)
					h.backToV1()
				}
			})
		})
	}
}

// layouts are the disks on which the power is cut: on one file system, each write of the journal takes the swap with it;
// with the state directory on its own, each is on its own.
func layouts(suite string) []layout {
	switch {
	case !full:
		return []layout{{kind: "ext4", state: "ext4"}}
	case suite == testbed.Suites[0]:
		return []layout{{kind: "ext4"}, {kind: "xfs", state: "ext4"}}
	default:
		return []layout{{kind: "xfs"}, {kind: "ext4", state: "xfs"}}
	}
}

// cutSuites are the suites whose power is cut: it is the same kernel.
func cutSuites() []string {
	if full {
		return testbed.Suites
	}
	return testbed.Suites[:1]
}

// The same with the power cut at each change: what the kernel hadn't written to the disk is lost, and the machine is
// booted again. The release has just been uploaded.
func TestPowerCutAnywhere(t *testing.T) {
	for kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			onSuites(t, cutSuites(), testbed.DefaultSite(), func(h *host) {
				for _, l := range layouts(h.Suite) {
					h.onDisk(l)
					h.prepareKills()
					points, cuts := h.changes(kind), 0
					for n := h.firstPoint(); n <= points; n += h.stride(17) {
						version := fmt.Sprintf("%s-%d", kind, n)
						h.add(version, append([]testbed.Mod{bulk()}, kinds[kind]...)...)
						at := h.cutAt(n, h.release(kind, version))
						h.installKillat()
						h.settled()
						h.well(kind, version, "power cut at point "+at)
						h.backToV1()
						cuts++
					}
					h.t.Logf("%s on %s: %d power cuts", kind, l, cuts)
				}
			})
		})
	}
}

// A deploy whose writes don't reach the disk says that it released, and after a power cut it hasn't, or the release is
// empty: so the cuts do lose what isn't written, and the tests notice.
func TestPowerCutIsNoticed(t *testing.T) {
	onSuites(t, cutSuites(), testbed.DefaultSite(), func(h *host) {
		for _, l := range layouts(h.Suite) {
			for skipped, want := range map[string]string{
				"fsync,fdatasync,syncfs": "current links to v1; the deploy had ended with v2",
				"syncfs":                 "current links to v2, whose files aren't those that were uploaded",
			} {
				h.onDisk(l)
				h.prepareKills()
				h.add("v2", bulk())
				r := h.Exec(h.t.Context(), killat, "-skip", skipped, "0", program, "release", "v2")
				if r.Code != 0 {
					h.t.Fatalf("exit %d\n%s", r.Code, r.Stderr)
				}
				h.live("v2")
				h.uploads.ended = "v2"
				h.must(h.CutPower())
				h.onCrashedDisk(func(problems []string) {
					if !strings.Contains(strings.Join(problems, "\n"), want) {
						h.t.Errorf("%s without %s: %q, want %s", l, skipped, problems, want)
					}
				})
				h.boot() // the next disk takes its place
			}
		}
	})
}

// cutAt cuts the power at a change that a command makes of the host.
func (h *host) cutAt(n int, argv []string) (at string) {
	h.t.Helper()
	cmd := h.Command(h.t.Context(), append([]string{killat, "-hold", strconv.Itoa(n)}, argv...)...)
	stderr, err := cmd.StderrPipe()
	h.must(err)
	h.must(cmd.Start())
	at, held := awaitHolding(stderr)
	if !held {
		h.t.Fatalf("it ended before it was held:\n%s", at)
	}
	h.powerCut()
	_ = cmd.Wait()
	return at
}

// bulk makes an upload so large that the kernel can't have written it all at once.
func bulk() testbed.Mod {
	return testbed.File("static/app.js", strings.Repeat("console.log('deploygate');\n", 40_000))
}

// prepareKills makes v1 live on a host whose deploys are short.
func (h *host) prepareKills() {
	h.t.Helper()
	if runtime.GOARCH != "amd64" {
		h.t.Skip("killat knows the registers of x86-64 alone")
	}
	h.configure("interval = \"50ms\"")
	h.reconfigure("600ms", "150ms")
	h.installKillat()
	h.add("v1")
	h.released("v1")
}

func (h *host) installKillat() {
	h.t.Helper()
	program, err := os.ReadFile(filepath.Join(filepath.Dir(binary), "killat"))
	h.must(err)
	h.must(h.WriteFile(killat, string(program), 0o755))
}

// firstPoint and stride choose the points: all of them, or a sample that differs between the suites.
func (h *host) firstPoint() int {
	if full || h.Suite == testbed.Suites[0] {
		return 1
	}
	return 4
}

func (h *host) stride(sample int) int {
	if full {
		return 1
	}
	return sample
}

// changes counts the points of a release of a kind, by letting one through.
func (h *host) changes(kind string) int {
	h.t.Helper()
	h.add(kind+"-0", kinds[kind]...)
	r := h.Exec(h.t.Context(), append([]string{killat, "0"}, h.release(kind, kind+"-0")...)...)
	n := strings.Count(r.Stderr, "\nchange ") + 1
	if n < 15 {
		h.t.Fatalf("only %d changes of the host:\n%s", n, r.Stderr)
	}
	h.t.Logf("%s: %d changes of the host", kind, n)
	h.backToV1()
	return n
}

var change = regexp.MustCompile(`(?m)^change (\d+: .*)$`)

func lastChange(stderr string) string {
	all := change.FindAllStringSubmatch(stderr, -1)
	if len(all) == 0 {
		return "none"
	}
	return all[len(all)-1][1]
}

// well asserts what must be true after any accident: the link, the processes, what a client gets and the journal agree
// on one healthy release, and nothing is left behind.
func (h *host) well(kind, version, what string) {
	h.t.Helper()
	link, err := h.Link(h.site)
	h.must(err)
	current := strings.TrimPrefix(link, "releases/")
	h.live(current)
	r := h.Exec(h.t.Context(), program, "history", "--limit", "1", "--app", h.site.Name, "--output", "json")
	h.must(r.Err)
	var history struct {
		Deploys []struct{ Requested, Current, Outcome string }
	}
	h.must(json.Unmarshal([]byte(r.Stdout), &history))
	last := history.Deploys[0]
	switch {
	case last.Outcome == "stuck", last.Outcome == "held":
		h.t.Errorf("the journal says %s", last.Outcome)
	case last.Requested != version: // it died before the journal knew of it
		if current != "v1" {
			h.t.Errorf("the journal does not know of %s, but %s is live", version, current)
		}
	case last.Current != current:
		h.t.Errorf("the journal says that %s is live (%s), the link says %s", last.Current, last.Outcome, current)
	case (last.Outcome == "released") != (current == version):
		h.t.Errorf("the journal says %s, and %s is live", last.Outcome, current)
	}
	if (kind == "bad" || kind == "refused") && current != "v1" {
		h.t.Errorf("%s is live", current)
	}
	h.noGuards() // a guard takes the lock to look
	if r := h.Exec(h.t.Context(), "flock", "--nonblock", "/var/lib/deploygate/"+h.site.Name+"/lock", "true"); r.Err != nil {
		h.t.Error("the lock is still held")
	}
	h.nothingBeside()
	if h.t.Failed() {
		h.run("history")
		r := h.Exec(h.t.Context(), "tail", "-n", "30", "/var/lib/deploygate/"+h.site.Name+"/journal.jsonl")
		h.t.Fatalf("%s: %s\n%s", version, what, r.Stdout)
	}
}

// noGuards waits until every guard has gone: it ends just after it has freed the lock.
func (h *host) noGuards() {
	h.t.Helper()
	h.eventually(func() bool {
		r := h.Exec(h.t.Context(), "systemctl", "list-units", "--all", "--no-legend", "deploygate-guard*")
		return r.Err == nil && r.Stdout == ""
	})
}

// backToV1 makes v1 live again without deploygate, as a start for the next accident.
func (h *host) backToV1() {
	h.t.Helper()
	if link, _ := h.Link(h.site); link != "releases/v1" {
		h.must(h.GoLive(h.t.Context(), h.site, "v1"))
	}
}
