package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"deploygate/scripts/testbed"
)

// tenApps measures ten apps of one host that are released at once, and one that is released alone.
func tenApps(ctx context.Context, o options, x *overheads) (err error) {
	m, err := testbed.Boot(ctx, o.suite, testbed.Options{Packages: packages, Bind: []string{o.binary + ":" + program}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var sites []testbed.Site
	for n := range 10 {
		name := fmt.Sprintf("app%d", n)
		site := testbed.Site{
			Name: name, Root: "/srv/" + name, Unit: name + ".service", Bind: "unix:/run/" + name + "/gunicorn.sock", Port: 8000 + n,
		}
		if err := m.InstallSite(ctx, site); err != nil {
			return err
		}
		config := fmt.Sprintf("root = %q\n[service]\nunit = %q\n[proxy]\nurl = \"http://127.0.0.1:%d/health/\"\n", site.Root, site.Unit, site.Port)
		if err := m.WriteFile("/etc/deploygate/"+name+".toml", config, 0o644); err != nil {
			return err
		}
		for _, version := range []string{"v1", "v2", "v3"} {
			if err := m.AddRelease(site, version); err != nil {
				return err
			}
		}
		if err := m.GoLive(ctx, site, "v1"); err != nil {
			return err
		}
		sites = append(sites, site)
	}
	if x.Alone, err = releaseAll(ctx, m, sites[:1], "v2"); err != nil {
		return err
	}
	x.Together, err = releaseAll(ctx, m, sites, "v3")
	return err
}

// releaseAll releases a version to all sites at once, and gives how long it took, in seconds.
func releaseAll(ctx context.Context, m *testbed.Machine, sites []testbed.Site, version string) (float64, error) {
	start := time.Now()
	failed := make([]error, len(sites))
	var all sync.WaitGroup
	for i, site := range sites {
		all.Go(func() { failed[i] = m.Exec(ctx, program, "release", version, "--app", site.Name).Err })
	}
	all.Wait()
	return time.Since(start).Seconds(), errors.Join(failed...)
}
