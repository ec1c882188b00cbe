package deploy

import (
	"testing"

	"deploygate/gate"
	"deploygate/scripts/assert"
)

// A dry run says what a deploy would do, in its order.
func TestSteps(t *testing.T) {
	h := newHost(t, t.TempDir(), t.TempDir())
	point := "point " + h.root + "/current at releases/v2"
	h.d.Hooks[BeforeSwap] = []Task{{Name: "/srv/app/venv/bin/python manage.py migrate --noinput"}}
	h.d.Checks = []Check{{Task: Task{Name: "django"}}}
	next := Plan{Request: Request{Command: Release}, Target: "v2", Previous: "v1", Units: []Unit{{Socket: true}}}
	const migrate = "before_swap: /srv/app/venv/bin/python manage.py migrate --noinput"
	assert.Equal(t, "steps", h.d.Steps(next), []string{
		migrate,
		point,
		"restart gunicorn.service",
		"health: /health/ answers 200 for 2s without interruption, within 30s",
		"proxy: configuration valid; reloaded only if it changed; healthy through http://127.0.0.1/health/",
		"check: django",
		"keep the last 5 good releases",
	})

	h.d.Reload, h.d.Rehearse = true, true
	const rehearse = "rehearse: boot v2 beside the live release, on a socket of its own; the same health"
	assert.Equal(t, "steps", h.d.Steps(next)[:4], []string{migrate, rehearse, point, "reload gunicorn.service"})
	h.d.RehearseFirst = true
	assert.Equal(t, "steps", h.d.Steps(next)[:2], []string{rehearse, migrate})

	h = newHost(t, t.TempDir(), t.TempDir())
	point = "point " + h.root + "/current at releases/v2"
	h.d.Proxy, h.d.Instances[0].Health.Want.Status = &gate.ProxyCheck{}, []int{200, 204}
	assert.Equal(t, "steps", h.d.Steps(Plan{Request: Request{Command: Release}, Target: "v2", Previous: "v2", Units: []Unit{{}}}), []string{
		"v2 is live already: if it is healthy, nothing; else:",
		point,
		"restart gunicorn.service (requests fail meanwhile; behind a socket unit they would wait: deploygate init --socket-activation)",
		"health: /health/ answers 200 or 204 for 2s without interruption, within 30s",
		"keep the last 5 good releases",
	})
}
