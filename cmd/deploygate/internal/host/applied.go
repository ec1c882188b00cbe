package host

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/gate/diagnosis"
	"deploygate/gate/program"
	"deploygate/release"
	"deploygate/release/unit"
)

// askApplied asks Django's own table which migrations the app's databases have. It needs the release's settings, and
// none of its apps.
//
//go:embed applied.py
var askApplied string

const (
	// askLimit bounds the question: a database that is down may let it wait.
	askLimit = 20 * time.Second
	// answered begins the line of the answer; settings may print lines of their own.
	answered = "deploygate applied "
	// maxAnswer bounds the output that is kept, in bytes.
	maxAnswer = 4 << 20
)

// applied asks the app's databases, with the settings of release v, as the unit's user and with its environment, which
// migrations they have. It changes nothing.
func (h *Host) applied(ctx context.Context, v release.Version) (map[string]bool, error) {
	out := program.Head{Limit: maxAnswer}
	dir := h.Deployer.Tree.Dir(v)
	err := h.Manager.Unit(h.Config.Service.Unit).Run(ctx, unit.Command{
		Point: func(path string) string { return pointed(h.tree)(dir, path) },
		Name:  h.Config.App + "-applied", Args: []string{h.python(ctx), "-B", "-c", askApplied},
		Dir: filepath.Join(dir, h.base(ctx)), Timeout: askLimit, Output: &out,
	})
	if err != nil {
		why := err.Error()
		if f := diagnosis.Task(&diagnosis.Facts{}, "", out.String()); f != nil {
			why = f.Summary
		}
		return nil, fmt.Errorf("the database can't be asked with the settings of %s: %s", v, gate.Clean(why))
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		text, is := strings.CutPrefix(line, answered)
		if !is {
			continue
		}
		var names []string
		if err := json.Unmarshal([]byte(text), &names); err != nil {
			return nil, fmt.Errorf("the database's answer with the settings of %s can't be understood: %w", v, err)
		}
		found := map[string]bool{}
		for _, n := range names {
			found[n] = true
		}
		return found, nil
	}
	return nil, fmt.Errorf("the database gave no answer with the settings of %s", v)
}

// python is the interpreter that runs the app.
func (h *Host) python(ctx context.Context) string {
	if d, err := h.Manager.Unit(h.Config.Service.Unit).Describe(ctx); err == nil {
		return cmp.Or(pythonOf(d.Program), "/usr/bin/python3")
	}
	return "/usr/bin/python3"
}

// base is where the app's imports start, relative to its release.
func (h *Host) base(ctx context.Context) string {
	d, err := h.Manager.Unit(h.Config.Service.Unit).Describe(ctx)
	if err != nil {
		return ""
	}
	below, is := strings.CutPrefix(d.WorkingDirectory, h.Deployer.Tree.CurrentPath())
	if !is {
		return ""
	}
	return strings.Trim(below, "/")
}
