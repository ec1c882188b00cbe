package main

import (
	"time"

	"deploygate/scripts/testbed"
)

// release is one that is deployed, and what is done to whoever deploys it.
type release struct {
	name  string
	what  string // for people
	mods  []testbed.Mod
	good  bool
	quick bool // is measured in several rounds
	long  bool // keeps everybody waiting
	// killed: the deployer is killed between the swap and the restart.
	killed bool
	// watch is how long the users are watched at least, counted from the start: after this the site would look well.
	watch time.Duration
	// stable is deploygate's health.stable; "" is its default.
	stable string
}

func (r release) key() string { return r.name }

// The release that is live before each deploy, and is a good one, as is next.
const before = "before"

// everyView has a statement take the place of what every view does: a bad release is bad for all users.
func everyView(statement string) testbed.Mod {
	return testbed.Append("project/views.py", "def broken(request):\n    "+statement+"\n\n\nhealth = home = slow = broken")
}

// common is in every release: a page that takes 2 s, as /slow/, and errors that are not made into mails for nobody, as
// Django's default does, at a cost with which the app couldn't carry the load.
var common = []testbed.Mod{
	testbed.Append("project/views.py", "def slow(request):\n    time.sleep(2)\n    return HttpResponse(\"slow\\n\")"),
	testbed.Append("project/settings.py", `LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"null": {"class": "logging.NullHandler"}},
    "loggers": {"django": {"handlers": ["null"], "propagate": False}},
}`),
	testbed.Append("project/urls.py", `urlpatterns.append(path("slow/", views.slow))`),
}

// The most telling come first, since a run may be cut short.
var releases = []release{
	{name: "good", what: "a good release", good: true, quick: true},
	{name: "import-error", what: "it can't import a module", mods: []testbed.Mod{testbed.ImportError()}, quick: true},
	{name: "answers-500", what: "every answer is a 500", mods: []testbed.Mod{everyView(`raise RuntimeError("broken")`)}, long: true},
	{
		name: "crashes-later", what: "it works for 3 s, and crashes",
		mods: []testbed.Mod{testbed.CrashAfter(3 * time.Second)}, watch: 15 * time.Second, stable: "4s",
	},
	{
		name: "killed", what: "it can't import a module, and the deployer gets kill -9 between swap and restart",
		mods: []testbed.Mod{testbed.ImportError()}, killed: true, watch: 10 * time.Second,
	},
	{name: "hangs", what: "no answer ever comes", mods: []testbed.Mod{everyView("time.sleep(3600)")}, long: true},
}

// named is a release's file that says which it is, whatever its directory is called.
const named = "NAME"

// modsOf returns all that a release differs in from the testbed's.
func modsOf(name string, own []testbed.Mod) []testbed.Mod {
	mods := append([]testbed.Mod{testbed.File(named, name)}, common...)
	return append(mods, own...)
}
