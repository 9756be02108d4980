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
	CredentialTestDue  Reason = "CREDENTIAL_TEST_DUE" // a passkey was not used for too long: its owner tests it first
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

// Credentials returns when the credentials of a signer ("signers/…"; empty: the caller's) were last tested, or those of everybody that are overdue
// ("signers/-").
//
// Errors: [Denied], [SignerNotFound].
func (c *Client) Credentials(ctx context.Context, parent string) ([]*signetv1.Credential, error) {
	var out []*signetv1.Credential
	for token := ""; ; {
		answer, err := c.own.ListCredentials(ctx, &signetv1.ListCredentialsRequest{Parent: parent, PageSize: 200, PageToken: token})
		if err != nil {
			return nil, err
		}
		out = append(out, answer.GetCredentials()...)
		if token = answer.GetNextPageToken(); token == "" {
			return out, nil
		}
	}
}

// StartPasskeyTest begins a test of a passkey of the caller's: the answer has what a browser's `navigator.credentials.get` takes.
//
// Errors: [PasskeyNotFound], [PasskeyState], [PasskeysOff].
func (c *Client) StartPasskeyTest(ctx context.Context, name string) (*signetv1.StartPasskeyTestResponse, error) {
	return c.own.StartPasskeyTest(ctx, &signetv1.StartPasskeyTestRequest{Name: name})
}

// FinishPasskeyTest ends it with what the device answered.
//
// Errors: [BadCredentials], [RegistrationLapsed], [PasskeyState], [Locked].
func (c *Client) FinishPasskeyTest(ctx context.Context, name string, assertion *signetv1.PasskeyAssertion) (*signetv1.Credential, error) {
	answer, err := c.own.FinishPasskeyTest(ctx, &signetv1.FinishPasskeyTestRequest{Name: name, Assertion: assertion})
	return answer.GetCredential(), err
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
