package server

import (
	"context"
	"crypto/x509"
	"fmt"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

// enrollService enrols a program.
func (s signerService) enrollService(ctx context.Context, in *signetv1.EnrollService, requestID string) (*signetv1.EnrollSignerResponse, error) {
	e := identity.ServiceEnrolment{
		Name: in.GetServiceName(), Organisation: in.GetOrganisation(), URI: in.GetClientUri(), Rights: fromServiceRights(in.GetRights()),
	}
	if der := in.GetClientCertificate(); len(der) > 0 {
		var err error
		if e.Client, err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("%w: it is not one in DER", identity.ErrCertificateInvalid)
		}
	}
	signer, proposal, err := s.identities.EnrollService(ctx, caller(ctx), e, requestID)
	if err != nil {
		return nil, err
	}
	if proposal != nil {
		return &signetv1.EnrollSignerResponse{Proposal: proposed(proposal)}, nil
	}
	return &signetv1.EnrollSignerResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) ChangeService(ctx context.Context, in *signetv1.ChangeServiceRequest) (*signetv1.ChangeServiceResponse, error) {
	signer, proposal, err := s.identities.ChangeService(ctx, caller(ctx), signerID(in.GetName()), fromServiceRights(in.GetRights()), in.GetReason())
	if err != nil {
		return nil, err
	}
	if proposal != nil {
		return &signetv1.ChangeServiceResponse{Proposal: proposed(proposal)}, nil
	}
	return &signetv1.ChangeServiceResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) AddServiceCertificate(ctx context.Context, in *signetv1.AddServiceCertificateRequest) (*signetv1.AddServiceCertificateResponse, error) {
	signer, proposal, err := s.identities.AddServiceCertificate(ctx, caller(ctx), signerID(in.GetName()), in.GetClientCertificate(), in.GetReason())
	if err != nil {
		return nil, err
	}
	if proposal != nil {
		return &signetv1.AddServiceCertificateResponse{Proposal: proposed(proposal)}, nil
	}
	return &signetv1.AddServiceCertificateResponse{Signer: toSigner(signer)}, nil
}

func (s signerService) RemoveServiceCertificate(ctx context.Context, in *signetv1.RemoveServiceCertificateRequest) (*signetv1.RemoveServiceCertificateResponse, error) {
	signer, err := s.identities.RemoveServiceCertificate(ctx, caller(ctx), signerID(in.GetName()), in.GetCertificateSha256(), in.GetReason())
	if err != nil {
		return nil, err
	}
	return &signetv1.RemoveServiceCertificateResponse{Signer: toSigner(signer)}, nil
}

func fromServiceRights(in *signetv1.ServiceRights) identity.ServiceRights {
	return identity.ServiceRights{
		Methods: in.GetMethods(), RecordTypes: in.GetRecordTypes(), Networks: in.GetNetworks(), Rate: in.GetCallsPerSecond(), Burst: int(in.GetBurst()),
	}
}

func toServiceRights(r identity.ServiceRights) *signetv1.ServiceRights {
	return &signetv1.ServiceRights{
		Methods: r.Methods, RecordTypes: r.RecordTypes, Networks: r.Networks, CallsPerSecond: r.Rate, Burst: int32(r.Burst),
	}
}

// proposed is an act that waits for a second administrator, as the wire has it.
func proposed(p *identity.Proposal) *signetv1.Proposal {
	if p == nil {
		return nil
	}
	out := &signetv1.Proposal{
		Name: "proposals/" + p.ID, Kind: p.Kind, State: signetv1.ProposalState_PROPOSAL_STATE_PENDING, Proposer: "signers/" + p.Proposer,
		Content: p.Content, Rendering: p.Rendering, Digest: p.Digest[:], CreateTime: stamp(p.Created), ExpireTime: stamp(p.Expires),
	}
	if p.Subject != "" {
		out.Subject = "signers/" + p.Subject
	}
	return out
}
