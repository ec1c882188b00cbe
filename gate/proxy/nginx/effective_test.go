package nginx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"deploygate/gate"
	"deploygate/scripts/assert"
)

func TestEffective(t *testing.T) {
	f := newFake(t)
	f.write("conf", "# configuration file /etc/nginx/nginx.conf:\nuser deploy; http { server { server_name $hostname; } }\n")
	c, err := f.Effective(t.Context())
	assert.OK(t, err)
	if c.User() != "deploy" || c.Hostname == "" {
		t.Errorf("%+v", c)
	}
	if d := cmp.Diff([]string{"-T -q"}, f.calls()); d != "" {
		t.Error(d)
	}
}

func TestAConfigurationThatCannotBeReadIsAFinding(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func(*fake)
		cause gate.Cause
		words string
	}{
		{"nginx fails", func(f *fake) { f.write("unreadable", "") }, gate.Unknown, "cannot read nginx's configuration"},
		{"no program", func(f *fake) { f.Program += "x" }, gate.Unknown, "cannot read nginx's configuration"},
		{"not understood", func(f *fake) {
			f.write("conf", "# configuration file /etc/nginx/nginx.conf:\na 'secret\n"+strings.Repeat("x", 1<<20))
		}, gate.Unknown, "cannot understand"},
		{"nothing", func(f *fake) { f.write("conf", "") }, gate.Unknown, "no configuration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			c.build(f)
			_, err := f.Effective(t.Context())
			var found *gate.Finding
			if !errors.As(err, &found) || found.Layer != gate.LayerProxy || found.Cause != c.cause || !strings.Contains(found.Summary, c.words) || strings.Contains(fmt.Sprint(found), "secret") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestEffectiveEndsWithTheContext(t *testing.T) {
	f := newFake(t)
	assert.OK(t, os.WriteFile(f.Program, []byte("#!/bin/sh\nsleep 300 & wait\n"), 0o755))
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, why)
	defer cancel()
	if _, err := f.Effective(ctx); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestJudgeDump(t *testing.T) {
	denied := "2026/11/21 03:54:05 [emerg] 9#9: open() \"/etc/nginx/secret.conf\" failed (13: Permission denied) in /etc/nginx/nginx.conf:9\n"
	for _, c := range []struct {
		name, out string
		root      bool
		cause     gate.Cause
		advice    string
	}{
		{"not root", denied, false, gate.ProxyUnverified, "sudo nginx -T"},
		{"root", denied, true, gate.Unknown, ""},
		{"invalid", "nginx: [emerg] unknown directive \"x\" in /etc/nginx/nginx.conf:3\n", false, gate.ProxyConfigInvalid, "correct /etc/nginx/nginx.conf:3, then nginx -t"},
		{"no word", "", true, gate.Unknown, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f *gate.Finding
			if !errors.As((&Nginx{Program: "nginx"}).judgeDump(c.out, exited(t), c.root), &f) {
				t.Fatal("no finding")
			}
			if f.Layer != gate.LayerProxy || f.Cause != c.cause || strings.Join(f.Advice, "\n") != c.advice {
				t.Errorf("%+v", f)
			}
		})
	}
}
