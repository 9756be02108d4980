package rfc3161

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// VerifyOptions says what a token must prove and to whom.
type VerifyOptions struct {
	Hash    crypto.Hash // of Imprint; zero means SHA-256
	Imprint []byte      // the hash of what was stamped
	// Roots are the certificates that the caller has pinned for time-stamps and that it lets count at the token's GenTime. Nothing else is trusted: no
	// certificate in the token, and not the system's.
	Roots []*x509.Certificate
	// Certificates that the caller knows beside those in the token: the signer's, where the token has none, and intermediate ones.
	Certificates []*x509.Certificate
	// Strict demands the profile of our own tokens (see the package's documentation).
	Strict bool
}

// Verify proves the token: that it is about the imprint, that the certificate it names signed it, that this certificate may sign
// time-stamps and held at GenTime, and that it leads to one of the roots. It returns the signer's certificate. The time that is proven is
// GenTime ± Accuracy. Neither the clock nor the network has a part in it. Revocation is the caller's: it drops roots, or refuses the leaf.
func (t *Token) Verify(o VerifyOptions) (*x509.Certificate, error) {
	if o.Hash == 0 {
		o.Hash = crypto.SHA256
	}
	if len(o.Imprint) == 0 || t.Hash != o.Hash || !bytes.Equal(t.Imprint, o.Imprint) {
		return nil, fmt.Errorf("%w: its imprint is %s %x, expected %s %x", ErrImprint, t.Hash, t.Imprint, o.Hash, o.Imprint)
	}
	if !bytes.Equal(digest(t.signed.digest, t.signed.content), t.signed.messageDigest) {
		return nil, fmt.Errorf("%w: the content is not the one that the signed attributes name", ErrSignature)
	}
	leaf, err := t.leaf(o.Certificates)
	if err != nil {
		return nil, err
	}
	if err := checkProfile(leaf, o.Strict); err != nil {
		return nil, err
	}
	if err := checkValidity(leaf, t.GenTime); err != nil {
		return nil, err
	}
	if !t.signed.algorithm.verify(leaf.PublicKey, t.signed.attributes, t.signed.signature) {
		return nil, fmt.Errorf("%w: not made by the key of %q", ErrSignature, leaf.Subject)
	}
	if err := t.checkName(leaf); err != nil {
		return nil, err
	}
	if err := t.checkChain(leaf, o); err != nil {
		return nil, err
	}
	if o.Strict {
		if own, _, ok := ownAlgorithm(leaf.PublicKey); !ok || own != t.signed.algorithm {
			return nil, fmt.Errorf("%w: the hash is not the one that belongs to the key", ErrProfile)
		}
		if len(t.signed.departures) > 0 {
			return nil, fmt.Errorf("%w: %s", ErrProfile, strings.Join(t.signed.departures, "; "))
		}
	}
	return leaf, nil
}

// leaf finds the signer's certificate: the one whose hash ESSCertIDv2 states. It must be the one that the signer is named by, too, and
// be among the token's certificates if there are some.
func (t *Token) leaf(known []*x509.Certificate) (*x509.Certificate, error) {
	candidates := t.Certificates
	if len(candidates) == 0 {
		candidates = known
	}
	id := t.signed.certificates[0]
	for _, c := range candidates {
		if !bytes.Equal(digest(id.hash, c.Raw), id.value) {
			continue
		}
		if !bytes.Equal(c.RawIssuer, t.signed.issuer) || c.SerialNumber.Cmp(t.signed.serial) != 0 {
			return nil, fmt.Errorf("%w: ESSCertIDv2 and the signer's issuer and serial number name different certificates", ErrCertificate)
		}
		if id.serial != nil && (!bytes.Equal(c.RawIssuer, id.issuer) || c.SerialNumber.Cmp(id.serial) != 0) {
			return nil, fmt.Errorf("%w: ESSCertIDv2 names another issuer or serial number than the certificate has", ErrCertificate)
		}
		return c, nil
	}
	if len(candidates) == 0 {
		return nil, fmt.Errorf("%w: the token carries no certificate, and none was given", ErrCertificate)
	}
	return nil, fmt.Errorf("%w: no certificate has the hash that ESSCertIDv2 states", ErrCertificate)
}

// Extensions of certificates that are looked at as they were encoded.
const (
	extensionKeyUsage    = "2.5.29.15"
	extensionAltName     = "2.5.29.17"
	extensionExtKeyUsage = "2.5.29.37"
)

// checkProfile reports whether c may sign time-stamps: no CA's, key usage for signatures alone, the one extended key usage
// timeStamping, critical (RFC 3161, section 2.3). Strict: digitalSignature alone, critical.
func checkProfile(c *x509.Certificate, strict bool) error {
	bad := func(why string) error {
		return fmt.Errorf("%w: %q: %s", ErrCertificate, c.Subject, why)
	}
	if c.IsCA {
		return bad("it is a CA's")
	}
	if !acceptableKey(c.PublicKey) {
		return bad("its key is not ECDSA over P-256, P-384 or P-521, RSA of 2,048 to 8,192 bits, or Ed25519")
	}
	usage := c.KeyUsage
	if !strict && usage&x509.KeyUsageContentCommitment != 0 {
		usage = usage&^x509.KeyUsageContentCommitment | x509.KeyUsageDigitalSignature
	}
	if usage != x509.KeyUsageDigitalSignature {
		return bad("its key usage is not digitalSignature alone")
	}
	if strict && !critical(c, extensionKeyUsage) {
		return bad("its key usage is not critical")
	}
	if len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(c.UnknownExtKeyUsage) != 0 {
		return bad("its extended key usage is not timeStamping alone")
	}
	if !critical(c, extensionExtKeyUsage) {
		return bad("its extended key usage is not critical")
	}
	return nil
}

func critical(c *x509.Certificate, id string) bool {
	for _, e := range c.Extensions {
		if e.Critical && e.Id.String() == id {
			return true
		}
	}
	return false
}

func checkValidity(c *x509.Certificate, at time.Time) error {
	if at.Before(c.NotBefore) || at.After(c.NotAfter) {
		return fmt.Errorf("%w: %q holds from %s to %s, and the time is %s", ErrCertificate, c.Subject,
			c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), at.Format(time.RFC3339Nano))
	}
	return nil
}

// checkName holds TSTInfo.tsa against the names in the certificate (RFC 3161, section 2.4.2).
func (t *Token) checkName(leaf *x509.Certificate) error {
	if t.signed.name == nil || bytes.Equal(t.signed.name, element(0xa4, leaf.RawSubject)) {
		return nil
	}
	for _, e := range leaf.Extensions {
		if e.Id.String() != extensionAltName {
			continue
		}
		names := cryptobyte.String(e.Value)
		var list cryptobyte.String
		if !names.ReadASN1(&list, tags.SEQUENCE) {
			continue
		}
		for !list.Empty() {
			var name cryptobyte.String
			var tag tags.Tag
			if !list.ReadAnyASN1Element(&name, &tag) {
				break
			}
			if bytes.Equal(name, t.signed.name) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: the token names an authority that %q is not", ErrCertificate, leaf.Subject)
}

// checkChain builds the chain from the leaf to one of the roots, as it was at GenTime. Every certificate in the token, and every one that ESSCertIDv2 names, must be part of it.
func (t *Token) checkChain(leaf *x509.Certificate, o VerifyOptions) error {
	if len(o.Roots) == 0 {
		return fmt.Errorf("%w: no root is pinned for time-stamps", ErrUntrusted)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range o.Roots {
		roots.AddCert(c)
	}
	for _, list := range [...][]*x509.Certificate{t.Certificates, o.Certificates} {
		for _, c := range list {
			if acceptableKey(c.PublicKey) { // others only cost time
				intermediates.AddCert(c)
			}
		}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   t.GenTime,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		return fmt.Errorf("%w: no chain from %q to a pinned root holds at %s: %v", ErrUntrusted, leaf.Subject, t.GenTime.Format(time.RFC3339Nano), err)
	}
	err = nil
	for _, chain := range chains {
		if err = t.checkCovers(chain); err == nil {
			return nil
		}
	}
	return err
}

// checkCovers reports whether a chain has all certificates of the token and all that ESSCertIDv2 names, and only keys of the profile.
func (t *Token) checkCovers(chain []*x509.Certificate) error {
	for _, c := range t.Certificates {
		if !contains(chain, func(in *x509.Certificate) bool { return bytes.Equal(in.Raw, c.Raw) }) {
			return fmt.Errorf("%w: the token carries %q, which is not part of the chain", ErrUntrusted, c.Subject)
		}
	}
	for _, id := range t.signed.certificates[1:] {
		if !contains(chain, func(in *x509.Certificate) bool { return bytes.Equal(digest(id.hash, in.Raw), id.value) }) {
			return fmt.Errorf("%w: ESSCertIDv2 names a certificate that is not part of the chain", ErrUntrusted)
		}
	}
	if contains(chain, func(in *x509.Certificate) bool { return !acceptableKey(in.PublicKey) }) {
		return fmt.Errorf("%w: a key in the chain is of no kind or size that counts", ErrUntrusted)
	}
	return nil
}

func contains(chain []*x509.Certificate, f func(*x509.Certificate) bool) bool {
	for _, c := range chain {
		if f(c) {
			return true
		}
	}
	return false
}

// Answers reports whether the token answers the request: the same imprint, the nonce echoed (and none where none was sent), the
// policy asked for, certificates exactly if they were asked for. It does not replace [Token.Verify].
func (t *Token) Answers(r Request) error {
	if t.Hash != r.Hash || !bytes.Equal(t.Imprint, r.Imprint) {
		return fmt.Errorf("%w: its imprint is not the one of the request", ErrImprint)
	}
	switch {
	case r.Nonce != nil && t.Nonce == nil:
		return fmt.Errorf("%w: the request's nonce is missing", ErrAnswer)
	case r.Nonce == nil && t.Nonce != nil:
		return fmt.Errorf("%w: it has a nonce, and the request has none", ErrAnswer)
	case r.Nonce != nil && r.Nonce.Cmp(t.Nonce) != 0:
		return fmt.Errorf("%w: its nonce is another", ErrAnswer)
	case r.Policy != nil && !r.Policy.Equal(t.Policy):
		return fmt.Errorf("%w: its policy is %v, and %v was asked for", ErrAnswer, t.Policy, r.Policy)
	case r.CertReq != (len(t.Certificates) > 0):
		return fmt.Errorf("%w: certificates are in it exactly if the request asks for them", ErrAnswer)
	}
	return nil
}
