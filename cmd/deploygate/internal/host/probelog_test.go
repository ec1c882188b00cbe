package host

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"deploygate/scripts/assert"
)

// A probe that is refused is what is being waited for, and no error.
func TestProbeLog(t *testing.T) {
	var out bytes.Buffer
	probeLog{zerolog.New(&out).Level(zerolog.InfoLevel)}.Error("request failed", "error", errors.New("refused"))
	assert.Equal(t, "at info", out.String(), "")
	probeLog{zerolog.New(&out).Level(zerolog.DebugLevel)}.Error("request failed", "error", errors.New("refused"))
	if !strings.Contains(out.String(), "request failed") {
		t.Errorf("at debug: %q", out.String())
	}
}
