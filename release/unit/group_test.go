package unit

import (
	"slices"
	"testing"
)

func TestUnitsOf(t *testing.T) {
	for cgroup, want := range map[string][]string{
		"0::/system.slice/gunicorn.service\n":                                       {"gunicorn.service"},
		"0::/system.slice/gunicorn.service/payload/sub\n":                           {"gunicorn.service"}, // Delegate=yes
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/shop.service\n": {"user@1000.service", "shop.service"},
		"0::/user.slice/user-0.slice/session-3.scope\n":                             {"session-3.scope"},
		"12:cpu,cpuacct:/system.slice/other.service\n1:name=systemd:/system.slice/system-app.slice/app@1.service\n0::/system.slice/system-app.slice/app@1.service\n": {"app@1.service"},
		"0::/system.slice/_cgroup.service\n": {"cgroup.service"},
		"0::/\n":                             nil,
		"0::/../../machine\n":                nil,
		"":                                   nil,
	} {
		if got := unitsOf(cgroup); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", cgroup, got, want)
		}
	}
}
