package setup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate"
	"deploygate/gate/probe"
)

// usualPaths are those that apps answer at when they are healthy, the likelier ones first: by custom, Kubernetes' and
// Dockerflow's names, django-health-check's. The front page is the last resort.
var usualPaths = []string{
	"/health/", "/health", "/healthz", "/healthz/", "/health/live", "/livez", "/readyz", "/ht/", "/api/health/", "/api/health", "/api/healthz", "/-/health/",
	"/ping", "/ping/", "/status", "/status/", "/up", "/__heartbeat__", "/__lbheartbeat__", "/",
}

// nonsense is a path that no app has: one that answers well there answers so everywhere.
const nonsense = "/deploygate-asks-for-no-page"

// Answer is what the app, or nginx before it, said to a request.
type Answer struct {
	URL    string `json:"url"` // as HOST/PATH
	Status int    `json:"status"`
	Says   string `json:"says"` // in a few words
}

// asker asks one address as a host.
type asker struct {
	via     probe.Address // where it connects; the zero value: URLs tell
	headers map[string]string
}

// ask sends one request.
func (a asker) ask(ctx context.Context, url, host string) (answer gate.Answer) {
	const patience = 3 * time.Second
	request := probe.Request{URL: url, Host: host, Headers: a.headers, Timeout: patience, Via: a.via}
	err := probe.New(request).Probe(ctx, func(got gate.Answer) (time.Duration, bool) {
		answer = got
		return 0, false
	})
	if answer.Err == nil && answer.Status == 0 {
		answer.Err = err
	}
	return answer
}

// says is an answer in a few words.
func says(a gate.Answer) string {
	switch to := a.Header.Get("Location"); {
	case a.Timeout:
		return "no answer in time"
	case a.Err != nil && a.Status == 0:
		return gate.OneLine(a.Err.Error())
	case to != "":
		return fmt.Sprintf("%d to %s", a.Status, gate.OneLine(to))
	}
	return fmt.Sprint(a.Status)
}

// isGood reports whether an answer is that of a healthy app.
func isGood(a gate.Answer) bool {
	return a.Err == nil && slices.Contains(config.Defaults("").Health.Status, a.Status)
}

// findHealth asks the app itself: as whom it answers, and at which of the usual paths. Hosts are names that nginx leads to it by.
func (f *found) findHealth(ctx context.Context, hosts []string) {
	d := config.Defaults("")
	via, err := probe.ParseBind(f.bind)
	if err != nil {
		return
	}
	a := asker{via, d.Health.Headers}
	paths := usualPaths
	if f.path != "" {
		paths = []string{f.path}
	}
	ask := func(host, path string) gate.Answer {
		got := a.ask(ctx, "http://"+host+path, host)
		if path != nonsense {
			f.Answers = append(f.Answers, Answer{host + path, got.Status, says(got)})
		}
		return got
	}
	for _, host := range hosts {
		got := ask(host, paths[0])
		if got.Status == 0 {
			why := says(got)
			if errors.Is(got.Err, syscall.ECONNREFUSED) || errors.Is(got.Err, syscall.ENOENT) {
				why = "nothing listens there"
			}
			f.Open = append(f.Open, fmt.Sprintf("health.path and health.host are guesses: the app could not be asked on %s: %s", f.bind, why))
			return
		}
		if got.Status == http.StatusBadRequest {
			continue // Django's answer to a host that isn't in ALLOWED_HOSTS
		}
		f.host, f.hostAt = host, "a server_name of nginx's that the app answers to"
		f.findPath(paths, got, func(path string) gate.Answer { return ask(host, path) })
		return
	}
	f.Open = append(f.Open, fmt.Sprintf("health.host has to be set: the app answers 400 to %s, as Django does to a host that isn't in ALLOWED_HOSTS",
		strings.Join(hosts, ", ")))
}

// findPath takes the first path that is answered well.
func (f *found) findPath(paths []string, first gate.Answer, ask func(path string) gate.Answer) {
	for i, path := range paths {
		got := first
		if i > 0 {
			got = ask(path)
		}
		if !isGood(got) {
			continue
		}
		if f.path == "" {
			f.path, f.pathAt = path, "the first of the usual paths that it answers well"
		}
		switch {
		case path == "/":
			f.Open = append(f.Open, "health.path is the front page: a page of its own, that needs the database and what else the app can't do without, says more")
		case isGood(ask(nonsense)):
			f.Open = append(f.Open, fmt.Sprintf("health.path %s may prove nothing: the app answers well whatever it is asked for", path))
		}
		return
	}
	f.Open = append(f.Open, "health.path has to be set to a path that answers 200 when the app is healthy: "+f.answered())
}

// answered sums up the answers, in the order of the requests.
func (f *found) answered() string {
	var all []string
	for _, a := range f.Answers {
		all = append(all, a.URL+" "+a.Says)
	}
	return strings.Join(all, ", ")
}
