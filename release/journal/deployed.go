package journal

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"deploygate/release"
)

// Deployed is the directory that a version was when it was last found good or bad. Another one may have the name now.
type Deployed struct {
	Directory release.Identity // zero where it was not recorded, by a deploygate that didn't yet
	Began     time.Time        // that deploy: the directory was there
	Ended     time.Time        // that deploy, or its gate
}

// Is reports whether a directory is the one that was deployed. Where only the time is known it is, if it was made before the
// deploy began: one that was made later was uploaded again.
func (d Deployed) Is(now release.Identity) (same, known bool) {
	if d.Directory != (release.Identity{}) {
		return d.Directory.Is(now)
	}
	return now.Born < d.Began.UnixNano(), now.Born != 0 && !d.Began.IsZero()
}

// Deployed is what is known of the directory that version was; nothing of one that never was.
func (h History) Deployed(v release.Version) (d Deployed, known bool) {
	if d, known = h.deployed[v]; known {
		return d, true
	}
	text, known := h.oldDeployed.find(v)
	return parseDeployed(text), known
}

func (h History) allDeployed() map[release.Version]Deployed {
	all := map[release.Version]Deployed{}
	for v, text := range h.oldDeployed.all() {
		all[v] = parseDeployed(text)
	}
	maps.Copy(all, h.deployed)
	return all
}

// directories are those that a deploy began with.
func directories(r Record) map[release.Version]release.Identity {
	there := map[release.Version]release.Identity{}
	for v, d := range map[release.Version]*release.Identity{r.Previous: r.PreviousDirectory, r.Requested: r.Directory} {
		if there[v] = (release.Identity{}); d != nil {
			there[v] = *d
		}
	}
	return there
}

// wasDeployed notes which directories a deploy proved to be good or bad, with that and once more with its verdict. A version
// that the deploy didn't begin with is taken to be the directory that it was before.
func (h *History) wasDeployed(d *Deploy, at time.Time, proved ...release.Version) {
	d.proved = append(d.proved, proved...)
	for _, v := range d.proved {
		was, _ := h.Deployed(v)
		if directory, known := d.directories[v]; known {
			was.Directory, was.Began = directory, d.Began
		}
		was.Ended = at
		h.deployed[v] = was
	}
}

func (d Deployed) String() string {
	i := d.Directory
	return strings.TrimSpace(fmt.Sprint(i.Device, " ", i.Inode, " ", i.Born, " ", nano(d.Began), " ", nano(d.Ended), " ", i.Handle))
}

func parseDeployed(text string) (d Deployed) {
	var began, ended int64
	_, _ = fmt.Sscan(text, &d.Directory.Device, &d.Directory.Inode, &d.Directory.Born, &began, &ended, &d.Directory.Handle) // the checksum vouches for it
	d.Began, d.Ended = moment(began), moment(ended)
	return d
}

func nano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(nano int64) time.Time {
	if nano == 0 {
		return time.Time{}
	}
	return time.Unix(0, nano).UTC()
}
