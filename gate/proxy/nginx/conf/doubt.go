package conf

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"deploygate/gate/proxy"
)

// What keeps an answer through nginx from being the one of the server that its request is passed to.

// notTaken reports whether a return would have given another status than the answer had.
func (w *walk) notTaken(d *Directive) bool {
	code, err := strconv.Atoi(d.first())
	if err != nil {
		code = 302 // return URL
	}
	return w.request.Status != 0 && code != w.request.Status
}

// noteTries notes what try_files looks for. A path is that of root and the URI (ngx_http_core_try_files_phase); with alias it
// isn't followed.
func (w *walk) noteTries(d *Directive) {
	root := inherited(w.levels, "root")
	base := "html" // the default, relative to nginx's prefix
	if root != nil {
		base = w.vars.expand(root.first())
	}
	aliased := last(w.innermost(), "alias") != nil
	for _, arg := range d.Args[:len(d.Args)-1] {
		t := proxy.Try{Path: base + w.vars.expand(arg), Dir: strings.HasSuffix(arg, "/"), At: d.at()}
		if aliased || !path.IsAbs(base) || strings.Contains(t.Path, unknown) {
			t.Path = ""
		}
		w.route.Tries = append(w.route.Tries, t)
	}
}

// cache is where the answers of what is passed on are kept.
func (w *walk) cache(protocol string) string {
	name := protocol + "_cache"
	if d := inherited(w.levels, name); d != nil && d.first() != "off" {
		return name + " at " + d.at()
	}
	return ""
}

// masks finds an error_page in force that gives another status than the error's own. Errors that are the passed server's own
// answers count where they are intercepted. Those of the innermost level that has any replace the outer ones.
func (w *walk) masks(protocol string) string {
	intercepted := isOn(inherited(w.levels, protocol+"_intercept_errors"))
	for _, l := range slices.Backward(w.levels) {
		some := false
		for i := range l {
			d := &l[i]
			if d.Name != "error_page" {
				continue
			}
			if some = true; w.masked(d, intercepted) {
				return "error_page at " + d.at()
			}
		}
		if some {
			break
		}
	}
	return ""
}

// masked understands error_page CODE… [=[RESPONSE]] URI: without the =, the answer keeps the error's status.
func (w *walk) masked(d *Directive, intercepted bool) bool {
	relevant, changes := false, false
	for _, arg := range d.Args[:max(len(d.Args)-1, 0)] {
		if response, is := strings.CutPrefix(arg, "="); is {
			code, err := strconv.Atoi(response)
			changes = err != nil || w.request.Status == 0 && code < 400 || code == w.request.Status
			continue
		}
		code, _ := strconv.Atoi(arg)
		ofNginx := code >= 500 || slices.Contains([]int{401, 403, 429}, code)
		relevant = relevant || ofNginx || intercepted
	}
	return relevant && changes
}

// pathPassed is what proxy_pass makes of the path: it stays as it is, or what the location's name covers is replaced.
func (w *walk) pathPassed(d *Directive) string {
	value := w.vars.expand(d.first())
	_, address, ok := strings.Cut(value, "://")
	if !ok || strings.Contains(value, unknown) {
		return ""
	}
	rest := strings.TrimPrefix(address, authority(address))
	rest = strings.TrimPrefix(rest, ":") // unix:PATH:URI
	if rest == "" {
		return w.uri
	}
	if len(w.locations) == 0 || strings.Contains(d.first(), "$") {
		return ""
	}
	modifier, name := locationName(w.locations[len(w.locations)-1])
	if modifier != "" && modifier != "^~" && modifier != "=" {
		return ""
	}
	return rest + strings.TrimPrefix(w.uri, name)
}

// maxPaths bounds Locations.
const maxPaths = 30

// Locations returns paths of the site that a request leads to, as its locations name them, "/" first: each may lead elsewhere.
func (c *Config) Locations(r proxy.Request) []string {
	w := &walk{config: c, request: r, levels: []level{c.Directives}}
	_ = w.run() // what can't be followed has a server all the same
	found := []string{"/"}
	if w.server == nil {
		return found
	}
	for i := range w.server.Block {
		d := &w.server.Block[i]
		modifier, name := locationName(d)
		prefix := modifier == "" || modifier == "^~" || modifier == "="
		if d.Name == "location" && prefix && path.IsAbs(name) && len(found) < maxPaths && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}
