package release

// Activation is one time that a release went live, or that its migrations may have run.
type Activation struct {
	Version Version
	// Forward: by release, so that its migrations may have run; a rollback runs none.
	Forward bool
	// ByHand: found live, though no deploy of the journal put it there.
	ByHand bool
	// HooksOnly: its before_swap hooks were begun, so that its migrations may have run; it may never have been live.
	HooksOnly bool
	// HooksEnded: all of these hooks ended well, so that its migrations did run.
	HooksEnded bool
	// Passed: it passed its gate then, or was found healthy.
	Passed bool
	// Rollback: a person went back to it and it passed, so that what went live after it is left behind.
	Rollback bool
	// Override: a person said that it may run on the schema as it is, whatever a marker says.
	Override bool
}

// Schema is what the requested release said of its schema when it was deployed, for when its directory is gone.
type Schema struct {
	Marker        string   `json:"marker,omitempty"` // safe, blocked; "" for no marker
	Reason        string   `json:"reason,omitempty"`
	Migrations    []string `json:"migrations,omitempty"`     // named by the marker
	NewMigrations []string `json:"new_migrations,omitempty"` // than the previous release's
	Unknown       string   `json:"unknown,omitempty"`        // why NewMigrations is not known
	// Judged: what NewMigrations do was read, and Blocking is what the previous release's code can't live with.
	Judged   bool    `json:"judged,omitempty"`
	Blocking []Block `json:"blocking,omitempty"`
}

// Block is an operation of a migration that an older release's code can't live with.
type Block struct {
	Migration  string `json:"migration"`           // app.name
	Operation  string `json:"operation,omitempty"` // "" is the whole migration
	Why        string `json:"why"`
	Reversible bool   `json:"reversible"`        // Django can unapply it
	Reverse    string `json:"reverse,omitempty"` // what that doesn't bring back, or why it can't be done
}

func (b Block) String() string {
	if b.Operation == "" {
		return b.Migration + " " + b.Why
	}
	return b.Migration + ": " + b.Operation + ": " + b.Why
}
