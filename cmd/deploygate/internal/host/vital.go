package host

import (
	"context"
	"path"
	"strings"
)

// vital has the files of a release that can't be empty since the live unit loads them by name: the module that its
// command names, and Django's settings. Where the unit says nothing of them there are none.
func (h *Host) vital(ctx context.Context) (files []string) {
	d, err := h.Manager.Unit(h.Config.Service.Unit).Describe(ctx)
	if err != nil {
		return nil
	}
	base, below := strings.CutPrefix(d.WorkingDirectory, h.tree.CurrentPath())
	if !below {
		return nil
	}
	environment := d.Environment
	for _, f := range d.EnvironmentFiles {
		environment = append(environment, assignments(f.Path)...)
	}
	var modules []string
	for _, a := range environment {
		if settings, is := strings.CutPrefix(a, "DJANGO_SETTINGS_MODULE="); is {
			modules = append(modules, settings)
		}
	}
	for _, word := range d.ExecStart {
		if module, attribute, is := strings.Cut(word, ":"); is && isModule(module) && attribute != "" && !strings.HasPrefix(attribute, "/") {
			modules = append(modules, module)
		}
	}
	for _, module := range modules {
		file := path.Join(strings.Trim(base, "/"), strings.ReplaceAll(module, ".", "/"))
		files = append(files, file+".py", file+"/__init__.py")
	}
	return files
}

// isModule reports whether a word may be the name of a Python module, and not a path, an address or an option.
func isModule(word string) bool {
	for part := range strings.SplitSeq(word, ".") {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) || part[0] >= '0' && part[0] <= '9' {
			return false
		}
	}
	return true
}
