package server_test

import (
	"context"
	"encoding/json/v2"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/api/verify"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/servertest"
)

// retired is a key of ada's that a newer one has replaced, with a manifest that it has signed.
func (s *keyScene) retired(version string) (*signetv1.Key, []byte) {
	s.t.Helper()
	file := s.approved(version)
	old := s.adaKey()
	s.rotate(old)
	return s.get(old.GetName()), file
}

// TestDestruction: two administrators, an intent, the HSM, an outcome; and everything that the key has signed goes on verifying.
func TestDestruction(t *testing.T) {
	s := startKeys(t)
	old, file := s.retired("v1.0.0")
	from := s.size()
	asked, err := s.request(old.GetName())
	if err != nil {
		t.Fatal(err)
	}
	d := asked.GetDestruction()
	if asked.GetState() != signetv1.KeyState_KEY_STATE_RETIRED || d.GetReason() != "out of use" || d.GetConfirmer() != "" || d.GetConfirmTime() != nil ||
		d.GetExpireTime().AsTime().Sub(d.GetRequestTime().AsTime()) != 24*time.Hour {
		t.Fatalf("request: %v", asked)
	}
	t.Run("one person is not enough", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		_, err := s.keys.ConfirmKeyDestruction(s.admin, &signetv1.ConfirmKeyDestructionRequest{
			Name: old.GetName(), Destruction: d.GetId(), Reason: "I have checked it", Password: proofOf(servertest.Administrator),
		})
		wantError(t, err, codes.PermissionDenied, "SECOND_PERSON_NEEDED")
		_, err = s.request(old.GetName())
		wantError(t, err, codes.FailedPrecondition, "DESTRUCTION_PENDING")
		_, err = s.confirm(old.GetName(), "dst_another")
		wantError(t, err, codes.FailedPrecondition, "DESTRUCTION_NOT_REQUESTED")
		if !s.inHSM(old) {
			t.Fatal("the key is gone")
		}
		if len(s.find(from, chain.AccessDenied)) == 0 {
			t.Error("the refusal is not recorded")
		}
	})
	done, err := s.confirm(old.GetName(), d.GetId())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the second one destroys it", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		if done.GetState() != signetv1.KeyState_KEY_STATE_DESTROYED || done.GetDestruction().GetConfirmer() == d.GetRequester() ||
			done.GetDestruction().GetConfirmReason() != "I have checked it" || done.GetDestruction().GetDestroyTime() == nil {
			t.Errorf("%v", done)
		}
		if s.inHSM(old) {
			t.Error("the HSM still has the private key")
		}
	})
	t.Run("each step is an entry, in order", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		var got []chain.Entry
		for _, e := range s.entries(from) {
			switch e.Type {
			case chain.KeyDestructionRequested, chain.KeyDestructionConfirmed, chain.KeyDestroyed:
				got = append(got, e)
			}
		}
		if len(got) != 3 || got[0].Type != chain.KeyDestructionRequested || got[1].Type != chain.KeyDestructionConfirmed || got[2].Type != chain.KeyDestroyed ||
			got[0].Actor.ID == got[1].Actor.ID || got[0].Actor.Kind != chain.Person || got[1].Actor.Kind != chain.Person || got[2].Actor.Kind != chain.System {
			t.Fatalf("entries %v", got)
		}
		var body map[string]any
		if err := json.Unmarshal(got[1].Body, &body); err != nil || body["from"] != "retired" || body["to"] != "destroying" || body["reason"] != "I have checked it" ||
			body["requester"] != got[0].Actor.ID {
			t.Errorf("confirmed: %v, %v", body, err)
		}
	})
	t.Run("public key, certificate and attributes stay, and what it signed verifies", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		s.restart()
		k := s.get(old.GetName())
		if string(k.GetPublicKey()) != string(old.GetPublicKey()) || string(k.GetCertificate()) != string(old.GetCertificate()) || len(k.GetAttributes()) == 0 {
			t.Errorf("%v", k)
		}
		s.wantVerdict(file, verify.OK)
		s.approved("v1.0.1")
	})
	t.Run("it stays destroyed", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		for what, err := range map[string]error{"enable": s.enable(old.GetName()), "disable": s.disable(old.GetName())} {
			t.Run(what, func(t *testing.T) { wantError(t, err, codes.FailedPrecondition, "KEY_STATE") })
		}
		_, err := s.request(old.GetName())
		wantError(t, err, codes.FailedPrecondition, "KEY_STATE")
		from := s.size()
		again, err := s.confirm(old.GetName(), d.GetId())
		if err != nil || again.GetState() != signetv1.KeyState_KEY_STATE_DESTROYED || len(s.find(from, chain.KeyDestroyed)) != 0 {
			t.Errorf("confirmed again: %v, %v", again, err)
		}
	})
}

// TestWhatIsNotDestroyed: keys in use, requests that lapsed, were withdrawn, or whose requester lost the right.
func TestWhatIsNotDestroyed(t *testing.T) {
	s := startKeys(t)
	t.Run("keys in use", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		if err := s.disable(s.active(signetv1.KeyRole_KEY_ROLE_SIGNER, s.bobID).GetName()); err != nil {
			t.Fatal(err)
		}
		list, err := s.keys.ListKeys(s.admin, &signetv1.ListKeysRequest{})
		if err != nil || len(list.GetKeys()) != 9 {
			t.Fatalf("%d keys, %v", len(list.GetKeys()), err)
		}
		for _, k := range list.GetKeys() {
			_, err := s.request(k.GetName())
			t.Run(k.GetLabel(), func(t *testing.T) { wantError(t, err, codes.FailedPrecondition, "KEY_IN_USE") })
		}
		if err := s.enable(s.keyOf(s.bobID).GetName()); err != nil {
			t.Fatal(err)
		}
	})
	old, _ := s.retired("v1.0.0")
	ask := func() string {
		t.Helper()
		k, err := s.request(old.GetName())
		if err != nil {
			t.Fatal(err)
		}
		return k.GetDestruction().GetId()
	}
	t.Run("withdrawn", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		id := ask()
		_, err := s.keys.WithdrawKeyDestruction(s.eve, &signetv1.WithdrawKeyDestructionRequest{Name: old.GetName(), Reason: "a mistake", Password: proofOf("eve")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.confirm(old.GetName(), id)
		wantError(t, err, codes.FailedPrecondition, "DESTRUCTION_NOT_REQUESTED")
		_, err = s.keys.WithdrawKeyDestruction(s.eve, &signetv1.WithdrawKeyDestructionRequest{Name: old.GetName(), Reason: "again", Password: proofOf("eve")})
		wantError(t, err, codes.FailedPrecondition, "DESTRUCTION_NOT_REQUESTED")
	})
	t.Run("lapsed", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		id := ask()
		s.Clock.Advance(24*time.Hour + time.Minute)
		s.restart() // the clock has moved, and the sessions have ended
		_, err := s.confirm(old.GetName(), id)
		wantError(t, err, codes.FailedPrecondition, "DESTRUCTION_NOT_REQUESTED")
		if s.get(old.GetName()).GetDestruction() != nil {
			t.Error("it still shows the request")
		}
	})
	t.Run("asked for by somebody who is no administrator any more", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		s.Enroll("mallory", "Mallory Left", signetv1.Role_ROLE_ADMINISTRATOR)
		k, err := s.keys.RequestKeyDestruction(s.Login("mallory"), &signetv1.RequestKeyDestructionRequest{Name: old.GetName(), Reason: "x", Password: proofOf("mallory")})
		if err != nil {
			t.Fatal(err)
		}
		d := k.GetKey().GetDestruction()
		if _, err := s.signers.SuspendSigner(s.admin, &signetv1.SuspendSignerRequest{Name: d.GetRequester(), Reason: "under investigation"}); err != nil {
			t.Fatal(err)
		}
		_, err = s.confirm(old.GetName(), d.GetId())
		wantError(t, err, codes.FailedPrecondition, "DESTRUCTION_NOT_REQUESTED")
	})
	if !s.inHSM(old) {
		t.Fatal("the key is gone")
	}
	t.Run("the key of a signer who was revoked can be", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		k := s.keyOf(s.bobID)
		if _, err := s.signers.RevokeSigner(s.admin, &signetv1.RevokeSignerRequest{Name: s.bobID, Reason: "left the company"}); err != nil {
			t.Fatal(err)
		}
		if state := s.get(k.GetName()).GetState(); state != signetv1.KeyState_KEY_STATE_REVOKED {
			t.Errorf("state %s", state)
		}
		asked, err := s.request(k.GetName())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.confirm(k.GetName(), asked.GetDestruction().GetId()); err != nil || s.inHSM(k) {
			t.Fatalf("%v, in the HSM: %v", err, s.inHSM(k))
		}
	})
}

// keyOf is the newest key of a signer.
func (s *keyScene) keyOf(signer string) *signetv1.Key {
	s.t.Helper()
	r, err := s.keys.ListKeys(s.admin, &signetv1.ListKeysRequest{Signer: signer})
	if err != nil || len(r.GetKeys()) == 0 {
		s.t.Fatalf("keys of %s: %v, %v", signer, r, err)
	}
	return r.GetKeys()[len(r.GetKeys())-1]
}

// TestDestructionIsMadeUp: whatever happens between the second signature and the outcome, the destruction is carried out once, and
// the ledger says so.
func TestDestructionIsMadeUp(t *testing.T) {
	lost := errors.New("the connection to the HSM broke")
	for name, fault := range map[string]servertest.DestroyFault{
		"it did not happen": func(keystore.ID, func() error) error { return errors.Join(keystore.ErrUnavailable, lost) },
		"it happened, and a failure was reported": func(_ keystore.ID, destroy func() error) error {
			return errors.Join(keystore.ErrUnavailable, lost, destroy())
		},
		"it did not happen, and success was reported": func(keystore.ID, func() error) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Attr("requirement", "B-31")
			s := startKeys(t)
			old, file := s.retired("v1.0.0")
			asked, err := s.request(old.GetName())
			if err != nil {
				t.Fatal(err)
			}
			from := s.size()
			s.SetDestroyFault(fault)
			_, err = s.confirm(old.GetName(), asked.GetDestruction().GetId())
			wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
			if state := s.get(old.GetName()).GetState(); state != signetv1.KeyState_KEY_STATE_DESTROYING {
				t.Errorf("state %s", state)
			}
			if len(s.find(from, chain.KeyDestructionConfirmed)) != 1 || len(s.find(from, chain.KeyDestroyed)) != 0 {
				t.Error("the ledger does not have the intent alone")
			}
			s.Stop()
			s.SetDestroyFault(nil)
			opened, err := server.Open(t.Context(), s.Options()) // opened, and not serving: the health loop makes up nothing
			if err != nil {
				t.Fatal(err)
			}
			if s.inHSM(old) {
				t.Error("it was not made up at the start")
			}
			if err := opened.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.restart()
			if k := s.get(old.GetName()); k.GetState() != signetv1.KeyState_KEY_STATE_DESTROYED || k.GetDestruction().GetDestroyTime() == nil {
				t.Errorf("after the start: %v", k)
			}
			if s.inHSM(old) || len(s.find(from, chain.KeyDestroyed)) != 1 {
				t.Error("it was not made up")
			}
			s.restart()
			if len(s.find(from, chain.KeyDestroyed)) != 1 || len(s.find(from, chain.KeyDestructionConfirmed)) != 1 {
				t.Error("it was made up twice")
			}
			s.wantVerdict(file, verify.OK)
		})
	}
	t.Run("while the server runs, when the HSM is back", func(t *testing.T) {
		t.Attr("requirement", "B-31")
		s := startKeys(t)
		old, _ := s.retired("v1.0.0")
		asked, err := s.request(old.GetName())
		if err != nil {
			t.Fatal(err)
		}
		s.SetDestroyFault(func(keystore.ID, func() error) error { return keystore.ErrUnavailable })
		_, err = s.confirm(old.GetName(), asked.GetDestruction().GetId())
		wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
		s.SetDestroyFault(nil)
		done, err := s.confirm(old.GetName(), asked.GetDestruction().GetId()) // or the next look at the health, whichever comes first
		if err != nil || done.GetState() != signetv1.KeyState_KEY_STATE_DESTROYED || s.inHSM(old) {
			t.Fatalf("%v, %v", done, err)
		}
	})
}

// TestDestructionOnAnotherToken: a token without the key is not a token whose key was destroyed. The CA's is plugged in for it, and somebody
// takes the wrong one out of the safe.
func TestDestructionOnAnotherToken(t *testing.T) {
	t.Attr("requirement", "B-31")
	root := keystoretest.NewFake()
	var plugged atomic.Pointer[keystoretest.Fake]
	plugged.Store(root)
	lazy, err := keystore.Lazy(keystore.LazyConfig{Name: "the token \"root\"", Open: func(context.Context) (keystore.Token, error) {
		return pluggedIn{plugged.Load()}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	token, err := keystore.Route(keystore.Rule{Prefixes: []string{"ca-"}, Token: lazy}, keystore.Rule{Prefixes: []string{""}, Token: keystoretest.NewFake()})
	if err != nil {
		t.Fatal(err)
	}
	s := &keyScene{scene: people(t, servertest.StartOn(t, token))}
	s.Enroll("eve", "Eve Security", signetv1.Role_ROLE_ADMINISTRATOR)
	s.reconnect()
	old := s.active(signetv1.KeyRole_KEY_ROLE_CA, "")
	s.rotate(old)
	asked, err := s.request(old.GetName())
	if err != nil {
		t.Fatal(err)
	}
	plug := func(f *keystoretest.Fake) {
		plugged.Store(f)
		if err := lazy.(keystore.Resetter).Reset(t.Context(), lazy.Epoch(), errors.New("unplugged")); err != nil {
			t.Fatal(err)
		}
	}
	plug(keystoretest.NewFake())
	from := s.size()
	_, err = s.confirm(old.GetName(), asked.GetDestruction().GetId())
	wantError(t, err, codes.Unavailable, "HSM_UNAVAILABLE")
	if len(s.find(from, chain.KeyDestroyed)) != 0 {
		t.Error("the ledger says that the key is destroyed")
	}
	s.restart() // nor does the service wait for the right one to start
	if _, err := root.Find(t.Context(), keystore.ID(old.GetLabel())); err != nil {
		t.Fatal(err)
	}
	renamed := root.Clone() // the right token otherwise, with another key under the label
	if err := renamed.Destroy(t.Context(), keystore.ID(old.GetLabel())); err != nil {
		t.Fatal(err)
	}
	if _, err := renamed.Generate(t.Context(), keystore.Spec{ID: keystore.ID(old.GetLabel()), Algorithm: keystore.ECDSAP384}); err != nil {
		t.Fatal(err)
	}
	plug(renamed)
	_, err = s.confirm(old.GetName(), asked.GetDestruction().GetId())
	wantError(t, err, codes.FailedPrecondition, "KEY_POLICY")
	if _, err := renamed.Find(t.Context(), keystore.ID(old.GetLabel())); err != nil || len(s.find(from, chain.KeyDestroyed)) != 0 {
		t.Errorf("another key under the label was destroyed: %v", err)
	}
	plug(root)
	done, err := s.confirm(old.GetName(), asked.GetDestruction().GetId())
	if err != nil || done.GetState() != signetv1.KeyState_KEY_STATE_DESTROYED {
		t.Fatalf("%v, %v", done, err)
	}
	if _, err := root.Find(t.Context(), keystore.ID(old.GetLabel())); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("the key is still there: %v", err)
	}
}

// pluggedIn is a device that works again when it is opened again.
type pluggedIn struct{ *keystoretest.Fake }

func (pluggedIn) Close() error { return nil }
