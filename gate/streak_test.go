package gate

import (
	"testing"
	"time"
)

func TestStreakIsUninterruptedHealth(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var s Streak
	if s.Ever() || s.broken() != "" {
		t.Error("healthy before the first answer")
	}
	s.Break()
	if s.Ever() || s.broken() != "" {
		t.Error("there was nothing to break")
	}
	for _, c := range []struct{ at, want float64 }{{1, 0}, {1.5, 0.5}, {3, 2}} {
		if got := s.Hold(at(c.at)); got.Seconds() != c.want {
			t.Errorf("held for %v at %v", got, c.at)
		}
	}
	s.Break()
	if got := s.Hold(at(9)); got != 0 {
		t.Errorf("held for %v right after a break", got)
	}
	if got := s.Hold(at(10)); got != time.Second || !s.Ever() || s.broken() == "" {
		t.Errorf("held for %v, ever %v, broken %q", got, s.Ever(), s.broken())
	}
}
