package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// Invitation says whom to enrol.
type Invitation struct {
	UserName     string
	Name         string // printed name
	Title        string
	Organisation string // empty: the service's
	Zone         string // IANA
	Roles        []Role
	Proofing     Proofing
}

// Renewal says why a person gets a new code, and what changes with it.
type Renewal struct {
	Reason    string
	Proofing  Proofing
	Name      string // empty: unchanged
	Title     string // empty: unchanged
	RevokeNow bool   // the old password and the sessions end at once
}

func (d *Directory) newProofing(p Proofing) (proofingRecord, error) {
	if err := checkText("method of identity proofing", p.Method, 3, 500); err != nil {
		return proofingRecord{}, err
	}
	if err := checkText("reference of identity proofing", p.Reference, 1, 200); err != nil {
		return proofingRecord{}, err
	}
	salt := make([]byte, 16)
	rand.Read(salt)
	return proofingRecord{Method: p.Method, Reference: p.Reference, Salt: hex.EncodeToString(salt)}, nil
}

// checkInvitation holds an invitation against the rules, and fills in the organisation.
func (d *Directory) checkInvitation(inv *Invitation) error {
	inv.UserName = fold(inv.UserName)
	if inv.Organisation == "" {
		inv.Organisation = d.cfg.Organisation
	}
	if err := checkUserName(inv.UserName); err != nil {
		return err
	}
	for _, f := range []struct {
		what, text string
		least      int
		most       int
	}{{"printed name", inv.Name, 1, maxCommonName}, {"organisation", inv.Organisation, 1, maxCommonName}, {"title", inv.Title, 0, 128}} {
		if err := checkText(f.what, f.text, f.least, f.most); err != nil {
			return err
		}
	}
	if err := checkZone(inv.Zone); err != nil {
		return err
	}
	if len(inv.Roles) == 0 {
		return invalid("no role; use %v", personRoles)
	}
	for i, r := range inv.Roles {
		if !slices.Contains(personRoles, r) || slices.Contains(inv.Roles[:i], r) {
			return invalid("role %.40q: unknown for a person, or there twice; use %v", r, personRoles)
		}
	}
	slices.Sort(inv.Roles)
	return checkEnrolled(manifest.SignerEnrolled{
		Accountability: d.cfg.Accountability.Version, ID: "sgn_x", Name: inv.Name, Organisation: inv.Organisation, Roles: enrolledRoles(inv.Roles),
		Title: inv.Title, UserName: inv.UserName, Zone: inv.Zone,
	})
}

// checkEnrolled holds what will stand in signer.enrolled against what verifiers accept.
func checkEnrolled(e manifest.SignerEnrolled) error {
	if err := e.Validate(); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// request names a retried call: who, what, under which key, with which content. Without a key there is none.
func request(caller Caller, method, key string, content any) (string, error) {
	if key == "" {
		return "", nil
	}
	b, err := jcs.Marshal(map[string]any{"actor": caller.ID, "content": content, "key": key, "method": method})
	if err != nil {
		return "", err
	}
	return hexSum(b), nil
}

// Issued is what came of an invitation or a renewal: the signer, or the proposal that waits for a second administrator. The code beside it
// is then the first half of one.
type Issued struct {
	Signer
	Proposal *Proposal // nil: it was done
}

// InvitePerson records a person, how their identity was verified, and a one-time code with which they set their own
// password. The code is returned here alone, with the time when it lapses. With four eyes it is a proposal, and the code the first half of
// one; see [Directory.Confirm]. A call that is retried under the same requestID gives the same person and a new code.
func (d *Directory) InvitePerson(ctx context.Context, caller Caller, inv Invitation, requestID string) (Issued, Secret, time.Time, error) {
	fail := func(err error) (Issued, Secret, time.Time, error) { return Issued{}, "", time.Time{}, err }
	content, err := d.inviteContent(ctx, &inv)
	if err != nil {
		return fail(err)
	}
	hash, err := request(caller, "InvitePerson", requestID, inv)
	if err != nil {
		return fail(err)
	}
	id := content.ID
	out, err := d.actWith(ctx, caller, intent{kind: ActInvite, request: hash, again: func(tx *ledger.Tx, first uint64, e Execution) (err error) {
		id, err = d.inviteAgain(tx, first, e)
		return err
	}}, content)
	if err != nil {
		return fail(err)
	}
	return d.issued(ctx, id, out)
}

// inviteContent checks an invitation and brings it into the form of an act.
func (d *Directory) inviteContent(ctx context.Context, inv *Invitation) (inviteContent, error) {
	inv.Roles = slices.Clone(inv.Roles)
	if err := d.checkInvitation(inv); err != nil {
		return inviteContent{}, err
	}
	proofing, err := d.newProofing(inv.Proofing)
	if err != nil {
		return inviteContent{}, err
	}
	blind, err := d.blinder(ctx)
	if err != nil {
		return inviteContent{}, err
	}
	return inviteContent{
		ID: newID("sgn_"), Login: blind(inv.UserName), Name: inv.Name, Organisation: inv.Organisation, Proofing: proofing,
		Roles: enrolledRoles(inv.Roles), Title: inv.Title, UserName: inv.UserName, Zone: inv.Zone,
	}, nil
}

// issued is the answer to an act about a signer.
func (d *Directory) issued(ctx context.Context, id string, out outcome) (Issued, Secret, time.Time, error) {
	if !out.done {
		return Issued{Proposal: &out.proposal}, out.code, time.Time{}, nil
	}
	signer, err := d.Get(ctx, id)
	return Issued{Signer: signer}, out.code, out.expires, err
}

// Bootstrap invites the first administrator, as long as there is none who has redeemed a code. Called again for the
// same user name, it gives a new code.
func (d *Directory) Bootstrap(ctx context.Context, inv Invitation) (Signer, Secret, time.Time, error) {
	fail := func(err error) (Signer, Secret, time.Time, error) { return Signer{}, "", time.Time{}, err }
	if !slices.Contains(inv.Roles, RoleAdministrator) {
		return fail(invalid("the first administrator needs the role %s", RoleAdministrator))
	}
	fresh, err := d.inviteContent(ctx, &inv)
	if err != nil {
		return fail(err)
	}
	content := fresh
	e := Execution{Caller: System("bootstrap")}
	var code Secret
	code, e.code = newCode()
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		content = fresh
		var failed error
		view.Ascend(bucketAdmins, nil, func(id, state []byte) bool {
			var row signerRow
			if row, _, failed = getSigner(view, string(id)); failed != nil {
				return false
			}
			if State(state) != StateInvited {
				failed = fmt.Errorf("%w: there is an administrator already, who can invite others", ErrState)
			} else if row.UserName != inv.UserName {
				failed = fmt.Errorf("%w: %s is invited as the first administrator; use this user name for a new code", ErrState, row.UserName)
			}
			content.ID = row.ID
			return failed == nil
		})
		if failed != nil {
			return failed
		}
		if content.ID == fresh.ID && view.Get(bucketNames, personName(inv.UserName)) != nil {
			return fmt.Errorf("%w: %s", ErrNameTaken, inv.UserName)
		}
		e.expires = tx.Now().Add(d.cfg.BootstrapCode)
		emitInvited(tx, content, e)
		return nil
	})
	if err != nil {
		return fail(err)
	}
	d.settle(ctx, result)
	signer, err := d.Get(ctx, content.ID)
	return signer, code, e.expires.Time(), err
}

// invitedBy returns whom an earlier call of the same request has invited.
func invitedBy(tx *ledger.Tx, index uint64) (string, error) {
	b, err := tx.Entry(index)
	if err != nil {
		return "", err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return "", err
	}
	body, err := readBody[signerInvited](e)
	return body.ID, err
}

// settle waits, within bounds, until what was appended is covered by a signed checkpoint, so that the next call can
// lean on it. What was appended is durable in any case.
func (d *Directory) settle(ctx context.Context, r ledger.Result) {
	if r.Count == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := d.ledger.Checkpointed(ctx, r.End()); err != nil {
		d.cfg.Log.WarnContext(ctx, "no checkpoint covers the newest entries yet", "error", err)
	}
}

// Renew issues a new one-time code after a new identity proofing: for a lost password, a lapsing certificate, a change
// of name, or a first code that was not redeemed in time. The old password and key hold until it is redeemed, unless
// RevokeNow is set, which takes effect at once. Nobody renews themselves. With four eyes it is a proposal, as for
// [Directory.InvitePerson].
func (d *Directory) Renew(ctx context.Context, caller Caller, id string, n Renewal) (Issued, Secret, time.Time, error) {
	fail := func(err error) (Issued, Secret, time.Time, error) { return Issued{}, "", time.Time{}, err }
	if err := checkReason(n.Reason); err != nil {
		return fail(err)
	}
	proofing, err := d.newProofing(n.Proofing)
	if err != nil {
		return fail(err)
	}
	row, err := d.row(id)
	if err != nil {
		return fail(err)
	}
	in := intent{kind: ActRenew, subject: id}
	if n.RevokeNow {
		in.atOnce = func(tx *ledger.Tx) error { return endPassword(tx, caller, id, n.Reason) }
	}
	out, err := d.actWith(ctx, caller, in, renewContent{
		ID: id, Name: n.Name, Proofing: proofing, Reason: n.Reason, RevokeNow: n.RevokeNow, Title: n.Title, UserName: row.UserName,
	})
	if err != nil {
		return fail(err)
	}
	return d.issued(ctx, id, out)
}

// row returns what the projection knows of a signer; empty of nobody.
func (d *Directory) row(id string) (row signerRow, err error) {
	err = d.ledger.View(func(r *ledger.Read) (err error) {
		row, _, err = getSigner(r.View(projectionName), id)
		return err
	})
	return row, err
}

// renewed is what the ledger, proved, says of a person: what a renewal starts from.
func (d *Directory) renewed(r *ledger.Read, row signerRow) (signerInvited, error) {
	body := signerInvited{ID: row.ID, Login: row.Login}
	if row.Enrolled != 0 {
		e, err := d.enrolment(r, row)
		if err != nil {
			return body, err
		}
		body.Name, body.Title, body.Organisation, body.Zone, body.UserName = e.name, e.title, e.organisation, e.zone, e.userName
		body.Roles = e.roles
		return body, nil
	}
	first, err := provedInvitation(r, row)
	if err != nil {
		return body, err
	}
	body.Name, body.Title, body.Organisation, body.Zone, body.UserName = first.Name, first.Title, first.Organisation, first.Zone, first.UserName
	body.Roles = first.Roles
	return body, nil
}

// errTamperedRow: the projection does not agree with a proved entry.
func errTamperedRow(index uint64) error {
	return fmt.Errorf("%w: the projection does not agree with entry %d; run `signetd ledger check`", ErrTampered, index)
}

// provedInvitation reads a pending invitation from its entry.
func provedInvitation(r Reader, row signerRow) (signerInvited, error) {
	b, err := r.ProvedEntry(row.Invitation.Index)
	if err != nil {
		return signerInvited{}, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return signerInvited{}, err
	}
	body, err := readBody[signerInvited](e)
	if err != nil {
		return signerInvited{}, err
	}
	proofing, err := body.Proofing.digest()
	if err != nil {
		return signerInvited{}, err
	}
	if e.Type != chain.SignerInvited || body.ID != row.ID || body.Code != row.Invitation.Code || proofing != row.Invitation.Proofing ||
		body.UserName != row.UserName {
		return signerInvited{}, errTamperedRow(row.Invitation.Index)
	}
	return body, nil
}

// CheckReason holds an administrator's reason against what entries take.
func CheckReason(reason string) error { return checkReason(reason) }

// checkReason holds an administrator's reason.
func checkReason(reason string) error {
	if n := utf8.RuneCountInString(reason); !utf8.ValidString(reason) || n > 1000 || strings.TrimSpace(reason) == "" {
		return invalid("reason: say why, in 1 to 1,000 characters")
	}
	if err := (manifest.SignerRevoked{By: "x", ID: "sgn_x", Reason: reason}).Validate(); err != nil {
		return invalid("reason: %v", err)
	}
	return nil
}
