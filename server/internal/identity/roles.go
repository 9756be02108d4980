package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/rights"
)

// now is the time of a command, or the clock's.
func (d *Directory) now(r Reader) time.Time {
	if tx, ok := r.(interface{ Now() chain.Time }); ok {
		return tx.Now().Time()
	}
	return d.cfg.Clock()
}

// rolesNow returns the roles that a signer has now, proved from their entries: those of a person are what the enrolment gave and nobody has
// withdrawn, and what is assigned to them or to a group of theirs. Somebody who has not redeemed a code has none.
func (d *Directory) rolesNow(r Reader, row signerRow) ([]string, error) {
	if row.Service {
		return enrolledRoles(row.Roles), nil
	}
	if row.Enrolled == 0 {
		return nil, nil
	}
	e, err := d.enrolment(r, row)
	if err != nil {
		return nil, err
	}
	return d.book.Roles(r, row.ID, e.roles, d.now(r))
}

// callerRoles are the roles of whoever calls.
func (d *Directory) callerRoles(r Reader, row signerRow) ([]Role, error) {
	roles, err := d.rolesNow(r, row)
	return rolesOf(roles), err
}

// settled runs a view, and once more if it leaned on an entry that a checkpoint is just about to cover.
func (d *Directory) settled(ctx context.Context, view func(r *ledger.Read) error) error {
	err := d.ledger.View(view)
	if !errors.Is(err, ledger.ErrNotCheckpointed) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, waited := d.ledger.Checkpointed(ctx, d.ledger.Size()); waited != nil {
		return err
	}
	return d.ledger.View(view)
}

// unproved reads entries as they lie there: for what is shown, and decides nothing.
type unproved struct{ *ledger.Read }

func (u unproved) ProvedEntry(index uint64) ([]byte, error) { return u.Entry(index) }

// shownRoles are the roles of a signer as others may see them; of somebody who has not redeemed a code, those that they will have.
func (d *Directory) shownRoles(r *ledger.Read, row signerRow) ([]Role, error) {
	if row.Service || row.Enrolled == 0 {
		return row.Roles, nil
	}
	roles, err := rights.NewBook().Roles(unproved{r}, row.ID, enrolledRoles(row.Roles), d.cfg.Clock())
	return rolesOf(roles), err
}

// getsKey reports whether whoever redeems a code gets a key: their enrolment makes them a signer, or somebody has done so since.
func (d *Directory) getsKey(ctx context.Context, id string, enrolled []string) (signs bool, err error) {
	err = d.settled(ctx, func(r *ledger.Read) error {
		roles, err := d.book.Roles(r, id, enrolled, d.now(r))
		signs = slices.Contains(roles, string(RoleSigner))
		return err
	})
	return signs, err
}

// mayAdminister holds the caller against the state as it is now.
func (d *Directory) mayAdminister(r Reader, caller Caller) error {
	if caller.Kind == chain.System {
		return nil
	}
	row, ok, err := getSigner(r.View(projectionName), caller.ID)
	if err != nil {
		return err
	}
	if !ok || row.State != StateActive {
		return fmt.Errorf("%w: it takes an administrator", ErrForbidden)
	}
	roles, err := d.rolesNow(r, row)
	if err != nil {
		return err
	}
	if !slices.Contains(roles, string(RoleAdministrator)) {
		return fmt.Errorf("%w: it takes an administrator", ErrForbidden)
	}
	return nil
}

// keepAnAdministrator refuses to take the last active administrator away: nobody could enrol one any more. One whose right ends by itself
// does not count.
func (d *Directory) keepAnAdministrator(r Reader, id string) error {
	return d.administratorsBut(r, rights.Except{Signer: id})
}

// administratorsBut refuses if nobody would administer any more.
func (d *Directory) administratorsBut(r Reader, except rights.Except) error {
	before, after := false, false
	ids, err := d.administratorIDs(r)
	if err != nil {
		return err
	}
	for _, id := range ids {
		was, err := d.lastingAdministrator(r, id, rights.Except{})
		if err != nil {
			return err
		}
		is, err := d.lastingAdministrator(r, id, except)
		if err != nil {
			return err
		}
		before, after = before || was, after || is
	}
	if before && !after {
		return fmt.Errorf("%w: %w", ErrState, rights.ErrLastAdministrator)
	}
	return nil
}

// administratorIDs are those who may be administrators: by their enrolment, or by an assignment.
func (d *Directory) administratorIDs(r Reader) ([]string, error) {
	ids, err := d.book.WithRole(r, string(RoleAdministrator), d.now(r))
	if err != nil {
		return nil, err
	}
	r.View(projectionName).Ascend(bucketAdmins, nil, func(id, _ []byte) bool {
		ids = append(ids, string(id))
		return true
	})
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// lastingAdministrator reports whether a person is an active administrator whose right does not end by itself, if something is taken away.
func (d *Directory) lastingAdministrator(r Reader, id string, except rights.Except) (bool, error) {
	row, ok, err := getSigner(r.View(projectionName), id)
	if err != nil || !ok || row.State != StateActive || row.Enrolled == 0 || except.Signer == id && except.Role == "" {
		return false, err
	}
	e, err := d.enrolment(r, row)
	if err != nil {
		return false, err
	}
	role := string(RoleAdministrator)
	if slices.Contains(d.book.Kept(r, id, e.roles), role) && (except.Signer != id || except.Role != role) {
		return true, nil
	}
	return d.book.Lasting(r, id, role, d.now(r), except)
}

// applyAdministratorAssigned turns four eyes on: whoever gave the role and whoever has it are two.
func applyAdministratorAssigned(s *ledger.State, e chain.Entry) error {
	body, err := manifest.ParseRoleAssigned(e.Body)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.Index, err)
	}
	if body.Role == string(RoleAdministrator) {
		s.Put(bucketMeta, []byte(metaFourEyes), []byte("on"))
	}
	return nil
}

// Admit refuses a signer who is not designated for a type of record, or whose training has lapsed.
func (d *Directory) Admit(r Reader, recordType, id string) error {
	return d.book.Admit(r, recordType, id, d.now(r))
}

// Approvers says who stands behind an approver as the maker of a record names one: `group:` and a name, `role:` and a role, or a person by id
// or user name. Of a group and a role they are those who may sign a record of the type now, trained or not: training is looked at when they
// sign.
func (d *Directory) Approvers(ctx context.Context, recordType, approver string) ([]Signer, error) {
	named := rights.ParseNamed(approver)
	if named.Person != "" {
		s, err := d.Lookup(ctx, approver)
		if err != nil {
			return nil, err
		}
		err = d.settled(ctx, func(r *ledger.Read) error { return d.book.Designated(r, recordType, s.ID) })
		return []Signer{s}, err
	}
	var out []Signer
	err := d.settled(ctx, func(r *ledger.Read) error {
		ids, err := d.standing(r, named)
		if err != nil {
			return err
		}
		out = nil
		for _, id := range ids {
			s, err := d.signer(r, id)
			if err != nil {
				return err
			}
			err = d.book.Designated(r, recordType, id)
			if errors.Is(err, rights.ErrNotDesignated) || s.State != StateActive || !slices.Contains(s.Roles, RoleSigner) {
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, s)
		}
		return nil
	})
	return out, err
}

// standing are the persons who belong to a group or have a role: ids, sorted.
func (d *Directory) standing(r Reader, named rights.Named) ([]string, error) {
	if named.Group != "" {
		return d.book.Members(r, named.Group)
	}
	if !slices.Contains(personRoles, Role(named.Role)) {
		return nil, fmt.Errorf("%w: no person has the role %.40q; use %v", rights.ErrInvalid, named.Role, personRoles)
	}
	ids, err := d.book.WithRole(r, named.Role, d.now(r))
	if err != nil {
		return nil, err
	}
	var failed error
	r.View(projectionName).Ascend(bucketSigners, nil, func(_, v []byte) bool {
		var row signerRow
		if failed = decode(bucketSigners, v, &row); failed != nil {
			return false
		}
		if row.Service || row.State != StateActive || !slices.Contains(row.Roles, Role(named.Role)) {
			return true
		}
		var e *enrolment
		if e, failed = d.enrolment(r, row); failed != nil {
			return false
		}
		if slices.Contains(d.book.Kept(r, row.ID, e.roles), named.Role) {
			ids = append(ids, row.ID)
		}
		return true
	})
	slices.Sort(ids)
	return slices.Compact(ids), failed
}

// Standing returns what a signer is named as among approvers now: by id, by group and by role. It is for what is shown, and decides nothing:
// whether a decision counts is asked of [Directory.Stands].
func (d *Directory) Standing(r *ledger.Read, id string) ([]string, error) {
	groups, err := rights.NewBook().GroupsOf(unproved{r}, id) // not the book of the directory, which keeps what was proved
	if err != nil {
		return nil, err
	}
	out := []string{id}
	for _, g := range groups {
		out = append(out, manifest.GroupPrefix+g)
	}
	row, ok, err := getSigner(r.View(projectionName), id)
	if err != nil || !ok {
		return out, err
	}
	roles, err := d.shownRoles(r, row)
	for _, role := range roles {
		out = append(out, manifest.RolePrefix+string(role))
	}
	return out, err
}

// Membership returns the entry that says that a signer belonged to the first of some groups of which it was so, below an index; false: they
// belonged to none. Groups are named as approvers are.
func (d *Directory) Membership(r Reader, id string, groups []string, below uint64) (uint64, bool, error) {
	for _, g := range groups {
		index, in, err := d.book.Membership(r, strings.TrimPrefix(g, manifest.GroupPrefix), id, below)
		if err != nil || in {
			return index, in, err
		}
	}
	return 0, false, nil
}

// Stands reports whether a signer is, belongs to, or has now what the maker of a record named as approvers: ids of persons, groups, roles.
func (d *Directory) Stands(r Reader, id string, approvers []string) (bool, error) {
	for _, a := range approvers {
		named := rights.ParseNamed(a)
		switch {
		case named.Person == id:
			return true, nil
		case named.Group != "":
			if in, err := d.book.IsMember(r, named.Group, id); err != nil || in {
				return in, err
			}
		case named.Role != "":
			row, ok, err := getSigner(r.View(projectionName), id)
			if err != nil || !ok {
				return false, err
			}
			roles, err := d.rolesNow(r, row)
			if err != nil || slices.Contains(roles, named.Role) {
				return err == nil, err
			}
		}
	}
	return false, nil
}

// RoleSupport returns the entries that the roles of a statement lean on beyond the enrolment that it names: what gave or took a role before
// the signature at index was made.
func (d *Directory) RoleSupport(r Reader, signer manifest.Signer, at chain.Time, index uint64) ([]uint64, error) {
	support, err := d.Support(r, signer.ID, signer.Enrolment)
	if err != nil {
		return nil, err
	}
	b, err := r.ProvedEntry(support[0])
	if err != nil {
		return nil, err
	}
	e, err := chain.ParseEntry(b)
	if err != nil {
		return nil, err
	}
	if e.Type != chain.SignerEnrolled && e.Type != chain.SignerRenewed {
		return nil, nil // a service's do not change
	}
	body, err := manifest.ParseSignerEnrolled(e.Body)
	if err != nil {
		return nil, err
	}
	return d.book.Basis(r, signer.ID, body.Roles, signer.Roles, at, index)
}
