package e2e

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"deploygate/scripts/testbed"
)

// What the classification of migrations says is held against what happens: every operation is applied to a PostgreSQL
// and a SQLite database, the new code writes, and then the old code does all that code does. What is called safe must
// work. What is called blocked and works is known as stricter than needed.
func TestTruth(t *testing.T) {
	found := facts{by: map[string]map[string]fact{}}
	t.Cleanup(func() { found.document(t) })
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.must(h.StartPostgres(h.t.Context()))
		for i, f := range h.truth() {
			if !truths[i].turn(i, h.Suite) {
				continue
			}
			h.sub(truths[i].operation, func() {
				found.add(truths[i], h.Suite, f)
				if f.Django == "" {
					h.t.Skip("its Django doesn't have it")
				}
				h.judged(truths[i], f)
			})
		}
	})
}

// truth is a pair of releases that differ by one operation, or by few. What both have is a Customer with a name, and an
// Order with a number and a customer.
type truth struct {
	operation string            // as the table names it
	verdict   string            // deploygate's: "safe" or "blocked"
	stricter  string            // why it is blocked, where everything works
	differs   bool              // what happens depends on the suite
	since     string            // the Django that has it first, "" for any
	until     string            // the Django that has it last
	Engines   []string          `json:"engines,omitempty"` // of databases that have it, none for all
	Old       string            `json:"old,omitempty"`     // more of the old Order
	New       string            `json:"new,omitempty"`     // more of the new Order
	OldMore   string            `json:"oldClasses,omitempty"`
	NewMore   string            `json:"newClasses,omitempty"`
	OldBefore string            `json:"oldBefore,omitempty"` // before the models
	NewBefore string            `json:"newBefore,omitempty"`
	Name      string            `json:"newName,omitempty"`     // the new Order's
	Customer  string            `json:"newCustomer,omitempty"` // the new Customer's
	Body      string            `json:"newCustomerBody,omitempty"`
	Apps      []string          `json:"apps,omitempty"`   // beside the shop
	Before    string            `json:"before,omitempty"` // operations of a migration that both have
	Migration string            `json:"migration"`        // operations
	Head      string            `json:"head,omitempty"`   // of the migration's class
	Word      string            `json:"word,omitempty"`   // the author's
	Writes    string            `json:"writes,omitempty"` // what else the new code does, in Python
	Does      map[string]string `json:"does,omitempty"`   // what else the old code does, by SELECT, INSERT and so on
}

// fact is what was found of one row on one host.
type fact struct {
	Django  string   `json:"django"` // "" if this one doesn't have it
	Broken  string   `json:"broken"` // why the row is none
	Exit    int      `json:"exit"`
	Verdict string   `json:"verdict"`
	Why     []string `json:"why"`
	Truth   map[string]struct {
		Failed map[string]string `json:"failed"`
	} `json:"truth"`
}

//go:embed testdata/truth/driver.py
var truthDriver string

// truth finds the facts, in the order of the rows.
func (h *host) truth() []fact {
	h.t.Helper()
	version := strings.TrimSpace(h.Exec(h.t.Context(), "python3", "-c", "import django; print('%d.%d' % django.VERSION[:2])").Stdout)
	var rows []truth
	var places []int
	for i, row := range truths {
		if row.has(version) && row.turn(i, h.Suite) {
			rows, places = append(rows, row), append(places, i)
		}
	}
	text, err := json.Marshal(rows)
	h.must(err)
	h.must(h.WriteFile("/srv/truth/rows.json", string(text), 0o644))
	h.must(h.WriteFile("/srv/truth/driver.py", truthDriver, 0o644))
	r := h.Exec(h.t.Context(), "python3", "/srv/truth/driver.py", "/srv/truth/rows.json", "/srv/truth", program)
	h.must(r.Err)
	var some []fact
	if err := json.Unmarshal([]byte(r.Stdout), &some); err != nil || len(some) != len(rows) {
		h.t.Fatalf("%d facts (%v): %s%s", len(some), err, r.Stderr, r.Stdout)
	}
	all := make([]fact, len(truths))
	for i, f := range some {
		all[places[i]] = f
	}
	return all
}

// turn reports whether the row with an index is asked of a suite. What every Django has and does alike is asked of one of them,
// and with full of each.
func (r truth) turn(i int, suite string) bool {
	return r.since != "" || r.until != "" || r.differs || slices.Contains(suitesOf(i), suite)
}

// has reports whether a Django has what the row is about.
func (r truth) has(django string) bool {
	return (r.since == "" || !older(django, r.since)) && (r.until == "" || !older(r.until, django))
}

func older(a, b string) bool {
	var am, an, bm, bn int
	_, _ = fmt.Sscanf(a, "%d.%d", &am, &an)
	_, _ = fmt.Sscanf(b, "%d.%d", &bm, &bn)
	return cmp.Or(cmp.Compare(am, bm), cmp.Compare(an, bn)) < 0
}

// judged holds one row's verdict against the facts.
func (h *host) judged(row truth, f fact) {
	h.t.Helper()
	if f.Broken != "" {
		h.t.Fatal(f.Broken)
	}
	failed := false
	for _, engine := range slices.Sorted(maps.Keys(f.Truth)) {
		for kind, how := range f.Truth[engine].Failed {
			failed = true
			h.t.Logf("%s: %s fails: %s", engine, kind, how)
		}
	}
	h.t.Logf("%s, exit %d: %s", f.Verdict, f.Exit, strings.Join(f.Why, "; "))
	if f.Verdict != row.verdict {
		h.t.Errorf("it is called %s, not %s", f.Verdict, row.verdict)
	}
	if (f.Exit == 0) != (f.Verdict == "safe") {
		h.t.Errorf("%s with exit code %d", f.Verdict, f.Exit)
	}
	if f.Verdict == "safe" && failed {
		h.t.Error("it is called safe, and the old code fails")
	}
}

// facts are by row and suite.
type facts struct {
	mu sync.Mutex
	by map[string]map[string]fact
}

func (fs *facts) add(row truth, suite string, f fact) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.by[row.operation] == nil {
		fs.by[row.operation] = map[string]fact{}
	}
	fs.by[row.operation][suite] = f
}

// document holds the facts against the table of operations, and asserts what can only be told from all hosts: that what is
// blocked fails on one of them.
func (fs *facts) document(t *testing.T) {
	var rows []tableRow
	for _, row := range truths {
		found := fs.by[row.operation]
		says, ran, failed := "not asked", 0, false
		for _, f := range found {
			if f.Verdict != "" {
				says = f.Verdict // that it is the row's was asserted
			}
			for _, truth := range f.Truth {
				ran++
				failed = failed || len(truth.Failed) > 0
			}
		}
		if says == "blocked" && row.stricter != "" {
			says += ", stricter than needed: " + row.stricter
		}
		if ran > 0 && row.verdict == "blocked" && failed != (row.stricter == "") {
			t.Errorf("%s is said to be %s, and that the old code fails is %t", row.operation, says, failed)
		}
		rows = append(rows, tableRow{
			fmt.Sprintf("| %s | %s | %s | %s |", row.title(), merged(found, "postgresql"), merged(found, "sqlite3"), says),
			len(found) > 0,
		})
	}
	slices.SortFunc(rows, func(a, b tableRow) int { return strings.Compare(a.text, b.text) })
	document(t, "rollback/migrations/OPERATIONS.md", rows)
}

// title is the operation with the Djangos that have it.
func (r truth) title() string {
	switch {
	case r.since != "":
		return r.operation + " (Django " + r.since + "+)"
	case r.until != "":
		return r.operation + " (Django up to " + r.until + ")"
	}
	return r.operation
}

// merged is a row's cell: what happens on all suites, or on each; – where the database doesn't have it.
func merged(found map[string]fact, engine string) string {
	var texts, cells []string
	for _, suite := range testbed.Suites {
		f := found[suite]
		text := "–"
		if truth, ran := f.Truth[engine]; ran {
			text = fails(truth.Failed)
		}
		if f.Django == "" {
			continue
		}
		if !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
		cells = append(cells, text+" on "+suite)
	}
	if len(texts) > 1 {
		return strings.Join(cells, "; ")
	}
	return cmp.Or(strings.Join(texts, ""), "not run")
}

// fails names what fails.
func fails(failed map[string]string) string {
	var kinds []string
	for _, kind := range []string{"SELECT", "INSERT", "UPDATE", "DELETE", "upsert"} {
		if failed[kind] != "" {
			kinds = append(kinds, kind)
		}
	}
	switch n := len(kinds); n {
	case 0:
		return "works"
	case 1:
		return kinds[0] + " fails"
	case 4, 5:
		return "everything fails"
	default:
		return strings.Join(kinds[:n-1], ", ") + " and " + kinds[n-1] + " fail"
	}
}
