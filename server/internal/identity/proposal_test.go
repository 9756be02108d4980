package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/ledger/ledgertest"
)

// confirm confirms a proposal in a session of another administrator.
func (f *fixture) confirm(by Caller, p *Proposal, userName string, password Secret) Confirmation {
	f.t.Helper()
	c, err := f.d.Confirm(f.t.Context(), by, p.ID, p.Digest[:], Proof{UserName: userName, Password: password})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// two returns two administrators in sessions: four eyes are on.
func (f *fixture) two() (grace, olga Caller) {
	f.t.Helper()
	grace = f.admin()
	f.enrol(grace, "olga", "Olga Officer", secondPass, RoleAdministrator)
	return grace, f.login("olga", secondPass)
}

// proposed proposes an enrolment.
func (f *fixture) proposed(by Caller, userName string, roles ...Role) (*Proposal, Secret) {
	f.t.Helper()
	i, half, _, err := f.d.InvitePerson(f.t.Context(), by, f.invitation(userName, "Person "+userName, roles...), "")
	if err != nil {
		f.t.Fatal(err)
	}
	if i.Proposal == nil {
		f.t.Fatal("it was done by one administrator alone")
	}
	return i.Proposal, half
}

// TestFourEyes: with two administrators neither enrols anybody alone.
func TestFourEyes(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	from := f.ledger.Size()
	p, first := f.proposed(grace, "ada", RoleSigner)

	t.Run("a proposal changes nothing", func(t *testing.T) {
		if p.State != ProposalPending || p.Kind != ActInvite || p.Proposer != grace.ID || p.Subject != "" || p.Digest != sha256.Sum256(p.Content) {
			t.Errorf("%+v", p)
		}
		for _, want := range []string{"ada", "Person ada", "signer", "passport seen in person", "HR-2026-117"} {
			if !strings.Contains(p.Rendering, want) {
				t.Errorf("the rendering lacks %q:\n%s", want, p.Rendering)
			}
		}
		if _, err := f.d.Lookup(ctx, "ada"); !errors.Is(err, ErrNotFound) {
			t.Errorf("ada is there: %v", err)
		}
		if got := f.entries(from); len(got) != 1 || got[0].Type != chain.ActProposed || got[0].Actor.ID != grace.ID {
			t.Errorf("entries %v", got)
		}
	})
	proof := Proof{UserName: "olga", Password: secondPass}
	t.Run("who may not confirm it", func(t *testing.T) {
		refuse := func(name string, by Caller, id string, digest []byte, with Proof, want error) {
			t.Helper()
			if _, err := f.d.Confirm(ctx, by, id, digest, with); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		refuse("its proposer", grace, p.ID, p.Digest[:], Proof{UserName: "root", Password: adminPass}, ErrSecondPerson)
		refuse("a wrong password", olga, p.ID, p.Digest[:], Proof{UserName: "olga", Password: wrongPass}, ErrBadCredentials)
		refuse("the proposer's password", olga, p.ID, p.Digest[:], Proof{UserName: "root", Password: adminPass}, ErrBadCredentials)
		refuse("no password", olga, p.ID, p.Digest[:], Proof{}, ErrCredentialsMissing)
		refuse("who has read something else", olga, p.ID, make([]byte, sha256.Size), proof, ErrProposalState)
		refuse("no such proposal", olga, "prl_none", p.Digest[:], proof, ErrProposalNotFound)
		refuse("the server itself", System("x"), p.ID, p.Digest[:], proof, ErrSecondPerson)
		if _, err := f.d.Lookup(ctx, "ada"); !errors.Is(err, ErrNotFound) {
			t.Errorf("ada is there: %v", err)
		}
	})
	var second Secret
	t.Run("the second one confirms it, and it is done in the same transaction", func(t *testing.T) {
		before := f.ledger.Size()
		c := f.confirm(olga, p, "olga", secondPass)
		if second = c.Code; second == "" || !c.Expires.Equal(f.clock.Now().Add(10*time.Minute)) || c.Proposal.State != ProposalConfirmed || c.Proposal.Decider != olga.ID {
			t.Errorf("%+v", c.Proposal)
		}
		got := f.entries(before)
		if len(got) != 2 || got[0].Type != chain.ActConfirmed || got[1].Type != chain.SignerInvited || got[0].Actor.ID != olga.ID || got[1].Actor.ID != olga.ID || got[0].Time != got[1].Time {
			t.Fatalf("entries %v", got)
		}
		if body := must(readBody[actConfirmed](got[0])); body.Proposer != grace.ID || body.Proposed != p.Index || body.ID != p.ID {
			t.Errorf("%+v", body)
		}
		if _, err := f.d.Confirm(ctx, olga, p.ID, p.Digest[:], proof); !errors.Is(err, ErrProposalState) {
			t.Errorf("once more: %v", err)
		}
	})
	t.Run("neither of them can redeem the code alone", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(3)")
		another, _ := newHalf()
		for _, code := range []Secret{first, second, first + another, another + second} {
			if _, err := f.d.Redeem(ctx, desk, code, "ada", adaPass, true); !errors.Is(err, ErrCodeInvalid) {
				t.Errorf("%v", err)
			}
			f.clock.Add(time.Minute)
		}
	})
	t.Run("both halves together can, whichever comes first", func(t *testing.T) {
		if _, err := f.d.Redeem(ctx, desk, second+" "+first, "ada", adaPass, true); err != nil {
			t.Fatal(err)
		}
		p, first := f.proposed(olga, "bob", RoleAuditor)
		second := f.confirm(grace, p, "root", adminPass).Code
		if _, err := f.d.Redeem(ctx, desk, Secret(strings.ToLower(string(first)))+"-"+second, "bob", adaPass, true); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the ledger keeps digests of the code alone", func(t *testing.T) {
		for _, e := range f.entries(0) {
			for _, half := range []Secret{first, second} {
				if strings.Contains(string(e.Body), half.Reveal()) || strings.Contains(string(e.Body), strings.ReplaceAll(half.Reveal(), "-", "")) {
					t.Errorf("entry %d has a half of the code", e.Index)
				}
			}
		}
	})
}

// TestFourEyesStay: whoever gets rid of the other administrators does not act alone by it.
func TestFourEyesStay(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	must(f.d.Revoke(ctx, grace, olga.ID, "in my way", CauseOther))
	p, _ := f.proposed(grace, "mallory", RoleAdministrator)
	if _, err := f.d.Confirm(ctx, grace, p.ID, p.Digest[:], Proof{UserName: "root", Password: adminPass}); !errors.Is(err, ErrSecondPerson) {
		t.Errorf("alone: %v", err)
	}
	if _, err := f.d.Confirm(ctx, olga, p.ID, p.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrForbidden) {
		t.Errorf("by who is revoked: %v", err)
	}
	f.restart()
	grace = f.login("root", adminPass)
	if i, _, _, err := f.d.InvitePerson(ctx, grace, f.invitation("eve", "Eve", RoleAdministrator), ""); err != nil || i.Proposal == nil {
		t.Errorf("after a restart: %+v, %v", i, err)
	}
}

// TestFourEyesOff: the configuration turns them off.
func TestFourEyesOff(t *testing.T) {
	f := prepareFixture(t)
	f.config.FourEyes = FourEyesOff
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	grace, _ := f.two()
	if i, _, _, err := f.d.InvitePerson(t.Context(), grace, f.invitation("ada", "Ada Lovelace", RoleSigner), ""); err != nil || i.Proposal != nil {
		t.Errorf("%+v, %v", i, err)
	}
	f.config.FourEyes = "sometimes"
	if _, err := New(f.config, f.ledger, f.keys, f.ca); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// TestProposalIsCheckedAgain: what is confirmed must still be possible then.
func TestProposalIsCheckedAgain(t *testing.T) {
	ctx := t.Context()
	t.Run("a name that was taken meanwhile", func(t *testing.T) {
		f := newFixture(t)
		grace, olga := f.two()
		one, _ := f.proposed(grace, "ada", RoleSigner)
		two, _ := f.proposed(grace, "ada", RoleAdministrator)
		f.confirm(olga, one, "olga", secondPass)
		if _, err := f.d.Confirm(ctx, olga, two.ID, two.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrNameTaken) {
			t.Errorf("%v", err)
		}
		if p := must(f.d.Proposal(ctx, two.ID)); p.State != ProposalPending {
			t.Errorf("it is %s", p.State)
		}
	})
	t.Run("what cannot be is not proposed", func(t *testing.T) {
		f := newFixture(t)
		grace, olga := f.two()
		if _, _, _, err := f.d.InvitePerson(ctx, grace, f.invitation("olga", "Another", RoleSigner), ""); !errors.Is(err, ErrNameTaken) {
			t.Errorf("a taken name: %v", err)
		}
		if _, err := f.d.Reinstate(ctx, grace, olga.ID, "not suspended"); !errors.Is(err, ErrState) {
			t.Errorf("who is not suspended: %v", err)
		}
		if _, _, _, err := f.d.Renew(ctx, grace, "sgn_nobody", Renewal{Reason: "r", Proofing: f.invitation("", "").Proofing}); !errors.Is(err, ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
		if list := must(f.d.Proposals(ctx, 0, false, 10)); len(list) != 0 {
			t.Errorf("%d proposals", len(list))
		}
	})
	t.Run("its proposer was suspended meanwhile", func(t *testing.T) {
		f := newFixture(t)
		grace, olga := f.two()
		p, _ := f.proposed(olga, "ada", RoleSigner)
		must(f.d.Suspend(ctx, grace, olga.ID, "looks odd"))
		if _, err := f.d.Confirm(ctx, grace, p.ID, p.Digest[:], Proof{UserName: "root", Password: adminPass}); !errors.Is(err, ErrProposalState) {
			t.Errorf("%v", err)
		}
	})
	t.Run("whom it is about", func(t *testing.T) {
		f := newFixture(t)
		grace, olga := f.two()
		i, _, _, err := f.d.Renew(ctx, grace, olga.ID, Renewal{Reason: "lost", Proofing: f.invitation("", "").Proofing})
		if err != nil || i.Proposal == nil || i.Proposal.Subject != olga.ID {
			t.Fatalf("%+v, %v", i, err)
		}
		if _, err := f.d.Confirm(ctx, olga, i.Proposal.ID, i.Proposal.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrSecondPerson) {
			t.Errorf("%v", err)
		}
		if _, _, _, err := f.d.Renew(ctx, olga, olga.ID, Renewal{Reason: "lost", Proofing: f.invitation("", "").Proofing}); !errors.Is(err, ErrForbidden) {
			t.Errorf("for herself: %v", err)
		}
	})
	t.Run("a lapsed one", func(t *testing.T) {
		f := newFixture(t)
		grace, _ := f.two()
		p, _ := f.proposed(grace, "ada", RoleSigner)
		f.clock.Add(7*24*time.Hour - time.Second)
		olga := f.login("olga", secondPass)
		if got := must(f.d.Proposal(ctx, p.ID)); got.State != ProposalPending {
			t.Errorf("a second before: %s", got.State)
		}
		f.clock.Add(time.Second)
		if _, err := f.d.Confirm(ctx, olga, p.ID, p.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrProposalState) {
			t.Errorf("%v", err)
		}
		if got := must(f.d.Proposal(ctx, p.ID)); got.State != ProposalLapsed {
			t.Errorf("it is %s", got.State)
		}
		if types := f.appended(func() { f.proposed(olga, "eve", RoleSigner) }); !slices.Equal(types, []chain.Type{chain.ActWithdrawn, chain.ActProposed}) {
			t.Errorf("entries %v", types)
		}
	})
}

// TestWithdrawal: the proposer takes it back, another one refuses it.
func TestWithdrawal(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	for i, by := range []Caller{grace, olga} {
		p, _ := f.proposed(grace, fmt.Sprintf("person%d", i), RoleSigner)
		from := f.ledger.Size()
		if _, err := f.d.Withdraw(ctx, by, p.ID, " "); !errors.Is(err, ErrInvalid) {
			t.Errorf("without a reason: %v", err)
		}
		got, err := f.d.Withdraw(ctx, by, p.ID, "a mistake")
		if err != nil || got.State != ProposalWithdrawn || got.Decider != by.ID {
			t.Errorf("%+v, %v", got, err)
		}
		body := must(readBody[actWithdrawn](f.entries(from)[0]))
		if want := []string{withdrawnByProposer, withdrawnByOther}[i]; body.Cause != want || body.Reason != "a mistake" {
			t.Errorf("%+v", body)
		}
		if _, err := f.d.Confirm(ctx, olga, p.ID, p.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrProposalState) {
			t.Errorf("confirmed: %v", err)
		}
		if _, err := f.d.Withdraw(ctx, by, p.ID, "again"); !errors.Is(err, ErrProposalState) {
			t.Errorf("again: %v", err)
		}
	}
	if _, err := f.d.Withdraw(ctx, grace, "prl_none", "r"); !errors.Is(err, ErrProposalNotFound) {
		t.Errorf("%v", err)
	}
	ada := f.adaUnderFourEyes(grace, olga)
	p, _ := f.proposed(grace, "zoe", RoleSigner)
	if _, err := f.d.Withdraw(ctx, ada, p.ID, "I may not"); !errors.Is(err, ErrForbidden) {
		t.Errorf("by who is no administrator: %v", err)
	}
}

// adaUnderFourEyes enrols a signer by two administrators.
func (f *fixture) adaUnderFourEyes(grace, olga Caller) Caller {
	f.t.Helper()
	p, first := f.proposed(grace, "ada", RoleSigner)
	second := f.confirm(olga, p, "olga", secondPass).Code
	if _, err := f.d.Redeem(f.t.Context(), desk, first+second, "ada", adaPass, true); err != nil {
		f.t.Fatal(err)
	}
	return f.login("ada", adaPass)
}

// TestProposalList: newest first, in pages, or those alone that wait.
func TestProposalList(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	var ids []string
	for i := range 5 {
		p, _ := f.proposed(grace, fmt.Sprintf("person%d", i), RoleSigner)
		ids = append(ids, p.ID)
	}
	must(f.d.Withdraw(ctx, olga, ids[3], "no"))
	of := func(list []Proposal) (out []string) {
		for _, p := range list {
			out = append(out, p.ID)
		}
		return out
	}
	page := must(f.d.Proposals(ctx, 0, false, 2))
	if got := of(page); !slices.Equal(got, []string{ids[4], ids[3]}) {
		t.Errorf("%v", got)
	}
	if got := of(must(f.d.Proposals(ctx, page[1].Index, false, 10))); !slices.Equal(got, []string{ids[2], ids[1], ids[0]}) {
		t.Errorf("%v", got)
	}
	if got := of(must(f.d.Proposals(ctx, 0, true, 2))); !slices.Equal(got, []string{ids[4], ids[2]}) {
		t.Errorf("%v", got)
	}
}

// TestProposedAgain: a retried call makes one proposal.
func TestProposedAgain(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	inv := f.invitation("ada", "Ada Lovelace", RoleSigner)
	const key = "0193c1f0-0000-7000-8000-000000000001"
	one, lost, _, err := f.d.InvitePerson(ctx, grace, inv, key)
	if err != nil {
		t.Fatal(err)
	}
	two, first, _, err := f.d.InvitePerson(ctx, grace, inv, key)
	if err != nil || two.Proposal.ID == one.Proposal.ID || first == "" || first == lost {
		t.Fatalf("%+v, %v", two, err)
	}
	if list := must(f.d.Proposals(ctx, 0, true, 10)); len(list) != 1 || list[0].ID != two.Proposal.ID {
		t.Errorf("%+v", list)
	}
	second := f.confirm(olga, two.Proposal, "olga", secondPass).Code
	if three, code, _, err := f.d.InvitePerson(ctx, grace, inv, key); err != nil || three.Proposal.ID != two.Proposal.ID || three.Proposal.State != ProposalConfirmed || code != "" {
		t.Errorf("after it was confirmed: %+v, code %v, %v", three, code != "", err)
	}
	if _, err := f.d.Redeem(ctx, desk, lost+second, "ada", adaPass, true); !errors.Is(err, ErrCodeInvalid) {
		t.Errorf("the half that was lost: %v", err)
	}
	if _, err := f.d.Redeem(ctx, desk, first+second, "ada", adaPass, true); err != nil {
		t.Error(err)
	}
}

// TestTakingAwayDoesNotWait: suspension, revocation and the end of a password take one administrator; giving back takes two.
func TestTakingAwayDoesNotWait(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	ada := f.adaUnderFourEyes(grace, olga)
	if s := must(f.d.Suspend(ctx, grace, ada.ID, "looks odd")); s.State != StateSuspended {
		t.Errorf("%s", s.State)
	}
	i := must(f.d.Reinstate(ctx, grace, ada.ID, "was fine"))
	if i.Proposal == nil || must(f.d.Get(ctx, ada.ID)).State != StateSuspended {
		t.Fatalf("%+v", i)
	}
	from := f.ledger.Size()
	f.confirm(olga, i.Proposal, "olga", secondPass)
	if must(f.d.Get(ctx, ada.ID)).State != StateActive {
		t.Error("not reinstated")
	}
	if body := must(readBody[signerChanged](f.entries(from)[1])); body != (signerChanged{From: StateSuspended, ID: ada.ID, Reason: "was fine", To: StateActive}) {
		t.Errorf("%+v", body)
	}
	renewal, _, _, err := f.d.Renew(ctx, grace, ada.ID, Renewal{Reason: "password seen", Proofing: f.invitation("", "").Proofing, RevokeNow: true})
	if err != nil || renewal.Proposal == nil {
		t.Fatalf("%+v, %v", renewal, err)
	}
	if _, _, _, err := f.d.OpenSession(ctx, desk, "ada", adaPass); !errors.Is(err, ErrBadCredentials) {
		t.Errorf("the old password: %v", err)
	}
	if s := must(f.d.Revoke(ctx, grace, ada.ID, "left the company", CauseLeft)); s.State != StateRevoked {
		t.Errorf("%s", s.State)
	}
	if _, err := f.d.Confirm(ctx, olga, renewal.Proposal.ID, renewal.Proposal.Digest[:], Proof{UserName: "olga", Password: secondPass}); !errors.Is(err, ErrState) {
		t.Errorf("a renewal of who is revoked: %v", err)
	}
}

// TestActs: a kind of act of others, with something that is prepared outside of the transaction.
func TestActs(t *testing.T) {
	f := prepareFixture(t)
	ctx := t.Context()
	type note struct {
		Text string `json:"text"`
	}
	var prepared, discarded int
	refused := errors.New("refused")
	f.config.Acts = []ActKind{{
		Kind:   "note.put",
		Render: renderAs(func(n note) []string { return []string{"Note: " + n.Text} }),
		Prepare: func(context.Context, Execution) (any, func(context.Context, error), error) {
			prepared++
			return "made", func(context.Context, error) { discarded++ }, nil
		},
		Do: func(tx *ledger.Tx, e Execution) error {
			n, err := readContent[note](e.Content)
			if err != nil || n.Text == "never" {
				return errors.Join(err, refused)
			}
			if !e.Trial && e.Prepared != "made" {
				return errors.New("nothing was prepared")
			}
			if !e.Trial && n.Text == "not now" {
				return refused
			}
			tx.Emit(ledger.Event{Type: chain.AccessDenied, Actor: e.Caller.Actor(), Request: e.Request, Body: accessDenied{Method: n.Text, Reason: e.Proposer}})
			return nil
		},
	}}
	f.ledger = ledgertest.Open(t, f.options)
	f.open()
	grace := f.admin()
	const key = "0193c1f0-0000-7000-8000-000000000002"
	for range 2 { // the second one is the same call again
		if done, _, err := f.d.Act(ctx, grace, "note.put", "", note{"one"}, key); err != nil || !done {
			t.Fatalf("alone: %v, %v", done, err)
		}
	}
	if prepared != 2 || discarded != 1 {
		t.Errorf("prepared %d times, discarded %d", prepared, discarded)
	}
	if _, _, err := f.d.Act(ctx, grace, "note.put", "", note{"never"}, ""); !errors.Is(err, refused) || prepared != 2 {
		t.Errorf("what is refused: %v, prepared %d times", err, prepared)
	}
	if _, _, err := f.d.Act(ctx, grace, "note.put", "", note{"not now"}, ""); !errors.Is(err, refused) || discarded != 2 {
		t.Errorf("what is refused later: %v, discarded %d", err, discarded)
	}
	f.enrol(grace, "olga", "Olga Officer", secondPass, RoleAdministrator)
	olga := f.login("olga", secondPass)
	done, p, err := f.d.Act(ctx, grace, "note.put", "", note{"two"}, key)
	if err != nil || done || p.Rendering != "Note: two" {
		t.Fatalf("with two: %v, %+v, %v", done, p, err)
	}
	done, again, err := f.d.Act(ctx, grace, "note.put", "", note{"two"}, key)
	if err != nil || done || again.ID != p.ID {
		t.Errorf("again: %v, %+v, %v", done, again, err)
	}
	types := f.appended(func() { f.confirm(olga, &p, "olga", secondPass) })
	if !slices.Equal(types, []chain.Type{chain.ActConfirmed, chain.AccessDenied}) || prepared != 4 || discarded != 2 {
		t.Errorf("entries %v, prepared %d times, discarded %d", types, prepared, discarded)
	}
	if _, _, err := f.d.Act(ctx, grace, "note.gone", "", note{"x"}, ""); err == nil {
		t.Error("an unknown kind")
	}
	f.config.Acts = append(f.config.Acts, f.config.Acts[0])
	if _, err := New(f.config, f.ledger, f.keys, f.ca); err == nil {
		t.Error("a kind that is there twice")
	}
}

// TestRecovery: where one administrator is left, the machine's operator stands in for the second one.
func TestRecovery(t *testing.T) {
	t.Attr("requirement", "11.200(a)(3)")
	f := newFixture(t)
	ctx := t.Context()
	grace, olga := f.two()
	inv := f.invitation("ivan", "Ivan Security", RoleAdministrator)
	last, err := f.d.ProveOffline(ctx, "root", adminPass)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.d.InviteAdministrator(ctx, last, inv, "olga is slow"); !errors.Is(err, ErrState) {
		t.Errorf("with a second one: %v", err)
	}
	must(f.d.Revoke(ctx, grace, olga.ID, "has left", CauseLeft))
	for name, c := range map[string]struct {
		inv    Invitation
		reason string
		want   error
	}{
		"without a reason":        {inv, " ", ErrInvalid},
		"no administrator":        {f.invitation("ivan", "Ivan Security", RoleSigner), "r", ErrInvalid},
		"a name that was used":    {f.invitation("olga", "Olga Again", RoleAdministrator), "r", ErrNameTaken},
		"who is not the last one": {inv, "r", ErrForbidden},
	} {
		who := last
		if c.want == ErrForbidden {
			who.ID = olga.ID
		}
		if _, _, _, err := f.d.InviteAdministrator(ctx, who, c.inv, c.reason); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	from := f.ledger.Size()
	_, code, expires, err := f.d.InviteAdministrator(ctx, last, inv, "olga has left")
	if err != nil || !expires.Equal(f.clock.Now().Add(24*time.Hour)) {
		t.Fatalf("%s, %v", expires, err)
	}
	list := f.entries(from)
	if len(list) != 3 || list[0].Type != chain.ActProposed || list[0].Actor.ID != grace.ID || list[1].Type != chain.ActConfirmed ||
		list[1].Actor.Kind != chain.System || list[2].Type != chain.SignerInvited || !strings.Contains(string(list[0].Body), "olga has left") {
		t.Errorf("%v", list)
	}
	if _, err := f.d.Redeem(ctx, desk, code, "ivan", secondPass, true); err != nil {
		t.Fatal(err)
	}
	ivan := f.login("ivan", secondPass)
	p, _ := f.proposed(grace, "ada", RoleSigner)
	f.confirm(ivan, p, "ivan", secondPass)
	if faults := f.audited(nil); len(faults) != 0 {
		t.Errorf("%v", faults)
	}
}
