package chain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Signature types of C2SP signed notes.
const (
	algEd25519 = 0x01
	algECDSA   = 0x02
)

// maxVerifierKey bounds the text of a verifier key; that of a P-521 key has some 250 bytes more than its name.
const maxVerifierKey = 1024

// VerifierKey returns the text form of a ledger's public key, "name+hash+key", and the key's hash. The key is Ed25519, or
// ECDSA on P-256, P-384 or P-521. The hash is that of C2SP: for Ed25519 over name, type and key, for ECDSA over the SPKI.
func VerifierKey(name string, pub crypto.PublicKey) (vkey string, keyHash uint32, err error) {
	if !validName(name) {
		return "", 0, malformed("key name %.80q: want at most %d bytes without spaces and +", name, MaxOrigin)
	}
	var key []byte
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return "", 0, malformed("key: Ed25519 key of %d bytes", len(pub))
		}
		key = append([]byte{algEd25519}, pub...)
		keyHash = shortHash(append([]byte(name+"\n"), key...))
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
		default:
			return "", 0, malformed("key: ECDSA on a curve other than P-256, P-384 and P-521")
		}
		spki, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return "", 0, malformed("key: %v", err)
		}
		key = append([]byte{algECDSA}, spki...)
		keyHash = shortHash(spki)
	default:
		return "", 0, malformed("key: %T is neither Ed25519 nor ECDSA", pub)
	}
	return fmt.Sprintf("%s+%08x+%s", name, keyHash, base64.StdEncoding.EncodeToString(key)), keyHash, nil
}

func shortHash(b []byte) uint32 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint32(sum[:])
}

// NewVerifier reads what [VerifierKey] writes.
func NewVerifier(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, encoded, both := strings.Cut(rest, "+")
	if !both || len(vkey) > maxVerifierKey {
		return nil, malformed("verifier key %.80q: want name+hash+key", vkey)
	}
	raw, err := parseBase64(encoded)
	if err != nil || len(raw) < 2 {
		return nil, malformed("verifier key of %.80q: the key is not canonical base64", name)
	}
	v := &verifier{name: name}
	switch alg, key := raw[0], raw[1:]; alg {
	case algEd25519:
		if len(key) != ed25519.PublicKeySize {
			return nil, malformed("verifier key of %.80q: Ed25519 key of %d bytes", name, len(key))
		}
		v.public = ed25519.PublicKey(key)
	case algECDSA:
		parsed, err := x509.ParsePKIXPublicKey(key)
		pub, ok := parsed.(*ecdsa.PublicKey)
		if err != nil || !ok {
			return nil, malformed("verifier key of %.80q: not an ECDSA key", name)
		}
		v.public = pub
	default:
		return nil, malformed("verifier key of %.80q: unknown signature type 0x%02x", name, alg)
	}
	// Writing it again must give the same text: so the hash fits, and there is one text for each key.
	again, hash, err := VerifierKey(name, v.public)
	if err != nil {
		return nil, err
	}
	if again != vkey {
		return nil, malformed("verifier key of %.80q: the hash does not fit the key, or it is not in its one form", name)
	}
	v.hash = hash
	return v, nil
}

// PublicKey returns the public key in what [VerifierKey] writes.
func PublicKey(vkey string) (crypto.PublicKey, error) {
	v, err := NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return v.(*verifier).public, nil
}

// verifier is a note.Verifier for Ed25519 and ECDSA keys.
type verifier struct {
	name   string
	hash   uint32
	public crypto.PublicKey
}

func (v *verifier) Name() string    { return v.name }
func (v *verifier) KeyHash() uint32 { return v.hash }

func (v *verifier) Verify(msg, sig []byte) bool {
	switch pub := v.public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(pub, msg, sig)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(pub, digest[:], sig)
	}
	return false
}
