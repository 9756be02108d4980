package server

import (
	"context"
	"errors"
	"strings"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

type proposalService struct {
	signetv1.UnsafeProposalServiceServer // the compiler asks for every method
	*Server
}

var proposalStates = map[identity.ProposalState]signetv1.ProposalState{
	identity.ProposalPending:   signetv1.ProposalState_PROPOSAL_STATE_PENDING,
	identity.ProposalConfirmed: signetv1.ProposalState_PROPOSAL_STATE_CONFIRMED,
	identity.ProposalWithdrawn: signetv1.ProposalState_PROPOSAL_STATE_WITHDRAWN,
	identity.ProposalLapsed:    signetv1.ProposalState_PROPOSAL_STATE_LAPSED,
}

func proposalID(name string) string { return strings.TrimPrefix(name, "proposals/") }

func (s proposalService) GetProposal(ctx context.Context, in *signetv1.GetProposalRequest) (*signetv1.GetProposalResponse, error) {
	p, err := s.identities.Proposal(ctx, proposalID(in.GetName()))
	if err != nil {
		return nil, err
	}
	return &signetv1.GetProposalResponse{Proposal: toProposal(p)}, nil
}

func (s proposalService) ListProposals(ctx context.Context, in *signetv1.ListProposalsRequest) (*signetv1.ListProposalsResponse, error) {
	list := "proposals"
	if in.GetPending() {
		list = "proposals that wait"
	}
	below, err := s.pages.read(list, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	found, err := s.identities.Proposals(ctx, below, in.GetPending(), size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListProposalsResponse{}
	for i, p := range found {
		if i == size {
			out.NextPageToken = s.pages.token(list, found[i-1].Index)
			break
		}
		out.Proposals = append(out.Proposals, toProposal(p))
	}
	return out, nil
}

func (s proposalService) ConfirmProposal(ctx context.Context, in *signetv1.ConfirmProposalRequest) (*signetv1.ConfirmProposalResponse, error) {
	c, err := s.identities.Confirm(ctx, caller(ctx), proposalID(in.GetName()), in.GetDigest(), proofOf(in.GetPassword(), nil))
	if errors.Is(err, identity.ErrSecondPerson) || errors.Is(err, identity.ErrForbidden) {
		return nil, errors.Join(err, s.identities.Denied(ctx, caller(ctx), signetv1.ProposalService_ConfirmProposal_FullMethodName, "second person"))
	}
	if err != nil {
		return nil, err
	}
	return &signetv1.ConfirmProposalResponse{
		Proposal: toProposal(c.Proposal), EnrollmentCode: c.Code.Reveal(), CodeExpireTime: stamp(c.Expires),
	}, nil
}

func (s proposalService) WithdrawProposal(ctx context.Context, in *signetv1.WithdrawProposalRequest) (*signetv1.WithdrawProposalResponse, error) {
	p, err := s.identities.Withdraw(ctx, caller(ctx), proposalID(in.GetName()), in.GetReason())
	if err != nil {
		return nil, err
	}
	return &signetv1.WithdrawProposalResponse{Proposal: toProposal(p)}, nil
}

// toProposal is a proposal as the wire has it.
func toProposal(p identity.Proposal) *signetv1.Proposal {
	return &signetv1.Proposal{
		Name: "proposals/" + p.ID, Kind: p.Kind, State: proposalStates[p.State], Subject: resource("signers/", p.Subject),
		Proposer: resource("signers/", p.Proposer), Decider: resource("signers/", p.Decider), Content: p.Content, Rendering: p.Rendering,
		Digest: p.Digest[:], CreateTime: stamp(p.Created), ExpireTime: stamp(p.Expires),
	}
}
