package server_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/servertest"
)

// authority is a time-stamping authority of others, with a root of its own.
type authority struct {
	t      testing.TB
	url    string
	roots  string // path
	root   *x509.Certificate
	issuer rfc3161.Issuer
	down   atomic.Bool
	hangs  atomic.Bool
	asked  atomic.Int64
}

func startAuthority(t testing.TB) *authority {
	t.Helper()
	now := time.Now()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	make := func(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rootKey, leafKey := key(), key()
	rootTemplate := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Another Root"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a := &authority{t: t, root: make(rootTemplate, rootTemplate, rootKey.Public(), rootKey)}
	leaf := make(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Another Authority"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{rfc3161.ExtendedKeyUsage()}}, a.root, leafKey.Public(), rootKey)
	a.issuer = rfc3161.Issuer{
		Certificate: leaf, Chain: []*x509.Certificate{a.root}, Policy: asn1.ObjectIdentifier{1, 2, 3}, Accuracy: time.Second,
		Serial: func() *big.Int { n, _ := rand.Int(rand.Reader, big.NewInt(1<<62)); return n },
		Sign: func(_ context.Context, message []byte) ([]byte, error) {
			sum := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, leafKey, sum[:])
		},
	}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.url, a.roots = s.URL, filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(a.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	if a.hangs.Load() { // until the caller gives up
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	}
	if a.down.Load() {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	query, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	request, err := rfc3161.ParseRequest(query)
	if err != nil {
		a.t.Error(err)
		return
	}
	token, err := a.issuer.Issue(r.Context(), request, time.Now().UTC().Truncate(time.Millisecond))
	if err != nil {
		a.t.Error(err)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.Write(rfc3161.EncodeResponse(token))
}

// opened opens and serves a server whose ledger a test looks into.
func opened(t *testing.T, s *servertest.Server) *server.Server {
	t.Helper()
	s.Stop()
	o, err := server.Open(t.Context(), s.Options())
	if err != nil {
		t.Fatal(err)
	}
	l, err := o.Listen()
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = o.Serve(l) }()
	t.Cleanup(func() {
		if err := o.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return o
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// something appends an entry that is no account of the ledger of itself.
func something(t *testing.T, s *server.Server) ledger.Result {
	t.Helper()
	r, err := s.Ledger().Do(t.Context(), func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: chain.Actor{ID: "system", Kind: chain.System, Method: "none"},
			Body: map[string]string{"method": "/signet.v1.SigningService/Seal", "reason": "role"}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ledger().Checkpointed(t.Context(), r.End()); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTimeBrackets: checkpoints are time-stamped by the own authority and by others, and each entry lies between two times.
func TestTimeBrackets(t *testing.T) {
	other := startAuthority(t)
	var path string
	on := servertest.Start(t, func(c *server.Config) {
		c.Timestamp.External = []server.ExternalTSAConfig{{Name: "another", URL: other.url, Roots: other.roots}}
		c.Ledger.Brackets.Every = 3
		path = c.Path(server.LedgerFile)
	})
	s := opened(t, on)
	eventually(t, "what init has written is time-stamped", func() bool { return s.Bracketed().Size > 0 })
	began := time.Now()
	first := something(t, s)
	for range 4 {
		something(t, s)
	}
	last := s.Ledger().Size() - 1
	eventually(t, "five entries are time-stamped", func() bool { return s.Bracketed().Size > last })
	status := s.Bracketed()
	if status.External != 1 || status.Error != "" {
		t.Errorf("status %+v", status)
	}

	t.Run("an entry lies between two times that others vouch for", func(t *testing.T) {
		t.Attr("requirement", "C-101")
		if _, err := s.Ledger().Checkpointed(t.Context(), status.Entry+1); err != nil {
			t.Fatal(err)
		}
		before, after, err := s.TimeBracket(first.First)
		if err != nil || before == nil || after == nil {
			t.Fatalf("%v, %v, %v", before, after, err)
		}
		at := first.Time.Time()
		if before.Time.After(at) || after.Time.Before(at) || before.Entry >= first.First || after.Size <= first.First {
			t.Errorf("%s lies not between %s and %s: %+v, %+v", at, before.Time, after.Time, before, after)
		}
		if before.Time.Before(began.Add(-within)) || after.Time.After(time.Now().Add(3*time.Second)) {
			t.Errorf("%s and %s are not close", before.Time, after.Time)
		}
		if len(before.Tokens) != 2 || len(after.Tokens) != 2 {
			t.Errorf("%d and %d tokens, want one of each authority", len(before.Tokens), len(after.Tokens))
		}
		// The first entry has nothing before it.
		if before, after, err = s.TimeBracket(0); err != nil || before != nil || after == nil {
			t.Errorf("entry 0: %v, %v, %v", before, after, err)
		}
		if _, _, err = s.TimeBracket(1 << 30); err == nil {
			t.Error("an entry that does not exist has a bracket")
		}
	})
	t.Run("the entry binds checkpoint and tokens", func(t *testing.T) {
		t.Attr("requirement", "11.10(e)")
		raw, err := s.Ledger().Entry(status.Entry)
		if err != nil {
			t.Fatal(err)
		}
		e, err := chain.ParseEntry(raw)
		if err != nil {
			t.Fatal(err)
		}
		body, err := manifest.ParseCheckpointTimestamped(e.Body, e.Index)
		if err != nil {
			t.Fatal(err)
		}
		attachments, err := s.Ledger().Attachments(e.Index)
		if err != nil || len(attachments) != 3 {
			t.Fatalf("%d attachments, %v", len(attachments), err)
		}
		c, err := chain.OpenCheckpoint(attachments[0], s.Ledger().Verifier())
		if err != nil || c.Size != body.Size || c.Root != body.Root {
			t.Errorf("checkpoint %+v, body %+v, %v", c, body, err)
		}
		token, err := rfc3161.Parse(attachments[2])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := token.Verify(rfc3161.VerifyOptions{Imprint: body.Checkpoint[:], Roots: []*x509.Certificate{other.root}}); err != nil {
			t.Error(err)
		}
	})
	t.Run("the newest one stands beside the ledger", func(t *testing.T) {
		t.Attr("requirement", "11.10(a)")
		eventually(t, "it is kept", func() bool {
			b, c, err := ledger.ReadBracket(path, s.Ledger().Verifier())
			return err == nil && c.Size == status.Size && len(b.Tokens) == 2
		})
	})
	t.Run("an authority that does not answer holds nothing up", func(t *testing.T) {
		t.Attr("requirement", "C-99")
		other.down.Store(true)
		defer other.down.Store(false)
		for range 4 {
			something(t, s)
		}
		last := s.Ledger().Size() - 1
		eventually(t, "time-stamped by the own authority", func() bool { return s.Bracketed().Size > last })
		if status := s.Bracketed(); status.External != 0 {
			t.Errorf("status %+v", status)
		}
	})
	t.Run("accounts of the ledger of itself are no news", func(t *testing.T) {
		before := s.Ledger().Size()
		if news, err := server.News(t.Context(), s.Ledger(), s.Bracketed().Size, before); err != nil || news {
			t.Errorf("after %d of %d entries: %v, %v", s.Bracketed().Size, before, news, err)
		}
		end := something(t, s).End()
		if news, err := server.News(t.Context(), s.Ledger(), before, end); err != nil || !news {
			t.Errorf("after another entry: %v, %v", news, err)
		}
	})
}

// TestRequiredAuthority: no checkpoint counts as time-stamped without an authority that is required.
func TestRequiredAuthority(t *testing.T) {
	t.Attr("requirement", "C-101")
	other := startAuthority(t)
	other.down.Store(true)
	on := servertest.Start(t, func(c *server.Config) {
		c.Timestamp.External = []server.ExternalTSAConfig{{Name: "another", URL: other.url, Roots: other.roots, Required: true}}
		c.Ledger.Brackets.Every = 1
	})
	s := opened(t, on)
	eventually(t, "it was asked", func() bool { return other.asked.Load() > 0 && s.Bracketed().Error != "" })
	if status := s.Bracketed(); status.Size != 0 || !strings.Contains(status.Error, "another") {
		t.Errorf("status %+v", status)
	}
	other.down.Store(false)
	eventually(t, "it answers", func() bool { return s.Bracketed().Size > 0 })
	if status := s.Bracketed(); status.External != 1 || status.Error != "" {
		t.Errorf("status %+v", status)
	}
}

// TestForgedBrackets: what does not fit is found by check.
func TestForgedBrackets(t *testing.T) {
	on := servertest.Start(t)
	o := opened(t, on)
	if err := o.BracketNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	status := o.Bracketed()
	good, err := o.Ledger().Attachments(status.Entry)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := o.Ledger().Entry(status.Entry)
	if err != nil {
		t.Fatal(err)
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		t.Fatal(err)
	}
	body, err := manifest.ParseCheckpointTimestamped(e.Body, e.Index)
	if err != nil {
		t.Fatal(err)
	}
	stranger := startAuthority(t)
	foreign, err := stranger.issuer.Issue(t.Context(), rfc3161.Request{Hash: crypto.SHA256, Imprint: body.Checkpoint[:], CertReq: true}, time.Now().UTC().Truncate(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := sha256.Sum256([]byte("something else"))
	unfit, err := stranger.issuer.Issue(t.Context(), rfc3161.Request{Hash: crypto.SHA256, Imprint: elsewhere[:], CertReq: true}, time.Now().UTC().Truncate(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte
	}{
		{"another root", "the time-stamped checkpoint has", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte { b.Root[0] ^= 1; return a }},
		{"a note that nobody signed", "the time-stamped checkpoint: ", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte {
			a[0] = []byte(strings.Replace(string(a[0]), "\n", "\nx", 1))
			b.Checkpoint = sha256.Sum256(a[0])
			return a
		}},
		{"a stranger's time-stamp alone", "none of its time-stamps leads to a pinned root", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte {
			b.Timestamps = []manifest.Digest{sha256.Sum256(foreign)}
			return [][]byte{a[0], foreign}
		}},
		{"a time-stamp of something else", "imprint", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte {
			b.Timestamps = []manifest.Digest{sha256.Sum256(unfit)}
			return [][]byte{a[0], unfit}
		}},
		{"another checkpoint than it names", "the attached checkpoint is not the one that it names", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte {
			return append([][]byte{append(slices.Clone(a[0]), '\n')}, a[1:]...)
		}},
		{"another time-stamp than it names", "the attached time-stamp 0 is not the one that it names", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte {
			return [][]byte{a[0], foreign}
		}},
		{"one attachment more", "it has 3 attachments", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte { return append(a, foreign) }},
		{"the checkpoint alone", "it has 1 attachments", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte { return a[:1] }},
		{"no attachments", "are missing", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte { return nil }},
		{"noise", "time-stamp 0", func(b *manifest.CheckpointTimestamped, a [][]byte) [][]byte {
			b.Timestamps = []manifest.Digest{sha256.Sum256([]byte("noise"))}
			return [][]byte{a[0], []byte("noise")}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			forged := body
			attachments := c.change(&forged, slices.Clone(good))
			faults := server.AuditBracket(on.Config, o.Ledger(), e, forged, attachments, server.Audited{})
			if !strings.Contains(faults, c.want) {
				t.Errorf("the faults are %q; want %q", faults, c.want)
			}
		})
	}
	token, err := rfc3161.Parse(good[1])
	if err != nil {
		t.Fatal(err)
	}
	at := token.GenTime
	windows := func(change func(r *manifest.Root)) func([]manifest.Root) []manifest.Root {
		return func(roots []manifest.Root) []manifest.Root {
			roots = slices.Clone(roots)
			for i := range roots {
				change(&roots[i])
			}
			return roots
		}
	}
	ended := windows(func(r *manifest.Root) { r.To = manifest.NewTime(at).String() })
	none := func([]manifest.Root) []manifest.Root { return nil }
	strange := body
	strange.Timestamps = []manifest.Digest{sha256.Sum256(foreign)}
	for _, c := range []struct {
		name, want string
		body       manifest.CheckpointTimestamped
		tokens     [][]byte
		appended   time.Duration // after the time-stamp
		before     server.Audited
	}{
		{"the true one", "", body, good[1:], 0, server.Audited{}},
		{"after one of the same size and time", "", body, good[1:], 0, server.Audited{Size: body.Size, Last: at}},
		{"a minute before its time-stamp", "", body, good[1:], -time.Minute, server.Audited{}},
		{"well before its time-stamp", "more than 1m0s after the entry", body, good[1:], -time.Minute - token.Accuracy - time.Millisecond, server.Audited{}},
		{"of fewer entries than the one before", "fewer than the", body, good[1:], 0, server.Audited{Size: body.Size + 1}},
		{"a little earlier than the one before", "", body, good[1:], 0, server.Audited{Last: at.Add(time.Minute)}},
		{"earlier than the one before", "earlier than those of the checkpoint before", body, good[1:], 0, server.Audited{Last: at.Add(2 * time.Minute)}},
		{"of another tree", "the ledger was forked", body, good[1:], 0, server.Audited{Forked: true}},
		{"by a root that held until then", "none of its time-stamps leads to a pinned root", body, good[1:], 0, server.Audited{Pinned: ended}},
		{"by a root that held a moment longer", "", body, good[1:], 0, server.Audited{Pinned: windows(func(r *manifest.Root) { r.To = manifest.NewTime(at.Add(time.Millisecond)).String() })}},
		{"by a stranger, at a time when no root holds", "none of its time-stamps leads to a pinned root", strange, [][]byte{foreign}, 0, server.Audited{Pinned: ended}},
		{"where no root is pinned", "", strange, [][]byte{foreign}, 0, server.Audited{Pinned: none}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Attr("requirement", "11.10(a)")
			entry := e
			entry.Time = chain.NewTime(at.Add(c.appended))
			faults := server.AuditBracket(on.Config, o.Ledger(), entry, c.body, append([][]byte{good[0]}, c.tokens...), c.before)
			if (faults == "") != (c.want == "") || !strings.Contains(faults, c.want) {
				t.Errorf("the faults are %q; want %q", faults, c.want)
			}
		})
	}
}
