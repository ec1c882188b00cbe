package gate

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"
)

// way is where a request ends, as it is told.
type way Way

func (w way) Way(context.Context, int) Way { return Way(w) }

func TestWhatAGoodAnswerThroughTheProxyProves(t *testing.T) {
	status := func(n int) prober { return func(context.Context, time.Duration) Answer { return Answer{Status: n} } }
	silence := prober(func(context.Context, time.Duration) Answer {
		return Answer{Err: context.DeadlineExceeded, Timeout: true}
	})
	cut := prober(func(context.Context, time.Duration) Answer { return Answer{Err: syscall.ECONNRESET} })
	detour := func(through, direct prober, elsewhere string) *Detour {
		return &Detour{Path: "/", Through: through, Direct: direct, Elsewhere: elsewhere}
	}
	itself := way{Known: true, Text: "nginx itself answers it (return 200 at shop:7)"}
	by := func(d *Detour) way { w := itself; w.Detour = d; return w }
	cached := way{Known: true, Stale: true, Text: "nginx may answer from its cache (proxy_cache at shop:9)"}
	unknown := way{Text: "the rewrite at shop:3 is not followed"}
	const (
		whole   = "healthy through it"
		nothing = "not proved that it reaches the app"
	)
	for _, c := range []struct {
		name   string
		routes Routes
		body   string
		detail string
		risk   string // "" is none
		wrong  string // "" is nothing
	}{
		{"no routes to follow", nil, "", whole, "", ""},
		{"to the app", way{App: true, Known: true}, "", whole, "", ""},
		{"nginx itself", itself, "", nothing, "proves nothing of the app: nginx itself answers it (return 200 at shop:7)", ""},
		{"not known", unknown, "", nothing, "can't be told whether the app answers GET http://127.0.0.1/health/: the rewrite at shop:3", ""},
		{"a cache", cached, "", nothing, "from its cache", ""},

		{"the body names the version", unknown, "ok {version}", whole, "", ""},
		{"a body without it", unknown, "ok", nothing, "the rewrite", ""},
		{"a cache may name a version from before", cached, "ok {version}", nothing, "from its cache", ""},

		{"the site reaches the app", by(detour(status(302), status(302), "")), "", "the app is reached through it: GET / answers 302, as the app itself does", "return 200 at shop:7", ""},
		{"also with an error of the app's", by(detour(status(404), status(404), "")), "", "the app is reached through it: GET / answers 404, as the app itself does", "return 200", ""},
		{"the app's own gateway errors prove something too", by(detour(status(502), status(502), "")), "", "the app is reached through it: GET / answers 502, as the app itself does", "return 200", ""},
		{"two statuses prove nothing", by(detour(status(403), status(200), "")), "", nothing, "return 200", ""},
		{"no answer in time", by(detour(silence, status(200), "")), "", nothing, "return 200", ""},
		{"nor from the app", by(detour(status(504), silence, "")), "", nothing, "return 200", ""},
		{"cut off", by(detour(cut, cut, "")), "", nothing, "return 200", ""},
		{"the site is down", by(detour(status(502), status(302), "")), "", nothing, "return 200", "the site is down: GET / answers 502 through the proxy and 302 at the app"},
		{"the site is slow", by(detour(status(504), status(200), "")), "", nothing, "return 200", "the site is down: GET / answers 504"},

		{"another site", by(detour(status(200), status(200), "127.0.0.1:9, by shop:5")), "", nothing, "return 200", ""},
		{"another site that is down", by(detour(status(502), status(200), "127.0.0.1:9, by shop:5")), "", nothing, "return 200", "since nginx sends it to 127.0.0.1:9, by shop:5, where the app doesn't listen"},
		{"the version is proof enough to ask no further", by(detour(status(502), status(302), "")), "ok {version}", whole, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := throughGate(nil, prober(func(context.Context, time.Duration) Answer { return Answer{Status: 200, Body: "ok v42"} }))
			g.Routes, g.Want.Body = c.routes, c.body
			for what, ask := range map[string]func() (Reach, error){
				"Once":   func() (Reach, error) { return g.Check(t.Context(), "v42", Once, nil, nil) },
				"Strict": func() (Reach, error) { return g.Check(t.Context(), "v42", Strict, nil, nil) },
			} {
				r, err := ask()
				if r.Detail != c.detail || (len(r.Risks) == 0) != (c.risk == "") || (err == nil) != (c.wrong == "") {
					t.Errorf("%s() = %q, %v, %v", what, r.Detail, r.Risks, err)
				}
				for _, risk := range r.Risks {
					if !strings.Contains(risk.Summary, c.risk) || risk.Cause != ProxyUnproven || len(risk.Advice) == 0 {
						t.Errorf("%s: risk %+v, want …%s…", what, risk, c.risk)
					}
				}
				if err != nil && !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%s() = %v, want …%s…", what, err, c.wrong)
				}
			}
			if _, wrong := g.Look(t.Context(), "v42"); (wrong == nil) != (c.wrong == "") {
				t.Errorf("Look() = %+v", wrong)
			}
		})
	}
}
