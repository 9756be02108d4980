package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/signetd/signet/server/servertest"
)

// web reads a server over HTTPS.
type web struct {
	t      *testing.T
	client *http.Client
	root   string
}

func newWeb(t *testing.T, s *servertest.Server) *web {
	t.Helper()
	pem, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			t.Error("the listener asks for a client certificate")
			return new(tls.Certificate), nil
		},
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &web{t: t, client: &http.Client{Transport: transport}, root: "https://" + s.WebAddress()}
}

// get reads a path; with a token if there is one.
func (w *web) get(method, path, token string) (*http.Response, []byte) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.root+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	reply, err := w.client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply, b
}

// must reads a path that is there.
func (w *web) must(path, token string) []byte {
	w.t.Helper()
	reply, b := w.get(http.MethodGet, path, token)
	if reply.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s: %s", path, reply.Status, b)
	}
	return b
}

