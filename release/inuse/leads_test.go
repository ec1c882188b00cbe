package inuse

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"deploygate/scripts/assert"
)

// site is a ROOT with releases old, older and live.
type site struct {
	t    *testing.T
	root string
}

func newSite(t *testing.T) site {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	assert.OK(t, err)
	for _, v := range []string{"old", "older", "old-er", "live"} {
		write(t, filepath.Join(root, "releases", v, "manage.py"), "#!/usr/bin/env python3\n")
	}
	return site{t, root}
}

func (s site) leads() Leads {
	return Leads{
		Parent: s.root + "/releases", Paths: []string{s.root + "/releases", "/srv/alias/releases"},
		Names: []string{"old", "older", "old-er", "live"},
	}
}

// file writes one, with ROOT in its text replaced.
func (s site) file(name, text string) {
	s.t.Helper()
	write(s.t, filepath.Join(s.root, name), strings.ReplaceAll(text, "ROOT", s.root))
}

func (s site) link(name, to string) {
	s.t.Helper()
	assert.OK(s.t, os.MkdirAll(filepath.Dir(filepath.Join(s.root, name)), 0o755))
	assert.OK(s.t, os.Symlink(strings.ReplaceAll(to, "ROOT", s.root), filepath.Join(s.root, name)))
}

// said is what was found, one a line, with ROOT for the root.
func said(s site, found []Lead) (lines []string) {
	for _, l := range found {
		lines = append(lines, l.To+": "+strings.ReplaceAll(l.How, s.root, "ROOT"))
	}
	return lines
}

func TestWhatAReleaseNeeds(t *testing.T) {
	venv := func(s site, dir, home string) {
		s.t.Helper()
		s.file(dir+"/pyvenv.cfg", "home = "+home+"\ninclude-system-site-packages = false\ncommand = ROOT/releases/older/venv/bin/python -m venv x\n")
		s.file(dir+"/bin/python", "\x7fELF")
	}
	for _, c := range []struct {
		name string
		plan func(s site)
		want []string
	}{
		{"nothing", func(site) {}, nil},
		{"an environment of its own", func(s site) { venv(s, "releases/live/venv", "/usr/bin") }, nil},
		{"a link, relative", func(s site) { s.link("releases/live/venv", "../old/venv") }, []string{"old: live/venv leads into it"}},
		{"a link, absolute", func(s site) { s.link("releases/live/venv", "ROOT/releases/old/venv") }, []string{"old: live/venv leads into it"}},
		{"a link that dangles", func(s site) { s.link("releases/live/a/b/c/d", "../../../../old/gone") }, []string{"old: live/a/b/c/d leads into it"}},
		{"a link to one's own name", func(s site) { s.link("releases/live/x", "../live/manage.py") }, nil},
		{"a loop", func(s site) { s.link("releases/live/x", "x") }, nil},
		{"a link to a longer name", func(s site) { s.link("releases/live/venv", "../old-er/venv") }, []string{"old-er: live/venv leads into it"}},
		{"through a link beside the releases", func(s site) {
			s.link("releases/live/venv", "ROOT/venv")
			s.link("venv", "releases/old/venv")
		}, []string{"old: live/venv leads into it"}},
		{"through one release into another", func(s site) {
			s.link("releases/live/venv", "../old/venv")
			s.link("releases/old/venv", "../older/venv")
		}, []string{"old: live/venv leads into it", "older: live/venv leads into it"}},
		{"an interpreter", func(s site) {
			venv(s, "releases/live/venv", "/usr/bin")
			s.link("releases/live/venv/bin/python3", "ROOT/releases/old/python/bin/python3")
		}, []string{"old: live/venv/bin/python3 leads into it"}},
		{"the home of one", func(s site) { venv(s, "releases/live/venv", "ROOT/releases/old/python/bin") }, []string{"old: live/venv/pyvenv.cfg leads into it"}},
		{"a script's first line", func(s site) {
			venv(s, "releases/live/.venv", "/usr/bin")
			s.file("releases/live/.venv/bin/gunicorn", "#!ROOT/releases/old/venv/bin/python3.11 -I\n")
		}, []string{"old: live/.venv/bin/gunicorn names it"}},
		{"a first line that was too long", func(s site) {
			venv(s, "releases/live/venv", "/usr/bin")
			s.file("releases/live/venv/bin/gunicorn", "#!/bin/sh\n'''exec' \"ROOT/releases/old/venv/bin/python\" \"$0\" \"$@\"\n' '''\n")
		}, []string{"old: live/venv/bin/gunicorn names it"}},
		{"a first line by another name of ROOT", func(s site) {
			venv(s, "releases/live/venv", "/usr/bin")
			s.file("releases/live/venv/bin/celery", "#!/srv/alias/releases/old/venv/bin/python\n")
		}, []string{"old: live/venv/bin/celery names it"}},
		{"an editable installation", func(s site) {
			venv(s, "releases/live/venv", "/usr/bin")
			s.file("releases/live/venv/lib/python3.11/site-packages/a.pth", "import sys; sys.path\n# ../x\nROOT/releases/old/src\n")
			s.file("releases/live/venv/lib/python3.11/site-packages/b.egg-link", "../../../../../older/src\n.\n")
			s.file("releases/live/venv/lib/python3.11/site-packages/__editable___c_finder.py", "MAPPING = {'c': 'ROOT/releases/old-er/c'}\n")
		}, []string{
			"old-er: live/venv/lib/python3.11/site-packages/__editable___c_finder.py names it",
			"old: live/venv/lib/python3.11/site-packages/a.pth names it",
			"older: live/venv/lib/python3.11/site-packages/b.egg-link leads into it",
		}},
		{"an environment that releases share", func(s site) {
			venv(s, "shared/venv", "/usr/bin")
			s.link("shared/venv/bin/python3", "../../../releases/old/python3")
			s.link("releases/live/venv", "../../shared/venv")
		}, []string{"old: ROOT/shared/venv/bin/python3 leads into it"}},
		{"a file that is read as it starts", func(s site) {
			s.file("releases/live/uwsgi.ini", "[uwsgi]\nhome = ROOT/releases/old/venv\n")
			s.file("releases/live/run.sh", "exec ROOT/releases/older.\n")
			s.file("releases/live/docs/history.md", "ROOT/releases/old-er\n")
		}, []string{"older: live/run.sh names it", "old: live/uwsgi.ini names it"}},
		{"a name that is part of another", func(s site) {
			s.file("releases/live/.env", "A=ROOT/releases/older2 B=xROOT/releasesold C=ROOT/releases/\n")
		}, nil},
		{"what would block", func(s site) {
			assert.OK(s.t, unix.Mkfifo(filepath.Join(s.root, "releases/live/pyvenv.cfg"), 0o600))
			assert.OK(s.t, unix.Mkfifo(filepath.Join(s.root, "releases/live/fifo"), 0o600))
			s.link("releases/live/venv", "../old/venv")
		}, []string{"old: live/venv leads into it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			c.plan(s)
			found, err := s.leads().Of(t.Context(), "live")
			assert.OK(t, err)
			got := said(s, found)
			want := map[string]bool{}
			for _, w := range c.want {
				want[w] = true
			}
			have := map[string]bool{}
			for _, g := range got {
				have[g] = true
			}
			if d := cmp.Diff(want, have); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatLeadsInFromAround(t *testing.T) {
	s := newSite(t)
	s.link("current", "releases/live")
	s.link("static", "releases/old/static")
	s.link("releases/stable", "older")
	s.link("media", "shared/media")
	s.file("bin/gunicorn", "#!ROOT/releases/old-er/venv/bin/python\n")
	dirs := []string{s.root, s.root + "/releases"}
	theirs := func(link string) bool { return link != s.root+"/current" }
	found, err := s.leads().Around(t.Context(), dirs, theirs, "app.service", []string{s.root + "/bin/gunicorn", "--bind", "x"})
	assert.OK(t, err)
	if d := cmp.Diff([]string{
		"old: ROOT/static leads into it", "older: ROOT/releases/stable leads into it", "old-er: ROOT/bin/gunicorn names it",
	}, said(s, found)); d != "" {
		t.Error(d)
	}
	for _, words := range [][]string{
		{"", s.root + "/releases/old/venv/bin/gunicorn"},
		{"", "-c", "source " + s.root + "/releases/old/.env && exec gunicorn"},
		{s.root + "/static/run"},
	} {
		found, err := s.leads().Around(t.Context(), nil, theirs, "app.service", words)
		assert.OK(t, err)
		if len(found) != 1 || found[0].To != "old" || !strings.HasPrefix(found[0].How, "app.service ") {
			t.Errorf("%q: %+v", words, found)
		}
	}
}

// What can't be looked at may lead anywhere.
func TestLeadsThatCantBeRead(t *testing.T) {
	s := newSite(t)
	if _, err := s.leads().Of(t.Context(), "gone"); err != nil {
		t.Errorf("a release that is gone: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	assert.OK(t, os.Chmod(filepath.Join(s.root, "releases/live"), 0))
	if _, err := s.leads().Of(t.Context(), "live"); err == nil || !strings.Contains(err.Error(), "cannot tell what live needs") {
		t.Errorf("%v", err)
	}
}

// A tree of any size takes bounded time, and its upper levels are looked at first.
func TestABigRelease(t *testing.T) {
	s := newSite(t)
	l := s.leads().search(t.Context())
	l.left = 40
	for _, dir := range []string{"a", "b", "c", "d", "e"} {
		for _, file := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"} {
			s.file("releases/live/"+dir+"/"+file, "")
		}
	}
	s.link("releases/live/z", "../old")
	l.tree(s.root + "/releases/live")
	if l.left != 0 || len(l.found) == 0 || l.found[len(l.found)-1].To != "old" || l.err != nil {
		t.Errorf("%d left, found %+v, %v", l.left, l.found, l.err)
	}
}
