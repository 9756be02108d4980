package verify_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json/jsontext"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"uuid"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

const (
	issuer = "https://sign.example"
	origin = "signet.example/ledger"
)

var start = time.Date(2026, 11, 21, 9, 30, 0, 123e6, time.UTC)

// world is a whole signing service in memory: a CA, a time-stamping authority, a ledger, signers. It does what the
// formats say, or, by way of a [forge], what they forbid.
type world struct {
	people  map[string]*signer // of stories that name them
	tb      testing.TB
	now     time.Time
	ca      *authority
	stamp   *rfc3161.Issuer
	tsaRoot *authority
	ledger  ed25519.PrivateKey
	entries [][]byte
	leaves  []chain.Hash
	stored  []tlog.Hash
	edge    chain.Frontier
	trust   manifest.Trust
	closer  *signer
	doc     bundle.Document
	record  manifest.Record
	sigs    []manifest.Signature
	support []uint64
	blobs   [][]byte // attached to entries, for exports
}

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

type signer struct {
	id, name, title, organisation string
	roles                         []string
	key                           crypto.Signer
	algorithm                     string
	certs                         [][]byte
	keyID                         string
	enrolment                     chain.Hash
	index                         uint64 // of the enrolment
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{tb: tb, now: start}
	w.ca = w.newAuthority("Example Signing CA", elliptic.P256())
	w.tsaRoot = w.newAuthority("Example Time CA", elliptic.P256())
	w.stamp = w.newStamp(w.tsaRoot)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	w.check(err)
	w.ledger = key
	vkey, _, err := chain.VerifierKey(origin, key.Public())
	w.check(err)
	w.trust = manifest.Trust{
		Issuer: issuer, MediaType: manifest.TrustMediaType, Name: "Example Medical QMS",
		Ledgers:        []manifest.TrustLedger{{Origin: origin, VKey: vkey}},
		SignerRoots:    []manifest.Root{{Certificate: w.ca.cert.Raw, From: manifest.NewTime(start.Add(-time.Hour))}},
		TimestampRoots: []manifest.Root{{Certificate: w.tsaRoot.cert.Raw, From: manifest.NewTime(start.Add(-time.Hour))}},
	}
	w.append(chain.LedgerCreated, map[string]string{"format": "signet-entry/v1", "origin": origin})
	w.closer = w.enrolService(manifest.ClosingService, "Signet closing service")
	return w
}

func (w *world) check(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) tick(d time.Duration) { w.now = w.now.Add(d) }

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return n.Add(n, big.NewInt(1))
}

func (w *world) newAuthority(name string, curve elliptic.Curve) *authority {
	w.tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	w.check(err)
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}}, NotBefore: start.Add(-24 * time.Hour),
		NotAfter: start.Add(20 * 365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	w.check(err)
	cert, err := x509.ParseCertificate(der)
	w.check(err)
	return &authority{key, cert}
}

func (w *world) newStamp(root *authority) *rfc3161.Issuer {
	w.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Example TSA"}, NotBefore: start.Add(-24 * time.Hour), NotAfter: start.Add(365 * 24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{rfc3161.ExtendedKeyUsage()},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, root.cert, key.Public(), root.key)
	w.check(err)
	cert, err := x509.ParseCertificate(der)
	w.check(err)
	return &rfc3161.Issuer{
		Certificate: cert, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Accuracy: 100 * time.Millisecond,
		Sign: func(_ context.Context, message []byte) ([]byte, error) {
			h := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, key, h[:])
		},
	}
}

// signerTemplate is a certificate of the profile.
func signerTemplate(kind, id, name, organisation string) *x509.Certificate {
	uri, _ := url.Parse(issuer + "/" + kind + "/" + id)
	return &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: name, Organization: []string{organisation}},
		NotBefore: start.Add(-time.Hour), NotAfter: start.Add(365 * 24 * time.Hour), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 36}},
		URIs: []*url.URL{uri},
	}
}

func (w *world) issue(ca *authority, t *x509.Certificate, pub crypto.PublicKey) []byte {
	w.tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, pub, ca.key)
	w.check(err)
	return der
}

// key makes a key and says for which algorithm.
func (w *world) key(algorithm string) crypto.Signer {
	w.tb.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case manifest.ECDSAP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case manifest.ECDSAP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case manifest.ECDSAP521:
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case manifest.Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case manifest.RSAPSS:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	w.check(err)
	return key
}

// enrol makes a person with a key and a certificate, and enters them in the ledger. change may alter the certificate
// before it is issued.
func (w *world) enrol(id, name string, change ...func(*x509.Certificate)) *signer {
	w.tb.Helper()
	return w.enrolKey(id, name, manifest.ECDSAP256, change...)
}

func (w *world) enrolKey(id, name, algorithm string, change ...func(*x509.Certificate)) *signer {
	w.tb.Helper()
	s := &signer{id: id, name: name, title: "QA Lead", organisation: "Example Medical", roles: []string{"signer"}, key: w.key(algorithm), algorithm: algorithm}
	t := signerTemplate("signers", id, name, s.organisation)
	for _, f := range change {
		f(t)
	}
	s.certs = [][]byte{w.issue(w.ca, t, s.key.Public()), w.ca.cert.Raw}
	w.bind(s, chain.SignerEnrolled)
	return s
}

// bind enters a person's name and key.
func (w *world) bind(s *signer, as chain.Type) {
	w.tb.Helper()
	s.keyID = keyID(w.tb, s.certs[0])
	s.index = w.append(as, manifest.SignerEnrolled{
		Accountability: "1", Certificate: hexSum(s.certs[0]), Credential: hexSum([]byte("commitment")), ID: s.id, KeyID: s.keyID, Name: s.name,
		Organisation: s.organisation, Proofing: hexSum([]byte("proofing")), Roles: s.roles, Title: s.title, UserName: s.id[4:], Zone: "Europe/Berlin",
	})
	s.enrolment = w.leaves[s.index]
	w.support = append(w.support, s.index)
}

func (w *world) enrolService(id, name string) *signer {
	w.tb.Helper()
	s := &signer{id: id, name: name, organisation: "Example Medical", roles: []string{"service"}, key: w.key(manifest.ECDSAP256), algorithm: manifest.ECDSAP256}
	s.certs = [][]byte{w.issue(w.ca, signerTemplate("services", id, name, s.organisation), s.key.Public()), w.ca.cert.Raw}
	w.bindService(s, chain.ServiceEnrolled)
	return s
}

// bindService enters a service's name and key.
func (w *world) bindService(s *signer, as chain.Type) {
	w.tb.Helper()
	s.keyID = keyID(w.tb, s.certs[0])
	s.index = w.append(as, manifest.ServiceEnrolled{
		Certificate: hexSum(s.certs[0]), ID: s.id, KeyID: s.keyID, Name: s.name, Organisation: s.organisation, Roles: s.roles,
	})
	s.enrolment = w.leaves[s.index]
	w.support = append(w.support, s.index)
}

func keyID(tb testing.TB, der []byte) string {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return manifest.KeyID(c.RawSubjectPublicKeyInfo)
}

func hexSum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// append adds an entry at the current time.
func (w *world) append(t chain.Type, body any) uint64 {
	w.tb.Helper()
	b, err := chain.MarshalBody(body)
	w.check(err)
	e := chain.Entry{
		Actor: chain.Actor{ID: "system", Kind: chain.System}, Body: b, Index: uint64(len(w.entries)), Time: chain.NewTime(w.now), Type: t, V: chain.Version,
	}
	if len(w.leaves) > 0 {
		e.Prev = w.leaves[len(w.leaves)-1]
	}
	raw, err := e.Encode()
	w.check(err)
	return w.appendRaw(raw)
}

func (w *world) appendRaw(raw []byte) uint64 {
	leaf := chain.LeafHash(raw)
	w.entries, w.leaves = append(w.entries, raw), append(w.leaves, leaf)
	w.edge.Append(leaf, func(_ int64, h chain.Hash) { w.stored = append(w.stored, tlog.Hash(h)) })
	return uint64(len(w.entries) - 1)
}

func (w *world) read(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = w.stored[x]
	}
	return out, nil
}

func (w *world) head(size uint64) manifest.Head {
	w.tb.Helper()
	root, err := chain.Root(size, w.read)
	w.check(err)
	return manifest.Head{Origin: origin, Root: root, Size: size}
}

// note signs the checkpoint of a size.
func (w *world) note(size uint64) []byte {
	w.tb.Helper()
	h := w.head(size)
	return signNote(w.tb, w.ledger, chain.Checkpoint{Origin: h.Origin, Size: h.Size, Root: h.Root})
}

func signNote(tb testing.TB, key ed25519.PrivateKey, c chain.Checkpoint) []byte {
	tb.Helper()
	_, hash, err := chain.VerifierKey(c.Origin, key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := chain.SignedNote(tb.Context(), c, c.Origin, hash, func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil })
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

func (w *world) proof(index, size uint64) string {
	w.tb.Helper()
	hashes, err := chain.ProveInclusion(index, size, w.read)
	w.check(err)
	return string(chain.Proof{Index: index, Hashes: hashes, Checkpoint: w.note(size)}.Encode())
}

// files is a bundle in memory.
func files(names ...string) bundle.Document {
	d := bundle.Document{Excluded: []string{"signatures/"}, Format: bundle.Format}
	slices.Sort(names)
	for _, n := range names {
		d.Files = append(d.Files, bundle.File{Path: n, SHA256: sha256.Sum256([]byte(n)), Size: int64(len(n))})
	}
	return d
}

// newRecord makes the record about the world's bundle. change may alter it.
func (w *world) newRecord(k int, approvers []*signer, change ...func(*manifest.Record)) {
	w.tb.Helper()
	if w.doc.Format == "" {
		w.doc = files("SHA256SUMS", "bin/signet", "index.json")
	}
	d, err := w.doc.Digest()
	w.check(err)
	r := manifest.Record{
		Bundle: manifest.BundleRef{
			Bytes: w.doc.Bytes(), Digest: manifest.DigestSet{SHA256: d}, Files: len(w.doc.Files), Format: bundle.Format,
			Roles: map[string]string{"SHA256SUMS": "sha256sums"},
		},
		Event: manifest.Event{ID: uuid.NewV7().String(), Type: manifest.Release}, Format: manifest.RecordFormat, Name: "bioflow_pro", Version: "v0.1.0",
		Policy: manifest.Policy{
			Resolved: manifest.ResolvedPolicy{AnyRejectionVetoes: true, Exclusions: []string{"signatures/"}, K: k, Requires: manifest.AuthorizationPassword},
			Template: manifest.TemplateRef{Digest: manifest.DigestSet{SHA256: sha256.Sum256([]byte("template"))}, ID: "k-of-n", Version: 1},
		},
		Source: manifest.Source{Branch: "main", Commit: strings.Repeat("ab", 20), Repo: "https://git.example/bioflow", Tag: "v0.1.0-rc.1"},
		System: manifest.System{Configuration: hexSum([]byte("c")), Documents: hexSum([]byte("d")), Environment: manifest.Demo, Software: "signet v0.1.0", Strategy: hexSum([]byte("s"))},
	}
	for _, a := range approvers {
		r.Policy.Resolved.Approvers = append(r.Policy.Resolved.Approvers, manifest.Approver{ID: a.id, Name: a.name})
	}
	for _, f := range change {
		f(&r)
	}
	w.record, w.sigs = r, nil
	rd, err := r.Digest()
	w.check(err)
	w.tick(time.Second)
	w.append(chain.RecordCreated, map[string]string{"event": r.Event.ID, "record": rd.String()})
}

func value(tb testing.TB, v any) jsontext.Value {
	tb.Helper()
	b, err := jcs.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// manifest proves everything against the head as it stands.
func (w *world) manifest() manifest.Manifest {
	w.tb.Helper()
	return w.manifestAt(uint64(len(w.entries)))
}

func (w *world) manifestAt(size uint64) manifest.Manifest {
	w.tb.Helper()
	m := manifest.Manifest{MediaType: manifest.MediaType, Record: w.record}
	if !w.record.Bundle.IsZero() {
		m.Bundle = w.doc
	}
	for _, s := range w.sigs {
		e, err := chain.ParseEntry(s.Ledger.Entry)
		w.check(err)
		s.Ledger.Proof = w.proof(e.Index, size)
		s.Ledger.Consistency = [][]byte{}
		if from := s.Statement.Predicate.Ledger.Size; from <= size {
			hashes, err := chain.ProveConsistency(from, size, w.read)
			w.check(err)
			for _, h := range hashes {
				s.Ledger.Consistency = append(s.Ledger.Consistency, h[:])
			}
		}
		m.Signatures = append(m.Signatures, s)
	}
	for _, i := range w.support {
		m.Support = append(m.Support, manifest.Support{Entry: w.entries[i], Proof: w.proof(i, size)})
	}
	return m
}

func (w *world) trustFile() []byte {
	w.tb.Helper()
	b, err := w.trust.Encode()
	w.check(err)
	return b
}

func encode(tb testing.TB, m manifest.Manifest) []byte {
	tb.Helper()
	b, err := m.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// verify judges a manifest against the world's own bundle and trust file.
func (w *world) verify(m manifest.Manifest) *verify.Report {
	w.tb.Helper()
	in := verify.Input{Manifest: encode(w.tb, m), Trust: w.trustFile()}
	if !m.Record.Bundle.IsZero() {
		doc := w.doc
		in.Bundle = &doc
	}
	r, err := verify.Verify(w.tb.Context(), in)
	w.check(err)
	return r
}

// want fails unless the verdict is the code and, where says is not empty, a fault of that code says it.
func want(tb testing.TB, r *verify.Report, code verify.Code, says string) {
	tb.Helper()
	if r.Code != code {
		tb.Fatalf("verdict %d (%s), want %d (%s)\n%s", r.Code, r.Code, code, code, r.Text())
	}
	if says == "" {
		return
	}
	for _, f := range r.Faults {
		if f.Code == code && strings.Contains(f.String(), says) {
			return
		}
	}
	tb.Fatalf("no fault %d says %q:\n%s", code, says, r.Text())
}

// one is a record approved by its one approver and closed.
func one(tb testing.TB) (*world, *signer) {
	tb.Helper()
	w := newWorld(tb)
	ada := w.enrol("sgn_ada", "Ada Lovelace")
	w.newRecord(1, []*signer{ada})
	w.sign(ada, manifest.Approve)
	w.close(manifest.OutcomeApproved)
	return w, ada
}

func slicesWithout(list []uint64, x uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(list), func(y uint64) bool { return y == x })
}
