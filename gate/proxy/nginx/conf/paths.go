package conf

import (
	"path"
	"slices"
	"strings"

	"deploygate/gate/proxy"
)

// named are the directives with a path for their first argument, and whether nginx opens it as it loads the configuration.
var named = map[string]bool{
	"ssl_certificate": true, "ssl_certificate_key": true, "ssl_trusted_certificate": true, "ssl_client_certificate": true,
	"ssl_dhparam": true, "ssl_crl": true, "ssl_password_file": true, "ssl_stapling_file": true,
	"proxy_ssl_certificate": true, "proxy_ssl_certificate_key": true, "proxy_ssl_trusted_certificate": true,
	"auth_basic_user_file": false, "alias": false, "root": false,
}

// Paths returns what the configuration names below a directory, each path and directive once, in the configuration's order.
// What a file below that directory says itself isn't counted: it comes and goes with the directory. A path whose end is a
// variable counts as the directory that it surely lies in; a relative one, which nginx looks for beside its own files, and
// an include of a pattern, which may match nothing, don't count.
func (c *Config) Paths(dir string) (found []proxy.Path) {
	add := func(d *Directive, loaded bool) {
		if len(d.Args) == 0 || inside(d.File, dir) {
			return
		}
		p := proxy.Path{Directive: d.Name, Path: d.Args[0], At: d.at(), Dir: d.Name == "alias" || d.Name == "root", Loaded: loaded}
		if i := strings.IndexByte(p.Path, '$'); i >= 0 {
			p.Path, p.Dir, p.Loaded = path.Dir(p.Path[:i]+"x"), true, false
		}
		if p.Path = path.Clean(p.Path); !inside(p.Path, dir) {
			return
		}
		same := func(o proxy.Path) bool { return o.Directive == p.Directive && o.Path == p.Path }
		if !slices.ContainsFunc(found, same) {
			found = append(found, p)
		}
	}
	for i := range c.includes {
		if d := &c.includes[i]; !isPattern(d.first()) {
			add(d, true)
		}
	}
	var walk func(list []Directive)
	walk = func(list []Directive) {
		for i := range list {
			d := &list[i]
			if loaded, is := named[d.Name]; is && d.Block == nil {
				add(d, loaded)
			}
			walk(d.Block)
		}
	}
	walk(c.Directives)
	return found
}

// Files returns the files that the configuration was read from, as far as they hold a directive, in their order.
func (c *Config) Files() (files []string) {
	seen := map[string]bool{}
	var walk func(list []Directive)
	walk = func(list []Directive) {
		for i := range list {
			if d := &list[i]; !seen[d.File] {
				seen[d.File] = true
				files = append(files, d.File)
			}
			walk(list[i].Block)
		}
	}
	walk(c.Directives)
	return files
}

func inside(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }
