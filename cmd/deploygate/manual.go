package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/release/deploy"
)

// manual is what --help and deploygate(1) say of a command, beyond its purpose and its flags.
type manual struct {
	text     string
	exits    []int
	examples []example
}

type example struct{ command, does string }

// exitCodes are all exit codes with their outcomes, and what they say of the host.
var exitCodes = []struct {
	code     int
	outcomes []deploy.Outcome
	host     string
}{
	{0, []deploy.Outcome{deploy.Released, deploy.Unchanged}, "VERSION is live and passed its gate; of other commands: healthy, or done"},
	{1, []deploy.Outcome{deploy.Refused}, "the live release was not touched; of check and diagnose: it is not healthy"},
	{exitUsage, []deploy.Outcome{"usage"}, "wrong usage or configuration; nothing was changed"},
	{3, []deploy.Outcome{deploy.RolledBack}, "VERSION failed; an earlier good release is live again and passed its gate"},
	{4, []deploy.Outcome{deploy.Held}, "VERSION failed and stays: the way back is blocked, or there is none"},
	{5, []deploy.Outcome{deploy.Stuck}, "VERSION failed, and so did the way back: a person is needed now"},
	{6, []deploy.Outcome{deploy.Locked}, "another deploy of this app is running; nothing was changed"},
	{7, []deploy.Outcome{deploy.Unknown}, "the host can't be looked at, or a look at it was interrupted; nothing was changed"},
}

var (
	deployExits = []int{0, 1, exitUsage, 3, 4, 5, 6, 7}
	lookExits   = []int{0, 1, exitUsage, 7}
	readExits   = []int{0, exitUsage, 7}
)

// manuals has one for each command, by its name.
var manuals = map[string]manual{
	"release": {
		"Points the live link at VERSION, restarts the app's unit, and has the release pass its gate: the unit runs and runs this release, its health path " +
			"answers on its own socket or port without interruption, nginx's configuration is valid, the same request is answered through nginx, and your own " +
			"checks pass. Otherwise the release that was live is put back, and has to pass the same gate, unless the migrations of VERSION forbid running the " +
			"older code. Where VERSION is live and healthy, nothing is done.",
		deployExits,
		[]example{
			{"deploygate release v42", "make /srv/app/releases/v42 live, or say why not"},
			{"deploygate release v42 --rehearse --output json", "boot it beside the live release first; one JSON document on stdout"},
		},
	},
	"rollback": {
		"Without VERSION it goes back to the last release that passed its gate; called twice, one release further. A release that is rolled back from is " +
			"not gone back to until it is released again.",
		deployExits,
		[]example{
			{"deploygate rollback", "go back one release"},
			{"deploygate rollback v41 --override-marker 'the column is unused'", "go back although a marker forbids it; the reason is recorded"},
		},
	},
	"restart": {
		"Has systemd read the unit's files again if they have changed, restarts the unit, and gates it. What ran before can't be brought back, since it is " +
			"the same release: a failure is held.",
		deployExits,
		[]example{
			{"deploygate restart", "bring in a changed environment file"},
			{"deploygate restart --lock-wait 5m", "wait for another deploy to end first"},
		},
	},
	"check": {
		"Changes nothing. What is wrong is printed to stderr, worst first, the verdict to stdout.",
		lookExits,
		[]example{
			{"deploygate check", "is the live release healthy?"},
			{"deploygate check --output json", "the same, for a machine"},
		},
	},
	"diagnose": {
		"Looks at the unit, its log, its socket, nginx and the host, and asks the app directly and through nginx. The cause comes before what follows from " +
			"it; what isn't known is called unknown, with what was seen. Changes nothing.",
		lookExits,
		[]example{
			{"deploygate diagnose", "why does the site answer 502?"},
			{"deploygate diagnose --app shop --output json", "findings, risks and what couldn't be read, of one of several apps"},
		},
	},
	"plan": {
		"The same as release --dry-run. Changes nothing.",
		lookExits,
		[]example{
			{"deploygate plan v42", "what would release v42 do?"},
			{"deploygate plan v42 --output json", "the same, for a machine: outcome, steps, way_back, prune"},
		},
	},
	"marker": {
		"Reads the migrations of a release, without running them, and says whether the code before it may run after them. A marker written by hand is never " +
			"replaced. Two directories need no host.",
		[]int{0, 1, exitUsage},
		[]example{
			{"deploygate marker v42", "compare with the live release, and write releases/v42/.migration-compat.toml"},
			{"deploygate marker ./new --against ./old --check", "in CI: exit 1 if the way back would be lost"},
		},
	},
	"init": {
		"Writes /etc/deploygate/NAME.toml with what differs from the defaults, each value with where it was read. Nothing that is there is written over, " +
			"and nothing is switched.",
		[]int{0, 1, exitUsage, 7},
		[]example{
			{"deploygate init --print", "show what would be written"},
			{"deploygate init --socket-activation", "a socket unit, so that no request is lost while the app restarts"},
		},
	},
	"status": {
		"Changes nothing.",
		readExits,
		[]example{
			{"deploygate status", "what is live, and what could be gone back to?"},
			{"deploygate status --app shop --output json", "the same of one of several apps, for a machine"},
		},
	},
	"history": {
		"Changes nothing.",
		readExits,
		[]example{
			{"deploygate history", "the last 20 deploys"},
			{"deploygate history --limit 0 --output json", "all of them, for a machine"},
		},
	},
	"prune": {
		"Keeps the last good releases (keep in the configuration), the newest that failed, the live one and the way back, whatever a mount, a process or " +
			"one of these needs, and whatever deploygate never deployed.",
		[]int{0, 1, exitUsage, 6, 7},
		[]example{
			{"deploygate prune --dry-run", "say what would go, and why each of the others stays"},
			{"deploygate prune", "remove it"},
		},
	},
	"recover": {
		"Decides from the record, the link and the unit as they are: back if the schema allows it, else forward, and gated either way. One that ended stuck " +
			"is tried again.",
		deployExits,
		[]example{
			{"deploygate recover", "after a power cut, or when what was in the way of the way back is gone"},
			{"deploygate recover --all", "of every app that has a configuration"},
		},
	},
	"help":    {exits: []int{0, exitUsage}, examples: []example{{"deploygate help", "all commands"}, {"deploygate help release", "one of them"}}},
	"version": {exits: []int{0, exitUsage}, examples: []example{{"deploygate version", "print it"}, {"deploygate --version", "the same"}}},
	"guard":   {exits: []int{0, 1, exitUsage}},
}

// exitsOf are lines for the exit codes that a command may have.
func exitsOf(codes []int) (lines [][2]string) {
	for _, c := range exitCodes {
		for _, code := range codes {
			if code != c.code {
				continue
			}
			var names []string
			for _, o := range c.outcomes {
				names = append(names, string(o))
			}
			lines = append(lines, [2]string{fmt.Sprintf("%d  %s", c.code, strings.Join(names, ", ")), c.host})
		}
	}
	return lines
}

// flagsOf are lines for flags: --name VALUE, and what it is for.
func flagsOf(flags []cli.Flag) (lines [][2]string) {
	for _, f := range flags {
		d, is := f.(cli.DocGenerationFlag)
		if v, hides := f.(cli.VisibleFlag); !is || hides && !v.IsVisible() {
			continue
		}
		var names []string
		for _, n := range f.Names() {
			names = append(names, strings.Repeat("-", min(2, len(n)))+n)
		}
		usage := d.GetUsage()
		_, value, _ := strings.Cut(usage, "`")
		value, _, named := strings.Cut(value, "`")
		usage = strings.ReplaceAll(usage, "`", "")
		if named {
			names[0] += " " + value
		}
		if env := d.GetEnvVars(); len(env) > 0 {
			usage += "; $" + strings.Join(env, ", $")
		}
		if text := d.GetDefaultText(); d.TakesValue() && text != "" && text != `""` && text != "0s" {
			usage += fmt.Sprintf(" (default: %s)", strings.Trim(text, `"`))
		}
		lines = append(lines, [2]string{strings.Join(names, ", "), usage})
	}
	return lines
}

func (c *commands) help() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "say what the commands are, or what one of them does", ArgsUsage: "[COMMAND]",
		Action: func(ctx *cli.Context) error {
			if err := atMost(ctx, 1); err != nil {
				return err
			}
			text := appHelp(ctx.App)
			if name := ctx.Args().First(); name != "" {
				command := ctx.App.Command(name)
				if command == nil {
					return unknownCommand(ctx.App, name)
				}
				text = helpOf(command)
			}
			_, err := io.WriteString(ctx.App.Writer, text)
			return err
		},
	}
}

func (c *commands) version() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version of deploygate",
		Action: func(ctx *cli.Context) error {
			if err := atMost(ctx, 0); err != nil {
				return err
			}
			_, err := fmt.Fprintf(ctx.App.Writer, "%s version %s\n", ctx.App.Name, ctx.App.Version)
			return err
		},
	}
}

// The text of --help is made when it is asked for: each start would pay for it otherwise.
func init() {
	cli.HelpPrinter = func(w io.Writer, _ string, data any) {
		switch of := data.(type) {
		case *cli.App:
			_, _ = io.WriteString(w, appHelp(of))
		case *cli.Command:
			_, _ = io.WriteString(w, helpOf(of))
		}
	}
}

// helpOf is the text of --help of a command.
func helpOf(c *cli.Command) string {
	var b strings.Builder
	m := manuals[c.Name]
	fmt.Fprintf(&b, "%s\n\n  deploygate %s\n", c.Usage, strings.TrimSpace(c.Name+" [FLAGS] "+c.ArgsUsage))
	if m.text != "" {
		fmt.Fprintf(&b, "\n%s\n", wrapped(m.text))
	}
	columns(&b, "Flags", flagsOf(c.Flags))
	columns(&b, "Flags of every command", flagsOf(globalFlags()))
	columns(&b, "Exit codes", exitsOf(m.exits))
	var examples [][2]string
	for _, e := range m.examples {
		examples = append(examples, [2]string{e.command, e.does})
	}
	columns(&b, "Examples", examples)
	return b.String()
}

// appHelp is the text of --help without a command.
func appHelp(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n  deploygate COMMAND [FLAGS] [VERSION]\n", app.Usage)
	var commands [][2]string
	for _, c := range app.Commands {
		if !c.Hidden {
			commands = append(commands, [2]string{strings.TrimSpace(c.Name + " " + c.ArgsUsage), c.Usage})
		}
	}
	columns(&b, "Commands", commands)
	columns(&b, "Flags, before or after the command", flagsOf(app.Flags))
	fmt.Fprintf(&b, "\nOf one command: deploygate COMMAND --help. The configuration, %s/NAME.toml: man deploygate.toml\n", config.Dir)
	return b.String()
}

// columns writes lines of two columns below a title; nothing where there are none.
func columns(b *strings.Builder, title string, lines [][2]string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	t := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(t, "  %s\t%s\n", l[0], l[1])
	}
	_ = t.Flush() // a strings.Builder takes all
}

// wrapped breaks a text into lines that fit a terminal.
func wrapped(text string) string {
	const width = 96
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case at == 0:
		case at+1+len(word) > width:
			b.WriteString("\n")
			at = 0
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}
