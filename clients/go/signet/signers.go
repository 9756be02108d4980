package signet

import (
	"context"
	"iter"
	"uuid"

	"google.golang.org/protobuf/proto"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// EnrollPerson enrols a person. The answer holds the one-time code with which they set their own password: it is shown once. Where that takes
// two administrators, it holds the proposal and the first half of the code; see [Client.ConfirmProposal].
//
// Errors: [UserNameTaken], [ZoneUnknown], [RoleUnknown].
func (c *Client) EnrollPerson(ctx context.Context, who *signetv1.EnrollPerson) (*signetv1.EnrollSignerResponse, error) {
	return c.signers.EnrollSigner(ctx, &signetv1.EnrollSignerRequest{
		Subject: &signetv1.EnrollSignerRequest_Person{Person: who}, RequestId: uuid.New().String(),
	})
}

// RedeemEnrollment takes up an enrolment: the one-time code is used up, the password set, the key made. It needs no session.
//
// Errors: [CodeInvalid], [PasswordWeak], [AccountabilityNotAcknowledged], [HSMUnavailable].
func (c *Client) RedeemEnrollment(ctx context.Context, code Secret, who Password, accountable bool) (*signetv1.RedeemEnrollmentResponse, error) {
	return c.signers.RedeemEnrollment(ctx, &signetv1.RedeemEnrollmentRequest{
		EnrollmentCode: string(code), UserName: who.UserName, Password: string(who.Password), AccountabilityAcknowledged: accountable,
	})
}

// GetSigner reads one signer, `signers/{signer}`.
//
// Errors: [SignerNotFound].
func (c *Client) GetSigner(ctx context.Context, name string) (*signetv1.Signer, error) {
	answer, err := c.signers.GetSigner(ctx, &signetv1.GetSignerRequest{Name: name})
	return answer.GetSigner(), err
}

// Signers lists all signers in the order of their enrolment.
func (c *Client) Signers(ctx context.Context) iter.Seq2[*signetv1.Signer, error] {
	return pages(func(token string) ([]*signetv1.Signer, string, error) {
		answer, err := c.signers.ListSigners(ctx, &signetv1.ListSignersRequest{PageSize: 200, PageToken: token})
		return answer.GetSigners(), answer.GetNextPageToken(), err
	})
}

// SuspendSigner takes a signer's rights until they are reinstated.
//
// Errors: [SignerNotFound], [SignerInWrongState].
func (c *Client) SuspendSigner(ctx context.Context, name, reason string) (*signetv1.Signer, error) {
	answer, err := c.signers.SuspendSigner(ctx, &signetv1.SuspendSignerRequest{Name: name, Reason: reason})
	return answer.GetSigner(), err
}

// ReinstateSigner ends a suspension, or proposes to, where that takes two administrators.
//
// Errors: [SignerNotFound], [SignerInWrongState].
func (c *Client) ReinstateSigner(ctx context.Context, name, reason string) (*signetv1.ReinstateSignerResponse, error) {
	return c.signers.ReinstateSigner(ctx, &signetv1.ReinstateSignerRequest{Name: name, Reason: reason})
}

// UnlockSigner ends a lock before its time. Nobody unlocks themselves.
//
// Errors: [SignerNotFound], [NotLocked], [Denied].
func (c *Client) UnlockSigner(ctx context.Context, name, reason string) (*signetv1.Signer, error) {
	answer, err := c.signers.UnlockSigner(ctx, &signetv1.UnlockSignerRequest{Name: name, Reason: reason})
	return answer.GetSigner(), err
}

// UnlockNetwork ends the lock of the network of an address before its time, and returns the network.
//
// Errors: [NotLocked], [SignerInvalid], [Denied].
func (c *Client) UnlockNetwork(ctx context.Context, address, reason string) (network string, err error) {
	answer, err := c.signers.UnlockNetwork(ctx, &signetv1.UnlockNetworkRequest{Address: address, Reason: reason})
	return answer.GetNetwork(), err
}

// RevokeSigner revokes a signer and their key for good. Earlier signatures stand.
//
// Errors: [SignerNotFound], [SignerInWrongState].
func (c *Client) RevokeSigner(ctx context.Context, name, reason string, cause signetv1.RevocationCause) (*signetv1.Signer, error) {
	answer, err := c.signers.RevokeSigner(ctx, &signetv1.RevokeSignerRequest{Name: name, Reason: reason, Cause: cause})
	return answer.GetSigner(), err
}

// RenewSigner issues a new one-time code after a new proof of identity.
//
// Errors: [SignerNotFound], [SignerInWrongState].
func (c *Client) RenewSigner(ctx context.Context, renewal *signetv1.RenewSignerRequest) (*signetv1.RenewSignerResponse, error) {
	return c.signers.RenewSigner(ctx, proto.CloneOf(renewal))
}
