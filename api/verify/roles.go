package verify

import (
	"slices"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

// givenRole is a proved entry that gave a role to a person or a group.
type givenRole struct {
	index uint64
	manifest.RoleAssigned
}

// takenRole is a proved entry that took one away.
type takenRole struct {
	index uint64
	manifest.RoleWithdrawn
}

// groupChange is a proved entry that says who belongs to a group from then on.
type groupChange struct {
	index uint64
	manifest.GroupChanged
}

// takeRights reads the body of a proved entry about rights.
func (j *judge) takeRights(e chain.Entry) error {
	switch e.Type {
	case chain.RoleAssigned:
		b, err := manifest.ParseRoleAssigned(e.Body)
		if err != nil {
			return err
		}
		j.given = append(j.given, givenRole{e.Index, b})
	case chain.RoleWithdrawn:
		b, err := manifest.ParseRoleWithdrawn(e.Body)
		if err != nil {
			return err
		}
		j.taken = append(j.taken, takenRole{e.Index, b})
	case chain.GroupChanged:
		b, err := manifest.ParseGroupChanged(e.Body)
		if err != nil {
			return err
		}
		j.groups = append(j.groups, groupChange{e.Index, b})
	}
	return nil
}

// rolesDiffer says which role of a statement nothing gives, or which one of the enrolment the statement leaves out without an entry that
// took it away. Entries count that stand before the signature.
func (j *judge) rolesDiffer(s *signature, b binding) (role string, differ bool) {
	signer := s.Statement.Predicate.Signer
	for _, role := range signer.Roles {
		enrolled := slices.Contains(b.roles, role) && !j.takenFrom(s, "", signer.ID, role)
		if !enrolled && !j.gave(s, role) {
			return role, true
		}
	}
	for _, role := range b.roles {
		if !slices.Contains(signer.Roles, role) && !j.takenFrom(s, "", signer.ID, role) {
			return role, true
		}
	}
	return "", false
}

// below reports whether an entry stands before the signature.
func below(index uint64, s *signature) bool { return s.entry != nil && index < s.entry.Index }

// takenFrom reports whether an assignment, or a role of the enrolment, was withdrawn before the signature.
func (j *judge) takenFrom(s *signature, assignment, holder, role string) bool {
	return slices.ContainsFunc(j.taken, func(t takenRole) bool {
		return t.ID == assignment && t.Subject == holder && t.Role == role && below(t.index, s)
	})
}

// gave reports whether an entry gave a role to the signer, or to a group of theirs, and it held when the statement was prepared.
func (j *judge) gave(s *signature, role string) bool {
	signer, at := s.Statement.Predicate.Signer.ID, s.Statement.Predicate.PreparedAt
	return slices.ContainsFunc(j.given, func(g givenRole) bool {
		return g.Role == role && below(g.index, s) && (g.Start.IsZero() || !at.Before(g.Start)) && (g.End.IsZero() || at.Before(g.End)) &&
			!j.takenFrom(s, g.ID, g.Subject, role) && (g.Subject == signer || j.member(s, g.Subject, signer))
	})
}

// member reports whether the newest state of a group before the signature has the signer in it.
func (j *judge) member(s *signature, holder, signer string) bool {
	var newest *groupChange
	for i, g := range j.groups {
		if g.ID == holder && below(g.index, s) && (newest == nil || newest.index < g.index) {
			newest = &j.groups[i]
		}
	}
	return newest != nil && newest.Has(signer)
}
