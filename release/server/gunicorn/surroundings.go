package gunicorn

import (
	"io/fs"
	"path/filepath"

	"deploygate/gate/untrusted"
	"deploygate/release/server"
)

// surroundings sees that the candidate does not work where the live release does.
func (w *work) surroundings() error {
	for _, dir := range []string{w.dir, w.root} {
		if err := w.notLive("its working directory", dir, dir); err != nil {
			return err
		}
	}
	if w.root == "" || server.Below(w.root, w.stage.Release) {
		return nil // it is not known, or it is the candidate's own
	}
	// gunicorn 25.1 alone has it there, and removes the one that it finds.
	info, err := untrusted.Lstat(filepath.Join(w.root, "gunicorn.ctl"))
	if err == nil && info.Mode().Type() == fs.ModeSocket && !w.control {
		return server.Unsure("both releases would have gunicorn's control socket in %s", w.root)
	}
	return nil
}

// notLive sees that a directory is not in the live release by a way that doesn't name the link: by its version, by
// another link. One that can't be followed is systemd's or gunicorn's to report.
func (w *work) notLive(what, name, dir string) error {
	real, err := untrusted.EvalSymlinks(dir)
	if err != nil {
		return nil
	}
	live, err := untrusted.EvalSymlinks(w.link.Name())
	if err != nil || !server.Below(real, live) || server.Below(real, w.stage.Release) {
		return nil
	}
	return server.Unsure("%s %s is the live release's, and does not go through %s", what, name, w.link.Name())
}
