package identity

import (
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// audited walks a ledger with a fresh auditor, as `signetd ledger check` does, and returns what it says. change may change an entry on the way.
func (f *fixture) audited(change func(e *chain.Entry, attachments [][]byte)) (faults []string) {
	f.t.Helper()
	a := NewAuditor()
	for _, e := range f.entries(0) {
		attachments, err := f.ledger.Attachments(e.Index)
		if err != nil {
			f.t.Fatal(err)
		}
		if change != nil {
			change(&e, attachments)
		}
		if err := a.Entry(e, nil); err != nil {
			faults = append(faults, err.Error())
		}
		if len(attachments) > 0 {
			if err := a.Attachments(e, attachments); err != nil {
				faults = append(faults, err.Error())
			}
		}
	}
	return faults
}

// TestAuditor: what two people or a signer must have done is held against all entries.
func TestAuditor(t *testing.T) {
	for _, r := range []string{"11.200(a)(3)", "11.10(j)"} {
		t.Attr("requirement", r)
	}
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	ada := f.adaUnderFourEyes(grace, olga)
	must(f.d.Suspend(ctx, grace, ada.ID, "leave"))
	f.confirm(olga, must(f.d.Reinstate(ctx, grace, ada.ID, "back")).Proposal, "olga", secondPass)
	p, _ := f.proposed(grace, "zoe", RoleSigner)
	must(f.d.Withdraw(ctx, olga, p.ID, "no"))
	if faults := f.audited(nil); len(faults) != 0 {
		t.Fatalf("%v", faults)
	}
	replace := func(typ chain.Type, from, to string) func(*chain.Entry, [][]byte) {
		return func(e *chain.Entry, _ [][]byte) {
			if e.Type == typ {
				e.Body = slices.Clone(e.Body)
				e.Body = []byte(strings.Replace(string(e.Body), from, to, 1))
			}
		}
	}
	asProposer := func(typ chain.Type) func(*chain.Entry, [][]byte) {
		return func(e *chain.Entry, _ [][]byte) {
			if e.Type == typ && e.Actor.ID == olga.ID {
				e.Actor.ID = grace.ID
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*chain.Entry, [][]byte)
		want   string
	}{
		"an invitation by one alone":          {asProposer(chain.SignerInvited), "alone"},
		"a reinstatement by one alone":        {asProposer(chain.SignerReinstated), "alone"},
		"a confirmation by the proposer":      {asProposer(chain.ActConfirmed), "who proposed it"},
		"another content":                     {replace(chain.ActProposed, "HR-2026-117", "HR-2026-118"), "not that of its content"},
		"a confirmation of something else":    {replace(chain.ActConfirmed, ActInvite, ActRenew), "not what was proposed"},
		"a confirmation of what is not there": {replace(chain.ActProposed, `"id":"prl_`, `"id":"prl_x`), "does not wait"},
		"a statement by somebody else": {func(e *chain.Entry, _ [][]byte) {
			if e.Type == chain.AccountabilitySigned {
				e.Actor.ID = grace.ID
			}
		}, "signed by"},
		"another statement": {func(e *chain.Entry, attachments [][]byte) {
			if e.Type == chain.AccountabilitySigned {
				attachments[0] = append(slices.Clone(attachments[0]), ' ')
			}
		}, "not what it names"},
		"a signature without a statement": {func(e *chain.Entry, _ [][]byte) {
			if e.Type == chain.SignerSuspended {
				e.Type, e.Actor.ID = chain.SignatureCreated, "sgn_nobody"
			}
		}, "has not signed the accountability statement"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := f.audited(c.change)
			if !slices.ContainsFunc(faults, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("%v", faults)
			}
		})
	}
}

// TestAuditorWithFourEyesOff: that they were off stands in the ledger.
func TestAuditorWithFourEyesOff(t *testing.T) {
	f := prepareFixture(t)
	f.config.FourEyes = FourEyesOff
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	if err := f.d.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	grace, _ := f.two()
	f.enrol(grace, "ada", "Ada Lovelace", adaPass, RoleSigner)
	if faults := f.audited(nil); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
	said := func(e *chain.Entry, _ [][]byte) {
		if e.Type == chain.SignerChanged && strings.Contains(string(e.Body), metaMode) {
			e.Actor.Kind = chain.Person // nobody but the program says so
		}
	}
	if faults := f.audited(said); len(faults) == 0 {
		t.Error("an invitation by one alone")
	}
	f.config.FourEyes = FourEyesAuto
	f.restart()
	if err := f.d.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	var last signerValues
	for _, e := range f.entries(0) {
		if e.Type == chain.SignerChanged {
			last = must(readBody[signerValues](e))
		}
	}
	if !slices.Equal(last.Changes, []valueChange{{Field: "fourEyes", Old: "off", New: "auto"}}) {
		t.Errorf("%+v", last)
	}
	if p, _ := f.proposed(f.login("root", adminPass), "zoe", RoleSigner); p.State != ProposalPending {
		t.Errorf("%s", p.State)
	}
}

var _ ledger.AttachmentAuditor = NewAuditor()
