package conf

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

func protocol(d *Directive) (string, bool) {
	name, ok := strings.CutSuffix(d.Name, "_pass")
	if _, known := protocols[name]; !ok || !known || len(d.Args) == 0 {
		return "", false
	}
	return name, true
}

// pass finds the block's own …_pass: they are not inherited.
func pass(block level) *Directive {
	for i := range block {
		if _, ok := protocol(&block[i]); ok {
			return &block[i]
		}
	}
	return nil
}

func (w *walk) pass(d *Directive) error {
	name, _ := protocol(d)
	w.route.Pass, w.route.PassAt = d.first(), d.at()
	w.route.ConnectTimeout = w.timeout(name + "_connect_timeout")
	w.route.ReadTimeout = w.timeout(name + "_read_timeout")
	w.route.HostPassed, w.route.PathPassed = w.hostPassed(name), w.pathPassed(d)
	w.route.Cache, w.route.Masks = w.cache(name), w.masks(name)
	var err error
	w.route.Targets, err = targets(d, w.vars, w.upstreams)
	return err
}

func (w *walk) timeout(name string) time.Duration {
	d := inherited(w.levels, name)
	if d == nil {
		return defaultTimeout
	}
	t, _ := parseTime(d.first())
	return t
}

// hostPassed returns the Host that is sent. A level with any proxy_set_header inherits none.
func (w *walk) hostPassed(protocol string) string {
	if protocol != "proxy" && protocol != "grpc" {
		return "$http_host" // the client's headers become parameters
	}
	for _, l := range slices.Backward(w.levels) {
		some := false
		for i := range l {
			if d := &l[i]; d.Name == protocol+"_set_header" && len(d.Args) == 2 {
				if some = true; strings.EqualFold(d.Args[0], "Host") {
					return d.Args[1]
				}
			}
		}
		if some {
			break
		}
	}
	return "$proxy_host"
}

// upstreams returns a context's upstream blocks by name, in lower case.
func upstreams(context level) map[string]*Directive {
	found := map[string]*Directive{}
	for i := range context {
		if d := &context[i]; d.Name == "upstream" && len(d.Args) == 1 {
			found[strings.ToLower(d.first())] = d
		}
	}
	return found
}

// targets returns where a …_pass leads to.
func targets(d *Directive, vars variables, upstreams map[string]*Directive) ([]string, error) {
	name, _ := protocol(d)
	port := protocols[name]
	scheme, address, ok := strings.Cut(vars.expand(d.first()), "://")
	if !ok {
		scheme, address = "", scheme
	}
	if scheme = strings.ToLower(scheme); scheme == "https" || scheme == "grpcs" {
		port = 443
	}
	address = authority(address)
	if address == "" || strings.Contains(scheme+address, unknown) {
		return nil, fmt.Errorf("%s at %s holds a variable whose value is not known", d.Name, d.at())
	}
	if upstream := upstreams[strings.ToLower(address)]; upstream != nil {
		return members(upstream)
	}
	return []string{withPort(address, port)}, nil
}

// authority cuts the URI off: it begins at the slash, or for unix:PATH at a second colon (ngx_parse_url).
func authority(s string) string {
	if file, unix := strings.CutPrefix(s, "unix:"); unix {
		file, _, _ = strings.Cut(file, ":")
		return "unix:" + file
	}
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		s = s[:i]
	}
	return s
}

func withPort(address string, port int) string {
	host := address
	if strings.HasPrefix(address, "[") {
		_, host, _ = strings.Cut(address, "]")
	}
	if port == 0 || strings.HasPrefix(address, "unix:") || strings.Contains(host, ":") {
		return address
	}
	return address + ":" + strconv.Itoa(port)
}

// members returns an upstream's servers, whose port is 80 where none is given, whatever the scheme.
func members(upstream *Directive) ([]string, error) {
	found := []string{}
	for i := range upstream.Block {
		d := &upstream.Block[i]
		switch {
		case strings.HasPrefix(d.Name, "balancer_by_lua"):
			return nil, fmt.Errorf("%s at %s decides by code", d.Name, d.at())
		case d.Name != "server" || len(d.Args) == 0 || slices.Contains(d.Args[1:], "down"):
			continue
		}
		if target := withPort(d.first(), 80); !slices.Contains(found, target) {
			found = append(found, target)
		}
	}
	return found, nil
}

// Upstreams returns every address that any …_pass leads to, sorted, in the http and the stream context, in the syntax of
// Route.Targets. ok is false if there may be more: one holds a variable whose value is not constant, say.
func (c *Config) Upstreams() (addresses []string, ok bool) {
	u := &collector{}
	rooted := "/" + unknown // where a variable ends the address
	for i := range c.Directives {
		if d := &c.Directives[i]; d.Name == "http" || d.Name == "stream" {
			u.stream, u.upstreams = d.Name == "stream", upstreams(d.Block)
			u.collect(d, variables{"uri": rooted, "document_uri": rooted, "request_uri": rooted})
		}
	}
	slices.Sort(u.addresses)
	return slices.Compact(u.addresses), !u.missed
}

type collector struct {
	stream    bool
	upstreams map[string]*Directive
	addresses []string
	missed    bool
}

// collect goes through a block. outer holds what was set around it: nginx runs a server's set directives and those of
// the one location that it chose, not those of the locations around that one.
func (u *collector) collect(block *Directive, outer variables) {
	vars := maps.Clone(outer)
	constants(block.Block, vars)
	inner := outer
	if block.Name == "server" {
		inner = vars
	}
	for i := range block.Block {
		d := &block.Block[i]
		if _, ok := protocol(d); ok {
			u.add(d, vars)
		}
		if d.Name == "if" || d.Name == "limit_except" {
			u.collect(d, vars)
		} else if d.Block != nil {
			u.collect(d, inner)
		}
	}
}

func (u *collector) add(d *Directive, vars variables) {
	if u.stream {
		d = &Directive{Name: "memcached_pass", Args: d.Args} // no scheme and no default port either
	}
	found, err := targets(d, vars, u.upstreams)
	u.addresses = append(u.addresses, found...)
	u.missed = u.missed || err != nil
}

// units of nginx's times (nginx.org/en/docs/syntax.html). A bare number is in seconds.
var units = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "M": 30 * 24 * time.Hour, "y": 365 * 24 * time.Hour, "": time.Second,
}

var timePart = regexp.MustCompile(`^(\d{1,9})(ms|[yMwdhms]|) *`)

// parseTime understands "90", "90s", "1m30s", "1h 30m", "500ms".
func parseTime(s string) (t time.Duration, ok bool) {
	for s != "" {
		part := timePart.FindStringSubmatch(s)
		if part == nil || part[2] == "" && len(part[0]) < len(s) {
			return 0, false
		}
		n, _ := strconv.Atoi(part[1])
		unit := units[part[2]]
		more := time.Duration(n) * unit
		if more/unit != time.Duration(n) || t+more < t {
			return 0, false
		}
		t += more
		s, ok = s[len(part[0]):], true
	}
	return t, ok
}
