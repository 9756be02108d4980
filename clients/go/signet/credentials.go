package signet

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// proof is a person's components as the wire has them.
func (p Password) proof() *signetv1.PasswordCredentials {
	return &signetv1.PasswordCredentials{UserName: p.UserName, Password: string(p.Password), Totp: string(p.Code)}
}

// ChangePassword sets another password for the caller. Their other sessions end.
//
// Errors: [BadCredentials], [CredentialsMissing], [PasswordWeak], [Locked], [Busy].
func (c *Client) ChangePassword(ctx context.Context, who Password, fresh Secret) error {
	_, err := c.own.ChangePassword(ctx, &signetv1.ChangePasswordRequest{Password: who.proof(), NewPassword: string(fresh)})
	return err
}

// StartTotp makes a secret for one-time passwords, which is shown once. ConfirmTotp, in the same session, makes it count.
//
// Errors: [BadCredentials], [CredentialsMissing], [TotpPresent].
func (c *Client) StartTotp(ctx context.Context, who Password) (*signetv1.StartTotpResponse, error) {
	return c.own.StartTotp(ctx, &signetv1.StartTotpRequest{Password: who.proof()})
}

// ConfirmTotp sets the secret of StartTotp, with a first code of it. The caller's other sessions end.
//
// Errors: [BadCredentials], [TotpNotStarted].
func (c *Client) ConfirmTotp(ctx context.Context, code Secret) error {
	_, err := c.own.ConfirmTotp(ctx, &signetv1.ConfirmTotpRequest{Code: string(code)})
	return err
}

// RemoveTotp removes one-time passwords: the caller's, or, for administrators, those of `signers/{signer}`.
//
// Errors: [BadCredentials], [CredentialsMissing], [TotpAbsent], [PasswordWeak], [SignerNotFound].
func (c *Client) RemoveTotp(ctx context.Context, signer string, who Password, reason string) error {
	_, err := c.own.RemoveTotp(ctx, &signetv1.RemoveTotpRequest{Name: signer, Password: who.proof(), Reason: reason})
	return err
}

// Sessions lists the open sessions of the caller, or, for administrators, those of `signers/{signer}`; the newest first.
//
// Errors: [SignerNotFound], [Denied].
func (c *Client) Sessions(ctx context.Context, signer string) ([]*signetv1.Session, error) {
	answer, err := c.sessions.ListSessions(ctx, &signetv1.ListSessionsRequest{Parent: signer})
	return answer.GetSessions(), err
}

// EndSession ends a session, `signers/{signer}/sessions/{session}`.
//
// Errors: [SessionNotFound].
func (c *Client) EndSession(ctx context.Context, name, reason string) error {
	_, err := c.sessions.EndSession(ctx, &signetv1.EndSessionRequest{Name: name, Reason: reason})
	return err
}
