package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var (
	appName    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
	unitName   = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.service$`) // systemd.unit(5)
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")                       // RFC 9110, token
	control    = regexp.MustCompile(`[\x00-\x1f\x7f]`)
)

// ValidApp returns what is wrong with the name of an app.
func ValidApp(name string) error {
	if !appName.MatchString(name) {
		return fmt.Errorf("%q is not a name for an app; use letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

// ValidUnit returns what is wrong with the name of the app's unit.
func ValidUnit(name string) error {
	if !unitName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a service; it ends in .service", name)
	}
	return nil
}

// ValidPath returns what is wrong with the path of a URL.
func ValidPath(p string) error {
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%q does not start with /", p)
	}
	if strings.ContainsAny(p, " #") || control.MatchString(p) {
		return fmt.Errorf("%q is not the path of a URL", p)
	}
	if _, err := url.ParseRequestURI(p); err != nil {
		return fmt.Errorf("%q is not the path of a URL", p)
	}
	return nil
}

func validHost(host string) error {
	if host == "" || strings.ContainsAny(host, " /@") || control.MatchString(host) {
		return fmt.Errorf("%q is not the name of a host", host)
	}
	return nil
}

func validURL(s string) error {
	if s == "" {
		return nil // skips the check through the proxy
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New(`it is neither "" nor an address like http://127.0.0.1/health/`)
	}
	return nil
}

func validHeaders(headers map[string]string) error {
	for name, value := range headers {
		switch {
		case !headerName.MatchString(name):
			return fmt.Errorf("%q is not the name of a header", name)
		case strings.EqualFold(name, "host"):
			return errors.New("the Host header is health.host")
		case control.MatchString(value):
			return fmt.Errorf("the value of %s has a control character", name)
		}
	}
	return nil
}

// validRehearsal wants a command that says where it is to listen.
func validRehearsal(run []string) error {
	said := slices.ContainsFunc(run, func(word string) bool {
		return strings.Contains(word, "{bind}") || strings.Contains(word, "{socket}")
	})
	switch {
	case len(run) == 0 || run[0] == "":
		return errors.New(`it names no program; write ["PROGRAM", "--bind", "{bind}", …]`)
	case !filepath.IsAbs(run[0]) && !strings.HasPrefix(run[0], "{release}/"):
		return fmt.Errorf("%q is not an absolute path; {release} stands for the release's directory", run[0])
	case !said:
		return errors.New("it doesn't say where to listen: {bind} stands for gunicorn's --bind, {socket} for the path of that unix socket")
	}
	return nil
}
