package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/manifest"
)

// Bounds of RSA keys in bits: smaller ones are too weak, larger ones only cost time.
const (
	minRSA = 2048
	maxRSA = 8192
)

// strong refuses the keys that count for nothing, of a signer or of a CA above.
func strong(pub crypto.PublicKey) error {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA with %d bits, and only %d to %d count", n, minRSA, maxRSA)
		}
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return fmt.Errorf("ECDSA on %s, and only P-256, P-384 and P-521 count", key.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of a kind that does not count (%T)", pub)
	}
	return nil
}

// value verifies the signature over the statement's PAE with the key of the first certificate.
func (j *judge) value(s *signature) {
	leaf, err := j.certificate(s.Certificates[0])
	if err != nil {
		j.signatureFault(s, Untrusted, ".certificates[0]", "%v", err)
		return
	}
	if id := manifest.KeyID(leaf.RawSubjectPublicKeyInfo); id != s.Signature.Signature.KeyID {
		j.signatureFault(s, Signature, ".signature.keyId", "it names the key %s, and the certificate's key is %s",
			s.Signature.Signature.KeyID, id)
	}
	if err := checkSignature(leaf.PublicKey, s.Signature.Signature.Algorithm, manifest.PAE(s.canonical),
		s.Signature.Signature.Value); err != nil {
		j.signatureFault(s, Signature, ".signature", "%v", err)
		return
	}
	s.made = true
}

var errNotMade = errors.New("it was not made by the certificate's key over this statement")

// checkSignature verifies a signature of an algorithm of the manifest.
func checkSignature(pub crypto.PublicKey, algorithm string, message, value []byte) error {
	misfit := fmt.Errorf("the algorithm %s does not fit the certificate's key (%T)", algorithm, pub)
	switch key := pub.(type) {
	case *ecdsa.PublicKey:
		var hash []byte
		switch {
		case algorithm == manifest.ECDSAP256 && key.Curve == elliptic.P256():
			h := sha256.Sum256(message)
			hash = h[:]
		case algorithm == manifest.ECDSAP384 && key.Curve == elliptic.P384():
			h := sha512.Sum384(message)
			hash = h[:]
		case algorithm == manifest.ECDSAP521 && key.Curve == elliptic.P521():
			h := sha512.Sum512(message)
			hash = h[:]
		default:
			return misfit
		}
		if !ecdsa.VerifyASN1(key, hash, value) {
			return errNotMade
		}
	case ed25519.PublicKey:
		if algorithm != manifest.Ed25519 {
			return misfit
		}
		if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, message, value) {
			return errNotMade
		}
	case *rsa.PublicKey:
		if algorithm != manifest.RSAPSS || strong(key) != nil {
			return misfit
		}
		h := sha256.Sum256(message)
		if rsa.VerifyPSS(key, crypto.SHA256, h[:], value, &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}) != nil {
			return errNotMade
		}
	default:
		return misfit
	}
	return nil
}
