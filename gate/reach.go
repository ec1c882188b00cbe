package gate

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Routes tells where the proxy's configuration leads the request that is sent through it.
type Routes interface {
	// Way looks at it as it is now. status is what the request was answered with, 0 if it wasn't sent.
	Way(ctx context.Context, status int) Way
}

// Way is where a request through the proxy ends.
type Way struct {
	App   bool   // at the app, and nowhere else
	Known bool   // false: it can't be told
	Stale bool   // an answer may be an old one of the app's
	Text  string // where it ends if not at the app, or why that can't be told; a clause with FILE:LINE, no final stop
	// Detour is another request to the same site, whose way is known; nil: there is none.
	Detour *Detour
}

// Detour is a request that any visitor could send.
type Detour struct {
	Path    string
	Through Prober // by way of the proxy
	Direct  Prober // to the app itself
	// Elsewhere is where it ends if not at the app: "unix:/run/old.sock, by FILE:LINE"; "" is at the app.
	Elsewhere string
}

// Reach is what a good answer through the proxy has proved.
type Reach struct {
	Detail string     // in a few words
	Risks  []*Finding // what it left open, and what won't stay as it is
}

// add notes a risk; nil is none.
func (r *Reach) add(risk *Finding) {
	if risk != nil {
		r.Risks = append(r.Risks, risk)
	}
}

func (c *ProxyCheck) certificate(ctx context.Context) *Finding {
	if c.Certificate == nil {
		return nil
	}
	return c.Certificate(ctx)
}

// bodyNamesVersion reports whether only the expected release can have given a good answer.
func (c *ProxyCheck) bodyNamesVersion() bool { return strings.Contains(c.Want.Body, "{version}") }

// reached says what a good answer through the proxy proves. Where that is nothing, the site is asked in another way: that it
// is down, though its health path answers, is a finding.
func (c *ProxyCheck) reached(ctx context.Context, status int) (Reach, *Finding) {
	if c.Routes == nil {
		return Reach{Detail: "healthy through it"}, nil
	}
	way := c.Routes.Way(ctx, status)
	if way.App || c.bodyNamesVersion() && !way.Stale {
		return Reach{Detail: "healthy through it"}, nil
	}
	risk := way.Risk(c.Want)
	r := Reach{Detail: "not proved that it reaches the app", Risks: []*Finding{risk}}
	if way.Detour == nil {
		return r, nil
	}
	text, proved, wrong := way.Detour.take(ctx, c.Want)
	if wrong != nil {
		wrong.Evidence = append(wrong.Evidence, risk.Evidence...)
		return r, wrong
	}
	if risk.With("http", text); proved {
		r.Detail = "the app is reached through it: " + text
	}
	return r, nil
}

// Risks are those of Reach, as far as they are known without a request.
func (c *ProxyCheck) Risks(ctx context.Context) []*Finding {
	if c.Through == nil {
		return nil
	}
	var r Reach
	if c.Routes != nil && len(c.Want.Status) > 0 {
		if way := c.Routes.Way(ctx, c.Want.Status[0]); !c.bodyNamesVersion() || way.Stale {
			r.add(way.Risk(c.Want))
		}
	}
	r.add(c.certificate(ctx))
	return r.Risks
}

// Risk is what a request with that way leaves open; nil: nothing.
func (w Way) Risk(x Want) *Finding {
	switch {
	case w.App:
		return nil
	case w.Known:
		return NewFinding(LayerProxy, ProxyUnproven, fmt.Sprintf("%s proves nothing of the app: %s", x.Where, w.Text)).
			With("nginx -T", w.Text).Advise(provingAdvice)
	}
	return NewFinding(LayerProxy, ProxyUnproven, fmt.Sprintf("it can't be told whether the app answers %s: %s", x.Where, w.Text)).
		With("nginx -T", w.Text).Advise(provingAdvice)
}

const provingAdvice = "set proxy.url to an address that is passed on to the app and nowhere else, or health.body to a string with {version} in it"

// take asks both ways. The answers count as one where their status is the same, whatever it is.
func (d *Detour) take(ctx context.Context, x Want) (text string, proved bool, wrong *Finding) {
	through, direct := once(ctx, d.Through), once(ctx, d.Direct)
	if through == nil || direct == nil {
		return "GET " + d.Path + " was not answered", false, nil
	}
	text = fmt.Sprintf("GET %s answers %s", d.Path, through.brief())
	switch {
	case d.Elsewhere != "" && through.badGateway():
		return text, false, NewFinding(LayerProxy, BindMismatch,
			fmt.Sprintf("the site is down: GET %s answers %s, since nginx sends it to %s, where the app doesn't listen", d.Path, through.brief(), d.Elsewhere)).
			With("http", fmt.Sprintf("%s through the proxy, and %s at the app itself", through.brief(), direct.brief())).
			Advise("correct proxy_pass there, then nginx -t && systemctl reload nginx")
	case d.Elsewhere != "":
		return text + ", from " + d.Elsewhere, false, nil
	case through.badGateway() && direct.Err == nil && !direct.badGateway():
		return text, false, NewFinding(LayerProxy, Unknown,
			fmt.Sprintf("the site is down: GET %s answers %s through the proxy and %s at the app, though %s "+
				"is answered well", d.Path, through.brief(), direct.brief(), x.Where)).
			With("http", text).
			Advise("compare the proxy's upstream with the unit's --bind; the reason is in the proxy's error log")
	case through.Err == nil && direct.Err == nil && through.Status == direct.Status:
		return text + ", as the app itself does", true, nil
	}
	return fmt.Sprintf("%s through the proxy, and %s at the app itself", text, direct.brief()), false, nil
}

// once sends one request; nil where it couldn't be sent.
func once(ctx context.Context, p Prober) (answer *Answer) {
	_ = p.Probe(ctx, func(a Answer) (next time.Duration, again bool) {
		answer = &a
		return 0, false
	})
	return answer
}

// badGateway tells that a proxy got no answer.
func (a Answer) badGateway() bool {
	return a.Err == nil && (a.Status == http.StatusBadGateway || a.Status == http.StatusGatewayTimeout)
}

// brief is an answer in a word or two.
func (a Answer) brief() string {
	switch {
	case a.Err == nil:
		return fmt.Sprint(a.Status)
	case a.Timeout:
		return "nothing in time"
	}
	return "with an error (" + Clean(a.Err.Error()) + ")"
}
