package identity

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/server/internal/ledger"
)

// TestSigningTable: every state and every event, one by one.
func TestSigningTable(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)(i)")
	t.Attr("requirement", "11.200(a)(1)(ii)")
	states := map[signingState]string{signingApart: "apart", signingRunning: "running", signingEnded: "ended"}
	events := map[signingEvent]string{
		signedWithAll: "signed with all", signedWithPassword: "signed with password", proofFailed: "proof failed", idledTooLong: "idled too long",
		lastedTooLong: "lasted too long", credentialChanged: "credential changed", loggedOut: "logged out", restarted: "restarted",
		addressChanged: "address changed", deviceChanged: "device changed",
	}
	if len(states) != int(signingStates) || len(events) != int(signingEvents) {
		t.Fatal("a state or an event is not tested")
	}
	want := func(s signingState, e signingEvent) signingState {
		switch {
		case s == signingEnded, e == loggedOut, e == restarted, e == addressChanged, e == deviceChanged:
			return signingEnded // and what has ended stays so
		case e == signedWithAll:
			return signingRunning // only this begins a period
		case s == signingRunning && e == signedWithPassword:
			return signingRunning
		}
		return signingApart
	}
	for s, state := range states {
		for e, event := range events {
			t.Run(fmt.Sprintf("%s, %s", state, event), func(t *testing.T) {
				p := period{state: s, began: start, last: start, credentials: "x"}
				p.on(e, start.Add(time.Minute))
				if p.state != want(s, e) {
					t.Errorf("%s, want %s", states[p.state], states[want(s, e)])
				}
				if p.state != signingRunning && (!p.began.IsZero() || p.credentials != "") {
					t.Error("it remembers a period that is over")
				}
			})
		}
	}
}

// TestContinuousSigning: what begins, continues and breaks a period, on a real directory.
func TestContinuousSigning(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)(i)")
	t.Attr("requirement", "11.200(a)(1)(ii)")
	all := Proof{UserName: "ada", Password: adaPass}
	part := Proof{Password: adaPass}
	begin := func(t *testing.T, on bool) (*fixture, Caller, Secret) {
		f := prepareFixture(t)
		f.config.Continuous = ContinuousSigning{On: on, Idle: 5 * time.Minute, Longest: 12 * time.Minute}
		f.ledger = must(ledger.Open(t.Context(), f.options))
		t.Cleanup(func() { f.ledger.Close() })
		f.open()
		f.ada()
		ada, token := f.loginToken("ada", adaPass)
		return f, ada, token
	}
	sign := func(t *testing.T, f *fixture, ada Caller, p Proof) error {
		t.Helper()
		proven, err := f.sign(ada, p, manifest.AuthorizationPassword)
		if err == nil {
			want := []string{"user name", "password"}
			if p.UserName == "" {
				want = want[1:]
			}
			if !slices.Equal(proven.Components, want) || proven.Authorization.Kind != manifest.AuthorizationPassword {
				t.Errorf("%+v", proven)
			}
			f.d.Signed(ada, proven)
		}
		return err
	}
	running := func(t *testing.T) (*fixture, Caller, Secret) {
		t.Helper()
		f, ada, token := begin(t, true)
		if err := sign(t, f, ada, all); err != nil {
			t.Fatal(err)
		}
		if err := sign(t, f, ada, part); err != nil {
			t.Fatal(err)
		}
		return f, ada, token
	}
	// broken: the password alone does not sign; all components do, and begin anew.
	broken := func(t *testing.T, f *fixture, ada Caller) {
		t.Helper()
		if err := sign(t, f, ada, part); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("the password alone: %v", err)
		}
		if err := sign(t, f, ada, all); err != nil {
			t.Errorf("all components: %v", err)
		}
		if err := sign(t, f, ada, part); err != nil {
			t.Errorf("after a new beginning: %v", err)
		}
	}
	t.Run("off by default", func(t *testing.T) {
		f, ada, _ := begin(t, false)
		for range 2 {
			if err := sign(t, f, ada, all); err != nil {
				t.Fatal(err)
			}
			if err := sign(t, f, ada, part); !errors.Is(err, ErrCredentialsMissing) {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("the first takes all", func(t *testing.T) {
		f, ada, _ := begin(t, true)
		broken(t, f, ada)
	})
	t.Run("a proof that signs nothing begins nothing", func(t *testing.T) {
		f, ada, _ := begin(t, true)
		if _, err := f.sign(ada, all, manifest.AuthorizationPassword); err != nil {
			t.Fatal(err)
		}
		broken(t, f, ada)
	})
	t.Run("nothing without the password", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := sign(t, f, ada, Proof{}); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("%v", err)
		}
		if err := sign(t, f, ada, Proof{UserName: "ada"}); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("%v", err)
		}
	})
	t.Run("somebody else's name", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := sign(t, f, ada, Proof{UserName: "root", Password: adaPass}); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%v", err)
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := sign(t, f, ada, Proof{Password: wrongPass}); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("%v", err)
		}
		broken(t, f, ada)
	})
	t.Run("idle", func(t *testing.T) {
		f, ada, _ := running(t)
		f.clock.Add(5*time.Minute - time.Second)
		if err := sign(t, f, ada, part); err != nil {
			t.Errorf("a second before: %v", err)
		}
		f.clock.Add(5 * time.Minute)
		broken(t, f, ada)
	})
	t.Run("too long", func(t *testing.T) {
		f, ada, _ := running(t)
		for range 2 {
			f.clock.Add(4 * time.Minute)
			if err := sign(t, f, ada, part); err != nil {
				t.Errorf("within: %v", err)
			}
		}
		f.clock.Add(4 * time.Minute)
		broken(t, f, ada)
	})
	t.Run("a clock that was set back", func(t *testing.T) {
		p := period{state: signingRunning, began: start, last: start, credentials: "x"}
		if p.look(ContinuousSigning{On: true, Idle: time.Minute, Longest: time.Hour}, "x", start.Add(-time.Second)) != signingApart {
			t.Error("it goes on")
		}
	})
	t.Run("log out", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := f.d.CloseSession(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
		broken(t, f, f.login("ada", adaPass))
		if err := sign(t, f, ada, part); err == nil {
			t.Error("the old session signs")
		}
	})
	t.Run("ended by an administrator", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := f.d.EndSession(t.Context(), f.login("root", adminPass), ada.ID, ada.Session, "looked unattended"); err != nil {
			t.Fatal(err)
		}
		if err := sign(t, f, ada, part); err == nil {
			t.Error("the session signs")
		}
		broken(t, f, f.login("ada", adaPass))
	})
	t.Run("another session", func(t *testing.T) {
		f, _, _ := running(t)
		broken(t, f, f.login("ada", adaPass))
	})
	t.Run("restart", func(t *testing.T) {
		f, ada, _ := running(t)
		f.restart()
		if err := sign(t, f, ada, part); err == nil {
			t.Error("it has outlived the process")
		}
		broken(t, f, f.login("ada", adaPass))
	})
	for what, from := range map[string]Source{
		"another address": {Address: other.Address, Device: desk.Device}, "another device": {Address: desk.Address, Device: "other"},
	} {
		t.Run(what, func(t *testing.T) {
			f, ada, token := running(t)
			if _, err := f.d.Authenticate(t.Context(), token, nil, from); !errors.Is(err, ErrSession) {
				t.Fatalf("%v", err)
			}
			if err := sign(t, f, ada, part); err == nil {
				t.Error("it signs")
			}
			broken(t, f, f.login("ada", adaPass))
		})
	}
	t.Run("another password", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := f.d.ChangePassword(t.Context(), ada, all, secondPass); err != nil {
			t.Fatal(err)
		}
		if err := sign(t, f, ada, Proof{Password: secondPass}); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("%v", err)
		}
	})
	t.Run("one-time passwords", func(t *testing.T) {
		f, ada, _ := running(t)
		app := f.totp(ada, "ada", adaPass)
		if err := sign(t, f, ada, part); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("set up meanwhile: %v", err)
		}
		proven, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass, TOTP: app.next()}, manifest.AuthorizationPassword)
		if err != nil {
			t.Fatal(err)
		}
		f.d.Signed(ada, proven)
		if err := sign(t, f, ada, part); err != nil {
			t.Errorf("the next one, with the password alone: %v", err)
		}
		if _, err := f.sign(ada, part, manifest.AuthorizationPasswordTOTP); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("what the statement demands is left out: %v", err)
		}
		var demanded manifest.AuthorizationKind
		err = f.ledger.View(func(r *ledger.Read) (err error) {
			demanded, err = f.d.Demands(r, ada, manifest.AuthorizationPassword, "")
			return err
		})
		if err != nil || demanded != manifest.AuthorizationPassword {
			t.Errorf("a statement in the period demands %q, %v", demanded, err)
		}
	})
	t.Run("suspended", func(t *testing.T) {
		f, ada, _ := running(t)
		if _, err := f.d.Suspend(t.Context(), f.login("root", adminPass), ada.ID, "on leave"); err != nil {
			t.Fatal(err)
		}
		if err := sign(t, f, ada, part); !errors.Is(err, ErrSuspended) {
			t.Errorf("%v", err)
		}
	})
	t.Run("an act takes all components", func(t *testing.T) {
		f, ada, _ := running(t)
		if err := f.d.ProveAct(t.Context(), ada, part, PurposeKey, "k"); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("%v", err)
		}
	})
}

// TestContinuousSigningAndPasskeys: a passkey more or less is another credential.
func TestContinuousSigningAndPasskeys(t *testing.T) {
	t.Attr("requirement", "11.200(a)(1)(ii)")
	f := passkeyFixture(t)
	f.d.cfg.Continuous = ContinuousSigning{On: true, Idle: time.Hour, Longest: time.Hour}
	admins, devices := f.twoAdministrators()
	f.enrol(admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	ada := f.login("ada", adaPass)
	begin := func() {
		t.Helper()
		proven, err := f.sign(ada, Proof{UserName: "ada", Password: adaPass}, manifest.AuthorizationPassword)
		if err != nil {
			t.Fatal(err)
		}
		f.d.Signed(ada, proven)
		if _, err := f.sign(ada, Proof{Password: adaPass}, manifest.AuthorizationPassword); err != nil {
			t.Fatalf("in the period: %v", err)
		}
	}
	broken := func(what string) {
		t.Helper()
		if _, err := f.sign(ada, Proof{Password: adaPass}, manifest.AuthorizationPassword); !errors.Is(err, ErrCredentialsMissing) {
			t.Errorf("%s: %v", what, err)
		}
	}
	begin()
	_, p := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	for i := range admins {
		if _, err := f.vouch(admins[i], p, devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	broken("bound")
	begin()
	if _, err := f.d.RevokePasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, p.Signer, p.ID, "a new device"); err != nil {
		t.Fatal(err)
	}
	broken("revoked")
}
