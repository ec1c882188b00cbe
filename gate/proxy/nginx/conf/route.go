package conf

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"deploygate/gate/proxy"
)

const (
	// defaultErrorLog is the compiled-in one of nginx's packages, though Debian's since 12 is "stderr".
	defaultErrorLog = "/var/log/nginx/error.log"
	// defaultTimeout is that of proxy_connect_timeout and proxy_read_timeout.
	defaultTimeout = 60 * time.Second
	// maxRedirects is nginx's own bound of internal redirects (NGX_HTTP_MAX_URI_CHANGES).
	maxRedirects = 10
)

// unknown stands in an expanded string for what only a real request could tell. It can't be in a configuration.
const unknown = "\x00"

// User returns the user directive's first argument, "" when it is unset.
func (c *Config) User() string {
	if d := last(c.Directives, "user"); d != nil {
		return d.first()
	}
	return ""
}

// Route follows a request as nginx does: the listen with the most specific address, server_name, the server's
// rewrites, the longest or first location (ngx_http_core_find_location), its rewrites, try_files and …_pass. Of
// try_files the fallback is followed, since files may come and go. error_page, access rules and limits are left out.
//
// Rules: nginx.org/en/docs/http/request_processing.html, server_names.html, ngx_http_core_module.html,
// ngx_http_rewrite_module.html.
func (c *Config) Route(r proxy.Request) proxy.Route {
	w := &walk{config: c, request: r, levels: []level{c.Directives}}
	if err := w.run(); err != nil {
		w.route.Why = err.Error()
	} else {
		w.route.Known = true
	}
	w.route.ErrorLogs = w.errorLogs()
	return w.route
}

// level is what stands in one block. Inner levels inherit from outer ones.
type level = []Directive

// walk is one request's way.
type walk struct {
	config    *Config
	request   proxy.Request
	host      string // as nginx compares it
	uri       string // normalised
	named     bool   // the location was reached by its name
	internal  bool   // uri is not the client's, but that of an internal redirect
	upstreams map[string]*Directive
	server    *Directive
	vars      variables
	levels    []level // main, http, server, locations
	locations []*Directive
	route     proxy.Route
}

// serverLevels is how many levels are above the locations.
const serverLevels = 3

func (w *walk) run() error {
	var http level
	for i := range w.config.Directives {
		if d := &w.config.Directives[i]; d.Name == "http" {
			http = append(http, d.Block...)
		}
	}
	w.levels = append(w.levels, http)
	w.upstreams = upstreams(http)
	var err error
	if w.uri, err = normalPath(w.request.Path); err != nil {
		return err
	}
	w.host = normalHost(w.request.Host)
	if w.server, err = w.selectServer(http); err != nil {
		return err
	}
	w.levels = append(w.levels, w.server.Block)
	w.route.Server = w.server.at()
	w.vars = w.requestVariables()
	return w.follow()
}

// requestVariables are those that the request decides.
func (w *walk) requestVariables() variables {
	target, _, _ := strings.Cut(w.request.Path, "?")
	v := variables{
		"scheme": "http", "https": "", "request_method": "GET", "http_host": w.request.Host,
		"server_port": strconv.Itoa(w.request.Port), "request_uri": target, "args": "", "query_string": "", "is_args": "",
	}
	if w.host != "" {
		v["host"] = w.host
	}
	if w.request.TLS {
		v["scheme"], v["https"] = "https", "on"
	}
	if target != w.request.Path {
		for _, name := range []string{"request_uri", "args", "query_string", "is_args"} {
			v[name] += unknown
		}
	}
	return v
}

// follow goes through the server's rewrites and locations, again after each internal redirect.
func (w *walk) follow() error {
	next := w.uri
	for range maxRedirects {
		w.leaveLocations()
		if w.named = strings.HasPrefix(next, "@"); w.named {
			if err := w.enterNamed(next); err != nil {
				return err
			}
		} else if answered, err := w.search(next); answered || err != nil {
			return err
		}
		var err error
		if next, err = w.location(); next == "" || err != nil {
			return err
		}
		w.internal = true
	}
	return fmt.Errorf("more than %d internal redirects", maxRedirects)
}

func (w *walk) leaveLocations() {
	w.levels, w.locations = w.levels[:serverLevels], nil
}

// search finds the location of a URI.
func (w *walk) search(uri string) (answered bool, err error) {
	w.uri, w.route.Location = uri, ""
	w.vars["uri"], w.vars["document_uri"] = uri, uri
	if w.request.TLS && isOn(inherited(w.levels, "ssl_reject_handshake")) {
		w.route.Returns = "ssl_reject_handshake"
		return true, nil
	}
	if e, err := w.rewrites(w.server.Block); e == answers || err != nil {
		return true, err
	}
	found, err := w.find(w.server.Block)
	w.noteLocation()
	switch {
	case err != nil:
		return false, err
	case !w.internal && inherited(w.levels, "internal") != nil:
		w.route.Returns = "return 404" // as ngx_http_core_find_config_phase answers
	case found == redirects:
		w.route.Returns = "return 301 " + uri + "/"
	default:
		return false, nil
	}
	return true, nil
}

func (w *walk) enterNamed(name string) error {
	for i := range w.server.Block {
		d := &w.server.Block[i]
		if modifier, its := locationName(d); d.Name == "location" && modifier == "@" && its == name {
			w.enter(d)
			w.noteLocation()
			return nil
		}
	}
	return fmt.Errorf("the server at %s has no location %s", w.server.at(), name)
}

func (w *walk) enter(location *Directive) {
	w.locations = append(w.locations, location)
	w.levels = append(w.levels, location.Block)
}

func (w *walk) noteLocation() {
	if w.route.Location = ""; len(w.locations) > 0 {
		w.route.Location = w.locations[len(w.locations)-1].at()
	}
}

// innermost is the block whose handlers are asked.
func (w *walk) innermost() level { return w.levels[len(w.levels)-1] }

// location does what the location says. next is where it hands the request on to: a URI or a named location.
func (w *walk) location() (next string, err error) {
	block := w.innermost()
	if len(w.locations) > 0 {
		if e, err := w.rewrites(block); e == answers || err != nil {
			return "", err
		}
	}
	if err := w.decidedByCode(); err != nil {
		return "", err
	}
	if d := last(block, "try_files"); d != nil && len(d.Args) > 1 {
		return w.tryFiles(d)
	}
	if d := pass(block); d != nil {
		return "", w.pass(d)
	}
	return "", w.index()
}

// decidedByCode refuses to guess what a program in the configuration does.
func (w *walk) decidedByCode() error {
	for i, l := range w.levels {
		for j := range l {
			d := &l[j]
			phase, _, lua := strings.Cut(d.Name, "_by_lua")
			inForce := lua && slices.Contains([]string{"rewrite", "access", "server_rewrite"}, phase)
			content := lua && phase == "content" || d.Name == "js_content" || d.Name == "perl"
			if inForce || content && i == len(w.levels)-1 {
				return fmt.Errorf("%s at %s decides by code", d.Name, d.at())
			}
		}
	}
	return nil
}

// tryFiles follows the last argument. The earlier ones are files that may be there or not.
func (w *walk) tryFiles(d *Directive) (next string, err error) {
	fallback := d.Args[len(d.Args)-1]
	w.noteTries(d)
	switch {
	case strings.HasPrefix(fallback, "@"):
		return fallback, nil
	case pass(w.innermost()) != nil:
		return "", fmt.Errorf("try_files at %s decides by files whether the request is passed on", d.at())
	case strings.HasPrefix(fallback, "="):
		w.route.Returns = "try_files " + fallback
		return "", nil
	}
	uri, _, _ := strings.Cut(w.vars.expand(fallback), "?")
	if strings.Contains(uri, unknown) || !strings.HasPrefix(uri, "/") {
		return "", fmt.Errorf("the fallback of try_files at %s is not understood", d.at())
	}
	if uri == w.uri && !w.named { // the file itself, or a loop that nginx ends
		return "", nil
	}
	return uri, nil
}

// index sees to it that a directory whose index file belongs to another location isn't taken for a static one:
// ngx_http_index_module redirects to the file if it is there.
func (w *walk) index() error {
	if !strings.HasSuffix(w.uri, "/") || w.named {
		return nil
	}
	files := []string{"index.html"}
	if d := inherited(w.levels, "index"); d != nil {
		files = d.Args
	}
	for _, file := range files {
		if strings.Contains(file, "$") {
			return errors.New("the name of an index file holds a variable")
		}
		other := &walk{server: w.server, vars: w.vars, uri: w.uri + file, levels: slices.Clone(w.levels[:serverLevels])}
		if strings.HasPrefix(file, "/") {
			other.uri = file
		}
		if _, err := other.find(w.server.Block); err != nil {
			return err
		}
		if d := pass(other.innermost()); d != nil {
			return fmt.Errorf("the index file %s would be passed on at %s, if it is there", file, d.at())
		}
	}
	return nil
}

// last finds a directive in a block. nginx refuses most that are there twice.
func last(block level, name string) *Directive {
	for i := len(block) - 1; i >= 0; i-- {
		if block[i].Name == name {
			return &block[i]
		}
	}
	return nil
}

// inherited finds a directive in the innermost level that has it.
func inherited(levels []level, name string) *Directive {
	for _, l := range slices.Backward(levels) {
		if d := last(l, name); d != nil {
			return d
		}
	}
	return nil
}

func isOn(d *Directive) bool { return d != nil && d.first() == "on" }

// errorLogs returns those of the innermost level that has any: they replace the outer ones.
func (w *walk) errorLogs() []string {
	for _, l := range slices.Backward(w.levels) {
		var files []string
		for i := range l {
			if l[i].Name == "error_log" && len(l[i].Args) > 0 {
				files = append(files, l[i].first())
			}
		}
		if len(files) > 0 {
			return files
		}
	}
	return []string{defaultErrorLog}
}

// normalHost is how nginx compares a host (ngx_http_validate_host): lower-case, without port and final dot.
func normalHost(host string) string {
	if end := strings.IndexByte(host, ']'); strings.HasPrefix(host, "[") && end > 0 {
		return strings.ToLower(host[:end+1])
	}
	host, _, _ = strings.Cut(host, ":")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// normalPath is how nginx compares a path (ngx_http_parse_complex_uri, with merge_slashes): decoded, without query,
// dots and double slashes.
func normalPath(target string) (string, error) {
	target, _, _ = strings.Cut(target, "?")
	target, _, _ = strings.Cut(target, "#")
	decoded, err := url.PathUnescape(target)
	if err != nil || !path.IsAbs(decoded) || strings.Contains(decoded, unknown) {
		return "", errors.New("the request's path is no absolute path")
	}
	clean := path.Clean(decoded)
	base := path.Base(decoded)
	if clean != "/" && (strings.HasSuffix(decoded, "/") || base == "." || base == "..") {
		clean += "/"
	}
	return clean, nil
}
