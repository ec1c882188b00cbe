package main

import (
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts flags where urfave/cli looks for them, since people type `deploygate release v42 --output json`: the
// global ones before the command, the command's own before its words. What follows "--" are words.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	var global, own, words []string
	var command *cli.Command
	for rest := args[1:]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			words = append(words, rest...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if command == nil && len(words) == 0 {
				if command = app.Command(arg); command != nil {
					continue
				}
			}
			words = append(words, arg)
			continue
		}
		name, _, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		to := &own
		flag := find(app.Flags, name)
		if flag != nil && (command == nil || !isHelp(arg)) {
			to = &global
		} else if command != nil {
			flag = find(command.Flags, name)
		}
		if command == nil {
			to = &global
		}
		*to = append(*to, arg)
		if _, isBool := flag.(*cli.BoolFlag); flag == nil || isBool || joined {
			continue
		}
		if len(rest) == 0 || rest[0] == "--" {
			return nil, usagef("--%s needs a value; see deploygate --help", name)
		}
		*to, rest = append(*to, rest[0]), rest[1:]
	}
	arranged := append([]string{args[0]}, global...)
	if command != nil {
		arranged = append(append(arranged, command.Name), own...)
	}
	if len(words) > 0 && !slices.ContainsFunc(append(global, own...), isHelp) {
		arranged = append(append(arranged, "--"), words...)
	}
	return arranged, nil
}

// isHelp: whoever asks for help gets it, whatever else was typed.
func isHelp(arg string) bool { return arg == "-h" || arg == "--help" || arg == "-help" }

func find(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// wantsJSON reports whether a command line that can't be used asks for JSON all the same.
func wantsJSON(args []string) bool {
	format := os.Getenv("DEPLOYGATE_OUTPUT")
	for i, arg := range args {
		name, value, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case arg == "--":
			return format == "json"
		case !strings.HasPrefix(arg, "-") || name != "output":
		case joined:
			format = value
		case i+1 < len(args):
			format = args[i+1]
		}
	}
	return format == "json"
}
