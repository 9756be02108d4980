package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// MaxID is the longest id of a key, in bytes.
const MaxID = 128

// CanaryID is the id of the key that [Store.Health] signs with. It signs nothing else, no certificate names it, and
// a token never serves it from a copy, so that its signature shows that the device itself works.
const CanaryID ID = "canary"

// An ID is the label of a key, unique in its token and never used again, for example "ca", "tsa-1" or
// "signer-sgn_01j…-1". A token stores it as CKA_LABEL.
type ID string

// Validate reports whether the id can be one: 1 to [MaxID] letters, digits, '.', '_' and '-', the first one a letter
// or a digit.
func (id ID) Validate() error {
	if len(id) == 0 || len(id) > MaxID {
		return fmt.Errorf("%w: a key id has 1 to %d bytes, this one %d", ErrInvalid, MaxID, len(id))
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return fmt.Errorf("%w: a key id has letters, digits, '.', '_' and '-', not %q at position %d of %q",
				ErrInvalid, c, i, string(id))
		}
	}
	return nil
}

// A Spec says which key to make.
type Spec struct {
	ID        ID
	Algorithm Algorithm
	Bits      int // of an RSA key: 3072 or 4096; 0 means 3072. It is 0 for all others
}

// Validate reports whether a key can be made to this specification.
func (s Spec) Validate() error {
	if err := s.ID.Validate(); err != nil {
		return err
	}
	if err := s.Algorithm.Validate(); err != nil {
		return err
	}
	switch rsa := s.Algorithm == RSAPSS || s.Algorithm == RSAPKCS1; {
	case s.Bits == 0, rsa && (s.Bits == minRSABits || s.Bits == maxRSABits):
		return nil
	case rsa:
		return fmt.Errorf("%w: an RSA key has %d or %d bits, not %d", ErrInvalid, minRSABits, maxRSABits, s.Bits)
	default:
		return fmt.Errorf("%w: a key for %s has one size: leave out the %d bits", ErrInvalid, s.Algorithm, s.Bits)
	}
}

// RSABits returns how many bits the key is to have if it is an RSA key, 0 otherwise.
func (s Spec) RSABits() int {
	if s.Bits == 0 && (s.Algorithm == RSAPSS || s.Algorithm == RSAPKCS1) {
		return minRSABits
	}
	return s.Bits
}

// Check reports whether a key is what the specification asked for. A token that made another one has not kept to it, so
// the error wraps [ErrPolicy].
func (s Spec) Check(key Key) error {
	if key.ID != s.ID {
		return fmt.Errorf("%w: asked for key %q, the token answered with %q", ErrPolicy, s.ID, key.ID)
	}
	if key.Algorithm != s.Algorithm {
		return fmt.Errorf("%w: asked for %s, the token made a key for %s", ErrPolicy, s.Algorithm, key.Algorithm)
	}
	if err := s.Algorithm.Fits(key.Public); err != nil {
		return fmt.Errorf("%w: the public key is no key for %s", ErrPolicy, s.Algorithm)
	}
	if public, ok := key.Public.(*rsa.PublicKey); ok && public.N.BitLen() != s.RSABits() {
		return fmt.Errorf("%w: asked for %d bits, the token made a key of %d", ErrPolicy, s.RSABits(), public.N.BitLen())
	}
	return nil
}

// A Key is what is known of a key that lives in a token. The private half never leaves it.
type Key struct {
	ID        ID
	Algorithm Algorithm
	Public    crypto.PublicKey // *ecdsa.PublicKey, ed25519.PublicKey or *rsa.PublicKey
	KeyID     string           // see the function KeyID

	// Attributes are those of the private key as read back from the token, by PKCS#11 name. Flags are "true" or
	// "false", byte strings are hex, and what the token would not tell is absent.
	Attributes map[string]string
}

// KeyID names a public key: the hex SHA-256 of its SubjectPublicKeyInfo in DER. It is empty for a key that has no such
// form.
func KeyID(public crypto.PublicKey) string {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// SamePublic reports whether two public keys are the same key.
func SamePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && b != nil && k.Equal(b)
}

// AlgorithmOf returns the one algorithm that a manifest uses with a public key. RSA keys must have at least 3072 bits. That an
// RSA key was made for [RSAPKCS1] its public half does not say: [Key.Algorithm] does.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k == nil || k.X == nil || k.Y == nil { //nolint:staticcheck // only whether they are there
			break
		}
		switch k.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		case elliptic.P521():
			return ECDSAP521, nil
		}
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return Ed25519, nil
		}
	case *rsa.PublicKey:
		if k != nil && k.N != nil && k.N.BitLen() >= minRSABits {
			return RSAPSS, nil
		}
	}
	return "", fmt.Errorf("%w: no algorithm for a public key of type %T; use P-256, P-384, P-521, Ed25519 or RSA of %d bits",
		ErrInvalid, public, minRSABits)
}
