package signet

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// Reasons that are about passkeys.
const (
	PasskeysOff        Reason = "PASSKEYS_OFF"
	PasskeyInvalid     Reason = "PASSKEY_INVALID"
	PasskeyTaken       Reason = "PASSKEY_TAKEN"
	PasskeyNotFound    Reason = "PASSKEY_NOT_FOUND"
	PasskeyState       Reason = "PASSKEY_STATE"
	RegistrationLapsed Reason = "REGISTRATION_LAPSED"
)

// Passkeys lists the passkeys of a signer, `signers/{signer}`; empty: the caller's; `signers/-`: everybody's that wait to be vouched for.
//
// Errors: [Denied].
func (c *Client) Passkeys(ctx context.Context, parent string) ([]*signetv1.Passkey, error) {
	var out []*signetv1.Passkey
	for token := ""; ; {
		answer, err := c.own.ListPasskeys(ctx, &signetv1.ListPasskeysRequest{Parent: parent, PageSize: 200, PageToken: token})
		if err != nil {
			return nil, err
		}
		out = append(out, answer.GetPasskeys()...)
		if token = answer.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

// StartPasskey begins the registration of a passkey: the answer has what a browser's `navigator.credentials.create` takes.
//
// Errors: [BadCredentials], [CredentialsMissing], [PasskeysOff], [PasskeyState].
func (c *Client) StartPasskey(ctx context.Context, who Password, label string) (*signetv1.StartPasskeyResponse, error) {
	return c.own.StartPasskey(ctx, &signetv1.StartPasskeyRequest{Password: who.proof(), Label: label})
}

// FinishPasskey ends it with what the device answered, a RegistrationResponseJSON.
//
// Errors: [PasskeyInvalid], [RegistrationLapsed], [PasskeyTaken].
func (c *Client) FinishPasskey(ctx context.Context, registration Secret, response []byte) (*signetv1.Passkey, error) {
	answer, err := c.own.FinishPasskey(ctx, &signetv1.FinishPasskeyRequest{Registration: string(registration), Response: response})
	return answer.GetPasskey(), err
}

// VouchPasskey vouches for a passkey with an assertion of one of the caller's over its binding.
//
// Errors: [PasskeyNotFound], [Denied], [SecondPersonNeeded], [BadCredentials], [PasskeyState].
func (c *Client) VouchPasskey(ctx context.Context, name string, assertion *signetv1.PasskeyAssertion) (*signetv1.Passkey, error) {
	answer, err := c.own.VouchPasskey(ctx, &signetv1.VouchPasskeyRequest{Name: name, Assertion: assertion})
	return answer.GetPasskey(), err
}

// RevokePasskey ends a passkey at once and for good: the caller's own, or, for administrators, anybody's.
//
// Errors: [PasskeyNotFound], [BadCredentials], [CredentialsMissing], [PasskeyState], [Denied].
func (c *Client) RevokePasskey(ctx context.Context, name string, who Password, reason string) (*signetv1.Passkey, error) {
	answer, err := c.own.RevokePasskey(ctx, &signetv1.RevokePasskeyRequest{Name: name, Password: who.proof(), Reason: reason})
	return answer.GetPasskey(), err
}
