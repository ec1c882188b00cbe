package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"deploygate/gate"
	"deploygate/release/deploy"
)

// progress shows a deploy on stderr while it runs. On a terminal each step has a line, and the one that is being
// waited for is live; in a pipe a line is written when something changes, and one every heartbeat so that a CI system
// doesn't take the job for dead.
type progress struct {
	out     io.Writer
	secrets *gate.Secrets // may be nil
	fd      int           // of the terminal; -1: no terminal
	color   bool
	beat    time.Duration

	mu     sync.Mutex
	step   deploy.StepName // "" between steps
	detail string
	began  time.Time
	said   time.Time
	stop   chan struct{}
}

const heartbeat = 10 * time.Second

func newProgress(stderr io.Writer, noColor bool) *progress {
	p := &progress{out: stderr, fd: -1, beat: heartbeat}
	if d, is := stderr.(*door); is { // which a terminal's control characters wouldn't pass
		p.out, p.secrets, stderr = d.w, d.secrets, d.w
	}
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.fd, p.color, p.beat = int(f.Fd()), !noColor, time.Second
	}
	return p
}

func (p *progress) live() bool { return p.fd >= 0 }

// Started implements deploy.Observer.
func (p *progress) Started(name deploy.StepName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step, p.detail, p.began, p.said = name, "", time.Now(), time.Now()
	p.stop = make(chan struct{})
	if p.live() {
		p.redraw()
	}
	go p.tick(p.stop)
}

// tick keeps the live line's clock running, or the pipe's heart beating.
func (p *progress) tick(stop chan struct{}) {
	t := time.NewTicker(min(p.beat, time.Second))
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		p.mu.Lock()
		switch {
		case p.stop != stop:
		case p.live():
			p.redraw()
		case time.Since(p.said) >= p.beat:
			p.say(fmt.Sprintf("%s: still waiting after %s%s", p.step, time.Since(p.began).Round(time.Second), prefixed(": ", p.detail)))
		}
		p.mu.Unlock()
	}
}

// Waiting implements deploy.Observer.
func (p *progress) Waiting(_ deploy.StepName, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	detail = p.line(detail)
	if detail == p.detail {
		return
	}
	p.detail = detail
	if p.live() {
		p.redraw()
	} else {
		p.say(string(p.step) + ": " + detail)
	}
}

// Ended implements deploy.Observer.
func (p *progress) Ended(s deploy.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.stop)
	p.step, p.stop = "", nil
	detail := p.line(s.Detail)
	if s.Outcome == deploy.Skipped { // nothing to do is nothing to read
		if p.live() {
			fmt.Fprint(p.out, "\r\x1b[K")
		}
		return
	}
	if !p.live() {
		p.say(fmt.Sprintf("%s: %s (%.1f s)%s", s.Name, s.Outcome, s.Seconds, prefixed(": ", detail)))
		return
	}
	line := fmt.Sprintf("  %-12s %s %5.1fs  ", s.Name, p.paint(s.Outcome), s.Seconds)
	fmt.Fprintf(p.out, "\r\x1b[K%s%s\n", line, detail)
}

// Warned implements deploy.Observer.
func (p *progress) Warned(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text = p.line(text)
	if !p.live() {
		p.say("warning: " + text)
		return
	}
	fmt.Fprintf(p.out, "\r\x1b[K  %-12s %s\n", "warning", text)
	if p.step != "" {
		p.redraw()
	}
}

func (p *progress) say(line string) {
	p.said = time.Now()
	fmt.Fprintf(p.out, "deploygate: %s\n", line)
}

// redraw writes the live line, cut to the terminal's width: a line that wraps can't be taken back.
func (p *progress) redraw() {
	line := fmt.Sprintf("  %-12s ...     %4.0fs   %s", p.step, time.Since(p.began).Seconds(), gate.OneLine(p.detail))
	if width, _, err := term.GetSize(p.fd); err == nil && width > 1 {
		if runes := []rune(line); len(runes) >= width {
			line = string(runes[:width-1])
		}
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", line)
}

func (p *progress) paint(o deploy.StepOutcome) string {
	word := fmt.Sprintf("%-8s", o)
	if !p.color {
		return word
	}
	code := "32"
	if o == deploy.Failed {
		code = "31"
	}
	return "\x1b[" + code + "m" + word + "\x1b[0m"
}

// line is a text from elsewhere as it is shown. Secrets go first: half of one that is cut off can't be told.
func (p *progress) line(text string) string { return gate.OneLine(p.secrets.Hide(text)) }

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
