package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/bundle"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/rights"
	"github.com/signetd/signet/server/internal/signing"
)

// chunk is the size of a piece of a streamed file, in bytes.
const chunk = 256 << 10

type signingService struct {
	signetv1.UnsafeSigningServiceServer // the compiler asks for every method
	*Server
}

var decisionNames = map[signetv1.Decision]string{
	signetv1.Decision_DECISION_APPROVE:  "approve",
	signetv1.Decision_DECISION_REJECT:   "reject",
	signetv1.Decision_DECISION_ABSTAIN:  "abstain",
	signetv1.Decision_DECISION_REVIEW:   "review",
	signetv1.Decision_DECISION_AUTHOR:   "author",
	signetv1.Decision_DECISION_WITHDRAW: "withdraw",
	signetv1.Decision_DECISION_SEAL:     "seal",
}

func decisionOf(name string) signetv1.Decision {
	for d, n := range decisionNames {
		if n == name {
			return d
		}
	}
	return signetv1.Decision_DECISION_UNSPECIFIED
}

func event(record string) string { return strings.TrimPrefix(record, "records/") }

func (s signingService) Prepare(ctx context.Context, in *signetv1.PrepareRequest) (*signetv1.PrepareResponse, error) {
	c := caller(ctx)
	p, err := s.ceremony.Prepare(ctx, c, signing.Request{
		Event: event(in.GetRecord()), Decision: decisionNames[in.GetDecision()], Meaning: in.GetMeaning(), Reason: in.GetReason(), RequestID: in.GetRequestId(),
		Requires: in.GetRequires(),
	})
	if err != nil {
		return nil, s.audited(ctx, c, signetv1.SigningService_Prepare_FullMethodName, err)
	}
	out, err := s.preparation(ctx, c, p)
	return &signetv1.PrepareResponse{Preparation: out}, err
}

func (s signingService) Withdraw(ctx context.Context, in *signetv1.WithdrawRequest) (*signetv1.WithdrawResponse, error) {
	c := caller(ctx)
	p, err := s.ceremony.Withdraw(ctx, c, event(in.GetRecord()), in.GetReason())
	if err != nil {
		return nil, s.audited(ctx, c, signetv1.SigningService_Withdraw_FullMethodName, err)
	}
	out, err := s.preparation(ctx, c, p)
	return &signetv1.WithdrawResponse{Preparation: out}, err
}

// audited appends access.denied where a signer was refused for who they are.
func (s signingService) audited(ctx context.Context, c identity.Caller, method string, err error) error {
	var why string
	switch {
	case errors.Is(err, signing.ErrNotDesignated):
		why = "not designated"
	case errors.Is(err, rights.ErrTraining):
		why = "training"
	case errors.Is(err, identity.ErrForbidden), errors.Is(err, identity.ErrRevoked), errors.Is(err, identity.ErrSuspended), errors.Is(err, identity.ErrNoKey), errors.Is(err, identity.ErrCertificateExpired),
		errors.Is(err, identity.ErrKeyDisabled), errors.Is(err, identity.ErrKeyDestroyed):
		why = "no right to sign"
	default:
		return err
	}
	return errors.Join(err, s.identities.Denied(ctx, c, method, why))
}

// preparation is a preparation of the caller's as the wire has it.
func (s signingService) preparation(ctx context.Context, c identity.Caller, p signing.Preparation) (*signetv1.Preparation, error) {
	st, err := manifest.ParseStatement(p.Statement)
	if err != nil {
		return nil, err
	}
	challenge := sha256.Sum256(manifest.PAE(p.Statement))
	options, err := s.passkeyOptions(ctx, c, challenge)
	if err != nil {
		return nil, err
	}
	return &signetv1.Preparation{
		PasskeyOptions: options,
		Name:           "preparations/" + p.ID, Statement: p.Statement, Rendering: manifest.Render(st), Challenge: challenge[:], Requires: p.Requires,
		ExpireTime: timestamppb.New(p.Expires), Record: "records/" + st.Predicate.Event, State: signetv1.PreparationState_PREPARATION_STATE_WAITING,
		Page: s.config.Pages.page(p.ID),
	}, nil
}

func (s signingService) Sign(ctx context.Context, in *signetv1.SignRequest) (*signetv1.SignResponse, error) {
	c := caller(ctx)
	r, err := s.ceremony.Sign(ctx, c, strings.TrimPrefix(in.GetPreparation(), "preparations/"), [32]byte(in.GetStatementSha256()),
		proofOf(in.GetPassword(), in.GetPasskey()))
	if err != nil {
		return nil, s.audited(ctx, c, signetv1.SigningService_Sign_FullMethodName, err)
	}
	sig, err := signature(r)
	return &signetv1.SignResponse{Signature: sig, RecordState: recordStates[r.Status]}, err
}

// proofOf is a person's proof as the wire has it.
func proofOf(p *signetv1.PasswordCredentials, a *signetv1.PasskeyAssertion) identity.Proof {
	proof := identity.Proof{UserName: p.GetUserName(), Password: identity.Secret(p.GetPassword()), TOTP: identity.Secret(p.GetTotp())}
	if a != nil {
		proof.Passkey = &passkey.Assertion{
			CredentialID: a.GetCredentialId(), AuthenticatorData: a.GetAuthenticatorData(), ClientDataJSON: a.GetClientDataJson(), Signature: a.GetSignature(),
		}
	}
	return proof
}

func (s signingService) Seal(ctx context.Context, in *signetv1.SealRequest) (*signetv1.SealResponse, error) {
	inputs := make([]manifest.Input, len(in.GetInputs()))
	for i, x := range in.GetInputs() {
		value, err := jcs.Marshal(x.GetValue())
		if err != nil {
			return nil, err
		}
		inputs[i] = manifest.Input{Name: x.GetName(), Value: value}
	}
	r, err := s.ceremony.Seal(ctx, caller(ctx), signing.Request{
		Event: event(in.GetRecord()), Meaning: in.GetMeaning(), Reason: in.GetReason(), Inputs: inputs, RequestID: in.GetRequestId(),
	})
	if err != nil {
		return nil, err
	}
	sig, err := signature(r)
	return &signetv1.SealResponse{Signature: sig}, err
}

// signature is a released signature as the wire has it.
func signature(r signing.Released) (*signetv1.Signature, error) {
	authorization, err := r.Signature.Authorization.Canonical()
	if err != nil {
		return nil, err
	}
	p := r.Signature.Statement.Predicate
	return &signetv1.Signature{
		Name:          fmt.Sprintf("records/%s/signatures/%d", p.Event, r.Index),
		Statement:     r.Statement,
		Algorithm:     r.Signature.Signature.Algorithm,
		KeyId:         r.Signature.Signature.KeyID,
		Value:         r.Signature.Signature.Value,
		Certificates:  r.Signature.Certificates,
		Timestamps:    r.Signature.Timestamps,
		Authorization: authorization,
		Ledger: &signetv1.LedgerPosition{
			Index: r.Index, Entry: r.Signature.Ledger.Entry, Proof: r.Signature.Ledger.Proof, Consistency: r.Signature.Ledger.Consistency,
		},
		SignTime:    timestamppb.New(r.Time),
		Signer:      p.Signer.ID,
		PrintedName: p.Signer.Name,
		Decision:    decisionOf(p.Decision),
		Meaning:     p.Meaning.ID,
		Reason:      p.Reason,
	}, nil
}

func (s signingService) GetManifest(in *signetv1.GetManifestRequest, stream grpc.ServerStreamingServer[signetv1.GetManifestResponse]) error {
	release, err := s.large.take(stream.Context())
	if err != nil {
		return err
	}
	defer release()
	file, name, err := s.ceremony.Manifest(stream.Context(), event(in.GetRecord()))
	if err != nil {
		return err
	}
	for first := true; len(file) > 0; first = false {
		n := min(chunk, len(file))
		piece := &signetv1.GetManifestResponse{Chunk: file[:n]}
		if first {
			piece.FileName = name
		}
		if err := stream.Send(piece); err != nil {
			return err
		}
		file = file[n:]
	}
	return nil
}

func (s signingService) ListSignatures(ctx context.Context, in *signetv1.ListSignaturesRequest) (*signetv1.ListSignaturesResponse, error) {
	from, err := s.pages.read("signatures:"+in.GetParent(), in.GetPageToken())
	if err != nil {
		return nil, err
	}
	released, next, err := s.ceremony.Signatures(ctx, event(in.GetParent()), from, pageSize(in.GetPageSize()))
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListSignaturesResponse{}
	for _, r := range released {
		sig, err := signature(r)
		if err != nil {
			return nil, err
		}
		out.Signatures = append(out.Signatures, sig)
	}
	if next > 0 {
		out.NextPageToken = s.pages.token("signatures:"+in.GetParent(), next)
	}
	return out, nil
}

func (s signingService) Verify(stream grpc.ClientStreamingServer[signetv1.VerifyRequest, signetv1.VerifyResponse]) error {
	release, err := s.large.take(stream.Context())
	if err != nil {
		return err
	}
	defer release()
	var file, document bytes.Buffer
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		file.Write(in.GetManifestChunk())
		document.Write(in.GetBundleChunk())
		if int64(file.Len()) > s.config.Limits.DocumentBytes || int64(document.Len()) > s.config.Limits.DocumentBytes {
			return fmt.Errorf("%w: a manifest and a bundle document have at most %d bytes each", errTooLarge, s.config.Limits.DocumentBytes)
		}
	}
	if file.Len() == 0 {
		return fmt.Errorf("%w: send the manifest", errRequest)
	}
	in := verify.Input{Manifest: file.Bytes(), Trust: *s.trust.Load(), SkipContent: true}
	if document.Len() > 0 {
		d, err := bundle.ParseDocument(document.Bytes())
		if err != nil {
			return err
		}
		in.Bundle, in.SkipContent = &d, false
	}
	report, err := verify.Verify(stream.Context(), in)
	if err != nil {
		return err
	}
	out, err := verdict(report)
	if err != nil {
		return err
	}
	out.ContentChecked = in.Bundle != nil
	return stream.SendAndClose(out)
}

var recordStates = map[string]signetv1.RecordState{
	"open": signetv1.RecordState_RECORD_STATE_OPEN, "approved": signetv1.RecordState_RECORD_STATE_APPROVED, "rejected": signetv1.RecordState_RECORD_STATE_REJECTED,
	"withdrawn": signetv1.RecordState_RECORD_STATE_WITHDRAWN, "superseded": signetv1.RecordState_RECORD_STATE_SUPERSEDED,
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
