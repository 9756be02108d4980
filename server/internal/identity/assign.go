package identity

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
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

// Kinds of acts about rights. What gives somebody a right is such an act; what only takes one away is done at once, by one administrator.
const (
	actAssign    = "role.assign"
	actGroup     = "group.put"
	actDesignate = "designation.set"
)

// groupPut is the content of [actGroup].
type groupPut struct {
	Base        string   `json:"base"` // etag of what it changes; empty: there was none
	DisplayName string   `json:"displayName"`
	Group       string   `json:"group"`
	Members     []string `json:"members"` // sorted
	Reason      string   `json:"reason"`
}

// changed is the body of the change.
func (p groupPut) changed(was rights.Group) manifest.GroupChanged {
	body := manifest.GroupChanged{
		Added: []manifest.GroupMember{}, DisplayName: p.DisplayName, ID: manifest.GroupPrefix + p.Group, Members: p.Members, Reason: p.Reason,
		Removed: []manifest.GroupMember{}, Was: was.DisplayName,
	}
	for _, m := range added(was.Members, p.Members) {
		body.Added = append(body.Added, manifest.GroupMember{Signer: m})
	}
	for _, m := range added(p.Members, was.Members) {
		body.Removed = append(body.Removed, manifest.GroupMember{Signer: m})
	}
	return body
}

// designationSet is the content of [actDesignate].
type designationSet struct {
	Base       string                  `json:"base"`
	Reason     string                  `json:"reason"`
	RecordType string                  `json:"recordType"`
	To         rights.DesignationState `json:"to"`
}

// rightsActs are the acts about rights that take two administrators.
func (d *Directory) rightsActs() []ActKind {
	return []ActKind{
		{Kind: actAssign, Render: d.renderAssign, Do: d.doAssign},
		{Kind: actGroup, Render: d.renderGroup, Do: d.doGroup},
		{Kind: actDesignate, Render: d.renderDesignation, Do: d.doDesignation},
	}
}

// content reads the content of an act strictly.
func content[T any](c jsontext.Value) (T, error) {
	var v T
	err := json.Unmarshal(c, &v, json.RejectUnknownMembers(true))
	return v, err
}

// nobodyForThemselves refuses what would give a right to whoever proposes or confirms it.
func nobodyForThemselves(e Execution, gains func(id string) (bool, error)) error {
	for _, id := range []string{e.Caller.ID, e.Proposer} {
		if id == "" {
			continue
		}
		if gained, err := gains(id); err != nil {
			return err
		} else if gained {
			return fmt.Errorf("%w: nobody gives themselves a right; ask another administrator", ErrForbidden)
		}
	}
	return nil
}

// AssignRole gives a role to a person or a group. It is the assignment, or the proposal of it.
func (d *Directory) AssignRole(ctx context.Context, caller Caller, a rights.Assignment) (rights.Assignment, *Proposal, error) {
	if err := checkReason(a.Reason); err != nil {
		return a, nil, err
	}
	body := manifest.RoleAssigned{ID: newID("ras_"), Subject: string(a.Holder), Reason: a.Reason, Role: a.Role}
	if !a.Start.IsZero() {
		body.Start = chain.NewTime(a.Start)
	}
	if !a.End.IsZero() {
		body.End = chain.NewTime(a.End)
	}
	subject := string(a.Holder)
	if _, isGroup := a.Holder.Group(); isGroup {
		subject = ""
	}
	done, proposal, err := d.Act(ctx, caller, actAssign, subject, body, "")
	if err != nil {
		return a, nil, err
	}
	if !done {
		return a, &proposal, nil
	}
	err = d.ledger.View(func(r *ledger.Read) error {
		a, err = rights.GetAssignment(r, body.ID, d.cfg.Clock())
		return err
	})
	return a, nil, err
}

func (d *Directory) renderAssign(c jsontext.Value) (string, error) {
	b, err := content[manifest.RoleAssigned](c)
	if err != nil {
		return "", err
	}
	from, to := "at once", "it is withdrawn"
	if !b.Start.IsZero() {
		from = b.Start.String()
	}
	if !b.End.IsZero() {
		to = b.End.String()
	}
	return fmt.Sprintf("Give the role %s to %s, from %s, until %s. Reason: %s", b.Role, d.shownHolder(rights.Holder(b.Subject)), from, to, b.Reason), nil
}

// shownHolder is a holder for people.
func (d *Directory) shownHolder(h rights.Holder) string {
	if name, ok := h.Group(); ok {
		return "the group " + name
	}
	out := string(h)
	_ = d.ledger.View(func(r *ledger.Read) error { // it is shown; what decides is the id
		if row, ok, err := getSigner(r.View(projectionName), string(h)); err == nil && ok {
			out = fmt.Sprintf("%s (%s, %s)", row.Name, row.UserName, h)
		}
		return nil
	})
	return out
}

func (d *Directory) shownHolders(holders []rights.Holder, none string) string {
	if len(holders) == 0 {
		return none
	}
	out := make([]string, len(holders))
	for i, h := range holders {
		out[i] = d.shownHolder(h)
	}
	return strings.Join(out, ", ")
}

func (d *Directory) doAssign(tx *ledger.Tx, e Execution) error {
	body, err := content[manifest.RoleAssigned](e.Content)
	if err != nil {
		return err
	}
	now := tx.Now()
	switch {
	case !slices.Contains(personRoles, Role(body.Role)):
		return invalid("role %.40q: unknown for a person; use %v", body.Role, personRoles)
	case !body.End.IsZero() && !now.Before(body.End):
		return fmt.Errorf("%w: it would have ended at %s, before now", rights.ErrValidity, body.End)
	case !body.End.IsZero() && !body.Start.Before(body.End):
		return fmt.Errorf("%w: it would end at %s, before it begins", rights.ErrValidity, body.End)
	}
	if body.Role == string(RoleAdministrator) {
		// Who administers is known by name, and from the moment on which a second person must confirm.
		if _, isGroup := rights.Holder(body.Subject).Group(); isGroup {
			return invalid("the role administrator is given to persons by name, not to a group")
		}
		if now.Before(body.Start) {
			return fmt.Errorf("%w: the role administrator begins at once", rights.ErrValidity)
		}
		row, ok, err := getSigner(tx.View(projectionName), body.Subject)
		switch {
		case err != nil:
			return err
		case ok && row.State != StateActive:
			return wrongState(row)
		case !body.End.IsZero() && !d.fourEyes(tx.View(projectionName)):
			return fmt.Errorf("%w: from the second administrator on it takes two to give a right, so that one has the role without an end", rights.ErrValidity)
		}
	}
	if err := d.checkHolder(tx, rights.Holder(body.Subject)); err != nil {
		return err
	}
	err = nobodyForThemselves(e, func(id string) (bool, error) { return d.book.Belongs(tx, rights.Holder(body.Subject), id) })
	if err != nil {
		return err
	}
	tx.Emit(ledger.Event{Type: chain.RoleAssigned, Actor: e.Caller.Actor(), Request: e.Request, Body: body})
	return nil
}

// checkHolder holds a holder against the signers and groups that there are.
func (d *Directory) checkHolder(r Reader, h rights.Holder) error {
	if name, ok := h.Group(); ok {
		_, err := d.book.Members(r, name)
		return err
	}
	row, ok, err := getSigner(r.View(projectionName), string(h))
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrNotFound
	case row.Service:
		return invalid("%s is a service; what it may do is said with its enrolment", row.UserName)
	case row.State == StateRevoked:
		return wrongState(row)
	}
	return nil
}

// WithdrawRole ends an assignment, or, without one, a role that a signer has from their enrolment. One administrator is enough.
func (d *Directory) WithdrawRole(ctx context.Context, caller Caller, assignment, signer string, role Role, reason string) error {
	return d.takeAway(ctx, caller, reason, func(tx *ledger.Tx) error {
		body := manifest.RoleWithdrawn{ID: assignment, Subject: signer, Reason: reason, Role: string(role)}
		except, held := rights.Except{Assignment: assignment}, true
		if assignment != "" {
			a, err := rights.GetAssignment(tx, assignment, tx.Now().Time())
			if err != nil {
				return err
			}
			body.Subject, body.Role, held = string(a.Holder), a.Role, a.InForce
		} else {
			if err := d.checkHolder(tx, rights.Holder(signer)); err != nil {
				return err
			}
			row, _, err := getSigner(tx.View(projectionName), signer)
			if err != nil {
				return err
			}
			if !slices.Contains(row.Roles, role) || rights.LostRole(tx, signer, string(role)) {
				return rights.ErrAssignmentNotFound
			}
			except = rights.Except{Signer: signer, Role: string(role)}
		}
		if body.Role == string(RoleAdministrator) {
			if err := d.administratorsBut(tx, except); err != nil {
				return err
			}
		}
		at := tx.Emit(ledger.Event{Type: chain.RoleWithdrawn, Actor: caller.Actor(), Body: body})
		if !held {
			return nil
		}
		return tellOversight(tx, at, caller, body.Subject, Role(body.Role), "withdrawn the role %[3]s from %[2]s")
	})
}

// takeAway runs what one administrator does alone.
func (d *Directory) takeAway(ctx context.Context, caller Caller, reason string, emit func(tx *ledger.Tx) error) error {
	if err := checkReason(reason); err != nil {
		return err
	}
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if err := d.mayAdminister(tx, caller); err != nil {
			return err
		}
		return emit(tx)
	})
	if err != nil {
		return err
	}
	d.settle(ctx, result)
	return nil
}

// errGives: it takes nothing but gives something, so it takes two.
var errGives = errors.New("identity: it gives a right")

// PutGroup makes a group, or changes who belongs to it. It is the group, or the proposal of it: to add somebody takes two administrators.
func (d *Directory) PutGroup(ctx context.Context, caller Caller, g rights.Group, reason string) (rights.Group, *Proposal, error) {
	put := groupPut{Base: g.ETag, DisplayName: g.DisplayName, Group: g.Name, Members: append([]string{}, g.Members...), Reason: reason}
	slices.Sort(put.Members)
	if err := put.changed(rights.Group{}).Validate(); err != nil {
		return g, nil, invalid("group: %v", err)
	}
	err := d.takeAway(ctx, caller, reason, func(tx *ledger.Tx) error {
		was, err := d.groupBefore(tx, put)
		if err != nil {
			return err
		}
		if len(added(was.Members, put.Members)) > 0 {
			return errGives
		}
		at := emitGroup(tx, Execution{Caller: caller}, put, was)
		for _, gone := range added(put.Members, was.Members) {
			roles, err := rights.AssignmentsOf(tx, gone, tx.Now().Time())
			if err != nil {
				return err
			}
			for _, a := range roles {
				if a.Holder != rights.HolderOfGroup(put.Group) || !a.InForce {
					continue
				}
				if err := tellOversight(tx, at, caller, gone, Role(a.Role), "taken %[2]s out of the group %[4]s, which has the role %[3]s", put.Group); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if errors.Is(err, errGives) {
		var done bool
		var p Proposal
		if done, p, err = d.Act(ctx, caller, actGroup, "", put, ""); err == nil && !done {
			return g, &p, nil
		}
	}
	if err != nil {
		return g, nil, err
	}
	err = d.ledger.View(func(r *ledger.Read) error {
		g, err = rights.GetGroup(r, g.Name)
		return err
	})
	return g, nil, err
}

// groupBefore is a group as it stands, if it is still what the change began with.
func (d *Directory) groupBefore(tx *ledger.Tx, put groupPut) (rights.Group, error) {
	g, err := rights.GetGroup(tx, put.Group)
	if err != nil && !errors.Is(err, rights.ErrGroupNotFound) {
		return rights.Group{}, err
	}
	if g.ETag != put.Base {
		return rights.Group{}, rights.ErrGroupChanged
	}
	return g, nil
}

// added are the elements of now that were not there before.
func added[T comparable](before, now []T) []T {
	var out []T
	for _, x := range now {
		if !slices.Contains(before, x) {
			out = append(out, x)
		}
	}
	return out
}

func emitGroup(tx *ledger.Tx, e Execution, put groupPut, was rights.Group) uint64 {
	return tx.Emit(ledger.Event{Type: chain.GroupChanged, Actor: e.Caller.Actor(), Request: e.Request, Body: put.changed(was)})
}

func (d *Directory) renderGroup(c jsontext.Value) (string, error) {
	put, err := content[groupPut](c)
	if err != nil {
		return "", err
	}
	members := make([]rights.Holder, len(put.Members))
	for i, m := range put.Members {
		members[i] = rights.Holder(m)
	}
	return fmt.Sprintf("The group %s (%s) shall have these members: %s. Reason: %s", put.Group, put.DisplayName,
		d.shownHolders(members, "none"), put.Reason), nil
}

func (d *Directory) doGroup(tx *ledger.Tx, e Execution) error {
	put, err := content[groupPut](e.Content)
	if err != nil {
		return err
	}
	was, err := d.groupBefore(tx, put)
	if err != nil {
		return err
	}
	fresh := added(was.Members, put.Members)
	for _, m := range fresh {
		if err := d.checkHolder(tx, rights.Holder(m)); err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
	}
	if err := nobodyForThemselves(e, func(id string) (bool, error) { return slices.Contains(fresh, id), nil }); err != nil {
		return err
	}
	emitGroup(tx, e, put, was)
	return nil
}

// SetDesignation says who may sign records of a type, and with which training. It is the designation, or the proposal of it: what only
// narrows it is done at once.
func (d *Directory) SetDesignation(ctx context.Context, caller Caller, to rights.Designation, reason string) (rights.Designation, *Proposal, error) {
	set := designationSet{Base: to.ETag, Reason: reason, RecordType: to.RecordType, To: rights.DesignationState{
		Courses: append([]string{}, to.Courses...), Holders: append([]rights.Holder{}, to.Holders...),
	}}
	slices.Sort(set.To.Courses)
	slices.Sort(set.To.Holders)
	err := d.takeAway(ctx, caller, reason, func(tx *ledger.Tx) error {
		was, err := d.designationBefore(tx, set)
		if err != nil {
			return err
		}
		if widens(was, set.To) {
			return errGives
		}
		for _, h := range set.To.Holders {
			if err := d.checkHolder(tx, h); err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
		}
		emitDesignation(tx, Execution{Caller: caller}, set, was)
		return nil
	})
	if errors.Is(err, errGives) {
		var done bool
		var p Proposal
		if done, p, err = d.Act(ctx, caller, actDesignate, "", set, ""); err == nil && !done {
			return to, &p, nil
		}
	}
	if err != nil {
		return to, nil, err
	}
	err = d.ledger.View(func(r *ledger.Read) error {
		to, err = rights.GetDesignation(r, to.RecordType)
		return err
	})
	return to, nil, err
}

// designationBefore is a designation as it stands, if it is still what the change began with.
func (d *Directory) designationBefore(tx *ledger.Tx, set designationSet) (rights.DesignationState, error) {
	was, err := rights.GetDesignation(tx, set.RecordType)
	if err != nil {
		return rights.DesignationState{}, err
	}
	if was.ETag != set.Base {
		return rights.DesignationState{}, rights.ErrDesignationChanged
	}
	return rights.DesignationState{Courses: append([]string{}, was.Courses...), Holders: append([]rights.Holder{}, was.Holders...)}, nil
}

// widens reports whether somebody could be admitted by a change who was not before. No holders are everybody.
func widens(was, to rights.DesignationState) bool {
	return len(added(to.Courses, was.Courses)) > 0 || // a course is asked for no more
		len(was.Holders) > 0 && (len(to.Holders) == 0 || len(added(was.Holders, to.Holders)) > 0)
}

func emitDesignation(tx *ledger.Tx, e Execution, set designationSet, was rights.DesignationState) {
	tx.Emit(ledger.Event{Type: chain.DesignationChanged, Actor: e.Caller.Actor(), Request: e.Request, Body: rights.NewDesignationChanged(set.RecordType, set.Reason, was, set.To)})
}

func (d *Directory) renderDesignation(c jsontext.Value) (string, error) {
	set, err := content[designationSet](c)
	if err != nil {
		return "", err
	}
	courses := "none"
	if len(set.To.Courses) > 0 {
		courses = strings.Join(set.To.Courses, ", ")
	}
	return fmt.Sprintf("Records of the type %s may be signed by: %s. Training that they need: %s. Reason: %s", set.RecordType,
		d.shownHolders(set.To.Holders, "every signer"), courses, set.Reason), nil
}

func (d *Directory) doDesignation(tx *ledger.Tx, e Execution) error {
	set, err := content[designationSet](e.Content)
	if err != nil {
		return err
	}
	was, err := d.designationBefore(tx, set)
	if err != nil {
		return err
	}
	for _, h := range set.To.Holders {
		if err := d.checkHolder(tx, h); err != nil {
			return fmt.Errorf("%s: %w", h, err)
		}
	}
	err = nobodyForThemselves(e, func(id string) (bool, error) {
		if signs, err := d.signs(tx, id); err != nil || !signs { // it opens nothing to who has no signature
			return false, err
		}
		now := tx.Now().Time()
		before, err := d.book.Would(tx, was, id, now)
		if err != nil || before {
			return false, err
		}
		return d.book.Would(tx, set.To, id, now)
	})
	if err != nil {
		return err
	}
	emitDesignation(tx, e, set, was)
	return nil
}

// signs reports whether a person has the role signer now.
func (d *Directory) signs(r Reader, id string) (bool, error) {
	row, ok, err := getSigner(r.View(projectionName), id)
	if err != nil || !ok {
		return false, err
	}
	roles, err := d.rolesNow(r, row)
	return slices.Contains(roles, string(RoleSigner)), err
}

// AttestTraining records that somebody was trained, and until when that holds. Nobody attests their own.
func (d *Directory) AttestTraining(ctx context.Context, caller Caller, t rights.Training) (rights.Training, error) {
	if err := checkText("reference", t.Reference, 1, 200); err != nil {
		return t, err
	}
	body := rights.TrainingAttested{Course: t.Course, End: chain.NewTime(t.End), Reference: t.Reference, Signer: t.Signer, ID: newID("trn_")}
	err := d.takeAway(ctx, caller, t.Reference, func(tx *ledger.Tx) error {
		if err := d.checkHolder(tx, rights.Holder(t.Signer)); err != nil {
			return err
		}
		if t.Signer == caller.ID {
			return fmt.Errorf("%w: nobody attests their own training; ask another administrator", ErrForbidden)
		}
		if !tx.Now().Before(body.End) {
			return fmt.Errorf("%w: the attestation would have lapsed at %s, before now", rights.ErrValidity, body.End)
		}
		tx.Emit(ledger.Event{Type: chain.TrainingAttested, Actor: caller.Actor(), Body: body})
		return nil
	})
	if err != nil {
		return t, err
	}
	return d.training(body.ID)
}

func (d *Directory) training(id string) (t rights.Training, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		t, err = rights.GetTraining(r, id, d.cfg.Clock())
		return err
	})
	return t, err
}

// WithdrawTraining withdraws an attestation.
func (d *Directory) WithdrawTraining(ctx context.Context, caller Caller, id, reason string) error {
	return d.takeAway(ctx, caller, reason, func(tx *ledger.Tx) error {
		t, err := rights.GetTraining(tx, id, tx.Now().Time())
		if err != nil {
			return err
		}
		tx.Emit(ledger.Event{Type: chain.TrainingWithdrawn, Actor: caller.Actor(), Body: rights.TrainingWithdrawn{
			Course: t.Course, ID: id, Reason: reason, Signer: t.Signer,
		}})
		return nil
	})
}

// enrolmentAssignments are the roles that a person has from their enrolment, as assignments.
func enrolmentAssignments(r Reader, row signerRow) []rights.Assignment {
	var out []rights.Assignment
	for _, role := range row.Roles {
		if row.Service || rights.LostRole(r, row.ID, string(role)) {
			continue
		}
		out = append(out, rights.Assignment{
			Index: row.Index, Holder: rights.Holder(row.ID), Role: string(role), InForce: row.State == StateActive, Reason: "enrolment",
		})
	}
	return out
}

// RoleAssignments lists who has which role, and from what: first the roles of enrolments, in the order in which people were enrolled, then the
// assignments, in the order in which they were given. At is where to go on: what the call before returned, or the zero value.
func (d *Directory) RoleAssignments(_ context.Context, at rights.Place, limit int) (out []rights.Assignment, next rights.Place, err error) {
	now := d.cfg.Clock()
	err = d.ledger.View(func(r *ledger.Read) error {
		out, next = nil, rights.Place{}
		if !at.Assigned {
			var failed error
			r.View(projectionName).Ascend(bucketOrder, indexKey(at.After+1), func(_, id []byte) bool {
				var row signerRow
				if row, _, failed = getSigner(r.View(projectionName), string(id)); failed != nil {
					return false
				}
				out = append(out, enrolmentAssignments(r, row)...)
				next = rights.Place{After: row.Index}
				return len(out) < limit
			})
			if failed != nil || len(out) >= limit {
				return failed
			}
			at = rights.Place{Assigned: true}
		}
		rest, err := rights.Assignments(r, at.After, limit-len(out), now)
		if err != nil {
			return err
		}
		next = rights.Place{}
		if len(rest) > 0 && len(rest) == limit-len(out) {
			next = rights.Place{Assigned: true, After: rest[len(rest)-1].Index}
		}
		out = append(out, rest...)
		return nil
	})
	return out, next, err
}

// RoleAssignmentsOf lists what one person has, from their enrolment, directly, and through groups.
func (d *Directory) RoleAssignmentsOf(_ context.Context, signer string) (out []rights.Assignment, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		row, ok, err := getSigner(r.View(projectionName), signer)
		if err == nil && !ok {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		rest, err := rights.AssignmentsOf(r, signer, d.cfg.Clock())
		out = append(enrolmentAssignments(r, row), rest...)
		return err
	})
	return out, err
}

// Groups lists up to limit groups by name, without the first of them.
func (d *Directory) Groups(_ context.Context, skip uint64, limit int) (out []rights.Group, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		if skip > everything {
			return nil
		}
		out, err = rights.Groups(r, "", int(skip)+limit)
		out = out[min(int(skip), len(out)):]
		return err
	})
	return out, err
}

// Group reads one group.
func (d *Directory) Group(_ context.Context, name string) (g rights.Group, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		g, err = rights.GetGroup(r, name)
		return err
	})
	return g, err
}

// Designations lists the designations that were set.
func (d *Directory) Designations(context.Context) (out []rights.Designation, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		out, err = rights.Designations(r)
		return err
	})
	return out, err
}

// Trainings lists attestations, from after the index that is given; of one signer alone, if one is named.
func (d *Directory) Trainings(_ context.Context, signer string, after uint64, limit int) (out []rights.Training, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		out, err = rights.Trainings(r, signer, after, limit, d.cfg.Clock())
		return err
	})
	return out, err
}

// ReviewStatus says when rights were last reviewed, and when they are to be.
func (d *Directory) ReviewStatus(_ context.Context, interval time.Duration) (out rights.Review, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		out, err = rights.GetReview(r, interval)
		return err
	})
	return out, err
}

// orEmpty is a time as text; empty for the zero time.
func orEmpty(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return chain.NewTime(t).String()
}
