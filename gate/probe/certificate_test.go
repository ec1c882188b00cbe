package probe

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"deploygate/gate"
)

// What a server shows is given though nobody would trust it; a request to this host doesn't look at it.
func TestTheCertificateThatIsShown(t *testing.T) {
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	t.Cleanup(server.Close)
	r := Request{URL: server.URL + "/health/", Host: "shop.example:443", Timeout: 10 * time.Second}
	shown, err := Certificate(t.Context(), r)
	if err != nil || shown == nil || !shown.Equal(server.Certificate()) || asked != 0 {
		t.Errorf("Certificate() = %v, %v after %d requests", shown, err, asked)
	}
	if a := collect(t, r, 1)[0]; a.Err != nil || a.Status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	if shown, err := Certificate(t.Context(), Request{URL: strings.Replace(server.URL, "https", "http", 1)}); shown != nil || err != nil {
		t.Errorf("without TLS: %v, %v", shown, err)
	}
	server.Close()
	if shown, err := Certificate(t.Context(), r); shown != nil || err == nil || strings.Contains(err.Error(), "shop.example") {
		t.Errorf("with nobody there: %v, %v", shown, err)
	}
}

// By a name the certificate is verified, and what is wrong with it is said.
func TestACertificateThatIsRefused(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	a := collect(t, Request{URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), Host: "localhost", Timeout: 10 * time.Second}, 1)[0]
	f := gate.Want{Where: "GET https://localhost/", Status: []int{200}, Proxy: true}.Judge(a)
	if f == nil || f.Cause != gate.CertificateInvalid || !strings.Contains(f.Summary, "its certificate is refused") {
		t.Errorf("%+v of %v", f, a.Err)
	}
}
