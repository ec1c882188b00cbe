package conf

import (
	"regexp"
	"strings"
)

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
