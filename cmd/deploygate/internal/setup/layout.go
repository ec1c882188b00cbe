package setup

import (
	"fmt"
	"path/filepath"
	"strings"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/setup/socketunit"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
	"deploygate/release/server/servers"
	"deploygate/release/unit"
)

// LayoutError says that an app isn't laid out in releases, and how it can be.
type LayoutError struct {
	why   string
	Steps []string // commands for a shell, in their order
	Notes []string // what has to be seen to before
}

func (e *LayoutError) Error() string { return e.why }

// newLayout says how the app of a unit that goes through no link comes to one: its code is copied into a first release, and its unit
// works there. What its command names elsewhere, as a virtual environment, stays where it is.
func newLayout(a App, scope unit.Scope) error {
	d := a.Unit
	if info, err := untrusted.Stat(a.Dir); a.Dir == "" || a.Dir == "/" || err != nil || !info.IsDir() {
		return &LayoutError{why: fmt.Sprintf("%s goes through no link that is called current, so a swap would change nothing, and where its code is isn't known: "+
			"set WorkingDirectory=ROOT/current in it", d.Name)}
	}
	name := nameOf(a.Dir, d.Name)
	root, dropIn := freeRoot("/srv", name), filepath.Join("/etc/systemd/system", d.Name+".d", "current.conf")
	if scope == unit.User {
		home := config.HomeDir()
		root, dropIn = freeRoot(home, name), filepath.Join(home, ".config/systemd/user", d.Name+".d", "current.conf")
	}
	if server.Below(root, a.Dir) {
		return &LayoutError{why: fmt.Sprintf("%s runs %s itself, which has other things in it: give the app a directory of its own first", d.Name, a.Dir)}
	}
	link := filepath.Join(root, "current")
	lines := []string{"[Service]", "WorkingDirectory=" + socketunit.Word(link)}
	notes := []string{
		fmt.Sprintf("what the app writes below %s (uploads, a SQLite database) has to be moved out of it first, or each release gets a copy of its own", a.Dir),
	}
	switch command, changed := pointedAt(d.ExecStart, d.Program, a.Dir, link); {
	// Others' words may be secret, a shell's line is not taken apart, and a drop-in's command would lose its prefix.
	case changed && (servers.Name(server.CommandOf(d)) != filepath.Base(d.Program) || d.ExecStartPrefix != ""):
		notes = append(notes, fmt.Sprintf("ExecStart= of %s names %s, and has to name %s instead", d.Name, a.Dir, link))
	case changed:
		lines = append(lines, "ExecStart=", "ExecStart="+command)
	}
	systemctl := "systemctl"
	if scope == unit.User {
		systemctl += " --user"
	}
	words := make([]string, len(lines))
	for i, line := range lines {
		words[i] = socketunit.Quoted(line)
	}
	return &LayoutError{
		why: fmt.Sprintf("%s runs %s, and goes through no link that is called current, so that there is nothing to swap", d.Name, a.Dir),
		Steps: []string{
			"mkdir -p " + socketunit.Quoted(filepath.Join(root, "releases")),
			fmt.Sprintf("cp -a %s %s", socketunit.Quoted(a.Dir), socketunit.Quoted(filepath.Join(root, "releases", "v1"))),
			"ln -s releases/v1 " + socketunit.Quoted(link),
			"mkdir -p " + socketunit.Quoted(filepath.Dir(dropIn)),
			fmt.Sprintf("printf '%%s\\n' %s > %s", strings.Join(words, " "), socketunit.Quoted(dropIn)),
			systemctl + " daemon-reload",
			systemctl + " restart " + socketunit.Quoted(d.Name),
			"deploygate init",
		},
		Notes: notes,
	}
}

// freeRoot is a directory for the releases that isn't there yet.
func freeRoot(dir, name string) string {
	for _, end := range []string{"", "-site", "-releases"} {
		root := filepath.Join(dir, name+end)
		if _, err := untrusted.Lstat(root); err != nil {
			return root
		}
	}
	return filepath.Join(dir, name+"-deploygate")
}

// pointedAt points the arguments of a command that lead into a directory to the link instead. Its program stays.
func pointedAt(args []string, program, dir, link string) (command string, changed bool) {
	words := []string{socketunit.Word(program)}
	for i, arg := range args {
		if i == 0 {
			continue
		}
		for _, before := range []string{"", "="} {
			head, rest, found := strings.Cut(arg, before+dir)
			if found && (before != "" || head == "") && (rest == "" || rest[0] == '/' || rest[0] == ',') {
				arg, changed = head+before+link+rest, true
				break
			}
		}
		words = append(words, socketunit.Word(arg))
	}
	return strings.Join(words, " "), changed
}
