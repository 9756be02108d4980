package server

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

type proposalService struct {
	signetv1.UnsafeProposalServiceServer // the compiler asks for every method
	*Server
}

func (s proposalService) GetProposal(ctx context.Context, in *signetv1.GetProposalRequest) (*signetv1.GetProposalResponse, error) {
	return nil, errUnbuilt
}

func (s proposalService) ListProposals(ctx context.Context, in *signetv1.ListProposalsRequest) (*signetv1.ListProposalsResponse, error) {
	return nil, errUnbuilt
}

func (s proposalService) ConfirmProposal(ctx context.Context, in *signetv1.ConfirmProposalRequest) (*signetv1.ConfirmProposalResponse, error) {
	return nil, errUnbuilt
}

func (s proposalService) WithdrawProposal(ctx context.Context, in *signetv1.WithdrawProposalRequest) (*signetv1.WithdrawProposalResponse, error) {
	return nil, errUnbuilt
}
