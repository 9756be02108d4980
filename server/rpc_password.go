package server

import (
	"context"
	"fmt"
	"strings"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

// withExpiredPassword are the methods that somebody whose password has expired can call.
var withExpiredPassword = map[string]bool{
	signetv1.CredentialService_ChangePassword_FullMethodName: true,
	signetv1.SessionService_WhoAmI_FullMethodName:            true,
	signetv1.SessionService_CloseSession_FullMethodName:      true,
}

// passwordHolds refuses callers whose password has expired, but for what they need to set another one.
func passwordHolds(c identity.Caller, method string) error {
	if c.PasswordExpired && !withExpiredPassword[method] {
		return identity.ErrPasswordExpired
	}
	return nil
}

func (s credentialService) ChangePassword(ctx context.Context, in *signetv1.ChangePasswordRequest) (*signetv1.ChangePasswordResponse, error) {
	err := s.identities.ChangePassword(ctx, caller(ctx), proofOf(in.GetPassword(), nil), identity.Secret(in.GetNewPassword()))
	if err != nil {
		return nil, err
	}
	return &signetv1.ChangePasswordResponse{}, nil
}

func (s credentialService) StartTotp(ctx context.Context, in *signetv1.StartTotpRequest) (*signetv1.StartTotpResponse, error) {
	made, err := s.identities.StartTOTP(ctx, caller(ctx), proofOf(in.GetPassword(), nil))
	if err != nil {
		return nil, err
	}
	return &signetv1.StartTotpResponse{Secret: made.Secret.Reveal(), Uri: made.URI.Reveal(), ExpireTime: stamp(made.Expires)}, nil
}

func (s credentialService) ConfirmTotp(ctx context.Context, in *signetv1.ConfirmTotpRequest) (*signetv1.ConfirmTotpResponse, error) {
	if err := s.identities.ConfirmTOTP(ctx, caller(ctx), identity.Secret(in.GetCode())); err != nil {
		return nil, err
	}
	return &signetv1.ConfirmTotpResponse{}, nil
}

func (s credentialService) RemoveTotp(ctx context.Context, in *signetv1.RemoveTotpRequest) (*signetv1.RemoveTotpResponse, error) {
	id := strings.TrimPrefix(in.GetName(), "signers/")
	if err := s.identities.RemoveTOTP(ctx, caller(ctx), id, proofOf(in.GetPassword(), nil), in.GetReason()); err != nil {
		return nil, err
	}
	return &signetv1.RemoveTotpResponse{}, nil
}

func (s sessionService) ListSessions(ctx context.Context, in *signetv1.ListSessionsRequest) (*signetv1.ListSessionsResponse, error) {
	c := caller(ctx)
	list, err := s.identities.Sessions(ctx, c, strings.TrimPrefix(in.GetParent(), "signers/"))
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListSessionsResponse{}
	for _, x := range list {
		out.Sessions = append(out.Sessions, &signetv1.Session{
			Name: "signers/" + x.Signer + "/sessions/" + x.ID, CreateTime: stamp(x.Opened), ExpireTime: stamp(x.Expires), Method: x.Method,
			Address: x.Source.Address, Device: x.Source.Device, Current: x.ID == c.Session,
		})
	}
	return out, nil
}

func (s sessionService) EndSession(ctx context.Context, in *signetv1.EndSessionRequest) (*signetv1.EndSessionResponse, error) {
	signer, session, ok := strings.Cut(strings.TrimPrefix(in.GetName(), "signers/"), "/sessions/")
	if !ok {
		return nil, fmt.Errorf("%w: %q names no session", errRequest, in.GetName())
	}
	if err := s.identities.EndSession(ctx, caller(ctx), signer, session, in.GetReason()); err != nil {
		return nil, err
	}
	return &signetv1.EndSessionResponse{}, nil
}
