package server

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/identity"
)

type keyService struct {
	signetv1.UnsafeKeyServiceServer // the compiler asks for every method
	*Server
}

var keyRoles = map[string]signetv1.KeyRole{
	keyCA: signetv1.KeyRole_KEY_ROLE_CA, keyTSA: signetv1.KeyRole_KEY_ROLE_TIMESTAMP, keyLedger: signetv1.KeyRole_KEY_ROLE_LEDGER,
	keyClosing: signetv1.KeyRole_KEY_ROLE_CLOSING, keySealing: signetv1.KeyRole_KEY_ROLE_SEALING, keyCanary: signetv1.KeyRole_KEY_ROLE_CANARY,
	keySigner: signetv1.KeyRole_KEY_ROLE_SIGNER, keyOfService: signetv1.KeyRole_KEY_ROLE_SERVICE,
	identity.KeyPasswords: signetv1.KeyRole_KEY_ROLE_PASSWORDS,
}

var keyStates = map[string]signetv1.KeyState{
	identity.KeyActive: signetv1.KeyState_KEY_STATE_ACTIVE, identity.KeyDisabled: signetv1.KeyState_KEY_STATE_DISABLED,
	identity.KeyRetired: signetv1.KeyState_KEY_STATE_RETIRED, identity.KeyRevoked: signetv1.KeyState_KEY_STATE_REVOKED,
	identity.KeyDestroying: signetv1.KeyState_KEY_STATE_DESTROYING, identity.KeyDestroyed: signetv1.KeyState_KEY_STATE_DESTROYED,
}

func keyIDOf(name string) string { return strings.TrimPrefix(name, "keys/") }

// keyRequest is what every change of a key has in common.
type keyRequest interface {
	GetName() string
	GetReason() string
	GetPassword() *signetv1.PasswordCredentials
	GetRequestId() string
}

// admitChange asks the administrator to prove themselves for this one change.
func (s keyService) admitChange(ctx context.Context, method string, in keyRequest, more ...string) (keyChange, error) {
	who, keyID, p := caller(ctx), keyIDOf(in.GetName()), in.GetPassword()
	c, err := newKeyChange(who, method, keyID, in.GetReason(), in.GetRequestId(), more...)
	if err != nil {
		return c, err
	}
	return c, s.identities.ProveAct(ctx, who, proofOf(p, nil), identity.PurposeKey, in.GetName())
}

// changed answers a change with the key as it is now. A refusal for who asks is an entry.
func (s keyService) changed(ctx context.Context, method string, c keyChange, err error) (*signetv1.Key, error) {
	switch {
	case errors.Is(err, errSecondPerson), errors.Is(err, identity.ErrForbidden):
		return nil, errors.Join(err, s.identities.Denied(ctx, c.caller, method, "second person"))
	case err != nil:
		return nil, err
	}
	info, err := s.key(c.keyID)
	if err != nil {
		return nil, err
	}
	return toKey(info), nil
}

func (s keyService) GetKey(_ context.Context, in *signetv1.GetKeyRequest) (*signetv1.GetKeyResponse, error) {
	info, err := s.key(keyIDOf(in.GetName()))
	if err != nil {
		return nil, err
	}
	return &signetv1.GetKeyResponse{Key: toKey(info)}, nil
}

func (s keyService) ListKeys(_ context.Context, in *signetv1.ListKeysRequest) (*signetv1.ListKeysResponse, error) {
	list := "keys " + in.GetSigner()
	after, err := s.pages.read(list, in.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(in.GetPageSize())
	found, err := s.listKeys(after, signerID(in.GetSigner()), size+1)
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListKeysResponse{}
	for i, info := range found {
		if i == size {
			out.NextPageToken = s.pages.token(list, found[i-1].Index)
			break
		}
		out.Keys = append(out.Keys, toKey(info))
	}
	return out, nil
}

func (s keyService) RotateKey(ctx context.Context, in *signetv1.RotateKeyRequest) (*signetv1.RotateKeyResponse, error) {
	var more []string
	if in.GetCompromised() {
		more = append(more, "compromised")
	}
	c, err := s.admitChange(ctx, "RotateKey", in, more...)
	if err != nil {
		return nil, err
	}
	c.compromised = in.GetCompromised()
	successor, err := s.rotateKey(ctx, c)
	if err == nil {
		c.keyID = successor
	}
	key, err := s.changed(ctx, signetv1.KeyService_RotateKey_FullMethodName, c, err)
	return &signetv1.RotateKeyResponse{Key: key}, err
}

func (s keyService) DisableKey(ctx context.Context, in *signetv1.DisableKeyRequest) (*signetv1.DisableKeyResponse, error) {
	c, err := s.admitChange(ctx, "DisableKey", in)
	if err != nil {
		return nil, err
	}
	key, err := s.changed(ctx, signetv1.KeyService_DisableKey_FullMethodName, c, s.disableKey(ctx, c))
	return &signetv1.DisableKeyResponse{Key: key}, err
}

func (s keyService) EnableKey(ctx context.Context, in *signetv1.EnableKeyRequest) (*signetv1.EnableKeyResponse, error) {
	c, err := s.admitChange(ctx, "EnableKey", in)
	if err != nil {
		return nil, err
	}
	key, err := s.changed(ctx, signetv1.KeyService_EnableKey_FullMethodName, c, s.enableKey(ctx, c))
	return &signetv1.EnableKeyResponse{Key: key}, err
}

func (s keyService) RequestKeyDestruction(ctx context.Context, in *signetv1.RequestKeyDestructionRequest) (*signetv1.RequestKeyDestructionResponse, error) {
	c, err := s.admitChange(ctx, "RequestKeyDestruction", in)
	if err != nil {
		return nil, err
	}
	key, err := s.changed(ctx, signetv1.KeyService_RequestKeyDestruction_FullMethodName, c, s.requestDestruction(ctx, c))
	return &signetv1.RequestKeyDestructionResponse{Key: key}, err
}

func (s keyService) WithdrawKeyDestruction(ctx context.Context, in *signetv1.WithdrawKeyDestructionRequest) (*signetv1.WithdrawKeyDestructionResponse, error) {
	c, err := s.admitChange(ctx, "WithdrawKeyDestruction", in)
	if err != nil {
		return nil, err
	}
	key, err := s.changed(ctx, signetv1.KeyService_WithdrawKeyDestruction_FullMethodName, c, s.withdrawDestruction(ctx, c))
	return &signetv1.WithdrawKeyDestructionResponse{Key: key}, err
}

func (s keyService) ConfirmKeyDestruction(ctx context.Context, in *signetv1.ConfirmKeyDestructionRequest) (*signetv1.ConfirmKeyDestructionResponse, error) {
	c, err := s.admitChange(ctx, "ConfirmKeyDestruction", in, in.GetDestruction())
	if err != nil {
		return nil, err
	}
	key, err := s.changed(ctx, signetv1.KeyService_ConfirmKeyDestruction_FullMethodName, c, s.confirmDestruction(ctx, c, in.GetDestruction()))
	return &signetv1.ConfirmKeyDestructionResponse{Key: key}, err
}

func (s keyService) ListCertificateAuthorities(context.Context, *signetv1.ListCertificateAuthoritiesRequest) (*signetv1.ListCertificateAuthoritiesResponse, error) {
	all, _, _, err := s.authorities()
	if err != nil {
		return nil, err
	}
	out := &signetv1.ListCertificateAuthoritiesResponse{}
	for _, a := range all {
		out.Authorities = append(out.Authorities, &signetv1.CertificateAuthority{
			Key: "keys/" + a.KeyID, Certificate: a.certificate.Raw, RevocationList: a.list, ListNumber: a.row.Number,
			ListTime: moment(a.row.ThisUpdate), ListExpireTime: moment(a.row.NextUpdate),
		})
	}
	return out, nil
}

// toKey is a key as the wire has it.
func toKey(k keyInfo) *signetv1.Key {
	out := &signetv1.Key{
		Name: "keys/" + k.KeyID, Role: keyRoles[k.Role], State: keyStates[k.State], Signer: resource("signers/", k.Signer), Label: k.ID,
		Algorithm: k.Algorithm, PublicKey: k.SPKI, Certificate: k.Certificate, Attributes: k.Attributes, CreateTime: moment(k.Created),
		CertificateExpireTime: stamp(k.Expires), Predecessor: resource("keys/", k.Predecessor), Successor: resource("keys/", k.Successor),
		EntryIndex: k.Index, ChangeIndex: k.Changed,
	}
	if d := k.Destruction; d != nil {
		out.Destruction = &signetv1.KeyDestruction{
			Id: d.ID, Requester: resource("signers/", d.Requester), Reason: d.Reason, RequestTime: moment(d.RequestTime),
			ExpireTime: moment(d.Expires), Confirmer: resource("signers/", d.Confirmer), ConfirmReason: d.ConfirmReason,
			ConfirmTime: moment(d.ConfirmTime), DestroyTime: moment(d.DestroyTime),
		}
	}
	return out
}

// moment is a time of the ledger; nil for none.
func moment(t chain.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t.Time())
}

// resource is the name of a resource; empty for none.
func resource(collection, id string) string {
	if id == "" {
		return ""
	}
	return collection + id
}
