// Package passkey verifies WebAuthn assertions and the bindings of passkeys to signers, offline.
//
// # The problem
//
// A key in the HSM of a service signs whatever the service lets it sign. So that a signature is the act of one person, and of nobody who has
// taken the service over, the person's own device signs too: a passkey, whose private key never leaves what the person holds. What it signs is
// the statement itself: the WebAuthn challenge is the SHA-256 of the statement's pre-authentication encoding ([Challenge]). That is worth
// something only if a verifier knows, without the service's word, whose passkey it is. So each binding of a passkey to a person is signed by
// passkeys as well, and a chain of such bindings leads back to those that the verifier has pinned.
//
// # The assertion
//
// [Verify] is section 7.2 of WebAuthn Level 3 for one key, without any choice:
//
//   - the client data are JSON as package jcs reads it: one object without a name given twice, of the type `webauthn.get`, with exactly the challenge, an origin out
//     of the binding, `crossOrigin` false or left out, and no `topOrigin`. Other members are the browser's and say nothing;
//   - the authenticator data are 37 bytes: the SHA-256 of the relying party's id, flags, a counter. The user was present and was verified
//     (UP, UV). No extension was asked for and no credential is attested, so those flags are clear, and the reserved ones too. Whether the
//     passkey may be copied (BE) is what its binding says;
//   - the signature is ES256 (P-256, DER), EdDSA (Ed25519) or RS256 (PKCS #1 v1.5, 2048 to 8192 bits) over the authenticator data and the
//     SHA-256 of the client data. The counter is not judged: most passkeys have none.
//
// # The binding
//
// A [Binding] (format signet-passkey-binding/v1, canonical JSON) says: this public key is the passkey of this signer, under this name, in this
// ledger. Those who vouch for it sign [Binding.Challenge] with passkeys of theirs. The body of the ledger entry `passkey.bound` ([Bound]) holds
// the binding and what vouches for it, whole, so that a verifier needs the entry alone. A binding holds if one of these is true:
//
//   - an earlier passkey of the same signer vouches for it: same name, and it may vouch for others only if the earlier one may;
//   - two different people vouch for it, neither of them its signer, with passkeys that may.
//
// A passkey that is pinned in the trust file holds by itself, and may vouch. Each passkey that vouches must have been bound by an entry
// before, and must not have been revoked by one ([Revoked]). A passkey that was revoked never counts again: there is a new one for a new binding.
//
// # What is not proven
//
// What the person saw on the screen. Whoever runs the pages can show one text and have another one signed, once for each touch of the device.
// A revocation that a service keeps to itself is unseen: who must rely on it puts the key into their own trust file. Two people who may vouch
// can, together, bind a passkey of theirs to somebody else: it takes both. Registration asks for no attestation: what kind of device holds
// the key is the browser's word, and those who vouch look at the device.
//
// Compatibility: an assertion or a binding that verified goes on verifying. A change of shape is another format.
package passkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/signetd/signet/api/jcs"
)

// Bounds, in bytes.
const (
	MaxCredentialID = 1023 // WebAuthn Level 3, section 4
	MaxClientData   = 4 << 10
	MaxSignature    = 1 << 10 // of RSA with 8192 bits
	MaxSPKI         = 2 << 10

	authenticatorData = 37
	minRSA, maxRSA    = 2048, 8192 // bits
)

// ErrMalformed is wrapped by every error about bytes that are not of the format.
var ErrMalformed = errors.New("malformed passkey")

// ErrNotProven is wrapped by every error of [Verify]: the assertion does not prove what it should.
var ErrNotProven = errors.New("the passkey has not signed this")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

func notProven(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrNotProven}, args...)...)
}

// Base64URL is bytes whose text is base64url without padding, as WebAuthn gives them.
type Base64URL []byte

// MarshalText returns the text.
func (b Base64URL) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads the one text of a value.
func (b *Base64URL) UnmarshalText(text []byte) error {
	if bytes.ContainsAny(text, "\r\n") {
		return malformed("base64url: a line break")
	}
	out, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return malformed("base64url: %v", err)
	}
	*b = out
	return nil
}

// Assertion is what an authenticator answered to a challenge (WebAuthn Level 3, section 5.2.2).
type Assertion struct {
	CredentialID      []byte
	AuthenticatorData []byte
	ClientDataJSON    []byte
	Signature         []byte
}

// Key is a passkey's public half, and what it may be used for.
type Key struct {
	CredentialID []byte
	SPKI         []byte // SubjectPublicKeyInfo, DER
	RPID         string
	Origins      []string
	// BackupEligible is what the flag BE must be; nil: not known.
	BackupEligible *bool
}

// ID is the SHA-256 of the public key in hex: what a trust file's revocations name.
func (k Key) ID() string { return keyID(k.SPKI) }

func keyID(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// PAE returns the DSSE pre-authentication encoding of a payload.
func PAE(payloadType string, payload []byte) []byte {
	b := make([]byte, 0, len(payloadType)+len(payload)+32)
	b = append(b, "DSSEv1 "...)
	b = strconv.AppendInt(b, int64(len(payloadType)), 10)
	b = append(b, ' ')
	b = append(b, payloadType...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(payload)), 10)
	b = append(b, ' ')
	return append(b, payload...)
}

// Challenge is the WebAuthn challenge for a payload: the SHA-256 of its pre-authentication encoding.
func Challenge(payloadType string, payload []byte) [32]byte {
	return sha256.Sum256(PAE(payloadType, payload))
}

// The flags of authenticator data (WebAuthn Level 3, section 6.1).
const (
	flagUP   = 1 << 0 // the user was present
	flagUV   = 1 << 2 // the user was verified
	flagBE   = 1 << 3 // may be copied to other devices
	flagBS   = 1 << 4 // is copied
	flagAT   = 1 << 6 // attested credential data follow
	flagED   = 1 << 7 // extensions follow
	flagRest = 1<<1 | 1<<5
)

// Verify reports whether an assertion was made with the key over the challenge, by a verified user at a page of the relying party.
func Verify(k Key, challenge [32]byte, a Assertion) error {
	if err := a.bounds(); err != nil {
		return err
	}
	if !bytes.Equal(a.CredentialID, k.CredentialID) {
		return notProven("it is another passkey")
	}
	if err := checkClientData(a.ClientDataJSON, challenge, k.Origins); err != nil {
		return err
	}
	if err := checkAuthenticatorData(a.AuthenticatorData, k); err != nil {
		return err
	}
	public, err := ParseSPKI(k.SPKI)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(a.ClientDataJSON)
	return checkSignature(public, append(bytes.Clone(a.AuthenticatorData), hash[:]...), a.Signature)
}

func (a Assertion) bounds() error {
	for _, m := range [...]struct {
		name        string
		value       []byte
		least, most int
	}{
		{"credentialId", a.CredentialID, 1, MaxCredentialID}, {"authenticatorData", a.AuthenticatorData, authenticatorData, authenticatorData},
		{"clientDataJSON", a.ClientDataJSON, 1, MaxClientData}, {"signature", a.Signature, 1, MaxSignature},
	} {
		if n := len(m.value); n < m.least || n > m.most {
			return malformed("%s: %d bytes; want %d to %d", m.name, n, m.least, m.most)
		}
	}
	return nil
}

// checkClientData holds what the browser says it asked for against what was to be asked.
func checkClientData(b []byte, challenge [32]byte, origins []string) error {
	members, err := readObject(b)
	if err != nil {
		return err
	}
	text := func(name string) (s string, err error) {
		if v := members[name]; v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
			return "", malformed("clientDataJSON: %s is no text", name)
		}
		return s, nil
	}
	kind, err := text("type")
	if err != nil {
		return err
	}
	asked, err := text("challenge")
	if err != nil {
		return err
	}
	origin, err := text("origin")
	if err != nil {
		return err
	}
	switch {
	case kind != "webauthn.get":
		return notProven("it is of the type %.40q, not webauthn.get", kind)
	case asked != base64.RawURLEncoding.EncodeToString(challenge[:]):
		return notProven("it answers another challenge: it was made for something else")
	case !slices.Contains(origins, origin):
		return notProven("it was made at %.100q, and the passkey is for %q", origin, origins)
	}
	if cross, ok := members["crossOrigin"]; ok && string(cross) != "false" {
		return notProven("it was made within a page of somebody else")
	}
	if _, ok := members["topOrigin"]; ok {
		return notProven("it was made within a page of somebody else")
	}
	return nil
}

// readObject reads one JSON object of the kind that package jcs reads: no name twice, whole numbers, nothing after it.
func readObject(b []byte) (map[string]jsontext.Value, error) {
	canonical, err := jcs.Canonicalize(b)
	if err != nil {
		return nil, malformed("clientDataJSON: %v", err)
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(canonical, &members); err != nil || members == nil {
		return nil, malformed("clientDataJSON: no JSON object")
	}
	return members, nil
}

func checkAuthenticatorData(b []byte, k Key) error {
	if rp := sha256.Sum256([]byte(k.RPID)); !bytes.Equal(b[:32], rp[:]) {
		return notProven("it was made for another relying party than %q", k.RPID)
	}
	flags := b[32]
	switch {
	case flags&flagUP == 0:
		return notProven("the authenticator does not say that a user was present")
	case flags&flagUV == 0:
		return notProven("the authenticator does not say that it has verified the user")
	case flags&(flagAT|flagED|flagRest) != 0:
		return malformed("authenticatorData: flags %#02x", flags)
	case flags&flagBS != 0 && flags&flagBE == 0:
		return malformed("authenticatorData: flags %#02x: copied, and may not be", flags)
	case k.BackupEligible != nil && *k.BackupEligible != (flags&flagBE != 0):
		return notProven("whether the passkey may be copied is not what its binding says")
	}
	return nil
}

// ParseSPKI reads the public key of a passkey: P-256, Ed25519 or RSA, in the one encoding that it has.
func ParseSPKI(b []byte) (crypto.PublicKey, error) {
	if len(b) == 0 || len(b) > MaxSPKI {
		return nil, malformed("spki: %d bytes; want 1 to %d", len(b), MaxSPKI)
	}
	key, err := x509.ParsePKIXPublicKey(b)
	if err != nil {
		return nil, malformed("spki: %v", err)
	}
	if again, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(again, b) {
		return nil, malformed("spki: not in its one encoding")
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	case ed25519.PublicKey:
		return key, nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n >= minRSA && n <= maxRSA && key.E > 2 && key.E%2 == 1 {
			return key, nil
		}
	}
	return nil, malformed("spki: a key that is neither P-256, nor Ed25519, nor RSA with %d to %d bits", minRSA, maxRSA)
}

func checkSignature(public crypto.PublicKey, message, signature []byte) error {
	hash := sha256.Sum256(message)
	ok := false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, hash[:], signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, message, signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, hash[:], signature) == nil
	}
	if !ok {
		return notProven("the signature is not of this key")
	}
	return nil
}
