package host

import (
	"regexp"

	"github.com/rs/zerolog"
)

// probeLog turns go-retryablehttp's log down: a refused probe is an error to it, and what is being waited for here.
// Its messages name addresses without their credentials, and no header.
type probeLog struct{ log zerolog.Logger }

func (p probeLog) Error(msg string, kv ...any) { p.log.Debug().Fields(withoutQuery(kv)).Msg(msg) }

func (p probeLog) Warn(msg string, kv ...any) { p.log.Debug().Fields(withoutQuery(kv)).Msg(msg) }

func (p probeLog) Info(msg string, kv ...any) { p.log.Debug().Fields(withoutQuery(kv)).Msg(msg) }

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
