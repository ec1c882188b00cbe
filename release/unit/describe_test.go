package unit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func argv(line string) []string { return strings.Fields(line) }

func TestWhetherAUnitGoesThroughTheLiveLink(t *testing.T) {
	root := t.TempDir()
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(root, alias); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(alias, "current") // the link need not exist: it comes with the first release
	for _, c := range []struct {
		name string
		d    Description
		uses bool
	}{
		{"working directory", Description{WorkingDirectory: link}, true},
		{"below it", Description{WorkingDirectory: link + "/src/"}, true},
		{"by root's real name", Description{WorkingDirectory: filepath.Join(root, "current")}, true},
		{"--chdir", Description{WorkingDirectory: "/", ExecStart: []string{"gunicorn", "--chdir", link}}, true},
		{"--chdir=", Description{WorkingDirectory: "/", ExecStart: []string{"gunicorn", "--chdir=" + link}}, true},
		{"only the program", Description{WorkingDirectory: "/", ExecStart: []string{link + "/venv/bin/gunicorn"}}, true},
		{"only an option", Description{ExecStart: []string{"gunicorn", "--pythonpath=" + link}}, true},
		{"a neighbour with a longer name", Description{WorkingDirectory: link + "-old"}, false},
		{"climbing out of it", Description{WorkingDirectory: link + "/.."}, false},
		{"a release itself", Description{WorkingDirectory: filepath.Join(root, "releases/v41")}, false},
		{"relative", Description{WorkingDirectory: "current"}, false},
		{"nothing", Description{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if uses := c.d.UsesLink(link); uses != c.uses {
				t.Errorf("UsesLink %v; want %v", uses, c.uses)
			}
		})
	}
}
