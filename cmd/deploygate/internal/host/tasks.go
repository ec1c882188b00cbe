package host

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/socket"
	"deploygate/release/deploy"
)

// tasks are the user's commands: a program that isn't there fails them.
func (c *candidate) tasks() {
	var earlier [][]string
	if c.plan.Command == deploy.Release && !c.hooked {
		for _, t := range c.Config.Hooks[deploy.BeforeSwap] {
			// Before the swap, what goes through the live link leads to the live release.
			c.task("before_swap hook", t, c.pathfinder(""), earlier, true)
			earlier = append(earlier, t.Run)
		}
	}
	if run := c.Config.Rehearse.Run; len(run) > 0 && c.Config.Rehearse.Enabled && c.plan.Command == deploy.Release && !c.plan.Live() {
		run = slices.Clone(run)
		run[0] = strings.ReplaceAll(run[0], "{release}", c.Next.Dir)
		c.task("[rehearse] run", deploy.Task{Name: strings.Join(run, " "), Run: run}, c.pathfinder(""), earlier, true)
	}
	for _, check := range c.Config.Checks {
		c.task("check", check.Task, c.next, earlier, check.Required)
	}
	after := map[deploy.Command][]deploy.HookName{
		deploy.Release: {deploy.AfterRelease, deploy.OnHeld, deploy.OnStuck}, deploy.Rollback: {deploy.AfterRollback, deploy.OnHeld, deploy.OnStuck},
		deploy.Restart: {deploy.OnHeld, deploy.OnStuck},
	}
	for _, hook := range after[c.plan.Command] {
		for _, t := range c.Config.Hooks[hook] {
			c.task(string(hook)+" hook", t, c.next, earlier, false)
		}
	}
}

func (c *candidate) task(what string, t deploy.Task, f pathfinder, earlier [][]string, needed bool) {
	program, err := findProgram(t.Run[0], c.Next.Dir)
	n := diagnosis.Need{
		Cause: gate.ExecMissing, Why: fmt.Sprintf("the %s %q runs it", what, t.Name), Path: program, Host: true, Stops: needed, Said: !needed,
		Advice: fmt.Sprintf("correct run in %s, or install it", cmp.Or(c.Config.File, "the configuration")),
	}
	if rest, is := strings.CutPrefix(program, c.Next.Dir+"/"); is {
		n.Path, n.Host = rest, false
	}
	if err != nil {
		n.Path, n.Problem = t.Run[0], "is in none of the directories of programs"
	} else {
		n.Problem = cmp.Or(f.program(program, c.dirs), c.closed(f, program, t.User))
	}
	if n.Problem == "" {
		return
	}
	n.Live, n.Pending = "does not exist", c.mayBeMade(n, earlier) && (needed || !n.Host)
	c.Next.Needs = append(c.Next.Needs, n)
}

// closed says why a task's user can't get to its program.
func (c *candidate) closed(f pathfinder, program, name string) string {
	who := c.who
	if name != "" {
		var err error
		if who, err = socket.OfUser(name); err != nil {
			return ""
		}
	}
	at := f.find(program)
	if who.Name == "" || at.info == nil {
		return ""
	}
	if w := socket.Reach(filepath.Join(filepath.Dir(at.path), "x"), who); w.Denied != "" && w.Need == socket.NeedSearch {
		return fmt.Sprintf("can't be reached by %s (%s)", who.Name, w.Denied)
	}
	return ""
}
