package diagnosis

import (
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"

	"deploygate/gate"
)

// soonDays and soonPart say when the end of a certificate is near: in the last 14 days, or in the last fifth of a life that is
// shorter than 70 days. Whoever renews certificates does it long before, at a third or a half of what is left of them.
const (
	soonDays = 14 * 24 * time.Hour
	soonPart = 5
)

// maxNames of a certificate are shown.
const maxNames = 10

// Certificate returns the risk of a certificate that a site shows: that it has ended or soon will, or is for other names than
// the one that the site is asked by; nil: none. That its issuer is trusted is not looked at.
func Certificate(c *x509.Certificate, url, host string, now time.Time) *gate.Finding {
	left, life := c.NotAfter.Sub(now), c.NotAfter.Sub(c.NotBefore)
	at := c.NotAfter.UTC().Format(time.DateTime) + " UTC"
	var f *gate.Finding
	switch {
	case left <= 0:
		f = gate.NewFinding(gate.LayerProxy, gate.CertificateExpiring, fmt.Sprintf("the certificate of %s expired at %s", url, at))
	case left < min(soonDays, life/soonPart):
		f = gate.NewFinding(gate.LayerProxy, gate.CertificateExpiring, fmt.Sprintf("the certificate of %s expires in %s, at %s", url, days(left), at))
	case now.Before(c.NotBefore):
		return gate.NewFinding(gate.LayerProxy, gate.CertificateInvalid,
			fmt.Sprintf("the certificate of %s is not valid before %s UTC", url, c.NotBefore.UTC().Format(time.DateTime))).
			With("certificate", shown(c)).Advise("compare the clocks: date -u; timedatectl")
	case named(host) && c.VerifyHostname(host) != nil:
		return gate.NewFinding(gate.LayerProxy, gate.CertificateInvalid, fmt.Sprintf("the certificate of %s is not for %s", url, host)).
			With("certificate", shown(c)).Advise("set proxy.host to a name of the site, or correct ssl_certificate of its server in nginx")
	default:
		return nil
	}
	return f.With("certificate", shown(c)).
		Advise("see who renews it and why that fails: systemctl list-timers; certbot certificates").
		Advise("nginx shows the one that it has loaded: if the file is newer, systemctl reload nginx")
}

// days is a time as long as that matters to a person.
func days(d time.Duration) string {
	if d < 2*24*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// named reports whether a Host is a name that a certificate could be for.
func named(host string) bool {
	return strings.Contains(host, ".") && net.ParseIP(host) == nil
}

// shown is what a certificate says of itself.
func shown(c *x509.Certificate) string {
	names := c.DNSNames
	if len(names) == 0 {
		names = []string{c.Subject.CommonName}
	}
	more := ""
	if len(names) > maxNames {
		more = fmt.Sprintf(" and %d more", len(names)-maxNames)
		names = names[:maxNames]
	}
	return fmt.Sprintf("for %s%s, from %s to %s UTC", strings.Join(names, ", "), more,
		c.NotBefore.UTC().Format(time.DateTime), c.NotAfter.UTC().Format(time.DateTime))
}
