package identity

import (
	"fmt"
	"slices"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// NewAuditor returns an auditor of what this package promises and a single entry cannot show: that what takes two administrators was proposed
// by one and confirmed by another, and that whoever signs had signed the accountability statement before, with a signature that verifies.
func NewAuditor() ledger.AttachmentAuditor {
	return &auditor{
		proposals: map[string]actAudit{}, administrators: map[string]State{}, certificates: map[string][]byte{}, accountable: map[string]bool{},
	}
}

type auditor struct {
	proposals      map[string]actAudit // that wait
	administrators map[string]State    // by enrolment
	certificates   map[string][]byte   // id → the newest
	accountable    map[string]bool     // who has signed the statement
	two            bool                // there were two administrators
	off            bool                // the configuration has turned four eyes off

	confirmed *actAudit // by the entries of this transaction
	at        chain.Time
	by        string
	signed    manifest.AccountabilitySigned // whose attachments come next
}

// actAudit is what an act.proposed has said.
type actAudit struct {
	kind, subject, proposer, digest string
	expires                         chain.Time
}

// Entry implements ledger.Auditor.
func (a *auditor) Entry(e chain.Entry, _ []byte) error {
	if e.Time != a.at || e.Actor.ID != a.by {
		a.confirmed = nil
	}
	switch e.Type {
	case chain.ActProposed:
		return a.proposed(e)
	case chain.ActConfirmed:
		return a.confirm(e)
	case chain.ActWithdrawn:
		body, err := readBody[actWithdrawn](e)
		delete(a.proposals, body.ID)
		return err
	case chain.SignerInvited:
		body, err := readBody[signerInvited](e)
		if err != nil {
			return err
		}
		return a.takesTwo(e, body.ID, ActInvite, ActRenew)
	case chain.SignerReinstated:
		body, err := readBody[signerChanged](e)
		if err != nil {
			return err
		}
		err = a.takesTwo(e, body.ID, ActReinstate)
		if _, is := a.administrators[body.ID]; is {
			a.administrator(body.ID, StateActive)
		}
		return err
	case chain.SignerEnrolled, chain.SignerRenewed:
		body, err := manifest.ParseSignerEnrolled(e.Body)
		if err == nil && slices.Contains(body.Roles, string(RoleAdministrator)) {
			a.administrator(body.ID, StateActive)
		}
		return err
	case chain.SignerSuspended:
		body, err := readBody[signerChanged](e)
		if _, is := a.administrators[body.ID]; is {
			a.administrators[body.ID] = StateSuspended
		}
		return err
	case chain.SignerRevoked:
		body, err := manifest.ParseSignerRevoked(e.Body)
		delete(a.administrators, body.ID)
		return err
	case chain.RoleAssigned:
		body, err := manifest.ParseRoleAssigned(e.Body)
		a.two = a.two || body.Role == string(RoleAdministrator)
		return err
	case chain.SignerChanged:
		return a.changed(e)
	case chain.AccountabilitySigned:
		return a.statement(e)
	case chain.SignatureCreated:
		if e.Actor.Kind == chain.Person && !a.accountable[e.Actor.ID] {
			return fmt.Errorf("%s signs and has not signed the accountability statement", e.Actor.ID)
		}
	}
	return nil
}

func (a *auditor) administrator(id string, state State) {
	a.administrators[id] = state
	a.two = a.two || a.active() >= 2
}

// active returns how many administrators by enrolment are active.
func (a *auditor) active() (n int) {
	for _, s := range a.administrators {
		if s == StateActive {
			n++
		}
	}
	return n
}

func (a *auditor) proposed(e chain.Entry) error {
	body, err := readBody[actProposed](e)
	if err != nil {
		return err
	}
	a.proposals[body.ID] = actAudit{kind: body.Kind, subject: body.Subject, proposer: e.Actor.ID, digest: body.Digest, expires: body.Expires}
	if hexSum(body.Content) != body.Digest {
		return fmt.Errorf("the digest of %s is not that of its content", body.ID)
	}
	return nil
}

func (a *auditor) confirm(e chain.Entry) error {
	body, err := readBody[actConfirmed](e)
	if err != nil {
		return err
	}
	p, waits := a.proposals[body.ID]
	delete(a.proposals, body.ID)
	switch {
	case !waits:
		return fmt.Errorf("%s is confirmed, and does not wait for it", body.ID)
	case p.kind != body.Kind || p.subject != body.Subject || p.proposer != body.Proposer || p.digest != body.Digest:
		return fmt.Errorf("what is confirmed of %s is not what was proposed", body.ID)
	case e.Actor.Kind == chain.System && e.Actor.ID == recoveryActor && body.Kind == ActInvite && a.active() <= 1: // see InviteAdministrator
	case e.Actor.Kind != chain.Person || e.Actor.ID == p.proposer || e.Actor.ID == p.subject:
		return fmt.Errorf("%s is confirmed by %s, who proposed it or whom it is about", body.ID, e.Actor.ID)
	case !e.Time.Before(p.expires):
		return fmt.Errorf("%s is confirmed after it has lapsed", body.ID)
	}
	a.confirmed, a.at, a.by = &p, e.Time, e.Actor.ID
	return nil
}

// takesTwo says that an entry about a signer stands alone that takes a confirmation before it, in the same transaction: one for each.
func (a *auditor) takesTwo(e chain.Entry, id string, kinds ...string) error {
	c := a.confirmed
	a.confirmed = nil
	if e.Actor.Kind == chain.System || a.off || !a.two || c != nil && slices.Contains(kinds, c.kind) && (c.subject == id || c.subject == "") {
		return nil
	}
	return fmt.Errorf("%s by %s alone, where it takes two administrators", e.Type, e.Actor.ID)
}

func (a *auditor) changed(e chain.Entry) error {
	body, err := readBody[signerValues](e)
	if err != nil || body.ID != "" || e.Actor.Kind != chain.System {
		return err
	}
	for _, c := range body.Changes {
		if c.Field == metaMode {
			a.off = c.New == string(FourEyesOff)
		}
	}
	return nil
}

func (a *auditor) statement(e chain.Entry) (err error) {
	if a.signed, err = manifest.ParseAccountabilitySigned(e.Body); err != nil {
		return err
	}
	if e.Actor.ID != a.signed.ID {
		return fmt.Errorf("the accountability statement of %s is signed by %s", a.signed.ID, e.Actor.ID)
	}
	a.accountable[a.signed.ID] = true
	return nil
}

// Attachments implements ledger.AttachmentAuditor.
func (a *auditor) Attachments(e chain.Entry, attachments [][]byte) error {
	switch e.Type {
	case chain.SignerEnrolled, chain.SignerRenewed:
		body, err := manifest.ParseSignerEnrolled(e.Body)
		if err == nil {
			a.certificates[body.ID] = attachments[0]
		}
		return err
	case chain.AccountabilitySigned:
		certificate := a.certificates[a.signed.ID]
		if certificate == nil {
			return fmt.Errorf("%s signs the accountability statement and has no certificate", a.signed.ID)
		}
		return CheckAccountability(a.signed, certificate, attachments)
	}
	return nil
}
