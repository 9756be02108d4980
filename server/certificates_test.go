package server_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json/v2"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/exchange"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/servertest"
)

// startCertificates is startKeys with an HTTPS listener that certificates name, and figures.
func startCertificates(t *testing.T) *keyScene {
	t.Helper()
	s := &keyScene{scene: start(t, func(c *server.Config) {
		c.Web.Address, c.Web.PublicURL, c.Metrics.Address = "127.0.0.1:0", "https://ca.example/signet", "127.0.0.1:0"
	})}
	s.Enroll("eve", "Eve Security", signetv1.Role_ROLE_ADMINISTRATOR)
	s.reconnect()
	return s
}

// look has the server look after its certificates.
func (s *keyScene) look() error { return s.Running().CertificatesNow(s.t.Context()) }

// since returns the entries of a type from an index on, without a session.
func (s *keyScene) since(from uint64, typ chain.Type) (out []chain.Entry) {
	s.t.Helper()
	l := s.Running().Ledger()
	err := l.Entries(s.t.Context(), from, l.Size(), func(_ uint64, raw []byte) error {
		e, err := chain.ParseEntry(raw)
		if e.Type == typ {
			out = append(out, e)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// here is how many entries the ledger has.
func (s *keyScene) here() uint64 { return s.Running().Ledger().Size() }

// problem reports whether the status names a problem with certificates.
func (s *keyScene) problem(what string) bool {
	s.t.Helper()
	status, err := s.ledger.GetLedgerStatus(s.Login(servertest.Administrator), &signetv1.GetLedgerStatusRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range status.GetProblems() {
		if strings.HasPrefix(p, "certificates: ") && strings.Contains(p, what) {
			return true
		}
	}
	return false
}

// crl reads the newest list as it is served, and as openssl and Go understand it.
type crl struct {
	der  []byte
	list *x509.RevocationList
	text string // openssl crl -text
}

func (s *keyScene) crl(w *web) crl {
	s.t.Helper()
	reply, der := w.get(http.MethodGet, "/ca/crl", "")
	if reply.StatusCode != http.StatusOK || reply.Header.Get("Content-Type") != "application/pkix-crl" ||
		!strings.HasPrefix(reply.Header.Get("Cache-Control"), "public, max-age=") {
		s.t.Fatalf("/ca/crl: %s %v: %s", reply.Status, reply.Header, der)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	writePEM(s.t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", w.must("/ca/ca.crt", ""))
	writePEM(s.t, filepath.Join(dir, "crl.pem"), "X509 CRL", der)
	out := openssl(s.t, dir, nil, "crl", "-in", "crl.pem", "-CAfile", "ca.pem", "-text", "-noout")
	if !strings.Contains(out, "verify OK") || !strings.Contains(out, "Version 2 (0x1)") {
		s.t.Fatalf("openssl: %s", out)
	}
	return crl{der, list, out}
}

// revoked are the reasons on the list, by serial number.
func (c crl) revoked() map[string]int {
	out := map[string]int{}
	for _, e := range c.list.RevokedCertificateEntries {
		out[e.SerialNumber.String()] = e.ReasonCode
	}
	return out
}

func writePEM(t *testing.T, path, kind string, ders ...[]byte) {
	t.Helper()
	var all []byte
	for _, der := range ders {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// openssl runs it in a folder. Without a place for its error, it must succeed.
func openssl(t *testing.T, dir string, failed *error, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "openssl", args...)
	command.Dir = dir
	out, err := command.CombinedOutput()
	if failed != nil {
		*failed = err
	} else if err != nil {
		t.Fatalf("openssl %v: %v: %s", args, err, out)
	}
	return string(out)
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRevocationLists follows the CA's revocation list through everything that changes it, with openssl as the judge.
func TestRevocationLists(t *testing.T) {
	s := startCertificates(t)
	w := newWeb(t, s.scene.Server)
	ada, bob := s.adaKey(), s.active(signetv1.KeyRole_KEY_ROLE_SIGNER, s.bobID)
	adaCertificate, root := parsed(t, ada.GetCertificate()), parsed(t, w.must("/ca/ca.crt", ""))
	id := strings.TrimPrefix(s.active(signetv1.KeyRole_KEY_ROLE_CA, "").GetName(), "keys/")

	// checked has openssl verify a certificate against the list.
	checked := func(t *testing.T, c crl, certificate []byte) string {
		t.Helper()
		dir := t.TempDir()
		writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", root.Raw)
		writePEM(t, filepath.Join(dir, "crl.pem"), "X509 CRL", c.der)
		writePEM(t, filepath.Join(dir, "leaf.pem"), "CERTIFICATE", certificate)
		var failed error
		out := openssl(t, dir, &failed, "verify", "-x509_strict", "-crl_check", "-attime", strconv.FormatInt(max(c.list.ThisUpdate.Unix(), parsed(t, certificate).NotBefore.Unix()), 10), "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "leaf.pem")
		if (failed == nil) != strings.Contains(out, "leaf.pem: OK") {
			t.Fatalf("openssl verify: %v: %s", failed, out)
		}
		return out
	}
	t.Run("the first one is empty", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		c := s.crl(w)
		if c.list.Number.Int64() != c.list.ThisUpdate.Unix() || len(c.revoked()) != 0 || !strings.Contains(c.text, "No Revoked Certificates") {
			t.Errorf("number %v: %s", c.list.Number, c.text)
		}
		if out := checked(t, c, ada.GetCertificate()); !strings.Contains(out, "OK") {
			t.Error(out)
		}
		if got := c.list.NextUpdate.Sub(c.list.ThisUpdate); got != 7*24*time.Hour {
			t.Errorf("it holds for %v", got)
		}
	})
	t.Run("where certificates say that it is", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		if len(adaCertificate.CRLDistributionPoints) != 1 || len(adaCertificate.IssuingCertificateURL) != 1 {
			t.Fatalf("%v, %v", adaCertificate.CRLDistributionPoints, adaCertificate.IssuingCertificateURL)
		}
		for url, want := range map[string][]byte{adaCertificate.CRLDistributionPoints[0]: s.crl(w).der, adaCertificate.IssuingCertificateURL[0]: root.Raw} {
			path, ok := strings.CutPrefix(url, "https://ca.example/signet")
			if !ok || !bytes.Equal(w.must(path, ""), want) {
				t.Errorf("%s", url)
			}
		}
	})
	t.Run("all is as the document describes it", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		issuer := s.Config.Issuer
		profiled(t, "CA", certificateRows(t, root, root, issuer, ""))
		profiled(t, "Time-stamping authority", certificateRows(t, parsed(t, s.active(signetv1.KeyRole_KEY_ROLE_TIMESTAMP, "").GetCertificate()), root, issuer, ""))
		profiled(t, "Signer", certificateRows(t, parsed(t, bob.GetCertificate()), root, issuer, strings.TrimPrefix(s.bobID, "signers/")))
		profiled(t, "Service", certificateRows(t, parsed(t, s.active(signetv1.KeyRole_KEY_ROLE_CLOSING, "").GetCertificate()), root, issuer, manifest.ClosingService))
		profiled(t, "Revocation list", listRows(t, s.crl(w).list, root, issuer))
	})
	t.Run("over HTTP", func(t *testing.T) {
		reply, _ := w.get(http.MethodHead, "/ca/"+id+".crl", "")
		etag := reply.Header.Get("ETag")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.root+"/ca/crl", nil)
		if err != nil || etag == "" {
			t.Fatal(err, etag)
		}
		request.Header.Set("If-None-Match", etag)
		again, err := w.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s", again.Status)
		}
		for _, path := range []string{"/ca/", "/ca/ca.crl", "/ca/crt", "/ca/" + strings.Repeat("0", 64) + ".crl", "/ca/" + id, "/ca/" + id + ".key"} {
			if reply, _ := w.get(http.MethodGet, path, ""); reply.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s", path, reply.Status)
			}
		}
		if reply, _ := w.get(http.MethodPost, "/ca/crl", ""); reply.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST: %s", reply.Status)
		}
	})
	t.Run("a key that is disabled is on hold, until it is enabled", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		before := s.crl(w).list.Number
		from := s.here()
		if err := s.disable(ada.GetName()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the service makes the list anew by itself", func() bool { return len(s.since(from, chain.RevocationListIssued)) == 1 })
		c := s.crl(w)
		if reason, ok := c.revoked()[adaCertificate.SerialNumber.String()]; !ok || reason != 6 || len(c.revoked()) != 1 || c.list.Number.Cmp(before) <= 0 {
			t.Errorf("list %v: %v", c.list.Number, c.revoked())
		}
		if out := checked(t, c, ada.GetCertificate()); !strings.Contains(out, "certificate revoked") || !strings.Contains(c.text, "Certificate Hold") {
			t.Errorf("%s\n%s", out, c.text)
		}
		if out := checked(t, c, bob.GetCertificate()); !strings.Contains(out, "OK") {
			t.Error(out)
		}
		if err := s.enable(ada.GetName()); err != nil {
			t.Fatal(err)
		}
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
		if next := s.crl(w); len(next.revoked()) != 0 || next.list.Number.Cmp(c.list.Number) <= 0 {
			t.Errorf("list %v: %v", next.list.Number, next.revoked())
		}
	})
	first := s.approved("v1.0.0")
	t.Run("a signer who is revoked", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		s.Clock.Advance(3 * time.Second) // seconds are all that a list knows
		if _, err := s.signers.RevokeSigner(s.admin, &signetv1.RevokeSignerRequest{
			Name: s.adaID, Reason: "her token was stolen", Cause: signetv1.RevocationCause_REVOCATION_CAUSE_LOST,
		}); err != nil {
			t.Fatal(err)
		}
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
		c := s.crl(w)
		if reason, ok := c.revoked()[adaCertificate.SerialNumber.String()]; !ok || reason != 1 || !strings.Contains(c.text, "Key Compromise") {
			t.Errorf("list %v: %v", c.list.Number, c.revoked())
		}
		if c.list.RevokedCertificateEntries[0].RevocationTime.After(c.list.ThisUpdate) {
			t.Error("revoked in the future")
		}
	})
	t.Run("what she had signed stands, and the export says when she was revoked", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		for _, file := range [][]byte{first, s.manifest()} { // the second one has the revocation among what it proves
			s.wantVerdict(file, verify.OK)
		}
		report := s.verify(s.manifest())
		if !strings.Contains(strings.Join(report.Notes, "\n"), "after the signature") {
			t.Errorf("notes %q", report.Notes)
		}
		list := s.crl(w).der
		out, err := s.script(t, first, list)
		if err != nil || !strings.Contains(out, "the signer's certificate was revoked on") || !strings.Contains(out, "after the signature was made, which stands") ||
			!strings.Contains(out, "OK: 2 signatures hold") {
			t.Errorf("verify.sh: %v: %s", err, out)
		}
	})
	t.Run("what was signed after a revocation is refused", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		m, err := manifest.Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		token, err := rfc3161.Parse(m.Signatures[0].Timestamps[0])
		if err != nil {
			t.Fatal(err)
		}
		for what, serial := range map[string]*x509.Certificate{"the signer's certificate": adaCertificate, "the time-stamping certificate": token.Certificates[0]} {
			forged, err := identity.SignRevocationList(t.Context(), identity.RevocationListConfig{
				CA: root, Key: "ca-1", Keys: s.Keys, Number: 99, ThisUpdate: s.Clock.Now(), NextUpdate: s.Clock.Now().Add(time.Hour),
				Entries: []x509.RevocationListEntry{{SerialNumber: serial.SerialNumber, RevocationTime: token.GenTime.Add(-time.Second), ReasonCode: 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := s.script(t, first, forged); err == nil || !strings.Contains(out, what+" was revoked on") || !strings.Contains(out, "before the signature") {
				t.Errorf("verify.sh with %s revoked before: %v: %s", what, err, out)
			}
		}
	})
	t.Run("a list of somebody else is not exported", func(t *testing.T) {
		other := startKeysOfAnother(t)
		m, err := manifest.Parse(first)
		if err != nil {
			t.Fatal(err)
		}
		trust, err := manifest.ParseTrust(s.trust)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exchange.OpenSSL(m, trust, other); err == nil {
			t.Error("it is")
		}
	})
	t.Run("a key that was compromised", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		old := s.active(signetv1.KeyRole_KEY_ROLE_TIMESTAMP, "")
		if _, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{
			Name: old.GetName(), Reason: "seen elsewhere", Password: proofOf(servertest.Administrator), Compromised: true,
		}); err != nil {
			t.Fatal(err)
		}
		s.rotate(bob) // in the ordinary way: nothing to revoke
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
		c := s.crl(w)
		if reason, ok := c.revoked()[parsed(t, old.GetCertificate()).SerialNumber.String()]; !ok || reason != 1 || len(c.revoked()) != 2 {
			t.Errorf("list %v: %v", c.list.Number, c.revoked())
		}
	})
	t.Run("half of its life is over", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		before := s.crl(w)
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
		if again := s.crl(w); !bytes.Equal(again.der, before.der) {
			t.Error("it was made anew without a reason")
		}
		s.Clock.Advance(4 * 24 * time.Hour)
		s.SetFault(gone("ca-"))
		if err := s.look(); err == nil {
			t.Error("a list without the CA's key")
		}
		s.connect()
		s.keys, s.admin, s.rita = signetv1.NewKeyServiceClient(s.Dial()), s.Login(servertest.Administrator), s.Login("rita")
		if last := s.crl(w); !bytes.Equal(last.der, before.der) || !s.problem("revocation list of Example Medical Signet CA: could not be made anew, the last one holds until") {
			t.Error("the last one does not stay, or nobody hears of it")
		}
		s.SetFault(nil)
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
		next := s.crl(w)
		if next.list.Number.Cmp(before.list.Number) <= 0 || !next.list.ThisUpdate.After(before.list.ThisUpdate) || len(next.revoked()) != len(before.revoked()) ||
			s.problem("revocation list") {
			t.Errorf("list %v after %v: %v", next.list.Number, before.list.Number, next.revoked())
		}
	})
	t.Run("another CA has a list of its own, and the earlier one goes on", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		before := s.crl(w)
		s.rotate(s.active(signetv1.KeyRole_KEY_ROLE_CA, ""))
		if _, err := s.signers.RevokeSigner(s.admin, &signetv1.RevokeSignerRequest{Name: s.bobID, Reason: "left", Cause: signetv1.RevocationCause_REVOCATION_CAUSE_LEFT}); err != nil {
			t.Fatal(err)
		}
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
		if c := s.crl(w); c.list.Number.Int64() < 1 || len(c.revoked()) != 0 || bytes.Equal(c.list.RawIssuer, before.list.RawIssuer) {
			t.Errorf("the new CA's list: %v", c.revoked())
		}
		old, err := x509.ParseRevocationList(w.must("/ca/"+id+".crl", ""))
		if err != nil || old.CheckSignatureFrom(root) != nil || len(old.RevokedCertificateEntries) != 3 || old.Number.Cmp(before.list.Number) <= 0 {
			t.Errorf("the earlier CA's list: %v, %v", old, err)
		}
		r, err := s.keys.ListCertificateAuthorities(s.rita, &signetv1.ListCertificateAuthoritiesRequest{})
		if err != nil || len(r.GetAuthorities()) != 2 || r.GetAuthorities()[1].GetKey() != "keys/"+id || !bytes.Equal(r.GetAuthorities()[1].GetRevocationList(), old.Raw) ||
			r.GetAuthorities()[1].GetListNumber() != old.Number.Uint64() || !r.GetAuthorities()[1].GetListExpireTime().AsTime().Equal(old.NextUpdate) {
			t.Errorf("RPC: %v, %v", r, err)
		}
	})
	t.Run("figures", func(t *testing.T) {
		figures := scrape(t, s.scene.Server)
		for _, want := range []string{`signet_certificate_expiry_seconds{role="ca"} `, `signet_certificate_expiry_seconds{role="tsa"} `, `signet_certificate_expiry_seconds{role="closing"} `,
			`signet_certificate_expiry_seconds{role="sealing"} `, "signet_revocation_list_expiry_seconds ", "signet_revocation_list_entries 0", "signet_certificate_problems 0"} {
			if !strings.Contains(figures, want) {
				t.Errorf("no %s", want)
			}
		}
	})
}

// startKeysOfAnother returns the revocation list of another CA, of the same name.
func startKeysOfAnother(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	openssl(t, dir, nil, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-subj", "/O=Example Medical/CN=Example Medical Signet CA")
	if err := os.WriteFile(filepath.Join(dir, "ca.cnf"), []byte("[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"index": "", "number": "01\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl(t, dir, nil, "ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "key.pem", "-cert", "ca.pem", "-out", "crl.pem")
	openssl(t, dir, nil, "crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der")
	b, err := os.ReadFile(filepath.Join(dir, "crl.der"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// script exports a manifest with a revocation list, and runs its verify.sh.
func (s *keyScene) script(t *testing.T, file, list []byte) (string, error) {
	t.Helper()
	m, err := manifest.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := manifest.ParseTrust(s.trust)
	if err != nil {
		t.Fatal(err)
	}
	files, err := exchange.OpenSSL(m, trust, list)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "verify.sh")).CombinedOutput()
	return string(out), err
}

// TestCertificatesLapse goes through twenty years: the service renews its own certificates with new keys, tells of those of people and of the
// CA in time, and what was signed goes on verifying with the trust file that was pinned at the beginning.
func TestCertificatesLapse(t *testing.T) {
	s := startKeys(t)
	began, before := s.Clock.Now(), s.approved("v1.0.0")
	year := 365 * 24 * time.Hour
	// at moves the clock to a time after the beginning, and has the service look after its certificates.
	at := func(t *testing.T, d time.Duration) {
		t.Helper()
		s.Clock.Advance(began.Add(d).Sub(s.Clock.Now()))
		if err := s.look(); err != nil {
			t.Fatal(err)
		}
	}
	key := func(role signetv1.KeyRole) string { return s.active(role, "").GetLabel() }
	told := func(from uint64) (out []string) {
		for _, e := range s.since(from, chain.AlertRaised) {
			var body struct{ Audience, Kind, Subject, Summary string }
			if err := json.Unmarshal(e.Body, &body, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			if body.Kind == "certificate.lapsing" {
				out = append(out, body.Audience+" "+strings.TrimPrefix(body.Subject, "signers/")+": "+body.Summary)
			}
		}
		return out
	}
	t.Run("its own are renewed, with new keys", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		closing, sealing, stamping, from := key(signetv1.KeyRole_KEY_ROLE_CLOSING), key(signetv1.KeyRole_KEY_ROLE_SEALING), key(signetv1.KeyRole_KEY_ROLE_TIMESTAMP), s.here()
		at(t, 2*year-61*24*time.Hour)
		s.reconnect()
		if key(signetv1.KeyRole_KEY_ROLE_CLOSING) == closing || key(signetv1.KeyRole_KEY_ROLE_SEALING) == sealing || key(signetv1.KeyRole_KEY_ROLE_TIMESTAMP) != stamping {
			t.Error("not these two, or not these alone")
		}
		rotated := s.since(from, chain.KeyRotated)
		if len(rotated) != 2 || rotated[0].Actor.Kind != chain.System || !bytes.Contains(rotated[0].Body, []byte(`"components":[]`)) || !bytes.Contains(rotated[0].Body, []byte("the certificate lapses on")) {
			t.Errorf("entries: %v", rotated)
		}
		if got := told(from); len(got) != 0 {
			t.Errorf("somebody was told: %v", got)
		}
		s.wantVerdict(before, verify.OK)
		s.approved("v1.0.1")
	})
	t.Run("people's are told of, once for each threshold", func(t *testing.T) {
		for _, x := range []struct {
			left int // days
			told bool
		}{{60, true}, {45, false}, {29, true}, {7, true}, {6, false}, {1, true}, {-1, true}, {-30, false}} {
			from := s.here()
			at(t, 2*year-time.Duration(x.left)*24*time.Hour)
			if err := s.look(); err != nil { // twice is once
				t.Fatal(err)
			}
			got := told(from)
			if x.told != (len(got) > 0) {
				t.Errorf("%d days before: %v", x.left, got)
				continue
			}
			if !x.told {
				continue
			}
			all, word := strings.Join(got, "\n"), "lapses on "
			if x.left < 0 {
				word = "has lapsed on "
			}
			if len(got) != 3 || !strings.HasPrefix(got[0], "security : ") || !strings.Contains(all, "signer "+strings.TrimPrefix(s.adaID, "signers/")) || strings.Count(all, word) < 2 {
				t.Errorf("%d days before: %s", x.left, all)
			}
			if n := len(s.since(from, chain.CertificateLapsing)); n != 1 {
				t.Errorf("%d entries", n)
			}
		}
		s.reconnect()
		_, err := s.signing.Prepare(s.ada, &signetv1.PrepareRequest{Record: s.record.GetName(), Decision: signetv1.Decision_DECISION_APPROVE, Meaning: "release-approval", Reason: "late"})
		wantError(t, err, codes.FailedPrecondition, "CERTIFICATE_EXPIRED")
	})
	t.Run("so is the time-stamping key", func(t *testing.T) {
		t.Attr("requirement", "A-19")
		stamping := key(signetv1.KeyRole_KEY_ROLE_TIMESTAMP)
		at(t, 10*year-80*24*time.Hour)
		s.reconnect()
		if key(signetv1.KeyRole_KEY_ROLE_TIMESTAMP) == stamping {
			t.Error("it is the same")
		}
		s.rotate(s.adaKey()) // an administrator renews hers
		s.wantVerdict(s.approved("v2.0.0"), verify.OK)
		s.wantVerdict(before, verify.OK)
	})
	t.Run("the CA's is told of a year ahead", func(t *testing.T) {
		from := s.here()
		at(t, 19*year+24*time.Hour)
		s.reconnect()
		got := told(from)
		if all := strings.Join(got, "\n"); !strings.Contains(all, "the key ca lapses on") || !strings.Contains(all, "pin the new trust file") {
			t.Errorf("told: %s", all)
		}
		for _, alert := range got { // the service's own keys have no signer who could be told
			if !strings.HasPrefix(alert, "security : ") && !strings.HasPrefix(alert, "signer sgn_") {
				t.Errorf("told: %s", alert)
			}
		}
		if s.problem("the key ca") {
			t.Error("a problem a year before")
		}
		s.Clock.Advance(began.Add(20*year - 40*24*time.Hour).Sub(s.Clock.Now()))
		if err := s.look(); err == nil || !strings.Contains(err.Error(), "rotate the CA's key first") {
			t.Errorf("no certificate outlives the CA's: %v", err)
		}
		s.connect()
		if !s.problem("the certificate of the key ca lapses on") {
			t.Error("no problem forty days before")
		}
	})
	t.Run("and another one takes its place", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		pinned := s.trust
		s.reconnect()
		s.rotate(s.active(signetv1.KeyRole_KEY_ROLE_CA, ""))
		if err := s.look(); err != nil { // what lapsed with the old one is renewed below the new one
			t.Fatal(err)
		}
		s.rotate(s.adaKey())
		anew, err := os.ReadFile(s.Created.TrustFile)
		if err != nil {
			t.Fatal(err)
		}
		s.trust = anew
		after := s.approved("v3.0.0")
		at(t, 21*year) // long after the first CA has lapsed
		s.wantVerdict(before, verify.OK)
		s.wantVerdict(after, verify.OK)
		s.trust = pinned
		s.wantVerdict(before, verify.OK)
		if s.reconnect(); s.problem("the key ca") {
			t.Error("still a problem")
		}
	})
}
