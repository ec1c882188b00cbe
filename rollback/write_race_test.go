package rollback

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"deploygate/scripts/assert"
)

// Whoever may write in a release can put a link in the place of anything at any moment. None is followed.
func TestAPlantedLinkIsNotFollowed(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, "untouched")
	elsewhere := t.TempDir()
	parent := t.TempDir()
	dir := filepath.Join(parent, "v2")
	assert.OK(t, os.Mkdir(dir, 0o755))
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, name := range []string{MarkerName, MarkerName + ".new"} {
				_ = os.Symlink(outside, filepath.Join(dir, name))
				_ = os.Remove(filepath.Join(dir, name))
			}
			_ = os.Rename(dir, dir+".away") // and the directory itself
			_ = os.Symlink(elsewhere, dir)
			_ = os.Remove(dir)
			_ = os.Rename(dir+".away", dir)
		}
	})
	for i := range 300 {
		m := Marker{Rollback: Safe, Reason: string(rune('a' + i%26))}
		_ = WriteMarker(dir, m) // it may fail, and must not go astray
	}
	close(stop)
	wait.Wait()
	if text, err := os.ReadFile(outside); err != nil || string(text) != "untouched" {
		t.Errorf("the file that a link led to: %q, %v", text, err)
	}
	if found, err := os.ReadDir(elsewhere); err != nil || len(found) > 0 {
		t.Errorf("the directory that a link led to has %v, %v", found, err)
	}
	_ = os.Remove(filepath.Join(dir, MarkerName))
	assert.OK(t, WriteMarker(dir, Marker{Rollback: Safe, Reason: "x"}))
	if m, err := ReadMarker(dir); err != nil || !m.Made || m.Reason != "x" {
		t.Errorf("%+v, %v", m, err)
	}
	link := filepath.Join(parent, "link")
	assert.OK(t, os.Symlink(dir, link))
	if err := WriteMarker(link, Marker{Rollback: Blocked}); err == nil {
		t.Error("a link is no release")
	}
}
