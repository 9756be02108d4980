package identity

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
)

// TestEnrolment walks the way of a signer from the invitation to the key.
func TestEnrolment(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	ctx := t.Context()
	invited, code, expires, err := f.d.InvitePerson(ctx, admin, f.invitation("Ada", "Ada Lovelace", RoleSigner), "")
	if err != nil {
		t.Fatal(err)
	}
	if invited.State != StateInvited || invited.UserName != "ada" || invited.KeyID != "" || !expires.Equal(start.Add(10*time.Minute)) {
		t.Errorf("invited %+v, expires %v", invited, expires)
	}
	from := f.ledger.Size()
	signer, err := f.d.Redeem(ctx, desk, code, "ada", adaPass, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the key is made in the HSM and certified", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		by, err := f.identity(signer.ID)
		if err != nil {
			t.Fatal(err)
		}
		if by.Name != "Ada Lovelace" || by.Title != "QA Lead" || by.Organisation != organisation || by.Zone != "Europe/Berlin" || by.Service ||
			by.Algorithm != keystore.ECDSAP256 || len(by.Certificates) != 2 {
			t.Errorf("identity %+v", by)
		}
		message := []byte("a statement")
		signature, err := f.keys.Sign(ctx, by.Key, by.Public, message)
		if err != nil {
			t.Fatal(err)
		}
		leaf := must(x509.ParseCertificate(by.Certificates[0]))
		if err := keystore.Verify(by.Algorithm, leaf.PublicKey, message, signature); err != nil {
			t.Error(err)
		}
		key := must(f.keys.Key(ctx, by.Key))
		if err := keystore.CheckPolicy(key.Attributes); err != nil || key.KeyID != by.KeyID {
			t.Errorf("key %s: %v", key.KeyID, err)
		}
	})
	t.Run("the key id leads to the enrolment record", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		by := must(f.identity(signer.ID))
		entry := must(f.ledger.Entry(by.EnrolmentIndex))
		e := must(chain.ParseEntry(entry))
		body := must(manifest.ParseSignerEnrolled(e.Body))
		if chain.LeafHash(entry) != by.Enrolment || body.KeyID != by.KeyID || body.ID != signer.ID || body.Name != by.Name ||
			body.Accountability != AccountabilityVersion || body.Certificate != hexSum(by.Certificates[0]) || e.Actor.ID != signer.ID || e.Actor.Method != MethodCode {
			t.Errorf("entry %s: %+v", e.Type, body)
		}
	})
	t.Run("the identity proofing stands in the ledger", func(t *testing.T) {
		t.Attr("requirement", "11.100")
		var proofing proofingRecord
		var enrolled manifest.SignerEnrolled
		for _, e := range f.entries(0) {
			switch e.Type {
			case chain.SignerInvited:
				if body := must(readBody[signerInvited](e)); body.ID == signer.ID {
					proofing = body.Proofing
				}
			case chain.SignerEnrolled:
				if body := must(manifest.ParseSignerEnrolled(e.Body)); body.ID == signer.ID {
					enrolled = body
				}
			}
		}
		if proofing.Method != "passport seen in person" || proofing.Reference != "HR-2026-117" || enrolled.Proofing != must(proofing.digest()) {
			t.Errorf("proofing %+v, enrolled with %s", proofing, enrolled.Proofing)
		}
	})
	t.Run("key, enrolment, credential and first signature are one batch", func(t *testing.T) {
		var types []chain.Type
		for _, e := range f.entries(from) {
			types = append(types, e.Type)
		}
		if !slices.Equal(types, []chain.Type{chain.KeyCreated, chain.SignerEnrolled, chain.AccountabilitySigned}) {
			t.Errorf("entries %v", types)
		}
	})
	t.Run("who does not sign has no key", func(t *testing.T) {
		t.Attr("requirement", "B-36")
		auditor := f.enrol(admin, "tim", "Tim Auditor", secondPass, RoleAuditor)
		if _, err := f.identity(auditor.ID); !errors.Is(err, ErrNoKey) || auditor.KeyID != "" || auditor.Certificate != nil {
			t.Errorf("identity: %v, key %q", err, auditor.KeyID)
		}
	})
	t.Run("only an invitation that can hold is taken", func(t *testing.T) {
		bad := map[string]func(i *Invitation){
			"no proofing":            func(i *Invitation) { i.Proofing = Proofing{} },
			"no proofing document":   func(i *Invitation) { i.Proofing.Reference = " " },
			"zone of the machine":    func(i *Invitation) { i.Zone = "Local" },
			"unknown zone":           func(i *Invitation) { i.Zone = "Europe/Atlantis" },
			"zone with leap seconds": func(i *Invitation) { i.Zone = "right/Europe/Berlin" },
			"path as a zone":         func(i *Invitation) { i.Zone = "Europe/../Europe/Berlin" },
			"no role":                func(i *Invitation) { i.Roles = nil },
			"role of a service":      func(i *Invitation) { i.Roles = []Role{RoleService} },
			"role twice":             func(i *Invitation) { i.Roles = []Role{RoleSigner, RoleSigner} },
			"no printed name":        func(i *Invitation) { i.Name = "" },
			"name of two lines":      func(i *Invitation) { i.Name = "Ada\nLovelace" },
			"name not in NFC":        func(i *Invitation) { i.Name = "Ada Lovelace\u0301" + "e\u0301" },
			"invisible character":    func(i *Invitation) { i.Name = "Ada\u200b Lovelace" },
			"too long for X.509":     func(i *Invitation) { i.Name = strings.Repeat("a", 65) },
			"no user name":           func(i *Invitation) { i.UserName = "" },
			"user name like an id":   func(i *Invitation) { i.UserName = "sgn_ada" },
			"user name with space":   func(i *Invitation) { i.UserName = "ada lovelace" },
		}
		for what, change := range bad {
			inv := f.invitation("mary", "Mary Shelley", RoleSigner)
			change(&inv)
			types := f.appended(func() {
				if _, _, _, err := f.d.InvitePerson(ctx, admin, inv, ""); !errors.Is(err, ErrInvalid) {
					t.Errorf("%s: %v", what, err)
				}
			})
			if len(types) != 0 {
				t.Errorf("%s: entries %v", what, types)
			}
		}
		f.enrol(admin, "mary", "Mary Shelley", "the same rules take this one", RoleSigner)
	})
}

// TestNamesAreForEver: ids are unique, names are one person's for ever, whatever their case and whatever became of the
// person.
func TestNamesAreForEver(t *testing.T) {
	t.Attr("requirement", "11.100")
	f := newFixture(t)
	admin, _, ada := f.ada()
	ctx := t.Context()
	taken := func(t *testing.T) {
		t.Helper()
		for _, name := range []string{"ada", "ADA", " Ada "} {
			if _, _, _, err := f.d.InvitePerson(ctx, admin, f.invitation(name, "Another Ada", RoleSigner), ""); !errors.Is(err, ErrNameTaken) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	t.Run("while they are there", taken)
	if _, err := f.d.Revoke(ctx, admin, ada.ID, "left the company", CauseOther); err != nil {
		t.Fatal(err)
	}
	t.Run("after they were revoked", taken)
	t.Run("ids are random and well formed", func(t *testing.T) {
		seen := map[string]bool{}
		for range 1000 {
			id := newID("sgn_")
			if len(id) != 30 || seen[id] || strings.ToLower(id) != id {
				t.Fatalf("id %q", id)
			}
			seen[id] = true
		}
	})
	t.Run("the revoked one stays readable", func(t *testing.T) {
		if s, err := f.d.Lookup(ctx, "ada"); err != nil || s.ID != ada.ID || s.State != StateRevoked || s.Name != "Ada Lovelace" {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// TestCodes: a code works once, in time, for one person.
func TestCodes(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	ctx := t.Context()
	invite := func(name string) Secret {
		t.Helper()
		_, code, _, err := f.d.InvitePerson(ctx, admin, f.invitation(name, "Person "+name, RoleSigner), "")
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	refused := func(t *testing.T, code Secret, name string) {
		t.Helper()
		before := f.d.hasher.runs.Load()
		types := f.appended(func() {
			_, err := f.d.Redeem(ctx, desk, code, name, adaPass, true)
			if !errors.Is(err, ErrCodeInvalid) || err.Error() != ErrCodeInvalid.Error() {
				t.Errorf("error %v, want exactly %v", err, ErrCodeInvalid)
			}
		})
		if len(types) != 1 || types[0] != chain.AuthenticationFailed || f.d.hasher.runs.Load()-before != 1 {
			t.Errorf("entries %v, %d computations", types, f.d.hasher.runs.Load()-before)
		}
	}
	t.Run("wrong", func(t *testing.T) { invite("p1"); refused(t, "AAAAA-BBBBB-CCCCC-DDDDD-EEEEE-FFFFF", "p1") })
	t.Run("empty", func(t *testing.T) { refused(t, "", "p1") })
	t.Run("empty, for somebody without one", func(t *testing.T) { refused(t, "", "root") })
	t.Run("for another", func(t *testing.T) { invite("p2"); refused(t, invite("p3"), "p2") })
	t.Run("for nobody", func(t *testing.T) { refused(t, invite("p4"), "nobody") })
	t.Run("lapsed", func(t *testing.T) {
		code := invite("p5")
		f.clock.Add(10 * time.Minute)
		refused(t, code, "p5")
		admin = f.login("root", adminPass)
	})
	t.Run("used", func(t *testing.T) {
		code := invite("p6")
		if _, err := f.d.Redeem(ctx, desk, code, "p6", adaPass, true); err != nil {
			t.Fatal(err)
		}
		refused(t, code, "p6")
	})
	t.Run("replaced by a newer one", func(t *testing.T) {
		code := invite("p7")
		_, newer, _, err := f.d.Renew(ctx, admin, must(f.d.Lookup(ctx, "p7")).ID, Renewal{Reason: "code lost", Proofing: f.invitation("", "").Proofing})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, code, "p7")
		if _, err := f.d.Redeem(ctx, desk, newer, "p7", adaPass, true); err != nil {
			t.Error(err)
		}
	})
	t.Run("revoked", func(t *testing.T) {
		code := invite("p8")
		if _, err := f.d.Revoke(ctx, admin, must(f.d.Lookup(ctx, "p8")).ID, "hired by another", CauseOther); err != nil {
			t.Fatal(err)
		}
		refused(t, code, "p8")
	})
	t.Run("typed as people type", func(t *testing.T) {
		code := invite("p9")
		typed := Secret(" " + strings.ToLower(strings.ReplaceAll(code.Reveal(), "-", " ")) + "\n")
		if _, err := f.d.Redeem(ctx, desk, typed, " P9 ", adaPass, true); err != nil {
			t.Error(err)
		}
	})
	t.Run("can be used again after a refusal that is not its fault", func(t *testing.T) {
		code := invite("p10")
		types := f.appended(func() {
			for what, try := range map[string]func() error{
				"short password": func() error { _, err := f.d.Redeem(ctx, desk, code, "p10", "fourteen chars", true); return err },
				"guessable":      func() error { _, err := f.d.Redeem(ctx, desk, code, "p10", "password12345678", true); return err },
				"repetition":     func() error { _, err := f.d.Redeem(ctx, desk, code, "p10", "aaaaaaaaaaaaaaaaaaaaaa", true); return err },
				"too long": func() error {
					_, err := f.d.Redeem(ctx, desk, code, "p10", Secret(strings.Repeat("ab 1", 300)), true)
					return err
				},
				"not UTF-8": func() error { _, err := f.d.Redeem(ctx, desk, code, "p10", adaPass+"\xff", true); return err },
				"line feed": func() error { _, err := f.d.Redeem(ctx, desk, code, "p10", adaPass+"\n", true); return err },
			} {
				if err := try(); !errors.Is(err, ErrWeakPassword) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if _, err := f.d.Redeem(ctx, desk, code, "p10", adaPass, false); !errors.Is(err, ErrNotAcknowledged) {
				t.Errorf("not acknowledged: %v", err)
			}
			f.keys.down.Store(true)
			if _, err := f.d.Redeem(ctx, desk, code, "p10", adaPass, true); !errors.Is(err, keystore.ErrUnavailable) {
				t.Errorf("HSM gone: %v", err)
			}
			f.keys.down.Store(false)
		})
		if len(types) != 0 {
			t.Errorf("entries %v", types)
		}
		if _, err := f.d.Redeem(ctx, desk, code, "p10", adaPass, true); err != nil {
			t.Error(err)
		}
	})
	redeemTogether := func(t *testing.T, code Secret) {
		var calls sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			calls.Go(func() { _, errs[i] = f.d.Redeem(ctx, desk, code, "p11", adaPass, true) })
		}
		calls.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else if !errors.Is(err, ErrCodeInvalid) {
				t.Error(err)
			}
		}
		if done != 1 {
			t.Errorf("%d redemptions", done)
		}
		f.login("p11", adaPass)
	}
	t.Run("redeemed several times at once, once", func(t *testing.T) {
		t.Run("an invitation", func(t *testing.T) { redeemTogether(t, invite("p11")) })
		t.Run("a renewal", func(t *testing.T) {
			_, code, _, err := f.d.Renew(ctx, admin, must(f.d.Lookup(ctx, "p11")).ID, Renewal{Reason: "code lost", Proofing: f.invitation("", "").Proofing})
			if err != nil {
				t.Fatal(err)
			}
			redeemTogether(t, code)
		})
	})
	t.Run("a retried call gets the same person and a new code", func(t *testing.T) {
		inv := f.invitation("p12", "Person p12", RoleSigner)
		first, code, _, err := f.d.InvitePerson(ctx, admin, inv, "0193c1f0-0000-7000-8000-000000000001")
		if err != nil {
			t.Fatal(err)
		}
		again, newer, _, err := f.d.InvitePerson(ctx, admin, inv, "0193c1f0-0000-7000-8000-000000000001")
		if err != nil || again.ID != first.ID || newer == code {
			t.Fatalf("%s, %s, same code %v, %v", first.ID, again.ID, newer == code, err)
		}
		refused(t, code, "p12")
		if _, err := f.d.Redeem(ctx, desk, newer, "p12", adaPass, true); err != nil {
			t.Error(err)
		}
		if _, _, _, err := f.d.InvitePerson(ctx, admin, inv, "0193c1f0-0000-7000-8000-000000000001"); !errors.Is(err, ErrState) {
			t.Errorf("after it was redeemed: %v", err)
		}
		inv.Title = "another"
		if _, _, _, err := f.d.InvitePerson(ctx, admin, inv, "0193c1f0-0000-7000-8000-000000000001"); !errors.Is(err, ErrNameTaken) {
			t.Errorf("with another content: %v", err)
		}
	})
}

// TestBootstrap: the first administrator, and only the first.
func TestBootstrap(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	inv := f.invitation("root", "Grace Hopper", RoleAdministrator)
	if _, _, _, err := f.d.Bootstrap(ctx, f.invitation("root", "Grace Hopper", RoleSigner)); !errors.Is(err, ErrInvalid) {
		t.Errorf("no administrator: %v", err)
	}
	first, code, expires, err := f.d.Bootstrap(ctx, inv)
	if err != nil || !expires.Equal(start.Add(24*time.Hour)) {
		t.Fatal(expires, err)
	}
	if _, _, _, err := f.d.Bootstrap(ctx, f.invitation("root2", "Somebody Else", RoleAdministrator)); !errors.Is(err, ErrState) {
		t.Errorf("a second one: %v", err)
	}
	again, newer, _, err := f.d.Bootstrap(ctx, inv)
	if err != nil || again.ID != first.ID {
		t.Fatal(again.ID, err)
	}
	if _, err := f.d.Redeem(ctx, desk, code, "root", adminPass, true); !errors.Is(err, ErrCodeInvalid) {
		t.Errorf("the first code: %v", err)
	}
	if _, err := f.d.Redeem(ctx, desk, newer, "root", adminPass, true); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.d.Bootstrap(ctx, inv); !errors.Is(err, ErrState) {
		t.Errorf("when there is one: %v", err)
	}
}

// TestSecretsStayOut: no password, code, token, or name that is nobody's lies in the ledger's file.
func TestSecretsStayOut(t *testing.T) {
	f := newFixture(t)
	admin := f.admin()
	ctx := t.Context()
	_, code, _, err := f.d.InvitePerson(ctx, admin, f.invitation("ada", "Ada Lovelace", RoleSigner), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.Redeem(ctx, desk, code, "ada", adaPass, true); err != nil {
		t.Fatal(err)
	}
	_, token := f.loginToken("ada", adaPass)
	typed := "my-Secret-typed-into-the-name" // people do
	if _, _, _, err := f.d.OpenSession(ctx, desk, typed, adaPass); !errors.Is(err, ErrBadCredentials) {
		t.Fatal(err)
	}
	for _, e := range f.entries(0) {
		if bytes.Contains(must(e.Encode()), []byte(desk.Address)) {
			t.Errorf("%s names an address", e.Type)
		}
	}
	f.ledger.Close()
	file := must(os.ReadFile(f.options.Path))
	for what, secret := range map[string]string{
		"password": adaPass.Reveal(), "code": code.Reveal(), "code without dashes": strings.ReplaceAll(code.Reveal(), "-", ""), "token": token.Reveal(),
		"typed name": typed, "typed name, folded": fold(typed),
	} {
		if bytes.Contains(file, []byte(secret)) {
			t.Errorf("the %s lies in the file", what)
		}
	}
	if !bytes.Contains(file, []byte("$argon2id-hmac$v=1,k=")) || bytes.Contains(file, []byte("$argon2id$")) {
		t.Error("no verifier with the HSM's part in the private store, or one without")
	}
}
