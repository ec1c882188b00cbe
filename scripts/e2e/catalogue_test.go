package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"deploygate/scripts/testbed"
)

// Every failure of the catalogue is produced for real, and layer and cause are named: by diagnose, and by the release
// that brings it. Between two failures the host is put right, and nothing is found on it.
func TestCatalogue(t *testing.T) {
	results := matrix{found: map[string]string{}}
	t.Cleanup(func() { results.document(t) })
	for i, failures := range shares(4) {
		t.Run(fmt.Sprintf("part %d", i+1), func(t *testing.T) {
			onSuites(t, suitesOf(i), testbed.DefaultSite(), func(h *host) {
				h.sh("useradd --system shop")
				h.configure("")
				h.add("v1")
				h.released("v1")
				for _, f := range failures {
					h.sub(f.name(), func() { results.add(f, h.Suite, h.produced(f)) })
				}
			})
		})
	}
}

// shares deals the catalogue out to n hosts; those that need a database go to the last two, since its start takes long.
func shares(n int) [][]failure {
	dealt := make([][]failure, n)
	plain, database := 0, 0
	for _, f := range catalogue {
		i := plain % n
		if f.postgres {
			i = n - 2 + database%2
			database++
		} else {
			plain++
		}
		dealt[i] = append(dealt[i], f)
	}
	return dealt
}

// sub runs a part of a scenario as a test of its own, on the same host.
func (h *host) sub(name string, part func()) {
	t := h.t
	defer func() { h.t = t }()
	t.Run(name, func(t *testing.T) {
		h.t = t
		part()
	})
}

// produced produces a failure and says in which ways it was taken for another: none if it was found.
func (h *host) produced(f failure) (mistaken []string) {
	h.t.Helper()
	if f.cause == "oom" {
		if _, err := os.Stat(memoryGroups); err != nil {
			h.t.Skip("the kernel limits memory by version 2 alone, which the testbed doesn't hand on")
		}
	}
	h.reset(f)
	want := f.layer + "/" + f.cause
	if other := f.unproved[h.Suite]; other != "" {
		want = other
	}
	check := func(who string, findings ...finding) {
		h.t.Helper()
		var got []string
		for _, found := range findings {
			got = append(got, found.Layer+"/"+found.Cause)
			if found.Summary == "" || len(found.Evidence) == 0 {
				h.t.Errorf("%s proves nothing by %+v", who, found)
			}
		}
		if text := cmp.Or(strings.Join(got, " and "), "nothing"); text != want {
			h.t.Errorf("%s finds %s, not %s: %+v", who, text, want, findings)
			mistaken = append(mistaken, who+" finds "+text)
		}
	}
	if f.mods != nil {
		h.add("v2", f.mods...)
	}
	if f.prepare != nil {
		f.prepare(h)
	}
	if f.mods != nil && f.produce == nil {
		v := h.deploy("release", "v2")
		outcome, code := "rolled_back", 3
		if f.refused {
			outcome, code = "refused", 1
		}
		if f.refused || v.Outcome != outcome {
			// What is remembered of it is not about the next v2: its hooks ran, or it left no good release.
			defer func() {
				h.sh("rm -rf /var/lib/deploygate")
				h.reset(f)
				if v := h.deploy("release", "v1"); v.Code != 0 {
					h.t.Errorf("v1 is not good again: %+v", v)
				}
			}()
		}
		h.expect(v, outcome, code)
		check("release", *cmp.Or(v.Failure, &finding{}))
		h.live("v1")
		h.healthy()
		if f.refused {
			return mistaken
		}
	}
	mark := h.mark()
	if f.produce != nil {
		f.produce(h)
	} else {
		h.swap()
	}
	h.shows(f.await, mark)
	// It is the one finding: what follows from it is no cause.
	check("diagnose", h.diagnose().Findings...)
	return mistaken
}

// reset makes the host a good one with v1 live, whatever was done to it.
func (h *host) reset(f failure) {
	h.t.Helper()
	h.site = testbed.DefaultSite()
	if f.site != nil {
		f.site(&h.site)
	}
	workers := h.Exec(h.t.Context(), "sh", "-c", "pgrep -P $(cat /run/nginx.pid)").Stdout
	h.sh(`systemctl kill -s KILL gunicorn.service 2>/dev/null || true
systemctl stop gunicorn.service occupy.service squatter.service 'slot*' 2>/dev/null || true
rm -rf /etc/systemd/system/gunicorn.service.d /run/gunicorn /run/occupied /etc/nginx/conf.d/* \
	/srv/app/venv /srv/app/releases/v2 /srv/app/shared/db.sqlite3
chmod 755 /srv/app/releases/v1
ln -sfn releases/v1 /srv/app/current
systemctl reset-failed`)
	// A worker that hangs keeps a restart waiting as long as this.
	h.must(h.WriteFile("/etc/systemd/system/gunicorn.service.d/stop.conf", "[Service]\nTimeoutStopSec=2\n", 0o644))
	h.must(h.InstallSite(h.t.Context(), h.site))
	h.until(strings.Fields(workers)) // those that still serve as before
	if f.postgres {
		h.resetPostgres()
	}
	config := f.config
	if !strings.Contains(config, "deadline") {
		config = "deadline = \"4s\"\n" + config
	}
	h.configure(config)
	h.must(h.GoLive(h.t.Context(), h.site, "v1"))
	h.booted()
	h.healthy()
}

// resetPostgres starts the database with the settings that a host has at first.
func (h *host) resetPostgres() {
	h.t.Helper()
	h.must(h.StartPostgres(h.t.Context()))
	changed, err := h.SQL(h.t.Context(), "postgres", "SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%postgresql.auto.conf'")
	h.must(err)
	if changed != "0" {
		name, err := h.PostgresUnit()
		h.must(err)
		_, err = h.SQL(h.t.Context(), "postgres", "ALTER SYSTEM RESET ALL")
		h.must(err)
		h.sh("systemctl restart " + name)
		h.must(h.StartPostgres(h.t.Context()))
	}
	_, err = h.SQL(h.t.Context(), "postgres", "ALTER ROLE shop CONNECTION LIMIT -1")
	h.must(err)
}

// until waits until processes are gone.
func (h *host) until(pids []string) {
	h.t.Helper()
	h.eventually(func() bool {
		for _, pid := range pids {
			if h.Exec(h.t.Context(), "test", "-e", "/proc/"+pid).Err == nil {
				return false
			}
		}
		return true
	})
}

// booted waits until both workers answer, and returns their process ids: one that still boots would trip over what is done
// to the host next.
func (h *host) booted() (pids map[string]bool) {
	h.t.Helper()
	pids = map[string]bool{}
	h.eventually(func() bool {
		if status, header, _, err := h.Get(h.t.Context(), h.site, "/health/"); err == nil && status == 200 {
			pids[header.Get("X-Pid")] = true
		}
		return len(pids) > 1
	})
	return pids
}

// swap makes v2 live as someone without deploygate would.
func (h *host) swap() {
	h.t.Helper()
	h.must(h.SetLink(h.site, "v2"))
	h.restart()
}

// mark is a point in time, and in nginx's error log.
type mark struct {
	at    time.Time
	nginx int
}

const errorLog = "/var/log/nginx/error.log"

func (h *host) mark() mark {
	h.t.Helper()
	log, err := h.ReadFile(errorLog)
	h.must(err)
	return mark{time.Now(), len(log)}
}

// shows waits until a failure does; see failure.await.
func (h *host) shows(text string, since mark) {
	h.t.Helper()
	if text == "-" {
		return
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 40*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !h.shown(ctx, text, since) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("the failure doesn't show: %q", text)
		}
	}
}

func (h *host) shown(ctx context.Context, text string, since mark) bool {
	h.t.Helper()
	if text == "" {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		status, _, _, err := h.Get(short, h.site, "/health/")
		return err != nil || status != 200
	}
	log, err := h.ReadFile(errorLog)
	h.must(err)
	if strings.Contains(log[min(since.nginx, len(log)):], text) {
		return true
	}
	journal := h.Exec(ctx, "journalctl", "--unit="+h.site.Unit, "--output=cat",
		fmt.Sprintf("--since=@%d.%06d", since.at.Unix(), since.at.Nanosecond()/1000))
	return strings.Contains(journal.Stdout, text)
}

// diagnosis is the JSON that diagnose prints, and its exit code.
type diagnosis struct {
	Code     int
	Healthy  bool
	Current  string
	Findings []finding
	Unread   []struct{ What, Why, Command string }
	Warnings []string
}

func (h *host) diagnose() diagnosis {
	h.t.Helper()
	return h.diagnosed(h.run("diagnose", "--app", h.site.Name, "--output", "json"))
}

// diagnosed reads what diagnose printed.
func (h *host) diagnosed(r testbed.Result) (d diagnosis) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(r.Stdout), &d); err != nil {
		h.t.Fatalf("the diagnosis is not JSON: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	d.Code = r.Code
	if d.Healthy != (d.Code == 0) || d.Healthy != (len(d.Findings) == 0) || d.Code > 1 && d.Code != 7 {
		h.t.Errorf("exit %d, healthy %t, %d findings", d.Code, d.Healthy, len(d.Findings))
	}
	return d
}

// healthy asserts that nothing is wrong, and nothing was kept from being looked at.
func (h *host) healthy() {
	h.t.Helper()
	if d := h.diagnose(); !d.Healthy || d.Current != "v1" || len(d.Unread) > 0 {
		h.t.Errorf("on a healthy host with v1: %+v", d)
	}
}

// matrix is what was found of the catalogue, by failure and suite.
type matrix struct {
	mu    sync.Mutex
	found map[string]string
}

func (m *matrix) add(f failure, suite string, mistaken []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := "found"
	if len(mistaken) > 0 {
		text = strings.Join(mistaken, "; ")
	} else if other := f.unproved[suite]; other != "" {
		text = other
	}
	m.found[f.name()+suite] = text
}

// document holds what was found against the table of causes, in the catalogue's order.
func (m *matrix) document(t *testing.T) {
	var rows []tableRow
	for _, f := range catalogue {
		r := tableRow{text: fmt.Sprintf("| `%s`", f.cause), whole: true}
		if f.variant != "" {
			r.text += ": " + f.variant
		}
		r.text += fmt.Sprintf(" | %s |", f.layer)
		for _, suite := range testbed.Suites {
			text := m.found[f.name()+suite]
			if text == "" {
				text, r.whole = "not run", false
			}
			r.text += " " + text + " |"
		}
		rows = append(rows, r)
	}
	document(t, "gate/diagnosis/CAUSES.md", rows)
}
