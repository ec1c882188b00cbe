package host

import (
	"os"
	"path/filepath"
	"testing"

	"deploygate/release/unit"
)

func TestInLink(t *testing.T) {
	root := t.TempDir()
	alias := filepath.Join(t.TempDir(), "alias")
	if err := os.Symlink(root, alias); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(alias, "current") // the link need not exist: it comes with the first release
	for _, c := range []struct {
		name string
		d    unit.Description
		uses bool
	}{
		{"working directory", unit.Description{WorkingDirectory: link}, true},
		{"below it", unit.Description{WorkingDirectory: link + "/src/"}, true},
		{"by root's real name", unit.Description{WorkingDirectory: filepath.Join(root, "current")}, true},
		{"--chdir", unit.Description{WorkingDirectory: "/", ExecStart: []string{"gunicorn", "--chdir", link}}, true},
		{"--chdir=", unit.Description{WorkingDirectory: "/", ExecStart: []string{"gunicorn", "--chdir=" + link}}, true},
		{"only the program", unit.Description{WorkingDirectory: "/", ExecStart: []string{link + "/venv/bin/gunicorn"}}, false},
		{"only an option", unit.Description{ExecStart: []string{"gunicorn", "--pythonpath=" + link}}, false},
		{"a neighbour with a longer name", unit.Description{WorkingDirectory: link + "-old"}, false},
		{"climbing out of it", unit.Description{WorkingDirectory: link + "/.."}, false},
		{"a release itself", unit.Description{WorkingDirectory: filepath.Join(root, "releases/v41")}, false},
		{"relative", unit.Description{WorkingDirectory: "current"}, false},
		{"nothing", unit.Description{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if uses := inLink(c.d, link); uses != c.uses {
				t.Errorf("inLink %v; want %v", uses, c.uses)
			}
		})
	}
}
