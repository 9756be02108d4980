package server

import (
	"context"
	"strings"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

type signerService struct {
	signetv1.UnsafeSignerServiceServer // the compiler asks for every method
	*Server
}

var roleNames = map[signetv1.Role]identity.Role{
	signetv1.Role_ROLE_ADMINISTRATOR:    identity.RoleAdministrator,
	signetv1.Role_ROLE_SIGNER:           identity.RoleSigner,
	signetv1.Role_ROLE_RELEASE_MANAGER:  identity.RoleReleaseManager,
	signetv1.Role_ROLE_AUDITOR:          identity.RoleAuditor,
	signetv1.Role_ROLE_SERVICE:          identity.RoleService,
	signetv1.Role_ROLE_SECURITY_OFFICER: identity.RoleSecurityOfficer,
}

var signerStates = map[identity.State]signetv1.SignerState{
	identity.StateInvited:   signetv1.SignerState_SIGNER_STATE_INVITED,
	identity.StateActive:    signetv1.SignerState_SIGNER_STATE_ACTIVE,
	identity.StateSuspended: signetv1.SignerState_SIGNER_STATE_SUSPENDED,
	identity.StateRevoked:   signetv1.SignerState_SIGNER_STATE_REVOKED,
}

var revocationCauses = map[signetv1.RevocationCause]identity.RevocationCause{
	signetv1.RevocationCause_REVOCATION_CAUSE_UNSPECIFIED: identity.CauseOther,
	signetv1.RevocationCause_REVOCATION_CAUSE_LEFT:        identity.CauseLeft,
	signetv1.RevocationCause_REVOCATION_CAUSE_LOST:        identity.CauseLost,
	signetv1.RevocationCause_REVOCATION_CAUSE_MISUSED:     identity.CauseMisused,
}

func signerID(name string) string { return strings.TrimPrefix(name, "signers/") }

func (s signerService) EnrollSigner(ctx context.Context, in *signetv1.EnrollSignerRequest) (*signetv1.EnrollSignerResponse, error) {
	if svc := in.GetService(); svc != nil {
		return s.enrollService(ctx, svc, in.GetRequestId())
	}
	p := in.GetPerson()
	roles := make([]identity.Role, len(p.GetRoles()))
	for i, r := range p.GetRoles() {
		roles[i] = roleNames[r]
	}
	signer, code, expires, err := s.identities.InvitePerson(ctx, caller(ctx), identity.Invitation{
		UserName: p.GetUserName(), Name: p.GetPrintedName(), Title: p.GetTitle(), Organisation: p.GetOrganisation(), Zone: p.GetTimeZone(), Roles: roles,
		Proofing: identity.Proofing{Method: p.GetProofing().GetMethod(), Reference: p.GetProofing().GetReference()},
	}, in.GetRequestId())
	if err != nil {
		return nil, err
	}
	out := &signetv1.EnrollSignerResponse{EnrollmentCode: code.Reveal(), CodeExpireTime: stamp(expires)}
	out.Signer, out.Proposal = signerOrProposal(signer)
	return out, nil
}

func (s signerService) RedeemEnrollment(ctx context.Context, in *signetv1.RedeemEnrollmentRequest) (*signetv1.RedeemEnrollmentResponse, error) {
	signer, err := s.identities.Redeem(ctx, source(ctx), identity.Secret(in.GetEnrollmentCode()), in.GetUserName(), identity.Secret(in.GetPassword()),
		in.GetAccountabilityAcknowledged())
	if err != nil {
		return nil, err
	}
	return &signetv1.RedeemEnrollmentResponse{Signer: toSigner(signer), AccountabilityStatement: identity.AccountabilityText}, nil
}

func (s signerService) GetSigner(ctx context.Context, in *signetv1.GetSignerRequest) (*signetv1.GetSignerResponse, error) {
	signer, err := s.identities.Get(ctx, signerID(in.GetName()))
	if err != nil {
		return nil, err
	}
	return &signetv1.GetSignerResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) ListSigners(ctx context.Context, in *signetv1.ListSignersRequest) (*signetv1.ListSignersResponse, error) {
	after, err := s.pages.read("signers", in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	list, err := s.identities.List(ctx, after, size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListSignersResponse{}
	for i, signer := range list {
		if i == size {
			out.NextPageToken = s.pages.token("signers", list[i-1].Index)
			break
		}
		out.Signers = append(out.Signers, toSigner(signer))
	}
	return out, nil
}

func (s signerService) SuspendSigner(ctx context.Context, in *signetv1.SuspendSignerRequest) (*signetv1.SuspendSignerResponse, error) {
	signer, err := s.identities.Suspend(ctx, caller(ctx), signerID(in.GetName()), in.GetReason())
	if err != nil {
		return nil, err
	}
	return &signetv1.SuspendSignerResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) ReinstateSigner(ctx context.Context, in *signetv1.ReinstateSignerRequest) (*signetv1.ReinstateSignerResponse, error) {
	signer, err := s.identities.Reinstate(ctx, caller(ctx), signerID(in.GetName()), in.GetReason())
	if err != nil {
		return nil, err
	}
	out := &signetv1.ReinstateSignerResponse{}
	out.Signer, out.Proposal = signerOrProposal(signer)
	return out, nil
}

func (s signerService) RevokeSigner(ctx context.Context, in *signetv1.RevokeSignerRequest) (*signetv1.RevokeSignerResponse, error) {
	signer, err := s.identities.Revoke(ctx, caller(ctx), signerID(in.GetName()), in.GetReason(), revocationCauses[in.GetCause()])
	if err != nil {
		return nil, err
	}
	return &signetv1.RevokeSignerResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) RenewSigner(ctx context.Context, in *signetv1.RenewSignerRequest) (*signetv1.RenewSignerResponse, error) {
	signer, code, expires, err := s.identities.Renew(ctx, caller(ctx), signerID(in.GetName()), identity.Renewal{
		Reason: in.GetReason(), Name: in.GetPrintedName(), Title: in.GetTitle(), RevokeNow: in.GetRevokeNow(),
		Proofing: identity.Proofing{Method: in.GetProofing().GetMethod(), Reference: in.GetProofing().GetReference()},
	})
	if err != nil {
		return nil, err
	}
	out := &signetv1.RenewSignerResponse{EnrollmentCode: code.Reveal(), CodeExpireTime: stamp(expires)}
	out.Signer, out.Proposal = signerOrProposal(signer)
	return out, nil
}

// signerOrProposal is what came of an act about a signer: the signer, or the proposal that waits.
func signerOrProposal(i identity.Issued) (*signetv1.Signer, *signetv1.Proposal) {
	if i.Proposal != nil {
		return nil, toProposal(*i.Proposal)
	}
	return toSigner(i.Signer), nil
}

// toSigner is a signer as the wire has it.
func toSigner(s identity.Signer) *signetv1.Signer {
	out := &signetv1.Signer{
		Name: "signers/" + s.ID, Kind: signetv1.SignerKind_SIGNER_KIND_PERSON, State: signerStates[s.State], UserName: s.UserName, PrintedName: s.Name,
		Title: s.Title, Organisation: s.Organisation, TimeZone: s.Zone, KeyId: s.KeyID, Certificate: s.Certificate,
		CreateTime: stamp(s.Created), LockedUntil: stamp(s.LockedUntil), Totp: s.TOTP, PasswordTime: stamp(s.PasswordSet),
	}
	out.Accountability = s.Accountability
	if !s.Enrolment.IsZero() {
		out.Enrollment = s.Enrolment[:]
	}
	if s.Service {
		out.Kind = signetv1.SignerKind_SIGNER_KIND_SERVICE
		out.ServiceRights, out.ClientCertificates, out.ClientUri = toServiceRights(s.Rights), s.Clients, s.ClientURI
	}
	for _, r := range s.Roles {
		for wire, name := range roleNames {
			if name == r {
				out.Roles = append(out.Roles, wire)
			}
		}
	}
	return out
}

func (s signerService) UnlockSigner(ctx context.Context, in *signetv1.UnlockSignerRequest) (*signetv1.UnlockSignerResponse, error) {
	signer, err := s.identities.Unlock(ctx, caller(ctx), signerID(in.GetName()), in.GetReason())
	if err != nil {
		return nil, err
	}
	return &signetv1.UnlockSignerResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) UnlockNetwork(ctx context.Context, in *signetv1.UnlockNetworkRequest) (*signetv1.UnlockNetworkResponse, error) {
	network, err := s.identities.UnlockNetwork(ctx, caller(ctx), in.GetAddress(), in.GetReason())
	if err != nil {
		return nil, err
	}
	return &signetv1.UnlockNetworkResponse{Network: network}, nil
}
