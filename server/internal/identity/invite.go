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

// AccountabilityVersion names the statement that each person acknowledges; signer.enrolled holds it.
const AccountabilityVersion = "accountability-1"

// AccountabilityText is the accountability statement (21 CFR 11.10(j), 11.100(c)). A text never changes; a better one
// gets a new version.
const AccountabilityText = "I understand that my electronic signature is the legally binding equivalent of my handwritten signature. " +
	"I hold myself accountable and responsible for every action initiated under it. I will not share my password, " +
	"nor let anybody sign in my name, and I will report at once if I believe that somebody else knows it."

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
		Accountability: AccountabilityVersion, ID: "sgn_x", Name: inv.Name, Organisation: inv.Organisation, Roles: enrolledRoles(inv.Roles),
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

// InvitePerson records a person, how their identity was verified, and a one-time code with which they set their own
// password. The code is returned here alone. A call that is retried under the same requestID gives the same person and
// a new code.
func (d *Directory) InvitePerson(ctx context.Context, caller Caller, inv Invitation, requestID string) (Signer, Secret, time.Time, error) {
	return d.invite(ctx, caller, inv, requestID, d.cfg.CodeLifetime, func(tx *ledger.Tx) (string, error) {
		return "", d.mayAdminister(tx, caller)
	})
}

// Bootstrap invites the first administrator, as long as there is none who has redeemed a code. Called again for the
// same user name, it gives a new code.
func (d *Directory) Bootstrap(ctx context.Context, inv Invitation) (Signer, Secret, time.Time, error) {
	if !slices.Contains(inv.Roles, RoleAdministrator) {
		return Signer{}, "", time.Time{}, invalid("the first administrator needs the role %s", RoleAdministrator)
	}
	caller := System("bootstrap")
	return d.invite(ctx, caller, inv, "", d.cfg.BootstrapCode, func(tx *ledger.Tx) (string, error) {
		view := tx.View(projectionName)
		again, err := "", error(nil)
		view.Ascend(bucketAdmins, nil, func(id, state []byte) bool {
			var row signerRow
			if row, _, err = getSigner(view, string(id)); err != nil {
				return false
			}
			if State(state) != StateInvited {
				err = fmt.Errorf("%w: there is an administrator already, who can invite others", ErrState)
			} else if row.UserName != fold(inv.UserName) {
				err = fmt.Errorf("%w: %s is invited as the first administrator; use this user name for a new code", ErrState, row.UserName)
			}
			again = row.ID
			return err == nil
		})
		return again, err
	})
}

// invite emits signer.invited. may says whether it is allowed, and for whom the call was answered before.
func (d *Directory) invite(ctx context.Context, caller Caller, inv Invitation, requestID string, lifetime time.Duration,
	may func(tx *ledger.Tx) (again string, err error)) (Signer, Secret, time.Time, error) {
	fail := func(err error) (Signer, Secret, time.Time, error) { return Signer{}, "", time.Time{}, err }
	inv.Roles = slices.Clone(inv.Roles)
	if err := d.checkInvitation(&inv); err != nil {
		return fail(err)
	}
	proofing, err := d.newProofing(inv.Proofing)
	if err != nil {
		return fail(err)
	}
	blind, err := d.blinder(ctx)
	if err != nil {
		return fail(err)
	}
	hash, err := request(caller, "InvitePerson", requestID, inv)
	if err != nil {
		return fail(err)
	}
	code, digest := newCode()
	body := signerInvited{
		Code: digest, Login: blind(inv.UserName), Name: inv.Name, Organisation: inv.Organisation, Proofing: proofing,
		Roles: enrolledRoles(inv.Roles), Title: inv.Title, UserName: inv.UserName, Zone: inv.Zone,
	}
	fresh := newID("sgn_")
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		again, err := may(tx)
		if err != nil {
			return err
		}
		view := tx.View(projectionName)
		named := hash
		if first := tx.Request(hash); hash != "" && len(first) > 0 {
			if again, err = invitedBy(tx, first[0]); err != nil {
				return err
			}
			named = "" // the first answer stays the first
		}
		body.ID = fresh
		if again != "" {
			row, _, err := getSigner(view, again)
			if err != nil {
				return err
			}
			if row.State != StateInvited {
				return fmt.Errorf("%w: %s has redeemed a code already", ErrState, row.UserName)
			}
			body.ID = again
		} else if view.Get(bucketNames, personName(inv.UserName)) != nil {
			return fmt.Errorf("%w: %s", ErrNameTaken, inv.UserName)
		}
		body.Expires = tx.Now().Add(lifetime)
		tx.Emit(ledger.Event{Type: chain.SignerInvited, Actor: caller.Actor(), Request: named, Body: body})
		return nil
	})
	if err != nil {
		return fail(err)
	}
	d.settle(ctx, result)
	signer, err := d.Get(ctx, body.ID)
	return signer, code, body.Expires.Time(), err
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
// RevokeNow is set. Nobody renews themselves.
func (d *Directory) Renew(ctx context.Context, caller Caller, id string, n Renewal) (Signer, Secret, time.Time, error) {
	fail := func(err error) (Signer, Secret, time.Time, error) { return Signer{}, "", time.Time{}, err }
	if err := checkReason(n.Reason); err != nil {
		return fail(err)
	}
	proofing, err := d.newProofing(n.Proofing)
	if err != nil {
		return fail(err)
	}
	code, digest := newCode()
	var expires chain.Time
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		view := tx.View(projectionName)
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		row, ok, err := getSigner(view, id)
		if err != nil {
			return err
		}
		switch {
		case !ok:
			return ErrNotFound
		case row.Service:
			return fmt.Errorf("%w: a service has no password; enrol it anew under another name", ErrState)
		case id == caller.ID:
			return fmt.Errorf("%w: nobody renews themselves; ask another administrator", ErrForbidden)
		case row.State != StateInvited && row.State != StateActive:
			return fmt.Errorf("%w: %s is %s", ErrState, row.UserName, row.State)
		}
		body, err := d.renewed(tx.Read, row)
		if err != nil {
			return err
		}
		if n.Name != "" {
			body.Name = n.Name
		}
		if n.Title != "" {
			body.Title = n.Title
		}
		inv := Invitation{
			UserName: body.UserName, Name: body.Name, Title: body.Title, Organisation: body.Organisation, Zone: body.Zone, Roles: rolesOf(body.Roles),
		}
		if err := d.checkInvitation(&inv); err != nil {
			return err
		}
		expires = tx.Now().Add(d.cfg.CodeLifetime)
		body.Code, body.Expires, body.Proofing, body.Reason, body.RevokeNow = digest, expires, proofing, n.Reason, n.RevokeNow
		tx.Emit(ledger.Event{Type: chain.SignerInvited, Actor: caller.Actor(), Body: body})
		if n.RevokeNow && row.Credential != "" {
			tx.DeletePrivate(privateVerifiers, []byte(id))
			tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: caller.Actor(), Body: signerCredential{
				ID: id, Kind: credentialPassword, Reason: n.Reason,
			}})
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	d.settle(ctx, result)
	signer, err := d.Get(ctx, id)
	return signer, code, expires.Time(), err
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
