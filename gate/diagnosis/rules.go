package diagnosis

import "deploygate/gate"

// rule is one row of the catalogue: what proves a cause, how it is said, and what to do next. {name} stands for what
// the proof has found, or for a fact that every proof knows (see words).
type rule struct {
	layer   gate.Layer
	cause   gate.Cause
	proof   proof
	summary string
	advice  []string
}

type advice = []string

// The rules of a start that failed before the app was loaded, tried where the app gives no answer at all. Statuses with
// which systemd gives up before a program runs are those of systemd.exec(5); gunicorn's and Django's words, here and
// below, are those of gunicorn 20.1 to 23 and Django 3.2 to 5.2.
var startRules = []rule{
	// systemd could not start the program.
	{
		gate.LayerService, gate.EnvFileMissing, logged(`Failed to load environment files: (?P<why>.+)`, missingPath(gate.EnvFileMissing)),
		"{unit} can't start: an environment file can't be read: {missing}",
		advice{"restore {missing}, or correct EnvironmentFile= in {file}; then {restart}"},
	},
	{
		gate.LayerService, gate.UserMissing, step("USER", 217, `Failed to determine user credentials: (?P<why>.+)`),
		"{unit} can't start: its user {user} does not exist",
		advice{"create the user, or correct User= in {file}: getent passwd {user}"},
	},
	{
		gate.LayerService, gate.UserMissing, step("GROUP", 216, `Failed to determine group credentials: (?P<why>.+)`),
		"{unit} can't start: its group does not exist",
		advice{"create the group, or correct Group= in {file}: {systemctl} show -p Group {settings}"},
	},
	{
		gate.LayerService, gate.WorkingDirectoryMissing, step("CHDIR", 200, `Changing to the requested working directory failed: (?P<why>.+)`),
		"{unit} can't start: its working directory {workdir} can't be entered",
		advice{"see where it ends: namei -l {workdir}", "correct the link or the rights, or WorkingDirectory= in {file}"},
	},
	{
		gate.LayerService, gate.SandboxPathMissing,
		step("NAMESPACE", 226, `(?:Failed to set up mount namespacing|set up mount namespacing): (?:/run/systemd/unit-root)?(?P<what>[^:]+): (?P<why>.+)`),
		"{unit} can't start: its sandbox can't be set up: {what}",
		advice{"make that directory, or put a - before it in ReadWritePaths= (and the like) in {file}: {systemctl} cat {settings}"},
	},
	{
		gate.LayerService, gate.LogTargetMissing, step("(?:STDOUT|STDERR)", 209, `Failed to set up standard (?:output|error): (?P<why>.+)`),
		"{unit} can't start: where it is to log can't be opened",
		advice{"make the directory that StandardOutput= or StandardError= names: {systemctl} cat {settings} | grep -i Standard"},
	},
	{
		gate.LayerService, gate.ExecMissing, both(step("EXEC", 203), shebang),
		"{unit} can't start: {program} is there, but its interpreter {interpreter} isn't",
		advice{"rebuild the virtual environment in its place (it can't be moved): head -n 1 {program}"},
	},
	{
		gate.LayerService, gate.ExecMissing, step("EXEC", 203),
		"{unit} can't start: {program} does not exist or can't be executed",
		advice{"install it there, or correct ExecStart= in {file}: ls -l {program}"},
	},
	{
		gate.LayerService, gate.Unknown, step(`(?P<step>[A-Z_]+)`, 0),
		"{unit} can't start: systemd fails at step {step}",
		advice{"{journal}", "the step's meaning: man systemd.exec, PROCESS EXIT CODES"},
	},

	// gunicorn could not start.
	{
		gate.LayerService, gate.BadOption, logged(`\b(?:gunicorn|hypercorn|daphne|waitress-serve)\S*: error: (?P<why>.+)`),
		"{server} refuses its arguments: {why}",
		advice{"correct ExecStart= in {file}: {systemctl} cat {settings}"},
	},
	{
		gate.LayerService, gate.BadOption, logged(`^(?:Error: )+(?P<why>.*[^: ])`, servedBy("gunicorn", "uvicorn")),
		"{server} can't start: {why}",
		advice{"correct ExecStart= in {file}, or restore what it names: {systemctl} cat {settings}"},
	},
	{
		gate.LayerSocket, gate.PortInUse, either(
			logged(`Connection in use: (?P<address>.+)`, holder),
			logged(`^ERROR: +\[Errno 98\] error while attempting to bind on address (?P<address>\([^)]+\))`, servedBy("uvicorn"), holder),
			logged(`Couldn't listen on (?P<address>[^ ]+): \[Errno 98\]`, holder),
			logged(`^ERROR: +\[Errno 98\]`, servedBy("uvicorn"), holder),
			raised(`^OSError: \[Errno 98\]`, binding, inUse)),
		"{server} can't listen: {address} is in use by {holder}",
		advice{"see who holds it: ss -lxtnp", "stop that process, or give one of them another address"},
	},
	{
		gate.LayerSocket, gate.SocketMissing, either(
			logged(`(?:Can't connect to|connection to|Invalid address:?) \(?'?(?P<address>/[^' ]+)`, noSocketDir),
			logged(`Listen failure: \[Errno (?:2|13)\]`, noSocketDir),
			logged(`^ERROR: +\[Errno (?:2|13)\] `, servedBy("uvicorn"), noSocketDir),
			raised(`^(?:FileNotFoundError|PermissionError): .*`, binding, noSocketDir)),
		"{server} can't make its socket {socket}: {problem}",
		advice{"let systemd make the directory: RuntimeDirectory={runtime} in {file}; then {systemctl} daemon-reload and {restart}"},
	},
}

// The rules of the app: why it doesn't answer as it should on its own socket or port. They are tried in this order, and
// the first that is proved is the cause: what comes later follows from it.
var appRules = []rule{
	// It could not be loaded, or raised an exception when it was asked.
	{
		gate.LayerResources, gate.DiskFull, raised(`^OSError: \[Errno 28\] (?P<why>.+)`),
		"no space is left on a disk that the app writes to{at}",
		advice{"df -h; df -i"},
	},
	{
		gate.LayerRelease, gate.ReleaseUnreadable, raised(`^PermissionError: \[Errno 13\] Permission denied: '(?P<path>[^']+)'`, inReleases),
		"{user} may not read {path}, a file of the release",
		advice{"correct the rights where releases are made, then: namei -l {path}"},
	},
	{
		gate.LayerApp, gate.SecretKey, either(
			raised(`^KeyError: '(?P<variable>[A-Z_]*SECRET_KEY)'`, fromEnvironment),
			raised(`(?P<variable>SECRET_KEY) setting must not be empty`)),
		"the app has no SECRET_KEY{at}",
		advice{"set {variable} where {settings} gets its environment: {systemctl} cat {settings} | grep Environment"},
	},
	{
		gate.LayerApp, gate.EnvVarMissing, either(
			raised(`^KeyError: '(?P<variable>[^']+)'`, fromEnvironment),
			raised(`ImproperlyConfigured: Set the (?P<variable>\S+) environment variable`),
			raised(`UndefinedValueError: (?P<variable>\S+) not found`)),
		"the environment variable {variable} is not set{at}",
		advice{"set {variable} where {settings} gets its environment: {systemctl} cat {settings} | grep Environment"},
	},
	{
		gate.LayerRelease, gate.ReleaseUnreadable, raised(noModule, presentButClosed),
		"{user} may not read the release's module {module}: {denied} is closed to it",
		advice{"correct the rights where releases are made, then: namei -l {denied}"},
	},
	{
		gate.LayerRelease, gate.PartialRelease, raised(noModule, onlyBefore),
		"the release is not whole: it has no module {module}, which {previous} has{at}",
		advice{"upload it again, under a temporary name that is renamed when it is complete; compare: diff -rq {before} {dir}"},
	},
	{
		gate.LayerApp, gate.SettingsModule, raised(noModule, namedBySettings),
		"DJANGO_SETTINGS_MODULE names {module}, which does not exist",
		advice{"correct DJANGO_SETTINGS_MODULE: {systemctl} cat {settings} | grep Environment; grep -rn DJANGO_SETTINGS_MODULE {dir} --include=*.py"},
	},
	{
		gate.LayerApp, gate.ImportError, either(
			raised(noModule, namedByUnit),
			logged(`Error loading ASGI app\. Could not import module "(?P<module>[^"]+)"`),
			raised(`NoAppError: Cannot load application from '(?P<module>[^']+)', module not found`)),
		"{server} finds no module {module}, which ExecStart of {settings} names",
		advice{"correct ExecStart= or WorkingDirectory= in {file}, or the release: ls {dir}"},
	},
	{
		gate.LayerApp, gate.ImportError, raised(noModule, ofRelease),
		"the release has no module {module}{at}",
		advice{"correct the import, or add the module to the release: is it in the repository?"},
	},
	{
		gate.LayerApp, gate.ImportError, either(raised(noModule), logged(`^Error: No module named '(?P<module>[^']+)'`)),
		"the Python package {module} is not installed{at}",
		advice{"install it into the app's environment, and name it in the release's requirements; to see whether it is there: {python} -c 'import {module}'"},
	},
	{
		gate.LayerApp, gate.ImportError, raised(`^ImportError: (?P<why>.+)`),
		"the app can't be imported: {why}{at}",
		advice{"release a corrected version; to try the import: cd {dir} && {python} -c 'import {imported}'"},
	},
	{
		gate.LayerApp, gate.SyntaxError, raised(`^(?P<class>SyntaxError|IndentationError|TabError): (?P<why>.+)`, syntaxAt),
		"{class} in the release{at}: {why}",
		advice{"release a corrected version; to find all of them before a deploy: python3 -m compileall -q {dir}"},
	},
	{
		gate.LayerApp, gate.AppAttribute, either(
			logged(`Failed to find (?:attribute|application object) '(?P<attribute>[^']+)' in '(?P<module>[^']+)'`),
			logged(`Error loading ASGI app\. Attribute "(?P<attribute>[^"]+)" not found in module "(?P<module>[^"]+)"`),
			raised(`^AttributeError: module '(?P<module>[^']+)' has no attribute '(?P<attribute>[^']+)'`, namedByUnit)),
		"{server} finds no {attribute} in {module}",
		advice{"correct ExecStart= in {file}: MODULE:NAME must be what the release defines"},
	},
	{
		gate.LayerApp, gate.DatabaseRefused, raised(`(?:OperationalError|InterfaceError|ProgrammingError).*?(?P<why>` + databaseRefuses + `)`),
		"the database refuses the app: {why}{at}",
		advice{"the database comes first, a rollback won't help: check name, user and password in the app's environment, and the server's connections"},
	},
	{
		gate.LayerApp, gate.DatabaseUnreachable, raised(`(?:OperationalError|InterfaceError).*?(?P<why>` + databaseAway + `)`),
		"the app can't reach its database: {why}{at}",
		advice{"the database comes first, a rollback won't help: is its server up, and is the app's host and port right?"},
	},
	{
		gate.LayerSchema, gate.MigrationUnapplied, raised(`(?:ProgrammingError|OperationalError|UndefinedTable|UndefinedColumn).*?(?P<why>` + schemaBehind + `)`),
		"the database is not migrated to this release: {why}{at}",
		advice{"migrate before the swap, in [[hooks.before_swap]]; now: {migrations}"},
	},
	{
		gate.LayerApp, gate.StaticManifest, raised(`Missing staticfiles manifest entry for '(?P<entry>[^']+)'`),
		"the release's static files were not collected: there is no manifest entry for {entry}",
		advice{"run collectstatic before the swap, in [[hooks.before_swap]]; now: cd {dir} && {python} manage.py collectstatic --noinput"},
	},
	{
		gate.LayerApp, gate.Unknown, raised(`^(?P<why>.+)`, whileLoading, notKilled),
		"the app can't be loaded: {why}{at}",
		advice{"release a corrected version; the whole traceback: {journal}"},
	},

	// Its processes die.
	{
		gate.LayerResources, gate.OOM, outOfMemory,
		"a process of {unit} was killed for lack of memory",
		advice{"fewer workers, or a higher limit: {systemctl} show -p MemoryMax,MemoryPeak {settings}; free -m"},
	},
	{
		gate.LayerApp, gate.WorkerCrash, either(
			logged(`Worker \(pid:\s*(?P<pid>\d+)\) was sent (?P<how>SIG(?:SEGV|BUS|ILL|FPE|ABRT|SYS|KILL))`, notItsOwnKill),
			logged(`Worker with pid (?P<pid>\d+) was terminated due to signal (?P<how>(?:4|6|7|8|9|11|31))\b`, notItsOwnKill),
			logged(`Worker \(pid:\s*(?P<pid>\d+)\) exited with code (?P<how>\d+)`, cutOff),
			replaced),
		"gunicorn's workers die: {how}",
		advice{"a crash in native code, or an exit in the app: {journal}", "roll back if the release before it did not do this"},
	},
	{
		gate.LayerService, gate.StartLimitHit, either(result("start-limit-hit"), logged(`(?P<why>Start request repeated too quickly)`, ended)),
		"{unit} was started too often and systemd has given up",
		advice{"what made it end comes first: {journal}", "then: {systemctl} reset-failed {unit} && {start}"},
	},
	{
		gate.LayerSocket, gate.SocketStale, stale,
		"{socket} exists, and nothing listens on it",
		advice{"{restart}: the server creates it again"},
	},
	{
		gate.LayerService, gate.ServiceStopped, stopped,
		"{unit} is not running{killed}",
		advice{"{start}", "who stopped it: {journal}"},
	},

	// Its socket can't be reached.
	{
		gate.LayerSocket, gate.SocketMissing, both(socketGone, elsewhere),
		"nothing listens at {bind}: {unit} listens at {addr}",
		advice{"set health.bind to where it listens, or correct --bind in {file}"},
	},
	{
		gate.LayerSocket, gate.SocketMissing, both(socketGone, listensUnlinked),
		"{socket} was removed while {unit} listens on it",
		advice{"{restart}", "find out who cleans its directory: a second unit with the same RuntimeDirectory=, tmpfiles.d, or a script"},
	},
	{
		gate.LayerSocket, gate.SocketMissing, both(logRead, socketGone),
		"nothing listens at {bind}",
		advice{"compare --bind in {file} with health.bind, and see that RuntimeDirectory= makes its directory: ss -lxtnp"},
	},
	{
		gate.LayerSocket, gate.BacklogFull, backlogFull,
		"{bind} takes no more connections: {waiting} wait and no worker is free",
		advice{"what keeps the workers busy comes first; then more workers, or a longer --backlog"},
	},

	// It is reached and doesn't answer.
	{
		gate.LayerHealth, gate.TooSlow, answersLate,
		"the app answers {status}, but only after {took}: health.timeout is {limit}",
		advice{"profile the health view, or set health.timeout above that"},
	},
	{
		gate.LayerApp, gate.IncompleteAnswer, incomplete,
		"the app answers {status}, but its body is not whole: {why}",
		advice{"see what the view sends: curl -sv {asked} | head -c 1000; a health view answers a few bytes"},
	},
	{
		gate.LayerApp, gate.BootHang, nobodyAccepts,
		"the app hangs while it loads: its workers accept no connection",
		advice{
			"see what its import waits for (a name that doesn't resolve, a database): {stacks}",
			"if it only boots slowly, raise health.deadline",
		},
	},
	{
		gate.LayerApp, gate.WorkerTimeout, workerTimeout,
		"requests take longer than gunicorn allows{timeout}: it kills their workers",
		advice{"profile the request; if it must be that slow, raise gunicorn's --timeout and nginx's proxy_read_timeout, in this order"},
	},
	{
		gate.LayerApp, gate.NoAnswer, hangs,
		"the app takes the request and gives no answer",
		advice{"see what its view waits for: {stacks}"},
	},

	// It answers, and not as it should.
	{
		gate.LayerApp, gate.AppError, both(answers500, raised(`^(?P<why>.+)`)),
		"the app answers 500: {why}{at}",
		advice{"release a corrected version; the whole traceback: {journal}"},
	},
	{
		gate.LayerApp, gate.AppError, both(answers500, django),
		"the app answers 500 and logs no traceback",
		advice{
			"Django's default logging sends tracebacks to ADMINS by mail only: add a console handler for \"django\" to LOGGING",
			"an unapplied migration shows like this too: cd {dir} && {python} manage.py migrate --check",
		},
	},
	{
		gate.LayerApp, gate.AppError, answers500,
		"the app answers 500 and logs no traceback",
		advice{"have the app log its exceptions to standard error, where the journal keeps them; what there is: {journal}"},
	},
}

// The rules of a task that fails: a hook or a check.
var taskRules = []rule{
	{
		gate.LayerSchema, gate.MigrationFailed, either(
			both(logged(`Applying (?P<migration>[\w.]+)\.\.\.`), raised(`^(?P<why>.+)`, notAway)),
			logged(`(?P<migration>Conflicting migrations) detected; (?P<why>multiple leaf nodes.*)`)),
		"{migration} can't be applied: {why}{at}",
		advice{"correct the migration and release again; what was applied of it: cd {dir} && {python} manage.py showmigrations --plan"},
	},
}

// The rules of what lies between the app and its proxy.
var betweenRules = []rule{
	{
		gate.LayerProxy, gate.BindMismatch, targetsElsewhere,
		"nginx sends requests to {target}, and the app listens at {bind}",
		advice{"correct proxy_pass{passat}, or --bind in {file}; then nginx -t && systemctl reload nginx"},
	},
	{
		gate.LayerSocket, gate.SocketPermission, unreachable,
		"nginx's user {proxyuser} may not {need} {denied}",
		advice{"let them share a group (never 0777): namei -l {socket}"},
	},
}

// The rules of the proxy itself: what keeps it from serving anything.
var proxyRules = []rule{
	{
		gate.LayerProxy, gate.ProxyConfigInvalid, proxyInvalid,
		"{summary}",
		advice{"{advice}"},
	},
	{
		gate.LayerProxy, gate.ProxyStopped, proxyStopped,
		"nginx is not running",
		advice{"{nginx} -t && systemctl start {proxyunit}", "why it stopped: journalctl -u {proxyunit} -n 20"},
	},
	{
		gate.LayerProxy, gate.Unknown, proxyElsewhere,
		"nginx is running and does not listen where it is asked",
		advice{"compare proxy.url with nginx's listen, and see whether its reload failed: ss -ltnp | grep nginx"},
	},
}

// The rules of what goes wrong between a healthy app and its clients, where nothing above is proved.
var proxiedRules = []rule{
	{
		gate.LayerProxy, gate.Redirect, redirectsItself,
		"nginx itself redirects to {to}",
		advice{"set proxy.url to that address, if it is the site's"},
	},
	{
		gate.LayerSocket, gate.BacklogFull, upstreamError(eagain),
		"nginx finds {bind} full: more connections than workers and backlog",
		advice{"more workers, or a longer --backlog; what keeps the workers busy: {journal}"},
	},
	{
		gate.LayerSocket, gate.SocketPermission, upstreamError(eacces),
		"nginx may not connect to {bind}",
		advice{"let nginx's user and the app's share a group (never 0777): namei -l {socket}"},
	},
	{
		gate.LayerProxy, gate.ProxyTimeout, proxyGivesUp,
		"nginx gives up after {readtimeout}, before the app has answered",
		advice{"set proxy_read_timeout above {server}'s own timeout{timeout} at {location}; then nginx -t && systemctl reload nginx"},
	},
	{
		gate.LayerApp, gate.WorkerCrash, upstreamCloses,
		"the app closes connections of nginx without an answer",
		advice{"its workers die or are restarted: {journal}"},
	},
	{
		gate.LayerProxy, gate.UnexpectedStatus, answersItself,
		"nginx answers {status} itself, without asking the app{why}",
		advice{"the app is healthy: correct {location}; then nginx -t && systemctl reload nginx"},
	},
	{
		gate.LayerHealth, gate.DisallowedHost, hostChanged,
		"Django refuses the Host that nginx passes on ({passed})",
		advice{"proxy_set_header Host $host; at {location}, then nginx -t && systemctl reload nginx"},
	},
}
