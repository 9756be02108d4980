package identity

import (
	"fmt"
	"slices"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
	"github.com/signetd/signet/server/internal/rights"
)

// AlertOversight is the kind of the alerts about administrators and security officers who lose what they oversee the system with. What takes rights
// away takes one administrator, so that it need not wait; one who has gone wrong, or whose session was stolen, could send those away
// who would notice. So the security unit hears of it, and those who are gone are named.
const AlertOversight = "oversight.reduced"

// overseers are the roles that hear of attacks and act on them.
var overseers = []Role{RoleAdministrator, RoleSecurityOfficer}

// overseerAs returns the role that a person who is active oversees the system with, or nothing. It may come from a group.
func overseerAs(tx *ledger.Tx, row signerRow) (Role, error) {
	if row.Service || row.State != StateActive {
		return "", nil
	}
	assigned, err := rights.AssignmentsOf(tx, row.ID, tx.Now().Time())
	if err != nil {
		return "", err
	}
	for _, role := range overseers {
		if slices.Contains(row.Roles, role) && !rights.LostRole(tx, row.ID, string(role)) ||
			slices.ContainsFunc(assigned, func(a rights.Assignment) bool { return a.InForce && a.Role == string(role) }) {
			return role, nil
		}
	}
	return "", nil
}

// tellOversight raises the alert about an entry with which a caller took such a role from somebody, or from a group. It is about the caller, who
// therefore cannot acknowledge it. What says what was done, as a format of the caller, the holder (%[2]s), the role (%[3]s) and more.
func tellOversight(tx *ledger.Tx, entry uint64, caller Caller, holder string, role Role, what string, more ...any) error {
	if !slices.Contains(overseers, role) {
		return nil
	}
	a := notify.Alert{Kind: AlertOversight, Entry: entry, Audience: notify.Security}
	if caller.Kind == chain.Person {
		a.Subject = caller.ID
	}
	by, err := personOr(tx, caller.ID)
	if err != nil {
		return err
	}
	whom, err := personOr(tx, holder)
	if err != nil {
		return err
	}
	a.Summary = fmt.Sprintf("%[1]s alone has "+what+". Ask them why, by a way that you know.", append([]any{by, whom, role}, more...)...)
	notify.Raise(tx, a)
	return nil
}

// personOr is the name of a person, or the id of whoever else it is.
func personOr(tx *ledger.Tx, id string) (string, error) {
	row, ok, err := getSigner(tx.View(projectionName), id)
	if err != nil || !ok {
		return id, err
	}
	return row.shown(), nil
}

// shown is how people see who it is.
func (row signerRow) shown() string { return row.Name + " (" + row.UserName + ")" }
