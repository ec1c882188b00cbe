package release

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/scripts/assert"
)

func TestEmptied(t *testing.T) {
	site := map[string]string{
		"manage.py": "x", "project/__init__.py": "", "project/wsgi.py": "x", "project/settings.py": "x", "project/views.py": "x",
		"shop/migrations/0001_initial.py": "x", "static/app.css": "x", "static/empty.css": "", "py.typed": "",
	}
	zeros := strings.Repeat("\x00", 10_000)
	vital := []string{"manage.py", "project/wsgi.py", "project/settings/__init__.py"}
	for name, c := range map[string]struct {
		older   map[string]string // nil: there is none
		change  map[string]string // of the newer one; "-" is gone
		problem string
		lost    int
	}{
		"the same":                          {older: site},
		"the first one":                     {},
		"the script":                        {older: site, change: map[string]string{"manage.py": ""}, problem: "manage.py has no content", lost: 1},
		"the script of the first one":       {change: map[string]string{"manage.py": ""}, problem: "manage.py has no content"},
		"what the unit loads, zeros":        {older: site, change: map[string]string{"project/wsgi.py": zeros}, problem: "project/wsgi.py has no content", lost: 1},
		"what the unit loads, after a zero": {older: site, change: map[string]string{"project/wsgi.py": "\x00x"}},
		"a package that the unit names":     {older: site, change: map[string]string{"project/settings/__init__.py": ""}},
		"a migration":                       {older: site, change: map[string]string{"shop/migrations/0002_more.py": ""}, problem: "shop/migrations/0002_more.py has no content"},
		"a package of migrations":           {older: site, change: map[string]string{"shop/migrations/__init__.py": ""}},
		"one that may be meant":             {older: site, change: map[string]string{"project/views.py": ""}, lost: 1},
		"one that was empty":                {older: site, change: map[string]string{"static/empty.css": ""}},
		"a new one":                         {older: site, change: map[string]string{"static/new.css": ""}},
		"a script that was empty before":    {older: map[string]string{"manage.py": ""}, change: map[string]string{"manage.py": ""}},
		"most, the vital ones not among them": {
			older:   site,
			change:  map[string]string{"manage.py": "-", "project/wsgi.py": "-", "project/settings.py": "", "project/views.py": "", "shop/migrations/0001_initial.py": "-", "static/app.css": ""},
			problem: "3 of its 3 files have no content", lost: 3,
		},
		"all of the first one": {
			change:  map[string]string{"manage.py": "-", "project/wsgi.py": "-", "project/settings.py": "", "project/views.py": "", "shop/migrations/0001_initial.py": "-", "static/app.css": ""},
			problem: "4 of its 4 files have no content",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tree := layout(t)
			put := func(v Version, files map[string]string) {
				for name, content := range files {
					file := filepath.Join(tree.Dir(v), name)
					assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
					if content != "-" {
						assert.OK(t, os.WriteFile(file, []byte(content), 0o600))
					} else {
						assert.OK(t, os.Remove(file))
					}
				}
			}
			other := Version("")
			if c.older != nil {
				other = "v1"
				put("v1", c.older)
			}
			put("v2", site)
			put("v2", c.change)
			e, err := tree.Emptied("v2", other, vital)
			assert.OK(t, err)
			if e.Problem() != c.problem || e.Count != c.lost {
				t.Errorf("problem %q, lost %d %q; want %q, %d", e.Problem(), e.Count, e.Lost, c.problem, c.lost)
			}
		})
	}
}

// A file that takes no room on disk is one of zeros, whatever its length.
func TestEmptiedHole(t *testing.T) {
	tree := layout(t)
	for v, size := range map[Version]int64{"v1": 0, "v2": 1 << 20} {
		for n := range 4 {
			file := filepath.Join(tree.Dir(v), fmt.Sprintf("f%d.py", n))
			assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
			assert.OK(t, os.WriteFile(file, []byte("x"), 0o600))
			if size > 0 {
				assert.OK(t, os.Truncate(file, 0))
				assert.OK(t, os.Truncate(file, size))
			}
		}
	}
	e, err := tree.Emptied("v2", "v1", nil)
	assert.OK(t, err)
	if want := "4 of its 4 files have no content"; e.Problem() != want {
		t.Errorf("problem %q, want %q", e.Problem(), want)
	}
}
