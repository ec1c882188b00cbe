package e2e

import (
	"testing"

	"deploygate/scripts/testbed"
)

// Where Django users trip first: the probe's own Host and scheme.
func TestDisallowedHost(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"3s\"")
		v := h.rolledBack(testbed.AllowedHosts("example.org"))
		h.failed(v, "health", "disallowed_host", `Django refuses the Host "localhost"`)
		if len(v.Failure.Advice) == 0 || v.Failure.Advice[0] != `set health.host to a name in ALLOWED_HOSTS, or add "localhost" to ALLOWED_HOSTS` {
			h.t.Errorf("advice %q", v.Failure.Advice)
		}
	})
}

func TestRedirectToHTTPS(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"3s\"\nheaders = {}")
		v := h.rolledBack(testbed.RedirectHTTPS())
		h.failed(v, "health", "redirect", "SECURE_SSL_REDIRECT")
		if len(v.Failure.Advice) == 0 {
			h.t.Error("no advice")
		}
	})
}

// With the header that says https, as the defaults send it, the same release is healthy.
func TestRedirectIsNotMetBehindTLS(t *testing.T) {
	site := testbed.DefaultSite()
	site.BehindTLS = true
	onAHost(t, site, func(h *host) {
		h.configure("")
		h.add("v1", testbed.RedirectHTTPS())
		v := h.deploy("release", "v1")
		h.expect(v, "released", 0)
		h.linked("v1")
		h.running("v1")
		h.answers(301) // to a client that came without TLS
	})
}

// The body proves which release answers.
func TestBodyNamesTheVersion(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("deadline = \"3s\"\nbody = \"ok {version}\"")
		v := h.rolledBack(testbed.Status(200, "ok v1"))
		h.failed(v, "health", "unexpected_body", `without "ok v2"`)
	})
}

func TestOnTCP(t *testing.T) {
	site := testbed.DefaultSite()
	site.Bind = "127.0.0.1:8001"
	onAHost(t, site, func(h *host) {
		h.configure("")
		h.rolledBack(testbed.ImportError())
		h.add("v3")
		h.released("v3")
	})
}

// With a .socket unit in front a connect always works: only an answer of the new processes counts.
func TestSocketUnit(t *testing.T) {
	site := testbed.DefaultSite()
	site.Socket = true
	onEachSuite(t, site, func(h *host) {
		h.configure("")
		h.rolledBack(testbed.ImportError())
		h.add("v3")
		h.released("v3")
	})
}

func TestCheck(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("[[checks]]\nname = \"files\"\nrun = [\"/usr/bin/test\", \"-e\", \"manage.py\"]\nrequired = true\n")
		h.add("v1")
		h.released("v1")
		before := h.touched()
		if r := h.run("check"); r.Code != 0 || r.Stdout != "healthy: v1 passes its gate\n" {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
		h.must(h.Exec(h.t.Context(), "systemctl", "stop", "nginx.service").Err)
		if r := h.run("check", "--output=json"); r.Code != 1 {
			h.t.Errorf("exit %d with nginx stopped: %s", r.Code, r.Stdout)
		}
		h.must(h.Exec(h.t.Context(), "systemctl", "start", "nginx.service").Err)
		if after := h.touched(); after != before {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		h.must(h.Exec(h.t.Context(), "systemctl", "stop", h.site.Unit).Err)
		if r := h.run("check"); r.Code != 1 {
			h.t.Errorf("exit %d with the app stopped: %s", r.Code, r.Stdout)
		}
	})
}

// A required check fails the gate; an advisory one is said.
func TestUserChecks(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure(`
[[checks]]
name = "no-such-file"
run = ["/usr/bin/test", "-e", "missing"]
[[checks]]
name = "not-broken"
run = ["/usr/bin/test", "!", "-e", "broken"]
required = true
`)
		v := h.rolledBack(testbed.File("broken", ""))
		h.failed(v, "release", "unknown", "not-broken failed: exit status 1")
		h.step(v, "checks", "failed")
		if len(v.Warnings) == 0 {
			h.t.Error("the advisory check is not mentioned")
		}
	})
}
