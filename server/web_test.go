package server_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
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

// answer is what stands before the body.
type answer struct {
	StatusCode    int
	Status, Proto string
	ProtoMajor    int
	Header        http.Header
	ContentLength int64
}

func answerOf(r *http.Response) answer {
	return answer{r.StatusCode, r.Status, r.Proto, r.ProtoMajor, r.Header, r.ContentLength}
}

// get reads a path; with a token if there is one.
func (w *web) get(method, path, token string) (answer, []byte) {
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
	return answerOf(reply), b
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

func TestWebLedger(t *testing.T) {
	s := people(t, servertest.Start(t, func(c *server.Config) { c.Web.Address = "127.0.0.1:0" }))
	s.Stop()
	const entries = 70_000 // more than a tile of the second level
	if err := server.Fill(t.Context(), s.Options(), entries); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	w := newWeb(t, s.Server)
	admin := s.Login(servertest.Administrator)
	issued, err := signetv1.NewSessionServiceClient(s.Dial()).IssueReadToken(admin, &signetv1.IssueReadTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	token := issued.GetToken()
	trustFile, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(trustFile)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := chain.NewVerifier(trust.Ledgers[0].VKey)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("checkpoint", func(t *testing.T) {
		reply, note := w.get(http.MethodGet, "/ledger/checkpoint", "")
		c, err := chain.OpenCheckpoint(note, verifier)
		if err != nil || c.Size < entries {
			t.Errorf("%+v, %v", c, err)
		}
		if h := reply.Header; !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || h.Get("Cache-Control") != "no-cache" {
			t.Errorf("headers %v", h)
		}
		if reply.ProtoMajor != 2 {
			t.Errorf("protocol %s", reply.Proto)
		}
	})
	t.Run("tiles are those of the tree", func(t *testing.T) {
		t.Attr("requirement", "B-47")
		bundle := w.must("/ledger/tile/entries/000", token)
		leaves := w.must("/ledger/tile/0/000", "")
		if len(leaves) != 256*32 {
			t.Fatalf("a full tile of %d bytes", len(leaves))
		}
		n := 0
		for ; len(bundle) > 0; n++ {
			size := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+size]
			if h := chain.LeafHash(entry); !bytes.Equal(h[:], leaves[32*n:32*n+32]) {
				t.Fatalf("entry %d is not the leaf of the tile", n)
			}
			bundle = bundle[2+size:]
		}
		if n != 256 {
			t.Fatalf("%d entries in a full bundle", n)
		}
		// The hash of a full tile stands in the tile above it.
		level := leaves
		for len(level) > 32 {
			var next []byte
			for i := 0; i < len(level); i += 64 {
				sum := sha256.Sum256(append([]byte{1}, level[i:i+64]...))
				next = append(next, sum[:]...)
			}
			level = next
		}
		if above := w.must("/ledger/tile/1/000", ""); !bytes.Equal(level, above[:32]) {
			t.Error("the tile above has another hash")
		}
		if top := w.must("/ledger/tile/2/000.p/1", ""); len(top) != 32 {
			t.Errorf("the top tile has %d bytes", len(top))
		}
	})
	t.Run("a part of a tile stays what it was", func(t *testing.T) {
		full, part := w.must("/ledger/tile/0/001", ""), w.must("/ledger/tile/0/001.p/17", "")
		if !bytes.Equal(part, full[:17*32]) {
			t.Error("the part is not the beginning of the whole")
		}
		fullEntries, partEntries := w.must("/ledger/tile/entries/001", token), w.must("/ledger/tile/entries/001.p/17", token)
		if !bytes.HasPrefix(fullEntries, partEntries) {
			t.Error("the part of the entries is not the beginning of the whole")
		}
	})
	t.Run("cached for ever, and only where it may be", func(t *testing.T) {
		reply, _ := w.get(http.MethodGet, "/ledger/tile/0/001", "")
		if got := reply.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" || reply.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("tile: %v", reply.Header)
		}
		reply, _ = w.get(http.MethodGet, "/ledger/tile/entries/001", token)
		if got := reply.Header.Get("Cache-Control"); got != "private, max-age=31536000, immutable" || reply.Header.Get("Vary") != "Authorization" {
			t.Errorf("entries: %v", reply.Header)
		}
		reply, b := w.get(http.MethodHead, "/ledger/tile/0/001", "")
		if reply.ContentLength != 256*32 || len(b) != 0 {
			t.Errorf("HEAD: %d, %d", reply.ContentLength, len(b))
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		for _, path := range []string{
			"/", "/ledger/", "/ledger", "/ledger/tile/0/x000/001", "/ledger/tile/0/1", "/ledger/tile/0/0001", "/ledger/tile/0/000.p/0", "/ledger/tile/0/000.p/256",
			"/ledger/tile/0/000.p/01", "/ledger/tile/0/000.p/", "/ledger/tile/00/000", "/ledger/tile/6/000", "/ledger/tile/64/000", "/ledger/tile/-1/000",
			"/ledger/tile/0/x999/x999/x999/x999/x999/x999/999", "/ledger/tile/0/274", "/ledger/tile/0/x001/000", "/ledger/tile/1/001.p/200", "/ledger/tile/2/000",
			"/ledger/tile/data/000", "/ledger/tile/entries/274", "/ledger/tile/entries/x001/000", "/ledger/tile/0/+01", "/ledger/tile/0/000.q/1", "/ledger/tile/0/000/",
		} {
			if reply, b := w.get(http.MethodGet, path, token); reply.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s: %s", path, reply.Status, b)
			}
		}
		if reply, _ := w.get(http.MethodPost, "/ledger/checkpoint", token); reply.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST: %s", reply.Status)
		}
	})
	t.Run("entries are for those who may read", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		for name, bad := range map[string]string{"no token": "", "an invented one": strings.Repeat("A", 43)} {
			reply, b := w.get(http.MethodGet, "/ledger/tile/entries/000", bad)
			if reply.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(reply.Header.Get("WWW-Authenticate"), "Bearer") || bytes.Contains(b, []byte("ledger.created")) {
				t.Errorf("%s: %s: %s", name, reply.Status, b)
			}
			if reply.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: a refusal may be cached: %v", name, reply.Header)
			}
		}
		if _, err := signetv1.NewSessionServiceClient(s.Dial()).IssueReadToken(s.Login("ada"), &signetv1.IssueReadTokenRequest{}); err == nil {
			t.Error("a signer got a read token")
		}
	})
	t.Run("headers for browsers", func(t *testing.T) {
		reply, _ := w.get(http.MethodGet, "/ledger/checkpoint", "")
		for key, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
			"Strict-Transport-Security": "max-age=31536000",
		} {
			if got := reply.Header.Get(key); got != want {
				t.Errorf("%s: %q", key, got)
			}
		}
	})
	t.Run("the token ends with the session", func(t *testing.T) {
		if _, err := signetv1.NewSessionServiceClient(s.Dial()).CloseSession(admin, &signetv1.CloseSessionRequest{}); err != nil {
			t.Fatal(err)
		}
		if reply, b := w.get(http.MethodGet, "/ledger/tile/entries/000", token); reply.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %.80s", reply.Status, b)
		}
	})
}

// Without an address there is no listener.
func TestWebOff(t *testing.T) {
	s := servertest.Start(t)
	if a := s.WebAddress(); a != "" {
		t.Errorf("it listens on %s", a)
	}
	for _, c := range []server.WebConfig{{Address: "8443"}, {Address: "127.0.0.1:0", Certificate: "tls/other.pem"}} {
		config := s.Config
		config.Web = c
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "web.") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
