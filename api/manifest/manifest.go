package manifest

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
)

const (
	// MediaType is the media type of a [Manifest].
	MediaType = "application/vnd.signet.manifest.v1+json"
	// MaxManifest is the size of the largest manifest in bytes.
	MaxManifest = 64 << 20
	// MaxSignatures, MaxCertificates and MaxTimestamps bound a manifest's signatures, and certificates and time-stamps
	// of each.
	MaxSignatures   = 1000
	MaxCertificates = 16
	MaxTimestamps   = 8
	// MaxSupport bounds the supporting entries.
	MaxSupport = 4 * MaxSignatures

	maxCertificate = 64 << 10
	maxToken       = 64 << 10
	maxValue       = 8 << 10 // bytes of a raw signature
	maxProof       = 128 << 10
)

// The signature algorithms. They must fit the key: the hash is that of the curve's size; RSA is PSS with SHA-256 and a
// salt of 32 bytes; Ed25519 signs the bytes themselves. The list is append-only.
const (
	ECDSAP256 = "ecdsa-p256-sha256"
	ECDSAP384 = "ecdsa-p384-sha384"
	ECDSAP521 = "ecdsa-p521-sha512"
	Ed25519   = "ed25519"
	RSAPSS    = "rsa-pss-sha256"
)

// Manifest is the signature manifest of one record.
type Manifest struct {
	Bundle     bundle.Document // zero where the record has no bundle
	MediaType  string          // MediaType
	Record     Record
	Renewals   [][]byte // archive time-stamps; none exist yet
	Signatures []Signature
	Support    []Support
}

// Signature is one signature with everything that proves it.
type Signature struct {
	Authorization Authorization  `json:"authorization"`
	Certificates  [][]byte       `json:"certificates"` // DER, the signer's first, the root last
	Ledger        LedgerProof    `json:"ledger"`
	Signature     SignatureValue `json:"signature"`
	Statement     Statement      `json:"statement"`
	Timestamps    [][]byte       `json:"timestamps"` // RFC 3161 tokens in DER over Signature.Value
}

// SignatureValue is the signature itself.
type SignatureValue struct {
	Algorithm string `json:"algorithm"`
	KeyID     string `json:"keyId"` // SHA-256 of the SPKI, hex
	Value     []byte `json:"value"`
}

// LedgerProof shows where the signature stands in the ledger.
type LedgerProof struct {
	Consistency [][]byte `json:"consistency"` // RFC 6962, from the statement's ledger.size to the proof's checkpoint
	Entry       []byte   `json:"entry"`       // the entry's bytes
	Proof       string   `json:"proof"`       // C2SP tlog-proof
}

// Support is a ledger entry that the verdict leans on.
type Support struct {
	Entry []byte `json:"entry"`
	Proof string `json:"proof"`
}

// wire is a manifest as JSON. The bundle is {} where there is none.
type wire struct {
	Bundle     jsontext.Value `json:"bundle"`
	MediaType  string         `json:"mediaType"`
	Record     Record         `json:"record"`
	Renewals   [][]byte       `json:"renewals"`
	Signatures []Signature    `json:"signatures"`
	Support    []Support      `json:"support"`
}

// HasBundle reports whether the manifest holds a bundle's document.
func (m Manifest) HasBundle() bool { return m.Bundle.Format != "" }

// Encode returns the file form.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := wire{jsontext.Value("{}"), m.MediaType, m.Record, m.Renewals, m.Signatures, m.Support}
	if m.HasBundle() {
		b, err := m.Bundle.Canonical()
		if err != nil {
			return nil, parsing("manifest: bundle", err)
		}
		w.Bundle = b
	}
	b, err := canonical("manifest", w)
	if err != nil {
		return nil, err
	}
	if b, err = jcs.Indent(b); err != nil {
		return nil, parsing("manifest", err)
	}
	if len(b) > MaxManifest {
		return nil, malformed("manifest: %d bytes; the limit is %d", len(b), MaxManifest)
	}
	return b, nil
}

// Parse reads a manifest. The input must be the file form, byte for byte.
func Parse(b []byte) (Manifest, error) {
	if len(b) > MaxManifest {
		return Manifest{}, malformed("manifest: %d bytes; the limit is %d", len(b), MaxManifest)
	}
	doc, rest, cut := cutBundle(b)
	canonical, ok := jcs.FromFile(rest)
	if !ok {
		doc, cut = bundle.Document{}, false
		form, err := jcs.Indent(b)
		if err != nil {
			return Manifest{}, parsing("manifest", err)
		}
		if !bytes.Equal(form, b) {
			return Manifest{}, malformed("manifest: line %d is not in the file form "+
				"(keys sorted, two spaces, a member a line, one line feed at the end)", differingLine(b, form))
		}
		if canonical, err = jcs.Canonicalize(b); err != nil {
			return Manifest{}, parsing("manifest", err)
		}
	}
	var w wire
	if err := jcs.UnmarshalCanonical(canonical, &w); err != nil {
		return Manifest{}, parsing("manifest", err)
	}
	m := Manifest{
		Bundle: doc, MediaType: w.MediaType, Record: w.Record, Renewals: w.Renewals, Signatures: w.Signatures, Support: w.Support,
	}
	if !cut && string(w.Bundle) != "{}" {
		var err error
		if m.Bundle, err = bundle.ParseDocument(w.Bundle); err != nil {
			return Manifest{}, parsing("manifest: bundle", err)
		}
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// cutBundle reads the bundle's document, by far the largest member, by itself, straight out of the file. In the rest {} stands for it. cut is false,
// and the rest everything, where there is none, or it is not certain that it is one in the file form.
func cutBundle(b []byte) (doc bundle.Document, rest []byte, cut bool) {
	const member = "{\n  \"bundle\": "
	if !bytes.HasPrefix(b, []byte(member)) {
		return doc, b, false
	}
	doc, left, cut := bundle.CutMember(b[len(member):])
	if !cut {
		return doc, b, false
	}
	return doc, append([]byte(member+"{}"), left...), true
}

// differingLine returns the number of the line where two texts part.
func differingLine(a, b []byte) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return 1 + bytes.Count(a[:i], []byte("\n"))
}

// Validate checks that all members are of the format and within their bounds. It does not look at how they fit together.
func (m Manifest) Validate() error {
	if m.MediaType != MediaType {
		return malformed("manifest: media type %.80q; this program reads %s", m.MediaType, MediaType)
	}
	if len(m.Signatures) > MaxSignatures || len(m.Support) > MaxSupport {
		return malformed("manifest: %d signatures, %d supporting entries; the limits are %d and %d", len(m.Signatures),
			len(m.Support), MaxSignatures, MaxSupport)
	}
	if len(m.Signatures) == 0 {
		return malformed("manifest: no signatures")
	}
	if len(m.Renewals) > 0 {
		return malformed("manifest: it holds renewals, which this program cannot read; use a newer one")
	}
	if err := m.Record.Validate(); err != nil {
		return err
	}
	for i, s := range m.Signatures {
		if err := s.validate(); err != nil {
			return fmt.Errorf("signatures[%d]: %w", i, err)
		}
	}
	for i, s := range m.Support {
		if err := s.validate(); err != nil {
			return fmt.Errorf("support[%d]: %w", i, err)
		}
	}
	return nil
}

func (s Signature) validate() error {
	switch s.Signature.Algorithm {
	case ECDSAP256, ECDSAP384, ECDSAP521, Ed25519, RSAPSS:
	default:
		return malformed("signature: unknown algorithm %.80q", s.Signature.Algorithm)
	}
	if n := len(s.Signature.Value); n == 0 || n > maxValue {
		return malformed("signature: a value of %d bytes", n)
	}
	if n := len(s.Certificates); n < 1 || n > MaxCertificates {
		return malformed("signature: %d certificates; want 1 to %d", n, MaxCertificates)
	}
	if n := len(s.Timestamps); n < 1 || n > MaxTimestamps {
		return malformed("signature: %d time-stamps; want 1 to %d", n, MaxTimestamps)
	}
	if n := len(s.Ledger.Consistency); n > chain.MaxProof {
		return malformed("signature: ledger.consistency: %d hashes; the limit is %d", n, chain.MaxProof)
	}
	for _, c := range s.Certificates {
		if len(c) == 0 || len(c) > maxCertificate {
			return malformed("signature: a certificate of %d bytes", len(c))
		}
	}
	for _, t := range s.Timestamps {
		if len(t) == 0 || len(t) > maxToken {
			return malformed("signature: a time-stamp of %d bytes", len(t))
		}
	}
	for _, h := range s.Ledger.Consistency {
		if len(h) != len(chain.Hash{}) {
			return malformed("signature: ledger.consistency: a hash of %d bytes", len(h))
		}
	}
	return first(
		s.Authorization.Validate(),
		checkHex("signature: keyId", s.Signature.KeyID, false),
		s.Statement.Validate(),
		Support{s.Ledger.Entry, s.Ledger.Proof}.validate(),
	)
}

func (s Support) validate() error {
	if len(s.Entry) == 0 || len(s.Entry) > chain.MaxEntry {
		return malformed("ledger: an entry of %d bytes; want 1 to %d", len(s.Entry), chain.MaxEntry)
	}
	if len(s.Proof) == 0 || len(s.Proof) > maxProof {
		return malformed("ledger: a proof of %d bytes; want 1 to %d", len(s.Proof), maxProof)
	}
	return nil
}
