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

// A mount below a release, wherever it is seen: nothing behind it is deleted, and the release stays whole.
func TestPruneAndMounts(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("m0", "m1", "m2", "m3", "m4", "m5", "m6", "v8", "v9")
		h.sh(`cd /srv/app
mkdir -p shared/media releases/m1/media releases/m2/var/cache releases/m3/static releases/m4/media releases/m6 /srv/static /srv/merged /tmp/work /tmp/upper
echo photo > shared/media/photo.jpg
mount --bind shared/media releases/m1/media
mount -t tmpfs tmpfs releases/m2/var/cache
mkdir releases/m2/var/cache/deep; mount -t tmpfs tmpfs releases/m2/var/cache/deep; echo x > releases/m2/var/cache/deep/file
mount --bind releases/m3/static /srv/static
systemd-run --quiet --unit=media -p BindPaths=/srv/app/shared/media:/srv/app/releases/m4/media sleep 1000
systemd-run --quiet --unit=elsewhere -p BindPaths=/srv/app/releases/m5/project:/opt/app -p WorkingDirectory=/opt/app sleep 1000
mkdir /tmp/layer; mount -t tmpfs tmpfs /tmp/layer; mkdir /tmp/layer/work /tmp/layer/upper
mount -t overlay overlay -o lowerdir=/srv/app/releases/m6,upperdir=/tmp/layer/upper,workdir=/tmp/layer/work /srv/merged`)
		before := map[string]string{}
		for _, v := range []string{"m1", "m2", "m3", "m4", "m5", "m6", "v8", "v9"} {
			before[v] = h.tree(h.site.ReleaseDir(v))
		}
		check := func(p pruned, m0 string) {
			h.t.Helper()
			if p.Code != 0 {
				h.t.Errorf("exit %d", p.Code)
			}
			h.row(p, "v9", "keep", "live", "live")
			h.row(p, "v8", "keep", "way_back", "the way back")
			h.row(p, "m1", "keep", "mount", "a mount lies below it: media")
			h.row(p, "m2", "keep", "mount", "a mount lies below it: var/cache")
			h.row(p, "m3", "keep", "mount", "m3/static is mounted at /srv/static")
			h.row(p, "m4", "keep", "mount", "a mount lies below it: media for media.service (pid ")
			h.row(p, "m5", "keep", "mount", "m5/project is mounted at /opt/app for elsewhere.service (pid ")
			h.row(p, "m6", "keep", "mount", "it is a layer of the mount /srv/merged")
			h.row(p, "m0", "remove", "old", m0)
		}
		check(h.pruned("--dry-run"), "good, and older than the last 1")
		p := h.pruned()
		check(p, "good, and older than the last 1")
		if !slices.Equal(p.Removed, []string{"m0"}) || !strings.Contains(p.Stderr, "deploygate: kept m1: a mount lies below it: media\n") {
			h.t.Errorf("removed %q\n%s", p.Removed, p.Stderr)
		}
		h.releasesLeft("m1", "m2", "m3", "m4", "m5", "m6", "v8", "v9")
		for v, was := range before {
			if now := h.tree(h.site.ReleaseDir(v)); now != was {
				h.t.Errorf("%s was\n%s\nand is\n%s", v, was, now)
			}
		}
		h.sh(`grep -q photo /srv/app/shared/media/photo.jpg && grep -q x /srv/app/releases/m2/var/cache/deep/file`)

		// What holds them ends.
		h.sh(`umount /srv/app/releases/m1/media /srv/app/releases/m2/var/cache/deep /srv/app/releases/m2/var/cache /srv/static /srv/merged
systemctl stop media elsewhere`)
		if p := h.pruned(); p.Code != 0 || len(p.Removed) != 6 {
			h.t.Errorf("exit %d, removed %q", p.Code, p.Removed)
		}
		h.releasesLeft("v8", "v9")
		h.sh(`grep -q photo /srv/app/shared/media/photo.jpg`)
		h.live("v9")
	})
}

// A process that lives in an old release, by whatever way and whoever's it is, keeps it.
func TestPruneAndProcesses(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("p0", "p1", "p2", "p3", "p4", "p5", "p6", "v8", "v9")
		h.must(h.WriteFile("/usr/local/bin/map", `import mmap, os, sys, time
f = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ)
os.close(f)
os.chdir("/")
print("mapped", flush=True)
time.sleep(1000)
`, 0o755))
		h.sh(`cd /srv/app/releases
mkdir -p p2/venv/bin p3/venv/lib p4/logs
cp /usr/bin/sleep p2/venv/bin/worker
cp /usr/bin/sleep p3/venv/lib/_speedups.so
run() { unit=$1; shift; systemd-run --quiet --unit=$unit "$@"; }
run celery -p User=www-data -p WorkingDirectory=/srv/app/releases/p1/project sleep 1000
run beat -p User=nobody /srv/app/releases/p2/venv/bin/worker 1000
run uwsgi -p User=www-data python3 /usr/local/bin/map /srv/app/releases/p3/venv/lib/_speedups.so
run shipper sh -c 'exec sleep 1000 >>/srv/app/releases/p4/logs/app.log'
run hidden -p PrivateTmp=yes -p ProtectSystem=strict -p WorkingDirectory=/srv/app/releases/p5 sleep 1000
run bound -p BindPaths=/srv/app:/opt/site -p WorkingDirectory=/opt/site/releases/p6 sleep 1000`)
		h.eventually(func() bool {
			r := h.Exec(h.t.Context(), "sh", "-c", "journalctl -u uwsgi -o cat | grep -q mapped && test -f /srv/app/releases/p4/logs/app.log")
			return r.Code == 0
		})
		units := []string{"celery", "beat", "uwsgi", "shipper", "hidden", "bound"}
		pids := map[string]string{}
		for _, u := range units {
			pid, err := h.UnitProperty(h.t.Context(), u+".service", "MainPID")
			h.must(err)
			pids[u] = pid
		}
		check := func(p pruned) {
			h.t.Helper()
			h.row(p, "p1", "keep", "in_use", fmt.Sprintf("celery.service runs in it (pid %s)", pids["celery"]))
			h.row(p, "p2", "keep", "in_use", fmt.Sprintf("beat.service runs venv/bin/worker of it (pid %s)", pids["beat"]))
			h.row(p, "p3", "keep", "in_use", fmt.Sprintf("uwsgi.service has venv/lib/_speedups.so of it mapped (pid %s)", pids["uwsgi"]))
			h.row(p, "p4", "keep", "in_use", fmt.Sprintf("shipper.service has logs/app.log of it open (pid %s)", pids["shipper"]))
			h.row(p, "p5", "keep", "in_use", fmt.Sprintf("hidden.service runs in it (pid %s)", pids["hidden"]))
			h.row(p, "p6", "keep", "in_use", fmt.Sprintf("bound.service runs in it (pid %s)", pids["bound"]))
			h.row(p, "p0", "remove", "old", "")
		}
		check(h.pruned("--dry-run"))

		// The release that follows prunes as well, and says so.
		h.add("w1")
		v := h.deploy("release", "w1")
		h.expect(v, "released", 0)
		detail := v.Steps[len(v.Steps)-1].Detail
		for _, part := range []string{"removed v8, p0", "kept p1: celery.service runs in it"} {
			if !strings.Contains(detail, part) {
				h.t.Errorf("prune says %q, not %q", detail, part)
			}
		}
		h.live("w1")
		h.releasesLeft("p1", "p2", "p3", "p4", "p5", "p6", "v9", "w1")
		for _, u := range units {
			if pid, err := h.UnitProperty(h.t.Context(), u+".service", "MainPID"); err != nil || pid != pids[u] {
				h.t.Errorf("%s has process %s (%v), it was %s", u, pid, err, pids[u])
			}
		}
		// A directory of the same name is there again: the process lives in the one that was deleted, and goes by that name.
		h.sh(`cd /srv/app/releases; mv p5 /tmp/moved; cp -a /tmp/moved p5; rm -r /tmp/moved`)
		h.row(h.pruned("--dry-run"), "p5", "keep", "other_directory", "not the directory that was deployed")

		h.sh("systemctl stop " + strings.Join(units, " "))
		if p := h.pruned(); p.Code != 0 || len(p.Removed) != 5 {
			h.t.Errorf("exit %d, removed %q", p.Code, p.Removed)
		}
		h.releasesLeft("p5", "v9", "w1")
	})
}

// What the live release, the way back or the unit needs of an older release stays: the next start works.
func TestPruneAndInterpreters(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "v8", "v9")
		h.sh(`cd /srv/app/releases
venv() { mkdir -p $1/bin $1/lib/python3/site-packages; printf 'home = %s\ninclude-system-site-packages = true\n' $2 > $1/pyvenv.cfg; }
venv n1/venv /usr/bin; ln -s /usr/bin/python3 n1/venv/bin/python
venv v9/venv /usr/bin
printf '#!/srv/app/releases/n1/venv/bin/python\nimport sys\nfrom gunicorn.app.wsgiapp import run\nsys.exit(run())\n' > v9/venv/bin/gunicorn
chmod +x v9/venv/bin/gunicorn
mkdir -p n2/python/bin; venv v9/tools /srv/app/releases/n2/python/bin
echo ../../../../../n3/src > v9/venv/lib/python3/site-packages/editable.pth; mkdir n3/src
mkdir -p n4/dist n4/real; ln -s /srv/app/latest v9/assets; ln -s releases/n4/dist /srv/app/latest
venv n5/venv /usr/bin; ln -s ../n5/venv v8/venv
mkdir -p n7/site
mkdir -p /etc/systemd/system/gunicorn.service.d
cat > /etc/systemd/system/gunicorn.service.d/venv.conf <<END
[Service]
Environment=PYTHONPATH=/srv/app/releases/n6
ExecStart=
ExecStart=/srv/app/current/venv/bin/gunicorn --workers 2 --bind unix:/run/gunicorn/gunicorn.sock project.wsgi:application
END
systemctl daemon-reload
ln -s releases/n7/site /srv/app/site`)
		check := func(p pruned) {
			h.t.Helper()
			h.row(p, "n1", "keep", "needed", "v9/venv/bin/gunicorn names it")
			h.row(p, "n2", "keep", "needed", "v9/tools/pyvenv.cfg leads into it")
			h.row(p, "n3", "keep", "needed", "editable.pth leads into it")
			h.row(p, "n4", "keep", "needed", "/srv/app/latest leads into it")
			h.row(p, "n5", "keep", "needed", "v8/venv leads into it")
			h.row(p, "n6", "keep", "needed", "gunicorn.service")
			h.row(p, "n7", "keep", "needed", "/srv/app/site leads into it")
			h.row(p, "n0", "remove", "old", "")
		}
		check(h.pruned("--dry-run"))
		check(h.pruned())
		h.releasesLeft("n1", "n2", "n3", "n4", "n5", "n6", "n7", "v8", "v9")
		h.sh("systemctl restart gunicorn.service")
		h.eventually(func() bool {
			status, _, _, err := h.Get(h.t.Context(), h.site, "/health/")
			return err == nil && status == 200
		})
		h.live("v9")
	})
}

// What failed, or passed, is a directory and not a name: another one under that name was never deployed.
func TestPruneAndDirectories(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
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
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("v1", "v2", "v3", "v4")
		h.add("v5")
		h.sh(`systemd-run --quiet --unit=celery -p WorkingDirectory=/srv/app/releases/v2 sleep 1000`)
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
// somebody's is left alone.
func TestPruneKilled(t *testing.T) {
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
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
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
		h.shelf("v1", "v2", "v8", "v9")
		h.sh(`cd /srv/app/releases; mv v1 .removing.deploygate.v1; mv v2 .removing.deploygate # as a kill leaves them
mkdir -p .removing.deploygate.v1/media ../shared/media; echo photo > ../shared/media/photo.jpg
mount --bind ../shared/media .removing.deploygate.v1/media
systemd-run --quiet --unit=celery -p WorkingDirectory=/srv/app/releases/.removing.deploygate sleep 1000`)
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
	onEachSuite(t, testbed.DefaultSite(), func(h *host) {
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
