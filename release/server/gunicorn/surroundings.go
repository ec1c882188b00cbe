package gunicorn

import (
	"io/fs"
	"path/filepath"

	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// surroundings sees that the candidate does not work where the live release does.
func (w *work) surroundings() error {
	for _, dir := range []string{w.Dir, w.root} {
		if err := w.NotLive("its working directory", dir, dir); err != nil {
			return err
		}
	}
	if w.root == "" || server.Below(w.root, w.Candidate.Release) {
		return nil // it is not known, or it is the candidate's own
	}
	// gunicorn 25.1 alone has it there, and removes the one that it finds.
	info, err := untrusted.Lstat(filepath.Join(w.root, "gunicorn.ctl"))
	if err == nil && info.Mode().Type() == fs.ModeSocket && !w.control {
		return server.Unsure("both releases would have gunicorn's control socket in %s", w.root)
	}
	return nil
}
