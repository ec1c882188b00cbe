// Package gate decides whether a release is healthy, from what systemd, the processes, the app's answers and the
// proxy show.
//
// Guaranteed: healthy means uninterrupted health for a set time, by a process that is known to run the release that
// was asked for; a crash ends the wait at once. Deciding is pure (Crash, Proof, Want.Judge, Streak); waiting is in HealthCheck and ProxyCheck;
// what touches the host comes in through small interfaces.
//
// Not guaranteed: that a healthy release stays healthy, nor that what the health path doesn't touch works.
package gate

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"
)

// Layer is the part of the host where a failure lies, from the release's files up to the answer itself.
type Layer string

// The layers, as the JSON verdict names them.
const (
	LayerRelease   Layer = "release"
	LayerService   Layer = "service"
	LayerApp       Layer = "app"
	LayerSocket    Layer = "socket"
	LayerProxy     Layer = "proxy"
	LayerSchema    Layer = "schema"
	LayerResources Layer = "resources"
	LayerHealth    Layer = "health"
)

// Cause is a stable slug. Unknown is honest; a wrong cause is a defect.
type Cause string

// The causes. What proves each, and what to do about it, is in gate/diagnosis; the gate itself can prove some.
const (
	Unknown     Cause = "unknown"
	Interrupted Cause = "interrupted"

	PartialRelease    Cause = "partial_release"
	ReleaseUnreadable Cause = "release_unreadable"
	OldReleaseRunning Cause = "old_release_running"

	ServiceStopped          Cause = "service_stopped"
	ExecMissing             Cause = "exec_missing"
	WorkingDirectoryMissing Cause = "working_directory_missing"
	EnvFileMissing          Cause = "env_file_missing"
	UserMissing             Cause = "user_missing"
	SandboxPathMissing      Cause = "sandbox_path_missing"
	LogTargetMissing        Cause = "log_target_missing"
	StartLimitHit           Cause = "start_limit_hit"
	BadOption               Cause = "bad_option"
	NotEnabled              Cause = "not_enabled"
	NoRecovery              Cause = "no_recovery_at_boot"
	NoRestart               Cause = "no_restart"
	UnitChanged             Cause = "unit_changed"
	EnvChanged              Cause = "environment_changed"
	ConfigChanged           Cause = "configuration_changed"
	ReleaseChanged          Cause = "release_changed"
	DependencyMissing       Cause = "dependency_missing"

	ImportError         Cause = "import_error"
	SettingsModule      Cause = "settings_module"
	AppAttribute        Cause = "app_attribute"
	SyntaxError         Cause = "syntax_error"
	EnvVarMissing       Cause = "env_var_missing"
	SecretKey           Cause = "secret_key"
	BootHang            Cause = "boot_hang"
	NoAnswer            Cause = "no_answer"
	WorkerTimeout       Cause = "worker_timeout"
	WorkerCrash         Cause = "worker_crash"
	AppError            Cause = "app_error"
	DatabaseUnreachable Cause = "database_unreachable"
	DatabaseRefused     Cause = "database_refused"
	StaticManifest      Cause = "static_manifest"

	MigrationUnapplied Cause = "migration_unapplied"
	MigrationFailed    Cause = "migration_failed"
	RollbackBlocked    Cause = "rollback_blocked"
	SchemaAhead        Cause = "schema_ahead"

	SocketMissing    Cause = "socket_missing"
	SocketStale      Cause = "socket_stale"
	SocketPermission Cause = "socket_permission"
	PortInUse        Cause = "port_in_use"
	BacklogFull      Cause = "backlog_full"
	StrayProcess     Cause = "stray_process"

	ProxyStopped       Cause = "proxy_stopped"
	ProxyConfigInvalid Cause = "proxy_config_invalid"
	ProxyUnverified    Cause = "proxy_unverified"
	ProxyUnproven      Cause = "proxy_unproven"
	ProxyTimeout       Cause = "proxy_timeout"
	ProxyChanged       Cause = "proxy_changed"
	BindMismatch       Cause = "bind_mismatch"

	CertificateExpiring Cause = "certificate_expiring"
	CertificateInvalid  Cause = "certificate_invalid"

	OOM      Cause = "oom"
	DiskFull Cause = "disk_full"

	DisallowedHost   Cause = "disallowed_host"
	Redirect         Cause = "redirect"
	UnexpectedStatus Cause = "unexpected_status"
	UnexpectedBody   Cause = "unexpected_body"
	IncompleteAnswer Cause = "incomplete_answer"
	TooSlow          Cause = "too_slow"
)

// Finding says which layer failed and why, in the words of the JSON verdict. It is the error of every check.
type Finding struct {
	Layer    Layer      `json:"layer"`
	Cause    Cause      `json:"cause"`
	Blames   Blame      `json:"blames"`  // "" until it is known better than by the cause: see Blame
	Summary  string     `json:"summary"` // one sentence, no final stop
	Evidence []Evidence `json:"evidence"`
	Advice   []string   `json:"advice"`

	// What was seen at that moment, for a diagnosis that comes later; nil where it wasn't looked at.
	State   *UnitState `json:"-"`
	Answer  *Answer    `json:"-"`
	Proxied bool       `json:"-"` // Answer came through the proxy
	// NeverStarted: the release was not run at all, so that nothing is known of it. What was to be swapped or started stayed
	// as it was, or its start was given up before the main process of this release began.
	NeverStarted bool `json:"-"`
	// Unseen: the host could not be looked at, so that nothing is known of it. See NotSeen.
	Unseen bool `json:"-"`
}

// Evidence is a line or a few that prove a finding, and where they were read.
type Evidence struct {
	Source string `json:"source"`
	Text   string `json:"text"`
}

func (f *Finding) Error() string { return f.Summary }

// With gives the finding one more piece of evidence; empty text adds none.
func (f *Finding) With(source, text string) *Finding {
	if text = Clean(text); text != "" {
		f.Evidence = append(f.Evidence, Evidence{source, text})
	}
	return f
}

// Advise adds what to do next.
func (f *Finding) Advise(advice string) *Finding {
	f.Advice = append(f.Advice, advice)
	return f
}

// Line is the finding in one line, for a list of warnings: what is wrong, and what to do.
func (f *Finding) Line() string {
	if len(f.Advice) == 0 {
		return f.Summary
	}
	return f.Summary + ": " + strings.Join(f.Advice, "; ")
}

// maxEvidence bounds one piece of evidence, in bytes.
const maxEvidence = 4 << 10

// Clean makes remote text harmless to show: Printable, and bounded.
func Clean(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\r\n", "\n")
	if len(s) > maxEvidence {
		cut := maxEvidence
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + cutAfter
	}
	return Printable(s)
}

// OneLine is Clean, with every run of white space as one space.
func OneLine(s string) string { return strings.Join(strings.Fields(Clean(s)), " ") }

// Printable replaces what would act on the operator's terminal: it leaves valid UTF-8 without control characters but newline
// and tab.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < 0x20, r >= 0x7f && r < 0xa0, r == utf8.RuneError, isBidi(r):
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// isBidi tells the characters that reorder the text around them.
func isBidi(r rune) bool {
	return r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
}

// NewFinding makes a finding without evidence or advice yet.
func NewFinding(layer Layer, cause Cause, summary string) *Finding {
	return &Finding{Layer: layer, Cause: cause, Summary: summary, Evidence: []Evidence{}, Advice: []string{}}
}

// AsFinding gives an error that isn't a finding yet its layer.
func AsFinding(layer Layer, err error) *Finding {
	if f, is := errors.AsType[*Finding](err); is {
		return f
	}
	f := NewFinding(layer, Unknown, err.Error())
	if errors.Is(err, fs.ErrPermission) {
		f.Unseen = true
		f.Advise("run deploygate as root")
	}
	return f
}

// NotSeen reports whether the finding says only that the host could not be looked at, for lack of rights or of a service
// manager. Not to know is not to be unhealthy.
func (f *Finding) NotSeen() bool { return f.Unseen || f.Cause == ProxyUnverified }

// AllUnseen reports whether there are findings, and none of them says more than that the host could not be looked at.
func AllUnseen(findings []*Finding) bool {
	return len(findings) > 0 && !slices.ContainsFunc(findings, func(f *Finding) bool { return !f.NotSeen() })
}
