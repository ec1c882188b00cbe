package host

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/socket"
	"deploygate/gate/untrusted"
	"deploygate/release/deploy"
	"deploygate/release/journal"
)

// look implements deploy.Deployer.Look: at the host, and at what the unit, nginx and the app's environment will find behind
// the live link once it names the target. It ends in time, also where a file system doesn't answer.
func (h *Host) look(ctx context.Context, p deploy.Plan, hooked bool) deploy.Look {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	done := make(chan deploy.Look, 1)
	go func() { done <- h.lookAt(limited, p, hooked) }()
	select {
	case l := <-done:
		return l
	case <-limited.Done():
	}
	if ctx.Err() != nil {
		return deploy.Look{} // it was interrupted, which is said
	}
	f := gate.NewFinding(gate.LayerRelease, gate.Unknown, fmt.Sprintf("what %s needs on this host could not be looked at within %s", p.Target, lookLimit))
	return deploy.Look{Risks: []*gate.Finding{f.Advise("see which file system doesn't answer: df")}}
}

func (h *Host) lookAt(ctx context.Context, p deploy.Plan, hooked bool) deploy.Look {
	_, expect, _ := h.Live(ctx) // where nothing is live the unit's files can be looked at all the same
	v := h.survey(ctx, expect)
	c := &candidate{evidence: v, plan: p, hooked: hooked}
	if !c.begin() {
		return deploy.Look{Risks: diagnosis.Risks(&v.Facts)}
	}
	c.unit(ctx)
	c.proxy()
	c.links()
	c.tasks()
	lacks, doubtful := diagnosis.Lacks(&v.Facts)
	return deploy.Look{Stops: diagnosis.Stops(&v.Facts), Lacks: lacks, Risks: append(diagnosis.Later(&v.Facts), doubtful...)}
}

// diagnose implements deploy.Deployer.Diagnose.
func (h *Host) diagnose(ctx context.Context) []*gate.Finding {
	_, expect, wrong := h.Live(ctx)
	return h.Examine(ctx, expect).Diagnose(wrong)
}

const leads = " leads there"

// candidate is a release that is looked at.
type candidate struct {
	*evidence
	plan   deploy.Plan
	hooked bool // its before_swap hooks have run

	next, live pathfinder
	dirs       []string // where programs are looked for
	who        socket.Identity
	before     [][]string // the commands that run before the unit's own
	hasLive    bool
}

// begin finds the two releases. It is false where the candidate isn't there.
func (c *candidate) begin() bool {
	dir, err := c.tree.RealDir(c.plan.Target)
	if err != nil {
		return false
	}
	c.Next = &diagnosis.Candidate{Version: string(c.plan.Target), Dir: dir}
	c.next, c.dirs = c.pathfinder(dir), c.programDirs()
	if was, err := c.tree.RealDir(c.plan.Previous); err == nil && c.plan.Previous != "" {
		c.live, c.hasLive, c.Next.Live = c.pathfinder(was), true, string(c.plan.Previous)
	}
	c.who = c.identity() // unknown: its rights are not looked at
	c.before = c.files.Around
	return true
}

// need notes something that has to be there, if it lies behind the live link. Where another release would be asked for the
// same twice, the first counts.
func (c *candidate) need(n diagnosis.Need, path string, problem func(f pathfinder) string) {
	rest, is := c.next.through(path)
	if !is || n.Path == "" && slices.ContainsFunc(c.Next.Needs, func(o diagnosis.Need) bool { return o.Path == rest }) {
		return
	}
	if n.Path = cmp.Or(n.Path, rest); n.Cause == "" {
		n.Cause = gate.PartialRelease
	}
	if n.Problem = problem(c.next); n.Problem == "" {
		return
	}
	if n.Live = "does not exist"; c.hasLive {
		n.Live = problem(c.live)
	}
	n.Pending = n.Pending || c.mayBeMade(n, c.hooksToCome())
	c.Next.Needs = append(c.Next.Needs, n)
}

// hooksToCome are the commands of the before_swap hooks that are still to run.
func (c *candidate) hooksToCome() (commands [][]string) {
	if c.hooked || c.plan.Command != deploy.Release {
		return nil
	}
	for _, t := range c.Config.Hooks[deploy.BeforeSwap] {
		commands = append(commands, t.Run)
	}
	return commands
}

func (c *candidate) mayBeMade(n diagnosis.Need, by [][]string) bool {
	return slices.ContainsFunc(by, func(argv []string) bool { return diagnosis.MayMake(argv, n) })
}

func exist(path string) func(pathfinder) string {
	return func(f pathfinder) string { return f.find(path).problem }
}

func isDirectory(path string) func(pathfinder) string {
	return func(f pathfinder) string { return f.directory(path) }
}

// unit is what systemd itself needs, and what it starts.
func (c *candidate) unit(ctx context.Context) {
	d := c.files
	of := " of " + d.Name
	for _, f := range d.EnvironmentFiles {
		if !strings.ContainsAny(f.Path, "*?[") {
			c.need(diagnosis.Need{Cause: gate.EnvFileMissing, Why: "EnvironmentFile=" + of + leads, Stops: !f.Optional}, f.Path, exist(f.Path))
		}
	}
	needs, err := c.Manager.Unit(d.Name).Needs(ctx)
	if err != nil || needs.Elsewhere {
		return // what its processes find there isn't what can be seen from here
	}
	c.need(diagnosis.Need{Cause: gate.ExecMissing, Why: "ExecStart=" + of + leads, Stops: true}, d.Program,
		func(f pathfinder) string { return f.program(d.Program, c.dirs) })
	c.need(diagnosis.Need{Cause: gate.WorkingDirectoryMissing, Why: "WorkingDirectory=" + of + leads, Stops: !d.DirectoryOptional}, d.WorkingDirectory,
		func(f pathfinder) string { return f.enterProblem(d.WorkingDirectory, c.who) })
	for _, p := range needs.Paths {
		named := c.needed(p)
		c.need(diagnosis.Need{Cause: named.Cause, Why: p.Setting + of + leads, Stops: true}, named.Path,
			func(f pathfinder) string { return f.needed(p, c.dirs) })
	}
	c.command()
	c.environment()
}

// command is what the server's arguments lead to.
func (c *candidate) command() {
	const who = "ExecStart= of "
	d := c.files
	names, err := serverOf(d).Read(c.evidence.command())
	var outputs []string
	if err == nil {
		outputs = names.Outputs
		if names.Chdir {
			c.need(diagnosis.Need{Cause: gate.BadOption, Why: "--chdir in " + who + d.Name + leads, Stops: true}, names.Dir, isDirectory(names.Dir))
		}
		if names.Given {
			c.need(diagnosis.Need{Cause: gate.BadOption, Why: "--config in " + who + d.Name + leads, Stops: true}, names.Config, exist(names.Config))
		} else if names.Config != "" {
			c.need(diagnosis.Need{Why: "gunicorn reads it by default"}, names.Config, exist(names.Config))
		}
		for _, out := range outputs {
			dir := filepath.Dir(out)
			n := diagnosis.Need{Cause: gate.SocketMissing, Why: fmt.Sprintf("%s%s has gunicorn make %s there", who, d.Name, filepath.Base(out))}
			n.Sure = !c.mayBeMade(n, c.before)
			c.need(n, dir, isDirectory(dir))
		}
		c.module(names)
	}
	if script := c.script(); script != "" {
		c.need(diagnosis.Need{Cause: gate.ExecMissing, Why: who + d.Name + leads, Sure: true}, script, exist(script))
	}
	for _, word := range d.ExecStart[min(1, len(d.ExecStart)):] {
		if _, value, found := strings.Cut(word, "="); found && strings.HasPrefix(word, "-") {
			word = value
		}
		if word = filepath.Clean(word); filepath.IsAbs(word) && !slices.Contains(outputs, word) {
			c.need(diagnosis.Need{Why: who + d.Name + leads, Files: true}, word, exist(word))
		}
	}
}

var runsScript = regexp.MustCompile(`^(python|pypy)\d*(\.\d+)*$|^(ba|da|z|k)?sh$`)

// script is the one that the unit has an interpreter run; "" if it has none, or it isn't known.
func (c *candidate) script() string {
	d := c.files
	if len(d.ExecStart) < 2 || !runsScript.MatchString(filepath.Base(d.Program)) ||
		strings.ContainsAny(d.ExecStart[1], "$ ") || strings.HasPrefix(d.ExecStart[1], "-") {
		return ""
	}
	if filepath.IsAbs(d.ExecStart[1]) {
		return d.ExecStart[1]
	}
	return filepath.Join(d.WorkingDirectory, d.ExecStart[1])
}

// environment is what the app's environment leads to.
func (c *candidate) environment() {
	l := c.evidence.command()
	for _, a := range append(slices.Clone(l.Environment), l.Files...) {
		name, value, _ := strings.Cut(a, "=")
		if name == "PATH" {
			continue
		}
		for _, p := range filepath.SplitList(value) {
			if filepath.IsAbs(p) {
				c.need(diagnosis.Need{Why: name + " in the environment of " + c.files.Name + leads, Files: true}, p, exist(p))
			}
		}
	}
}

// proxy is what nginx's configuration leads to. What it loads, and its lists of passwords, are there or aren't; directories
// that it serves files from may be made by the app as it runs.
func (c *candidate) proxy() {
	if c.proxyConfig == nil {
		return
	}
	for _, link := range c.next.links {
		for _, p := range c.proxyConfig.Paths(link) {
			if p.Path == link {
				continue
			}
			n := diagnosis.Need{Why: fmt.Sprintf("nginx's %s (%s)%s", p.Directive, p.At, leads), Sure: true, Files: p.Dir}
			n.Advice = "or take it out of nginx's configuration first, if it is meant to be gone: " + p.At
			if p.Dir {
				n.Sure = c.broughtAlong(p.Path)
			}
			c.need(n, p.Path, exist(p.Path))
		}
	}
}

// broughtAlong reports whether something of the live release was there before that release went live: then it was uploaded, or
// made by a hook, and not by the app. It is known only of a release that went live once.
func (c *candidate) broughtAlong(path string) bool {
	rest, _ := c.live.below(path)
	var made, swapped unix.Statx_t
	link := c.tree.CurrentPath()
	if !c.hasLive || unix.Statx(unix.AT_FDCWD, filepath.Join(c.live.to, rest), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &made) != nil ||
		unix.Statx(unix.AT_FDCWD, link, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_CTIME, &swapped) != nil || made.Mask&unix.STATX_BTIME == 0 {
		return false
	}
	history, err := journal.Load(c.Deployer.StateDir)
	if err != nil {
		return false
	}
	times := 0
	for _, l := range history.Seen(c.plan.Previous).Activations() {
		if l.Version == c.plan.Previous && !l.HooksOnly {
			times++
		}
	}
	return times == 1 && instant(made.Btime).Before(instant(swapped.Ctime)) // of its rename: it may have been made long before
}

// The bounds of the look at a release's links: entries, and directories within each other.
const (
	maxLinkEntries = 5000
	maxLinkDepth   = 2
)

// links are those in the release whose counterparts in the live one lead somewhere, and its .env, which code may read by
// itself.
func (c *candidate) links() {
	if !c.hasLive || c.plan.Live() {
		return
	}
	left := maxLinkEntries
	var walk func(below string, depth int)
	walk = func(below string, depth int) {
		entries, _ := untrusted.ReadDir(filepath.Join(c.live.to, below)) // what can be read of it
		for _, e := range entries {
			if left--; left < 0 {
				return
			}
			rest := filepath.Join(below, e.Name())
			switch {
			case e.IsDir():
				if depth < maxLinkDepth && !slices.Contains(notCode, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
					walk(rest, depth+1)
				}
			case e.Type()&os.ModeSymlink != 0:
				c.link(rest)
			case e.Name() == ".env" && depth == 0:
				c.need(diagnosis.Need{Why: "the app may read it"}, filepath.Join(c.tree.CurrentPath(), rest), exist(filepath.Join(c.tree.CurrentPath(), rest)))
			}
		}
	}
	walk(".", 0)
}

// link compares one link of the live release that leads out of it with the candidate's: one that leads nowhere was meant to
// lead somewhere, and one that is missing may be.
func (c *candidate) link(rest string) {
	path := filepath.Join(c.tree.CurrentPath(), rest)
	at := c.live.find(path)
	if at.problem != "" || strings.HasPrefix(at.path, c.live.to+"/") {
		return
	}
	own, err := untrusted.Lstat(filepath.Join(c.Next.Dir, rest))
	dangles := err == nil && own.Mode()&os.ModeSymlink != 0
	n := diagnosis.Need{Why: fmt.Sprintf("that of %s leads to %s", c.Next.Live, at.path), Sure: dangles}
	c.need(n, path, exist(path))
}
