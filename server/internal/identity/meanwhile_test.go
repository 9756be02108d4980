package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
	"github.com/signetd/signet/server/internal/rights"
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

// TestASecondAdministratorComesMeanwhile: who began to act alone, and is not alone any more when it would take effect, has proposed it.
func TestASecondAdministratorComesMeanwhile(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	f := prepareFixture(t)
	var grace Caller
	discarded := 0
	type note struct {
		Text string `json:"text"`
	}
	f.config.Acts = []ActKind{{
		Kind:   "note.put",
		Render: renderAs(func(n note) []string { return []string{n.Text} }),
		Prepare: func(context.Context, Execution) (any, func(context.Context, error), error) {
			f.enrol(grace, "olga", "Olga Officer", secondPass, RoleAdministrator)
			return nil, func(context.Context, error) { discarded++ }, nil
		},
		Do: func(*ledger.Tx, Execution) error { return nil },
	}}
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	grace = f.admin()
	done, p, err := f.d.Act(t.Context(), grace, "note.put", "", note{"one"}, "")
	if err != nil || done || p.State != ProposalPending || discarded != 1 {
		t.Errorf("done %v, %+v, discarded %d, %v", done, p, discarded, err)
	}
}

// TestFailuresOvertake: of two wrong passwords that are checked at the same time, of which one locks, the other is refused, and leaves no entry.
func TestFailuresOvertake(t *testing.T) {
	t.Attr("requirement", "11.300(d)")
	f := prepareFixture(t)
	f.config.LockAfter, f.config.PasswordChecks = 1, 2
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	f.ada()
	guess := func() error {
		_, _, _, err := f.d.OpenSession(t.Context(), desk, "ada", wrongPass)
		return err
	}
	f.while(func() error {
		if err := guess(); !errors.Is(err, ErrBadCredentials) {
			t.Errorf("the faster one: %v", err)
		}
		return nil
	})
	var slower error
	types := f.appended(func() { slower = guess() })
	if !errors.Is(slower, ErrLocked) {
		t.Errorf("the slower one: %v", slower)
	}
	if want := []chain.Type{chain.AuthenticationFailed, chain.SignerLocked, chain.AlertRaised}; !slices.Equal(types, want) {
		t.Errorf("entries %v, want %v", types, want)
	}
}

// TestTamperedProposals: what a proposal is, and until when, its entry says.
func TestTamperedProposals(t *testing.T) {
	t.Attr("requirement", "11.10(a)")
	for name, change := range map[string]func(row *proposalRow){
		"its end":     func(row *proposalRow) { row.Expires = row.Expires.Add(48 * time.Hour) },
		"its digest":  func(row *proposalRow) { row.Digest = hexSum([]byte("something else")) },
		"who made it": func(row *proposalRow) { row.Proposer = "sgn_nobody" },
	} {
		t.Run(name, func(t *testing.T) {
			f := prepareFixture(t)
			reopen := func() {
				f.ledger = must(ledger.Open(t.Context(), f.options))
				f.open()
			}
			reopen()
			t.Cleanup(func() { f.ledger.Close() })
			grace, _ := f.two()
			ada, _, _, err := f.d.InvitePerson(t.Context(), grace, f.invitation("ada", "Ada Lovelace", RoleSigner), "")
			if err != nil {
				t.Fatal(err)
			}
			p := ada.Proposal
			digest := p.Digest[:]
			f.ledger.Close()
			editRow(t, f.options.Path, bucketProposals, func(rows map[string][]byte) {
				var row proposalRow
				unmarshal(t, rows[p.ID], &row)
				change(&row)
				digest, err = hex.DecodeString(row.Digest)
				rows[p.ID] = marshal(t, row)
			})
			reopen()
			types := f.appended(func() {
				_, err = f.d.Confirm(t.Context(), f.login("olga", secondPass), p.ID, digest, Proof{UserName: "olga", Password: secondPass})
			})
			if !errors.Is(err, ErrTampered) && !errors.Is(err, ErrProposalState) {
				t.Errorf("got %v", err)
			}
			if slices.Contains(types, chain.ActConfirmed) {
				t.Error("it was confirmed")
			}
		})
	}
}

// TestVouchersOfAdministrators: it is an administrator who vouches, when they do and when it counts, with a passkey that was registered as one's.
func TestVouchersOfAdministrators(t *testing.T) {
	t.Attr("requirement", "11.10(g)")
	f := passkeyFixture(t)
	admins, devices := f.twoAdministrators()
	f.enrol(admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	bob := f.enrol(admins[0], "bob", "Bob Noyce", secondPass, RoleSigner)
	_, p := f.passkey(f.login("ada", adaPass), "ada", adaPass, passkeytest.ES256)
	his, q := f.passkey(f.login("bob", secondPass), "bob", secondPass, passkeytest.ES256)
	for i := range admins {
		if _, err := f.vouch(admins[i], q, devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := f.d.AssignRole(t.Context(), admins[0], rights.Assignment{Holder: rights.Holder(bob.ID), Role: string(RoleAdministrator), Reason: "deputy"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.vouch(f.login("bob", secondPass), p, his); !errors.Is(err, ErrForbidden) {
		t.Errorf("with a passkey from before he was an administrator: %v", err)
	}
	if _, err := f.vouch(admins[1], p, devices[1]); err != nil {
		t.Fatal(err)
	}
	if err := f.d.WithdrawRole(t.Context(), admins[0], "", admins[1].ID, RoleAdministrator, "moved"); err != nil {
		t.Fatal(err)
	}
	p, err := f.vouch(admins[0], p, devices[0])
	if err != nil || p.State != PasskeyPending {
		t.Errorf("it is bound by who administers no more: %s, %v", p.State, err)
	}
}
