package server

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
)

type credentialService struct {
	signetv1.UnsafeCredentialServiceServer // the compiler asks for every method
	*Server
}

func (s credentialService) StartPasskey(ctx context.Context, in *signetv1.StartPasskeyRequest) (*signetv1.StartPasskeyResponse, error) {
	return nil, errUnbuilt
}

func (s credentialService) FinishPasskey(ctx context.Context, in *signetv1.FinishPasskeyRequest) (*signetv1.FinishPasskeyResponse, error) {
	return nil, errUnbuilt
}

func (s credentialService) VouchPasskey(ctx context.Context, in *signetv1.VouchPasskeyRequest) (*signetv1.VouchPasskeyResponse, error) {
	return nil, errUnbuilt
}

func (s credentialService) ListPasskeys(ctx context.Context, in *signetv1.ListPasskeysRequest) (*signetv1.ListPasskeysResponse, error) {
	return nil, errUnbuilt
}

func (s credentialService) RevokePasskey(ctx context.Context, in *signetv1.RevokePasskeyRequest) (*signetv1.RevokePasskeyResponse, error) {
	return nil, errUnbuilt
}
