package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"deploygate/gate"
	"deploygate/release"
	"deploygate/release/inuse"
	"deploygate/release/journal"
	"deploygate/rollback"
)

// Uses looks for what uses releases, whatever the journal says of them.
type Uses interface {
	// Held finds the mounts and processes that hold directories below releases/, by name.
	Held(ctx context.Context, names []string) (map[string]inuse.Hold, error)
	// Around finds what leads into some releases from beside them: links, and what the unit is run with.
	Around(ctx context.Context, into []release.Version) ([]inuse.Lead, error)
	// Needs finds what leads from one release into others.
	Needs(ctx context.Context, from release.Version, into []release.Version) ([]inuse.Lead, error)
	// ChangedAfter returns a file of a release that was changed after a time, "" if there is none.
	ChangedAfter(v release.Version, after time.Time) string
}

// Reason is why a release stays or goes.
type Reason string

// The reasons; those of inuse are used as they are.
const (
	IsLive         Reason = "live"
	IsWayBack      Reason = "way_back"
	IsGood         Reason = "good"            // one of the last good ones
	IsEvidence     Reason = "evidence"        // the last one that failed
	NeverDeployed  Reason = "never_deployed"  // it may be the next release, uploaded already
	IsUnproven     Reason = "unproven"        // it failed, and whose fault that was isn't known
	OtherDirectory Reason = "other_directory" // it has the name of one that was deployed, and isn't it
	HasChanged     Reason = "changed"         // since it failed
	NotRecorded    Reason = "not_recorded"    // which directory it was
	NotKnown       Reason = "unknown"         // what uses it
	IsOld          Reason = "old"             // it goes: there are enough good ones after it
	HasFailed      Reason = "failed"          // it goes: another one failed after it
	IsLeftover     Reason = "leftover"        // it goes: its removal was begun
)

// Fate is what becomes of a directory below releases/, and why.
type Fate struct {
	Name    string          // of the directory
	Version release.Version // "": it isn't known whose rest it is
	Remove  bool
	Reason  Reason
	Detail  string
	Removed bool
	Failed  error // it was to be removed, and isn't, or not all of it

	trash *release.Trash // a removal that was begun
}

// Leftover reports whether it is what a removal that broke off has left.
func (f Fate) Leftover() bool { return f.trash != nil }

// Stays reports whether it stays for another reason than that it is wanted: by the order of releases it could go.
func (f Fate) Stays() bool {
	switch f.Reason {
	case IsLive, IsWayBack, IsGood, IsEvidence, IsUnproven, NeverDeployed:
		return false
	default:
		return !f.Removed
	}
}

func (f *Fate) keep(r Reason, detail string) { f.Remove, f.Reason, f.Detail = false, r, detail }

// Shelf is what is known of the releases on disk.
type Shelf struct {
	History   journal.History
	OnDisk    []release.Version
	Current   release.Version
	Keep      int
	Leftovers []release.Trash
	// Directories has those that could be looked at.
	Directories map[release.Version]release.Identity
	// Changed returns a file of a release that was changed after a time, "" if there is none.
	Changed func(v release.Version, after time.Time) string

	// What uses them. A look is asked for only where there is something to remove.
	Held   func() (map[string]inuse.Hold, error)
	Around func() ([]inuse.Lead, error)
	Needs  func(from release.Version) ([]inuse.Lead, error)
}

// Prunable says what becomes of each release on disk, and of the rests of removals that broke off; the newest first. Of those
// that passed their last gate all but the Keep most recent may go, and of those that failed it all but the most recent, which
// stays as evidence.
//
// The live release and the way back never go, nor does anything that the journal has no gate of, that isn't the directory
// that was gated, or that is used: by a mount, by a process, or by what stays.
func (s Shelf) Prunable() []Fate {
	fates := s.byRecord()
	if !slices.ContainsFunc(fates, func(f Fate) bool { return f.Remove }) {
		return fates
	}
	held, heldErr := s.Held()
	around, aroundErr := s.Around()
	for i := range fates {
		f := &fates[i]
		hold, isHeld := held[f.Name]
		lead := slices.IndexFunc(around, func(l inuse.Lead) bool { return l.To == f.Name })
		switch {
		case !f.Remove:
		case isHeld:
			f.keep(Reason(hold.Reason), hold.Why)
		case lead >= 0:
			f.keep(Reason(inuse.Needed), around[lead].How)
		case heldErr != nil:
			f.keep(NotKnown, heldErr.Error())
		case aroundErr != nil:
			f.keep(NotKnown, aroundErr.Error())
		}
	}
	s.keepNeeded(fates)
	return fates
}

// keepNeeded keeps what leads from what stays lead into, and what that leads into in turn.
func (s Shelf) keepNeeded(fates []Fate) {
	var staying []release.Version
	for _, f := range fates {
		if !f.Remove && !f.Leftover() {
			staying = append(staying, f.Version)
		}
	}
	for ; len(staying) > 0 && slices.ContainsFunc(fates, func(f Fate) bool { return f.Remove }); staying = staying[1:] {
		leads, err := s.Needs(staying[0])
		for i := range fates {
			f := &fates[i]
			lead := slices.IndexFunc(leads, func(l inuse.Lead) bool { return l.To == f.Name })
			switch {
			case !f.Remove || f.Leftover():
			case lead >= 0:
				f.keep(Reason(inuse.Needed), leads[lead].How)
				staying = append(staying, f.Version)
			case err != nil:
				f.keep(NotKnown, err.Error())
			}
		}
	}
}

// byRecord decides by the journal.
func (s Shelf) byRecord() []Fate {
	var way release.Version
	if ways := rollback.Candidates(s.History, s.OnDisk, s.Current); len(ways) > 0 {
		way = ways[0]
	}
	fates := make([]Fate, 0, len(s.OnDisk)+len(s.Leftovers))
	at := map[release.Version]int{}
	for _, v := range slices.Backward(s.OnDisk) {
		at[v] = len(fates)
		f := Fate{Name: string(v), Version: v, Reason: NeverDeployed, Detail: "never deployed by deploygate"}
		if s.History.Unproven(v) {
			f.Reason, f.Detail = IsUnproven, "failed, and it isn't proved that the fault was its own"
		}
		fates = append(fates, f)
	}
	good, bad := 0, 0
	for _, v := range s.History.Gated() {
		i, there := at[v]
		if !there {
			continue
		}
		f := &fates[i]
		if !s.isDeployed(f) {
			continue
		}
		if s.History.Good(v) {
			if good++; good <= s.Keep {
				f.keep(IsGood, fmt.Sprintf("one of the last %d good ones", s.Keep))
			} else {
				f.Remove, f.Reason, f.Detail = true, IsOld, fmt.Sprintf("good, and older than the last %d", s.Keep)
			}
			continue
		}
		if bad++; bad == 1 {
			f.keep(IsEvidence, "the last one that failed, as evidence")
		} else {
			f.Remove, f.Reason, f.Detail = true, HasFailed, "failed, and another one after it"
		}
	}
	for v, reason := range map[release.Version]Reason{way: IsWayBack, s.Current: IsLive} {
		if i, there := at[v]; there {
			fates[i].keep(reason, map[Reason]string{IsWayBack: "the way back", IsLive: "live"}[reason])
		}
	}
	for _, t := range s.Leftovers {
		fates = append(fates, s.leftover(t))
	}
	return fates
}

// isDeployed reports whether a release is the directory that was gated under its name, as it was then.
func (s Shelf) isDeployed(f *Fate) bool {
	deployed, _ := s.History.Deployed(f.Version)
	now, seen := s.Directories[f.Version]
	same, known := deployed.Is(now)
	switch {
	case !seen:
		f.keep(NotRecorded, "can't be looked at")
	case !known:
		f.keep(NotRecorded, "not known whether it is the directory that was deployed: neither the record nor its file system tells")
	case !same:
		f.keep(OtherDirectory, "not the directory that was deployed under this name")
	case s.History.Bad(f.Version):
		if file := s.Changed(f.Version, deployed.Ended); file != "" {
			f.keep(HasChanged, "changed since it failed: "+file)
			return false
		}
		return true
	default:
		return true
	}
	return false
}

// leftover decides on what has the name of something that is being removed: it goes only if it was deployed once.
func (s Shelf) leftover(t release.Trash) Fate {
	f := Fate{Name: t.Name, Version: t.Version, trash: &t}
	whose := []release.Version{t.Version}
	if t.Version == "" {
		whose = s.History.Gated()
	}
	for _, v := range whose {
		deployed, _ := s.History.Deployed(v)
		if t.Version == "" && deployed.Directory == (release.Identity{}) {
			continue // a time alone doesn't tell whose it is
		}
		if same, known := deployed.Is(t.Identity); same && known {
			f.Version, f.Remove, f.Reason, f.Detail = v, true, IsLeftover, fmt.Sprintf("what is left of %s, whose removal was begun", v)
			return f
		}
	}
	f.keep(OtherDirectory, "not known to be what a removal has left; if it isn't needed, remove it by hand")
	return f
}

// shelf looks at the releases on disk.
func (d *Deployer) shelf(ctx context.Context) (s Shelf, err error) {
	if s.History, err = journal.Load(d.StateDir); err != nil {
		return s, err
	}
	if s.Current, err = d.Tree.Current(); err != nil {
		return s, err
	}
	if s.OnDisk, err = d.Tree.Releases(); err != nil {
		return s, err
	}
	if s.Leftovers, err = d.Tree.Leftovers(); err != nil {
		return s, err
	}
	s.History, s.Keep = s.History.Seen(s.Current), d.Keep
	s.Changed = d.Uses.ChangedAfter
	s.Directories = map[release.Version]release.Identity{}
	names := []string{}
	for _, v := range s.OnDisk {
		names = append(names, string(v))
		if id, err := d.Tree.Identify(v); err == nil {
			s.Directories[v] = id
		}
	}
	for _, t := range s.Leftovers {
		names = append(names, t.Name)
	}
	s.Held = func() (map[string]inuse.Hold, error) { return d.Uses.Held(ctx, names) }
	s.Around = func() ([]inuse.Lead, error) { return d.Uses.Around(ctx, s.OnDisk) }
	s.Needs = func(from release.Version) ([]inuse.Lead, error) { return d.Uses.Needs(ctx, from, s.OnDisk) }
	return s, nil
}

// Fates says what Prune would do.
func (d *Deployer) Fates(ctx context.Context) ([]Fate, error) {
	s, err := d.shelf(ctx)
	if err != nil {
		return nil, err
	}
	return s.Prunable(), nil
}

// FatesAfter says what Prune would do once v has been released.
func (d *Deployer) FatesAfter(ctx context.Context, v release.Version) ([]Fate, error) {
	s, err := d.shelf(ctx)
	if err != nil {
		return nil, err
	}
	s.History, s.Current = s.History.Released(v, s.Directories[v]), v
	return s.Prunable(), nil
}

// Prune removes old releases and what earlier removals have left, and says what became of each. The caller holds the app's
// lock.
//
// What is to go is renamed first, and looked at once more under a name that nobody else knows: what someone has come to use
// meanwhile is put back.
func (d *Deployer) Prune(ctx context.Context) ([]Fate, error) {
	s, err := d.shelf(ctx)
	if err != nil {
		return nil, err
	}
	fates := s.Prunable()
	aside := map[*Fate]release.Trash{}
	var names []string
	for i := range fates {
		f := &fates[i]
		if !f.Remove || ctx.Err() != nil {
			continue
		}
		if f.trash != nil {
			aside[f] = *f.trash
		} else if trash, err := d.Tree.SetAside(f.Version, s.Directories[f.Version]); err != nil {
			f.Failed = err
			continue
		} else {
			aside[f] = trash
		}
		names = append(names, aside[f].Name)
	}
	if len(aside) == 0 {
		return fates, context.Cause(ctx)
	}
	held, err := d.Uses.Held(ctx, names)
	for i := range fates {
		f := &fates[i]
		trash, is := aside[f]
		if !is {
			continue
		}
		hold, isHeld := held[trash.Name]
		switch {
		case isHeld:
			f.keep(Reason(hold.Reason), hold.Why)
		case err != nil:
			f.keep(NotKnown, err.Error())
		case ctx.Err() != nil:
			f.keep(NotKnown, context.Cause(ctx).Error())
		default:
			f.Failed = d.Tree.Delete(ctx, trash)
			f.Removed = f.Failed == nil
			continue
		}
		if !f.Leftover() {
			f.Failed = d.Tree.PutBack(trash)
		}
	}
	return fates, context.Cause(ctx)
}

// prune is Prune as a step: the deploy has succeeded, so a failure is a warning.
func (r *run) prune(ctx context.Context) {
	err := r.step(StepPrune, "", func(gate.Progress) (string, error) {
		fates, err := r.Prune(ctx)
		if err != nil {
			return "", err
		}
		var removed, kept []string
		var failed []error
		for _, f := range fates {
			switch {
			case f.Removed:
				removed = append(removed, f.Name)
			case f.Failed != nil:
				failed = append(failed, f.Failed)
			case f.Stays():
				kept = append(kept, fmt.Sprintf("kept %s: %s", f.Name, f.Detail))
			}
		}
		said := kept
		if len(removed) > 0 {
			said = append([]string{"removed " + strings.Join(removed, ", ")}, kept...)
		}
		switch {
		case len(failed) > 0:
			for _, err := range failed[1:] {
				r.warn("%v", err)
			}
			return "", failed[0]
		case len(said) == 0:
			return "nothing to remove", errSkipped
		}
		return strings.Join(said, "; "), nil
	})
	if err != nil {
		r.warn("old releases were not all removed: %v", err)
	}
}
