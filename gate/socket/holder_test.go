package socket

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestHolders(t *testing.T) {
	for _, test := range []struct{ network, addr string }{
		{"unix", filepath.Join(short(t), "s")},
		{"tcp", "127.0.0.1:0"},
		{"tcp", "[::1]:0"},
	} {
		l := listen(t, test.network, test.addr)
		inode := one(t, l).Inode
		// Even root may not look into a process with more capabilities than its own.
		held, err := Holders(inode, 1)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Fatal(err)
		}
		if len(held) != 1 || len(held[inode]) != 1 || held[inode][0].PID != os.Getpid() || held[inode][0].Name == "" {
			t.Errorf("%s: got %+v", test.addr, held)
		}
	}
	if held, err := Holders(); len(held) != 0 || err != nil {
		t.Error(held, err)
	}
}

func TestUnitOf(t *testing.T) {
	for _, test := range []struct{ cgroup, want string }{
		{"0::/system.slice/gunicorn.service\n", "gunicorn.service"},
		{"0::/system.slice/system-gunicorn.slice/gunicorn@blue.service\n", "gunicorn@blue.service"},
		{"0::/system.slice/gunicorn.service/worker.service\n", "gunicorn.service"},
		{"0::/system.slice/app:one.service\n", "app:one.service"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n", "user@1000.service"},
		{"0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"},
		{"0::/system.slice/_cpu.service\n", "cpu.service"},
		{"9:name=systemd:/system.slice/old.service\n8:memory:/x.service\n0::/\n", "old.service"},
		{"8:memory:/system.slice/x.service\n", ""},
		{"0::/init.scope\n", "init.scope"},
		{"0::/../../x.service\n", ""},
		{"0::/docker/0123\n", ""},
		{"0::/system.slice/.service\n", ""},
		{"0::/\n", ""},
		{"0::\n", ""},
		{"rubbish", ""},
		{"", ""},
	} {
		if got := unitOf(test.cgroup); got != test.want {
			t.Errorf("%q: got %q, want %q", test.cgroup, got, test.want)
		}
	}
}
