// Package passkeytest is an authenticator in software, for tests: it registers passkeys and signs with them as a browser with a device does, and
// can be told to do it wrong. It keeps keys in memory and asks nobody: never use it for anything but tests.
package passkeytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
	"math/big"

	"github.com/signetd/signet/api/passkey"
)

// Algorithm is a COSE algorithm.
type Algorithm int

// The algorithms.
const (
	ES256 Algorithm = -7
	EdDSA Algorithm = -8
	RS256 Algorithm = -257
)

// Authenticator holds one passkey.
type Authenticator struct {
	Algorithm    Algorithm
	RPID         string
	Origin       string // of the page that it is used at
	CredentialID []byte
	SPKI         []byte
	AAGUID       [16]byte
	Flags        byte // of its authenticator data: UP and UV at first
	Counter      uint32

	key crypto.Signer
}

// The flags of authenticator data.
const (
	UP byte = 1 << 0
	UV byte = 1 << 2
	BE byte = 1 << 3
	BS byte = 1 << 4
	at byte = 1 << 6
)

// New makes a passkey for a relying party, whose pages are at the origin.
func New(a Algorithm, rpID, origin string) (*Authenticator, error) {
	d := &Authenticator{Algorithm: a, RPID: rpID, Origin: origin, CredentialID: make([]byte, 16), Flags: UP | UV}
	rand.Read(d.CredentialID)
	var err error
	switch a {
	case ES256:
		d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, d.key, err = ed25519.GenerateKey(rand.Reader)
	case RS256:
		d.key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("no algorithm %d", a)
	}
	if err != nil {
		return nil, err
	}
	d.SPKI, err = x509.MarshalPKIXPublicKey(d.key.Public())
	return d, err
}

// Key is the passkey as a verifier knows it.
func (d *Authenticator) Key() passkey.Key {
	return passkey.Key{CredentialID: d.CredentialID, SPKI: d.SPKI, RPID: d.RPID, Origins: []string{d.Origin}}
}

// Assert signs a challenge.
func (d *Authenticator) Assert(challenge [32]byte) (passkey.Assertion, error) {
	return d.AssertData(d.AuthenticatorData(), ClientData("webauthn.get", challenge[:], d.Origin))
}

// AssertData signs authenticator data and client data as they are given.
func (d *Authenticator) AssertData(authenticatorData, clientData []byte) (passkey.Assertion, error) {
	hash := sha256.Sum256(clientData)
	signature, err := d.sign(append(append([]byte{}, authenticatorData...), hash[:]...))
	return passkey.Assertion{CredentialID: d.CredentialID, AuthenticatorData: authenticatorData, ClientDataJSON: clientData, Signature: signature}, err
}

func (d *Authenticator) sign(message []byte) ([]byte, error) {
	hash := sha256.Sum256(message)
	switch key := d.key.(type) {
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, key, hash[:])
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, hash[:])
	}
	return d.key.Sign(nil, message, crypto.Hash(0))
}

// AuthenticatorData is what it says beside a signature.
func (d *Authenticator) AuthenticatorData() []byte {
	rp := sha256.Sum256([]byte(d.RPID))
	return binary.BigEndian.AppendUint32(append(rp[:], d.Flags), d.Counter)
}

// ClientData is what a browser says of a ceremony, as WebAuthn Level 3, section 5.8.1.1, serializes it.
func ClientData(kind string, challenge []byte, origin string) []byte {
	return fmt.Appendf(nil, `{"type":%q,"challenge":%q,"origin":%q,"crossOrigin":false}`, kind, base64.RawURLEncoding.EncodeToString(challenge), origin)
}

// creationOptions are the members of PublicKeyCredentialCreationOptionsJSON that a device needs.
type creationOptions struct {
	Challenge passkey.Base64URL `json:"challenge"`
	RP        struct {
		ID string `json:"id"`
	} `json:"rp"`
}

// Register answers PublicKeyCredentialCreationOptionsJSON with a RegistrationResponseJSON, without an attestation.
func (d *Authenticator) Register(options []byte) ([]byte, error) {
	var o creationOptions
	if err := json.Unmarshal(options, &o); err != nil {
		return nil, err
	}
	if o.RP.ID != d.RPID {
		return nil, fmt.Errorf("the options are for %q, and this passkey is for %q", o.RP.ID, d.RPID)
	}
	return d.RegisterData(ClientData("webauthn.create", o.Challenge, d.Origin))
}

// RegisterData is [Authenticator.Register] with client data as they are given.
func (d *Authenticator) RegisterData(clientData []byte) ([]byte, error) {
	rp := sha256.Sum256([]byte(d.RPID))
	data := binary.BigEndian.AppendUint32(append(rp[:], d.Flags|at), d.Counter)
	data = append(data, d.AAGUID[:]...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(d.CredentialID)))
	data = append(append(data, d.CredentialID...), d.cose()...)
	attestation := append([]byte{0xa3}, cborText("fmt")...)
	attestation = append(attestation, cborText("none")...)
	attestation = append(append(attestation, cborText("attStmt")...), 0xa0)
	attestation = append(append(attestation, cborText("authData")...), cborBytes(data)...)
	id := base64.RawURLEncoding.EncodeToString(d.CredentialID)
	return json.Marshal(map[string]any{
		"id": id, "rawId": id, "type": "public-key", "clientExtensionResults": map[string]any{},
		"response": map[string]any{
			"clientDataJSON":    base64.RawURLEncoding.EncodeToString(clientData),
			"attestationObject": base64.RawURLEncoding.EncodeToString(attestation),
			"transports":        []string{"internal"},
		},
	}, json.Deterministic(true))
}

// requestOptions are the members of PublicKeyCredentialRequestOptionsJSON that a device needs.
type requestOptions struct {
	AllowCredentials []struct {
		ID passkey.Base64URL `json:"id"`
	} `json:"allowCredentials"`
	Challenge        passkey.Base64URL `json:"challenge"`
	RPID             string            `json:"rpId"`
	UserVerification string            `json:"userVerification"`
}

// Answer answers PublicKeyCredentialRequestOptionsJSON, as far as this passkey is asked for.
func (d *Authenticator) Answer(options []byte) (passkey.Assertion, error) {
	var o requestOptions
	if err := json.Unmarshal(options, &o); err != nil {
		return passkey.Assertion{}, err
	}
	if o.RPID != d.RPID || len(o.Challenge) != 32 || o.UserVerification != "required" {
		return passkey.Assertion{}, fmt.Errorf("the options are not for a passkey of %s that verifies its user: %s", d.RPID, options)
	}
	for _, c := range o.AllowCredentials {
		if string(c.ID) == string(d.CredentialID) {
			return d.Assert([32]byte(o.Challenge))
		}
	}
	return passkey.Assertion{}, fmt.Errorf("this passkey is not asked for: %s", options)
}

// cose is the public key as COSE has it (RFC 9053).
func (d *Authenticator) cose() []byte {
	switch key := d.key.Public().(type) {
	case *ecdsa.PublicKey:
		point, _ := key.Bytes()
		b := []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21}
		return append(append(append(b, cborBytes(point[1:33])...), 0x22), cborBytes(point[33:])...)
	case ed25519.PublicKey:
		return append([]byte{0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21}, cborBytes(key)...)
	case *rsa.PublicKey:
		b := append([]byte{0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20}, cborBytes(key.N.Bytes())...)
		return append(append(b, 0x21), cborBytes(big.NewInt(int64(key.E)).Bytes())...)
	}
	return nil
}

func cborText(s string) []byte { return append(cborHead(0x60, len(s)), s...) }

func cborBytes(b []byte) []byte { return append(cborHead(0x40, len(b)), b...) }

func cborHead(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 256:
		return []byte{major | 24, byte(n)}
	}
	return binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n))
}
