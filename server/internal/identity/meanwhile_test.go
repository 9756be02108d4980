package identity

import (
	"context"
	"errors"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// while lets something happen once, while a password is computed over.
func (f *fixture) while(happen func() error) {
	f.t.Helper()
	f.d.hasher.computing = func() {
		f.d.hasher.computing = nil
		if err := happen(); err != nil {
			f.t.Errorf("meanwhile: %v", err)
		}
	}
}

// TestWhileThePasswordIsChecked: what is ended while a password is computed over is ended for who has given it.
func TestWhileThePasswordIsChecked(t *testing.T) {
	for _, row := range []string{"11.300(c)", "11.200(a)(1)"} {
		t.Attr("requirement", row)
	}
	for _, tc := range []struct {
		name   string
		happen func(f *fixture, admin, ada Caller) error
		login  error // what she hears who logs in
		act    error // and who proves herself for an act
	}{
		{"an administrator ends the password", func(f *fixture, admin, ada Caller) error {
			_, _, _, err := f.d.Renew(t.Context(), admin, ada.ID, Renewal{Reason: "it is lost", RevokeNow: true, Proofing: f.invitation("x", "x").Proofing})
			return err
		}, ErrBadCredentials, ErrBadCredentials},
		{"an administrator ends the session", func(f *fixture, admin, ada Caller) error {
			return f.d.EndSession(t.Context(), admin, ada.ID, ada.Session, "")
		}, nil, ErrSession},
		{"an administrator suspends her", func(f *fixture, admin, ada Caller) error {
			_, err := f.d.Suspend(t.Context(), admin, ada.ID, "on leave")
			return err
		}, ErrSuspended, ErrSession},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			admin, ada, _ := f.ada()
			happen := func() error { return tc.happen(f, admin, ada) }
			f.while(happen)
			if err := f.d.ProveAct(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, PurposeCredential, "x"); !errors.Is(err, tc.act) {
				t.Errorf("for an act: %v, want %v", err, tc.act)
			}
			if tc.login == nil {
				return
			}
			f = newFixture(t)
			admin, ada, _ = f.ada()
			f.while(happen)
			if _, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", adaPass); !errors.Is(err, tc.login) {
				t.Errorf("a log-in: %v, want %v", err, tc.login)
			}
		})
	}
}

// TestEndedSessionsDoNothing: whoever was let in, and whose session was ended before what they asked for took effect, gets nothing.
func TestEndedSessionsDoNothing(t *testing.T) {
	t.Attr("requirement", "11.300(c)")
	f := passkeyFixture(t)
	admins, devices := f.twoAdministrators()
	f.enrol(admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	ada := f.login("ada", adaPass)
	device, err := passkeytest.New(passkeytest.ES256, f.config.Passkeys.RPID, f.config.Passkeys.Origins[0])
	if err != nil {
		t.Fatal(err)
	}
	token, options, _, err := f.d.StartPasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, "my device")
	if err != nil {
		t.Fatal(err)
	}
	response, err := device.Register(options)
	if err != nil {
		t.Fatal(err)
	}
	end := func(c Caller) {
		t.Helper()
		if err := f.d.EndSession(t.Context(), admins[0], c.ID, c.Session, "stolen"); err != nil {
			t.Fatal(err)
		}
	}
	end(ada)
	if _, err := f.d.FinishPasskey(t.Context(), ada, token, response); !errors.Is(err, ErrSession) {
		t.Errorf("a passkey: %v", err)
	}
	ada = f.login("ada", adaPass)
	_, p := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	end(admins[1])
	if _, err := f.vouch(admins[1], p, devices[1]); !errors.Is(err, ErrSession) {
		t.Errorf("a voucher: %v", err)
	}
}

// TestConfirmedByAnEndedSession: the confirmation of a proposal that takes a while, because a key is made, is nothing worth once the session of
// who confirms has ended.
func TestConfirmedByAnEndedSession(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	f := prepareFixture(t)
	var olga Caller
	discarded := 0
	type note struct {
		Text string `json:"text"`
	}
	f.config.Acts = []ActKind{{
		Kind:   "note.put",
		Render: renderAs(func(n note) []string { return []string{n.Text} }),
		Prepare: func(ctx context.Context, _ Execution) (any, func(context.Context, error), error) {
			return nil, func(context.Context, error) { discarded++ }, f.d.EndSession(ctx, olga, olga.ID, olga.Session, "")
		},
		Do: func(*ledger.Tx, Execution) error { return nil },
	}}
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	grace := f.admin()
	f.enrol(grace, "olga", "Olga Officer", secondPass, RoleAdministrator)
	olga = f.login("olga", secondPass)
	_, p, err := f.d.Act(t.Context(), grace, "note.put", "", note{"two"}, "")
	if err != nil {
		t.Fatal(err)
	}
	types := f.appended(func() {
		if _, err := f.d.Confirm(t.Context(), olga, p.ID, p.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrSession) {
			t.Errorf("got %v", err)
		}
	})
	for _, typ := range types {
		if typ == chain.ActConfirmed {
			t.Error("it was confirmed")
		}
	}
	if discarded != 1 {
		t.Errorf("what was prepared was discarded %d times", discarded)
	}
}
