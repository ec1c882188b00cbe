package diagnosis

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"deploygate/gate"
)

func TestCertificate(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name       string
		life, left time.Duration
		host       string
		cause      gate.Cause // "" is no risk
		says       string
	}{
		{"new", 90 * day, 89 * day, "shop.example", "", ""},
		{"about to be renewed", 90 * day, 30 * day, "shop.example", "", ""},
		{"renewed late", 90 * day, 15 * day, "shop.example", "", ""},
		{"not renewed", 90 * day, 13 * day, "shop.example", gate.CertificateExpiring, "expires in 13 days, at 2026-12-04 03:00:00 UTC"},
		{"one more day", 90 * day, 30 * time.Hour, "shop.example", gate.CertificateExpiring, "expires in 30 hours"},
		{"just ended", 90 * day, 0, "shop.example", gate.CertificateExpiring, "expired at 2026-11-21 03:00:00 UTC"},
		{"long since", 90 * day, -400 * day, "shop.example", gate.CertificateExpiring, "expired at"},
		{"of six days, half of them left", 160 * time.Hour, 80 * time.Hour, "shop.example", "", ""},
		{"of six days, two of them left", 160 * time.Hour, 48 * time.Hour, "shop.example", "", ""},
		{"of six days, one of them left", 160 * time.Hour, 24 * time.Hour, "shop.example", gate.CertificateExpiring, "expires in 24 hours"},
		{"of 47 days, ten of them left", 47 * day, 10 * day, "shop.example", "", ""},
		{"of 47 days, nine of them left", 47 * day, 9 * day, "shop.example", gate.CertificateExpiring, "expires in 9 days"},
		{"of ten years, two weeks left", 3650 * day, 14*day - 1, "shop.example", gate.CertificateExpiring, "expires in 13 days"},
		{"not yet", 90 * day, 91 * day, "shop.example", gate.CertificateInvalid, "is not valid before 2026-11-22"},
		{"of another name", 90 * day, 80 * day, "www.shop.example", gate.CertificateInvalid, "is not for www.shop.example"},
		{"expired, and of another name", 90 * day, -day, "www.shop.example", gate.CertificateExpiring, "expired"},
		{"asked by no name of a site", 90 * day, 80 * day, "localhost", "", ""},
		{"asked by an address", 90 * day, 80 * day, "127.0.0.1", "", ""},
		{"asked by none", 90 * day, 80 * day, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			end := now.Add(c.left)
			f := Certificate(&x509.Certificate{NotBefore: end.Add(-c.life), NotAfter: end, DNSNames: []string{"shop.example"}}, "https://127.0.0.1/", c.host, now)
			if (f == nil) != (c.cause == "") || f != nil && (f.Cause != c.cause || !strings.Contains(f.Summary, c.says) || len(f.Advice) == 0 || len(f.Evidence) != 1) {
				t.Errorf("%+v, want %s …%s…", f, c.cause, c.says)
			}
		})
	}
}
