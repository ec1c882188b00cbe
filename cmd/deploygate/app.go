package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"

	"deploygate/cmd/deploygate/internal/config"
	"deploygate/cmd/deploygate/internal/host"
	"deploygate/gate"
	"deploygate/gate/untrusted"
	"deploygate/release"
	"deploygate/release/deploy"
)

// version is set when a package is built: go build -ldflags "-X main.version=1.2.3".
var version = ""

// build is the version of this program: of the package, else as go build has it from the repository's tag and commit.
func build() string {
	built := ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		built = info.Main.Version
	}
	return cmp.Or(version, built, "development")
}

// usageError is a mistake on the command line: exit 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// verdictError carries the exit code of a verdict that has been printed.
type verdictError struct{ code int }

func (e *verdictError) Error() string { return fmt.Sprintf("exit %d", e.code) }

const exitUsage = 2

// run is the whole program but for the exit.
func run(args []string, stdout, stderr io.Writer) int {
	// A reader that goes away, or a terminal, must not end a deploy half-way: writes fail, and nothing else does.
	signal.Ignore(syscall.SIGPIPE)
	app := newApp(stdout, stderr)
	arranged, err := arrange(app, args)
	if err == nil {
		err = app.Run(arranged)
	}
	var verdict *verdictError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &verdict):
		return verdict.code
	}
	// What is left was found before anything was looked at on the host, or changed.
	if wantsJSON(args) {
		_ = (&session{commands: &commands{out: &door{w: stdout}, err: &door{w: stderr}}}).printJSON(struct {
			Outcome  string   `json:"outcome"`
			ExitCode int      `json:"exit_code"`
			Problems []string `json:"problems"`
		}{"usage", exitUsage, strings.Split(err.Error(), "\n")}, exitUsage)
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(&door{w: stderr}, "deploygate: %s\n", line)
	}
	return exitUsage
}

// globalFlags are those of every command.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "the configuration `FILE`", EnvVars: []string{"DEPLOYGATE_CONFIG"}},
		&cli.StringFlag{Name: "app", Usage: "the app `NAME`: " + config.Dir + "/NAME.toml", EnvVars: []string{"DEPLOYGATE_APP"}},
		&cli.StringFlag{Name: "output", Value: "text", Usage: "`FORMAT` of the verdict: text or json", EnvVars: []string{"DEPLOYGATE_OUTPUT"}},
		&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "`LEVEL` of the log: debug, info, warn, error"},
		&cli.BoolFlag{Name: "no-color", Usage: "no colours on a terminal; so does NO_COLOR"},
		cli.HelpFlag, // which urfave/cli leaves out where there is a command of that name
	}
}

func newApp(stdout, stderr io.Writer) *cli.App {
	secrets := &gate.Secrets{}
	c := &commands{out: &door{w: stdout, secrets: secrets}, err: &door{w: stderr, secrets: secrets}, secrets: secrets}
	app := &cli.App{
		Name:    "deploygate",
		Usage:   "make a release live if it is healthy, put the old one back if it isn't",
		Version: build(),
		Flags:   globalFlags(),
		Commands: []*cli.Command{
			c.release(), c.rollback(), c.restart(), c.check(), c.diagnose(), c.plan(), c.marker(), c.init(), c.status(), c.history(),
			c.prune(), c.recover(), c.guard(), c.help(), c.version(),
		},
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		ExitErrHandler:  func(*cli.Context, error) {}, // it would exit inside the framework, past the defers
		OnUsageError:    onUsageError,
		Action: func(ctx *cli.Context) error {
			if ctx.Args().Present() {
				return unknownCommand(ctx.App, ctx.Args().First())
			}
			_, err := io.WriteString(stdout, appHelp(ctx.App))
			return err
		},
	}
	for _, command := range app.Commands {
		command.OnUsageError = onUsageError
		command.HideHelpCommand = true // "release help" names a release
	}
	return app
}

// unknownCommand names the command that was most likely meant.
func unknownCommand(app *cli.App, name string) error {
	var names []string
	for _, c := range app.Commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return usagef("there is no command %q%s; see deploygate --help", name, didYouMean("", names, name))
}

// didYouMean is the question after the name that is most like another one, if any is much like it.
func didYouMean(dashes string, names []string, typed string) string {
	const much = 0.8
	best, meant := much, ""
	for _, name := range names {
		if like := smetrics.JaroWinkler(name, typed, 0.7, 4); like > best {
			best, meant = like, name
		}
	}
	if meant == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s%s?)", dashes, meant)
}

// onUsageError says what is wrong with a flag, and names the one that was most likely meant.
func onUsageError(ctx *cli.Context, err error, _ bool) error {
	text := strings.TrimPrefix(err.Error(), "flag ")
	name, unknown := strings.CutPrefix(text, "provided but not defined: -")
	if !unknown {
		return usagef("%s; see deploygate --help", text)
	}
	flags := slices.Clone(ctx.App.Flags)
	if ctx.Command != nil {
		flags = append(flags, ctx.Command.Flags...)
	}
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	return usagef("there is no flag --%s%s; see deploygate --help", name, didYouMean("--", names, name))
}

// commands holds what they share.
type commands struct {
	out, err *door
	secrets  *gate.Secrets // what must not leave by them
}

// session is one command on its way.
type session struct {
	*commands
	json    bool
	noColor bool
	config  *config.Config
	log     zerolog.Logger
}

// begin checks the global flags and reads the configuration.
func (c *commands) begin(ctx *cli.Context, maxWords int) (*session, error) {
	s, err := c.unconfigured(ctx, maxWords)
	if err == nil {
		s.config, err = config.Load(ctx.String("config"), ctx.String("app"), config.SearchDir())
	}
	if err == nil && s.config.File == "" {
		err = s.unexpected(ctx.Context)
	}
	if word := ctx.Args().First(); err == nil && ctx.Args().Len() == 1 && word == "help" {
		if _, gone := untrusted.Lstat(filepath.Join(s.config.Root, "releases", word)); errors.Is(gone, fs.ErrNotExist) {
			err = usagef("there is no release %q; for help: deploygate %s --help", word, ctx.Command.Name)
		}
	}
	return s, err
}

// atMost refuses more arguments than a command takes.
func atMost(ctx *cli.Context, words int) error {
	if extra := ctx.Args().Slice(); len(extra) > words {
		return usagef("unexpected argument %q; see deploygate %s --help", extra[words], ctx.Command.Name)
	}
	return nil
}

// unconfigured checks the global flags, for a command that needs no configuration.
func (c *commands) unconfigured(ctx *cli.Context, maxWords int) (*session, error) {
	if err := atMost(ctx, maxWords); err != nil {
		return nil, err
	}
	s := &session{commands: c, noColor: ctx.Bool("no-color") || os.Getenv("NO_COLOR") != ""}
	switch format := ctx.String("output"); format {
	case "text", "":
	case "json":
		s.json = true
	default:
		return nil, usagef("--output %q is neither text nor json", format)
	}
	var err error
	s.log, err = newLogger(c.err, ctx.String("log-level"), newProgress(c.err, s.noColor).color)
	return s, err
}

// connect is connect with progress on stderr.
func (s *session) connect(ctx context.Context) (*host.Host, error) {
	h, err := host.Connect(ctx, s.config, s.log, newProgress(s.err, s.noColor), s.secrets)
	if err == nil {
		h.Deployer.Program = build()
	}
	return h, err
}

// unconnected is a deployer that knows the configuration and the file system alone.
func (s *session) unconnected(tree *release.Tree, observer deploy.Observer) *deploy.Deployer {
	d := host.NewDeployer(s.config, tree, observer)
	d.Program = build()
	return d
}

// interruptible returns a context that ends with the first signal that asks to stop. Later ones change nothing: the way
// back is under way. unseen says that whoever is interrupted only looks, and then doesn't know.
func interruptible(unseen bool) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			name := map[os.Signal]string{syscall.SIGINT: "SIGINT", syscall.SIGTERM: "SIGTERM", syscall.SIGHUP: "SIGHUP"}[s]
			f := gate.NewFinding(gate.LayerRelease, gate.Interrupted, "interrupted by "+name)
			f.Unseen = unseen
			cancel(f)
		case <-done:
		}
	}()
	return ctx, func() { close(done); cancel(nil) }
}

// cannot ends a command that could not do its work on this host, without a verdict.
func (s *session) cannot(err error) error {
	hint := ""
	if errors.Is(err, fs.ErrPermission) {
		hint = "; run deploygate as root"
	}
	fmt.Fprintf(s.err, "deploygate: %s%s\n", gate.OneLine(err.Error()), hint)
	o := refusal(err)
	if s.json {
		return s.printJSON(map[string]any{"outcome": o, "exit_code": o.ExitCode(), "error": gate.OneLine(err.Error())}, o.ExitCode())
	}
	return &verdictError{o.ExitCode()}
}
