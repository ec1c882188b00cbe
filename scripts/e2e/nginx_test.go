package e2e

import (
	"testing"

	"deploygate/scripts/testbed"
)

func (h *host) reloads() int {
	h.t.Helper()
	n, err := h.NginxReloads()
	h.must(err)
	return n
}

// A release whose own nginx include is broken is rolled back, and nginx never gets to see it.
func TestBrokenInclude(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.configure("")
		h.add("v1")
		h.released("v1")
		before := h.reloads()
		master, err := h.NginxMaster(h.t.Context())
		h.must(err)
		h.add("v2", testbed.NginxInclude("no_such_directive on;"))
		v := h.deploy("release", "v2")
		h.expect(v, "rolled_back", 3)
		h.live("v1")
		h.failed(v, "proxy", "proxy_config_invalid", "no_such_directive")
		if after := h.reloads(); after != before {
			h.t.Errorf("nginx was reloaded %d times", after-before)
		}
		if now, err := h.NginxMaster(h.t.Context()); err != nil || now != master {
			h.t.Errorf("nginx's master was %d and is %d (%v)", master, now, err)
		}
	})
}

// A good include is loaded, once, and taken back by the rollback of a release that fails after it.
func TestGoodInclude(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure(`
[[checks]]
name = "not-broken"
run = ["/usr/bin/test", "!", "-e", "broken"]
required = true
`)
		h.add("v1")
		h.released("v1")
		before := h.reloads()
		h.add("v2", testbed.NginxInclude("add_header X-Include v2 always;"))
		h.released("v2")
		if n := h.reloads() - before; n != 1 {
			h.t.Errorf("nginx was reloaded %d times, want once", n)
		}
		h.header("X-Include", "v2")

		// The same include in the next release: nothing to load.
		h.add("v3", testbed.NginxInclude("add_header X-Include v2 always;"))
		h.released("v3")
		if n := h.reloads() - before; n != 1 {
			h.t.Errorf("nginx was reloaded %d times, want once", n)
		}

		h.add("v4", testbed.NginxInclude("add_header X-Include v4 always;"), testbed.File("broken", ""))
		v := h.deploy("release", "v4")
		h.expect(v, "rolled_back", 3)
		h.live("v3")
		if n := h.reloads() - before; n != 3 {
			h.t.Errorf("nginx was reloaded %d times, want thrice: once out and back", n)
		}
		h.header("X-Include", "v2")
	})
}

func (h *host) header(name, value string) {
	h.t.Helper()
	_, header, _, err := h.Get(h.t.Context(), h.site, "/health/")
	h.must(err)
	if got := header.Get(name); got != value {
		h.t.Errorf("a client of nginx gets %s: %q, want %q", name, got, value)
	}
}
