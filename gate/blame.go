package gate

import (
	"bytes"
	"cmp"
	"encoding/json"
)

// Blame is whose fault a failure is, as far as it is proved.
type Blame string

const (
	// BlamesRelease means that the release itself can't run, on this host or any other.
	BlamesRelease Blame = "release"
	// BlamesHost means that what every release on this host needs is broken.
	BlamesHost Blame = "host"
	// BlamesUnknown means that either may be the reason. Another release that passes on the same host, or fails as well, decides it.
	BlamesUnknown Blame = "unknown"
)

// blames is what each cause proves by itself. It is unknown where a release may bring the cause about as well as the host:
// a variable that is missing was taken out of the environment, or is new in the code.
var blames = map[Cause]Blame{
	Unknown:     BlamesUnknown,
	Interrupted: BlamesUnknown,

	PartialRelease:    BlamesRelease,
	ReleaseUnreadable: BlamesRelease,
	OldReleaseRunning: BlamesUnknown,

	ServiceStopped:          BlamesHost,
	ExecMissing:             BlamesUnknown, // the program may be the release's own
	WorkingDirectoryMissing: BlamesUnknown, // so may the directory
	EnvFileMissing:          BlamesUnknown, // and the file
	UserMissing:             BlamesHost,
	SandboxPathMissing:      BlamesHost,
	LogTargetMissing:        BlamesHost,
	StartLimitHit:           BlamesUnknown,
	BadOption:               BlamesUnknown, // gunicorn.conf.py is the release's, ExecStart= the host's
	NotEnabled:              BlamesHost,
	NoRecovery:              BlamesHost,
	NoRestart:               BlamesHost,
	UnitChanged:             BlamesHost,
	EnvChanged:              BlamesHost,
	ConfigChanged:           BlamesUnknown, // the file may be the release's
	ReleaseChanged:          BlamesUnknown, // who edits a release in place is a person on the host
	DependencyMissing:       BlamesHost,

	ImportError:         BlamesUnknown, // the package was never there, or has been removed
	SettingsModule:      BlamesUnknown,
	AppAttribute:        BlamesUnknown,
	SyntaxError:         BlamesRelease,
	EnvVarMissing:       BlamesUnknown,
	SecretKey:           BlamesUnknown,
	BootHang:            BlamesUnknown,
	NoAnswer:            BlamesUnknown,
	WorkerTimeout:       BlamesUnknown,
	WorkerCrash:         BlamesUnknown,
	AppError:            BlamesUnknown,
	DatabaseUnreachable: BlamesHost,
	DatabaseRefused:     BlamesUnknown, // DATABASES may have changed with the release
	StaticManifest:      BlamesRelease,

	MigrationUnapplied: BlamesUnknown,
	MigrationFailed:    BlamesUnknown,
	RollbackBlocked:    BlamesUnknown,
	SchemaAhead:        BlamesHost,

	SocketMissing:    BlamesUnknown,
	SocketStale:      BlamesUnknown,
	SocketPermission: BlamesUnknown,
	PortInUse:        BlamesHost,
	BacklogFull:      BlamesUnknown,
	StrayProcess:     BlamesUnknown, // left over by another start, or started by the release outside of its unit

	ProxyStopped:       BlamesHost,
	ProxyConfigInvalid: BlamesUnknown, // it may include files of the release
	ProxyUnverified:    BlamesHost,
	ProxyUnproven:      BlamesHost,
	ProxyTimeout:       BlamesUnknown,
	ProxyChanged:       BlamesHost,
	BindMismatch:       BlamesUnknown,

	CertificateExpiring: BlamesHost,
	CertificateInvalid:  BlamesHost,

	OOM:      BlamesUnknown,
	DiskFull: BlamesHost,

	DisallowedHost:   BlamesUnknown,
	Redirect:         BlamesUnknown,
	UnexpectedStatus: BlamesUnknown,
	UnexpectedBody:   BlamesUnknown,
	IncompleteAnswer: BlamesUnknown,
	TooSlow:          BlamesUnknown,
}

// Blame is whose fault the failure is: what was found out by comparing releases, else what the cause proves by itself.
func (f *Finding) Blame() Blame {
	switch {
	case f.Blames != "":
		return f.Blames
	case f.NeverStarted:
		return BlamesUnknown
	}
	return cmp.Or(blames[f.Cause], BlamesUnknown)
}

// MarshalJSON always says whom the finding blames.
func (f Finding) MarshalJSON() ([]byte, error) {
	type plain Finding // without this method
	f.Blames = f.Blame()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // that is for whoever prints it to decide
	err := e.Encode(plain(f))
	return text.Bytes(), err
}
