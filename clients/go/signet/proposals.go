package signet

import (
	"context"
	"crypto/sha256"
	"iter"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// GetProposal reads one proposal, `proposals/{proposal}`.
//
// Errors: [ProposalNotFound].
func (c *Client) GetProposal(ctx context.Context, name string) (*signetv1.Proposal, error) {
	answer, err := c.proposals.GetProposal(ctx, &signetv1.GetProposalRequest{Name: name})
	if err != nil {
		return nil, err
	}
	return checkedProposal(answer.GetProposal())
}

// Proposals lists proposals, newest first: all, or those alone that wait.
func (c *Client) Proposals(ctx context.Context, pending bool) iter.Seq2[*signetv1.Proposal, error] {
	return pages(func(token string) ([]*signetv1.Proposal, string, error) {
		answer, err := c.proposals.ListProposals(ctx, &signetv1.ListProposalsRequest{PageSize: 200, PageToken: token, Pending: pending})
		return answer.GetProposals(), answer.GetNextPageToken(), err
	})
}

// ConfirmProposal does what another administrator has proposed: exactly the proposal that was read. The answer to an enrolment or a renewal
// holds the second half of the one-time code, which is shown once.
//
// Errors: [ProposalNotFound], [ProposalInWrongState], [SecondPersonNeeded], [BadCredentials], and those of what is done.
func (c *Client) ConfirmProposal(ctx context.Context, p *signetv1.Proposal, who Password) (*signetv1.ConfirmProposalResponse, error) {
	return c.proposals.ConfirmProposal(ctx, &signetv1.ConfirmProposalRequest{Name: p.GetName(), Digest: p.GetDigest(), Password: who.proof()})
}

// WithdrawProposal takes a proposal back, or refuses that of another administrator.
//
// Errors: [ProposalNotFound], [ProposalInWrongState].
func (c *Client) WithdrawProposal(ctx context.Context, name, reason string) (*signetv1.Proposal, error) {
	answer, err := c.proposals.WithdrawProposal(ctx, &signetv1.WithdrawProposalRequest{Name: name, Reason: reason})
	return answer.GetProposal(), err
}

// checkedProposal refuses a proposal whose digest, which is confirmed, is not that of its content, which is read.
func checkedProposal(p *signetv1.Proposal) (*signetv1.Proposal, error) {
	if sum := sha256.Sum256(p.GetContent()); string(sum[:]) != string(p.GetDigest()) {
		return nil, contradiction("the digest of %.80q is not that of its content", p.GetName())
	}
	return p, nil
}
