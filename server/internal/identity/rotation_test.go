package identity

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// rotate rotates a signer's key as the server does.
func (f *fixture) rotate(caller Caller, id string) error {
	f.t.Helper()
	was, err := f.d.Get(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	r, err := f.d.BeginRotation(f.t.Context(), caller, id, was.KeyID, "signer", NewLabel("signer-"+id))
	if err != nil {
		return err
	}
	return f.commit(func(tx *ledger.Tx) error { return f.d.EmitRotation(tx, caller, r) })
}

// commit runs a command and waits for its checkpoint.
func (f *fixture) commit(command ledger.Command) error {
	f.t.Helper()
	result, err := f.ledger.Do(f.t.Context(), command)
	if err == nil {
		f.d.Settle(f.t.Context(), result)
	}
	return err
}

// keyEntry appends an entry about a key.
func (f *fixture) keyEntry(typ chain.Type, keyID, to string) {
	f.t.Helper()
	err := f.commit(func(tx *ledger.Tx) error {
		tx.Emit(ledger.Event{Type: typ, Actor: System("test").Actor(), Body: map[string]string{"keyId": keyID, "to": to}})
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestRotationChangesTheKeyAlone: password, sessions, locks and pending invitations are what they were.
func TestRotationChangesTheKeyAlone(t *testing.T) {
	t.Attr("requirement", "B-31")
	f := newFixture(t)
	admin, session, ada := f.ada()
	ctx := t.Context()
	before := must(f.identity(ada.ID))
	_, code, _, err := f.d.Renew(ctx, admin, ada.ID, Renewal{Reason: "certificate lapses soon", Proofing: f.invitation("", "").Proofing})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // failures are counted, and go on being counted
		if err := f.d.CheckPassword(ctx, session, "ada", wrongPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	if err := f.rotate(admin, ada.ID); err != nil {
		t.Fatal(err)
	}
	after := must(f.identity(ada.ID))
	if after.KeyID == before.KeyID || after.Key == before.Key || after.Enrolment == before.Enrolment || after.Name != before.Name || after.Title != before.Title ||
		after.Zone != before.Zone || fmt.Sprint(after.Roles) != fmt.Sprint(before.Roles) || after.Algorithm != before.Algorithm {
		t.Errorf("before %+v, after %+v", before, after)
	}
	message := []byte("a statement")
	if _, err := f.keys.Sign(ctx, after.Key, after.Public, message); err != nil {
		t.Error(err)
	}
	for range f.d.cfg.LockAfter - 2 {
		f.clock.Add(5 * time.Second)
		if err := f.d.CheckPassword(ctx, session, "ada", wrongPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	if err := f.d.CheckPassword(ctx, session, "ada", adaPass, "prp_x"); !errors.Is(err, ErrLocked) {
		t.Errorf("the failures before the rotation are forgotten: %v", err)
	}
	if err := f.rotate(admin, ada.ID); err != nil {
		t.Fatal(err)
	}
	if err := f.d.CheckPassword(ctx, session, "ada", adaPass, "prp_x"); !errors.Is(err, ErrLocked) {
		t.Errorf("a rotation ends the lock: %v", err)
	}
	f.clock.Add(f.d.cfg.CodeLifetime / 2)
	if _, err := f.d.Redeem(ctx, desk, code, "ada", secondPass, true); err != nil {
		t.Errorf("the invitation that was pending: %v", err)
	}
	if last := must(f.identity(ada.ID)); last.KeyID == after.KeyID {
		t.Error("the renewal made no key")
	}
	f.restart()
	if _, err := f.identity(ada.ID); err != nil {
		t.Error(err)
	}
}

// TestWhoRotates: an administrator, for somebody else who is active, and from what they have seen.
func TestWhoRotates(t *testing.T) {
	t.Attr("requirement", "B-31")
	f := newFixture(t)
	admin, session, ada := f.ada()
	ctx := t.Context()
	for who, caller := range map[string]Caller{"a signer": session, "nobody": {ID: "sgn_nobody", Kind: chain.Person}} {
		if err := f.rotate(caller, ada.ID); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v", who, err)
		}
	}
	both := f.enrol(admin, "grete", "Grete Hermann", secondPass, RoleAdministrator, RoleSigner)
	if err := f.rotate(f.login("grete", secondPass), both.ID); !errors.Is(err, ErrForbidden) {
		t.Errorf("their own: %v", err)
	}
	if _, err := f.d.BeginRotation(ctx, admin, ada.ID, both.KeyID, "signer", NewLabel("signer")); !errors.Is(err, ErrState) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := f.d.BeginRotation(ctx, admin, "sgn_nobody", ada.KeyID, "signer", NewLabel("signer")); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	for what, change := range map[string]func(){
		"rotated": func() {
			if err := f.rotate(admin, ada.ID); err != nil {
				t.Fatal(err)
			}
		},
		"suspended": func() { must(f.d.Suspend(ctx, admin, ada.ID, "leave")) },
	} {
		now := must(f.d.Get(ctx, ada.ID))
		if now.State == StateSuspended {
			f.confirm(f.login("grete", secondPass), must(f.d.Reinstate(ctx, admin, ada.ID, "back")).Proposal, "grete", secondPass)
		}
		r, err := f.d.BeginRotation(ctx, admin, ada.ID, now.KeyID, "signer", NewLabel("signer"))
		if err != nil {
			t.Fatal(err)
		}
		change()
		if err := f.commit(func(tx *ledger.Tx) error { return f.d.EmitRotation(tx, admin, r) }); !errors.Is(err, ErrState) {
			t.Errorf("%s meanwhile: %v", what, err)
		}
	}
}

// TestKeysThatMayNotSign: disabled, condemned and destroyed keys.
func TestKeysThatMayNotSign(t *testing.T) {
	t.Attr("requirement", "B-36")
	f := newFixture(t)
	_, _, ada := f.ada()
	want := func(what string, want error) {
		t.Helper()
		if _, err := f.identity(ada.ID); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", what, err, want)
		}
	}
	f.keyEntry(chain.KeyDisabled, ada.KeyID, KeyDisabled)
	want("disabled", ErrKeyDisabled)
	f.restart()
	want("disabled, after a restart", ErrKeyDisabled)
	f.keyEntry(chain.KeyEnabled, ada.KeyID, KeyActive)
	want("enabled", nil)
	f.keyEntry(chain.KeyDestructionConfirmed, ada.KeyID, KeyDestroying)
	want("about to be destroyed", ErrKeyDestroyed)
	f.keyEntry(chain.KeyDestroyed, ada.KeyID, KeyDestroyed)
	want("destroyed", ErrKeyDestroyed)
}

// TestADisabledCACertifiesNothing, and a code that was given out still works once it is enabled again.
func TestADisabledCACertifiesNothing(t *testing.T) {
	t.Attr("requirement", "B-31")
	f := newFixture(t)
	admin, _, ada := f.ada()
	ctx := t.Context()
	_, code, _, err := f.d.InvitePerson(ctx, admin, f.invitation("lise", "Lise Meitner", RoleSigner), "")
	if err != nil {
		t.Fatal(err)
	}
	made := f.keys.made.Load()
	f.keyEntry(chain.KeyDisabled, f.caKey.KeyID, KeyDisabled)
	if _, err := f.d.Redeem(ctx, desk, code, "lise", secondPass, true); !errors.Is(err, ErrKeyDisabled) {
		t.Errorf("redeem: %v", err)
	}
	if _, _, err := f.d.EnrollService(ctx, admin, ServiceEnrolment{Name: "ci", Client: client(t, "ci", p256(t), start.Add(-time.Hour), start.Add(time.Hour))}, ""); !errors.Is(err, ErrKeyDisabled) {
		t.Errorf("enrol a service: %v", err)
	}
	if err := f.rotate(admin, ada.ID); !errors.Is(err, ErrKeyDisabled) {
		t.Errorf("rotate: %v", err)
	}
	if f.keys.made.Load() != made {
		t.Error("a key was made all the same")
	}
	f.keyEntry(chain.KeyEnabled, f.caKey.KeyID, KeyActive)
	if _, err := f.d.Redeem(ctx, desk, code, "lise", secondPass, true); err != nil {
		t.Error(err)
	}
}

// destroyingKeys counts what is destroyed.
type destroyingKeys struct {
	*failingKeys
	destroyed int
}

func (k *destroyingKeys) Destroy(ctx context.Context, id keystore.ID) error {
	k.destroyed++
	return k.Store.Destroy(ctx, id)
}

// TestAKeyIsKeptWhereTheOutcomeIsUnknown: if the ledger does not know whether an entry names the key, it must be there after the next start.
func TestAKeyIsKeptWhereTheOutcomeIsUnknown(t *testing.T) {
	t.Attr("requirement", "B-31")
	f := newFixture(t)
	keys := &destroyingKeys{failingKeys: f.keys}
	f.d.keys = keys
	key, err := keys.Generate(t.Context(), specOf("signer-x-1"))
	if err != nil {
		t.Fatal(err)
	}
	f.d.discardAfter(t.Context(), &certified{key: key}, fmt.Errorf("write: %w", ledger.ErrUnavailable))
	if keys.destroyed != 0 {
		t.Error("the key was destroyed")
	}
	f.d.discardAfter(t.Context(), &certified{key: key}, ErrCodeInvalid)
	if keys.destroyed != 1 {
		t.Error("a key that no entry names stays")
	}
}
