// Package nginx tests nginx's configuration and loads it when a release has changed it.
//
// Guaranteed: nginx is never restarted; it is reloaded only after nginx -t passed, and only if the configuration that
// nginx -T prints differs from the one seen when the deploy began. A reload is believed only when the master has new
// workers: nginx keeps its old configuration, and says so in its log alone, when the new one can't be applied (a port
// in use, for one).
package nginx

import (
	"context"
	"crypto/sha256"
	"time"

	"deploygate/gate/program"
	"deploygate/gate/proxy"
)

// Find returns the path of nginx's program, or "": root's PATH in a cron job or a unit may lack the sbin directories.
func Find() string { return program.Find("nginx", "/usr/local/nginx/sbin", "/opt/nginx/sbin") }

// Nginx is the host's nginx during one deploy.
type Nginx struct {
	// Program is nginx's path.
	Program string
	// Master returns the master's process id, 0 where it isn't known.
	Master func(context.Context) int
	// LogFile is where nginx says why it keeps an old configuration, for the advice.
	LogFile string
	// NeverReload is for users who reload it themselves.
	NeverReload bool

	loaded [sha256.Size]byte // of the configuration that nginx runs, as far as this deploy knows
}

const (
	// timeLimit bounds nginx -t and -T, which resolve names and open files.
	timeLimit = 30 * time.Second
	// reloadLimit is how long new workers may take to appear.
	reloadLimit = 10 * time.Second
	maxOutput   = 16 << 10
)

// Executable implements proxy.Server.
func (n *Nginx) Executable() string { return n.Program }

// Unit implements proxy.Server. It is that of Debian's package, and of nginx's own.
func (n *Nginx) Unit() string { return Unit }

// Unit is the unit that runs nginx.
const Unit = "nginx.service"

// Reloads implements proxy.Server.
func (n *Nginx) Reloads() bool { return !n.NeverReload }

// ErrorLog implements proxy.Server.
func (n *Nginx) ErrorLog(ctx context.Context, file string, since time.Time, limit int) ([]proxy.Entry, error) {
	return ReadErrorLog(ctx, file, since, limit)
}

func (n *Nginx) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	out := program.Head{Limit: maxOutput}
	cmd := program.Command(ctx, n.Program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := program.Run(ctx, cmd)
	return out.String(), err
}
