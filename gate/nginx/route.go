package nginx

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Request is what a client asks of nginx: a GET without a body or any header but Host.
type Request struct {
	// Port is the one connected to.
	Port int
	// Addr is the IP address connected to, or "unix:PATH". "" is an address that has no listen of its own: the wildcard
	// is taken, that of IPv4 first.
	Addr string
	// TLS is whether the connection is encrypted, with Host as the name asked for.
	TLS bool
	// Host is the header, with or without a port.
	Host string
	// Path is the request target: an absolute path, encoded as it is sent. A query counts for nothing.
	Path string
}

// Route is where a request ends. What is known of it is there even where Known is false.
type Route struct {
	Known bool   // everything that decides was understood; else Why says what was not
	Why   string // no final stop, without anything secret

	Server, Location string // "FILE:LINE" of the blocks; Location is "" where none matches
	Pass             string // proxy_pass, or another …_pass, as written; "" if the location doesn't proxy
	PassAt           string // "FILE:LINE"
	// Targets is where it connects, in gunicorn's syntax: "unix:/run/x.sock" or "127.0.0.1:8000". Those of an
	// upstream{} come in its order, backups included, those marked down left out.
	Targets []string
	// ConnectTimeout and ReadTimeout are proxy_connect_timeout and proxy_read_timeout (or uwsgi_…) in force; 0 where
	// nothing is proxied or they are not understood.
	ConnectTimeout, ReadTimeout time.Duration
	// Returns is "return 503", "return 301 https://…" or "try_files =404" when nginx answers by itself.
	Returns string
	// ErrorLogs are the files in force, as written; "syslog:…", "stderr" and "memory:…" likewise.
	ErrorLogs []string
	// HostPassed is the Host that the app gets, as written in proxy_set_header: "$host", or "$proxy_host", which is the
	// default. "" where nothing is proxied, or none is sent.
	HostPassed string
}

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

// User gives the user directive's first argument, "" when it is unset.
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
func (c *Config) Route(r Request) Route {
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
	request   Request
	host      string // as nginx compares it
	uri       string // normalised
	named     bool   // the location was reached by its name
	internal  bool   // uri is not the client's, but that of an internal redirect
	upstreams map[string]*Directive
	server    *Directive
	vars      variables
	levels    []level // main, http, server, locations
	locations []*Directive
	route     Route
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

// effect is what rewrite directives do to a request.
type effect int

const (
	goesOn effect = iota
	breaks        // no more rewriting in this set
	answers
)

// rewrites runs a block's directives of ngx_http_rewrite_module, in their order.
func (w *walk) rewrites(block level) (effect, error) {
	for i := range block {
		d := &block[i]
		e, err := w.rewrite(d, last(block, "try_files") != nil)
		if e != goesOn || err != nil {
			return e, err
		}
	}
	return goesOn, nil
}

func (w *walk) rewrite(d *Directive, triesFiles bool) (effect, error) {
	switch name := d.Name; {
	case name == "set":
		w.vars.set(d)
	case name == "auth_request_set" || strings.HasPrefix(name, "set_by_lua"):
		w.vars[variableName(d.first())] = unknown
	case name == "break":
		return breaks, nil
	case name == "return":
		w.route.Returns = w.returns(d)
		return answers, nil
	case name == "rewrite":
		return goesOn, w.rewritten(d)
	case name == "if":
		return w.conditional(d, triesFiles)
	}
	return goesOn, nil
}

// returns words a return directive. A text that is sent, and a query, may be secret.
func (w *walk) returns(d *Directive) string {
	if len(d.Args) == 0 {
		return "return"
	}
	code, target := d.Args[0], ""
	if len(d.Args) > 1 {
		target = d.Args[1]
	} else if _, err := strconv.Atoi(code); err != nil {
		code, target = "302", code
	}
	target, _, _ = strings.Cut(target, "?")
	if target == "" || !slices.Contains([]string{"301", "302", "303", "307", "308"}, code) {
		return "return " + code
	}
	return "return " + code + " " + target
}

// rewritten tells whether a rewrite is in force. What it makes of the URI is not followed.
func (w *walk) rewritten(d *Directive) error {
	re, err := regexp.Compile(d.first())
	if err != nil || re.MatchString(w.uri) {
		return fmt.Errorf("the rewrite at %s is not followed", d.at())
	}
	return nil
}

// harmless are the directives of an if that leave the way as it is, whether it holds or not.
var harmless = []string{"add_header", "access_log", "expires", "limit_rate", "limit_rate_after"}

// conditional runs what stands in an if. In a location that holds nginx goes on in a location of the if's own, which
// has no try_files and may have other handlers.
func (w *walk) conditional(d *Directive, triesFiles bool) (effect, error) {
	holds, known := w.condition(d.Args)
	if known && !holds {
		return goesOn, nil
	}
	for i := range d.Block {
		inner := &d.Block[i]
		switch {
		case slices.Contains(harmless, inner.Name) && !triesFiles:
		case inner.Name == "set" && !known:
			w.vars[variableName(inner.first())] = unknown
		case known && slices.Contains([]string{"set", "break", "return", "rewrite"}, inner.Name):
			if e, err := w.rewrite(inner, triesFiles); e != goesOn || err != nil {
				return e, err
			}
		default:
			return goesOn, fmt.Errorf("what the if at %s decides is not known", d.at())
		}
	}
	return goesOn, nil
}

// condition evaluates an if's arguments: a variable, or a variable compared to a string or a regular expression
// (ngx_http_rewrite_if_condition). Files are not looked at.
func (w *walk) condition(args []string) (holds, known bool) {
	if args = withoutParentheses(args); len(args) == 0 {
		return false, false
	}
	left := w.vars.expand(args[0])
	if !strings.HasPrefix(args[0], "$") || strings.Contains(left, unknown) {
		return false, false
	}
	if len(args) == 1 {
		return left != "" && left != "0", true
	}
	if len(args) != 3 {
		return false, false
	}
	operator, negated := strings.CutPrefix(args[1], "!")
	holds, known = w.compare(left, operator, args[2])
	return holds != negated, known
}

func (w *walk) compare(left, operator, right string) (holds, known bool) {
	switch operator {
	case "=":
		right = w.vars.expand(right)
		return left == right, !strings.Contains(right, unknown)
	case "~*":
		right = "(?i)" + right
	case "~":
	default:
		return false, false
	}
	re, err := regexp.Compile(right)
	return err == nil && re.MatchString(left), err == nil
}

func withoutParentheses(args []string) []string {
	args = slices.Clone(args)
	if len(args) == 0 {
		return nil
	}
	args[0] = strings.TrimPrefix(args[0], "(")
	if args[0] == "" {
		args = args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	end := len(args) - 1
	if args[end] = strings.TrimSuffix(args[end], ")"); args[end] == "" {
		args = args[:end]
	}
	return args
}

// variables holds values by name, lower-case and without the dollar sign. What isn't there is unknown.
type variables map[string]string

func variableName(s string) string { return strings.ToLower(strings.TrimPrefix(s, "$")) }

func (v variables) set(d *Directive) {
	if len(d.Args) == 2 {
		v[variableName(d.Args[0])] = v.expand(d.Args[1])
	}
}

var variablePattern = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+))`)

// expand puts values in the place of variables.
func (v variables) expand(s string) string {
	return variablePattern.ReplaceAllStringFunc(s, func(name string) string {
		value, known := v[strings.ToLower(strings.Trim(name, "${}"))]
		if !known {
			return unknown
		}
		return value
	})
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

// errorLogs gives those of the innermost level that has any: they replace the outer ones.
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

// listener is one listen of one server.
type listener struct {
	server   *Directive
	host     string // an IP address, "unix:PATH", or a name
	from, to int    // ports
	first    bool   // default_server
	tls      bool
	bothIP   bool // [::] with ipv6only=off
}

const anyIPv4, anyIPv6 = "0.0.0.0", "::"

// selectServer finds the server that a connection and its Host lead to.
func (w *walk) selectServer(http level) (*Directive, error) {
	listening := w.listening(http)
	if len(listening) == 0 {
		return nil, fmt.Errorf("nginx listens nowhere on port %d", w.request.Port)
	}
	hosts, err := w.selectAddress(listening)
	if err != nil {
		return nil, err
	}
	var chosen *Directive
	for _, host := range hosts {
		here := slices.DeleteFunc(slices.Clone(listening), func(l listener) bool { return l.host != host })
		if tls := slices.ContainsFunc(here, func(l listener) bool { return l.tls }); tls != w.request.TLS {
			return nil, fmt.Errorf("nginx listens on %s port %d with ssl: %t, and the request's is: %t", host, w.request.Port, tls, w.request.TLS)
		}
		server, err := selectName(here, w.host, w.config.hostname)
		if err != nil {
			return nil, err
		}
		if chosen != nil && chosen != server {
			return nil, fmt.Errorf("it depends on the address: %s", strings.Join(hosts, " or "))
		}
		chosen = server
	}
	return chosen, nil
}

// listening gives what listens on the request's port, in the configuration's order.
func (w *walk) listening(http level) []listener {
	var found []listener
	for i := range http {
		if server := &http[i]; server.Name == "server" {
			for _, l := range listeners(server) {
				onPort := l.from <= w.request.Port && w.request.Port <= l.to
				if unix := strings.HasPrefix(l.host, "unix:"); unix && l.host == w.request.Addr || !unix && onPort {
					found = append(found, l)
				}
			}
		}
	}
	return found
}

func listeners(server *Directive) []listener {
	var found []listener
	ssl := isOn(last(server.Block, "ssl")) // until nginx 1.25
	some := false
	for i := range server.Block {
		d := &server.Block[i]
		if d.Name != "listen" || len(d.Args) == 0 {
			continue
		}
		some = true
		if slices.Contains(d.Args, "quic") {
			continue // UDP
		}
		l := parseListen(d.Args[0])
		l.server = server
		l.first = slices.Contains(d.Args, "default_server") || slices.Contains(d.Args, "default")
		l.tls = ssl || slices.Contains(d.Args, "ssl")
		l.bothIP = l.host == anyIPv6 && slices.Contains(d.Args, "ipv6only=off")
		found = append(found, l)
		if l.host == "localhost" { // both of its addresses
			found[len(found)-1].host = "127.0.0.1"
			l.host = "::1"
			found = append(found, l)
		}
	}
	if !some {
		found = append(found, listener{server: server, host: anyIPv4, from: 80, to: 80, tls: ssl})
	}
	return found
}

// parseListen understands listen's first argument: ADDRESS, ADDRESS:PORT, PORT, with "*" for every IPv4 address and
// [] around IPv6 ones, PORT-PORT for a range, or unix:PATH. The port is 80 where none is given.
func parseListen(arg string) listener {
	if strings.HasPrefix(arg, "unix:") {
		return listener{host: arg}
	}
	if from, to, ok := ports(arg); ok {
		return listener{host: anyIPv4, from: from, to: to}
	}
	l := listener{host: arg, from: 80, to: 80}
	if i := strings.LastIndexByte(arg, ':'); i >= 0 && !strings.HasSuffix(arg, "]") {
		if from, to, ok := ports(arg[i+1:]); ok {
			l = listener{host: arg[:i], from: from, to: to}
		}
	}
	if l.host == "*" {
		l.host = anyIPv4
	} else if ip, ok := parseIP(l.host); ok {
		l.host = ip.String()
	}
	return l
}

func ports(s string) (from, to int, ok bool) {
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	from, err := strconv.Atoi(low)
	to, err2 := strconv.Atoi(high)
	return from, to, err == nil && err2 == nil
}

func parseIP(s string) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return ip.Unmap(), err == nil
}

// selectAddress gives the address of the listens that take the connection: its own before the wildcards. There are
// several if the request names none and none is a wildcard.
func (w *walk) selectAddress(listening []listener) ([]string, error) {
	has := func(host string) bool {
		return slices.ContainsFunc(listening, func(l listener) bool { return l.host == host })
	}
	both := slices.ContainsFunc(listening, func(l listener) bool { return l.bothIP })
	addr := w.request.Addr
	switch addr {
	case "localhost":
		addr = "127.0.0.1"
	case "":
		return anyAddress(listening, has), nil
	}
	ip, isIP := parseIP(addr)
	if isIP {
		addr = ip.String()
	}
	switch {
	case has(addr):
		return []string{addr}, nil
	case !isIP:
		return nil, fmt.Errorf("nginx listens nowhere on %s", addr)
	}
	for _, l := range listening {
		if _, ok := parseIP(l.host); !ok && !strings.HasPrefix(l.host, "unix:") {
			return nil, fmt.Errorf("nginx listens on %s, whose address is not known", l.host)
		}
	}
	switch {
	case ip.Is4() && has(anyIPv4):
		return []string{anyIPv4}, nil
	case ip.Is6() && has(anyIPv6), both:
		return []string{anyIPv6}, nil
	}
	return nil, fmt.Errorf("nginx listens nowhere on %s", net.JoinHostPort(addr, strconv.Itoa(w.request.Port)))
}

func anyAddress(listening []listener, has func(string) bool) []string {
	for _, host := range []string{anyIPv4, anyIPv6} {
		if has(host) {
			return []string{host}
		}
	}
	var hosts []string
	for _, l := range listening {
		if !slices.Contains(hosts, l.host) {
			hosts = append(hosts, l.host)
		}
	}
	return hosts
}

// selectName finds the server by its name: exact, the longest wildcard in front, the longest at the end, the first
// regular expression, else the default server, else the first one (nginx.org/en/docs/http/server_names.html).
func selectName(listening []listener, host, hostname string) (*Directive, error) {
	best, taken := fit{}, map[string]bool{}
	for _, l := range listening {
		for _, name := range serverNames(l.server, hostname) {
			if !take(taken, name) {
				continue
			}
			if rank, length := rankName(name, host); rank > best.rank || rank == best.rank && length > best.length {
				best = fit{rank, length, l.server}
			}
		}
	}
	if best.rank > 0 {
		return best.server, nil
	}
	for _, l := range listening {
		for _, name := range serverNames(l.server, hostname) {
			if ok, err := matchesName(name, host); err != nil {
				return nil, fmt.Errorf("the server name %s at %s is not understood", name, l.server.at())
			} else if ok {
				return l.server, nil
			}
		}
	}
	if i := slices.IndexFunc(listening, func(l listener) bool { return l.first }); i >= 0 {
		return listening[i].server, nil
	}
	return listening[0].server, nil
}

// fit is how well a server's name fits.
type fit struct {
	rank, length int
	server       *Directive
}

// take tells whether a name counts: nginx ignores, with a warning, one that conflicts with one before it
// (ngx_hash_add_key). ".x" stands for "x" and "*.x", and reserves "x" even where "*.x" is taken.
func take(taken map[string]bool, name string) bool {
	base, both := strings.CutPrefix(name, ".")
	if both {
		if taken[base] {
			return false
		}
		taken[base] = true
		name = "*." + base
	}
	free := !taken[name]
	taken[name] = true
	return free
}

// serverNames gives a server's names, in lower case but for regular expressions. One without any has the empty one.
func serverNames(server *Directive, hostname string) []string {
	var names []string
	for i := range server.Block {
		if d := &server.Block[i]; d.Name == "server_name" {
			names = append(names, d.Args...)
		}
	}
	for i, name := range names {
		if name == "$hostname" && hostname != "" {
			name = hostname
		}
		if !strings.HasPrefix(name, "~") {
			names[i] = strings.ToLower(name)
		}
	}
	if len(names) == 0 {
		return []string{""}
	}
	return names
}

// rankName says how well a name without regular expression fits; 0 is not at all.
func rankName(name, host string) (rank, length int) {
	suffix := strings.TrimPrefix(name, "*")
	prefix := strings.TrimSuffix(name, "*")
	switch {
	case strings.HasPrefix(name, "~"):
	case name == host:
		return 3, 0
	case strings.HasPrefix(name, ".") && host == name[1:],
		strings.HasPrefix(suffix, ".") && strings.HasSuffix(host, suffix) && len(host) > len(suffix):
		return 2, len(suffix)
	case strings.HasSuffix(prefix, ".") && prefix != name && strings.HasPrefix(host, prefix) && len(host) > len(prefix):
		return 1, len(prefix)
	}
	return 0, 0
}

// matchesName tries a regular expression. nginx ignores case in one that has a capital (ngx_http_regex_compile's
// caller), and has lowered the host's.
func matchesName(name, host string) (bool, error) {
	if name == "$hostname" {
		return false, errors.New("the host's name is not known")
	}
	pattern, ok := strings.CutPrefix(name, "~")
	if !ok {
		return false, nil
	}
	if pattern != strings.ToLower(pattern) {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(host), err
}

// locationName gives "=", "^~", "~", "~*", "@" or "", and what follows, together or apart.
func locationName(d *Directive) (modifier, name string) {
	if len(d.Args) == 2 {
		return d.Args[0], d.Args[1]
	}
	name = d.first()
	for _, modifier := range []string{"=", "^~", "~*", "~"} {
		if rest, ok := strings.CutPrefix(name, modifier); ok {
			return modifier, rest
		}
	}
	if strings.HasPrefix(name, "@") {
		return "@", name
	}
	return "", name
}

// result is ngx_http_core_find_location's.
type result int

const (
	nothing   result = iota
	inclusive        // a prefix, which a regular expression may still beat
	decided
	redirects // to the same path with a slash
)

// find enters the location of w.uri among those of a block, and then among its own ones. It is
// ngx_http_core_find_location: a prefix leads to nested locations first, and "^~" holds off the regular expressions
// beside it, not those beside its parent.
func (w *walk) find(block level) (result, error) {
	depth := len(w.locations)
	found, noRegex := w.findPrefix(block), false
	if found == inclusive {
		in := w.locations[len(w.locations)-1]
		modifier, _ := locationName(in)
		noRegex = modifier == "^~"
		var err error
		if found, err = w.find(in.Block); err != nil {
			return found, err
		}
	}
	if found == decided || found == redirects || noRegex {
		return found, nil
	}
	for i := range block {
		d := &block[i]
		matches, err := matchesLocation(d, w.uri)
		if err != nil {
			return nothing, err
		}
		if matches {
			w.locations, w.levels = w.locations[:depth], w.levels[:serverLevels+depth]
			w.enter(d)
			_, err := w.find(d.Block)
			return decided, err
		}
	}
	return found, nil
}

// findPrefix enters the exact location, or else the longest prefix.
func (w *walk) findPrefix(block level) result {
	var exact, longest, slashed *Directive
	length, same, passes := -1, false, false
	for i := range block {
		d := &block[i]
		modifier, name := locationName(d)
		if d.Name != "location" || modifier != "" && modifier != "^~" && modifier != "=" {
			continue
		}
		same = same || name == w.uri
		switch {
		case name == w.uri+"/":
			passes = passes || pass(d.Block) != nil
			if slashed == nil || modifier == "=" {
				slashed = d
			}
		case modifier == "=" && name == w.uri:
			exact = d
		case modifier != "=" && strings.HasPrefix(w.uri, name) && len(name) > length:
			longest, length = d, len(name)
		}
	}
	switch {
	case exact != nil:
		w.enter(exact)
		return decided
	case passes && !same:
		w.enter(slashed)
		return redirects
	case longest != nil:
		w.enter(longest)
		return inclusive
	}
	return nothing
}

// matchesLocation tries a location's regular expression.
func matchesLocation(d *Directive, uri string) (bool, error) {
	modifier, pattern := locationName(d)
	if d.Name != "location" || modifier != "~" && modifier != "~*" {
		return false, nil
	}
	if modifier == "~*" {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return false, fmt.Errorf("the regular expression of the location at %s is not understood", d.at())
	}
	return re.MatchString(uri), nil
}

// protocols are those of the …_pass directives, with the port of an address without one; 0 where nginx wants one.
var protocols = map[string]int{"proxy": 80, "grpc": 80, "uwsgi": 0, "fastcgi": 0, "scgi": 0, "memcached": 0}

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
	w.route.HostPassed = w.hostPassed(name)
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

// hostPassed gives the Host that is sent. A level with any proxy_set_header inherits none.
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

// upstreams gives a context's upstream blocks by name, in lower case.
func upstreams(context level) map[string]*Directive {
	found := map[string]*Directive{}
	for i := range context {
		if d := &context[i]; d.Name == "upstream" && len(d.Args) == 1 {
			found[strings.ToLower(d.first())] = d
		}
	}
	return found
}

// targets gives where a …_pass leads to.
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

// members gives an upstream's servers, whose port is 80 where none is given, whatever the scheme.
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

// Upstreams gives every address that any …_pass leads to, sorted, in the http and the stream context, in the syntax of
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

// constants notes what a block sets. What is set under a condition may be anything.
func constants(block level, vars variables) {
	for i := range block {
		switch d := &block[i]; {
		case d.Name == "set":
			vars.set(d)
		case d.Name == "auth_request_set" || strings.HasPrefix(d.Name, "set_by_lua"):
			vars[variableName(d.first())] = unknown
		case d.Name == "if":
			for j := range d.Block {
				if d.Block[j].Name == "set" {
					vars[variableName(d.Block[j].first())] = unknown
				}
			}
		}
	}
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
