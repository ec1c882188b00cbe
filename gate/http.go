package gate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Answer is what one request got.
type Answer struct {
	Err     error // no whole answer: refused, timed out, cut off, without an end
	Timeout bool  // Err is the probe's own time limit
	Status  int   // with an Err as well, where the answer began
	Header  http.Header
	Body    string // bounded
	Peer    int    // process that listens on the unix socket (SO_PEERCRED); 0 unknown
	Remote  string // the address that the connection was made to: HOST:PORT, or a path
	Took    time.Duration

	Connected bool    // a connection was made
	Late      *Answer // without an answer in time: a good one that an earlier request got with more patience
	Busy      int     // without an answer in time: the most connections that the app had accepted so far, where that is counted
}

// refusal reports whether an app that is up has answered, and wrongly: with an error that it raised, or that the request is
// wrong. That is not a start that takes its time; some say of themselves that they may pass.
func (a Answer) refusal() bool {
	switch a.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return a.Err == nil && a.Status >= 300 && a.Status <= http.StatusNotImplemented
}

// Want is what an answer must be.
type Want struct {
	Where  string // what was asked, for people: "GET /health/ on unix:/run/…"
	Path   string // of the app itself
	URL    string // what was asked, to compare redirects with
	Host   string // the Host header that was sent
	Status []int
	Body   string // must be contained, {version} standing for the release's; "" is anything
	Proxy  bool   // asked through the proxy: an error is not known to be the app's
	Any    bool   // any whole answer will do
	Django bool   // the app is Django's: its settings are named in advice
	// Setting names the configuration of this probe in advice: "health" or "proxy".
	Setting string
}

// of fills in what depends on the release.
func (x Want) of(version string) Want {
	x.Body = strings.ReplaceAll(x.Body, "{version}", version)
	return x
}

// Judge says what is wrong with an answer, or nil.
func (x Want) Judge(a Answer) *Finding {
	if a.Err != nil {
		return x.judgeError(a)
	}
	if x.Any {
		return nil
	}
	if slices.Contains(x.Status, a.Status) {
		if x.Body != "" && !strings.Contains(a.Body, x.Body) {
			return x.lacksText(a)
		}
		return nil
	}
	return x.judgeStatus(a)
}

func (x Want) lacksText(a Answer) *Finding {
	f := NewFinding(LayerHealth, UnexpectedBody, fmt.Sprintf("%s answers %d, but without %q", x.Where, a.Status, x.Body)).With("http", statusLine(a))
	if encoding := a.Header.Get("Content-Encoding"); encoding != "" {
		f.Summary += fmt.Sprintf(": its body is encoded (%s), though none was asked for", Clean(encoding))
		return f
	}
	return f.With("body", firstLines(a.Body))
}

// judgeEnd is about an answer that began and wasn't whole.
func (x Want) judgeEnd(a Answer) *Finding {
	layer := LayerApp
	if x.Proxy {
		layer = LayerProxy
	}
	f := NewFinding(layer, IncompleteAnswer, fmt.Sprintf("%s answers %d, but not with a whole body: %v", x.Where, a.Status, a.Err))
	if a.Timeout {
		f.Summary = fmt.Sprintf("%s answers %d, but its body has no end within %s", x.Where, a.Status, a.Took.Round(100*time.Millisecond))
	}
	return f.With("http", fmt.Sprintf("%s, then: %v", statusLine(a), a.Err)).With("body", firstLines(a.Body))
}

func (x Want) judgeError(a Answer) *Finding {
	if a.Status != 0 {
		return x.judgeEnd(a)
	}
	if x.Proxy {
		if errors.Is(a.Err, syscall.ECONNREFUSED) {
			return NewFinding(LayerProxy, ProxyStopped, x.Where+": nothing listens there").
				With("connect", a.Err.Error()).Advise("is the proxy running, and is proxy.url right? systemctl status nginx")
		}
		if untrusted, is := errors.AsType[*tls.CertificateVerificationError](a.Err); is {
			return NewFinding(LayerProxy, CertificateInvalid, fmt.Sprintf("%s: its certificate is refused: %s", x.Where, Clean(untrusted.Err.Error()))).
				With("http", a.Err.Error()).Advise("correct ssl_certificate of its server, or ask at this host: proxy.url = \"https://127.0.0.1/…\", where it " +
				"isn't verified")
		}
		return NewFinding(LayerProxy, Unknown, fmt.Sprintf("%s gives no answer", x.Where)).With("http", a.Err.Error())
	}
	switch {
	case errors.Is(a.Err, syscall.ENOENT):
		return NewFinding(LayerSocket, SocketMissing, x.Where+": the socket does not exist").
			With("connect", a.Err.Error()).Advise("compare health.bind with the unit's --bind, and see that RuntimeDirectory= makes its directory")
	case errors.Is(a.Err, syscall.ECONNREFUSED) && strings.Contains(x.Where, "unix:"):
		return NewFinding(LayerSocket, SocketStale, x.Where+": the socket exists, and nothing listens on it").
			With("connect", a.Err.Error())
	case errors.Is(a.Err, syscall.ECONNREFUSED):
		return NewFinding(LayerSocket, SocketMissing, x.Where+": nothing listens there").
			With("connect", a.Err.Error()).Advise("compare health.bind with the unit's --bind")
	case errors.Is(a.Err, syscall.EACCES):
		f := NewFinding(LayerSocket, SocketPermission, x.Where+": permission denied").
			With("connect", a.Err.Error()).Advise("run deploygate as root")
		f.Unseen = true // it is this process that has no right to ask
		return f
	case errors.Is(a.Err, syscall.EAGAIN):
		return NewFinding(LayerSocket, BacklogFull, x.Where+": the socket's backlog is full").With("connect", a.Err.Error())
	case a.Timeout:
		return NewFinding(LayerApp, Unknown, fmt.Sprintf("%s gives no answer within %s", x.Where, a.Took.Round(100*time.Millisecond))).
			With("http", a.Err.Error())
	}
	return NewFinding(LayerApp, Unknown, fmt.Sprintf("%s gives no whole answer", x.Where)).With("http", a.Err.Error())
}

func (x Want) judgeStatus(a Answer) *Finding {
	location := a.Header.Get("Location")
	f := NewFinding(LayerHealth, UnexpectedStatus, fmt.Sprintf("%s answers %d, not %s", x.Where, a.Status, list(x.Status)))
	switch {
	case a.Status == http.StatusBadRequest && refusesHost(a.Body):
		f.Cause, f.Summary = DisallowedHost, fmt.Sprintf("%s answers 400: Django refuses the Host %q", x.Where, x.Host)
		f.Advise(fmt.Sprintf("set %s.host to a name in ALLOWED_HOSTS, or add %q to ALLOWED_HOSTS", x.Setting, x.Host))
	case a.Status/100 == 3 && onlySchemeDiffers(location, x.URL, x.Host) && x.Proxy:
		f.Cause, f.Summary = Redirect, fmt.Sprintf("%s answers %d: it redirects to https", x.Where, a.Status)
		f.Advise("set proxy.url to the https address, or have the proxy pass X-Forwarded-Proto: https on to the app")
	case a.Status/100 == 3 && onlySchemeDiffers(location, x.URL, x.Host):
		f.Cause, f.Summary = Redirect, fmt.Sprintf("%s answers %d: the app redirects to https", x.Where, a.Status)
		const header = `set health.headers = { X-Forwarded-Proto = "https" } and `
		if x.Django {
			f.Summary += " (SECURE_SSL_REDIRECT)"
			f.Advise(header + "SECURE_PROXY_SSL_HEADER in Django's settings, or add the path to SECURE_REDIRECT_EXEMPT")
		} else {
			f.Advise(header + "have the app believe it, or leave the path out of the redirect")
		}
	case a.Status/100 == 3:
		f.Advise(fmt.Sprintf("the answer leads to %s; set %s to the final address", Clean(location), x.pathSetting()))
	case a.Status == http.StatusNotFound:
		f.Advise(fmt.Sprintf("set %s to an address that the app answers with %s", x.pathSetting(), list(x.Status)))
	case a.Status == http.StatusInternalServerError && x.Proxy && strings.Contains(a.Body, "<center>nginx"):
		f.Layer, f.Cause, f.Summary = LayerProxy, Unknown, x.Where+" answers 500: nginx itself failed"
		f.Advise("the reason is in nginx's error log")
	case a.Status == http.StatusInternalServerError:
		f.Layer, f.Cause, f.Summary = LayerApp, AppError, x.Where+" answers 500: the app raised an error"
		if x.Django {
			f.Advise("read the app's log; with Django's default logging the traceback is not in the journal")
		} else {
			f.Advise("read the app's log")
		}
	case x.Proxy && a.Status >= 502 && a.Status <= 504:
		f.Layer, f.Cause = LayerProxy, Unknown
		f.Summary = fmt.Sprintf("%s answers %d: the proxy gets no answer from the app", x.Where, a.Status)
		f.Advise("compare the proxy's upstream with where the app listens; the reason is in the proxy's error log")
	}
	return f.With("http", statusLine(a)).With("body", firstLines(a.Body))
}

func (x Want) pathSetting() string {
	if x.Proxy {
		return "proxy.url"
	}
	return "health.path"
}

// refusesHost tells Django's answer to a Host outside ALLOWED_HOSTS: its plain 400 page, or the debug page that names
// the exception.
func refusesHost(body string) bool {
	return strings.Contains(body, "<h1>Bad Request (400)</h1>") || strings.Contains(body, "DisallowedHost")
}

// onlySchemeDiffers tells SECURE_SSL_REDIRECT's answer: the same host and path, by https.
func onlySchemeDiffers(location, asked, host string) bool {
	to, err := url.Parse(location)
	from, err2 := url.Parse(asked)
	if err != nil || err2 != nil || to.Scheme != "https" || from.Scheme == "https" {
		return false
	}
	name := func(h string) string { return strings.ToLower(strings.Split(h, ":")[0]) }
	return name(to.Host) == name(host) && to.RequestURI() == from.RequestURI()
}

func statusLine(a Answer) string {
	s := fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status))
	if l := a.Header.Get("Location"); l != "" {
		s += ", Location: " + l
	}
	if v := a.Header.Get("Server"); v != "" {
		s += ", Server: " + v
	}
	return s
}

// firstLines keeps the start of a body: enough to recognise it.
func firstLines(body string) string {
	const enough = 300
	if len(body) > enough {
		return body[:enough] + " […]"
	}
	return body
}

func list(status []int) string {
	var s []string
	for _, n := range status {
		s = append(s, fmt.Sprint(n))
	}
	return strings.Join(s, " or ")
}
