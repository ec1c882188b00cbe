package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"deploygate/scripts/testbed"
)

// machine is what the figures depend on.
type machine struct {
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   int               `json:"memory_mb"`
	Load     string            `json:"load_average_at_start"` // what else went on
	Kernel   string            `json:"kernel"`
	Suite    string            `json:"debian"`
	Versions map[string]string `json:"versions"`
	Commit   string            `json:"deploygate_commit"`
}

// software is what is measured, by Debian package, in the order in which it is told.
var software = []struct{ name, pkg string }{
	{"systemd", "systemd"},
	{"nginx", "nginx-light"},
	{"gunicorn", "gunicorn"},
	{"Django", "python3-django"},
	{"Python", "python3"},
	{"Capistrano", "capistrano"},
	{"Ansible", "ansible-core"},
	{"OpenSSH", "openssh-server"},
}

func describe(ctx context.Context, o options) (d machine, err error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return d, err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return d, err
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return d, err
	}
	d = machine{
		CPU: processor(), Cores: runtime.NumCPU(), Memory: int(info.Totalram * uint64(info.Unit) >> 20),
		Load: strings.Fields(string(load))[0], Kernel: unix.ByteSliceToString(uname.Release[:]),
		Suite: o.suite, Versions: map[string]string{}, Commit: o.commit,
	}
	m, err := testbed.Boot(ctx, o.suite, testbed.Options{Packages: packages})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for _, s := range software {
		r := m.Exec(ctx, "dpkg-query", "-W", "-f", "${source:Upstream-Version}", s.pkg)
		if r.Err != nil {
			return d, r.Err
		}
		d.Versions[s.name] = r.Stdout
	}
	return d, nil
}

// processor names the CPU, or gives "" where the kernel doesn't.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
