package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// pruned is what prune prints with --output json.
type pruned struct {
	Code       int
	Stderr     string
	Command    string
	DryRun     bool     `json:"dry_run"`
	Removed    []string `json:"removed"`
	Unrecorded []string `json:"unrecorded"`
	Releases   []pruneRow
}

type pruneRow struct {
	Name, Version, Action, Reason, Detail, Error string
	Leftover, Removed                            bool
}

func (h *host) pruned(args ...string) (p pruned) {
	h.t.Helper()
	r := h.run(append([]string{"prune", "--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(r.Stdout), &p); err != nil {
		h.t.Fatalf("no JSON: %v\n%s%s", err, r.Stdout, r.Stderr)
	}
	p.Code, p.Stderr = r.Code, r.Stderr
	return p
}

// row asserts what becomes of one directory.
func (h *host) row(p pruned, name, action, reason, detail string) {
	h.t.Helper()
	i := slices.IndexFunc(p.Releases, func(r pruneRow) bool { return r.Name == name })
	if i < 0 {
		h.t.Errorf("%s is not named: %+v", name, p.Releases)
		return
	}
	if r := p.Releases[i]; r.Action != action || r.Reason != reason || !strings.Contains(r.Detail, detail) {
		h.t.Errorf("%s: %s, %s: %s\nwant %s, %s: …%s…", name, r.Action, r.Reason, r.Detail, action, reason, detail)
	}
}

// onDisk asserts which directories are below releases/, hidden ones too.
func (h *host) releasesLeft(want ...string) {
	h.t.Helper()
	r := h.Exec(h.t.Context(), "ls", "-A", h.site.Root+"/releases")
	h.must(r.Err)
	got := strings.Fields(r.Stdout)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Errorf("below releases/: %q, want %q", got, want)
	}
}

// shelf releases versions one after the other, and then keeps only one good one: the last is live, the one before it is the
// way back, the others are old.
func (h *host) shelf(versions ...string) {
	h.t.Helper()
	h.configure("", "keep = 50")
	h.reconfigure("600ms", "200ms")
	for _, v := range versions {
		h.add(v)
		h.expect(h.deploy("release", v), "released", 0)
	}
	h.reconfigure("keep = 50", "keep = 1")
}

// tree lists all that is below a directory, but for what Python compiles, with the inodes.
func (h *host) tree(dir string) string {
	h.t.Helper()
	r := h.Exec(h.t.Context(), "find", dir, "-name", "__pycache__", "-prune", "-o", "-printf", "%p %y %s\n")
	h.must(r.Err)
	lines := strings.Split(r.Stdout, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// kept asserts that prune leaves an old release as it is and says why, each time: before it is done, and as it is done.
func (h *host) kept(version, reason, detail string) {
	h.t.Helper()
	before := h.tree(h.site.ReleaseDir(version))
	h.row(h.pruned("--dry-run"), version, "keep", reason, detail)
	p := h.pruned()
	h.row(p, version, "keep", reason, detail)
	if p.Code != 0 || !strings.Contains(p.Stderr, "deploygate: kept "+version+": ") || slices.Contains(p.Removed, version) {
		h.t.Errorf("exit %d, removed %q\n%s", p.Code, p.Removed, p.Stderr)
	}
	if after := h.tree(h.site.ReleaseDir(version)); after != before {
		h.t.Errorf("%s was\n%s\nand is\n%s", version, before, after)
	}
}

// A mount below a release, wherever it is seen: nothing behind it is deleted, and the release stays whole.
func TestPruneAndMounts(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("old", "v8", "v9")
		h.sh(`mkdir -p /srv/app/shared/media /srv/static /srv/merged && echo photo > /srv/app/shared/media/photo.jpg
cd /srv/app/releases/old; mkdir -p media var/cache static
mkdir /tmp/layer; mount -t tmpfs tmpfs /tmp/layer; mkdir /tmp/layer/work /tmp/layer/upper`)
		for _, c := range []struct{ mount, detail, end string }{
			{`mount --bind /srv/app/shared/media media`, "a mount lies below it: media", `umount media`},
			{
				`mount -t tmpfs tmpfs var/cache; mkdir var/cache/deep; mount -t tmpfs tmpfs var/cache/deep; echo x > var/cache/deep/file`,
				"a mount lies below it: var/cache", `grep -q x var/cache/deep/file; umount var/cache/deep var/cache`,
			},
			{`mount --bind static /srv/static`, "old/static is mounted at /srv/static", `umount /srv/static`},
			{
				`mount -t overlay overlay -o lowerdir=/srv/app/releases/old,upperdir=/tmp/layer/upper,workdir=/tmp/layer/work /srv/merged`,
				"it is a layer of the mount /srv/merged", `test -f /srv/merged/manage.py; umount /srv/merged`,
			},
			{`mount --bind /srv/app/releases/old /srv/app/releases/old`, "it is a mount point", `cd /; umount /srv/app/releases/old`},
			{
				`systemd-run --quiet -p Type=exec --unit=media -p BindPaths=/srv/app/shared/media:/srv/app/releases/old/media sleep 1000`,
				"a mount lies below it: media for media.service (pid ", `systemctl is-active media; systemctl stop media`,
			},
			{
				`systemd-run --quiet -p Type=exec --unit=elsewhere -p BindPaths=/srv/app/releases/old/project:/opt/app -p WorkingDirectory=/opt/app sleep 1000`,
				"old/project is mounted at /opt/app for elsewhere.service (pid ", `systemctl is-active elsewhere; systemctl stop elsewhere`,
			},
		} {
			h.sh("cd /srv/app/releases/old; " + c.mount)
			h.kept("old", "mount", c.detail)
			h.sh("cd /srv/app/releases/old; " + c.end)
			h.sh(`grep -q photo /srv/app/shared/media/photo.jpg`)
		}
		h.releasesLeft("old", "v8", "v9")
		if r := h.run("prune"); r.Code != 0 || r.Stdout != "removed old\n" {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
		h.releasesLeft("v8", "v9")
		h.sh(`grep -q photo /srv/app/shared/media/photo.jpg`)
		h.live("v9")
	})
}

// A process that lives in an old release, by whatever way and whoever's it is, keeps it.
func TestPruneAndProcesses(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("old", "free", "v8", "v9")
		h.must(h.WriteFile("/usr/local/bin/map", `import mmap, os, sys, time
f = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
os.close(f)
open("/run/mapped", "w").close()
time.sleep(1000)
`, 0o755))
		h.sh(`cd /srv/app/releases/old; mkdir -p venv/bin venv/lib logs; cp /usr/bin/sleep venv/bin/worker; cp /usr/bin/sleep venv/lib/_speedups.so`)
		for _, c := range []struct{ unit, run, detail, ready string }{
			{"beat", `-p User=nobody /srv/app/releases/old/venv/bin/worker 1000`, "beat.service runs venv/bin/worker of it", ""},
			{"uwsgi", `python3 /usr/local/bin/map /srv/app/releases/old/venv/lib/_speedups.so`, "uwsgi.service has venv/lib/_speedups.so of it mapped", "/run/mapped"},
			{"shipper", `sh -c 'exec sleep 1000 >>/srv/app/releases/old/logs/app.log'`, "shipper.service has logs/app.log of it open", "/srv/app/releases/old/logs/app.log"},
			{"hidden", `-p PrivateTmp=yes -p ProtectSystem=strict -p WorkingDirectory=/srv/app/releases/old sleep 1000`, "hidden.service runs in it", ""},
			{"bound", `-p BindPaths=/srv/app:/opt/site -p WorkingDirectory=/opt/site/releases/old sleep 1000`, "bound.service runs in it", ""},
			{"celery", `-p User=www-data -p WorkingDirectory=/srv/app/releases/old/project sleep 1000`, "celery.service runs in it", ""},
		} {
			h.sh("systemd-run --quiet -p Type=exec --unit=" + c.unit + " " + c.run)
			h.eventually(func() bool { // it is what it is to be: not systemd's own process any more, which becomes it
				if c.ready != "" {
					return h.Exec(h.t.Context(), "test", "-e", c.ready).Code == 0
				}
				pid, _ := h.UnitProperty(h.t.Context(), c.unit, "MainPID")
				return h.Exec(h.t.Context(), "sh", "-c", "grep -qE 'sleep|worker' /proc/"+pid+"/comm").Code == 0
			})
			pid, err := h.UnitProperty(h.t.Context(), c.unit, "MainPID")
			h.must(err)
			h.kept("old", "in_use", fmt.Sprintf("%s (pid %s)", c.detail, pid))
			if now, err := h.UnitProperty(h.t.Context(), c.unit, "MainPID"); err != nil || now != pid {
				h.t.Errorf("%s has process %s (%v), it was %s", c.unit, now, err, pid)
			}
			if c.unit != "celery" {
				h.sh("systemctl stop " + c.unit)
			}
		}
		h.releasesLeft("old", "v8", "v9")

		// The release that follows prunes as well, and says so.
		h.add("w1")
		v := h.deploy("release", "w1")
		h.expect(v, "released", 0)
		detail := v.Steps[len(v.Steps)-1].Detail
		if want := "removed v8; kept old: celery.service runs in it (pid "; !strings.HasPrefix(detail, want) {
			h.t.Errorf("prune says %q, not %q", detail, want)
		}
		h.live("w1")
		h.sh("systemctl is-active celery; systemctl stop celery")
		if p := h.pruned(); p.Code != 0 || !slices.Equal(p.Removed, []string{"old"}) {
			h.t.Errorf("exit %d, removed %q", p.Code, p.Removed)
		}
		h.releasesLeft("v9", "w1")
	})
}

// What the live release, the way back or the unit needs of an older release stays: the next start works.
func TestPruneAndInterpreters(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("n0", "n1", "v8", "v9")
		h.sh(`cd /srv/app/releases; mkdir -p n1/venv/bin n1/python/bin n1/src n1/site n1/dist
printf 'home = /usr/bin\ninclude-system-site-packages = true\n' > n1/venv/pyvenv.cfg; ln -s /usr/bin/python3 n1/venv/bin/python
mkdir -p v9/venv/bin v9/venv/lib/python3/site-packages
printf 'home = /usr/bin\ninclude-system-site-packages = true\n' > v9/venv/pyvenv.cfg
printf '#!/usr/bin/python3\nimport sys\nfrom gunicorn.app.wsgiapp import run\nsys.exit(run())\n' > v9/venv/bin/gunicorn
chmod +x v9/venv/bin/gunicorn
mkdir -p /etc/systemd/system/gunicorn.service.d
cat > /etc/systemd/system/gunicorn.service.d/venv.conf <<END
[Service]
ExecStart=
ExecStart=/srv/app/current/venv/bin/gunicorn --workers 2 --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application
END
systemctl daemon-reload`)
		h.row(h.pruned("--dry-run"), "n1", "remove", "old", "")
		for _, c := range []struct{ lead, detail, end string }{
			{`ln -s ../n1/venv v8/venv`, "v8/venv leads into it", `rm v8/venv`},
			{`mkdir v9/tools; echo home = /srv/app/releases/n1/python/bin > v9/tools/pyvenv.cfg`, "v9/tools/pyvenv.cfg leads into it", `rm -r v9/tools`},
			{`echo ../../../../../n1/src > v9/venv/lib/python3/site-packages/editable.pth`, "editable.pth leads into it", `rm v9/venv/lib/python3/site-packages/editable.pth`},
			{`ln -s releases/n1/dist /srv/app/latest; ln -s /srv/app/latest v9/assets`, "/srv/app/latest leads into it", `rm /srv/app/latest v9/assets`},
			{`echo 'Environment=PYTHONPATH=/srv/app/releases/n1' >> /etc/systemd/system/gunicorn.service.d/venv.conf; systemctl daemon-reload`, "gunicorn.service names it", `sed -i /PYTHONPATH/d /etc/systemd/system/gunicorn.service.d/venv.conf; systemctl daemon-reload`},
			{`sed -i '1s|.*|#!/srv/app/releases/n1/venv/bin/python|' v9/venv/bin/gunicorn`, "gunicorn names it", `systemctl restart gunicorn.service`},
		} {
			h.sh("cd /srv/app/releases; " + c.lead)
			h.kept("n1", "needed", c.detail)
			h.sh("cd /srv/app/releases; " + c.end)
		}
		h.releasesLeft("n1", "v8", "v9")
		h.eventually(func() bool {
			status, _, _, err := h.Get(h.t.Context(), h.site, "/health/")
			return err == nil && status == 200
		})
		h.live("v9") // by the interpreter that n1 has
	})
}

// What failed, or passed, is a directory and not a name: another one under that name was never deployed.
func TestPruneAndDirectories(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.configure("", "keep = 50")
		h.reconfigure("600ms", "200ms")
		for _, v := range []string{"g1", "g2", "g3", "v7", "v8"} {
			h.add(v)
			h.expect(h.deploy("release", v), "released", 0)
		}
		for _, v := range []string{"f1", "f2", "f3", "f4"} {
			h.add(v, testbed.ImportError())
			h.expect(h.deploy("release", v), "rolled_back", 3)
		}
		h.reconfigure("keep = 50", "keep = 1")
		h.sh(`rm -r /srv/app/releases/f1`)
		h.add("f1") // corrected, and uploaded again
		h.sh(`cd /srv/app/releases
sed -i '/import payments/d' f2/project/wsgi.py    # corrected in its place
cp -a g1 /tmp/backup; rm -r g1; mv /tmp/backup g1 # restored from a backup
mv g2 ../away; mv ../away g2                      # and one that is what it was
`)
		before := h.tree(h.site.ReleaseDir("f1")) + h.tree(h.site.ReleaseDir("f2")) + h.tree(h.site.ReleaseDir("g1"))
		check := func(p pruned) {
			h.t.Helper()
			h.row(p, "f1", "keep", "other_directory", "not the directory that was deployed under this name")
			h.row(p, "f2", "keep", "changed", "changed since it failed: project/wsgi.py")
			h.row(p, "f3", "remove", "failed", "failed, and another one after it")
			h.row(p, "f4", "keep", "evidence", "the last one that failed")
			h.row(p, "g1", "keep", "other_directory", "not the directory that was deployed under this name")
			h.row(p, "g2", "remove", "old", "")
			h.row(p, "g3", "remove", "old", "")
		}
		check(h.pruned("--dry-run"))
		p := h.pruned()
		check(p)
		if !slices.Contains(p.Unrecorded, "f1") || !slices.Contains(p.Unrecorded, "g1") {
			h.t.Errorf("unrecorded: %q", p.Unrecorded)
		}
		if after := h.tree(h.site.ReleaseDir("f1")) + h.tree(h.site.ReleaseDir("f2")) + h.tree(h.site.ReleaseDir("g1")); after != before {
			h.t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		// What was uploaded again can be released, and what was restored can be gone back to.
		h.released("f1")
		h.released("f2")
		h.expect(h.deploy("rollback", "g1"), "released", 0)
		h.live("g1")
	})
}

// What would be removed is known before, in a line for each, and nothing is changed by asking.
func TestPruneDryRun(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("v1", "v2", "v3", "v4")
		h.add("v5")
		h.sh(`systemd-run --quiet -p Type=exec --unit=celery -p WorkingDirectory=/srv/app/releases/v2 sleep 1000`)
		pid, err := h.UnitProperty(h.t.Context(), "celery.service", "MainPID")
		h.must(err)
		before, disk := h.touched(), h.tree("/srv/app")
		r := h.run("prune", "--dry-run")
		if want := fmt.Sprintf(`v5  keep    never deployed by deploygate
v4  keep    live
v3  keep    the way back
v2  keep    celery.service runs in it (pid %s)
v1  remove  good, and older than the last 1
`, pid); r.Code != 0 || r.Stdout != want {
			h.t.Errorf("exit %d\n%swant\n%s", r.Code, r.Stdout, want)
		}
		r = h.run("plan", "v5")
		if want := fmt.Sprintf(` keep the last 1 good releases
       v5  keep    live
       v4  keep    the way back
       v3  remove  good, and older than the last 1
       v2  keep    celery.service runs in it (pid %s)
       v1  remove  good, and older than the last 1
`, pid); r.Code != 0 || !strings.Contains(r.Stdout, want) {
			h.t.Errorf("exit %d\n%swant\n%s", r.Code, r.Stdout, want)
		}
		var plan struct{ Prune []pruneRow }
		r = h.run("plan", "v5", "--output", "json")
		h.must(json.Unmarshal([]byte(r.Stdout), &plan))
		h.row(pruned{Releases: plan.Prune}, "v3", "remove", "old", "")
		if p := h.pruned("--dry-run"); !p.DryRun || p.Command != "prune" || len(p.Removed) != 0 || !slices.Equal(p.Unrecorded, []string{"v5"}) {
			h.t.Errorf("%+v", p)
		}
		if after := h.touched(); after != before || h.tree("/srv/app") != disk {
			h.t.Errorf("before: %s\nafter:  %s", before, after)
		}
		// The release does what the plan has said.
		h.released("v5")
		h.releasesLeft("v2", "v4", "v5")
		h.sh(`systemctl stop celery`)
		if r := h.run("prune"); r.Code != 0 || r.Stdout != "removed v2\n" {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
		if r := h.run("prune"); r.Code != 0 || r.Stdout != "nothing to remove\n" {
			h.t.Errorf("exit %d, %q", r.Code, r.Stdout)
		}
	})
}

// A prune that is killed at any of its changes is finished by a later one; what is left is named until then, and what is
// someone's is left alone.
func TestPruneKilled(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("v1", "v2", "v3", "v8", "v9")
		h.installKillat()
		whole := h.tree(h.site.ReleaseDir("v8")) + h.tree(h.site.ReleaseDir("v9"))
		h.sh(`mkdir /srv/app/releases/.removing.deploygate && echo precious > /srv/app/releases/.removing.deploygate/file`)
		gone := false
		for point := 1; !gone; point++ {
			if point > 500 {
				h.t.Fatal("it is never done")
			}
			r := h.Exec(h.t.Context(), killat, strconv.Itoa(point), program, "prune")
			gone = r.Code == 0
			if now := h.tree(h.site.ReleaseDir("v8")) + h.tree(h.site.ReleaseDir("v9")); now != whole {
				h.t.Fatalf("killed at change %d: was\n%s\nis\n%s\n%s", point, whole, now, r.Stderr)
			}
			// Under the name of a release there is a whole one, or nothing.
			h.sh(`for v in v1 v2 v3; do test ! -e /srv/app/releases/$v || test -f /srv/app/releases/$v/manage.py; done`)
			p := h.pruned("--dry-run")
			for _, row := range p.Releases {
				if row.Leftover && row.Version != "" {
					h.row(p, row.Name, "remove", "leftover", "whose removal was begun")
				}
			}
			h.row(p, ".removing.deploygate", "keep", "other_directory", "remove it by hand")
		}
		h.releasesLeft(".removing.deploygate", "v8", "v9")
		h.sh(`grep -q precious /srv/app/releases/.removing.deploygate/file`)
		if r := h.run("prune"); r.Code != 0 || r.Stdout != "nothing to remove\n" || !strings.Contains(r.Stderr, "kept .removing.deploygate: ") {
			h.t.Errorf("exit %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		h.live("v9")
	})
}

// What a removal has left obeys the same rules: it stays, and is named each time, while something uses it.
func TestPruneLeftoverInUse(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("v1", "v2", "v8", "v9")
		h.sh(`cd /srv/app/releases; mv v1 .removing.deploygate.v1; mv v2 .removing.deploygate # as a kill leaves them
mkdir -p .removing.deploygate.v1/media ../shared/media; echo photo > ../shared/media/photo.jpg
mount --bind ../shared/media .removing.deploygate.v1/media
systemd-run --quiet -p Type=exec --unit=celery -p WorkingDirectory=/srv/app/releases/.removing.deploygate sleep 1000`)
		for range 2 {
			p := h.pruned()
			h.row(p, ".removing.deploygate.v1", "keep", "mount", "a mount lies below it: media")
			h.row(p, ".removing.deploygate", "keep", "in_use", "celery.service runs in it")
			if p.Code != 0 || strings.Count(p.Stderr, "deploygate: kept .removing.deploygate") != 2 {
				h.t.Errorf("exit %d: %s", p.Code, p.Stderr)
			}
		}
		h.sh(`umount /srv/app/releases/.removing.deploygate.v1/media; systemctl stop celery`)
		if p := h.pruned(); p.Code != 0 || len(p.Removed) != 2 {
			h.t.Errorf("%+v", p)
		}
		h.releasesLeft("v8", "v9")
		h.sh(`grep -q photo /srv/app/shared/media/photo.jpg`)

		// One that can't be removed is an error, and stays whole.
		h.reconfigure("keep = 1", "keep = 50")
		h.add("w1")
		h.expect(h.deploy("release", "w1"), "released", 0)
		h.reconfigure("keep = 50", "keep = 1")
		h.sh(`mount --bind /srv/app/releases /srv/app/releases; mount -o remount,bind,ro /srv/app/releases`)
		before := h.tree("/srv/app/releases")
		p := h.pruned()
		h.row(p, "v8", "remove", "old", "")
		if p.Code != 1 || len(p.Removed) != 0 || !strings.Contains(p.Stderr, "cannot remove release v8: read-only file system") {
			h.t.Errorf("%+v", p)
		}
		if after := h.tree("/srv/app/releases"); after != before {
			h.t.Errorf("was\n%s\nis\n%s", before, after)
		}
		h.sh(`umount /srv/app/releases`)
		h.live("w1")
	})
}

// A person changes the live link while prune runs: what it leads to is never removed.
func TestPruneAndTheLiveLink(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("v1", "v2", "v8", "v9")
		for _, link := range []string{"releases/v1", "/srv/app/releases/v1", "./releases//v1/"} {
			h.sh("ln -sfn " + link + " /srv/app/current")
			h.row(h.pruned("--dry-run"), "v1", "keep", "live", "live")
		}
		h.sh("ln -sfn v1 /srv/app/releases/stable; ln -sfn releases/stable /srv/app/current")
		before := h.tree("/srv/app")
		h.pruned()
		if now := h.tree(h.site.ReleaseDir("v1")); !strings.Contains(before, strings.TrimSpace(now)) {
			h.t.Errorf("v1 is now\n%s", now)
		}
		h.sh("test -f /srv/app/current/manage.py && test -f /srv/app/releases/v1/manage.py")
	})
}
