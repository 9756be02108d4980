package rights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/server/internal/ledger"
)

// Book reads rights, and keeps the entries that it has proved: a proof holds for as long as the process, and what is kept here cannot be
// changed by whoever changes the file. It is safe for concurrent use.
type Book struct {
	mu     sync.RWMutex
	proved map[uint64]any // index → body
}

// NewBook returns a book that has proved nothing yet.
func NewBook() *Book { return &Book{proved: map[uint64]any{}} }

// maxProved is how many bodies a book keeps.
const maxProved = 20000

// prove returns the body of an entry, proved by inclusion.
func prove[T any](b *Book, r Reader, index uint64, t chain.Type, parse func(chain.Entry) (T, error)) (T, error) {
	var zero T
	b.mu.RLock()
	known, ok := b.proved[index]
	b.mu.RUnlock()
	if ok {
		if body, fits := known.(T); fits {
			return body, nil
		}
		return zero, tampered(index)
	}
	raw, err := r.ProvedEntry(index)
	if err != nil {
		return zero, err
	}
	e, err := chain.ParseEntry(raw)
	if err != nil {
		return zero, err
	}
	if e.Type != t {
		return zero, tampered(index)
	}
	body, err := parse(e)
	if err != nil {
		return zero, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.proved) >= maxProved {
		clear(b.proved)
	}
	b.proved[index] = body
	return body, nil
}

func tampered(index uint64) error {
	return fmt.Errorf("%w: entry %d", ErrTampered, index)
}

func (b *Book) assigned(r Reader, row assignmentRow) (manifest.RoleAssigned, error) {
	body, err := prove(b, r, row.Index, chain.RoleAssigned, func(e chain.Entry) (manifest.RoleAssigned, error) {
		return manifest.ParseRoleAssigned(e.Body)
	})
	if err == nil && (body.ID != row.ID || body.Subject != string(row.Holder) || body.Role != row.Role) {
		err = tampered(row.Index)
	}
	return body, err
}

func (b *Book) group(r Reader, name string, row groupRow) (manifest.GroupChanged, error) {
	body, err := prove(b, r, row.Index, chain.GroupChanged, func(e chain.Entry) (manifest.GroupChanged, error) {
		return manifest.ParseGroupChanged(e.Body)
	})
	if err == nil && body.Name() != name {
		err = tampered(row.Index)
	}
	return body, err
}

// Except takes something away before it is looked at what is left: what would be if it were withdrawn.
type Except struct {
	Assignment string
	Signer     string // with Role: that role of their enrolment; without: everything of theirs
	Role       string
}

// Roles returns the roles that a person has at a time: own are those of their enrolment. They are sorted.
func (b *Book) Roles(r Reader, signer string, own []string, now time.Time) ([]string, error) {
	view := r.View(projectionName)
	at := chain.NewTime(now)
	roles := b.Kept(r, signer, own)
	holders, err := b.holders(r, signer)
	if err != nil {
		return nil, err
	}
	for _, h := range holders {
		rows, err := held(view, h)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if slices.Contains(roles, row.Role) || !within(row.Start, row.End, at) {
				continue
			}
			body, err := b.assigned(r, row)
			if err != nil {
				return nil, err
			}
			if within(body.Start, body.End, at) {
				roles = append(roles, row.Role)
			}
		}
	}
	slices.Sort(roles)
	return roles, nil
}

// Kept returns those roles of an enrolment that nobody has withdrawn.
func (b *Book) Kept(r Reader, signer string, own []string) []string {
	view := r.View(projectionName)
	roles := make([]string, 0, len(own))
	for _, role := range own {
		if view.Get(bucketLost, under(signer, role)) == nil {
			roles = append(roles, role)
		}
	}
	return roles
}

// Lasting reports whether a person has an assignment of a role, in force, that does not end by itself, of those that except leaves.
func (b *Book) Lasting(r Reader, signer, role string, now time.Time, except Except) (bool, error) {
	rows, err := held(r.View(projectionName), Holder(signer))
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row.Role != role || row.ID == except.Assignment || !row.End.IsZero() || !within(row.Start, row.End, chain.NewTime(now)) {
			continue
		}
		if _, err := b.assigned(r, row); err != nil {
			return false, err
		}
		return true, nil
	}
	return false, nil
}

// holders are the signer, and the groups that they belong to.
func (b *Book) holders(r Reader, signer string) ([]Holder, error) {
	out := []Holder{Holder(signer)}
	groups, err := b.GroupsOf(r, signer)
	for _, g := range groups {
		out = append(out, HolderOfGroup(g))
	}
	return out, err
}

// GroupsOf returns the names of the groups that a signer belongs to, each proved.
func (b *Book) GroupsOf(r Reader, signer string) ([]string, error) {
	view := r.View(projectionName)
	names := tails(view, bucketMember, signer)
	out := names[:0]
	for _, name := range names {
		in, err := b.IsMember(r, name, signer)
		if err != nil {
			return nil, err
		}
		if in {
			out = append(out, name)
		}
	}
	return out, nil
}

// IsMember reports whether a signer belongs to a group, proved. Nobody belongs to a group that is not there.
func (b *Book) IsMember(r Reader, group, signer string) (bool, error) {
	var row groupRow
	ok, err := get(r.View(projectionName), bucketGroups, []byte(group), &row)
	if err != nil || !ok || !slices.Contains(row.Members, signer) {
		return false, err
	}
	body, err := b.group(r, group, row)
	return err == nil && body.Has(signer), err
}

// held are the assignments of a holder that were not withdrawn.
func held(view *ledger.State, h Holder) ([]assignmentRow, error) {
	var rows []assignmentRow
	for _, id := range tails(view, bucketHeld, string(h)) {
		var row assignmentRow
		if ok, err := get(view, bucketAssignments, []byte(id), &row); err != nil || !ok {
			return nil, lost(bucketAssignments, id, err)
		}
		if row.Holder == h && row.Withdrawn == 0 {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func lost(bucket, key string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: projection %s/%s has no %.80q; run `signetd ledger check`", ledger.ErrCorrupt, projectionName, bucket, key)
}

// tails are the ends of the keys under a name.
func tails(view *ledger.State, bucket, name string) []string {
	var out []string
	prefix := under(name, "")
	view.Prefix(bucket, prefix, func(k, _ []byte) bool {
		out = append(out, string(k[len(prefix):]))
		return true
	})
	return out
}

// within reports whether a time lies in a validity, whose ends may be open.
func within(start, end, at chain.Time) bool {
	return (start.IsZero() || !at.Before(start)) && (end.IsZero() || at.Before(end))
}

// WithRole returns who has a role by an assignment in force, directly or through a group: ids of signers, sorted.
func (b *Book) WithRole(r Reader, role string, now time.Time) ([]string, error) {
	view := r.View(projectionName)
	at := chain.NewTime(now)
	found := map[string]bool{}
	for _, id := range tails(view, bucketByRole, role) {
		var row assignmentRow
		if ok, err := get(view, bucketAssignments, []byte(id), &row); err != nil || !ok {
			return nil, lost(bucketAssignments, id, err)
		}
		if row.Withdrawn != 0 || row.Role != role || !within(row.Start, row.End, at) {
			continue
		}
		if _, err := b.assigned(r, row); err != nil {
			return nil, err
		}
		name, isGroup := row.Holder.Group()
		if !isGroup {
			found[string(row.Holder)] = true
			continue
		}
		members, err := b.Members(r, name)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			found[m] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Members returns who belongs to a group, proved; [ErrGroupNotFound] if there is none of this name.
func (b *Book) Members(r Reader, group string) ([]string, error) {
	var row groupRow
	ok, err := get(r.View(projectionName), bucketGroups, []byte(group), &row)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %.80q", ErrGroupNotFound, group)
	}
	body, err := b.group(r, group, row)
	return body.Members, err
}

// Basis returns the entries, all below an index, that a statement's roles lean on beyond the enrolment: what gave those that the enrolment
// did not, and what took away those that it did.
func (b *Book) Basis(r Reader, signer string, own, stated []string, at chain.Time, below uint64) ([]uint64, error) {
	view := r.View(projectionName)
	var out []uint64
	kept := slices.DeleteFunc(slices.Clone(own), func(role string) bool {
		index := view.Get(bucketLost, under(signer, role))
		if len(index) != 8 || binary.BigEndian.Uint64(index) >= below {
			return false
		}
		out = append(out, binary.BigEndian.Uint64(index))
		return true
	})
	var holders []Holder
	changes := map[Holder]uint64{} // the newest state of the group in which the signer is there
	for _, role := range stated {
		if slices.Contains(kept, role) {
			continue
		}
		if holders == nil {
			holders = []Holder{Holder(signer)}
			for _, g := range tails(view, bucketWasMember, signer) {
				index, ok, err := b.Membership(r, g, signer, below)
				if err != nil {
					return nil, err
				}
				if ok {
					holders = append(holders, HolderOfGroup(g))
					changes[HolderOfGroup(g)] = index
				}
			}
		}
		index, h, err := b.source(r, holders, role, at, below)
		if err != nil {
			return nil, err
		}
		out = append(out, index)
		if change, ok := changes[h]; ok {
			out = append(out, change)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// source finds the entry below an index that gave a role to one of the holders at a time.
func (b *Book) source(r Reader, holders []Holder, role string, at chain.Time, below uint64) (uint64, Holder, error) {
	for _, h := range holders {
		var found uint64
		var failed error
		prefix := under(string(h), "")
		r.View(projectionName).Prefix(bucketEver, prefix, func(k, _ []byte) bool {
			index := binary.BigEndian.Uint64(k[len(prefix):])
			if index >= below {
				return false
			}
			body, err := prove(b, r, index, chain.RoleAssigned, func(e chain.Entry) (manifest.RoleAssigned, error) {
				return manifest.ParseRoleAssigned(e.Body)
			})
			if err != nil {
				failed = err
				return false
			}
			if body.Role == role && within(body.Start, body.End, at) {
				found = index // a later one may have been withdrawn less
			}
			return true
		})
		if failed != nil || found != 0 {
			return found, h, failed
		}
	}
	return 0, "", fmt.Errorf("%w: no entry gave the role %s", ErrTampered, role)
}

// Membership finds the newest state of a group below an index, and whether the signer belonged to it.
func (b *Book) Membership(r Reader, group, signer string, below uint64) (uint64, bool, error) {
	var newest uint64
	prefix := under(group, "")
	r.View(projectionName).Prefix(bucketGroupEver, prefix, func(k, _ []byte) bool {
		index := binary.BigEndian.Uint64(k[len(prefix):])
		if index < below {
			newest = index
		}
		return index < below
	})
	if newest == 0 {
		return 0, false, nil
	}
	body, err := b.group(r, group, groupRow{Index: newest})
	return newest, err == nil && body.Has(signer), err
}

// Admit refuses a signer who is not designated for a type of record, or who lacks a training that the designation asks for.
func (b *Book) Admit(r Reader, recordType, signer string, now time.Time) error {
	courses, err := b.designated(r, recordType, signer)
	if err != nil {
		return err
	}
	for _, course := range courses {
		if err := b.trained(r, signer, course, now); err != nil {
			return err
		}
	}
	return nil
}

// Designated refuses a signer who is not designated for a type of record, trained or not.
func (b *Book) Designated(r Reader, recordType, signer string) error {
	_, err := b.designated(r, recordType, signer)
	return err
}

func (b *Book) designated(r Reader, recordType, signer string) (courses []string, err error) {
	var row designationRow
	ok, err := get(r.View(projectionName), bucketDesignation, []byte(recordType), &row)
	if err != nil || !ok {
		return nil, err
	}
	body, err := prove(b, r, row.Index, chain.DesignationChanged, readBody[DesignationChanged])
	if err != nil {
		return nil, err
	}
	if body.RecordType != recordType {
		return nil, tampered(row.Index)
	}
	in, err := b.among(r, body.Now.holders(), signer)
	if err != nil {
		return nil, err
	}
	if !in {
		return nil, fmt.Errorf("%w: %s; `signet designation list` shows who is", ErrNotDesignated, recordType)
	}
	return body.Now.Courses, nil
}

// among reports whether a signer is one of the holders, or belongs to one of them. No holders are everybody.
func (b *Book) among(r Reader, holders []Holder, signer string) (bool, error) {
	if len(holders) == 0 {
		return true, nil
	}
	for _, h := range holders {
		name, isGroup := h.Group()
		if !isGroup && string(h) == signer {
			return true, nil
		}
		if !isGroup {
			continue
		}
		if in, err := b.IsMember(r, name, signer); err != nil || in {
			return in, err
		}
	}
	return false, nil
}

// trained refuses a signer without an attestation of a course that holds now.
func (b *Book) trained(r Reader, signer, course string, now time.Time) error {
	view := r.View(projectionName)
	at := chain.NewTime(now)
	var last chain.Time
	for _, id := range tails(view, bucketTrained, signer+"/"+course) {
		var row trainingRow
		if ok, err := get(view, bucketTraining, []byte(id), &row); err != nil || !ok {
			return lost(bucketTraining, id, err)
		}
		if row.Withdrawn != 0 {
			continue
		}
		body, err := prove(b, r, row.Index, chain.TrainingAttested, readBody[TrainingAttested])
		if err != nil {
			return err
		}
		if body.ID != id || body.Signer != signer || body.Course != course {
			return tampered(row.Index)
		}
		if at.Before(body.End) {
			return nil
		}
		if last.Before(body.End) {
			last = body.End
		}
	}
	if last.IsZero() {
		return fmt.Errorf("%w: there is no attestation of the course %s; an administrator records one with `signet training attest`", ErrTraining, course)
	}
	return fmt.Errorf("%w: that of the course %s has lapsed at %s; take it again and have it attested", ErrTraining, course, last)
}

// Named is an approver as the maker of a record names one: a person, a group, or a role.
type Named struct {
	Person, Group, Role string // one of them
}

// ParseNamed reads an approver: `group:` and a name, `role:` and a role, or a person.
func ParseNamed(s string) Named {
	if name, ok := strings.CutPrefix(s, manifest.GroupPrefix); ok {
		return Named{Group: name}
	}
	if role, ok := strings.CutPrefix(s, "role:"); ok {
		return Named{Role: role}
	}
	return Named{Person: s}
}

// Belongs reports whether a signer is a holder, or a member of it.
func (b *Book) Belongs(r Reader, h Holder, signer string) (bool, error) {
	return b.among(r, []Holder{h}, signer)
}

// Would reports whether a designation as given would admit a signer.
func (b *Book) Would(r Reader, d DesignationState, signer string, now time.Time) (bool, error) {
	in, err := b.among(r, d.Holders, signer)
	if err != nil || !in {
		return false, err
	}
	for _, course := range d.Courses {
		if err := b.trained(r, signer, course, now); errors.Is(err, ErrTraining) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}
