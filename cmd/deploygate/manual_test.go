package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/release/deploy"
	"deploygate/scripts/assert"
)

var update = flag.Bool("update", false, "write the manual pages")

// What is said of a command is all there, and its examples are commands that can be typed.
func TestManuals(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	names := map[string]bool{}
	for _, c := range app.Commands {
		names[c.Name] = true
		m := manuals[c.Name]
		if len(m.exits) == 0 || !c.Hidden && (len(m.examples) < 2 || c.Usage == "") {
			t.Errorf("%s: %+v", c.Name, m)
		}
		for _, e := range m.examples {
			if _, err := arrange(app, strings.Fields(e.command)); err != nil || !strings.HasPrefix(e.command, "deploygate "+c.Name) && c.Name != "version" {
				t.Errorf("%s: %v", e.command, err)
			}
			for word := range strings.FieldsSeq(e.command) {
				if name, is := strings.CutPrefix(word, "--"); is && find(append(app.Flags, c.Flags...), name) == nil && name != "version" {
					t.Errorf("%s: there is no flag --%s", e.command, name)
				}
			}
		}
	}
	for name := range manuals {
		if !names[name] {
			t.Errorf("there is no command %s", name)
		}
	}
	for _, c := range exitCodes {
		for _, o := range c.outcomes {
			if o != "usage" && o.ExitCode() != c.code {
				t.Errorf("%s is %d, not %d", o, o.ExitCode(), c.code)
			}
		}
	}
	if len(exitCodes) != deploy.Unknown.ExitCode()+1 {
		t.Error("an exit code is missing")
	}
}

// The manual page is what the commands say of themselves.
func TestManualPage(t *testing.T) {
	assert.UpToDate(t, "../../scripts/packaging/deploygate.1", string(md2man.Render([]byte(page(newApp(io.Discard, io.Discard))))), *update)
}

// page is deploygate(1), in Markdown as md2man takes it.
func page(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% DEPLOYGATE 1\n\n# NAME\n\ndeploygate - %s\n\n# SYNOPSIS\n\n**deploygate** *COMMAND* [*FLAGS*] [*VERSION*]\n\n# DESCRIPTION\n\n", app.Usage)
	b.WriteString("Releases stand in *ROOT*/releases/*VERSION*, and the symlink *ROOT*/current names the live one, through which a systemd unit runs the app. " +
		"Progress and what is wrong go to standard error; the verdict is one line on standard output, or with **--output json** one document. " +
		"An interruption after the swap counts as a failed gate: no deploy ends half-way, and one whose process dies is finished by a guard, by the next " +
		"deploy, or at boot.\n\n# COMMANDS\n\n")
	definitions := func(lines [][2]string) {
		for _, l := range lines {
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", l[0], l[1])
		}
	}
	var examples [][2]string
	for _, c := range app.Commands {
		if c.Hidden {
			continue
		}
		m := manuals[c.Name]
		fmt.Fprintf(&b, "## %s\n\n%s%s. %s\n\n", strings.TrimSpace(c.Name+" "+c.ArgsUsage), strings.ToUpper(c.Usage[:1]), c.Usage[1:], m.text)
		definitions(flagsOf(c.Flags))
		for _, e := range m.examples {
			examples = append(examples, [2]string{e.command, e.does})
		}
	}
	b.WriteString("# OPTIONS\n\nOf every command, before or after its words:\n\n")
	definitions(flagsOf(app.Flags))
	b.WriteString("# EXIT STATUS\n\n")
	definitions(exitsOf(deployExits))
	b.WriteString("# EXAMPLES\n\n")
	definitions(examples)
	fmt.Fprintf(&b, "# FILES\n\n**%s/NAME.toml**\n: the configuration of app NAME, see **deploygate.toml**(5)\n\n**/var/lib/deploygate/NAME**\n: the "+
		"record of its deploys, and their lock\n\n", config.Dir)
	b.WriteString("# SEE ALSO\n\n**deploygate.toml**(5), **systemd.service**(5), **nginx**(8)\n")
	return b.String()
}
