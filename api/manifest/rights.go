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
	Assignment string `json:"assignment"` // ras_…
	End        Time   `json:"end"`        // zero: until it is withdrawn
	Holder     string `json:"holder"`     // sgn_…, or group: and the name of a group
	Reason     string `json:"reason"`
	Role       string `json:"role"`
	Start      Time   `json:"start"` // zero: at once
}

// RoleWithdrawn is the body of role.withdrawn: it ends an assignment, or a role of the enrolment.
type RoleWithdrawn struct {
	Assignment string `json:"assignment"` // empty: the role came with the enrolment
	Holder     string `json:"holder"`
	Reason     string `json:"reason"`
	Role       string `json:"role"`
}

// GroupChanged is the body of group.changed: who belongs to a group from now on, and who did before.
type GroupChanged struct {
	Group  string     `json:"group"` // its name
	Now    GroupState `json:"now"`
	Reason string     `json:"reason"`
	Was    GroupState `json:"was"`
}

// GroupState is a group at a time.
type GroupState struct {
	DisplayName string   `json:"displayName"`
	Members     []string `json:"members"` // ids of signers, sorted
}

// GroupPrefix begins a holder that is a group.
const GroupPrefix = "group:"

// MaxMembers is how many members a group can have.
const MaxMembers = 500

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
		checkID(what+"assignment", "ras_", r.Assignment),
		checkHolder(what+"holder", r.Holder),
		checkText(what+"reason", r.Reason, maxReason),
		checkToken(what+"role", r.Role, 64),
	)
}

// Validate checks all values.
func (r RoleWithdrawn) Validate() error {
	const what = "role.withdrawn: "
	if r.Assignment != "" {
		if err := checkID(what+"assignment", "ras_", r.Assignment); err != nil {
			return err
		}
	}
	return first(
		checkHolder(what+"holder", r.Holder),
		checkText(what+"reason", r.Reason, maxReason),
		checkToken(what+"role", r.Role, 64),
	)
}

// Validate checks all values.
func (g GroupChanged) Validate() error {
	const what = "group.changed: "
	return first(
		checkToken(what+"group", g.Group, 64),
		g.Now.validate(what+"now"),
		checkText(what+"reason", g.Reason, maxReason),
		g.Was.validate(what+"was"),
	)
}

func (g GroupState) validate(what string) error {
	if len(g.Members) > MaxMembers {
		return malformed("%s: %d members; the limit is %d", what, len(g.Members), MaxMembers)
	}
	for i, m := range g.Members {
		if err := checkID(what+".members", "sgn_", m); err != nil {
			return err
		}
		if i > 0 && g.Members[i-1] >= m {
			return malformed("%s.members: they are not sorted, or %q is there twice", what, m)
		}
	}
	return checkName(what+".displayName", g.DisplayName, maxName)
}

// Has reports whether a signer belongs to the group.
func (g GroupState) Has(signer string) bool {
	_, found := slices.BinarySearch(g.Members, signer)
	return found
}

func checkHolder(field, s string) error {
	if group, ok := strings.CutPrefix(s, GroupPrefix); ok {
		return checkToken(field, group, 64)
	}
	return checkID(field, "sgn_", s)
}
