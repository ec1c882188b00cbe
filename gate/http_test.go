package gate

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// django400 is what Django's own handler400 sends for a Host outside ALLOWED_HOSTS, with DEBUG off.
const django400 = `
<!doctype html>
<html lang="en">
<head>
  <title>Bad Request (400)</title>
</head>
<body>
  <h1>Bad Request (400)</h1><p></p>
</body>
</html>
`

var (
	direct = Want{
		Where: "GET /health/ on unix:/run/g.sock", URL: "http://localhost/health/", Host: "localhost", Status: []int{200}, Setting: "health",
	}
	proxied = Want{
		Where: "GET http://127.0.0.1/health/", URL: "http://127.0.0.1/health/", Host: "shop.example", Status: []int{200}, Proxy: true, Setting: "proxy",
	}
)

func TestJudgeStatus(t *testing.T) {
	location := func(to string) http.Header { return http.Header{"Location": {to}} }
	for _, c := range []struct {
		name string
		x    Want
		a    Answer
		want string // layer/cause, "" is healthy
		says string // in the summary or the advice
	}{
		{"200", direct, Answer{Status: 200}, "", ""},
		{"one of several", Want{Status: []int{200, 204}}, Answer{Status: 204}, "", ""},
		{"another 2xx", direct, Answer{Status: 204}, "health/unexpected_status", "answers 204, not 200"},
		{"several are named", Want{Status: []int{200, 204}}, Answer{Status: 418}, "health/unexpected_status", "not 200 or 204"},
		{"a redirect that was asked for", Want{Status: []int{302}}, Answer{Status: 302, Header: location("/login/")}, "", ""},

		{"Django's 400", direct, Answer{Status: 400, Body: django400}, "health/disallowed_host", `set health.host to a name in ALLOWED_HOSTS`},
		{"Django's 400 with DEBUG", direct, Answer{Status: 400, Body: "<title>DisallowedHost at /health/</title>"}, "health/disallowed_host", `"localhost"`},
		{"Django's 400 through the proxy", proxied, Answer{Status: 400, Body: django400}, "health/disallowed_host", `set proxy.host`},
		{"gunicorn's 400", direct, Answer{Status: 400, Body: "<h1><p>Bad Request</p></h1>"}, "health/unexpected_status", ""},
		{"nginx's 400", proxied, Answer{Status: 400, Body: "<h1>400 Bad Request</h1>"}, "health/unexpected_status", ""},
		{"Django's page with another status", direct, Answer{Status: 403, Body: django400}, "health/unexpected_status", ""},

		{"SECURE_SSL_REDIRECT", direct, Answer{Status: 301, Header: location("https://localhost/health/")}, "health/redirect", "X-Forwarded-Proto"},
		{"with the host in another case, and a port", direct, Answer{Status: 301, Header: location("HTTPS://LOCALHOST:443/health/")}, "health/redirect", ""},
		{"APPEND_SLASH", Want{URL: "http://localhost/health", Host: "localhost", Status: []int{200}}, Answer{Status: 301, Header: location("/health/")}, "health/unexpected_status", "leads to /health/; set health.path"},
		{"https and a slash", Want{URL: "http://localhost/health", Host: "localhost", Status: []int{200}}, Answer{Status: 301, Header: location("https://localhost/health/")}, "health/unexpected_status", "set health.path"},
		{"another host", direct, Answer{Status: 301, Header: location("https://www.example/health/")}, "health/unexpected_status", ""},
		{"another query", direct, Answer{Status: 301, Header: location("https://localhost/health/?next=")}, "health/unexpected_status", ""},
		{"login", direct, Answer{Status: 302, Header: location("/login/?next=/health/")}, "health/unexpected_status", "leads to /login/"},
		{"to where it was asked", direct, Answer{Status: 302, Header: location("http://localhost/health/")}, "health/unexpected_status", ""},
		{"already asked by https", Want{URL: "https://x/", Host: "x", Status: []int{200}}, Answer{Status: 301, Header: location("https://x/")}, "health/unexpected_status", ""},
		{"a redirect that leads nowhere", direct, Answer{Status: 302}, "health/unexpected_status", ""},
		{"a hostile redirect is cleaned", direct, Answer{Status: 302, Header: location("/\x1b[2J")}, "health/unexpected_status", "\uFFFD[2J"},

		{"404", direct, Answer{Status: 404}, "health/unexpected_status", "set health.path to an address"},
		{"404 through the proxy", proxied, Answer{Status: 404}, "health/unexpected_status", "set proxy.url to an address"},
		{"401", direct, Answer{Status: 401}, "health/unexpected_status", ""},
		{"429", direct, Answer{Status: 429}, "health/unexpected_status", ""},
		{"500", direct, Answer{Status: 500, Body: "<h1>Server Error (500)</h1>"}, "app/app_error", "raised an error"},
		{"503 of the app itself", direct, Answer{Status: 503}, "health/unexpected_status", ""},
		{"502 through the proxy", proxied, Answer{Status: 502}, "proxy/unknown", "gets no answer from the app"},
		{"503 through the proxy", proxied, Answer{Status: 503}, "proxy/unknown", ""},
		{"504 through the proxy", proxied, Answer{Status: 504}, "proxy/unknown", ""},
		{"505 through the proxy", proxied, Answer{Status: 505}, "health/unexpected_status", ""},
	} {
		t.Run(c.name, func(t *testing.T) { expectFinding(t, c.x.Judge(c.a), c.want, c.says) })
	}
}

func expectFinding(t *testing.T, f *Finding, want, says string) {
	t.Helper()
	got, text := "", ""
	if f != nil {
		got, text = fmt.Sprintf("%s/%s", f.Layer, f.Cause), f.Summary+"\n"+strings.Join(f.Advice, "\n")
	}
	if got != want || !strings.Contains(text, says) {
		t.Errorf("%s: %s; want %s: …%s…", got, text, want, says)
	}
}

func TestJudgeBody(t *testing.T) {
	x := direct
	x.Body = "release {version} is ok"
	x = x.of("v42")
	for _, c := range []struct {
		a    Answer
		want string
	}{
		{Answer{Status: 200, Body: "{release v42 is ok}"}, ""},
		{Answer{Status: 200, Body: "release v41 is ok"}, "health/unexpected_body"},
		{Answer{Status: 200}, "health/unexpected_body"},
		{Answer{Status: 500, Body: "release v42 is ok"}, "app/app_error"},
	} {
		expectFinding(t, x.Judge(c.a), c.want, "")
	}
	if direct.of("v42").Judge(Answer{Status: 200, Body: "anything"}) != nil {
		t.Error("no body was asked for")
	}
}

func TestJudgeError(t *testing.T) {
	tcp := direct
	tcp.Where = "GET /health/ on 127.0.0.1:8000"
	connect := func(errno syscall.Errno) error { return fmt.Errorf("connect: %w", errno) }
	for _, c := range []struct {
		name string
		x    Want
		a    Answer
		want string
		says string
	}{
		{"no socket", direct, Answer{Err: connect(syscall.ENOENT)}, "socket/socket_missing", "does not exist"},
		{"nothing listens on the socket", direct, Answer{Err: connect(syscall.ECONNREFUSED)}, "socket/socket_stale", "nothing listens"},
		{"nothing listens at the port", tcp, Answer{Err: connect(syscall.ECONNREFUSED)}, "socket/socket_missing", "nothing listens"},
		{"no right", direct, Answer{Err: connect(syscall.EACCES)}, "socket/socket_permission", "root"},
		{"backlog full", direct, Answer{Err: connect(syscall.EAGAIN)}, "socket/backlog_full", "backlog"},
		{"time limit", direct, Answer{Err: errors.New("deadline exceeded"), Timeout: true, Took: 2 * time.Second}, "app/unknown", "no answer within 2s"},
		{"cut off", direct, Answer{Err: io.ErrUnexpectedEOF, Status: 200}, "app/incomplete_answer", "answers 200, but not with a whole body: unexpected EOF"},
		{"cut off after an error", direct, Answer{Err: io.ErrUnexpectedEOF, Status: 500}, "app/incomplete_answer", "answers 500, but"},
		{"without an end", direct, Answer{Err: errors.New("deadline exceeded"), Timeout: true, Status: 200, Took: 2 * time.Second}, "app/incomplete_answer", "no end within 2s"},
		{"cut off by the proxy", proxied, Answer{Err: io.ErrUnexpectedEOF, Status: 200}, "proxy/incomplete_answer", "answers 200, but"},
		{"reset", direct, Answer{Err: fmt.Errorf("read: %w", syscall.ECONNRESET)}, "app/unknown", "no whole answer"},
		{"proxy stopped", proxied, Answer{Err: connect(syscall.ECONNREFUSED)}, "proxy/proxy_stopped", "nothing listens"},
		{"proxy silent", proxied, Answer{Err: errors.New("deadline exceeded"), Timeout: true}, "proxy/unknown", "no answer"},
		{"proxy resets", proxied, Answer{Err: syscall.ECONNRESET}, "proxy/unknown", "no answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.x.Judge(c.a)
			expectFinding(t, f, c.want, c.says)
			if len(f.Evidence) != 1 || !strings.HasSuffix(f.Evidence[0].Text, c.a.Err.Error()) {
				t.Errorf("evidence %+v", f.Evidence)
			}
		})
	}
}

func TestEvidenceOfAnAnswerIsBounded(t *testing.T) {
	f := direct.Judge(Answer{Status: 503, Body: strings.Repeat("\x1bx", 10_000)})
	for _, e := range f.Evidence {
		if len(e.Text) > 2000 || strings.Contains(e.Text, "\x1b") {
			t.Errorf("%s: %d bytes", e.Source, len(e.Text))
		}
	}
}
