package unit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"deploygate/gate"
)

// Candidate is a service to run beside the app's unit, as that unit runs: the same user, groups, environment files, limits,
// umask and sandbox.
type Candidate struct {
	Name             string   // of the unit
	Args             []string // as in ExecStart=: systemd replaces variables in it
	Dir              string
	Environment      []string
	Point            func(path string) string // where a path of the unit's settings leads for it; nil: to the same
	RuntimeDirectory string                   // its own, below /run or $XDG_RUNTIME_DIR
	Protect          []string                 // paths that it can't change, whatever it tries; where systemd has the right to see to that
	Limit            time.Duration            // after which it is stopped, should nobody do it before
}

// besideStop is how long it may take to end before it is killed.
const besideStop = 5 * time.Second

// StartCandidate starts a service beside the unit and waits until its program is being executed, or systemd has given up: its
// state says which. It is not restarted when it ends. Discard ends it, and has to be called after an error as well.
func (u Unit) StartCandidate(ctx context.Context, b Candidate) error {
	u.m.Discard(b.Name) // what an earlier one left, whose deploy died
	own, none, err := u.beside(ctx, b.Name)
	if err == nil {
		err = u.sameWorld(own, none)
	}
	if err != nil {
		return err
	}
	props, err := u.inherited(own, none, b.Point)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	conn, _, err := u.m.dialled()
	if err != nil {
		return err
	}
	prop := func(name string, value any) { props[name] = dbus.MakeVariant(value) }
	prop("Description", "deploygate: a release that is rehearsed beside "+u.name)
	prop("Type", "exec")
	props["ExecStart"] = sd.PropExecStart(b.Args, false).Value
	prop("Environment", b.Environment)
	prop("RuntimeDirectory", []string{b.RuntimeDirectory})
	prop("RuntimeDirectoryMode", uint32(0o700))
	prop("RuntimeMaxUSec", uint64(b.Limit.Microseconds()))     //nolint:gosec // configuration takes no negative one
	prop("TimeoutStopUSec", uint64(besideStop.Microseconds())) //nolint:gosec // a constant
	prop("KillMode", "mixed")
	prop("OOMScoreAdjust", int32(1000)) // where memory is short it has to be this one
	if b.Dir != "" {
		prop("WorkingDirectory", b.Dir)
	}
	if u.m.scope == System && len(b.Protect) > 0 {
		readOnly, _ := props["ReadOnlyPaths"].Value().([]string)
		for _, p := range b.Protect {
			readOnly = append(slices.Clip(readOnly), "-"+p) // it need not be there
		}
		prop("ReadOnlyPaths", readOnly)
	}
	done := make(chan string, 1)
	if _, err := conn.StartTransientUnitContext(ctx, b.Name, "fail", sorted(props), done); err != nil {
		return fmt.Errorf("cannot start %s: %w", b.Name, plain(err))
	}
	_, err = u.m.Unit(b.Name).await(ctx, conn, done)
	if errors.Is(err, context.DeadlineExceeded) {
		return gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("%s did not start within %s", b.Name, callLimit)).
			Advise("systemctl status " + u.name)
	}
	return err
}

// sorted returns settings in the order of their names.
func sorted(props settings) (list []sd.Property) {
	for _, name := range slices.Sorted(maps.Keys(props)) {
		list = append(list, sd.Property{Name: name, Value: props[name]})
	}
	return list
}

// Discard stops a service that StartCandidate started, waits until its processes are gone, and has systemd forget it. One
// that doesn't exist is fine.
func (m *Manager) Discard(name string) { m.stop(name) }

// settings are a service's, by their names.
type settings = map[string]dbus.Variant

// beside reads the unit's settings, and those of a service that has none.
func (u Unit) beside(ctx context.Context, like string) (own, none settings, err error) {
	if own, err = u.settings(ctx); err == nil {
		none, err = u.m.Unit(like).settings(ctx)
	}
	return own, none, err
}

// sameWorld says what a release beside the unit can't have.
func (u Unit) sameWorld(own, none settings) error {
	for _, name := range notInheritable {
		if !reflect.DeepEqual(own[name], none[name]) {
			return cannotRehearse(u.name, name+"=")
		}
	}
	commands, _ := own["ExecStartEx"].Value().([][]any)
	if prefix := prefixOf(commands); prefix != "" {
		return cannotRehearse(u.name, "ExecStart= with a prefix ("+prefix+")")
	}
	return nil
}

// inherited are the unit's settings that make a process what it is: those that differ from a service that has none.
func (u Unit) inherited(own, none settings, point func(string) string) (props settings, err error) {
	differs := func(name string) bool { return !reflect.DeepEqual(own[name], none[name]) }
	props = settings{}
	for _, name := range inheritable {
		value, has := own[name]
		// One of a limit's two alone would become the other as well.
		limit := strings.HasPrefix(name, "Limit") && (differs(strings.TrimSuffix(name, "Soft")) || differs(name+"Soft"))
		if !has || !differs(name) && !limit {
			continue
		}
		if name == "SELinuxContext" {
			value = written(value)
		}
		if props[name], err = settable(value, point); err != nil {
			return nil, fmt.Errorf("cannot take over %s of %s: %w", name, u.name, err)
		}
	}
	return props, nil
}

// written is SELinuxContext= as it is set: it reads as whether its failure is ignored, and the label.
func written(context dbus.Variant) dbus.Variant {
	parts, _ := context.Value().([]any)
	if len(parts) != 2 {
		return context
	}
	label, _ := parts[1].(string)
	if ignored, _ := parts[0].(bool); ignored {
		label = "-" + label
	}
	return dbus.MakeVariant(label)
}

func cannotRehearse(unit, what string) error {
	return gate.NewFinding(gate.LayerService, gate.Unknown, fmt.Sprintf("cannot run a release beside %s as it runs: it has %s", unit, what)).
		Advise("release it without a rehearsal: --no-rehearse")
}

// prefixOf returns what a command's prefixes are called (systemd.service(5), "Special executable prefixes"), but for the one
// that has failures ignored.
func prefixOf(commands [][]any) string {
	for _, c := range commands {
		if len(c) < 3 {
			continue
		}
		flags, _ := c[2].([]string)
		for _, flag := range flags {
			if flag != "ignore-failure" {
				return flag
			}
		}
	}
	return ""
}

// settings reads the properties that a service has beyond a unit's, with their types.
func (u Unit) settings(ctx context.Context) (settings, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	_, raw, err := u.m.dialled()
	if err != nil {
		return nil, err
	}
	const systemd = "org.freedesktop.systemd1"
	var path dbus.ObjectPath
	err = raw.Object(systemd, "/org/freedesktop/systemd1").CallWithContext(ctx, systemd+".Manager.LoadUnit", 0, u.name).Store(&path)
	if err != nil {
		return nil, fmt.Errorf("cannot ask systemd about %s: %w", u.name, plain(err))
	}
	call := raw.Object(systemd, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, systemd+".Service")
	if call.Err != nil {
		return nil, fmt.Errorf("cannot ask systemd about %s: %w", u.name, plain(call.Err))
	}
	for _, body := range call.Body { // as it came: Store would make the types of structs again, and wrong
		if props, is := body.(map[string]dbus.Variant); is {
			return props, nil
		}
	}
	return nil, fmt.Errorf("cannot ask systemd about %s: its answer is not understood", u.name)
}

// settable is a property's value as it can be sent: godbus reads a struct as a list, and can't write it back from one.
// Paths in it are pointed elsewhere.
func settable(v dbus.Variant, point func(string) string) (dbus.Variant, error) {
	t, rest := typeOf(v.Signature().String())
	if t == nil || rest != "" {
		return v, fmt.Errorf("its type %s is not known", v.Signature())
	}
	value := reflect.New(t)
	if err := dbus.Store([]any{v.Value()}, value.Interface()); err != nil {
		return v, err
	}
	if point != nil {
		replace(value.Elem(), point)
	}
	return dbus.MakeVariant(value.Elem().Interface()), nil
}

// replace changes every text in a value.
func replace(v reflect.Value, by func(string) string) {
	switch v.Kind() { //nolint:exhaustive // the others hold no text
	case reflect.String:
		v.SetString(by(v.String()))
	case reflect.Slice:
		for i := range v.Len() {
			replace(v.Index(i), by)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			replace(field, by)
		}
	}
}

// typeOf returns the Go type of the first complete type of a D-Bus signature; nil for what no setting has.
func typeOf(signature string) (t reflect.Type, rest string) {
	if signature == "" {
		return nil, ""
	}
	rest = signature[1:]
	switch signature[0] {
	case 'y':
		t = reflect.TypeFor[byte]()
	case 'b':
		t = reflect.TypeFor[bool]()
	case 'q':
		t = reflect.TypeFor[uint16]()
	case 'i':
		t = reflect.TypeFor[int32]()
	case 'u':
		t = reflect.TypeFor[uint32]()
	case 't':
		t = reflect.TypeFor[uint64]()
	case 's':
		t = reflect.TypeFor[string]()
	case 'a':
		var of reflect.Type
		if of, rest = typeOf(rest); of != nil {
			t = reflect.SliceOf(of)
		}
	case '(':
		return structOf(rest)
	}
	return t, rest
}

func structOf(signature string) (t reflect.Type, rest string) {
	var fields []reflect.StructField
	for rest = signature; rest != "" && rest[0] != ')'; {
		var of reflect.Type
		if of, rest = typeOf(rest); of == nil {
			return nil, rest
		}
		fields = append(fields, reflect.StructField{Name: fmt.Sprintf("F%d", len(fields)), Type: of})
	}
	if rest == "" {
		return nil, ""
	}
	return reflect.StructOf(fields), rest[1:]
}

// notInheritable are the settings that would make another world of what runs there: a root of its own, or a session, which
// its processes may leave the unit for.
var notInheritable = []string{"RootDirectory", "RootImage", "MountImages", "ExtensionImages", "ExtensionDirectories", "PAMName"}

// inheritable are the settings of systemd.exec(5) and systemd.resource-control(5) that a process can notice. Left out on
// purpose: what is the service's own (RuntimeDirectory=, PIDFile=, Exec…=, Restart=, WatchdogSec=), and where its output
// goes, which is the journal.
var inheritable = []string{
	"User", "Group", "SupplementaryGroups", "DynamicUser",
	"EnvironmentFiles", "PassEnvironment", "UnsetEnvironment", "ExecSearchPath",
	"WorkingDirectory", "UMask", "Nice", "CoredumpFilter", "TimerSlackNSec", "KeyringMode", "IgnoreSIGPIPE",
	"CPUSchedulingPolicy", "CPUSchedulingPriority", "CPUSchedulingResetOnFork", "CPUAffinity", "CPUAffinityFromNUMA",
	"NUMAPolicy", "NUMAMask", "IOSchedulingClass", "IOSchedulingPriority", "Personality",

	"LimitAS", "LimitASSoft", "LimitCORE", "LimitCORESoft", "LimitCPU", "LimitCPUSoft", "LimitDATA", "LimitDATASoft",
	"LimitFSIZE", "LimitFSIZESoft", "LimitLOCKS", "LimitLOCKSSoft", "LimitMEMLOCK", "LimitMEMLOCKSoft",
	"LimitMSGQUEUE", "LimitMSGQUEUESoft", "LimitNICE", "LimitNICESoft", "LimitNOFILE", "LimitNOFILESoft",
	"LimitNPROC", "LimitNPROCSoft", "LimitRSS", "LimitRSSSoft", "LimitRTPRIO", "LimitRTPRIOSoft",
	"LimitRTTIME", "LimitRTTIMESoft", "LimitSIGPENDING", "LimitSIGPENDINGSoft", "LimitSTACK", "LimitSTACKSoft",

	"StateDirectory", "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode", "LogsDirectory", "LogsDirectoryMode",
	"ConfigurationDirectory", "ConfigurationDirectoryMode",
	"LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted", "ImportCredential",

	"ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem",
	"BindPaths", "BindReadOnlyPaths", "MountFlags", "MountAPIVFS", "PrivateTmp", "PrivateDevices", "PrivateMounts",
	"PrivateTmpEx", "PrivateNetwork", "PrivateIPC", "PrivatePIDs", "PrivateUsers", "PrivateUsersEx", "NetworkNamespacePath", "IPCNamespacePath",
	"ProtectSystem", "ProtectHome", "ProtectHostname", "ProtectClock", "ProtectKernelTunables", "ProtectKernelModules",
	"ProtectKernelLogs", "ProtectControlGroups", "ProtectControlGroupsEx", "ProtectProc", "ProcSubset", "RemoveIPC",
	"CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges", "SecureBits", "LockPersonality",
	"MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "RestrictNamespaces", "RestrictAddressFamilies",
	"RestrictFileSystems", "SystemCallFilter", "SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallLog",
	"SELinuxContext", "AppArmorProfile", "SmackProcessLabel",

	"Slice", "CPUWeight", "StartupCPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs", "AllowedMemoryNodes",
	"MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax", "MemorySwapMax", "TasksMax", "IOWeight", "StartupIOWeight",
	"DevicePolicy", "DeviceAllow", "IPAddressAllow", "IPAddressDeny", "SocketBindAllow", "SocketBindDeny",
	"RestrictNetworkInterfaces",
}
