package keystore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
)

// An Algorithm is one way to sign, named as in a manifest.
type Algorithm string

// The algorithms. The list is append-only.
const (
	ECDSAP256 Algorithm = "ecdsa-p256-sha256" // FIPS 186-5; ASN.1 DER signature
	ECDSAP384 Algorithm = "ecdsa-p384-sha384"
	ECDSAP521 Algorithm = "ecdsa-p521-sha512"
	Ed25519   Algorithm = "ed25519"        // RFC 8032, pure: signs the message itself
	RSAPSS    Algorithm = "rsa-pss-sha256" // RFC 8017, MGF1 with SHA-256, salt of 32 bytes

	// RSAPKCS1 is RSASSA-PKCS1-v1_5 of RFC 8017. No manifest names it: it is for a TSA or CA whose certificates and
	// tokens must be read by verifiers that know no PSS. A key is for one of the two and never signs the other.
	RSAPKCS1 Algorithm = "rsa-pkcs1-sha256"
)

// MaxMessage is the longest message that Ed25519 signs here, in bytes: the device gets it whole. The other algorithms
// get a digest and have no such bound.
const MaxMessage = 1 << 20

// Sizes of RSA keys that are made.
const (
	minRSABits = 3072
	maxRSABits = 4096
)

// Algorithms returns all algorithms.
func Algorithms() []Algorithm {
	return []Algorithm{ECDSAP256, ECDSAP384, ECDSAP521, Ed25519, RSAPSS, RSAPKCS1}
}

// Validate reports whether the algorithm is one of [Algorithms].
func (a Algorithm) Validate() error {
	for _, known := range Algorithms() {
		if a == known {
			return nil
		}
	}
	return fmt.Errorf("%w: unknown algorithm %q", ErrInvalid, string(a))
}

// Hash returns the hash function of the algorithm, or 0 for Ed25519, which signs the message itself.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case ECDSAP256, RSAPSS, RSAPKCS1:
		return crypto.SHA256
	case ECDSAP384:
		return crypto.SHA384
	case ECDSAP521:
		return crypto.SHA512
	default:
		return 0
	}
}

// Input returns what a token signs for a message: its digest, or for Ed25519 the message.
func (a Algorithm) Input(message []byte) ([]byte, error) {
	switch a.Hash() {
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		return sum[:], nil
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		return sum[:], nil
	case crypto.SHA512:
		sum := sha512.Sum512(message)
		return sum[:], nil
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return message, a.CheckInput(message)
}

// CheckInput reports whether a token may sign input with this algorithm: a digest has exactly the length of the hash
// (CKM_ECDSA cuts a longer one off without a word), a message is not empty and no longer than [MaxMessage].
func (a Algorithm) CheckInput(input []byte) error {
	if h := a.Hash(); h != 0 {
		if len(input) != h.Size() {
			return fmt.Errorf("%w: %s signs a digest of %d bytes, got %d", ErrInvalid, a, h.Size(), len(input))
		}
		return nil
	}
	if err := a.Validate(); err != nil {
		return err
	}
	if len(input) == 0 {
		return fmt.Errorf("%w: an empty message is not signed", ErrInvalid)
	}
	if len(input) > MaxMessage {
		return fmt.Errorf("%w: %s signs messages of at most %d bytes, got %d; sign a digest of it",
			ErrInvalid, a, MaxMessage, len(input))
	}
	return nil
}

// Fits reports whether a public key is of the kind that the algorithm signs with. What an RSA key is for, PSS or PKCS #1, it
// does not say itself: that was decided when it was made.
func (a Algorithm) Fits(public crypto.PublicKey) error {
	of, err := AlgorithmOf(public)
	if err != nil {
		return err
	}
	if of != a && (of != RSAPSS || a != RSAPKCS1) {
		return fmt.Errorf("%w: a public key for %s does not fit %s", ErrInvalid, of, a)
	}
	return nil
}

var errVerify = errors.New("the signature does not verify")

// Verify reports whether signature is one of the public key's over message. The key must be of the kind that the
// algorithm names.
func Verify(a Algorithm, public crypto.PublicKey, message, signature []byte) error {
	input, err := a.Input(message)
	if err != nil {
		return err
	}
	return verifyInput(a, public, input, signature)
}

func verifyInput(a Algorithm, public crypto.PublicKey, input, signature []byte) error {
	if err := a.Fits(public); err != nil {
		return err
	}
	ok := false
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, input, signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, input, signature)
	case *rsa.PublicKey:
		if a == RSAPKCS1 {
			ok = rsa.VerifyPKCS1v15(k, crypto.SHA256, input, signature) == nil
		} else {
			ok = rsa.VerifyPSS(k, crypto.SHA256, input, signature, pssOptions()) == nil
		}
	}
	if !ok {
		return errVerify
	}
	return nil
}

func pssOptions() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
}
