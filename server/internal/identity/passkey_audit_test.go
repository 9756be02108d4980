package identity

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/passkey"
	"github.com/signetd/signet/api/passkey/passkeytest"
)

// TestPasskeyAuditor: the check of a ledger follows every binding.
func TestPasskeyAuditor(t *testing.T) {
	for _, row := range []string{"11.10(a)", "11.200(a)(3)"} {
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
	_, q := f.passkey(ada, "ada", adaPass, passkeytest.EdDSA)
	if _, err := f.vouch(ada, q, d); err != nil {
		t.Fatal(err)
	}
	if _, err := f.d.RevokePasskey(t.Context(), ada, Proof{UserName: "ada", Password: adaPass}, p.Signer, p.ID, "lost"); err != nil {
		t.Fatal(err)
	}
	walk := func(change func(e *chain.Entry) bool) (faults []string) {
		t.Helper()
		a := NewPasskeyAuditor()
		for _, e := range f.entries(0) {
			if change != nil && !change(&e) {
				continue
			}
			if err := a.Entry(e, nil); err != nil {
				faults = append(faults, err.Error())
			}
		}
		return faults
	}
	if faults := walk(nil); len(faults) != 0 {
		t.Fatalf("%q", faults)
	}
	// rebind changes the binding of the passkey that was bound first by vouchers.
	rebind := func(change func(b *passkey.Bound)) func(*chain.Entry) bool {
		return func(e *chain.Entry) bool {
			b, err := passkey.ParseBound(e.Body)
			if e.Type != chain.PasskeyBound || err != nil || b.Binding.Nonce != p.ID {
				return true
			}
			b.Vouchers = slices.Clone(b.Vouchers)
			change(&b)
			body, err := jcs.Marshal(passkey.NewBound(b.Binding, b.Vouchers...))
			if err != nil {
				t.Fatal(err)
			}
			e.Body = body
			return true
		}
	}
	for name, c := range map[string]struct {
		change func(e *chain.Entry) bool
		says   string
	}{
		"bound by one administrator": {rebind(func(b *passkey.Bound) { b.Vouchers = b.Vouchers[:1] }), "1 of 2 other people"},
		"bound by nobody":            {rebind(func(b *passkey.Bound) { b.Vouchers = nil }), "nobody vouches"},
		"bound with another key":     {rebind(func(b *passkey.Bound) { b.Binding.SPKI = devices[1].SPKI }), "as nobody has registered it"},
		"bound with a changed voucher": {rebind(func(b *passkey.Bound) {
			b.Vouchers[0].Signature = slices.Clone(b.Vouchers[0].Signature)
			b.Vouchers[0].Signature[9] ^= 1
		}), "does not vouch for it"},
		"without an administrator's": {func(e *chain.Entry) bool {
			return e.Type != chain.PasskeyBound || !strings.Contains(string(e.Body), "Grace Murray")
		}, "no such passkey that counts"},
		"without what was registered": {func(e *chain.Entry) bool { return e.Type != chain.PasskeyRegistered }, "as nobody has registered it"},
		"an administrator was revoked": {func(e *chain.Entry) bool {
			if e.Type == chain.SessionOpened { // any entry before the bindings
				body, _ := jcs.Marshal(manifest.SignerRevoked{By: "sgn_x", ID: admins[1].ID, Reason: "left"})
				e.Type, e.Body = chain.SignerRevoked, body
			}
			return true
		}, "suspended or revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			if faults := walk(c.change); !slices.ContainsFunc(faults, func(s string) bool { return strings.Contains(s, c.says) }) {
				t.Errorf("%q; want %q", faults, c.says)
			}
		})
	}

	// A signature that names a passkey is held against it.
	a := NewPasskeyAuditor()
	for _, e := range f.entries(0) {
		if e.Type == chain.PasskeyRevoked {
			break
		}
		if err := a.Entry(e, nil); err != nil {
			t.Fatal(err)
		}
	}
	proof := func(statement []byte) []byte {
		x, err := d.Assert(sha256.Sum256(manifest.PAE(statement)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := manifest.Authorization{
			Kind: manifest.AuthorizationPasskey, AuthenticatorData: x.AuthenticatorData, ClientDataJSON: x.ClientDataJSON, CredentialID: x.CredentialID, Signature: x.Signature,
		}.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	statement := func(name string) []byte {
		b, err := manifest.Statement{
			Type: manifest.StatementType, PredicateType: manifest.PredicateType,
			Subject: []manifest.Subject{{Name: "bioflow-v1#record"}},
			Predicate: manifest.Predicate{
				Activity: manifest.Activity{Attempt: "0"}, Decision: manifest.Approve, Event: "0193c1f0-0000-7000-8000-000000000001", Expires: chain.NewTime(start.Add(1)).Add(1e9),
				Inputs: []manifest.Input{}, Ledger: manifest.Head{Origin: "x", Size: 1}, Meaning: manifest.Meaning{ID: "a", Text: "a", Version: 1}, Preparation: "prp_1",
				PreparedAt: chain.NewTime(start), Reason: "why", Requires: manifest.AuthorizationPasskey, Signer: manifest.Signer{ID: ada.ID, Name: name, Roles: []string{"signer"}},
				Statement: "I sign.", Zone: manifest.Zone{Name: "UTC", Offset: "+00:00"},
			},
		}.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	signed := chain.Entry{Type: chain.SignatureCreated}
	good, other := statement("Ada Lovelace"), statement("Eve")
	if err := a.Attachments(signed, [][]byte{good, nil, proof(good)}); err != nil {
		t.Errorf("a sound signature: %v", err)
	}
	if err := a.Attachments(signed, [][]byte{good, nil, proof(other)}); err == nil || !strings.Contains(err.Error(), "another challenge") {
		t.Errorf("an assertion over another statement: %v", err)
	}
	if err := a.Attachments(signed, [][]byte{other, nil, proof(other)}); err == nil || !strings.Contains(err.Error(), "under the name") {
		t.Errorf("under another name: %v", err)
	}
}
