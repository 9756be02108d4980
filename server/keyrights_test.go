package server_test

import (
	"context"
	"encoding/json/v2"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/servertest"
)

// TestDisabling: a disabled key signs nothing until it is enabled.
func TestDisabling(t *testing.T) {
	s := startKeys(t)
	p := s.prepare(s.ada)
	k := s.adaKey()
	from := s.size()
	if err := s.disable(k.GetName()); err != nil {
		t.Fatal(err)
	}
	t.Run("nothing is prepared, nothing is signed", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		_, err := s.signing.Prepare(s.ada, s.prepareRequest())
		wantError(t, err, codes.FailedPrecondition, "KEY_DISABLED")
		_, err = s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.FailedPrecondition, "KEY_DISABLED")
		s.restart()
		_, err = s.signing.Sign(s.ada, signRequest(p, "ada"))
		wantError(t, err, codes.FailedPrecondition, "KEY_DISABLED")
		if len(s.find(from, chain.SignatureCreated))+len(s.find(from, chain.SignatureAttempted)) != 0 || len(s.find(from, chain.AccessDenied)) < 3 {
			t.Error("the refusals are not recorded as such")
		}
	})
	t.Run("nor while the HSM is signing", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		if err := s.enable(k.GetName()); err != nil {
			t.Fatal(err)
		}
		p := s.prepare(s.ada)
		began := s.size()
		disabled := false
		s.SetFault(func(id keystore.ID, signature []byte) ([]byte, error) {
			if string(id) == k.GetLabel() && !disabled {
				disabled = true
				if err := s.disable(k.GetName()); err != nil {
					t.Error(err)
				}
			}
			return signature, nil
		})
		_, err := s.signing.Sign(s.ada, signRequest(p, "ada"))
		s.SetFault(nil)
		wantError(t, err, codes.FailedPrecondition, "KEY_DISABLED")
		if len(s.find(began, chain.SignatureCreated)) != 0 {
			t.Error("the signature was released")
		}
	})
	t.Run("it can be enabled", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		if err := s.enable(k.GetName()); err != nil {
			t.Fatal(err)
		}
		s.approved("v1.0.0")
		changed := s.find(from, chain.KeyDisabled)
		var body map[string]any
		if err := json.Unmarshal(changed[0].Body, &body); err != nil || body["reason"] != "laptop lost" || body["from"] != "active" || body["to"] != "disabled" {
			t.Errorf("key.disabled: %v, %v", body, err)
		}
		wantError(t, s.enable(k.GetName()), codes.FailedPrecondition, "KEY_STATE")
	})
	t.Run("a CA that is disabled certifies nothing", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		ca := s.active(signetv1.KeyRole_KEY_ROLE_CA, "")
		if err := s.disable(ca.GetName()); err != nil {
			t.Fatal(err)
		}
		for _, k := range []*signetv1.Key{s.adaKey(), s.active(signetv1.KeyRole_KEY_ROLE_TIMESTAMP, "")} {
			_, err := s.keys.RotateKey(s.admin, &signetv1.RotateKeyRequest{Name: k.GetName(), Reason: "old", Password: proofOf(servertest.Administrator)})
			wantError(t, err, codes.FailedPrecondition, "KEY_DISABLED")
		}
		s.approved("v1.0.1") // who has a certificate goes on signing
		if err := s.enable(ca.GetName()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a part without which nothing is signed is not disabled", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		for _, role := range []signetv1.KeyRole{
			signetv1.KeyRole_KEY_ROLE_LEDGER, signetv1.KeyRole_KEY_ROLE_TIMESTAMP, signetv1.KeyRole_KEY_ROLE_CLOSING, signetv1.KeyRole_KEY_ROLE_CANARY,
		} {
			wantError(t, s.disable(s.active(role, "").GetName()), codes.FailedPrecondition, "KEY_IN_USE")
		}
	})
}

// TestASessionAloneChangesNoKey: each change asks for the password of whose session it is.
func TestASessionAloneChangesNoKey(t *testing.T) {
	s := startKeys(t)
	name := s.adaKey().GetName()
	calls := map[string]func(ctx context.Context, p *signetv1.PasswordCredentials) error{
		"rotate": func(ctx context.Context, p *signetv1.PasswordCredentials) error {
			_, err := s.keys.RotateKey(ctx, &signetv1.RotateKeyRequest{Name: name, Reason: "x", Password: p})
			return err
		},
		"disable": func(ctx context.Context, p *signetv1.PasswordCredentials) error {
			_, err := s.keys.DisableKey(ctx, &signetv1.DisableKeyRequest{Name: name, Reason: "x", Password: p})
			return err
		},
		"enable": func(ctx context.Context, p *signetv1.PasswordCredentials) error {
			_, err := s.keys.EnableKey(ctx, &signetv1.EnableKeyRequest{Name: name, Reason: "x", Password: p})
			return err
		},
		"request": func(ctx context.Context, p *signetv1.PasswordCredentials) error {
			_, err := s.keys.RequestKeyDestruction(ctx, &signetv1.RequestKeyDestructionRequest{Name: name, Reason: "x", Password: p})
			return err
		},
		"withdraw": func(ctx context.Context, p *signetv1.PasswordCredentials) error {
			_, err := s.keys.WithdrawKeyDestruction(ctx, &signetv1.WithdrawKeyDestructionRequest{Name: name, Reason: "x", Password: p})
			return err
		},
		"confirm": func(ctx context.Context, p *signetv1.PasswordCredentials) error {
			_, err := s.keys.ConfirmKeyDestruction(ctx, &signetv1.ConfirmKeyDestructionRequest{Name: name, Destruction: "dst_x", Reason: "x", Password: p})
			return err
		},
	}
	from := s.size()
	for what, call := range calls {
		t.Run(what, func(t *testing.T) {
			t.Attr("requirement", "B-31")
			wantError(t, call(s.admin, nil), codes.Unauthenticated, "CREDENTIALS_MISSING")
			wantError(t, call(s.admin, proofOf("eve")), codes.Unauthenticated, "BAD_CREDENTIALS") // somebody else's
			s.reconnect()
			wantError(t, call(s.ada, proofOf("ada")), codes.PermissionDenied, "DENIED")
			wantError(t, call(s.rita, proofOf("rita")), codes.PermissionDenied, "DENIED")
			wantError(t, call(t.Context(), proofOf(servertest.Administrator)), codes.Unauthenticated, "NOT_AUTHENTICATED")
		})
	}
	for _, typ := range []chain.Type{chain.KeyRotated, chain.KeyDisabled, chain.KeyEnabled, chain.KeyDestructionRequested, chain.KeyDestructionConfirmed} {
		if len(s.find(from, typ)) != 0 {
			t.Errorf("there is an entry %s", typ)
		}
	}
	t.Run("who reads keys", func(t *testing.T) {
		t.Attr("requirement", "11.10(d)")
		_, err := s.keys.GetKey(s.ada, &signetv1.GetKeyRequest{Name: name})
		wantError(t, err, codes.PermissionDenied, "DENIED")
	})
}

// TestARetriedChangeIsMadeOnce: a call that is heard twice changes a key once, and asks for the password each time.
func TestARetriedChangeIsMadeOnce(t *testing.T) {
	s := startKeys(t)
	old, _ := s.retired("v1.0.0")
	const id = "0193c1f0-0000-4000-8000-00000000000"
	destruction := ""
	for _, tc := range []struct {
		name string
		typ  chain.Type
		call func(p *signetv1.PasswordCredentials) (*signetv1.Key, error)
	}{
		{"disable", chain.KeyDisabled, func(p *signetv1.PasswordCredentials) (*signetv1.Key, error) {
			r, err := s.keys.DisableKey(s.admin, &signetv1.DisableKeyRequest{Name: s.keyOf(s.bobID).GetName(), Reason: "x", Password: p, RequestId: id + "1"})
			return r.GetKey(), err
		}},
		{"enable", chain.KeyEnabled, func(p *signetv1.PasswordCredentials) (*signetv1.Key, error) {
			r, err := s.keys.EnableKey(s.admin, &signetv1.EnableKeyRequest{Name: s.keyOf(s.bobID).GetName(), Reason: "x", Password: p, RequestId: id + "2"})
			return r.GetKey(), err
		}},
		{"request", chain.KeyDestructionRequested, func(p *signetv1.PasswordCredentials) (*signetv1.Key, error) {
			r, err := s.keys.RequestKeyDestruction(s.admin, &signetv1.RequestKeyDestructionRequest{Name: old.GetName(), Reason: "x", Password: p, RequestId: id + "3"})
			return r.GetKey(), err
		}},
		{"withdraw", chain.KeyDestructionWithdrawn, func(p *signetv1.PasswordCredentials) (*signetv1.Key, error) {
			r, err := s.keys.WithdrawKeyDestruction(s.admin, &signetv1.WithdrawKeyDestructionRequest{Name: old.GetName(), Reason: "x", Password: p, RequestId: id + "4"})
			return r.GetKey(), err
		}},
		{"confirm", chain.KeyDestroyed, func(p *signetv1.PasswordCredentials) (*signetv1.Key, error) {
			if destruction == "" {
				asked, err := s.request(old.GetName())
				if err != nil {
					return nil, err
				}
				destruction = asked.GetDestruction().GetId()
			}
			p.UserName = "eve"
			r, err := s.keys.ConfirmKeyDestruction(s.eve, &signetv1.ConfirmKeyDestructionRequest{
				Name: old.GetName(), Destruction: destruction, Reason: "x", Password: p, RequestId: id + "5",
			})
			return r.GetKey(), err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Attr("requirement", "B-31")
			from := s.size()
			first, err := tc.call(proofOf(servertest.Administrator))
			if err != nil {
				t.Fatal(err)
			}
			again, err := tc.call(proofOf(servertest.Administrator))
			if err != nil || !proto.Equal(first, again) || len(s.find(from, tc.typ)) != 1 {
				t.Errorf("%d entries; first %v, again %v, %v", len(s.find(from, tc.typ)), first, again, err)
			}
			guess := proofOf(servertest.Administrator)
			guess.Password = "something else altogether"
			_, err = tc.call(guess)
			wantError(t, err, codes.Unauthenticated, "BAD_CREDENTIALS")
			failed := s.find(from, chain.AuthenticationFailed)
			var body map[string]any
			if len(failed) != 1 {
				t.Fatalf("%d failures are recorded", len(failed))
			}
			if err := json.Unmarshal(failed[0].Body, &body); err != nil || body["purpose"] != "key" || body["subject"] != first.GetName() {
				t.Errorf("authentication.failed: %v, %v", body, err)
			}
		})
	}
}
