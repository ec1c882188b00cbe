package config

import (
	"os"
	"os/user"
	"path/filepath"
)

const (
	// Dir has a file for each app: NAME.toml.
	Dir = "/etc/deploygate"
	// StateBase has a state directory for each app.
	StateBase = "/var/lib/deploygate"
	// DefaultApp is the name where there is no configuration file.
	DefaultApp = "app"
)

// HomeDir is the home directory of the user who runs this, whatever $HOME says: sudo and runuser keep that of another one.
func HomeDir() string {
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return os.Getenv("HOME")
}

// OwnDir has the configurations of a user who isn't root: those of apps of their own service manager.
func OwnDir() string {
	if os.Geteuid() == 0 {
		return Dir
	}
	return filepath.Join(HomeDir(), ".config/deploygate")
}

// SearchDir is where configurations are looked for: the user's own directory if there are any in it, else Dir.
func SearchDir() string {
	if found, err := Files(OwnDir()); err == nil && len(found) > 0 {
		return OwnDir()
	}
	return Dir
}
