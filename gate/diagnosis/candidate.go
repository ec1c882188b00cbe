package diagnosis

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"deploygate/gate"
)

// Candidate is a release that is to be made live, looked at beside the one that is.
type Candidate struct {
	Version string
	Dir     string
	Live    string // the live release; "" if there is none
	Needs   []Need
}

// Need is something of a release that the unit, the proxy or the app's environment leads to, through the live link or from
// the release's directory.
type Need struct {
	Cause gate.Cause
	Why   string // it has to be there: "EnvironmentFile= of gunicorn.service leads there"
	Path  string // below the release
	Host  bool   // Path is none of the release's
	Stops bool   // the release can't be started or served without it, whatever the live one has
	Sure  bool   // its lack is a fault for certain, if the live release has it
	Said  bool   // its lack is no reason to refuse, and is said whatever the live release has
	Files bool   // nginx serves files from it

	Problem string // of the candidate's: "does not exist"; "" for none
	Live    string // of the live release's
	Pending bool   // a hook that is still to run may make it
	Advice  string // beside the usual
}

// Lacks says what a candidate lacks: for certain, so that it must not be made live, and what may turn out to be wrong. What
// the live release lacks as well is not the candidate's fault, unless nothing starts without it.
func Lacks(f *Facts) (refused, doubtful []*gate.Finding) {
	c := f.Next
	if c == nil {
		return nil, nil
	}
	for _, n := range c.Needs {
		lives := c.Live != "" && c.Live != c.Version && n.Live == ""
		switch {
		case n.Problem == "", n.Pending:
		case n.Stops, lives && n.Sure:
			refused = append(refused, c.lack(n, lives))
		case lives, n.Said:
			doubtful = append(doubtful, c.lack(n, lives))
		}
	}
	return refused, doubtful
}

func (c *Candidate) lack(n Need, lives bool) *gate.Finding {
	where := path.Join(c.Dir, n.Path)
	of := " of release " + c.Version
	if n.Host {
		where, of = n.Path, ""
	}
	summary := fmt.Sprintf("%s%s %s: %s", n.Path, of, n.Problem, n.Why)
	if lives && !strings.Contains(n.Why, c.Live) {
		summary += fmt.Sprintf("; %s has it", c.Live)
	}
	finding := gate.NewFinding(gate.LayerRelease, n.Cause, gate.Clean(summary)).With(where, n.Problem)
	if n.Advice != "" {
		finding.Advise(gate.Clean(n.Advice))
	}
	if !n.Host {
		finding.Advise(gate.Clean("upload the release again with it, or have a before_swap hook make it: ls -ld " + where))
	}
	finding.Blames = gate.BlamesRelease
	if n.Host {
		finding.Blames = gate.BlamesUnknown
	}
	return finding
}

// Stops says why no start of the unit can work, whatever release it is to run.
func Stops(f *Facts) []*gate.Finding { return findRisks(f, stops) }

// Later returns those risks that leave the next start alone, as far as is known.
func Later(f *Facts) []*gate.Finding {
	return append(findRisks(f, onlyNow), f.Proxy.Risks...)
}

// harmless are the commands of manage.py that make no file of a release.
var harmless = []string{
	"migrate", "check", "showmigrations", "makemigrations", "createcachetable", "clearsessions", "loaddata", "flush",
	"diffsettings", "sqlmigrate", "remove_stale_contenttypes", "shell", "dbshell",
}

// collecting are those that make the files that the proxy serves.
var collecting = []string{"collectstatic", "compress", "compilescss", "collectmedia"}

// MayMake reports whether a hook may make what a release needs, by its command. It would rather believe it of one too many.
func MayMake(argv []string, n Need) bool {
	i := slices.IndexFunc(argv, func(word string) bool {
		base := path.Base(word)
		return base == "manage.py" || base == "django-admin" || base == "django-admin.py"
	})
	if i < 0 {
		return true
	}
	rest := slices.DeleteFunc(slices.Clone(argv[i+1:]), func(word string) bool { return strings.HasPrefix(word, "-") })
	switch {
	case len(rest) == 0, slices.Contains(harmless, rest[0]):
		return false
	case slices.Contains(collecting, rest[0]):
		return n.Files
	}
	return true
}
