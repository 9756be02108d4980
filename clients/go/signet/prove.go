package signet

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"time"

	_ "crypto/sha512" // hashes of the larger curves

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// prove proves what can be proved of a signature by itself, and with a trust file that it leads to the pinned anchors. What several signatures decide
// together is the business of api/verify.
func (c *Client) prove(s *signetv1.Signature) (*Signed, error) {
	sig, err := signatureOf(s)
	if err != nil {
		return nil, contradiction("the signature: %v", err)
	}
	said := sig.Statement.Predicate
	if s.GetSigner() != said.Signer.ID || s.GetPrintedName() != said.Signer.Name || decisionID(s.GetDecision()) != said.Decision ||
		s.GetMeaning() != said.Meaning.ID || s.GetReason() != said.Reason {
		return nil, contradiction("what the server says of the signature is not what the statement says")
	}
	leaf, err := checkValue(sig, s.GetStatement())
	if err != nil {
		return nil, err
	}
	token, err := rfc3161.Parse(sig.Timestamps[0])
	if err != nil {
		return nil, contradiction("the time-stamp: %v", err)
	}
	if imprint := sha256.Sum256(sig.Signature.Value); token.Hash != crypto.SHA256 || !bytes.Equal(token.Imprint, imprint[:]) {
		return nil, contradiction("the time-stamp is over something else than the signature")
	}
	if !token.GenTime.Truncate(time.Millisecond).Equal(s.GetSignTime().AsTime().Truncate(time.Millisecond)) {
		return nil, contradiction("the time-stamp says %s, the server %s", token.GenTime, s.GetSignTime().AsTime())
	}
	entry, proof, err := checkPlace(sig, s)
	if err != nil {
		return nil, err
	}
	out := &Signed{Signature: sig, Index: entry.Index, Time: token.GenTime}
	if c.trust == nil {
		return out, nil
	}
	for _, check := range []error{
		trustedPlace(c.trust, sig, proof), trustedTime(c.trust, token), trustedSigner(c.trust, sig, leaf, manifest.NewTime(token.GenTime)),
	} {
		if check != nil {
			return nil, check
		}
	}
	out.Trusted = true
	return out, nil
}

// checkValue verifies the signature itself under the certificate beside it, and that the certificate fits the statement.
func checkValue(sig manifest.Signature, canonical []byte) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(sig.Certificates[0])
	if err != nil {
		return nil, contradiction("the signer's certificate: %v", err)
	}
	if id := sha256.Sum256(leaf.RawSubjectPublicKeyInfo); hex.EncodeToString(id[:]) != sig.Signature.KeyID {
		return nil, contradiction("the key id is not that of the certificate")
	}
	if leaf.Subject.CommonName != sig.Statement.Predicate.Signer.Name {
		return nil, contradiction("the certificate is for %q, the statement for %q", leaf.Subject.CommonName, sig.Statement.Predicate.Signer.Name)
	}
	if !verifies(sig.Signature.Algorithm, leaf.PublicKey, manifest.PAE(canonical), sig.Signature.Value) {
		return nil, contradiction("the signature does not verify under its certificate")
	}
	return leaf, nil
}

// verifies reports whether value is the signature of message, with an algorithm that fits the key.
func verifies(algorithm string, key crypto.PublicKey, message, value []byte) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		hashes := map[string]struct {
			bits int
			hash crypto.Hash
		}{manifest.ECDSAP256: {256, crypto.SHA256}, manifest.ECDSAP384: {384, crypto.SHA384}, manifest.ECDSAP521: {521, crypto.SHA512}}
		a, ok := hashes[algorithm]
		if !ok || k.Curve.Params().BitSize != a.bits {
			return false
		}
		h := a.hash.New()
		h.Write(message)
		return ecdsa.VerifyASN1(k, h.Sum(nil), value)
	case ed25519.PublicKey:
		return algorithm == manifest.Ed25519 && ed25519.Verify(k, message, value)
	case *rsa.PublicKey:
		digest := sha256.Sum256(message)
		return algorithm == manifest.RSAPSS && rsa.VerifyPSS(k, crypto.SHA256, digest[:], value, &rsa.PSSOptions{SaltLength: sha256.Size}) == nil
	}
	return false
}

// checkPlace holds the ledger entry against the signature.
func checkPlace(sig manifest.Signature, s *signetv1.Signature) (chain.Entry, chain.Proof, error) {
	none := chain.Entry{}
	entry, err := chain.ParseEntry(sig.Ledger.Entry)
	if err != nil {
		return none, chain.Proof{}, contradiction("the ledger entry: %v", err)
	}
	proof, err := chain.ParseProof([]byte(sig.Ledger.Proof))
	if err != nil {
		return none, chain.Proof{}, contradiction("the proof: %v", err)
	}
	body, err := manifest.BodyOf(sig)
	if err != nil {
		return none, chain.Proof{}, contradiction("the signature: %v", err)
	}
	want, err := chain.MarshalBody(body)
	if err != nil {
		return none, chain.Proof{}, err
	}
	name := fmt.Sprintf("records/%s/signatures/%d", sig.Statement.Predicate.Event, entry.Index)
	switch {
	case entry.Type != chain.SignatureCreated || !bytes.Equal(entry.Body, want):
		return none, chain.Proof{}, contradiction("the ledger entry is not that of this signature")
	case entry.Index != s.GetLedger().GetIndex() || proof.Index != entry.Index:
		return none, chain.Proof{}, contradiction("the entry has the index %d, the server says %d, the proof %d", entry.Index, s.GetLedger().GetIndex(), proof.Index)
	case s.GetName() != name:
		return none, chain.Proof{}, contradiction("the signature is %s, the server says %q", name, s.GetName())
	}
	return entry, proof, nil
}

// trustedPlace proves that the entry is in a ledger of the trust file, later than the head that the signer was shown.
func trustedPlace(trust *manifest.Trust, sig manifest.Signature, proof chain.Proof) error {
	var last error = contradiction("the ledger %q is not pinned in the trust file", sig.Statement.Predicate.Ledger.Origin)
	for _, l := range trust.Ledgers {
		if l.Origin != sig.Statement.Predicate.Ledger.Origin {
			continue
		}
		verifier, err := chain.NewVerifier(l.VKey)
		if err != nil {
			return err
		}
		head, err := proof.Verify(verifier, chain.LeafHash(sig.Ledger.Entry))
		if err != nil || !l.Holds(head.Size) {
			last = contradiction("the place in the ledger is not proved by the pinned key: %v", err)
			continue
		}
		shown, hashes := sig.Statement.Predicate.Ledger, make([]chain.Hash, 0, len(sig.Ledger.Consistency))
		for _, h := range sig.Ledger.Consistency {
			if len(h) != len(chain.Hash{}) {
				return contradiction("a consistency hash of %d bytes", len(h))
			}
			hashes = append(hashes, chain.Hash(h))
		}
		if err := chain.VerifyConsistency(hashes, shown.Size, head.Size, shown.Root, head.Root); err != nil {
			return contradiction("the ledger does not continue the head that the statement names: %v", err)
		}
		return nil
	}
	return last
}

// trustedTime proves the time-stamp to a root of the trust file.
func trustedTime(trust *manifest.Trust, token *rfc3161.Token) error {
	roots, err := rootsAt(trust.TimestampRoots, manifest.NewTime(token.GenTime))
	if err != nil {
		return err
	}
	if _, err := token.Verify(rfc3161.VerifyOptions{Imprint: token.Imprint, Roots: roots}); err != nil {
		return contradiction("the time-stamp does not lead to a pinned root: %v", err)
	}
	return nil
}

// trustedSigner proves the signer's certificate to a root of the trust file, at the time of the signature.
func trustedSigner(trust *manifest.Trust, sig manifest.Signature, leaf *x509.Certificate, at manifest.Time) error {
	for _, r := range trust.Revoked {
		if r.KeyID == sig.Signature.KeyID && !at.Before(r.From) {
			return contradiction("the trust file revokes the key %s from %s on", r.KeyID, r.From)
		}
	}
	roots, err := rootsAt(trust.SignerRoots, at)
	if err != nil {
		return err
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at.Time(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	for _, r := range roots {
		options.Roots.AddCert(r)
	}
	for _, der := range sig.Certificates[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(c)
		}
	}
	if _, err := leaf.Verify(options); err != nil {
		return contradiction("the signer's certificate does not lead to a pinned root: %v", err)
	}
	collection := "/signers/"
	if !sig.Statement.Predicate.Signer.Person() {
		collection = "/services/"
	}
	want := trust.Issuer + collection + sig.Statement.Predicate.Signer.ID
	if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == want }) {
		return contradiction("the certificate is not that of %s", want)
	}
	return nil
}

// rootsAt are the roots that the trust file lets count at a time.
func rootsAt(roots []manifest.Root, at manifest.Time) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, r := range roots {
		if !r.Holds(at) {
			continue
		}
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}
