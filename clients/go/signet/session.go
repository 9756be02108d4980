package signet

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// OpenSession logs in with user name and password. The answer's token belongs into [Options].Token of the next client.
//
// Errors: [BadCredentials], [Locked], [Busy].
func (c *Client) OpenSession(ctx context.Context, who Password) (*signetv1.OpenSessionResponse, error) {
	return c.sessions.OpenSession(ctx, &signetv1.OpenSessionRequest{UserName: who.UserName, Password: string(who.Password), Totp: string(who.Code)})
}

// CloseSession ends the session of the client's token.
func (c *Client) CloseSession(ctx context.Context) error {
	_, err := c.sessions.CloseSession(ctx, &signetv1.CloseSessionRequest{})
	return err
}

// WhoAmI says who the caller is, and which server this is.
func (c *Client) WhoAmI(ctx context.Context) (*signetv1.WhoAmIResponse, error) {
	return c.sessions.WhoAmI(ctx, &signetv1.WhoAmIRequest{})
}

// IssueReadToken issues a token with which programs read the ledger over HTTPS in the caller's name, as long as the session lasts.
func (c *Client) IssueReadToken(ctx context.Context) (*signetv1.IssueReadTokenResponse, error) {
	return c.sessions.IssueReadToken(ctx, &signetv1.IssueReadTokenRequest{})
}

// Secret is a text that is never printed.
type Secret string

const redacted = "[redacted]"

// String hides the secret.
func (Secret) String() string { return redacted }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return redacted }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Password is the components of a person: who they are, and what only they know (21 CFR 11.200(a)(1)).
type Password struct {
	// UserName is the signer's user name.
	UserName string
	// Password is theirs alone.
	Password Secret
	// Code is a one-time password, for who has set them up: 6 digits.
	Code Secret
}
