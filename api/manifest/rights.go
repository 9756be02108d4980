package manifest

import (
	"encoding/json/jsontext"
	"slices"
	"strings"
)

// A statement names the roles that its signer held. They come from the enrolment; where they have changed since, from the entries whose bodies
// stand here, which are then among the supporting entries: role.assigned and group.changed give a role, role.withdrawn takes one of the
// enrolment away.

// RoleAssigned is the body of role.assigned: a role for a person or a group, from a time, to a time.
type RoleAssigned struct {
	End     Time   `json:"end"` // zero: until it is withdrawn
	ID      string `json:"id"`  // ras_…
	Reason  string `json:"reason"`
	Role    string `json:"role"`
	Start   Time   `json:"start"`   // zero: at once
	Subject string `json:"subject"` // who has it: sgn_…, or group: and the name of a group
}

// RoleWithdrawn is the body of role.withdrawn: it ends an assignment, or a role of the enrolment.
type RoleWithdrawn struct {
	ID      string `json:"id"` // ras_…; empty: the role came with the enrolment
	Reason  string `json:"reason"`
	Role    string `json:"role"`
	Subject string `json:"subject"`
}

// GroupChanged is the body of group.changed: who belongs to a group from now on, and who did not before or does no more.
type GroupChanged struct {
	Added       []GroupMember `json:"added"`
	DisplayName string        `json:"displayName"`
	ID          string        `json:"id"`      // group: and its name
	Members     []string      `json:"members"` // ids of signers, sorted: all of them
	Reason      string        `json:"reason"`
	Removed     []GroupMember `json:"removed"`
	Was         string        `json:"was"` // the display name before
}

// GroupMember is somebody who joins or leaves.
type GroupMember struct {
	Signer string `json:"signer"`
}

// GroupPrefix begins a holder that is a group.
const GroupPrefix = "group:"

// MaxMembers is how many members a group can have.
const MaxMembers = 400

// ParseRoleAssigned reads the body of an entry.
func ParseRoleAssigned(body jsontext.Value) (RoleAssigned, error) {
	return parseBody[RoleAssigned]("role.assigned", body)
}

// ParseRoleWithdrawn reads the body of an entry.
func ParseRoleWithdrawn(body jsontext.Value) (RoleWithdrawn, error) {
	return parseBody[RoleWithdrawn]("role.withdrawn", body)
}

// ParseGroupChanged reads the body of an entry.
func ParseGroupChanged(body jsontext.Value) (GroupChanged, error) {
	return parseBody[GroupChanged]("group.changed", body)
}

// Validate checks all values.
func (r RoleAssigned) Validate() error {
	const what = "role.assigned: "
	if !r.End.IsZero() && !r.Start.Before(r.End) {
		return malformed(what + "it ends before it begins")
	}
	return first(
		checkID(what+"id", "ras_", r.ID),
		checkText(what+"reason", r.Reason, maxReason),
		checkToken(what+"role", r.Role, 64),
		checkHolder(what+"subject", r.Subject),
	)
}

// Validate checks all values.
func (r RoleWithdrawn) Validate() error {
	const what = "role.withdrawn: "
	if r.ID != "" {
		if err := checkID(what+"id", "ras_", r.ID); err != nil {
			return err
		}
	}
	return first(
		checkText(what+"reason", r.Reason, maxReason),
		checkToken(what+"role", r.Role, 64),
		checkHolder(what+"subject", r.Subject),
	)
}

// Validate checks all values.
func (g GroupChanged) Validate() error {
	const what = "group.changed: "
	group, ok := strings.CutPrefix(g.ID, GroupPrefix)
	if !ok {
		return malformed(what+"id: %.80q is not %s and a name", g.ID, GroupPrefix)
	}
	if len(g.Members) > MaxMembers || len(g.Added) > MaxMembers || len(g.Removed) > MaxMembers {
		return malformed(what+"more than %d members", MaxMembers)
	}
	for i, m := range g.Members {
		if err := checkID(what+"members", "sgn_", m); err != nil {
			return err
		}
		if i > 0 && g.Members[i-1] >= m {
			return malformed(what+"members: they are not sorted, or %q is there twice", m)
		}
	}
	for _, m := range g.Added {
		if !g.Has(m.Signer) {
			return malformed(what+"added: %.80q is no member", m.Signer)
		}
	}
	for _, m := range g.Removed {
		if err := checkID(what+"removed", "sgn_", m.Signer); err != nil {
			return err
		}
		if g.Has(m.Signer) {
			return malformed(what+"removed: %.80q is a member", m.Signer)
		}
	}
	return first(
		checkName(what+"displayName", g.DisplayName, maxName),
		checkToken(what+"id", group, 64),
		checkText(what+"reason", g.Reason, maxReason),
		checkName(what+"was", g.Was, maxName),
	)
}

// Name is the name of the group.
func (g GroupChanged) Name() string { return strings.TrimPrefix(g.ID, GroupPrefix) }

// Has reports whether a signer belongs to the group.
func (g GroupChanged) Has(signer string) bool {
	_, found := slices.BinarySearch(g.Members, signer)
	return found
}

func checkHolder(field, s string) error {
	if group, ok := strings.CutPrefix(s, GroupPrefix); ok {
		return checkToken(field, group, 64)
	}
	return checkID(field, "sgn_", s)
}
