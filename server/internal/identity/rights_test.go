package identity

import (
	"errors"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

func specOf(id keystore.ID) keystore.Spec {
	return keystore.Spec{ID: id, Algorithm: keystore.ECDSAP256}
}

// TestWhoMaySign: unenrolled, suspended, revoked, and expired signers are refused.
func TestWhoMaySign(t *testing.T) {
	t.Attr("requirement", "B-36")
	f := newFixture(t)
	admin, _, ada := f.ada()
	ctx := t.Context()
	refused := func(t *testing.T, id string, want error) {
		t.Helper()
		if _, err := f.identity(id); !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		_, err := f.ledger.Do(ctx, func(tx *ledger.Tx) error { // inside of a command too
			_, err := f.d.SigningIdentity(tx, id)
			return err
		})
		if !errors.Is(err, want) {
			t.Errorf("in a command: error %v, want %v", err, want)
		}
	}
	t.Run("nobody", func(t *testing.T) { refused(t, "sgn_nobody", ErrNotFound) })
	t.Run("no id", func(t *testing.T) { refused(t, "", ErrNotFound) })
	t.Run("unenrolled", func(t *testing.T) {
		invited, _, _, err := f.d.InvitePerson(ctx, admin, f.invitation("lise", "Lise Meitner", RoleSigner), "")
		if err != nil {
			t.Fatal(err)
		}
		refused(t, invited.ID, ErrNoKey)
	})
	t.Run("suspended", func(t *testing.T) {
		must(f.d.Suspend(ctx, admin, ada.ID, "leave"))
		refused(t, ada.ID, ErrSuspended)
		must(f.d.Reinstate(ctx, admin, ada.ID, "back"))
		if _, err := f.identity(ada.ID); err != nil {
			t.Error(err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		f.clock.Add(signerLifetime)
		if _, err := f.identity(ada.ID); err != nil { // the last second
			t.Error(err)
		}
		f.clock.Add(time.Second)
		refused(t, ada.ID, ErrCertificateExpired)
	})
	t.Run("revoked", func(t *testing.T) {
		admin := f.login("root", adminPass)
		before := must(f.d.Get(ctx, ada.ID))
		must(f.d.Revoke(ctx, admin, ada.ID, "key seen by somebody else", CauseOther))
		refused(t, ada.ID, ErrRevoked)
		e := f.entries(f.ledger.Size() - 1)[0]
		body := must(manifest.ParseSignerRevoked(e.Body))
		if e.Type != chain.SignerRevoked || body.ID != ada.ID || body.KeyID != before.KeyID || body.By != admin.ID || body.Reason != "key seen by somebody else" {
			t.Errorf("%s %+v", e.Type, body)
		}
		if _, _, _, err := f.d.OpenSession(ctx, desk, "ada", adaPass); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("log in: %v", err)
		}
		_ = f.ledger.View(func(r *ledger.Read) error {
			if r.GetPrivate(privateVerifiers, []byte(ada.ID)) != nil {
				t.Error("the verifier of a revoked signer is still there")
			}
			support, err := f.d.Support(r, ada.ID, before.Enrolment)
			if err != nil || len(support) != 2 || support[1] != f.ledger.Size()-2 { // the failed log-in came after it
				t.Errorf("support %v, %v", support, err)
			}
			return nil
		})
	})
}

// TestRename: another printed name is another enrolment, and the old one stays as it was.
func TestRename(t *testing.T) {
	t.Attr("requirement", "A-18")
	f := newFixture(t)
	admin, _, ada := f.ada()
	ctx := t.Context()
	before := must(f.identity(ada.ID))
	_, code, _, err := f.d.Renew(ctx, admin, ada.ID, Renewal{
		Reason: "married", Name: "Ada King", Proofing: Proofing{Method: "passport seen in person", Reference: "HR-2026-118"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if between := must(f.identity(ada.ID)); between.Name != "Ada Lovelace" || between.Enrolment != before.Enrolment {
		t.Errorf("before the code was redeemed: %+v", between)
	}
	_, token := f.loginToken("ada", adaPass)
	if _, err := f.d.Redeem(ctx, desk, code, "ada", secondPass, true); err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Authenticate(ctx, token, nil, desk); !errors.Is(err, ErrSession) {
		t.Errorf("a session from before the new credential: %v", err)
	}
	after := must(f.identity(ada.ID))
	if after.ID != before.ID || after.Name != "Ada King" || after.Title != before.Title || after.Enrolment == before.Enrolment || after.KeyID == before.KeyID {
		t.Errorf("after: %+v", after)
	}
	e := must(chain.ParseEntry(must(f.ledger.Entry(before.EnrolmentIndex))))
	if body := must(manifest.ParseSignerEnrolled(e.Body)); body.Name != "Ada Lovelace" || body.KeyID != before.KeyID {
		t.Errorf("the earlier enrolment says %+v", body)
	}
	if e := must(chain.ParseEntry(must(f.ledger.Entry(after.EnrolmentIndex)))); e.Type != chain.SignerRenewed {
		t.Errorf("the later entry is %s", e.Type)
	}
	_ = f.ledger.View(func(r *ledger.Read) error {
		for _, by := range []SigningIdentity{before, after} {
			if support, err := f.d.Support(r, ada.ID, by.Enrolment); err != nil || len(support) != 1 || support[0] != by.EnrolmentIndex {
				t.Errorf("support of %s: %v, %v", by.Name, support, err)
			}
		}
		return nil
	})
}

// TestAdministratorCannotSignForOthers: misuse takes two people.
func TestAdministratorCannotSignForOthers(t *testing.T) {
	f := newFixture(t)
	admin, ada, signer := f.ada()
	ctx := t.Context()
	proofing := Proofing{Method: "video call", Reference: "HR-2026-119"}
	t.Run("the code is dead once the person has set their password", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(2)")
		invited, code, _, err := f.d.InvitePerson(ctx, admin, f.invitation("lise", "Lise Meitner", RoleSigner), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.Redeem(ctx, desk, code, "lise", secondPass, true); err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.Redeem(ctx, other, code, "lise", wrongPass, true); !errors.Is(err, ErrCodeInvalid) {
			t.Errorf("redeemed again: %v", err)
		}
		if _, _, _, err := f.d.OpenSession(ctx, desk, "lise", wrongPass); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("log in: %v", err)
		}
		if _, err := f.identity(invited.ID); err != nil {
			t.Error(err)
		}
	})
	t.Run("an administrator's session and password sign for nobody else", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(2)")
		if err := f.d.CheckPassword(ctx, admin, "ada", adminPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("her name, own password: %v", err)
		}
		if err := f.d.CheckPassword(ctx, admin, "ada", adaPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("her name and password: %v", err)
		}
		if _, err := f.identity(admin.ID); !errors.Is(err, ErrNoKey) {
			t.Errorf("a key of the administrator's own: %v", err)
		}
	})
	t.Run("an administrator without the role signer has nothing to sign with", func(t *testing.T) {
		t.Attr("requirement", "X-11")
		if err := f.d.CheckPassword(ctx, admin, "root", adminPass, "prp_x"); err != nil {
			t.Errorf("own name and password: %v", err)
		}
		if _, err := f.identity(admin.ID); !errors.Is(err, ErrNoKey) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a reset needs a reason and a proofing, and leaves the old password until it is redeemed", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(2)")
		if _, _, _, err := f.d.Renew(ctx, admin, signer.ID, Renewal{Reason: "", Proofing: proofing}); !errors.Is(err, ErrInvalid) {
			t.Errorf("no reason: %v", err)
		}
		if _, _, _, err := f.d.Renew(ctx, admin, signer.ID, Renewal{Reason: "lost"}); !errors.Is(err, ErrInvalid) {
			t.Errorf("no proofing: %v", err)
		}
		if _, _, _, err := f.d.Renew(ctx, admin, signer.ID, Renewal{Reason: "lost", Proofing: proofing}); err != nil {
			t.Fatal(err)
		}
		e := f.entries(f.ledger.Size() - 1)[0]
		body := must(readBody[signerInvited](e))
		if e.Type != chain.SignerInvited || e.Actor.ID != admin.ID || body.ID != signer.ID || body.Reason != "lost" || body.Proofing.Reference != proofing.Reference {
			t.Errorf("%s by %s: %+v", e.Type, e.Actor.ID, body)
		}
		if err := f.d.CheckPassword(ctx, ada, "ada", adaPass, "prp_x"); err != nil {
			t.Errorf("the old password: %v", err)
		}
	})
	t.Run("a reset at once kills password and session", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(2)")
		_, token := f.loginToken("ada", adaPass)
		_, code, _, err := f.d.Renew(ctx, admin, signer.ID, Renewal{Reason: "password seen", Proofing: proofing, RevokeNow: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.Authenticate(ctx, token, nil, desk); !errors.Is(err, ErrSession) {
			t.Errorf("session: %v", err)
		}
		if _, _, _, err := f.d.OpenSession(ctx, desk, "ada", adaPass); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("log in: %v", err)
		}
		if err := f.d.CheckPassword(ctx, ada, "ada", adaPass, "prp_x"); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("sign: %v", err)
		}
		if _, err := f.d.Redeem(ctx, desk, code, "ada", secondPass, true); err != nil {
			t.Fatal(err)
		}
		if c := f.login("ada", secondPass); f.d.CheckPassword(ctx, c, "ada", secondPass, "prp_x") != nil {
			t.Error("the new password does not sign")
		}
	})
	t.Run("nobody renews themselves", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(2)")
		if _, _, _, err := f.d.Renew(ctx, admin, admin.ID, Renewal{Reason: "lost", Proofing: proofing}); !errors.Is(err, ErrForbidden) {
			t.Errorf("%v", err)
		}
	})
}

// TestOnlyAdministrators: who is none changes nobody.
func TestOnlyAdministrators(t *testing.T) {
	t.Attr("requirement", "11.10(d)")
	f := newFixture(t)
	admin, ada, signer := f.ada()
	ctx := t.Context()
	forged := ada
	forged.Roles = []Role{RoleAdministrator} // what the caller says of itself does not count
	for who, c := range map[string]Caller{"a signer": ada, "a signer who says otherwise": forged, "nobody": {}, "a person who is not there": {ID: "sgn_x", Kind: chain.Person}} {
		types := f.appended(func() {
			for what, try := range map[string]func() error{
				"invite": func() error {
					_, _, _, err := f.d.InvitePerson(ctx, c, f.invitation("eve", "Eve", RoleAdministrator), "")
					return err
				},
				"renew": func() error {
					_, _, _, err := f.d.Renew(ctx, c, admin.ID, Renewal{Reason: "r", Proofing: f.invitation("", "").Proofing})
					return err
				},
				"suspend":   func() error { _, err := f.d.Suspend(ctx, c, admin.ID, "r"); return err },
				"reinstate": func() error { _, err := f.d.Reinstate(ctx, c, admin.ID, "r"); return err },
				"revoke":    func() error { _, err := f.d.Revoke(ctx, c, admin.ID, "r", CauseOther); return err },
				"service": func() error {
					_, _, err := f.d.EnrollService(ctx, c, ServiceEnrolment{Name: "builder", Client: client(t, "b", p256(t), start, start.Add(time.Hour))}, "")
					return err
				},
			} {
				if err := try(); !errors.Is(err, ErrForbidden) {
					t.Errorf("%s, %s: %v", who, what, err)
				}
			}
		})
		if len(types) != 0 {
			t.Errorf("%s: entries %v", who, types)
		}
	}
	t.Run("a suspended administrator is none", func(t *testing.T) {
		second := f.enrol(admin, "root2", "Second Administrator", secondPass, RoleAdministrator)
		c := f.login("root2", secondPass)
		must(f.d.Suspend(ctx, admin, second.ID, "r"))
		if _, err := f.d.Suspend(ctx, c, signer.ID, "r"); !errors.Is(err, ErrForbidden) {
			t.Errorf("%v", err)
		}
	})
	t.Run("the last administrator stays", func(t *testing.T) {
		for what, try := range map[string]func() error{
			"suspend": func() error { _, err := f.d.Suspend(ctx, admin, admin.ID, "r"); return err },
			"revoke":  func() error { _, err := f.d.Revoke(ctx, admin, admin.ID, "r", CauseOther); return err },
		} {
			if err := try(); !errors.Is(err, ErrState) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestStates: what is not possible from a state is refused, and names the state.
func TestStates(t *testing.T) {
	f := newFixture(t)
	admin, _, ada := f.ada()
	ctx := t.Context()
	calls := map[string]func(id string) error{
		"suspend":   func(id string) error { _, err := f.d.Suspend(ctx, admin, id, "r"); return err },
		"reinstate": func(id string) error { _, err := f.d.Reinstate(ctx, admin, id, "r"); return err },
		"revoke":    func(id string) error { _, err := f.d.Revoke(ctx, admin, id, "r", CauseOther); return err },
		"renew": func(id string) error {
			_, _, _, err := f.d.Renew(ctx, admin, id, Renewal{Reason: "r", Proofing: f.invitation("", "").Proofing})
			return err
		},
	}
	for _, step := range []struct {
		state State
		not   []string
		then  string
	}{
		{StateActive, []string{"reinstate"}, "suspend"},
		{StateSuspended, []string{"suspend", "renew"}, "revoke"},
		{StateRevoked, []string{"suspend", "reinstate", "revoke", "renew"}, ""},
	} {
		if s := must(f.d.Get(ctx, ada.ID)); s.State != step.state {
			t.Fatalf("state %s, want %s", s.State, step.state)
		}
		for _, what := range step.not {
			if err := calls[what](ada.ID); !errors.Is(err, ErrState) {
				t.Errorf("%s of %s: %v", what, step.state, err)
			}
		}
		if step.then != "" {
			if err := calls[step.then](ada.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, call := range calls {
		if err := call("sgn_nobody"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of nobody: %v", what, err)
		}
	}
	if _, err := f.d.Suspend(ctx, admin, ada.ID, " \t"); !errors.Is(err, ErrInvalid) {
		t.Errorf("no reason: %v", err)
	}
	t.Run("a code cannot be redeemed while suspended", func(t *testing.T) {
		noor := f.enrol(admin, "noor", "Noor Khan", secondPass, RoleSigner)
		_, code, _, err := f.d.Renew(ctx, admin, noor.ID, Renewal{Reason: "r", Proofing: f.invitation("", "").Proofing})
		if err != nil {
			t.Fatal(err)
		}
		must(f.d.Suspend(ctx, admin, noor.ID, "r"))
		if _, err := f.d.Redeem(ctx, desk, code, "noor", adaPass, true); !errors.Is(err, ErrSuspended) {
			t.Errorf("%v", err)
		}
		if s := must(f.d.Get(ctx, noor.ID)); s.State != StateSuspended {
			t.Errorf("state %s", s.State)
		}
	})
}

// TestList: pages in the order of enrolment.
func TestList(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	want := []string{"root"}
	for _, name := range []string{"zoe", "ada", "mia", "ben"} {
		if _, _, _, err := f.d.InvitePerson(t.Context(), admin, f.invitation(name, "Person "+name, RoleAuditor), ""); err != nil {
			t.Fatal(err)
		}
		want = append(want, name)
	}
	var got []string
	for after := uint64(0); ; {
		page, err := f.d.List(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			got, after = append(got, s.UserName), s.Index
		}
		if len(page) < 2 {
			break
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if _, err := f.d.Lookup(t.Context(), "nobody"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if s, err := f.d.Lookup(t.Context(), "ZOE"); err != nil || s.UserName != "zoe" {
		t.Error(s, err)
	}
}
