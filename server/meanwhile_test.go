package server_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/passkey/passkeytest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/servertest"
)

// meanwhile lets something happen between the proof of a signer and the commit of their signature: as their key comes out of the HSM with it.
func (s *scene) meanwhile(signer string, happen func() error) {
	s.t.Helper()
	key := "signer-" + strings.TrimPrefix(signer, "signers/")
	happened := make(chan error, 1)
	s.SetFault(func(id keystore.ID, signature []byte) ([]byte, error) {
		if strings.HasPrefix(string(id), key) {
			select {
			case happened <- happen():
			default:
			}
		}
		return signature, nil
	})
	s.t.Cleanup(func() {
		s.SetFault(nil)
		select {
		case err := <-happened:
			if err != nil {
				s.t.Errorf("meanwhile: %v", err)
			}
		default:
			s.t.Error("the key of the signer did not sign")
		}
	})
}

// TestMeanwhile: what is changed after a signer has proved themselves, and before their signature is committed, counts. The signature is not
// made, and nothing of it is released.
func TestMeanwhile(t *testing.T) {
	s := startWithDevices(t)
	rights, sessions := signetv1.NewRightsServiceClient(s.Dial()), signetv1.NewSessionServiceClient(s.Dial())
	reason := "while she signs"
	designate := func(ctx context.Context, to *signetv1.Designation) error {
		list, err := rights.ListDesignations(ctx, &signetv1.ListDesignationsRequest{})
		if err != nil {
			return err
		}
		if to.RecordType = "release"; len(list.GetDesignations()) > 0 {
			to.Etag = list.GetDesignations()[0].GetEtag()
		}
		_, err = rights.SetDesignation(ctx, &signetv1.SetDesignationRequest{Designation: to, Reason: reason})
		return err
	}
	for i, tc := range []struct {
		name   string
		rows   []string
		happen func(ctx context.Context) error
		code   codes.Code
		reason string
		undo   func(ctx context.Context) error
	}{
		{
			"her session is ended", []string{"11.200(a)(1)", "A-02"}, func(ctx context.Context) error {
				list, err := sessions.ListSessions(ctx, &signetv1.ListSessionsRequest{Parent: s.adaID})
				for _, one := range list.GetSessions() {
					if err == nil {
						_, err = sessions.EndSession(ctx, &signetv1.EndSessionRequest{Name: one.GetName(), Reason: reason})
					}
				}
				return err
			}, codes.Unauthenticated, "SESSION_ENDED", nil,
		},
		{
			"she is suspended", []string{"B-36"}, func(ctx context.Context) error {
				_, err := s.signers.SuspendSigner(ctx, &signetv1.SuspendSignerRequest{Name: s.adaID, Reason: reason})
				return err
			}, codes.FailedPrecondition, "SIGNER_SUSPENDED", func(ctx context.Context) error {
				_, err := s.signers.ReinstateSigner(ctx, &signetv1.ReinstateSignerRequest{Name: s.adaID, Reason: reason})
				return err
			},
		},
		{
			"she loses the role signer", []string{"11.10(g)"}, func(ctx context.Context) error {
				_, err := rights.WithdrawRole(ctx, &signetv1.WithdrawRoleRequest{Name: s.adaID, Role: signetv1.Role_ROLE_SIGNER, Reason: reason})
				return err
			}, codes.PermissionDenied, "DENIED", func(ctx context.Context) error {
				_, err := rights.AssignRole(ctx, &signetv1.AssignRoleRequest{Holder: s.adaID, Role: signetv1.Role_ROLE_SIGNER, Reason: reason})
				return err
			},
		},
		{
			"others are designated", []string{"B-35"}, func(ctx context.Context) error {
				return designate(ctx, &signetv1.Designation{Holders: []string{s.bobID}})
			}, codes.PermissionDenied, "NOT_DESIGNATED", func(ctx context.Context) error {
				return designate(ctx, &signetv1.Designation{})
			},
		},
		{
			"a course is asked for that she has not taken", []string{"11.10(i)"}, func(ctx context.Context) error {
				return designate(ctx, &signetv1.Designation{Courses: []string{"gmp"}})
			}, codes.PermissionDenied, "TRAINING_LAPSED", func(ctx context.Context) error {
				return designate(ctx, &signetv1.Designation{})
			},
		},
		{
			"her passkey is revoked", []string{"B-36", "11.300(c)"}, func(ctx context.Context) error {
				_, err := s.credentials.RevokePasskey(ctx, &signetv1.RevokePasskeyRequest{Name: s.adasPasskey.GetName(), Password: login("eve"), Reason: reason})
				return err
			}, codes.FailedPrecondition, "SIGNER_STATE", func(context.Context) error {
				s.ada = s.Login("ada")
				s.adasDevice, s.adasPasskey = s.device(s.ada, "ada", passkeytest.EdDSA)
				s.vouch(s.Login(servertest.Administrator), s.adasPasskey, s.root1)
				s.vouch(s.Login("eve"), s.adasPasskey, s.root2)
				return nil
			},
		},
		{
			"her password is ended as lost", []string{"11.300(c)", "11.200(a)(1)"}, func(ctx context.Context) error {
				_, err := s.signers.RenewSigner(ctx, &signetv1.RenewSignerRequest{
					Name: s.adaID, Reason: reason, RevokeNow: true, Proofing: &signetv1.IdentityProofing{Method: "passport seen", Reference: "P-1"},
				})
				return err
			}, codes.Unauthenticated, "SESSION_ENDED", nil,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, row := range tc.rows {
				t.Attr("requirement", row)
			}
			s.t = t
			h := passkeyHeader("ada")
			h.Version = fmt.Sprintf("v1.0.%d", i)
			s.ada, s.rita = s.Login("ada"), s.Login("rita")
			eve := s.Login("eve")
			s.record = s.create(h)
			p := s.prepare(s.ada)
			in := signRequest(p, "ada")
			in.Passkey = assertionOf(t, s.adasDevice, [32]byte(p.GetChallenge()))
			before := s.size()
			t.Run("and nothing is signed", func(t *testing.T) {
				s.t = t
				s.meanwhile(s.adaID, func() error {
					ctx, cancel := context.WithTimeout(eve, 20*time.Second)
					defer cancel()
					return tc.happen(ctx)
				})
				_, err := s.signing.Sign(s.ada, in)
				wantError(t, err, tc.code, tc.reason)
			})
			s.t = t
			if made := s.find(before, chain.SignatureCreated); len(made) != 0 {
				t.Errorf("signatures: %v", made)
			}
			if closed := s.find(before, chain.SignatureAbandoned); len(closed) != 1 {
				t.Errorf("%d attempts were abandoned", len(closed))
			}
			if tc.undo != nil {
				if err := tc.undo(s.Login(servertest.Administrator)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestTooLate: a statement says when it was prepared and until when it is signed, and with which roles. What is not so any more is not signed,
// and nobody waits for ever for a key.
func TestTooLate(t *testing.T) {
	t.Attr("requirement", "A-19")
	s := start(t)
	rights := signetv1.NewRightsServiceClient(s.Dial())
	late := func(by time.Duration) func() error {
		return func() error {
			s.Clock.Advance(by)
			return nil
		}
	}
	nothing := func() error { return nil }
	for i, tc := range []struct {
		name   string
		before func() error // she signs
		while  func() error // her key signs
		reason string
	}{
		{"the key takes longer than a minute", nothing, late(time.Minute + time.Second), "PREPARATION_EXPIRED"},
		{"the time-stamp is of after the statement's end", late(4*time.Minute + 58*time.Second), late(5 * time.Second), "PREPARATION_EXPIRED"},
		{"she has another role since", func() error {
			_, err := rights.AssignRole(s.Login(servertest.Administrator), &signetv1.AssignRoleRequest{Holder: s.adaID, Role: signetv1.Role_ROLE_AUDITOR, Reason: "audits, too"})
			return err
		}, nil, "RECORD_CHANGED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			h := header("ada")
			h.Version = fmt.Sprintf("v2.0.%d", i)
			s.ada, s.rita = s.Login("ada"), s.Login("rita")
			s.record = s.create(h)
			p := s.prepare(s.ada)
			before := s.size()
			if err := tc.before(); err != nil {
				t.Fatal(err)
			}
			t.Run("and nothing is signed", func(t *testing.T) {
				if s.t = t; tc.while != nil {
					s.meanwhile(s.adaID, tc.while)
				}
				if _, err := s.signing.Sign(s.ada, signRequest(p, "ada")); reasonOf(err) != tc.reason {
					t.Errorf("got %v, want %s", err, tc.reason)
				}
			})
			if s.t = t; len(s.find(before, chain.SignatureCreated)) != 0 {
				t.Error("a signature was made")
			}
		})
	}
}

// TestMeanwhileSealed: a record that is decided or superseded while a service's key signs takes no seal; a call that was retried meanwhile makes no
// second one.
func TestMeanwhileSealed(t *testing.T) {
	t.Attr("requirement", "11.10(f)")
	s := start(t)
	sealing := signetv1.NewSigningServiceClient(s.DialSealing())
	request := func() *signetv1.SealRequest {
		return &signetv1.SealRequest{Record: s.record.GetName(), Meaning: "evidence-seal", RequestId: "0193c1f0-0000-4000-8000-000000000001"}
	}
	var retried *signetv1.SealResponse
	for i, tc := range []struct {
		name   string
		happen func() error
		reason string
		seals  int
	}{
		{"it is approved", func() error {
			_, err := s.signing.Sign(s.ada, signRequest(s.prepare(s.ada), "ada"))
			return err
		}, "RECORD_CLOSED", 0},
		{"it is superseded", func() error {
			next := header("ada")
			next.Version, next.Supersedes = "v9.0.0", fmt.Sprintf("%x", s.record.GetDigest())
			s.create(next)
			return nil
		}, "RECORD_CHANGED", 0},
		{"the call is retried", func() (err error) {
			retried, err = sealing.Seal(t.Context(), request())
			return err
		}, "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			h := header("ada")
			h.Version = fmt.Sprintf("v3.0.%d", i)
			s.record = s.create(h)
			before := s.size()
			var begun atomic.Bool
			var happened error
			s.SetFault(func(id keystore.ID, signature []byte) ([]byte, error) {
				if strings.Contains(string(id), "seal") && !begun.Swap(true) {
					happened = tc.happen()
				}
				return signature, nil
			})
			r, err := sealing.Seal(t.Context(), request())
			s.SetFault(nil)
			if !begun.Load() || happened != nil {
				t.Fatalf("the key of the service signed: %v; meanwhile: %v", begun.Load(), happened)
			}
			if tc.reason != "" {
				if reasonOf(err) != tc.reason {
					t.Errorf("got %v, want %s", err, tc.reason)
				}
			} else if err != nil || r.GetSignature().GetName() != retried.GetSignature().GetName() {
				t.Errorf("%s, %v; the retried call got %s", r.GetSignature().GetName(), err, retried.GetSignature().GetName())
			}
			seals := 0
			for _, e := range s.find(before, chain.SignatureCreated) {
				if e.Actor.Kind == chain.Service {
					seals++
				}
			}
			if seals != tc.seals {
				t.Errorf("%d seals, want %d", seals, tc.seals)
			}
		})
	}
}
