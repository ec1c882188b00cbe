package migrations

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"deploygate/release/python"
)

// BenchmarkJudge reads two releases and judges one against the other, from directories that are in memory. Beside the
// time it tells the processor time, of this process and of the Pythons that it starts, and of these alone.
func BenchmarkJudge(b *testing.B) {
	if python.Find() == "" {
		b.Skip("no python3")
	}
	for _, c := range []struct {
		name string
		make func(dir string) error
	}{
		{"project", project},
		{"migrations=2000", func(dir string) error {
			for i := range 2000 {
				if err := put(dir, fmt.Sprintf("app%d/migrations/%04d_x.py", i/50, i%50), fmt.Sprintf("# %d\n%s", i, typical)); err != nil {
					return err
				}
			}
			return nil
		}},
		{"files=30000", environment},
	} {
		b.Run(c.name, func(b *testing.B) {
			newer, older := b.TempDir(), b.TempDir()
			for _, dir := range []string{newer, older} {
				if err := c.make(dir); err != nil {
					b.Fatal(err)
				}
			}
			b.Run("none", func(b *testing.B) { judgePair(b, newer, older) })
			if err := put(newer, "shop/migrations/0002_more.py", typical); err != nil {
				b.Fatal(err)
			}
			b.Run("one", func(b *testing.B) { judgePair(b, newer, older) })
		})
	}
}

func judgePair(b *testing.B, newer, older string) {
	b.Helper()
	self, children := usage(unix.RUSAGE_SELF), usage(unix.RUSAGE_CHILDREN)
	for b.Loop() {
		if _, err := NewReader().Judge(b.Context(), newer, older, nil); err != nil {
			b.Fatal(err)
		}
	}
	self, children = usage(unix.RUSAGE_SELF)-self, usage(unix.RUSAGE_CHILDREN)-children
	n := float64(b.N)
	b.ReportMetric((self+children)/n, "cpu-ms/op")
	b.ReportMetric(children/n, "python-cpu-ms/op")
}

// usage is the processor time so far, in milliseconds.
func usage(who int) float64 {
	var r unix.Rusage
	_ = unix.Getrusage(who, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e6
}

// project is the testbed's.
func project(dir string) error { return os.CopyFS(dir, os.DirFS("../../scripts/testbed/django")) }

// environment is a project with its environment: 30,000 files in 3,000 directories, of which half are compiled, and
// packages with a hundred migrations among them.
func environment(dir string) error {
	const packages = "venv/lib/python3.11/site-packages"
	files := map[string]string{}
	for i := range 300 {
		for _, sub := range []string{"", "a", "b", "b/c", "a/d"} {
			for n := range 10 {
				at := fmt.Sprintf("%s/package%d/%s", packages, i, sub)
				files[fmt.Sprintf("%s/module%d.py", at, n)] = ""
				files[fmt.Sprintf("%s/__pycache__/module%d.cpython-311.pyc", at, n)] = ""
			}
		}
	}
	for i := range 20 {
		at := fmt.Sprintf("%s/package%d", packages, i)
		files[at+"/apps.py"] = fmt.Sprintf("from django.apps import AppConfig\n\n\nclass Config(AppConfig):\n    label = \"p%d\"\n", i)
		files[at+"/models.py"] = "from django.db import models\n"
		for n := range 5 {
			files[fmt.Sprintf("%s/migrations/%04d_x.py", at, n)] = fmt.Sprintf("# %d.%d\n%s", i, n, typical)
		}
	}
	for file, text := range files {
		if err := put(dir, file, text); err != nil {
			return err
		}
	}
	return project(dir)
}

func put(dir, file, text string) error {
	file = filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}
