package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

func (s credentialService) ListCredentials(ctx context.Context, in *signetv1.ListCredentialsRequest) (*signetv1.ListCredentialsResponse, error) {
	c := caller(ctx)
	signer := strings.TrimPrefix(in.GetParent(), "signers/")
	if signer == "" {
		signer = c.ID
	}
	if signer != c.ID && !c.Has(identity.RoleAdministrator) && !c.Has(identity.RoleAuditor) {
		return nil, fmt.Errorf("%w: credentials of others are for administrators and auditors to see", errDenied)
	}
	out := &signetv1.ListCredentialsResponse{}
	if signer != "-" {
		if _, err := s.identities.Get(ctx, signer); err != nil {
			return nil, err
		}
		all, err := s.identities.CredentialTests(ctx, signer)
		for _, t := range all {
			out.Credentials = append(out.Credentials, credentialOf(t))
		}
		return out, err
	}
	const list = "credentials"
	from, err := s.pages.read(list, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	found, next, err := s.identities.OverdueTests(ctx, from, pageSize(in.GetPageSize()))
	if err != nil {
		return nil, err
	}
	for _, t := range found {
		out.Credentials = append(out.Credentials, credentialOf(t))
	}
	if next != 0 {
		out.NextPageToken = s.pages.token(list, next)
	}
	return out, nil
}

func (s credentialService) StartPasskeyTest(ctx context.Context, in *signetv1.StartPasskeyTestRequest) (*signetv1.StartPasskeyTestResponse, error) {
	id, err := ownPasskey(ctx, in.GetName())
	if err != nil {
		return nil, err
	}
	options, expires, err := s.identities.StartPasskeyTest(ctx, caller(ctx), id)
	if err != nil {
		return nil, err
	}
	return &signetv1.StartPasskeyTestResponse{Options: options, ExpireTime: timestamppb.New(expires)}, nil
}

func (s credentialService) FinishPasskeyTest(ctx context.Context, in *signetv1.FinishPasskeyTestRequest) (*signetv1.FinishPasskeyTestResponse, error) {
	id, err := ownPasskey(ctx, in.GetName())
	if err != nil {
		return nil, err
	}
	t, err := s.identities.FinishPasskeyTest(ctx, caller(ctx), id, proofOf(nil, in.GetAssertion()).Passkey)
	if err != nil {
		return nil, err
	}
	return &signetv1.FinishPasskeyTestResponse{Credential: credentialOf(t)}, nil
}

// ownPasskey is the id of a passkey of the caller's. Of others' nothing is said.
func ownPasskey(ctx context.Context, name string) (string, error) {
	signer, id := passkeyName(name)
	if signer != caller(ctx).ID {
		return "", identity.ErrPasskeyAbsent
	}
	return id, nil
}

var credentialKinds = map[identity.TestKind]signetv1.CredentialKind{
	identity.TestedPassword: signetv1.CredentialKind_CREDENTIAL_KIND_PASSWORD,
	identity.TestedTOTP:     signetv1.CredentialKind_CREDENTIAL_KIND_TOTP,
	identity.TestedPasskey:  signetv1.CredentialKind_CREDENTIAL_KIND_PASSKEY,
}

// credentialOf is a test as the wire has it.
func credentialOf(t identity.CredentialTest) *signetv1.Credential {
	out := &signetv1.Credential{
		Signer: "signers/" + t.Signer, Kind: credentialKinds[t.Kind], Label: t.Label, LastTestTime: timestamppb.New(t.Last), Overdue: t.Overdue,
	}
	if t.Passkey != "" {
		out.Passkey = out.Signer + "/passkeys/" + t.Passkey
	}
	if t.Due != (time.Time{}) {
		out.TestDueTime = timestamppb.New(t.Due)
	}
	return out
}
