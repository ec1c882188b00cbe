package host

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/gate/diagnosis"
	"deploygate/gate/untrusted"
	"deploygate/release/unit"
)

// The units that finish at boot what a power cut interrupted.
const (
	bootUnit    = "deploygate-boot.service"
	recoverUnit = "deploygate-recover.service"
)

// atBoot is what decides whether a deploy that a power cut interrupts is put right at the next boot.
type atBoot struct {
	boot, recover unit.AtBoot
	app           string // its unit
	ofUser        bool   // the user's own service manager runs it
	config        string // the configuration file; "" without one
	known         bool   // it is one of those that recover --all goes through
	state         string // the state directory
	exists        func(program string) bool
	mounts        []mountsOf
}

// mountsOf are the mounts that a path lies on.
type mountsOf struct {
	path   string
	mounts []unit.AtBoot
}

// recovery looks at the units that finish a deploy at boot.
func (v *evidence) recovery(ctx context.Context) {
	c := v.Config
	b := atBoot{
		app: c.Service.Unit, ofUser: c.Service.Manager == unit.User, state: c.StateDir, known: c.File == "",
		exists: func(program string) bool { return missingReason(program) == "" },
	}
	if file, err := filepath.Abs(c.File); err == nil && c.File != "" {
		files, err := config.Files(config.OwnDir())
		b.config, b.known = file, err != nil || slices.Contains(files, file)
	}
	paths := []string{resolved(c.Root), resolved(b.state)}
	if b.ofUser {
		paths = nil // what a user's manager starts comes after all mounts
	}
	if err := b.look(ctx, v.Manager, paths...); err != nil {
		v.unread("the units for the boot", err, "systemctl status "+bootUnit+" "+recoverUnit)
		return
	}
	v.Recovery = b.judge()
}

func (b *atBoot) look(ctx context.Context, m *unit.Manager, paths ...string) (err error) {
	if b.boot, err = m.Unit(bootUnit).AtBoot(ctx); err != nil {
		return err
	}
	if b.recover, err = m.Unit(recoverUnit).AtBoot(ctx); err != nil {
		return err
	}
	for _, path := range paths {
		mounts, err := m.MountsOf(ctx, path)
		if err != nil {
			return err
		}
		b.mounts = append(b.mounts, mountsOf{path, mounts})
	}
	return nil
}

// resolved is a path with its links resolved as far as it exists.
func resolved(path string) string {
	real, err := untrusted.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && path != "/" {
		return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
	}
	if err != nil {
		return path
	}
	return real
}

// judge says the first thing that keeps such a deploy from being put right; the zero value: nothing is known.
func (b atBoot) judge() diagnosis.Recovery {
	reinstall, systemctl, configs := "install -m 644 scripts/packaging/deploygate-*.service /etc/systemd/system/", "systemctl", config.Dir
	if b.ofUser {
		reinstall = "install -Dm 644 -t ~/.config/systemd/user scripts/packaging/user/deploygate-*.service"
		systemctl, configs = "systemctl --user", "~/.config/deploygate"
	}
	units := []unit.AtBoot{b.boot, b.recover}
	named := func(is func(unit.AtBoot) bool) (names []string) {
		for _, u := range units {
			if is(u) {
				names = append(names, u.Name)
			}
		}
		return names
	}
	stays := b.app + " may stay on the release that failed"
	if absent := named(func(u unit.AtBoot) bool { return u.LoadState == "not-found" }); absent != nil {
		return diagnosis.Recovery{
			Problem: stays + ": " + these(absent) + " not installed",
			Fix:     reinstall + "; " + systemctl + " daemon-reload; " + systemctl + " enable " + strings.Join(absent, " "),
		}
	}
	if masked := named(func(u unit.AtBoot) bool { return u.LoadState == "masked" }); masked != nil {
		names := strings.Join(masked, " ")
		return diagnosis.Recovery{Problem: stays + ": " + these(masked) + " masked", Fix: systemctl + " unmask " + names + "; " + systemctl + " enable " + names}
	}
	disabled := named(func(u unit.AtBoot) bool {
		return slices.Contains([]string{"disabled", "enabled-runtime", "linked", "linked-runtime"}, u.FileState)
	})
	if disabled != nil {
		return diagnosis.Recovery{Problem: stays + ": " + these(disabled) + " not enabled", Fix: systemctl + " enable " + strings.Join(disabled, " ")}
	}
	for _, u := range units {
		if u.Program != "" && !b.exists(u.Program) {
			return diagnosis.Recovery{
				Problem: stays + ": " + u.Name + " runs " + u.Program + ", which does not exist",
				Fix:     "correct ExecStart=: " + systemctl + " edit --full " + u.Name,
			}
		}
		if condition := u.Excludes(b.config, b.state); condition != "" {
			return diagnosis.Recovery{
				Problem: stays + ": " + u.Name + " has " + condition + ", and the state directory is " + b.state,
				Fix:     reinstall + "; " + systemctl + " daemon-reload",
			}
		}
	}
	if !b.known {
		return diagnosis.Recovery{
			Problem: stays + ": " + bootUnit + " and " + recoverUnit + " look for configurations in " + configs + "/NAME.toml, and this one is " + b.config,
			Fix:     "mv " + b.config + " " + configs + "/NAME.toml",
		}
	}
	return b.late()
}

// late says that a directory isn't there yet when the links are put right.
func (b atBoot) late() diagnosis.Recovery {
	for _, on := range b.mounts {
		path := on.path
		for _, m := range on.mounts {
			switch {
			case b.boot.Waits(m):
			case slices.Contains(m.Before, "remote-fs.target"):
				// It needs the network, which needs what bootUnit comes before.
				return diagnosis.Recovery{
					Problem: b.app + " is started on the release that failed, and put " +
						"right after that: " + path + " is on " + m.Name + ", which comes with the network, after " + bootUnit,
					Fix: "let " + path + " be on a local file system",
				}
			default:
				dropIn := "/etc/systemd/system/" + bootUnit + ".d"
				return diagnosis.Recovery{
					Problem: b.app + " is started on the release that failed, and put " +
						"right after that: " + bootUnit + " does not wait for " + m.Name + ", which " + path + " is on",
					Fix: `mkdir -p ` + dropIn + `; printf '[Unit]\nRequiresMountsFor=` + path + `\n' > ` + dropIn + `/mounts.conf; systemctl daemon-reload`,
				}
			}
		}
	}
	return diagnosis.Recovery{}
}

// these is the subject of a sentence and its verb.
func these(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}
