package conf

import (
	"fmt"
	"regexp"
	"strings"
)

// locationName returns "=", "^~", "~", "~*", "@" or "", and what follows, together or apart.
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
