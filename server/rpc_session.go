package server

import (
	"context"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

type sessionService struct {
	signetv1.UnsafeSessionServiceServer // the compiler asks for every method
	*Server
}

func (s sessionService) OpenSession(ctx context.Context, in *signetv1.OpenSessionRequest) (*signetv1.OpenSessionResponse, error) {
	token, session, signer, err := s.identities.Login(ctx, source(ctx), identity.Proof{
		UserName: in.GetUserName(), Password: identity.Secret(in.GetPassword()), TOTP: identity.Secret(in.GetTotp()),
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.OpenSessionResponse{
		Token: token.Reveal(), Signer: toSigner(signer), ExpireTime: stamp(session.Expires), IdleSeconds: int64(session.Idle.Seconds()),
	}, nil
}

func (s sessionService) CloseSession(ctx context.Context, _ *signetv1.CloseSessionRequest) (*signetv1.CloseSessionResponse, error) {
	return &signetv1.CloseSessionResponse{}, s.identities.CloseSession(ctx, caller(ctx))
}

func (s sessionService) IssueReadToken(ctx context.Context, _ *signetv1.IssueReadTokenRequest) (*signetv1.IssueReadTokenResponse, error) {
	token, expires, err := s.identities.IssueReadToken(caller(ctx), source(ctx))
	if err != nil {
		return nil, err
	}
	return &signetv1.IssueReadTokenResponse{Token: token.Reveal(), ExpireTime: stamp(expires)}, nil
}

func (s sessionService) WhoAmI(ctx context.Context, _ *signetv1.WhoAmIRequest) (*signetv1.WhoAmIResponse, error) {
	c := caller(ctx)
	signer, err := s.identities.Get(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	return &signetv1.WhoAmIResponse{
		Signer: toSigner(signer), Method: c.Method, ExpireTime: stamp(c.Expires), ServerVersion: s.version, Environment: s.config.Environment,
	}, nil
}
