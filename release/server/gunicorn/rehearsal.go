// Package gunicorn says what command runs a candidate release beside the live one: the live unit's own gunicorn, with a
// socket, a pid file and logs of its own, and with all that goes through the live link pointed at the candidate.
//
// Rewrite either is certain or says in one line what it isn't certain of, so that the operator can write the command
// himself. Certain is a command that names gunicorn itself, whose arguments, environment and configuration file hold
// nothing that could lead it to the live socket, port, pid file or log.
//
// Guaranteed of a command that Rewrite gives: gunicorn listens on Candidate.Bind alone, writes Candidate.PIDFile and no other,
// runs Candidate.Workers workers, stays in the foreground, logs to its standard streams, keeps its control socket beside
// Candidate.PIDFile, and calls no hook of the configuration file. What else is left out says how a server restarts or reports
// itself, or has it speak anything but plain HTTP, which probes don't: reloading, StatsD, syslog, TLS. All else is as in
// the live unit. Tests see that by gunicorn 20.1 and 23.0 themselves; what 24 to 26 add is taken from their source.
//
// Only the beginning of three files is read, and none is executed: of the program its first line; of the configuration
// file all, by another process that runs as nobody if we are root; of gunicorn.ctl whether it is there.
//
// Not guaranteed, since the command doesn't tell:
//   - what the release's own code does, or what the configuration file imports: a log file in Django's LOGGING is the same
//     in both releases, and so are the database, the cache and the queues;
//   - a path to the live release that code puts together: only text is compared, so that the gate still has to see that
//     the process runs in the candidate;
//   - variables that come from neither Environment= nor EnvironmentFile= (PassEnvironment=, the manager's own, and those that
//     a program before gunicorn sets, as uv and dotenv do from files);
//   - StatsD, syslog and reloading where a file sets them, which the command line can't take back;
//   - what a worker class or a logger class of someone else's shares between two servers;
//   - a control socket of gunicorn 25.1, which has it in the working directory, if the live one's is not there yet.
package gunicorn

import (
	"context"
	"path/filepath"
	"strconv"

	"deploygate/release/python"
	"deploygate/release/server"
)

// Rewrite returns what the candidate runs beside the live release. The error is an *Uncertain, or ctx's when that ends.
// A candidate whose program or configuration file is missing is no uncertainty: it fails when it is started.
//
// The unit that runs it can't be of Type=forking, even if the live one is, must not have sockets of a .socket unit, and
// needs the directory of Candidate.PIDFile to be its user's.
func Rewrite(ctx context.Context, l server.Live, s server.Candidate) (server.Command, error) {
	return rewriter{python: python.Find()}.rewrite(ctx, l, s)
}

// rewriter rewrites commands; tests give it another Python.
type rewriter struct {
	python string // the path of a python3, "" for none
}

func (r rewriter) rewrite(ctx context.Context, l server.Live, s server.Candidate) (server.Command, error) {
	p, err := server.Point(l, s, itself)
	if err != nil {
		return server.Command{}, err
	}
	w := &work{rewriter: r, Pointed: p}
	for _, step := range []func() error{w.arguments, func() error { return w.configuration(ctx) }, w.surroundings} {
		if err := step(); err != nil {
			return server.Command{}, err
		}
	}
	return w.Command(w.own(), w.kept)
}

// work is one command while it is rewritten.
type work struct {
	rewriter
	*server.Pointed
	kept []string // what of gunicorn's own arguments stays

	config, chdir  argument // the last --config and --chdir
	liveRoot, root string   // where gunicorn goes by --chdir; "" if it is not known
	control        bool     // this gunicorn has a control socket, and so an option against it
	accesslog      bool     // something else than the command line sets an access log
}

// own are the rehearsal's own arguments. Options on the command line replace those of GUNICORN_CMD_ARGS and the configuration
// file, but --bind is added to another --bind on the same command line: that is why none is left there.
func (w *work) own() []string {
	own := []string{
		"--bind", w.Candidate.Bind,
		"--pid", w.Candidate.PIDFile,
		"--workers", strconv.Itoa(max(1, w.Candidate.Workers)),
		// Under one name, gunicorn 25 takes the live release's dirty workers for what a crash has left, and kills them.
		"--name", filepath.Base(filepath.Dir(w.Candidate.PIDFile)),
		"--error-logfile", "-",
	}
	if w.accesslog {
		// Nothing turns it off again, and as root gunicorn would give /dev/null to the user that it changes to.
		own = append(own, "--access-logfile", "-")
	}
	if w.control {
		own = append(own, "--no-control-socket")
	}
	return own
}
