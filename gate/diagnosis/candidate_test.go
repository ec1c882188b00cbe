package diagnosis

import (
	"strings"
	"testing"

	"deploygate/gate"
)

func TestWhatACandidateLacks(t *testing.T) {
	const gone = "does not exist"
	env := Need{Cause: gate.EnvFileMissing, Why: "EnvironmentFile= of shop.service leads there", Path: ".env", Problem: gone, Stops: true}
	static := Need{Cause: gate.PartialRelease, Why: "nginx's alias leads there", Path: "static", Problem: gone, Sure: true, Files: true}
	with := func(n Need, change func(*Need)) Need { change(&n); return n }
	for name, c := range map[string]struct {
		need Need
		live string
		want string // "" nothing, "refused" or "doubtful"
	}{
		"nothing":                           {with(env, func(n *Need) { n.Problem = "" }), "v1", ""},
		"no start without it":               {env, "v1", "refused"},
		"the live one hasn't it either":     {with(env, func(n *Need) { n.Live = gone }), "v1", "refused"},
		"nothing is live":                   {env, "", "refused"},
		"it is live itself":                 {env, "v2", "refused"},
		"a hook may make it":                {with(env, func(n *Need) { n.Pending = true }), "v1", ""},
		"what the live one has":             {static, "v1", "refused"},
		"what the live one has not":         {with(static, func(n *Need) { n.Live = gone }), "v1", ""},
		"what nobody has":                   {static, "", ""},
		"what may be meant":                 {with(static, func(n *Need) { n.Sure = false }), "v1", "doubtful"},
		"what may be meant, of nobody":      {with(static, func(n *Need) { n.Sure, n.Live = false, gone }), "v1", ""},
		"what is said in any case":          {with(static, func(n *Need) { n.Sure, n.Said, n.Live = false, true, gone }), "v1", "doubtful"},
		"what a hook of a later step makes": {with(static, func(n *Need) { n.Said, n.Pending = true, true }), "v1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Facts{Next: &Candidate{Version: "v2", Dir: "/srv/shop/releases/v2", Live: c.live, Needs: []Need{c.need}}}
			refused, doubtful := Lacks(f)
			got := strings.Repeat("refused", len(refused)) + strings.Repeat("doubtful", len(doubtful))
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			for _, found := range append(refused, doubtful...) {
				if found.Layer != gate.LayerRelease || found.Cause != c.need.Cause || len(found.Evidence) == 0 || len(found.Advice) == 0 ||
					!strings.HasPrefix(found.Summary, c.need.Path+" of release v2 does not exist: "+c.need.Why) {
					t.Errorf("%+v", found)
				}
				if has := strings.HasSuffix(found.Summary, "; v1 has it"); has != (c.live == "v1" && c.need.Live == "") {
					t.Errorf("it says %q", found.Summary)
				}
			}
		})
	}
	if refused, doubtful := Lacks(&Facts{}); refused != nil || doubtful != nil {
		t.Error("something is lacking without a candidate")
	}
}

func TestWhatAHookMayMake(t *testing.T) {
	files, other := Need{Files: true}, Need{}
	for _, c := range []struct {
		command      string
		files, other bool
	}{
		{"/venv/bin/python manage.py migrate --noinput", false, false},
		{"python manage.py --settings=x check --deploy", false, false},
		{"/srv/app/venv/bin/python /srv/app/current/manage.py collectstatic --noinput", true, false},
		{"django-admin compress --force", true, false},
		{"python manage.py build_assets", true, true},
		{"python manage.py", false, false},
		{"npm run build", true, true},
		{"deploy/make", true, true},
	} {
		argv := strings.Fields(c.command)
		if got := MayMake(argv, files); got != c.files {
			t.Errorf("%s: files %t", c.command, got)
		}
		if got := MayMake(argv, other); got != c.other {
			t.Errorf("%s: anything else %t", c.command, got)
		}
	}
}

// What systemd uses is shown, and not what its files say by now.
func TestAdviceShowsWhatIsLoaded(t *testing.T) {
	f := healthy()
	f.Unit.Paths = []Path{{Cause: gate.EnvFileMissing, What: "EnvironmentFile=", Path: "/etc/shop.env", Problem: "does not exist"}}
	advice := func() string { return strings.Join(Stops(f)[0].Advice, "\n") }
	if got := advice(); !strings.Contains(got, "systemctl cat shop.service") {
		t.Errorf("loaded: %s", got)
	}
	f.Unit.StaleOnDisk = true
	if got := advice(); strings.Contains(got, "systemctl cat") || !strings.Contains(got, "systemctl show shop.service (its files were changed, and are not loaded)") {
		t.Errorf("not loaded: %s", got)
	}
}

// What a request through the proxy doesn't prove is a risk, and stops no start.
func TestAProxysRisksStopNothing(t *testing.T) {
	f := healthy()
	f.Proxy.Risks = []*gate.Finding{gate.NewFinding(gate.LayerProxy, gate.ProxyUnproven, "it proves nothing of the app")}
	if stops := Stops(f); len(stops) != 0 {
		t.Errorf("%+v", stops)
	}
	if risks := Risks(f); len(risks) != 1 || risks[0].Cause != gate.ProxyUnproven {
		t.Errorf("%+v", risks)
	}
}
