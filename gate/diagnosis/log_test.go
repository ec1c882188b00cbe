package diagnosis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"deploygate/gate"
)

// logs that are made to keep rules busy, by the line.
var busyLogs = map[string]func(i int) string{
	"killed workers": func(i int) string { return fmt.Sprintf("Worker (pid:%d) was sent SIGKILL! Perhaps out of memory?", i) },
	"one worker":     func(int) string { return "Worker (pid:1) was sent SIGKILL! Perhaps out of memory?" },
	"timeouts":       func(i int) string { return fmt.Sprintf("[CRITICAL] WORKER TIMEOUT (pid:%d)", i) },
	"both":           func(i int) string { return []string{"WORKER TIMEOUT (pid:1)", "Worker (pid:1) was sent SIGKILL!"}[i%2] },
	"exits":          func(i int) string { return fmt.Sprintf("Worker (pid:%d) exited with code 1", i) },
	"boots":          func(i int) string { return fmt.Sprintf("Booting worker with pid: %d", i) },
	"tracebacks": func(i int) string {
		return []string{tracebackStart, `  File "/srv/app/releases/v2/a.py", line 1, in x`, "ValueError: 1"}[i%3]
	},
	"open tracebacks": func(int) string { return tracebackStart },
	"chained": func(i int) string {
		return []string{tracebackStart, "ValueError: 1", "", "During handling of the above exception, another exception occurred:", ""}[i%5]
	},
	"frames": func(i int) string {
		return []string{`  File "/x.py", line 1, in load_wsgiapp`, tracebackStart}[min(1, i%1000)^1]
	},
	"nearly steps": func(int) string { return "Failed at step Failed at step Failed at step EXEC spawning x spawning y" },
	"nearly databases": func(int) string {
		return "OperationalError: connection to server at connection to server connection to server, port port port"
	},
	"long lines": func(int) string { return strings.Repeat("Error: could not connect to server: ", 200) },
	"numbers":    func(int) string { return "worker" + strings.Repeat(" 1", 500) },
	"spaces":     func(int) string { return strings.Repeat(" ", 2000) + "x" },
}

func busyFacts(lines int, line func(int) string) *Facts {
	f := healthy()
	f.Unit.State.ActiveState, f.Unit.State.SubState = "active", "running"
	f.directly(cut)
	for i := range lines {
		f.Log = append(f.Log, gate.LogLine{At: f.Asked.Add(time.Duration(i) * time.Millisecond), PID: i % 7, Text: line(i)})
	}
	for i := range lines / 10 {
		f.Killed = append(f.Killed, gate.LogLine{At: f.Asked, Text: fmt.Sprintf("Killed process %d (python3)", 1_000_000+i)})
	}
	return f
}

// Twice the log is at most twice the work, whatever it holds: every rule goes through it a fixed number of times, and does
// nothing for each line that depends on the others.
func TestWorkGrowsNoFasterThanTheLog(t *testing.T) {
	const lines, perLine = 500, 60 // visits: less than there are rules
	for name, line := range busyLogs {
		t.Run(name, func(t *testing.T) {
			work := func(n int) (visits int, allocations float64) {
				f := busyFacts(n, line)
				allocations = testing.AllocsPerRun(1, func() {
					again := *f
					Diagnose(&again)
					visits = again.visits
				})
				return visits, allocations
			}
			visits, allocations := work(lines)
			visits2, allocations2 := work(2 * lines)
			if visits2 > 2*visits+perLine || visits2 > perLine*2*lines {
				t.Errorf("%d visits for %d lines, %d for twice as many", visits, lines, visits2)
			}
			if allocations2 > 2.2*allocations+1000 {
				t.Errorf("%.0f allocations for %d lines, %.0f for twice as many", allocations, lines, allocations2)
			}
		})
	}
}

func TestALongLogIsBounded(t *testing.T) {
	const lines = 1000
	f := busyFacts(lines, func(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("é", maxLine)) })
	f.read()
	size := 0
	for _, l := range f.Log {
		size += len(l.Text)
		if len(l.Text) > maxLine {
			t.Fatalf("a line has %d bytes", len(l.Text))
		}
	}
	if n := len(f.Log); size > maxLog+2*maxLine || !strings.HasPrefix(f.Log[0].Text, "0 ") || !strings.HasPrefix(f.Log[n-1].Text, fmt.Sprint(lines-1)) {
		t.Errorf("%d lines of %d bytes are left", n, size)
	}
	f = busyFacts(3, func(i int) string { return fmt.Sprint(i) })
	if f.read(); len(f.Log) != 3 {
		t.Errorf("%d lines are left of three", len(f.Log))
	}
}

// FuzzDiagnose has rules read any log.
func FuzzDiagnose(f *testing.F) {
	for _, line := range busyLogs {
		f.Add(line(0)+"\n"+line(1)+"\n"+line(2), true)
	}
	f.Fuzz(func(t *testing.T, log string, answers bool) {
		facts := healthy()
		if answers {
			facts.directly(error5)
		} else {
			facts.directly(cut)
		}
		for text := range strings.SplitSeq(log, "\n") {
			facts.Log = append(facts.Log, gate.LogLine{At: facts.Asked, Text: text})
		}
		for _, finding := range Diagnose(facts) {
			if finding.Summary == "" || finding.Layer == "" || strings.ContainsAny(finding.Summary, "\x1b\r") {
				t.Errorf("%+v", finding)
			}
		}
		if facts.visits > 60*len(facts.Log) {
			t.Errorf("%d visits of %d lines", facts.visits, len(facts.Log))
		}
	})
}

func BenchmarkDiagnoseTheLongestLog(b *testing.B) {
	for name, line := range busyLogs {
		b.Run(name, func(b *testing.B) {
			f := busyFacts(maxLog/perLine, line)
			for b.Loop() {
				again := *f
				Diagnose(&again)
			}
		})
	}
}

// What another release's code raised says nothing of the one that is judged.
func TestAnExceptionOfAnotherReleaseIsNoEvidence(t *testing.T) {
	raisedIn := func(files ...string) *Facts {
		f := healthy()
		f.directly(cut)
		f.Log = append(f.Log, gate.LogLine{At: f.Asked, PID: 2, Text: tracebackStart})
		for _, file := range files {
			f.Log = append(f.Log, gate.LogLine{At: f.Asked, PID: 2, Text: `  File "` + file + `", line 1, in load_wsgiapp`})
		}
		f.Log = append(f.Log, gate.LogLine{At: f.Asked, PID: 2, Text: "ModuleNotFoundError: No module named 'payments'"})
		return f
	}
	dir := healthy().Release.Dir
	for name, c := range map[string]struct {
		files []string
		is    bool
	}{
		"its own":                           {[]string{"/usr/lib/python3/dist-packages/gunicorn/util.py", dir + "/project/wsgi.py"}, true},
		"another's":                         {[]string{"/usr/lib/python3/dist-packages/gunicorn/util.py", dir + "9/project/wsgi.py"}, false},
		"no release's":                      {[]string{"/usr/lib/python3/dist-packages/gunicorn/util.py"}, true},
		"its own, with another's packages":  {[]string{dir + "9/venv/lib/python3/site-packages/x.py", dir + "/project/wsgi.py"}, true},
		"nothing but another's environment": {[]string{dir + "9/venv/lib/python3/site-packages/x.py"}, true},
	} {
		found := Diagnose(raisedIn(c.files...))
		if is := len(found) > 0 && found[0].Cause == gate.ImportError; is != c.is {
			t.Errorf("%s: %s", name, show(found))
		}
	}
}
