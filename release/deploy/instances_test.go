package deploy

import (
	"context"
	"testing"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/scripts/assert"
)

// twin is a second unit of the app, with processes of its own.
type twin struct{ service }

func (s twin) Name() string { return "twin.service" }

func (s twin) Ready(ctx context.Context) (Unit, error) {
	u, err := s.service.Ready(ctx)
	u.Name = s.Name()
	return u, err
}

// addTwin gives the app a second unit.
func (h *host) addTwin() *host {
	other := &host{t: h.t, root: h.root, state: h.state, tree: h.tree, ctx: h.ctx, does: map[release.Version]behaviour{}, on: map[string]func(){}}
	s := twin{service{other}}
	h.d.Instances = append(h.d.Instances, Instance{Service: s, Health: &gate.HealthCheck{
		Unit: s, Direct: prober{other, "probe"}, Want: h.d.Instances[0].Health.Want,
		Interval: 100 * time.Millisecond, Stable: 2 * time.Second, Deadline: 30 * time.Second,
	}})
	return other
}

// Each unit is restarted and gated by itself, and goes back only if it was restarted.
func TestInstances(t *testing.T) {
	const both = toSwap + "restart health restart health proxy (checks) commit (prune)"
	for _, c := range []struct {
		name       string
		one, other behaviour // of v2
		outcome    Outcome
		steps      string
		restarts   versions // of the first
		restarted  versions // of the second
		live       release.Version
	}{
		{"both are healthy", behaviour{}, behaviour{}, Released, both, versions{"v2"}, versions{"v2"}, "v2"},
		{
			"the first fails: the second was never touched",
			behaviour{status: 500},
			behaviour{},
			RolledBack,
			toSwap + "restart !health rollback",
			versions{"v2", "v1"},
			nil, "v1",
		},
		{
			"the second fails: both go back",
			behaviour{},
			behaviour{status: 500},
			RolledBack,
			toSwap + "restart health restart !health rollback",
			versions{"v2", "v1"},
			versions{"v2", "v1"},
			"v1",
		},
		{
			"the first crashes while the second is asked",
			behaviour{crash: 2500 * time.Millisecond},
			behaviour{},
			RolledBack,
			toSwap + "restart health restart health !proxy rollback",
			versions{"v2", "v1"},
			versions{"v2", "v1"},
			"v1",
		},
		{
			"the second crashes while the proxy is asked",
			behaviour{},
			behaviour{crash: 2500 * time.Millisecond},
			RolledBack,
			toSwap + "restart health restart health !proxy rollback",
			versions{"v2", "v1"},
			versions{"v2", "v1"},
			"v1",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			onHost(t, func(t *testing.T, h *host) {
				other := h.addTwin()
				h.began("v1")
				other.forget()
				h.add("v2")
				h.does["v2"], other.does["v2"] = c.one, c.other
				if c.other.crash > 0 {
					h.does["v2"] = behaviour{proxied: 502} // so that the proxy is asked for some time
				}
				r := h.release("v2")
				assert.Equal(t, "outcome", r.Outcome, c.outcome)
				assert.Equal(t, "steps", steps(r), c.steps)
				assert.Equal(t, "restarts of the first", h.restarts, c.restarts)
				assert.Equal(t, "restarts of the second", other.restarts, c.restarted)
				assert.Equal(t, "live", h.link(), c.live)
				assert.Equal(t, "the first runs", h.running, c.live)
				assert.Equal(t, "the second runs", other.running, c.live)
			})
		})
	}
}

// A deploy that died between its units is finished for both of them.
func TestRecoverInstances(t *testing.T) {
	for restarted, want := range map[bool]versions{true: {"v1"}, false: nil} {
		onHost(t, func(t *testing.T, h *host) {
			other := h.addTwin()
			h.began("v1")
			h.add("v2")
			dies := &h.on
			if restarted {
				dies = &other.on
			}
			(*dies)["restart"] = func() { panic("it dies") }
			func() {
				defer func() { _ = recover() }()
				h.release("v2")
			}()
			h.forget()
			other.forget()
			r := h.d.Recover(t.Context())
			assert.Equal(t, "outcome", r.Outcome, RolledBack)
			assert.Equal(t, "restarts of the first", h.restarts, want)
			assert.Equal(t, "the first runs", h.running, "v1")
			assert.Equal(t, "the second runs", other.running, "v1")
			assert.Equal(t, "restarts of the second", other.restarts, nil)
		})
	}
}
