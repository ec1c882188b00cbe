package gate

import "time"

// Streak measures uninterrupted health: from the first good answer after a bad one to the latest.
type Streak struct {
	since  time.Time
	ever   bool
	breaks int
}

// Hold notes a good answer at now and gives how long the streak has lasted.
func (s *Streak) Hold(now time.Time) time.Duration {
	if s.since.IsZero() {
		s.since, s.ever = now, true
	}
	return now.Sub(s.since)
}

// Break notes a bad answer: the count starts again.
func (s *Streak) Break() {
	if !s.since.IsZero() {
		s.breaks++
	}
	s.since = time.Time{}
}

// Ever reports whether there was a good answer at all.
func (s *Streak) Ever() bool { return s.ever }

func (s *Streak) broken() string {
	if s.breaks == 0 {
		return ""
	}
	return ", though it was for a while"
}
