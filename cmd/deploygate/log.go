package main

import (
	"io"
	"regexp"
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

// probeLog turns go-retryablehttp's log down: a refused probe is an error to it, and what is being waited for here.
// Its messages name addresses without their credentials, and no header.
type probeLog struct{ log zerolog.Logger }

func (p probeLog) Error(msg string, kv ...any) { p.log.Debug().Fields(withoutQuery(kv)).Msg(msg) }
func (p probeLog) Warn(msg string, kv ...any)  { p.log.Debug().Fields(withoutQuery(kv)).Msg(msg) }
func (p probeLog) Info(msg string, kv ...any)  { p.log.Debug().Fields(withoutQuery(kv)).Msg(msg) }
func (p probeLog) Debug(msg string, kv ...any) { p.log.Trace().Fields(withoutQuery(kv)).Msg(msg) }

// withoutQuery cuts the query off every address, since it may hold a token.
func withoutQuery(kv []any) []any {
	cut := make([]any, len(kv))
	for i, v := range kv {
		if err, isErr := v.(error); isErr {
			v = err.Error()
		}
		if s, isText := v.(string); isText {
			v = query.ReplaceAllString(s, "?…")
		}
		cut[i] = v
	}
	return cut
}

var query = regexp.MustCompile(`\?[^\s":]+`)
