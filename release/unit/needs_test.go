package unit

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatAStartNeeds(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "shop.service")
	if err := os.WriteFile(file, []byte("[Service]\nStandardOutput=append:/var/log/a.log\nStandardOutput=append:/var/log/b.log\nStandardError=file:%L/x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := map[string]any{
		"FragmentPath": file, "StandardOutput": "append", "StandardError": "file",
		"ExecStartPre":      [][]any{{"/bin/a", []string{"a"}, false}, {"/bin/ignored", []string{"b"}, true}, {"relative", []string{"c"}, false}},
		"ReadWritePaths":    []string{"/srv/a", "-/srv/optional", "+/srv/b"},
		"BindReadOnlyPaths": [][]any{{"/srv/c", "/c", false, uint64(0)}, {"/srv/optional", "/d", true, uint64(0)}},
		"Conditions": [][]any{
			{"ConditionPathExists", false, false, "/etc/on", int32(0)},
			{"ConditionPathExists", false, true, "/etc/off", int32(0)},
			{"ConditionPathExists", true, false, "/etc/either", int32(0)},
			{"ConditionHost", false, false, "web1", int32(0)},
		},
		"Asserts": [][]any{{"AssertPathIsDirectory", false, false, "/srv", int32(0)}},
	}
	want := []NeededPath{
		{Setting: "ExecStartPre=", Path: "/bin/a", Program: true},
		{Setting: "ReadWritePaths=", Path: "/srv/a", Sandbox: true},
		{Setting: "ReadWritePaths=", Path: "/srv/b", Sandbox: true},
		{Setting: "BindReadOnlyPaths=", Path: "/srv/c", Sandbox: true},
		{Setting: "StandardOutput=", Path: "/var/log/b.log", Parent: true},
		{Setting: "ConditionPathExists=", Path: "/etc/on", Condition: true},
		{Setting: "AssertPathIsDirectory=", Path: "/srv"},
	}
	if d := cmp.Diff(want, neededPaths(p)); d != "" {
		t.Error(d)
	}
	if !elsewhere(p) || elsewhere(map[string]any{"BindPaths": [][]any{{"/srv/a", "/srv/a", false, uint64(0)}}}) {
		t.Error("a path is not where it is")
	}
	p["ExecStartPreEx"] = [][]any{{"/bin/mkdir", []string{"mkdir", "/srv/a"}, []string{"privileged"}}}
	if got := sandbox(p); got != nil {
		t.Errorf("what a command outside of the sandbox may make: %+v", got)
	}
	p["NeedDaemonReload"] = true // then its files say nothing of what is in use
	if got := outputs(p); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestAUnitThatNamesARelease(t *testing.T) {
	const releases = "/srv/app/releases"
	for want, d := range map[string]Description{
		"/srv/app/releases/v1":     {WorkingDirectory: "/srv/app/releases/v1"},
		"/srv/app/releases/v1/src": {WorkingDirectory: "/", ExecStart: argv("gunicorn --chdir=/srv/app/releases/v1/src a:b")},
		"":                         {WorkingDirectory: "/srv/app/current", ExecStart: argv("gunicorn --chdir=src -c /srv/app/releases-old/x")},
	} {
		if got := d.NamesRelease(releases); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
