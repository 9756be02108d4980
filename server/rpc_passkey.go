package server

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

// passkeyConfig says for whom passkeys are: for the pages' host. Without pages there are none.
func (c Config) passkeyConfig() identity.PasskeyConfig {
	if c.Pages.Origin() == "" {
		return identity.PasskeyConfig{}
	}
	return identity.PasskeyConfig{RPID: c.Pages.RPID(), Origins: []string{c.Pages.Origin()}}
}

func (s credentialService) StartPasskey(ctx context.Context, in *signetv1.StartPasskeyRequest) (*signetv1.StartPasskeyResponse, error) {
	token, options, expires, err := s.identities.StartPasskey(ctx, caller(ctx), proofOf(in.GetPassword(), nil), in.GetLabel())
	if err != nil {
		return nil, err
	}
	return &signetv1.StartPasskeyResponse{Registration: token.Reveal(), Options: options, ExpireTime: timestamppb.New(expires)}, nil
}

func (s credentialService) FinishPasskey(ctx context.Context, in *signetv1.FinishPasskeyRequest) (*signetv1.FinishPasskeyResponse, error) {
	p, err := s.identities.FinishPasskey(ctx, caller(ctx), identity.Secret(in.GetRegistration()), in.GetResponse())
	if err != nil {
		return nil, err
	}
	if p.Pinned {
		// After a crash here the passkey is bound, and not in the trust file. The next start writes it.
		if err := s.trustPasskeys(ctx); err != nil {
			return nil, fmt.Errorf("the passkey is bound, but the trust file was not written; the next start writes it: %w", err)
		}
	}
	out, err := passkeyOf(p)
	return &signetv1.FinishPasskeyResponse{Passkey: out}, err
}

func (s credentialService) VouchPasskey(ctx context.Context, in *signetv1.VouchPasskeyRequest) (*signetv1.VouchPasskeyResponse, error) {
	signer, id := passkeyName(in.GetName())
	p, err := s.identities.VouchPasskey(ctx, caller(ctx), signer, id, *proofOf(nil, in.GetAssertion()).Passkey)
	if err != nil {
		return nil, err
	}
	out, err := passkeyOf(p)
	return &signetv1.VouchPasskeyResponse{Passkey: out}, err
}

func (s credentialService) ListPasskeys(ctx context.Context, in *signetv1.ListPasskeysRequest) (*signetv1.ListPasskeysResponse, error) {
	c := caller(ctx)
	signer := strings.TrimPrefix(in.GetParent(), "signers/")
	if signer == "" {
		signer = c.ID
	}
	if signer != c.ID && !c.Has(identity.RoleAdministrator) && !c.Has(identity.RoleAuditor) {
		return nil, fmt.Errorf("%w: passkeys of others are for administrators and auditors to see", errDenied)
	}
	list := "passkeys:" + signer
	if signer == "-" {
		signer = ""
	}
	after, err := s.pages.read(list, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	found, err := s.identities.Passkeys(ctx, signer, after, size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListPasskeysResponse{}
	for i, p := range found {
		if i == size {
			out.NextPageToken = s.pages.token(list, found[i-1].Index)
			break
		}
		one, err := passkeyOf(p)
		if err != nil {
			return nil, err
		}
		out.Passkeys = append(out.Passkeys, one)
	}
	return out, nil
}

func (s credentialService) RevokePasskey(ctx context.Context, in *signetv1.RevokePasskeyRequest) (*signetv1.RevokePasskeyResponse, error) {
	signer, id := passkeyName(in.GetName())
	p, err := s.identities.RevokePasskey(ctx, caller(ctx), proofOf(in.GetPassword(), nil), signer, id, in.GetReason())
	if err != nil {
		return nil, err
	}
	out, err := passkeyOf(p)
	return &signetv1.RevokePasskeyResponse{Passkey: out}, err
}

// passkeyName takes a resource name apart: signers/{signer}/passkeys/{passkey}.
func passkeyName(name string) (signer, id string) {
	signer, id, _ = strings.Cut(strings.TrimPrefix(name, "signers/"), "/passkeys/")
	return signer, id
}

var passkeyStates = map[identity.PasskeyState]signetv1.PasskeyState{
	identity.PasskeyPending: signetv1.PasskeyState_PASSKEY_STATE_PENDING,
	identity.PasskeyBound:   signetv1.PasskeyState_PASSKEY_STATE_BOUND,
	identity.PasskeyRevoked: signetv1.PasskeyState_PASSKEY_STATE_REVOKED,
}

// passkeyOf is a passkey as the wire has it.
func passkeyOf(p identity.Passkey) (*signetv1.Passkey, error) {
	binding, err := p.Binding.Canonical()
	if err != nil {
		return nil, err
	}
	out := &signetv1.Passkey{
		Name: "signers/" + p.Signer + "/passkeys/" + p.ID, Label: p.Label, State: passkeyStates[p.State], CredentialId: p.Binding.CredentialID, Spki: p.Binding.SPKI,
		RpId: p.Binding.RPID, Aaguid: p.Binding.AAGUID, BackupEligible: p.Binding.BackupEligible, Binding: binding, Pinned: p.Pinned, CreateTime: timestamppb.New(p.Created),
	}
	for _, v := range p.Vouchers {
		out.Vouchers = append(out.Vouchers, "signers/"+v)
	}
	return out, nil
}

// trustPasskeys writes the first administrators' passkeys into the trust file, where they are missing. One that was revoked stays there: what it
// vouched for before goes on verifying, and the ledger says that it no longer counts.
func (s *Server) trustPasskeys(ctx context.Context) error {
	pinned, err := s.identities.PinnedPasskeys(ctx)
	if err != nil {
		return err
	}
	s.trusting.Lock()
	defer s.trusting.Unlock()
	t, err := manifest.ParseTrust(*s.trust.Load())
	if err != nil {
		return err
	}
	var added []string
	for _, p := range pinned {
		known := false
		for _, q := range t.Passkeys {
			known = known || q.Signer == p.Signer && bytes.Equal(q.SPKI, p.SPKI)
		}
		if !known {
			t.Passkeys = append(t.Passkeys, p)
			added = append(added, passkey.Key{SPKI: p.SPKI}.ID())
		}
	}
	if len(added) == 0 {
		return nil
	}
	b, err := t.Encode()
	if err != nil {
		return err
	}
	path := s.config.Path(TrustFile)
	if err := replaceFile(path, b, 0o644); err != nil {
		return fmt.Errorf("trust file: %w", err)
	}
	s.trust.Store(&b)
	s.log.Warn("the trust file names a first administrator's passkey: every verifier must pin it anew", "file", path, "passkeys", added)
	return nil
}

// passkeyOptions is what a browser needs to sign a preparation with a passkey of the caller's; nil: they have none.
func (s signingService) passkeyOptions(ctx context.Context, c identity.Caller, challenge [32]byte) ([]byte, error) {
	if s.config.passkeyConfig().RPID == "" {
		return nil, nil
	}
	return s.identities.SigningOptions(ctx, c.ID, challenge)
}
