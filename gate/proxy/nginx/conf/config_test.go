package conf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate/proxy"
	"deploygate/scripts/assert"
)

// dump is what nginx -T prints for a main file, and for others given as pairs of name and text.
func dump(text string, more ...string) string {
	files := append([]string{"/etc/nginx/nginx.conf", text}, more...)
	var b strings.Builder
	for i := 0; i < len(files); i += 2 {
		fmt.Fprintf(&b, "# configuration file %s:\n%s\n", files[i], files[i+1])
	}
	return b.String()
}

func parse(t *testing.T, dump string) *Config {
	t.Helper()
	c, err := Parse(strings.NewReader(dump))
	assert.OK(t, err)
	return c
}

// captured is what nginx -T of Debian 12 printed.
func captured(t *testing.T, name string) *Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	assert.OK(t, err)
	return parse(t, string(text))
}

// words writes directives down on one line: name[arg|arg]{ block }.
func words(list []Directive) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%s[%s]", d.Name, strings.Join(d.Args, "|"))
		if d.Block != nil {
			b.WriteString("{" + words(d.Block) + "}")
		}
	}
	return b.String()
}

func TestParseTellsWordsApartAsNginxDoes(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a directive", "user www-data;", "user[www-data]"},
		{"without arguments", "internal ;", "internal[]"},
		{"spaces and lines", "a\r\n\tb\n  c ;", "a[b|c]"},
		{"blocks", "events { } http{server{listen 80;}}", "events[]{}http[]{server[]{listen[80]}}"},
		{"quotes", `a "b c" 'd;{}#' "it's" '"';`, `a[b c|d;{}#|it's|"]`},
		{"empty quotes", `server_name "" '';`, "server_name[|]"},
		{"escapes in quotes", `a "\"\\\t\n\r\'" 'x\'y';`, "a[\"\\\t\n\r'|x'y]"},
		{"escapes of regular expressions", `location ~ \.php$ { }`, `location[~|\.php$]{}`},
		{"escapes of spaces", `a b\ c \;;`, `a[b\ c|\;]`},
		{"a quote inside a word", `a b"c d'e;`, `a[b"c|d'e]`},
		{"comments", "a b; # c; d {\n#e\nf #g\n h;", "a[b]f[h]"},
		{"a hash inside a word", "a b#c;", "a[b#c]"},
		{"variables", `a ${b}c $d ${e} "${f}" x$;`, `a[${b}c|$d|${e}|${f}|x$]`},
		{"a brace ends a word", "a b{c d;}", "a[b]{c[d]}"},
		{"a closing brace doesn't", "a b}c;", "a[b}c]"},
		{"an if", `if ($a = "b") { return 1; }`, `if[($a|=|b|)]{return[1]}`},
		{"a regular expression with braces", `location ~ "^/\d{4}$" {}`, `location[~|^/\d{4}$]{}`},
		{
			"Lua", `content_by_lua_block { if a then b = "}" .. '{' end -- }
			--[[ } ]] c = [==[ }}]] ]==] t = {{1}} d = e[f[1]] } after;`, "content_by_lua_block[]{}after[]",
		},
		{"Lua with an argument", `set_by_lua_block $x { return "\"}" } after;`, "set_by_lua_block[$x]{}after[]"},
		{"Lua whose string isn't closed", "a_by_lua_block { x = '\n } after;", "a_by_lua_block[]{}after[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := words(parse(t, dump(c.text)).Directives); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestParseRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "printed no configuration"},
		{"only words", "nginx: [emerg] secret", "printed no configuration"},
		{"a block without end", dump("http {\na b;"), "unexpected end of the file in /etc/nginx/nginx.conf:3"},
		{"a directive without end", dump("a secret"), "unexpected end"},
		{"a quote without end", dump("a 'secret"), "unexpected end"},
		{"an escape without end", strings.TrimSpace(dump(`a \`)), "unexpected end"},
		{"Lua without end", dump("x_by_lua_block { { }"), "unexpected end"},
		{"a brace too many", dump("a {}\n}"), `unexpected '}' in /etc/nginx/nginx.conf:2`},
		{"a semicolon too many", dump("a;;"), `unexpected ';'`},
		{"a block without name", dump("{}"), `unexpected '{'`},
		{"a word behind quotes", dump(`a "b"secret;`), `unexpected 's'`},
		{"a directive cut off by a brace", dump("a { b }"), `unexpected`},
		{"a file within a block", dump("include b; http {", "/etc/nginx/b", "c;"), "unexpected end of the file in /etc/nginx/nginx.conf"},
		{"a file that is missing", dump("include gone;"), "did not print /etc/nginx/gone, which /etc/nginx/nginx.conf:1 includes"},
		{"a loop", dump("include b;", "/etc/nginx/b", "include b;"), "deeper"},
		{"a pattern that Go has not", dump("include [[:alpha:]]*;"), "pattern"},
		{"a bad pattern", dump("include [a;"), "pattern"},
		{"nesting", dump(strings.Repeat("a {", 100) + strings.Repeat("}", 100)), "deeper"},
		{"size", dump(strings.Repeat("#", maxDump)), "16 MiB"},
		{"words", dump("a " + strings.Repeat("b ", maxWords) + ";"), "words"},
		{"patterns", dump(manyIncludes(maxInclude + 1)), "includes"},
		{"growth", dump("include a0*;", manyFiles(12, 10)...), "directives"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := Parse(strings.NewReader(c.text))
			if config != nil || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, %v; want %q", config, err, c.want)
			}
		})
	}
}

func manyIncludes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "include %d*;", i)
	}
	return b.String()
}

// manyFiles include each other in a chain, each its follower several times.
func manyFiles(n, times int) (files []string) {
	for i := range n {
		files = append(files, fmt.Sprintf("/etc/nginx/a%d", i), strings.Repeat(fmt.Sprintf("include a%d*; b;", i+1), times))
	}
	return files
}

func TestIncludes(t *testing.T) {
	for _, c := range []struct {
		name, text string
		more       []string
		want       string
	}{
		{"one file", "a; include b; c;", []string{"/etc/nginx/b", "in;"}, "a[]in[]c[]"},
		{"an absolute one", "include /srv/b;", []string{"/srv/b", "in;"}, "in[]"},
		{"within a block", "http { include b; }", []string{"/etc/nginx/b", "in { x; }"}, "http[]{in[]{x[]}}"},
		{"within each other", "include b;", []string{"/etc/nginx/b", "1; include d/c; 3;", "/etc/nginx/d/c", "2;"}, "1[]2[]3[]"},
		{"twice", "include b; include b;", []string{"/etc/nginx/b", "in;"}, "in[]in[]"},
		{"twice, by an old nginx", "include b; include c; include b;", []string{"/etc/nginx/b", "1;", "/etc/nginx/c", "2;", "/etc/nginx/b", "1;"}, "1[]2[]1[]"},
		{"a pattern that nothing matches", "include c/*.conf; a;", nil, "a[]"},
		{
			"a pattern, in order of names", "include s/*;",
			[]string{"/etc/nginx/s/b", "2;", "/etc/nginx/s/a", "1;", "/etc/nginx/s/Z", "0;"},
			"0[]1[]2[]",
		},
		{"a negated class", "include s/[!a]*;", []string{"/etc/nginx/s/b", "2;"}, "2[]"},
		{"quotes", `include "s/a b";`, []string{"/etc/nginx/s/a b", "in;"}, "in[]"},
		{"an empty file", "include b; a;", []string{"/etc/nginx/b", ""}, "a[]"},
		{"a comment that looks like a file", "a;\n# configuration file /etc/nginx/b:\nb;", nil, "a[]b[]"},
		{"a comment that names its own file", "include s;", []string{"/etc/nginx/s", "# configuration file /etc/nginx/s:\nb;"}, "b[]"},
		{"a comment that isn't at the beginning", "include b; # configuration file /etc/nginx/b:\nc;", []string{"/etc/nginx/b", "d;"}, "d[]c[]"},
		{"chatter before it", "", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := parse(t, "nginx: configuration file /etc/nginx/nginx.conf test is successful\n"+dump(c.text, c.more...))
			if got := words(got.Directives); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPatternsMatchAsGlobDoes(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"/e/*.conf", "/e/a.conf", true},
		{"/e/*.conf", "/e/b/a.conf", false},
		{"/e/*", "/e/.a.swp", false},
		{"/e/.*", "/e/.a.swp", true},
		{"/e/?a", "/e/.a", false},
		{"/e/[!b]", "/e/a", true},
		{"/e/[!b]", "/e/b", false},
		{"/*/a", "/e/a", true},
		{"/e/a", "/e/a", true},
		{"/e/a", "/e/b", false},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestDirectivesSayWhereTheyAre(t *testing.T) {
	c := parse(t, dump("\nuser\n  x;\n\"a\" {\n b\n c; }\ninclude s/*;\n", "/etc/nginx/s/b", "one;\ntwo;"))
	var at []string
	for _, d := range append(c.Directives, c.Directives[1].Block...) {
		at = append(at, d.Name+" "+d.at())
	}
	want := []string{
		"user /etc/nginx/nginx.conf:2", "a /etc/nginx/nginx.conf:4", "one /etc/nginx/s/b:1", "two /etc/nginx/s/b:2", "b /etc/nginx/nginx.conf:5",
	}
	if d := cmp.Diff(want, at); d != "" {
		t.Error(d)
	}
}

func TestDebiansConfigurationIsUnderstood(t *testing.T) {
	c := captured(t, "debian-default.txt")
	if got := c.User(); got != "www-data" {
		t.Errorf("user %q", got)
	}
	server := last(last(c.Directives, "http").Block, "server")
	if server == nil || server.at() != "/etc/nginx/sites-enabled/default:21" {
		t.Errorf("%+v", server)
	}
	if got := parse(t, dump("events {}")).User(); got != "" {
		t.Errorf("user %q", got)
	}
}

// FuzzParse: whatever nginx might print, it is understood within its bounds or refused, and routes can be asked for.
func FuzzParse(f *testing.F) {
	f.Add(dump("user x; http { server { location / { proxy_pass http://a; } } }"))
	f.Add(dump("include s/*; a \"b\" ${c} 'd\\'';", "/etc/nginx/s/b", "x_by_lua_block { [[ } ]] --[[ } ]] }"))
	f.Add(dump(`http { upstream a { server unix:/a; } server { listen [::]:80; server_name *.a ~b; set $x y; if ($x = "") { return 1; } location ~ a { try_files $uri @b; } location @b { uwsgi_pass $x; } } }`))
	for _, name := range []string{"debian-default.txt", "debian-shop.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(strings.NewReader(text))
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err != nil {
			return
		}
		c.User()
		c.Upstreams()
		for _, r := range []proxy.Request{{Port: 80, Host: "a", Path: "/"}, {Port: 443, Addr: "::1", TLS: true, Host: "b.a", Path: "/a?b"}} {
			if route := c.Route(r); route.Known != (route.Why == "") || len(route.ErrorLogs) == 0 {
				t.Errorf("%+v", route)
			}
		}
	})
}
