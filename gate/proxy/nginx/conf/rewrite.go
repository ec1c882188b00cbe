package conf

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

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

// rewritten reports whether a rewrite is in force. What it makes of the URI is not followed.
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
		case inner.Name == "return" && !known && w.notTaken(inner):
			return goesOn, nil
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
