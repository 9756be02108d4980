package manifest

import (
	"encoding/base64"
	"strings"

	"github.com/signetd/signet/api/jcs"
)

// AuthorizationKind says by which components a signer proved themselves for one signature.
type AuthorizationKind string

// The kinds. The list is append-only.
const (
	AuthorizationPassword        AuthorizationKind = "password"
	AuthorizationPasswordTOTP    AuthorizationKind = "password+totp"
	AuthorizationPasskey         AuthorizationKind = "passkey"
	AuthorizationPasswordPasskey AuthorizationKind = "password+passkey"
	AuthorizationService         AuthorizationKind = "service" // mutual TLS, for seals
)

// Known reports whether k is in the list.
func (k AuthorizationKind) Known() bool {
	switch k {
	case AuthorizationPassword, AuthorizationPasswordTOTP, AuthorizationPasskey, AuthorizationPasswordPasskey,
		AuthorizationService:
		return true
	}
	return false
}

// Passkey reports whether a WebAuthn assertion belongs to it.
func (k AuthorizationKind) Passkey() bool {
	return k == AuthorizationPasskey || k == AuthorizationPasswordPasskey
}

// Covers reports whether k has at least the components that required names. A service's authorization is never a person's.
func (k AuthorizationKind) Covers(required AuthorizationKind) bool {
	if !k.Known() || !required.Known() || (k == AuthorizationService) != (required == AuthorizationService) {
		return false
	}
	have := strings.Split(string(k), "+")
	for component := range strings.SplitSeq(string(required), "+") {
		found := false
		for _, h := range have {
			found = found || h == component
		}
		if !found {
			return false
		}
	}
	return true
}

// Base64URL is bytes whose text is base64url without padding, as WebAuthn gives them.
type Base64URL []byte

// MarshalText returns the text.
func (b Base64URL) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads the one text of a value.
func (b *Base64URL) UnmarshalText(text []byte) error {
	if strings.ContainsAny(string(text), "\r\n") {
		return malformed("base64url: line break")
	}
	out, err := base64.RawURLEncoding.Strict().DecodeString(string(text))
	if err != nil {
		return malformed("base64url: %v", err)
	}
	*b = out
	return nil
}

// Authorization is the signer's proof for one signature. The members but the kind are a WebAuthn assertion whose
// challenge is the SHA-256 of the statement's PAE; they stand there exactly where the kind names a passkey. Any other
// kind is the server's word.
type Authorization struct {
	AuthenticatorData Base64URL         `json:"authenticatorData,omitempty"`
	ClientDataJSON    Base64URL         `json:"clientDataJSON,omitempty"`
	CredentialID      Base64URL         `json:"credentialId,omitempty"`
	Kind              AuthorizationKind `json:"kind"`
	Signature         Base64URL         `json:"signature,omitempty"`
}

const maxAssertion = 64 << 10 // bytes of each member of an assertion

// Validate checks that exactly the members of the kind are there.
func (a Authorization) Validate() error {
	if !a.Kind.Known() {
		return malformed("authorization: unknown kind %.80q", a.Kind)
	}
	for _, member := range [...]Base64URL{a.AuthenticatorData, a.ClientDataJSON, a.CredentialID, a.Signature} {
		if (len(member) > 0) != a.Kind.Passkey() || len(member) > maxAssertion {
			return malformed("authorization: a passkey, and nothing else, has all of credentialId, authenticatorData, " +
				"clientDataJSON and signature")
		}
	}
	return nil
}

// Canonical returns the canonical bytes.
func (a Authorization) Canonical() ([]byte, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	return canonical("authorization", a)
}

// ParseAuthorization reads an authorization in canonical form.
func ParseAuthorization(b []byte) (Authorization, error) {
	var a Authorization
	if len(b) > 8*maxAssertion {
		return a, malformed("authorization: %d bytes", len(b))
	}
	if err := jcs.UnmarshalCanonical(b, &a); err != nil {
		return Authorization{}, parsing("authorization", err)
	}
	if err := a.Validate(); err != nil {
		return Authorization{}, err
	}
	return a, nil
}
