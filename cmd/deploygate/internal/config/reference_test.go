package config

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"

	"deploygate/scripts/assert"
)

var update = flag.Bool("update", false, "write the manual page")

// The manual page is what the keys of the configuration say of themselves.
func TestManualPage(t *testing.T) {
	assert.UpToDate(t, "../../../../scripts/packaging/deploygate.toml.5", string(md2man.Render([]byte(page()))), *update)
}

// Each key that is read has a purpose, and nothing else has one.
func TestPurposes(t *testing.T) {
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.key] = true
		if _, said := purposes[s.key]; !said && !sameAsBeforeSwap(s.key) {
			t.Errorf("%s: what is it for?", s.key)
		}
		if s.kind == "" {
			t.Errorf("%s: what may it be?", s.key)
		}
	}
	for key := range purposes {
		if !known[key] {
			t.Errorf("%s isn't read", key)
		}
	}
}

func TestWritten(t *testing.T) {
	c := Defaults("x")
	for _, s := range settings() {
		if s.key == "health.headers" && written(s.fallback) != `{ X-Forwarded-Proto = "https" }` || s.key == "health.status" && written(s.fallback) != "[200]" ||
			s.key == "health.interval" && written(s.fallback) != `"100ms"` || s.key == "keep" && written(s.fallback) != "5" {
			t.Errorf("%s = %s", s.key, s.fallback)
		}
	}
	if c.Keep != 5 {
		t.Error(c.Keep)
	}
}

// settings lists the keys that read takes, in its order.
func settings() []setting {
	d := &document{values: map[string]any{}, taken: map[string]bool{}, lists: true}
	Defaults("NAME").read(d)
	return d.settings
}

// purposes say what each key is for. Where the default isn't what the code has, since it depends on the host, it is said.
var purposes = map[string]string{
	"root":        "The directory with releases/ and the link current.",
	"state_group": "A group whose members may read the record of deploys, and so use status and history without root. \"\": root alone.",
	"state_dir":   "The record of deploys, their lock, and a snapshot of the record, which may be deleted. Run as root, it must not be writable by others.",
	"keep":        "How many good releases prune leaves.",

	"release.require": "Files that a release must have, relative to it. One without is partial, and refused. Unset: manage.py, if the live release has one.",

	"service.unit":    "The app's unit. Its working directory, command or environment goes through the link current.",
	"service.manager": "Whose service manager runs it: the system's, or that of the user who runs deploygate.",
	"service.action": "What is done to the unit after the swap. A reload has to make it read the new release, and needs {version} in " +
		"health.body, since nothing else would prove that it did. The way back is always a restart.",
	"service.restart_timeout": "How long a restart may take. \"\" is what the unit itself allows for stopping and starting, with the units that stop and " +
		"start with it.",

	"health.bind":     "Where the app listens, as gunicorn writes it: \"unix:/run/gunicorn/gunicorn.sock\" or \"127.0.0.1:8000\". \"\" takes it from the unit or, where that doesn't say, from where its processes listen.",
	"health.path":     "The path that answers well when the app is healthy.",
	"health.host":     "The Host header. Django's ALLOWED_HOSTS decides which are answered.",
	"health.headers":  "More headers. X-Forwarded-Proto keeps Django from redirecting to https.",
	"health.status":   "The status codes that count as healthy.",
	"health.body":     "A string that the answer must contain; {version} stands for VERSION. \"\" is any answer.",
	"health.timeout":  "How long one request may take, to the end of the answer.",
	"health.interval": "The time from one request to the next.",
	"health.stable":   "How long the app must be healthy without interruption.",
	"health.deadline": "How long it may take from the restart to healthy.",
	"health.give_up":  "How long the release itself may keep answering wrongly (500, 404, a redirect). 502, 503, 504 and no answer are waited for until deadline.",

	"proxy.kind":          "The server in front of the app. Without this key it is nginx, where that is installed.",
	"proxy.url":           "The health request through the proxy; its path is health.path if it has none, or isn't set. \"\" skips it.",
	"proxy.host":          "The Host header of that request; health.host if this isn't set.",
	"proxy.reload":        "When nginx is reloaded: where its configuration has changed since the deploy began, or never.",
	"proxy.broken_before": "What happens where the proxy is broken before anything is touched: the release is refused, or that is a warning.",
	"proxy.error_log":     "nginx's error log. If this isn't set, it is the one that its configuration names.",

	"rehearse.enabled":      "Whether each release is booted beside the live one first, and has to be healthy there.",
	"rehearse.before_hooks": "Whether that comes before the before_swap hooks, on the schema as it is.",
	"rehearse.workers":      "How many workers it has there.",
	"rehearse.run": "The command for it, where the unit's own can't be rewritten with certainty: argv; {bind} stands for gunicorn's --bind, " +
		"{socket} for the path of that socket, {release} for the release's directory.",

	"rollback.automatic": "Whether a failed release is rolled back without being asked. Otherwise it is held.",
	"rollback.no_marker": "What a release without a marker means: its migrations are read, or the older code may run after it, or it may not.",
	"rollback.applied":   "Whether all migrations are taken to be applied, or the database is asked, with the release's settings.",
	"rollback.guard":     "Whether a deploy goes on where no guard can be started, which finishes it if its process dies, or is refused.",

	"hooks.before_swap": "Commands before the swap, in the new release's directory: migrations, for one. One that fails ends the release; " +
		"what it did stays.",
	"hooks.before_swap.run":     "The command: argv, no shell.",
	"hooks.before_swap.user":    "Who runs it. \"\" is the unit's user, with the unit's groups, limits and sandbox; another user has its environment alone.",
	"hooks.before_swap.timeout": "How long it may take.",
	"hooks.after_release":       "Commands after a release that passed. Their failure is a warning, as of all hooks but before_swap.",
	"hooks.after_rollback":      "Commands after a rollback that passed, whether it was asked for or not.",
	"hooks.on_held":             "Commands where a failed release stays.",
	"hooks.on_stuck":            "Commands where the way back failed as well.",

	"checks":          "Commands that are part of the gate, run as hooks are.",
	"checks.run":      "The command: argv, no shell.",
	"checks.user":     "As a hook's.",
	"checks.timeout":  "How long it may take.",
	"checks.name":     "What the check is called.",
	"checks.required": "Whether its failure fails the release. Otherwise it is a warning.",
}

// sameAsBeforeSwap reports whether a key is one of a hook whose keys are those of before_swap.
func sameAsBeforeSwap(key string) bool {
	return strings.HasPrefix(key, "hooks.") && strings.Count(key, ".") == 2 && !strings.HasPrefix(key, "hooks.before_swap.")
}

// page is deploygate.toml(5), in Markdown as md2man takes it.
func page() string {
	var b strings.Builder
	b.WriteString("% DEPLOYGATE.TOML 5\n\n# NAME\n\ndeploygate.toml - configuration of an app that deploygate deploys\n\n# DESCRIPTION\n\n")
	fmt.Fprintf(&b, "%s/NAME.toml is the configuration of app NAME, in TOML. If there is only one, **--app** isn't needed; without any, the defaults "+
		"below hold, for an app called %q. "+
		"A key that isn't known, a value of the wrong type and one that makes no sense are errors: all of them are reported at once, each with its line and "+
		"column, and nothing is done. "+
		"Durations are like \"100ms\", \"30s\" or \"1m30s\". Run as root, a file that others than root can change is refused, and so is a program outside "+
		"of the releases that it has root run and that others can write.\n\n", Dir, DefaultApp)
	table := "none yet"
	for _, s := range settings() {
		at, name := "", s.key
		if i := strings.LastIndexByte(s.key, '.'); i >= 0 {
			at, name = s.key[:i], s.key[i+1:]
		}
		list := s.kind == "table"
		switch {
		case sameAsBeforeSwap(s.key):
			continue
		case list:
			fmt.Fprintf(&b, "# [[%s]]\n\n%s\n\n", s.key, purposes[s.key])
			table = s.key
			continue
		case at == table:
		case at == "":
			b.WriteString("# TOP LEVEL\n\n")
		default:
			fmt.Fprintf(&b, "# [%s]\n\n", at)
		}
		table = at
		fallback := " Default: " + written(s.fallback) + "."
		if written(s.fallback) == "[]" || s.key == "checks.name" || s.key == "proxy.kind" { // there is none
			fallback = ""
		}
		fmt.Fprintf(&b, "**%s**\n: %s%s.\n: %s%s\n\n", name, strings.ToUpper(s.kind[:1]), s.kind[1:], purposes[s.key], fallback)
	}
	b.WriteString("# ENVIRONMENT OF HOOKS AND CHECKS\n\nThey run as transient units of systemd, in the directory of the release. They have " +
		"**DEPLOYGATE_APP**, **DEPLOYGATE_DEPLOY**, **DEPLOYGATE_VERSION** and **DEPLOYGATE_PREVIOUS**; " +
		"hooks that come after the outcome is known have **DEPLOYGATE_OUTCOME** too.\n\n# FILES\n\n" +
		"*ROOT*/releases/*VERSION*/.migration-compat.toml, a release's marker: **rollback** = \"safe\" or \"blocked\" says whether the code before it may " +
		"run on the schema that it leaves, **reason** why, and **migrations** lists those that decide it.\n\n" +
		"# SEE ALSO\n\n**deploygate**(1), **systemd.exec**(5)\n")
	return b.String()
}

// written is a value as TOML has it.
func written(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case []string:
		var all []string
		for _, s := range v {
			all = append(all, strconv.Quote(s))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case []int:
		return strings.ReplaceAll(fmt.Sprint(v), " ", ", ")
	case map[string]string:
		var all []string
		for name, s := range v {
			all = append(all, name+" = "+strconv.Quote(s))
		}
		slices.Sort(all)
		return "{ " + strings.Join(all, ", ") + " }"
	case time.Duration:
		if v == 0 {
			return `""`
		}
		return strconv.Quote(short(v))
	default:
		return fmt.Sprint(v)
	}
}

// short is a duration without the units that are zero: 5m, not 5m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	return text
}
