package config

import (
	"testing"
)

// Each key that is read has a purpose, and nothing else has one.
func TestPurposes(t *testing.T) {
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.key] = true
		if _, said := purposes[s.key]; !said && !sameAsBeforeSwap(s.key) {
			t.Errorf("%s: what is it for?", s.key)
		}
		if s.kind == "" {
			t.Errorf("%s: what may it be?", s.key)
		}
	}
	for key := range purposes {
		if !known[key] {
			t.Errorf("%s isn't read", key)
		}
	}
}

func TestWritten(t *testing.T) {
	c := Defaults("x")
	for _, s := range settings() {
		if s.key == "health.headers" && s.fallback != `{ X-Forwarded-Proto = "https" }` || s.key == "health.status" && s.fallback != "[200]" ||
			s.key == "health.interval" && s.fallback != `"100ms"` || s.key == "keep" && s.fallback != "5" {
			t.Errorf("%s = %s", s.key, s.fallback)
		}
	}
	if c.Keep != 5 {
		t.Error(c.Keep)
	}
}
