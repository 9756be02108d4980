package tesseratest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// log is a running server's ledger, as Tessera's client reads it over HTTPS.
type log struct {
	server   *servertest.Server
	root     *url.URL
	http     *http.Client
	verifier note.Verifier
	origin   string
	token    string
}

// start starts a server whose ledger has more than a full tile of entries.
func start(t *testing.T) *log {
	t.Helper()
	s := servertest.Start(t, func(c *server.Config) { c.Web.Address = "127.0.0.1:0" })
	admin := signetv1.NewSessionServiceClient(s.Dial())
	session := s.Login(servertest.Administrator)
	for range 130 { // two entries each: a session opened, and closed
		if _, err := admin.CloseSession(s.Login(servertest.Administrator), &signetv1.CloseSessionRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	issued, err := admin.IssueReadToken(session, &signetv1.IssueReadTokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(s.Created.ServerCertificate)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	trustFile, err := os.ReadFile(s.Created.TrustFile)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(trustFile)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(trust.Ledgers[0].VKey)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &log{
		server: s, root: &url.URL{Scheme: "https", Host: s.WebAddress(), Path: "/ledger/"}, origin: trust.Ledgers[0].Origin,
		http: &http.Client{Transport: transport, Timeout: 30 * time.Second}, verifier: verifier, token: issued.GetToken(),
	}
}

func (l *log) fetcher(t *testing.T, token string) *client.HTTPFetcher {
	t.Helper()
	f, err := client.NewHTTPFetcher(l.root, l.http)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		f.SetAuthorizationHeader("Bearer " + token)
	}
	return f
}

// leafHashes hashes the entries of a bundle, as RFC 6962 says.
func leafHashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	out := make([][]byte, 0, len(b.Entries))
	for _, e := range b.Entries {
		out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return out, nil
}

// TestTessera reads one server with all of Tessera's code.
func TestTessera(t *testing.T) {
	l := start(t)
	t.Run("fsck", l.fsck)
	t.Run("fsck finds a change", l.fsckFindsAChange)
	t.Run("proofs from tiles", l.proofsFromTiles)
	t.Run("entries need a token", l.entriesNeedAToken)
}

// Tessera's fsck recomputes every tile and the root from the entries.
func (l *log) fsck(t *testing.T) {
	t.Attr("requirement", "B-47")
	if err := fsck.New(l.origin, l.verifier, l.fetcher(t, l.token), leafHashes, fsck.Opts{N: 4}).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// altered changes one byte of one entry bundle on its way.
type altered struct {
	fsck.Fetcher
	bundle uint64
}

func (a altered) ReadEntryBundle(ctx context.Context, i uint64, p uint8) ([]byte, error) {
	b, err := a.Fetcher.ReadEntryBundle(ctx, i, p)
	if err == nil && i == a.bundle {
		b = bytes.Replace(b, []byte(`"kind":"person"`), []byte(`"kind":"persoN"`), 1)
	}
	return b, err
}

func (l *log) fsckFindsAChange(t *testing.T) {
	// As many workers as there are tiles: a worker that has found something stops, and with too few of them fsck waits for ever.
	err := fsck.New(l.origin, l.verifier, altered{l.fetcher(t, l.token), 1}, leafHashes, fsck.Opts{N: 64}).Check(t.Context())
	if err == nil {
		t.Fatal("a changed entry was not found")
	}
}

// Tessera's client builds proofs from the tiles, which its own code verifies against the signed checkpoint.
func (l *log) proofsFromTiles(t *testing.T) {
	t.Attr("requirement", "B-47")
	f := l.fetcher(t, "") // checkpoint and tiles are for everybody
	cp, _, _, err := client.FetchCheckpoint(t.Context(), f.ReadCheckpoint, l.verifier, l.origin)
	if err != nil {
		t.Fatal(err)
	}
	builder, err := client.NewProofBuilder(t.Context(), cp.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	reader := l.fetcher(t, l.token)
	for _, index := range []uint64{0, 1, 255, 256, cp.Size - 1} {
		bundle, err := client.GetEntryBundle(t.Context(), reader.ReadEntryBundle, index/256, cp.Size)
		if err != nil {
			t.Fatal(err)
		}
		hashes, err := builder.InclusionProof(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		leaf := rfc6962.DefaultHasher.HashLeaf(bundle.Entries[index%256])
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, cp.Size, leaf, hashes, cp.Hash); err != nil {
			t.Errorf("entry %d: %v", index, err)
		}
		if index > 0 && !bytes.Contains(bundle.Entries[index%256], fmt.Appendf(nil, `"index":"%d"`, index)) {
			t.Errorf("the bundle has another entry at %d: %s", index, bundle.Entries[index%256])
		}
	}
	// A later checkpoint extends this one.
	tracker, err := client.NewLogStateTracker(t.Context(), f.ReadTile, nil, l.verifier, l.origin, client.UnilateralConsensus(f.ReadCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	l.server.Login(servertest.Administrator)
	for begin := time.Now(); ; { // the checkpoint comes a moment after the entry
		_, consistency, _, err := tracker.Update(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if tracker.Latest().Size > cp.Size {
			if len(consistency) == 0 {
				t.Error("no proof of consistency")
			}
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("no later checkpoint")
		}
	}
}

// Entry bundles are for those who may read the ledger.
func (l *log) entriesNeedAToken(t *testing.T) {
	for name, token := range map[string]string{"none": "", "invented": strings.Repeat("A", 43)} {
		if _, err := l.fetcher(t, token).ReadEntryBundle(t.Context(), 0, 0); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("token %s: %v", name, err)
		}
	}
}
