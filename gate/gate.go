package gate

import (
	"context"
	"fmt"
	"time"
)

// Unit looks at the app's unit.
type Unit interface {
	State(ctx context.Context) (UnitState, error)
}

// Prober sends the same request again and again. After each, observe says whether to ask again, and how long after the
// beginning of this request the next one begins: at once if it took longer. It ends also with the context, whose error it
// then gives.
type Prober interface {
	Probe(ctx context.Context, observe func(Answer) (next time.Duration, again bool)) error
}

// Mode is how a check asks. Without Hold one good answer is enough; without Strict a bad one may still become a good one.
type Mode int

// The ways to ask.
const (
	Hold   Mode = 1 << iota // until the answers have been good for a time without interruption
	Strict                  // what should be healthy already: the first bad answer is final, but for what was just started and doesn't listen yet
	Once   Mode = 0         // until the first good answer
)

// Progress hears what is being waited for, whenever that changes.
type Progress func(detail string)

// ask sends one request.
func ask(ctx context.Context, p Prober, x Want) (answer *Answer, wrong *Finding) {
	err := p.Probe(ctx, func(a Answer) (time.Duration, bool) {
		answer, wrong = &a, x.Judge(a)
		return 0, false
	})
	if answer == nil {
		return nil, NewFinding(LayerHealth, Unknown, fmt.Sprintf("cannot ask %s: %v", x.Where, err))
	}
	return answer, wrong
}

// noManager is the finding where systemd gives no answer.
func noManager(err error) *Finding {
	f := NewFinding(LayerService, Unknown, fmt.Sprintf("cannot ask systemd: %v", err))
	f.Unseen = true
	return f
}
