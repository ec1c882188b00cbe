package main

import (
	"io"
	"time"

	"github.com/rs/zerolog"
)

// newLogger logs to stderr, beside the progress: what went on underneath, for those who ask with --log-level.
func newLogger(w io.Writer, level string, color bool) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), usagef("--log-level %q is not one of debug, info, warn, error, disabled", level)
	}
	if d, is := w.(*door); is && color {
		w = &door{w: d.w, secrets: d.secrets, colored: true}
	}
	out := zerolog.ConsoleWriter{Out: w, NoColor: !color, TimeFormat: time.TimeOnly}
	return zerolog.New(out).Level(l).With().Timestamp().Logger(), nil
}
