package export_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/export"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

const origin = "signet.example/ledger"

var begin = time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)

// fakeLedger is a ledger in memory, and an export.Source.
type fakeLedger struct {
	tb          testing.TB
	key         ed25519.PrivateKey
	stamp       *rfc3161.Issuer
	root        *x509.Certificate
	now         time.Time
	entries     [][]byte
	leaves      []chain.Hash
	attachments map[uint64][][]byte
	ahead       time.Duration // how far the time-stamping authority's clock is ahead
}

func newLedger(tb testing.TB) *fakeLedger {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	l := &fakeLedger{tb: tb, key: key, now: begin, attachments: map[uint64][][]byte{}}
	l.check(err)
	l.stamp, l.root = l.authority()
	l.append(chain.LedgerCreated, map[string]string{"format": "signet-entry/v1", "origin": origin})
	return l
}

func (l *fakeLedger) check(err error) {
	l.tb.Helper()
	if err != nil {
		l.tb.Fatal(err)
	}
}

// authority makes a time-stamping authority and its root.
func (l *fakeLedger) authority() (*rfc3161.Issuer, *x509.Certificate) {
	l.tb.Helper()
	issue := func(t *x509.Certificate, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		l.check(err)
		t.NotBefore, t.NotAfter, t.BasicConstraintsValid = begin.Add(-time.Hour), begin.Add(24*365*time.Hour), true
		if parent == nil {
			parent, by = t, key
		}
		der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), by)
		l.check(err)
		c, err := x509.ParseCertificate(der)
		l.check(err)
		return c, key
	}
	root, rootKey := issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Time CA"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, key := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "TSA"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{rfc3161.ExtendedKeyUsage()},
	}, root, rootKey)
	return &rfc3161.Issuer{
		Certificate: leaf, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Accuracy: 100 * time.Millisecond,
		Sign: func(_ context.Context, message []byte) ([]byte, error) {
			h := sha256.Sum256(message)
			return ecdsa.SignASN1(rand.Reader, key, h[:])
		},
	}, root
}

// append adds an entry.
func (l *fakeLedger) append(t chain.Type, body any, attachments ...[]byte) chain.Entry {
	l.tb.Helper()
	b, err := chain.MarshalBody(body)
	l.check(err)
	e := chain.Entry{
		Actor: chain.Actor{ID: "system", Kind: chain.System}, Body: b, Index: uint64(len(l.entries)), Time: chain.NewTime(l.now), Type: t, V: chain.Version,
	}
	if len(l.leaves) > 0 {
		e.Prev = l.leaves[len(l.leaves)-1]
	}
	l.now = l.now.Add(time.Second)
	return l.add(e, attachments...)
}

func (l *fakeLedger) add(e chain.Entry, attachments ...[]byte) chain.Entry {
	l.tb.Helper()
	raw, err := e.Encode()
	l.check(err)
	if len(attachments) > 0 {
		l.attachments[uint64(len(l.entries))] = attachments
	}
	l.entries, l.leaves = append(l.entries, raw), append(l.leaves, chain.LeafHash(raw))
	return e
}

// session adds an entry about nothing in particular.
func (l *fakeLedger) session(n int) {
	l.append(chain.SessionOpened, map[string]string{"id": fmt.Sprintf("sgn_%d", n%7)})
}

// record adds an entry with an attachment.
func (l *fakeLedger) record(content string) {
	l.append(chain.RecordCreated, map[string]string{"record": sum([]byte(content))}, []byte(content))
}

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// node returns the hash of a complete subtree, by the definition of RFC 6962.
func (l *fakeLedger) node(leaves []chain.Hash) chain.Hash {
	switch n := len(leaves); n {
	case 0:
		return chain.EmptyRoot
	case 1:
		return leaves[0]
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		return chain.NodeHash(l.node(leaves[:k]), l.node(leaves[k:]))
	}
}

func (l *fakeLedger) checkpoint(size int) chain.Checkpoint {
	return chain.Checkpoint{Origin: origin, Size: uint64(size), Root: l.node(l.leaves[:size])}
}

func (l *fakeLedger) sign(c chain.Checkpoint) []byte {
	l.tb.Helper()
	_, hash, err := chain.VerifierKey(c.Origin, l.key.Public())
	l.check(err)
	note, err := chain.SignedNote(l.tb.Context(), c, c.Origin, hash, func(_ context.Context, m []byte) ([]byte, error) { return ed25519.Sign(l.key, m), nil })
	l.check(err)
	return note
}

func (l *fakeLedger) note(size int) []byte { return l.sign(l.checkpoint(size)) }

// bracket time-stamps the ledger as it is, and enters that.
func (l *fakeLedger) bracket(change ...func(*manifest.CheckpointTimestamped)) {
	l.tb.Helper()
	note := l.note(len(l.entries))
	digest := sha256.Sum256(note)
	token, err := l.stamp.Issue(l.tb.Context(), rfc3161.Request{Hash: crypto.SHA256, Imprint: digest[:], CertReq: true}, l.now.Add(l.ahead))
	l.check(err)
	body := manifest.CheckpointTimestamped{
		Checkpoint: digest, Root: l.checkpoint(len(l.entries)).Root, Size: uint64(len(l.entries)), Timestamps: []manifest.Digest{sha256.Sum256(token)},
	}
	for _, f := range change {
		f(&body)
	}
	l.append(chain.CheckpointTimestamped, body, note, token)
}

// commit commits the index, computed anew from its definition.
func (l *fakeLedger) commit(change ...func(*index.Commitment)) {
	l.tb.Helper()
	lists := map[chain.Hash]index.Leaf{}
	for i, raw := range l.entries {
		e, err := chain.ParseEntry(raw)
		l.check(err)
		for _, k := range index.Keys(e) {
			leaf := lists[k.Hash()]
			message := append([]byte{2}, leaf.List.Hash[:]...)
			message = binary.BigEndian.AppendUint64(message, uint64(i))
			message = append(message, l.leaves[i][:]...)
			lists[k.Hash()] = index.Leaf{Key: k.Hash(), List: index.List{Count: leaf.Count + 1, Hash: sha256.Sum256(message)}}
		}
	}
	sorted := slices.SortedFunc(maps.Values(lists), func(a, b index.Leaf) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	c := index.Commitment{Entries: uint64(len(l.entries)), Format: index.Format, Keys: uint64(len(lists)), Root: mapRoot(sorted, 0)}
	for _, f := range change {
		f(&c)
	}
	l.append(chain.IndexCommitted, c)
}

func mapRoot(leaves []index.Leaf, depth int) chain.Hash {
	switch len(leaves) {
	case 0:
		return chain.Hash{}
	case 1:
		b := append([]byte{0}, leaves[0].Key[:]...)
		b = binary.BigEndian.AppendUint64(b, leaves[0].Count)
		return sha256.Sum256(append(b, leaves[0].List.Hash[:]...))
	}
	split := slices.IndexFunc(leaves, func(l index.Leaf) bool { return l.Key[depth/8]>>(7-depth%8)&1 == 1 })
	if split < 0 {
		split = len(leaves)
	}
	left, right := mapRoot(leaves[:split], depth+1), mapRoot(leaves[split:], depth+1)
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

func (l *fakeLedger) Entries(_ context.Context, from, to uint64, fn func(uint64, []byte) error) error {
	for i := from; i < to; i++ {
		if err := fn(i, l.entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *fakeLedger) Attachments(i uint64) ([][]byte, error) { return l.attachments[i], nil }

func (l *fakeLedger) Nodes(level int, from uint64, n int) ([]chain.Hash, error) {
	var out []chain.Hash
	for i := from; i < from+uint64(n); i++ {
		out = append(out, l.node(l.leaves[i<<level:(i+1)<<level]))
	}
	return out, nil
}

// export writes an export.
func (l *fakeLedger) export(start, end, size int) []byte {
	l.tb.Helper()
	var b bytes.Buffer
	l.check(export.Write(l.tb.Context(), &b, l, export.Range{Start: uint64(start), End: uint64(end), Checkpoint: l.note(size)}))
	return b.Bytes()
}

// whole is an export of everything.
func (l *fakeLedger) whole() []byte {
	l.tb.Helper()
	return l.export(0, len(l.entries), len(l.entries))
}

func (l *fakeLedger) trust(change ...func(*manifest.Trust)) []byte {
	l.tb.Helper()
	vkey, _, err := chain.VerifierKey(origin, l.key.Public())
	l.check(err)
	t := manifest.Trust{
		Issuer: "https://sign.example", MediaType: manifest.TrustMediaType, Name: "Example", Ledgers: []manifest.TrustLedger{{Origin: origin, VKey: vkey}},
		TimestampRoots: []manifest.Root{{Certificate: l.root.Raw, From: manifest.NewTime(begin.Add(-time.Hour))}},
	}
	for _, f := range change {
		f(&t)
	}
	b, err := t.Encode()
	l.check(err)
	return b
}

func (l *fakeLedger) verify(archive []byte) *export.Report {
	l.tb.Helper()
	r, err := export.Verify(l.tb.Context(), bytes.NewReader(archive), export.Options{Trust: l.trust()})
	l.check(err)
	return r
}

// want fails unless the verdict is the code and a fault says it.
func want(tb testing.TB, r *export.Report, code verify.Code, says string) {
	tb.Helper()
	if r.Code != code {
		tb.Fatalf("verdict %d, want %d; faults %v", r.Code, code, r.Faults)
	}
	if code == verify.OK {
		return
	}
	for _, f := range r.Faults {
		if f.Code == code && bytes.Contains([]byte(f.String()), []byte(says)) {
			return
		}
	}
	tb.Fatalf("no fault %d says %q: %v", code, says, r.Faults)
}

// small is a ledger with one of everything.
func small(tb testing.TB) *fakeLedger {
	tb.Helper()
	l := newLedger(tb)
	for i := range 5 {
		l.session(i)
	}
	l.record("a record")
	l.commit()
	l.bracket()
	l.session(9)
	l.commit()
	return l
}

// member is one of an archive.
type member struct {
	name    string
	content []byte
}

func unpack(tb testing.TB, archive []byte) []member {
	tb.Helper()
	var out []member
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, member{h.Name, content})
	}
}

func pack(tb testing.TB, members []member) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.content)), Mode: 0o644, ModTime: time.Unix(1767225600, 0), Format: tar.FormatUSTAR, Typeflag: tar.TypeReg}
		if err := errors.Join(w.WriteHeader(h), func() error { _, err := w.Write(m.content); return err }()); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// sums makes SHA256SUMS anew.
func sums(members []member) []member {
	var b bytes.Buffer
	for _, m := range members[:len(members)-1] {
		if !strings.HasPrefix(m.name, "attachments/") {
			fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(m.content), m.name)
		}
	}
	members[len(members)-1].content = b.Bytes()
	return members
}
