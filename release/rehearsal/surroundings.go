package rehearsal

import (
	"io/fs"
	"os"
	"path/filepath"
)

// surroundings sees that the candidate does not work where the live release does.
func (w *work) surroundings() error {
	if w.root == "" || below(w.root, w.stage.Release) {
		return nil // nobody knows, or it is the candidate's own
	}
	real, err := filepath.EvalSymlinks(w.root)
	if err != nil {
		return nil // systemd or gunicorn will say so
	}
	if live, err := filepath.EvalSymlinks(w.link.name()); err == nil && below(real, live) && !below(real, w.stage.Release) {
		return uncertain("its working directory %s is the live release's, and does not go through %s", w.root, w.link.name())
	}
	// gunicorn 25.1 alone has it there, and removes what it finds.
	if info, err := os.Lstat(filepath.Join(real, "gunicorn.ctl")); err == nil && info.Mode().Type() == fs.ModeSocket && !w.control {
		return uncertain("both releases would have gunicorn's control socket in %s", w.root)
	}
	return nil
}
