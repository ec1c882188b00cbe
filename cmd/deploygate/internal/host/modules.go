package host

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"deploygate/gate/diagnosis"
	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// module is the one that the server imports, and the settings that it is told to use. That they aren't where the live
// release has them is certain only if nothing else can lead to them.
func (c *candidate) module(n server.Names) {
	if _, is := c.next.below(n.Dir); !is {
		return
	}
	roots := append([]string{n.Dir}, n.Path...)
	for _, a := range append(slices.Clone(c.files.Environment), c.evidence.command().Files...) {
		if value, is := strings.CutPrefix(a, "PYTHONPATH="); is {
			roots = append(roots, filepath.SplitList(value)...)
		}
	}
	app, _, _ := strings.Cut(n.App, ":")
	for _, m := range []struct{ name, who string }{
		{app, "ExecStart= of " + c.files.Name}, {c.Unit.SettingsModule, "DJANGO_SETTINGS_MODULE of " + c.files.Name},
	} {
		if !moduleName.MatchString(m.name) || !c.hasLive {
			continue
		}
		at := moduleAt(c.live, roots, m.name)
		if at == "" || moduleAt(c.next, roots, m.name) != "" {
			continue
		}
		rest, is := c.next.below(at)
		if !is || slices.ContainsFunc(c.Next.Needs, func(o diagnosis.Need) bool { return o.Path == rest }) {
			continue
		}
		c.need(diagnosis.Need{Why: m.who + " names " + m.name, Sure: c.onlyThere(m.name, n.Config)}, at,
			func(f pathfinder) string {
				if moduleAt(f, roots, m.name) != "" {
					return ""
				}
				return "does not exist"
			})
	}
}

var moduleName = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$`)

// moduleAt finds the file, or the directory, of a module as Python would; "" if there is none. The path is through the live
// link, if the root's is.
func moduleAt(f pathfinder, roots []string, module string) string {
	name := strings.ReplaceAll(module, ".", "/")
	for _, root := range roots {
		if !filepath.IsAbs(root) {
			continue
		}
		for _, end := range []string{".py", "/__init__.py", ".pyc", ""} {
			at := filepath.Join(root, name+end)
			if found := f.find(at); found.problem == "" && found.info != nil && (end != "" || found.info.IsDir()) {
				return at
			}
		}
	}
	return ""
}

var leadsElsewhere = regexp.MustCompile(`chdir|pythonpath|raw_env|wsgi_app|sys\.path|import`)

// onlyThere reports whether a module of the release can come from nowhere else: neither a configuration file nor an installed
// package leads Python to another place, and the release has it in no other one.
func (c *candidate) onlyThere(module, config string) bool {
	for _, f := range []pathfinder{c.live, c.next} {
		if at := f.find(config); config != "" && at.problem == "" && leadsElsewhere.MatchString(head(at.path)) {
			return false
		}
	}
	tail := strings.ReplaceAll(module, ".", "/")
	top, _, _ := strings.Cut(module, ".")
	entries, err := untrusted.ReadDir(c.Next.Dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		for _, end := range []string{".py", ""} {
			if _, err := untrusted.Stat(filepath.Join(c.Next.Dir, e.Name(), tail+end)); err == nil {
				return false
			}
		}
	}
	sites := []string{"/usr/lib/python3/dist-packages", "/usr/local/lib/python3*/dist-packages", "/usr/local/lib/python3*/site-packages"}
	if program := c.next.find(c.files.Program); program.problem == "" {
		sites = append(sites, filepath.Join(filepath.Dir(filepath.Dir(program.path)), "lib/python3*/site-packages"))
	}
	for _, site := range sites {
		for _, name := range []string{top, top + ".py", "*.egg-link", "__editable__*", top + ".pth"} {
			if found, _ := untrusted.Glob(filepath.Join(site, name)); len(found) > 0 {
				return false
			}
		}
	}
	return true
}
