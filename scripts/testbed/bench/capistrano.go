package main

import (
	"context"
	"embed"
	"path"
	"strings"

	"deploygate/scripts/testbed"
)

//go:embed ways/capistrano
var capistranoFiles embed.FS

const capistranoDir = "/etc/capistrano"

// capistrano deploys branches of a git repository, over SSH to the same host.
var capistrano = contender{
	name: "capistrano", title: "Capistrano",
	prepare: func(ctx context.Context, h *host) error {
		for file, to := range map[string]string{
			"Capfile": "Capfile", "deploy.rb": "config/deploy.rb", "production.rb": "config/deploy/production.rb",
		} {
			text, err := capistranoFiles.ReadFile("ways/capistrano/" + file)
			if err != nil {
				return err
			}
			if err := h.WriteFile(path.Join(capistranoDir, to), string(text), 0o644); err != nil {
				return err
			}
		}
		if err := h.branches(ctx); err != nil {
			return err
		}
		// The net-ssh of Debian 12 reads no key in OpenSSH's own format.
		if err := h.run(ctx, "sh", "-ec", `ssh-keygen -q -t rsa -m PEM -N "" -f /root/.ssh/id_rsa
cp /root/.ssh/id_rsa.pub /root/.ssh/authorized_keys`); err != nil {
			return err
		}
		return h.run(ctx, capistranoDeploy(before)...)
	},
	deploy: capistranoDeploy,
}

func capistranoDeploy(v string) []string {
	return []string{"sh", "-c", `cd "$1" && exec cap production deploy "BRANCH=$2"`, "sh", capistranoDir, v}
}

// branches makes the repository, with a branch for each release.
func (h *host) branches(ctx context.Context) error {
	source := testbed.Site{Root: "/srv/source"}
	script := `mkdir -p /srv/source/releases /root/.ssh
git init -q --bare /srv/app.git
git config --global user.name bench
git config --global user.email bench@localhost`
	if err := h.run(ctx, "sh", "-ec", script); err != nil {
		return err
	}
	all := append([]release{{name: before}}, releases...)
	for _, r := range all {
		if err := h.AddRelease(source, r.name, modsOf(r.name, r.mods)...); err != nil {
			return err
		}
		script := strings.ReplaceAll(`git init -q -b NAME && git add -A && git commit -q -m NAME && git push -q /srv/app.git NAME`, "NAME", r.name)
		if err := h.run(ctx, "sh", "-ec", "cd "+source.ReleaseDir(r.name)+"\n"+script); err != nil {
			return err
		}
	}
	return nil
}
