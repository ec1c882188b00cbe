package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"time"
)

// certificateLimit bounds a handshake.
const certificateLimit = 2 * time.Second

// Certificate returns the certificate that a request's server shows for the request's Host, whether or not it is valid. No
// request is sent. It is nil for an address without TLS.
func Certificate(ctx context.Context, r Request) (*x509.Certificate, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "https" {
		return nil, nil //nolint:nilnil // there is none
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	ctx, cancel := context.WithTimeout(ctx, certificateLimit)
	defer cancel()
	config := New(r).tls()
	config.InsecureSkipVerify = true // what is wrong with it is to be seen
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, bare(err)
	}
	defer conn.Close()
	shown, ok := conn.(*tls.Conn)
	if !ok || len(shown.ConnectionState().PeerCertificates) == 0 {
		return nil, errors.New("the server shows no certificate")
	}
	return shown.ConnectionState().PeerCertificates[0], nil
}
