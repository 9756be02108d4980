// Package passkey verifies WebAuthn assertions and the bindings of passkeys to signers, offline.
package passkey

// Assertion is what an authenticator answered to a challenge (WebAuthn Level 3, section 5.2.2).
type Assertion struct {
	CredentialID      []byte
	AuthenticatorData []byte
	ClientDataJSON    []byte
	Signature         []byte
}
