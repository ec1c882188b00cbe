package gate

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSecretsOfAnEnvironment(t *testing.T) {
	for _, c := range []struct {
		assignment, text, want string
	}{
		{"SECRET_KEY=django-insecure", "bad key django-insecure!", "bad key [value of SECRET_KEY]!"},
		{"CACHE=redis://:s3cret@cache:6379/0", "s3cret", "[value of CACHE]"},
		{"DATABASE_URL=postgres://shop:p%40ss%2Fword@db/shop", "to postgres://shop:p%40ss%2Fword@db/shop", "to [value of DATABASE_URL]"},
		{"DATABASE_URL=postgres://shop:p%40ss%2Fword@db/shop", "as p@ss/word, p%40ss%2Fword", "as [value of DATABASE_URL], [value of DATABASE_URL]"},
		{"BROKER=amqp://shop:p@ss@mq//", "p@ss", "[value of BROKER]"},
		{"TOKEN=a b  c&d", "a b c&d, a+b++c%26d", "[value of TOKEN], [value of TOKEN]"},
		{`TOKEN=back\slash"quote`, `{"t":"back\\slash\"quote"} 'back\\slash"quote'`, `{"t":"[value of TOKEN]"} '[value of TOKEN]'`},
		{"PRIVATE=first line of it\nsecond line of it", "second line of it", "[value of PRIVATE]"},
		{"PASSWORD=tiger", "tiger, the tigers, tiger_x", "[value of PASSWORD], the tigers, tiger_x"},
		{"PASSWORD=tiger-tiger", "xtiger-tigerx", "x[value of PASSWORD]x"},
		{"PASSWORD=abc", "abc", "abc"}, // too short to be told from other text
		{"SITE=https://shop.example/a@b:c", "a@b:c", "a@b:c"},
		{"AUTH_ENABLED=true", "true", "true"},
		{"TOKEN_TTL=86400", "86400", "86400"},
		{"SECRET_KEY_FILE=/etc/shop/secret", "/etc/shop/secret", "/etc/shop/secret"},
		{"AUTH_USER_MODEL=shop.Customer", "shop.Customer", "shop.Customer"},
		{"DEBUG=false-ish", "false-ish", "false-ish"},
		{"PASSWORD=gunicorn", "gunicorn.service of gunicorn", "gunicorn.service of gunicorn"}, // everybody knows it
		{"PASSWORD=correct-horse", "it ends with correct-h […]", "it ends with [value of PASSWORD] […]"},
		{"PASSWORD=correct-horse", "[…] ct-horse begins it", "[…] [value of PASSWORD] begins it"},
	} {
		var s Secrets
		s.Public("gunicorn.service")
		s.AddAll([]string{c.assignment})
		if got := s.Hide(c.text); got != c.want {
			t.Errorf("%s\n%q becomes\n%q, want\n%q", c.assignment, c.text, got, c.want)
		}
	}
}

func TestOverlappingSecretsLeaveNothing(t *testing.T) {
	var s Secrets
	s.AddAll([]string{"A_TOKEN=abcdefgh", "B_TOKEN=efghijkl", "C_TOKEN=abcdefghijkl-and-more"})
	for _, text := range []string{"abcdefghijkl", "abcdefghijkl-and-more", "xabcdefghx"} {
		if got := s.Hide(text); strings.Contains(got, "efgh") || strings.Contains(got, "ijkl") || strings.Count(got, "[value of") != 1 {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestWhatLooksLikeAPasswordIsHidden(t *testing.T) {
	var none *Secrets
	for text, want := range map[string]string{ //nolint:gosec // nobody's
		"bash -c 'DB_PASSWORD=hunter22 exec gunicorn'":                       "bash -c 'DB_PASSWORD=[hidden] exec gunicorn'",
		`pg_dump --password="a b" --host=db`:                                 `pg_dump --password=[hidden] --host=db`,
		"tool --api-key abc123 run":                                          "tool --api-key [hidden] run",
		"could not connect to postgres://shop:hunter22@db:5432/shop":         "could not connect to postgres://shop:[hidden]@db:5432/shop",
		"curl -H 'Authorization: Bearer abc.def'":                            "curl -H 'Authorization: Bearer [hidden]'",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA":                "-----BEGIN RSA PRIVATE KEY-----[hidden]-----END RSA",
		"--password=$PGPASSWORD":                                             "--password=$PGPASSWORD",
		`connect(password=os.environ["X"], secret=get_secret(), token=None)`: `connect(password=os.environ["X"], secret=get_secret(), token=None)`,
		"The SECRET_KEY setting must not be empty.":                          "The SECRET_KEY setting must not be empty.",
		"KeyError: 'SECRET_KEY'":                                             "KeyError: 'SECRET_KEY'",
		"http://127.0.0.1:8000/health/ at [::1]:80":                          "http://127.0.0.1:8000/health/ at [::1]:80",
		"fe_sendauth: no password supplied":                                  "fe_sendauth: no password supplied",
	} {
		if got := none.Hide(text); got != want {
			t.Errorf("%q becomes\n%q, want\n%q", text, got, want)
		}
	}
}

func TestADocumentKeepsItsFormAndNames(t *testing.T) {
	var s Secrets
	s.AddAll([]string{"SECRET_KEY=released", "TOKEN=say \"hi\"\\now", "DB_PASSWORD=summary"})
	type doc struct {
		Outcome string   `json:"outcome"`
		Summary string   `json:"summary"`
		Advice  []string `json:"advice"`
		Number  int      `json:"number"`
		Verdict struct {
			Text string `json:"text"`
		} `json:"verdict"`
	}
	in := doc{Outcome: "released", Summary: "it was released \x9b2J", Advice: []string{`cat say "hi"\now`, "<b>\n"}, Number: 3}
	in.Verdict.Text = "a summary"
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got doc
	if err := json.Unmarshal(s.HideJSON(text), &got); err != nil {
		t.Fatalf("%v: %s", err, s.HideJSON(text))
	}
	want := doc{Outcome: "released", Summary: "it was [value of SECRET_KEY] \uFFFD2J", Advice: []string{"cat [value of TOKEN]", "<b>\n"}, Number: 3}
	want.Verdict.Text = "a [value of DB_PASSWORD]"
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func FuzzHide(f *testing.F) {
	f.Add("pass-word", "it is pass-word", true)
	f.Add("a\nb c d e f g h", `"`, false)
	f.Fuzz(func(t *testing.T, secret, text string, within bool) {
		var s Secrets
		s.Add("SECRET_KEY", secret)
		if within {
			text += " " + secret + " "
		}
		shown := s.Hide(text)
		value := strings.TrimSpace(secret)
		if len(value) >= longSecret && !harmless.MatchString(value) && !strings.Contains("[value of SECRET_KEY][hidden]", value) && strings.Contains(shown, value) {
			t.Errorf("%q shows %q", shown, value)
		}
		doc, err := json.Marshal(map[string]any{"detail": text, "n": 1})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]any
		if err := json.Unmarshal(s.HideJSON(doc), &back); err != nil || len(back) != 2 {
			t.Errorf("%v: %s", err, s.HideJSON(doc))
		}
	})
}
