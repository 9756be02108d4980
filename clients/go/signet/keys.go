package signet

import (
	"context"
	"iter"
	"uuid"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// KeyChange is what an administrator says of each change of a key: which one, why, and their own proof for this one change.
type KeyChange struct {
	// Key is the resource name, `keys/{key}`.
	Key string
	// Reason is recorded.
	Reason string
	// Compromised says, of a rotation, that the old key is known or suspected to be in somebody else's hands: its certificates are revoked.
	Compromised bool
	// Who is the administrator whose session it is: a session alone changes no key.
	Who Password
}

func (c KeyChange) proof() *signetv1.PasswordCredentials {
	return c.Who.proof()
}

// GetKey reads one key, `keys/{key}`.
//
// Errors: [KeyNotFound].
func (c *Client) GetKey(ctx context.Context, name string) (*signetv1.Key, error) {
	answer, err := c.keys.GetKey(ctx, &signetv1.GetKeyRequest{Name: name})
	return answer.GetKey(), err
}

// Keys lists keys in the order in which they were made: all, or those of one signer, `signers/{signer}`.
func (c *Client) Keys(ctx context.Context, signer string) iter.Seq2[*signetv1.Key, error] {
	return pages(func(token string) ([]*signetv1.Key, string, error) {
		answer, err := c.keys.ListKeys(ctx, &signetv1.ListKeysRequest{PageSize: 200, PageToken: token, Signer: signer})
		return answer.GetKeys(), answer.GetNextPageToken(), err
	})
}

// CertificateAuthorities returns the CAs that there were, the newest first, each with its newest revocation list.
func (c *Client) CertificateAuthorities(ctx context.Context) ([]*signetv1.CertificateAuthority, error) {
	answer, err := c.keys.ListCertificateAuthorities(ctx, &signetv1.ListCertificateAuthoritiesRequest{})
	return answer.GetAuthorities(), err
}

// RotateKey makes a new key that takes the place of one, and returns it. The old one signs nothing any more, and goes on verifying.
//
// Errors: [KeyNotFound], [KeyInWrongState], [KeyNotRotatable], [KeyDisabled], [BadCredentials], [HSMUnavailable].
func (c *Client) RotateKey(ctx context.Context, change KeyChange) (*signetv1.Key, error) {
	answer, err := c.keys.RotateKey(ctx, &signetv1.RotateKeyRequest{
		Name: change.Key, Reason: change.Reason, Password: change.proof(), RequestId: uuid.New().String(), Compromised: change.Compromised,
	})
	return answer.GetKey(), err
}

// DisableKey keeps a key from signing until it is enabled.
//
// Errors: [KeyNotFound], [KeyInWrongState], [KeyInUse], [BadCredentials].
func (c *Client) DisableKey(ctx context.Context, change KeyChange) (*signetv1.Key, error) {
	answer, err := c.keys.DisableKey(ctx, &signetv1.DisableKeyRequest{
		Name: change.Key, Reason: change.Reason, Password: change.proof(), RequestId: uuid.New().String(),
	})
	return answer.GetKey(), err
}

// EnableKey lets a key that was disabled sign again.
//
// Errors: [KeyNotFound], [KeyInWrongState], [BadCredentials].
func (c *Client) EnableKey(ctx context.Context, change KeyChange) (*signetv1.Key, error) {
	answer, err := c.keys.EnableKey(ctx, &signetv1.EnableKeyRequest{
		Name: change.Key, Reason: change.Reason, Password: change.proof(), RequestId: uuid.New().String(),
	})
	return answer.GetKey(), err
}

// RequestKeyDestruction asks for the destruction of a key that is not in use any more. Another administrator confirms it.
//
// Errors: [KeyNotFound], [KeyInWrongState], [KeyInUse], [DestructionPending], [BadCredentials].
func (c *Client) RequestKeyDestruction(ctx context.Context, change KeyChange) (*signetv1.Key, error) {
	answer, err := c.keys.RequestKeyDestruction(ctx, &signetv1.RequestKeyDestructionRequest{
		Name: change.Key, Reason: change.Reason, Password: change.proof(), RequestId: uuid.New().String(),
	})
	return answer.GetKey(), err
}

// WithdrawKeyDestruction ends a request that was not confirmed.
//
// Errors: [KeyNotFound], [DestructionNotRequested], [BadCredentials].
func (c *Client) WithdrawKeyDestruction(ctx context.Context, change KeyChange) (*signetv1.Key, error) {
	answer, err := c.keys.WithdrawKeyDestruction(ctx, &signetv1.WithdrawKeyDestructionRequest{
		Name: change.Key, Reason: change.Reason, Password: change.proof(), RequestId: uuid.New().String(),
	})
	return answer.GetKey(), err
}

// ConfirmKeyDestruction confirms what another administrator has asked for: destruction is the id of their request, which was read. The
// private key is destroyed for good. After [HSMUnavailable] the destruction stands, and calling again answers when it is done.
//
// Errors: [KeyNotFound], [KeyInWrongState], [KeyInUse], [DestructionNotRequested], [SecondPersonNeeded], [BadCredentials], [HSMUnavailable].
func (c *Client) ConfirmKeyDestruction(ctx context.Context, change KeyChange, destruction string) (*signetv1.Key, error) {
	answer, err := c.keys.ConfirmKeyDestruction(ctx, &signetv1.ConfirmKeyDestructionRequest{
		Name: change.Key, Destruction: destruction, Reason: change.Reason, Password: change.proof(), RequestId: uuid.New().String(),
	})
	return answer.GetKey(), err
}
