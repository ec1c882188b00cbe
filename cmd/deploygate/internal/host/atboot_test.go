package host

import (
	"strings"
	"testing"

	"deploygate/release/unit"
)

func TestRecoveryAtBoot(t *testing.T) {
	fits := func() atBoot {
		u := unit.AtBoot{
			LoadState: "loaded", FileState: "enabled", Program: "/usr/local/bin/deploygate", Configured: true,
			After: []string{"local-fs.target", "srv.mount"},
			Conditions: []unit.Condition{
				{Type: "ConditionPathExistsGlob", Alternative: true, Parameter: "/etc/deploygate/*.toml"},
				{Type: "ConditionDirectoryNotEmpty", Alternative: true, Parameter: "/var/lib/deploygate"},
			},
		}
		b := atBoot{
			boot: u, recover: u, app: "gunicorn.service", config: "/etc/deploygate/shop.toml", known: true,
			state: "/data/shop", exists: func(string) bool { return true },
		}
		b.boot.Name, b.recover.Name = bootUnit, recoverUnit
		return b
	}
	mount := func(name string, before ...string) []mountsOf {
		return []mountsOf{{"/srv/app", []unit.AtBoot{{Name: name, Configured: true, Before: before}}}}
	}
	old := []unit.Condition{{Type: "ConditionDirectoryNotEmpty", Parameter: "/var/lib/deploygate"}}
	for name, c := range map[string]struct {
		change       func(b *atBoot)
		problem, fix string // "": nothing is wrong
	}{
		"all is well":                 {func(*atBoot) {}, "", ""},
		"neither installed":           {func(b *atBoot) { b.boot.LoadState, b.recover.LoadState = "not-found", "not-found" }, "deploygate-boot.service and deploygate-recover.service are not installed", "install -m 644"},
		"one not installed":           {func(b *atBoot) { b.recover.LoadState = "not-found" }, "deploygate-recover.service is not installed", "systemctl enable deploygate-recover.service"},
		"masked":                      {func(b *atBoot) { b.boot.LoadState = "masked" }, "deploygate-boot.service is masked", "systemctl unmask deploygate-boot.service"},
		"not enabled":                 {func(b *atBoot) { b.boot.FileState = "disabled" }, "deploygate-boot.service is not enabled", "systemctl enable deploygate-boot.service"},
		"enabled until the next boot": {func(b *atBoot) { b.recover.FileState = "enabled-runtime" }, "deploygate-recover.service is not enabled", "systemctl enable deploygate-recover.service"},
		"only linked":                 {func(b *atBoot) { b.boot.FileState = "linked" }, "deploygate-boot.service is not enabled", "systemctl enable"},
		"started by another unit":     {func(b *atBoot) { b.boot.FileState = "static" }, "", ""},
		"another program":             {func(b *atBoot) { b.exists = func(string) bool { return false } }, "runs /usr/local/bin/deploygate, which does not exist", "systemctl edit --full"},
		"an old unit":                 {func(b *atBoot) { b.boot.Conditions = old }, "ConditionDirectoryNotEmpty=/var/lib/deploygate", "install -m 644"},
		"an old unit, default state":  {func(b *atBoot) { b.boot.Conditions, b.state = old, "/var/lib/deploygate/shop" }, "", ""},
		"no configuration":            {func(b *atBoot) { b.config, b.state = "", "/var/lib/deploygate/app" }, "", ""},
		"neither condition":           {func(b *atBoot) { b.config = "/opt/shop.toml" }, "ConditionPathExistsGlob=/etc/deploygate/*.toml, ConditionDirectoryNotEmpty=/var/lib/deploygate", "install"},
		"a name alike":                {func(b *atBoot) { b.boot.Conditions, b.state = old, "/var/lib/deploygate-2/shop" }, "ConditionDirectoryNotEmpty", ""},
		"a configuration elsewhere": {
			func(b *atBoot) { b.config, b.known, b.state = "/opt/shop.toml", false, "/var/lib/deploygate/shop" },
			"this one is /opt/shop.toml", "mv /opt/shop.toml /etc/deploygate/NAME.toml",
		},
		"a condition of another kind": {func(b *atBoot) {
			b.boot.Conditions = []unit.Condition{{Type: "ConditionVirtualization", Parameter: "vm"}}
		}, "", ""},
		"a local mount":          {func(b *atBoot) { b.mounts = mount("srv-app.mount", "local-fs.target") }, "", ""},
		"one that is waited for": {func(b *atBoot) { b.mounts = mount("srv.mount") }, "", ""},
		"nofail":                 {func(b *atBoot) { b.mounts = mount("srv-app.mount") }, "does not wait for srv-app.mount", "RequiresMountsFor=/srv/app"},
		"over the network":       {func(b *atBoot) { b.mounts = mount("srv-app.mount", "remote-fs.target") }, "comes with the network", "local file system"},
		"mounted by hand":        {func(b *atBoot) { b.mounts = []mountsOf{{"/srv/app", []unit.AtBoot{{Name: "srv-app.mount"}}}} }, "", ""},
		"a user's unit":          {func(b *atBoot) { b.ofUser, b.boot.LoadState = true, "not-found" }, "deploygate-boot.service is not installed", "-t ~/.config/systemd/user scripts/packaging/user/deploygate-*.service; systemctl --user daemon-reload; systemctl --user enable deploygate-boot.service"},
	} {
		t.Run(name, func(t *testing.T) {
			b := fits()
			c.change(&b)
			got := b.judge()
			if (got.Problem == "") != (c.problem == "") || !strings.Contains(got.Problem, c.problem) || !strings.Contains(got.Fix, c.fix) {
				t.Errorf("%q, %q; want …%q…, …%q…", got.Problem, got.Fix, c.problem, c.fix)
			}
		})
	}
}
