package identity

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// accountabilities returns the entries accountability.signed.
func (f *fixture) accountabilities() (list []chain.Entry) {
	f.t.Helper()
	for _, e := range f.entries(0) {
		if e.Type == chain.AccountabilitySigned {
			list = append(list, e)
		}
	}
	return list
}

// TestFirstSignature: the first signature of a key is over the accountability statement, and stands in the ledger with it.
func TestFirstSignature(t *testing.T) {
	for _, r := range []string{"11.10(j)", "11.300(e)"} {
		t.Attr("requirement", r)
	}
	f := prepareFixture(t)
	f.config.LetterReference = "FDA letter of 2026-11-02"
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	_, _, signer := f.ada()
	list := f.accountabilities()
	if len(list) != 1 {
		t.Fatalf("%d entries", len(list))
	}
	e := list[0]
	body, err := manifest.ParseAccountabilitySigned(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	attachments := must(f.ledger.Attachments(e.Index))
	t.Run("by the person, in the transaction of the enrolment", func(t *testing.T) {
		enrolled := f.entries(e.Index - 1)[0]
		if e.Actor.ID != signer.ID || e.Actor.Kind != chain.Person || enrolled.Type != chain.SignerEnrolled || enrolled.Time != e.Time || enrolled.Actor.ID != signer.ID {
			t.Errorf("%+v after %s", e.Actor, enrolled.Type)
		}
	})
	t.Run("it verifies", func(t *testing.T) {
		if err := CheckAccountability(body, signer.Certificate, attachments); err != nil {
			t.Fatal(err)
		}
		st, err := manifest.ParseAccountability(attachments[0])
		if err != nil {
			t.Fatal(err)
		}
		p := st.Predicate
		if p.Statement != AccountabilityText || p.Version != AccountabilityVersion || p.Letter != "FDA letter of 2026-11-02" || p.Signer.ID != signer.ID ||
			p.Signer.Name != "Ada Lovelace" || p.Signer.UserName != "ada" || p.KeyID != signer.KeyID || p.Zone != (manifest.Zone{Name: "Europe/Berlin", Offset: "+01:00"}) {
			t.Errorf("%+v", p)
		}
		token, err := rfc3161.Parse(attachments[2])
		if err != nil || token.GenTime.Before(p.SignedAt.Time()) || token.GenTime.Sub(p.SignedAt.Time()) > time.Second {
			t.Errorf("%v, %v", token, err)
		}
		if signer.Accountability != AccountabilityVersion {
			t.Errorf("the signer has acknowledged %q", signer.Accountability)
		}
	})
	t.Run("nothing in it can be swapped", func(t *testing.T) {
		for i := range attachments {
			for at := 0; at < len(attachments[i]); at += 1 + len(attachments[i])/40 {
				changed := slices.Clone(attachments)
				changed[i] = slices.Clone(attachments[i])
				changed[i][at] ^= 1
				if CheckAccountability(body, signer.Certificate, changed) == nil {
					t.Fatalf("attachment %d with byte %d changed", i, at)
				}
				b := body // whoever changes the entry, too
				b.Statement, b.Signature, b.Timestamp = hexSum(changed[0]), hexSum(changed[1]), hexSum(changed[2])
				if i < 2 && CheckAccountability(b, signer.Certificate, changed) == nil {
					t.Fatalf("attachment %d and the entry with byte %d changed", i, at)
				}
			}
		}
		for name, change := range map[string]func(*manifest.AccountabilitySigned){
			"another person":  func(b *manifest.AccountabilitySigned) { b.ID = "sgn_other" },
			"another version": func(b *manifest.AccountabilitySigned) { b.Version = "accountability-2" },
			"another letter":  func(b *manifest.AccountabilitySigned) { b.Letter = "" },
			"another key":     func(b *manifest.AccountabilitySigned) { b.KeyID = strings.Repeat("0", 64) },
		} {
			b := body
			change(&b)
			if CheckAccountability(b, signer.Certificate, attachments) == nil {
				t.Error(name)
			}
		}
	})
	t.Run("who has no key acknowledges it", func(t *testing.T) {
		if root := must(f.d.Lookup(t.Context(), "root")); root.Accountability != AccountabilityVersion || root.KeyID != "" {
			t.Errorf("%+v", root)
		}
	})
}

// TestNoSignatureWithoutAccountability: a key whose first signature is missing signs nothing.
func TestNoSignatureWithoutAccountability(t *testing.T) {
	t.Attr("requirement", "11.10(j)")
	f := newFixture(t)
	ctx := t.Context()
	admin := f.admin()
	stamp := f.config.Stamp
	invite := func(name string) Secret {
		t.Helper()
		_, code, _, err := f.d.InvitePerson(ctx, admin, f.invitation(name, "Person "+name, RoleSigner), "")
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	code := invite("ada")
	t.Run("no time-stamp: nothing was changed, and the code can be used again", func(t *testing.T) {
		f.d.cfg.Stamp = nil
		types := f.appended(func() {
			if _, err := f.d.Redeem(ctx, desk, code, "ada", adaPass, true); err == nil {
				t.Error("it was redeemed")
			}
		})
		if len(types) != 0 {
			t.Errorf("entries %v", types)
		}
	})
	t.Run("a signature that does not verify", func(t *testing.T) {
		f.d.cfg.Stamp = stamp
		keys := f.d.keys
		f.d.keys = wrongSigner{f.keys}
		types := f.appended(func() {
			if _, err := f.d.Redeem(ctx, desk, code, "ada", adaPass, true); err == nil {
				t.Error("it was redeemed")
			}
		})
		if f.d.keys = keys; len(types) != 0 {
			t.Errorf("entries %v", types)
		}
	})
	ada, err := f.d.Redeem(ctx, desk, code, "ada", adaPass, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.identity(ada.ID); err != nil {
		t.Error(err)
	}
	t.Run("not acknowledged", func(t *testing.T) {
		if _, err := f.d.Redeem(ctx, desk, invite("bob"), "bob", adaPass, false); !errors.Is(err, ErrNotAcknowledged) {
			t.Error(err)
		}
	})
}

// TestNewStatement: a renewal asks for the newest version of the statement.
func TestNewStatement(t *testing.T) {
	t.Attr("requirement", "11.10(j)")
	f := newFixture(t)
	ctx := t.Context()
	_, _, signer := f.ada()
	f.config.Accountability = Accountability{Version: "accountability-2", Text: "I hold myself accountable, in other words."}
	f.restart()
	admin := f.login("root", adminPass)
	if _, err := f.identity(signer.ID); err != nil {
		t.Errorf("under the old statement: %v", err)
	}
	_, code, _, err := f.d.Renew(ctx, admin, signer.ID, Renewal{Reason: "a new statement", Proofing: f.invitation("", "").Proofing})
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := f.d.Redeem(ctx, desk, code, "ada", secondPass, true)
	if err != nil {
		t.Fatal(err)
	}
	list := f.accountabilities()
	if len(list) != 2 || renewed.Accountability != "accountability-2" {
		t.Fatalf("%d statements, %q", len(list), renewed.Accountability)
	}
	attachments := must(f.ledger.Attachments(list[1].Index))
	if err := CheckAccountability(must(manifest.ParseAccountabilitySigned(list[1].Body)), renewed.Certificate, attachments); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(attachments[0], []byte("in other words")) {
		t.Errorf("%s", attachments[0])
	}
	if _, err := f.identity(signer.ID); err != nil {
		t.Error(err)
	}
}

// TestChangeOfName: old and new values stand in the ledger, and who they were is still what the old entry says.
func TestChangeOfName(t *testing.T) {
	for _, r := range []string{"A-18", "11.100"} {
		t.Attr("requirement", r)
	}
	f := newFixture(t)
	ctx := t.Context()
	admin, _, signer := f.ada()
	before, err := f.identity(signer.ID)
	if err != nil {
		t.Fatal(err)
	}
	_, code, _, err := f.d.Renew(ctx, admin, signer.ID, Renewal{
		Reason: "married", Name: "Ada King", Title: "Countess of Lovelace", Proofing: Proofing{Method: "marriage certificate seen", Reference: "HR-2026-118"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := must(f.d.Get(ctx, signer.ID)); s.Name != "Ada Lovelace" {
		t.Errorf("before it was redeemed: %s", s.Name)
	}
	from := f.ledger.Size()
	renewed, err := f.d.Redeem(ctx, desk, code, "ada", secondPass, true)
	if err != nil {
		t.Fatal(err)
	}
	list := f.entries(from)
	body := must(readBody[signerValues](list[len(list)-1]))
	want := []valueChange{{Field: "name", Old: "Ada Lovelace", New: "Ada King"}, {Field: "title", Old: "QA Lead", New: "Countess of Lovelace"}}
	if !slices.Equal(body.Changes, want) || body.ID != signer.ID || body.Reason != "married" {
		t.Errorf("%+v", body)
	}
	after, err := f.identity(signer.ID)
	if err != nil || after.Name != "Ada King" || after.Enrolment == before.Enrolment || renewed.ID != signer.ID {
		t.Fatalf("%+v, %v", after, err)
	}
	err = f.ledger.View(func(r *ledger.Read) error {
		for name, enrolment := range map[string]chain.Hash{"Ada Lovelace": before.Enrolment, "Ada King": after.Enrolment} {
			support, err := f.d.Support(r, signer.ID, enrolment)
			if err != nil {
				return err
			}
			e, err := chain.ParseEntry(must(r.ProvedEntry(support[0])))
			if err != nil {
				return err
			}
			if got := must(manifest.ParseSignerEnrolled(e.Body)); got.Name != name {
				t.Errorf("the enrolment of %s is that of %s", name, got.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLetter: the reference of the letter to the agency is in the ledger, when it changes.
func TestLetter(t *testing.T) {
	t.Attr("requirement", "11.100")
	f := newFixture(t)
	letters := func() (list []valueChange) {
		t.Helper()
		for _, e := range f.entries(0) {
			if e.Type == chain.SignerChanged {
				if body := must(readBody[signerValues](e)); body.ID == "" {
					list = append(list, body.Changes...)
				}
			}
		}
		return list
	}
	start := func(reference string) {
		t.Helper()
		f.config.LetterReference = reference
		f.restart()
		if err := f.d.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	start("")
	start("FDA 2026-11-02")
	start("FDA 2026-11-02")
	start("FDA 2027-01-15")
	want := []valueChange{
		{Field: "letterReference", New: "FDA 2026-11-02"}, {Field: "letterReference", Old: "FDA 2026-11-02", New: "FDA 2027-01-15"},
	}
	if got := letters(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestLeaving: a revocation says its cause, with the old and the new state.
func TestLeaving(t *testing.T) {
	t.Attr("requirement", "11.300(b)")
	f := newFixture(t)
	ctx := t.Context()
	admin, _, signer := f.ada()
	if _, err := f.d.Revoke(ctx, admin, signer.ID, "r", "bored"); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	from := f.ledger.Size()
	must(f.d.Revoke(ctx, admin, signer.ID, "last day", CauseLeft))
	list := f.entries(from)
	if len(list) != 2 || list[0].Type != chain.SignerChanged || list[1].Type != chain.SignerRevoked {
		t.Fatalf("%v", list)
	}
	body := must(readBody[signerValues](list[0]))
	if !slices.Equal(body.Changes, []valueChange{{Field: "state", Old: "active", New: "revoked"}}) || body.Cause != "left" || body.ID != signer.ID || body.Reason != "last day" {
		t.Errorf("%+v", body)
	}
}

// wrongSigner is a key store that signs something else.
type wrongSigner struct{ *failingKeys }

func (w wrongSigner) Sign(ctx context.Context, id keystore.ID, public crypto.PublicKey, message []byte) ([]byte, error) {
	return w.failingKeys.Sign(ctx, id, public, append(message, '.'))
}
