package identity

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

const (
	testRPID  = "sign.example"
	testPages = "https://sign.example:8444"
	gracePass = Secret("copper lantern, nineteen herons")
)

// passkeyFixture is a directory with pages.
func passkeyFixture(t testing.TB) *fixture {
	f := prepareFixture(t)
	f.config.Passkeys = PasskeyConfig{RPID: testRPID, Origins: []string{testPages}}
	f.config.FourEyes = FourEyesOff
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	return f
}

func (f *fixture) device(a passkeytest.Algorithm) *passkeytest.Authenticator {
	f.t.Helper()
	d, err := passkeytest.New(a, testRPID, testPages)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// tryPasskey registers a device.
func (f *fixture) tryPasskey(c Caller, userName string, password Secret, d *passkeytest.Authenticator) (Passkey, error) {
	f.t.Helper()
	token, options, _, err := f.d.StartPasskey(f.t.Context(), c, Proof{UserName: userName, Password: password}, "my device")
	if err != nil {
		return Passkey{}, err
	}
	response, err := d.Register(options)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.d.FinishPasskey(f.t.Context(), c, token, response)
}

func (f *fixture) passkey(c Caller, userName string, password Secret, a passkeytest.Algorithm) (*passkeytest.Authenticator, Passkey) {
	f.t.Helper()
	d := f.device(a)
	p, err := f.tryPasskey(c, userName, password, d)
	if err != nil {
		f.t.Fatal(err)
	}
	return d, p
}

// voucherFor is an assertion over the binding of a passkey.
func (f *fixture) voucherFor(p Passkey, d *passkeytest.Authenticator) passkey.Assertion {
	f.t.Helper()
	c, err := p.Binding.Challenge()
	if err != nil {
		f.t.Fatal(err)
	}
	a, err := d.Assert(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f *fixture) vouch(c Caller, p Passkey, d *passkeytest.Authenticator) (Passkey, error) {
	f.t.Helper()
	return f.d.VouchPasskey(f.t.Context(), c, p.Signer, p.ID, f.voucherFor(p, d))
}

// assertion holds a device against a challenge, as a signature does.
func (f *fixture) assertion(signer string, d *passkeytest.Authenticator) error {
	f.t.Helper()
	challenge := sha256.Sum256([]byte("a statement"))
	a, err := d.Assert(challenge)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.ledger.Checkpointed(f.t.Context(), f.ledger.Size()); err != nil {
		f.t.Fatal(err)
	}
	return f.ledger.View(func(r *ledger.Read) error {
		got, err := f.d.checkAssertion(r, signer, challenge, &a)
		if err == nil && (got.Kind != manifest.AuthorizationPasskey || got.Validate() != nil || !bytes.Equal(got.Signature, a.Signature)) {
			f.t.Errorf("authorization %+v", got)
		}
		return err
	})
}

// twoAdministrators have a passkey each: the trust file binds them.
func (f *fixture) twoAdministrators() (callers [2]Caller, devices [2]*passkeytest.Authenticator) {
	f.t.Helper()
	callers[0] = f.admin()
	f.enrol(callers[0], "grace", "Grace Murray", gracePass, RoleAdministrator)
	callers[1] = f.login("grace", gracePass)
	devices[0], _ = f.passkey(callers[0], "root", adminPass, passkeytest.ES256)
	devices[1], _ = f.passkey(callers[1], "grace", gracePass, passkeytest.EdDSA)
	return callers, devices
}

func TestPasskeyLife(t *testing.T) {
	for _, row := range []string{"11.10(d)", "11.200(a)(2)", "11.300(c)"} {
		t.Attr("requirement", row)
	}
	f := passkeyFixture(t)
	admins, devices := f.twoAdministrators()
	for i, c := range admins {
		list, err := f.d.Passkeys(t.Context(), c.ID, 0, 10)
		if err != nil || len(list) != 1 || list[0].State != PasskeyBound || !list[0].Pinned || !list[0].Binding.Vouches || len(list[0].Vouchers) != 0 {
			t.Fatalf("administrator %d: %+v, %v", i, list, err)
		}
	}
	pinned, err := f.d.PinnedPasskeys(t.Context())
	if err != nil || len(pinned) != 2 || pinned[0].Signer != admins[0].ID || !bytes.Equal(pinned[0].SPKI, devices[0].SPKI) || pinned[1].Name != "Grace Murray" {
		t.Fatalf("pinned: %+v, %v", pinned, err)
	}

	signer := f.enrol(admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	ada := f.login("ada", adaPass)
	var d *passkeytest.Authenticator
	var p Passkey
	if types := f.appended(func() { d, p = f.passkey(ada, "ada", adaPass, passkeytest.ES256) }); types[0] != chain.PasskeyRegistered {
		t.Fatalf("entries %q", types)
	}
	if p.State != PasskeyPending || p.Pinned || p.Binding.Vouches || p.Binding.Name != "Ada Lovelace" || p.Label != "my device" || !bytes.Equal(p.Binding.SPKI, d.SPKI) {
		t.Fatalf("%+v", p)
	}
	if err := f.assertion(signer.ID, d); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("it signs before anybody has vouched for it: %v", err)
	}
	if waiting, err := f.d.Passkeys(t.Context(), "", 0, 10); err != nil || len(waiting) != 1 || waiting[0].ID != p.ID {
		t.Errorf("waiting: %+v, %v", waiting, err)
	}

	// Both administrators.
	if p, err = f.vouch(admins[0], p, devices[0]); err != nil || p.State != PasskeyPending || len(p.Vouchers) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := f.vouch(admins[0], p, devices[0]); !errors.Is(err, ErrSecondPerson) {
		t.Errorf("the same administrator twice: %v", err)
	}
	if err := f.assertion(signer.ID, d); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("it signs with one voucher: %v", err)
	}
	if p, err = f.vouch(admins[1], p, devices[1]); err != nil || p.State != PasskeyBound || len(p.Vouchers) != 2 || p.Pinned {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := f.assertion(signer.ID, d); err != nil {
		t.Fatalf("it does not sign: %v", err)
	}
	if err := f.assertion(admins[0].ID, d); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("it signs for somebody else: %v", err)
	}
	if _, err := f.vouch(admins[1], p, devices[1]); !errors.Is(err, ErrPasskeyState) {
		t.Errorf("a voucher for a passkey that is bound: %v", err)
	}

	// A second one, for which her first one vouches; the first is then revoked.
	second, q := f.passkey(ada, "ada", adaPass, passkeytest.RS256)
	if _, err := f.vouch(ada, q, second); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a passkey that vouches for itself: %v", err)
	}
	if q, err = f.vouch(ada, q, d); err != nil || q.State != PasskeyBound || len(q.Vouchers) != 1 {
		t.Fatalf("%+v, %v", q, err)
	}
	if _, err := f.d.RevokePasskey(t.Context(), ada, Proof{UserName: "ada", Password: wrongPass}, p.Signer, p.ID, "lost"); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a revocation with a wrong password: %v", err)
	}
	if p, err = f.d.RevokePasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, p.Signer, p.ID, "lost"); err != nil || p.State != PasskeyRevoked {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := f.assertion(signer.ID, d); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("it signs after it was revoked: %v", err)
	}
	if err := f.assertion(signer.ID, second); err != nil {
		t.Errorf("the second one no longer signs: %v", err)
	}
	if _, err := f.d.RevokePasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, p.Signer, p.ID, "again"); !errors.Is(err, ErrPasskeyState) {
		t.Errorf("revoked twice: %v", err)
	}
	if _, err := f.tryPasskey(ada, "ada", adaPass, d); !errors.Is(err, ErrPasskeyTaken) {
		t.Errorf("a revoked passkey registered again: %v", err)
	}
	third, r := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	if _, err := f.vouch(ada, r, d); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a revoked passkey vouches: %v", err)
	}
	_ = third

	// What a manifest needs to show it.
	var support []uint64
	err = f.ledger.View(func(r *ledger.Read) (err error) {
		support, err = f.d.PasskeySupport(r, signer.ID, second.CredentialID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[chain.Type]int{}
	entries := f.entries(0)
	for _, i := range support {
		kinds[entries[i].Type]++
	}
	if kinds[chain.PasskeyBound] != 4 || kinds[chain.PasskeyRevoked] != 1 {
		t.Errorf("support %v", kinds)
	}

	// A new process knows the same.
	f.restart()
	if err := f.assertion(signer.ID, second); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestPasskeyRights(t *testing.T) {
	for _, row := range []string{"11.10(g)", "11.300(a)"} {
		t.Attr("requirement", row)
	}
	f := passkeyFixture(t)
	admins, devices := f.twoAdministrators()
	f.enrol(admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	f.enrol(admins[0], "bob", "Bob", secondPass, RoleSigner)
	ada, bob := f.login("ada", adaPass), f.login("bob", secondPass)
	mine, p := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	his, q := f.passkey(bob, "bob", secondPass, passkeytest.ES256)
	for i := range admins {
		if _, err := f.vouch(admins[i], q, devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.vouch(bob, p, his); !errors.Is(err, ErrForbidden) {
		t.Errorf("a signer vouches for another one: %v", err)
	}
	if _, err := f.vouch(admins[0], p, devices[1]); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("somebody else's passkey vouches: %v", err)
	}
	if _, err := f.vouch(ada, p, mine); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a passkey that is not bound vouches: %v", err)
	}
	if _, err := f.d.VouchPasskey(t.Context(), admins[0], p.Signer, p.ID, f.voucherFor(q, devices[0])); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("a voucher for another passkey: %v", err)
	}
	if _, err := f.vouch(admins[0], Passkey{Signer: bob.ID, ID: p.ID, Binding: p.Binding}, devices[0]); !errors.Is(err, ErrPasskeyAbsent) {
		t.Errorf("under somebody else's name: %v", err)
	}
	if _, err := f.d.RevokePasskey(t.Context(), bob, Proof{UserName: "bob", Password: secondPass}, p.Signer, p.ID, "spite"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a signer revokes another one's: %v", err)
	}
	if _, err := f.d.RevokePasskey(t.Context(), admins[0], Proof{UserName: "root", Password: adminPass}, q.Signer, q.ID, "device stolen"); err != nil {
		t.Errorf("an administrator cannot revoke: %v", err)
	}
	if err := f.assertion(bob.ID, his); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("it signs on: %v", err)
	}

	// A voucher of an administrator whose passkey was revoked since does not count.
	if _, err := f.vouch(admins[0], p, devices[0]); err != nil {
		t.Fatal(err)
	}
	roots, err := f.d.Passkeys(t.Context(), admins[0].ID, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.RevokePasskey(t.Context(), admins[0], Proof{UserName: "root", Password: adminPass}, admins[0].ID, roots[0].ID, "lost"); err != nil {
		t.Fatal(err)
	}
	if p, err = f.vouch(admins[1], p, devices[1]); err != nil || p.State != PasskeyPending {
		t.Errorf("it is bound by a passkey that was revoked: %+v, %v", p, err)
	}
	// The administrator's next one is bound by the trust file again: nobody else is there to vouch.
	next, n := f.passkey(admins[0], "root", adminPass, passkeytest.ES256)
	if n.State != PasskeyBound || !n.Pinned {
		t.Fatalf("%+v", n)
	}
	if p, err = f.vouch(admins[0], p, next); err != nil || p.State != PasskeyBound {
		t.Errorf("%+v, %v", p, err)
	}
	// An administrator who is suspended does not count as one who could vouch, and one who is back does.
	if _, err := f.d.Suspend(t.Context(), admins[0], admins[1].ID, "on leave"); err != nil {
		t.Fatal(err)
	}
	if _, n := f.passkey(admins[0], "root", adminPass, passkeytest.ES256); !n.Pinned {
		t.Errorf("nobody else could vouch for it, and it waits: %+v", n)
	}
	if _, err := f.d.Reinstate(t.Context(), admins[0], admins[1].ID, "back"); err != nil {
		t.Fatal(err)
	}
	// A third administrator's is not.
	f.enrol(admins[0], "eve", "Eve", wrongPass, RoleAdministrator)
	if _, e := f.passkey(f.login("eve", wrongPass), "eve", wrongPass, passkeytest.ES256); e.State != PasskeyPending || !e.Binding.Vouches {
		t.Errorf("%+v", e)
	}
}

// TestPasskeyRename: a passkey is bound to a person under their name, so that nobody signs under somebody else's.
func TestPasskeyRename(t *testing.T) {
	t.Attr("requirement", "11.100")
	t.Attr("requirement", "A-18")
	f := passkeyFixture(t)
	admins, devices := f.twoAdministrators()
	signer := f.enrol(admins[0], "ada", "Ada Byron", adaPass, RoleSigner)
	ada := f.login("ada", adaPass)
	d, p := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	_, waiting := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	for i := range admins {
		if _, err := f.vouch(admins[i], p, devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	_, code, _, err := f.d.Renew(t.Context(), admins[0], signer.ID, Renewal{Reason: "married", Name: "Ada Lovelace", Proofing: f.invitation("", "").Proofing})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Redeem(t.Context(), desk, code, "ada", secondPass, true); err != nil {
		t.Fatal(err)
	}
	ada = f.login("ada", secondPass)
	if err := f.assertion(signer.ID, d); !errors.Is(err, ErrPasskeyState) {
		t.Errorf("it signs under another name: %v", err)
	}
	if _, err := f.vouch(admins[0], waiting, devices[0]); !errors.Is(err, ErrPasskeyState) {
		t.Errorf("one that was registered under the old name is vouched for: %v", err)
	}
	fresh, q := f.passkey(ada, "ada", secondPass, passkeytest.ES256)
	if _, err := f.vouch(ada, q, d); !errors.Is(err, ErrPasskeyState) {
		t.Errorf("the old one vouches for a new name: %v", err)
	}
	for i := range admins {
		if _, err := f.vouch(admins[i], q, devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.assertion(signer.ID, fresh); err != nil {
		t.Errorf("the new one does not sign: %v", err)
	}
}

func TestPasskeyRegistration(t *testing.T) {
	t.Attr("requirement", "11.100")
	f := passkeyFixture(t)
	_, ada, _ := f.ada()
	f.enrol(f.login("root", adminPass), "bob", "Bob", secondPass, RoleSigner)
	bob := f.login("bob", secondPass)
	start := func() (Secret, []byte) {
		t.Helper()
		token, options, _, err := f.d.StartPasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, "key")
		if err != nil {
			t.Fatal(err)
		}
		return token, options
	}
	for _, c := range []struct {
		name   string
		proof  Proof
		label  string
		caller Caller
		want   error
	}{
		{"a wrong password", Proof{UserName: "ada", Password: wrongPass}, "key", ada, ErrBadCredentials},
		{"somebody else's password", Proof{UserName: "bob", Password: secondPass}, "key", ada, ErrBadCredentials},
		{"no label", Proof{UserName: "ada", Password: adaPass}, "", ada, ErrInvalid},
		{"no session", Proof{UserName: "ada", Password: adaPass}, "key", Caller{ID: ada.ID, Kind: chain.Person}, ErrForbidden},
	} {
		if _, _, _, err := f.d.StartPasskey(t.Context(), c.caller, c.proof, c.label); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	bad := map[string]func(d *passkeytest.Authenticator, options []byte) ([]byte, error){
		"no answer": func(*passkeytest.Authenticator, []byte) ([]byte, error) { return []byte("{}"), nil },
		"no JSON":   func(*passkeytest.Authenticator, []byte) ([]byte, error) { return []byte("\x00"), nil },
		"another challenge": func(d *passkeytest.Authenticator, _ []byte) ([]byte, error) {
			return d.RegisterData(passkeytest.ClientData("webauthn.create", make([]byte, 32), testPages))
		},
		"nobody verified": func(d *passkeytest.Authenticator, o []byte) ([]byte, error) {
			d.Flags = passkeytest.UP
			return d.Register(o)
		},
		"another page": func(d *passkeytest.Authenticator, o []byte) ([]byte, error) {
			d.Origin = "https://evil.example"
			return d.Register(o)
		},
		"copied, and may not be": func(d *passkeytest.Authenticator, o []byte) ([]byte, error) {
			d.Flags |= passkeytest.BS
			return d.Register(o)
		},
		"a long credential id": func(d *passkeytest.Authenticator, o []byte) ([]byte, error) {
			d.CredentialID = make([]byte, 1024)
			return d.Register(o)
		},
	}
	for name, answer := range bad {
		t.Run(name, func(t *testing.T) {
			token, options := start()
			response, err := answer(f.device(passkeytest.ES256), options)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.d.FinishPasskey(t.Context(), ada, token, response); !errors.Is(err, ErrPasskeyInvalid) {
				t.Errorf("%v", err)
			}
			if _, err := f.d.FinishPasskey(t.Context(), ada, token, response); !errors.Is(err, ErrRegistrationLapsed) {
				t.Errorf("a second try with the same registration: %v", err)
			}
		})
	}
	t.Run("whose it is, and when", func(t *testing.T) {
		token, options := start()
		response, err := f.device(passkeytest.EdDSA).Register(options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.d.FinishPasskey(t.Context(), bob, token, response); !errors.Is(err, ErrRegistrationLapsed) {
			t.Errorf("somebody else's registration: %v", err)
		}
		if _, err := f.d.FinishPasskey(t.Context(), ada, "x"+token, response); !errors.Is(err, ErrRegistrationLapsed) {
			t.Errorf("another token: %v", err)
		}
		f.clock.Add(5 * time.Minute)
		if _, err := f.d.FinishPasskey(t.Context(), ada, token, response); !errors.Is(err, ErrRegistrationLapsed) {
			t.Errorf("too late: %v", err)
		}
	})
	t.Run("a passkey of somebody else", func(t *testing.T) {
		d, _ := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
		if _, err := f.tryPasskey(bob, "bob", secondPass, d); !errors.Is(err, ErrPasskeyTaken) {
			t.Errorf("%v", err)
		}
		d.CredentialID = []byte("another id for the same key")
		if _, err := f.tryPasskey(bob, "bob", secondPass, d); !errors.Is(err, ErrPasskeyTaken) {
			t.Errorf("the same key under another id: %v", err)
		}
	})
	t.Run("too many", func(t *testing.T) {
		var err error
		for range maxPasskeys {
			_, err = f.tryPasskey(ada, "ada", adaPass, f.device(passkeytest.EdDSA))
		}
		if !errors.Is(err, ErrPasskeyState) {
			t.Errorf("%v", err)
		}
	})
	t.Run("without pages", func(t *testing.T) {
		f.d.cfg.Passkeys = PasskeyConfig{}
		if _, _, _, err := f.d.StartPasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, "key"); !errors.Is(err, ErrPasskeysOff) {
			t.Errorf("%v", err)
		}
	})
}

// TestPasskeyProof proves somebody for a signature: with a passkey too, and a wrong one is counted like a wrong password.
func TestPasskeyProof(t *testing.T) {
	for _, row := range []string{"11.200(a)(1)", "11.300(d)"} {
		t.Attr("requirement", row)
	}
	f := passkeyFixture(t)
	admins, devices := f.twoAdministrators()
	f.enrol(admins[0], "ada", "Ada Lovelace", adaPass, RoleSigner)
	ada := f.login("ada", adaPass)
	d, p := f.passkey(ada, "ada", adaPass, passkeytest.ES256)
	for i := range admins {
		if _, err := f.vouch(admins[i], p, devices[i]); err != nil {
			t.Fatal(err)
		}
	}
	challenge := sha256.Sum256([]byte("a statement"))
	assert := func(d *passkeytest.Authenticator, c [32]byte) *passkey.Assertion {
		a, err := d.Assert(c)
		if err != nil {
			t.Fatal(err)
		}
		return &a
	}
	const both, alone = manifest.AuthorizationPasswordPasskey, manifest.AuthorizationPasskey
	good := Proof{UserName: "ada", Password: adaPass, Passkey: assert(d, challenge)}
	prove := func(proof Proof, requires manifest.AuthorizationKind) (Proven, error) {
		return f.d.ProveSignature(t.Context(), ada, proof, "prp_1", requires, challenge)
	}
	if got, err := prove(good, both); err != nil || got.Authorization.Kind != both || got.Authorization.Validate() != nil || strings.Join(got.Components, ", ") != "user name, password, passkey" {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := prove(Proof{Passkey: assert(d, challenge)}, alone); !errors.Is(err, ErrCredentialsMissing) {
		t.Errorf("a passkey alone, under the preset part11: %v", err)
	}
	if _, err := prove(Proof{UserName: "ada", Password: adaPass}, both); !errors.Is(err, ErrCredentialsMissing) {
		t.Errorf("no passkey: %v", err)
	}
	for name, proof := range map[string]Proof{
		"over something else":        {UserName: "ada", Password: adaPass, Passkey: assert(d, sha256.Sum256([]byte("another one")))},
		"of somebody else":           {UserName: "ada", Password: adaPass, Passkey: assert(devices[0], challenge)},
		"beside a wrong password":    {UserName: "ada", Password: wrongPass, Passkey: assert(d, challenge)},
		"beside another user's name": {UserName: "root", Password: adminPass, Passkey: assert(d, challenge)},
	} {
		types := f.appended(func() {
			if _, err := prove(proof, both); !errors.Is(err, ErrBadCredentials) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if len(types) == 0 || types[0] != chain.AuthenticationFailed {
			t.Errorf("%s: entries %q", name, types)
		}
		f.clock.Add(time.Hour)
		ada = f.login("ada", adaPass)
	}
	f.d.cfg.PasskeyAlone = true
	if got, err := prove(Proof{Passkey: assert(d, challenge)}, alone); err != nil || got.Authorization.Kind != alone || len(got.Components) != 1 {
		t.Fatalf("a passkey alone, where that is configured: %+v, %v", got, err)
	}
}
