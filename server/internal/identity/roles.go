package identity

import (
	"fmt"
	"slices"

	"github.com/signetd/signet/api/chain"
)

// mayAdminister holds the caller against the state as it is now.
func (d *Directory) mayAdminister(r Reader, caller Caller) error {
	if caller.Kind == chain.System {
		return nil
	}
	row, ok, err := getSigner(r.View(projectionName), caller.ID)
	if err != nil {
		return err
	}
	if !ok || row.State != StateActive || !slices.Contains(row.Roles, RoleAdministrator) {
		return fmt.Errorf("%w: it takes an administrator", ErrForbidden)
	}
	return nil
}

// administrators returns the ids of the persons who may administer now.
func (d *Directory) administrators(r Reader) ([]string, error) {
	var ids []string
	r.View(projectionName).Ascend(bucketAdmins, nil, func(id, state []byte) bool {
		if State(state) == StateActive {
			ids = append(ids, string(id))
		}
		return true
	})
	return ids, nil
}

// keepAnAdministrator refuses to take the last active administrator away: nobody could enrol one any more.
func (d *Directory) keepAnAdministrator(r Reader, id string) error {
	ids, err := d.administrators(r)
	if err != nil || !slices.Contains(ids, id) {
		return err
	}
	if len(ids) == 1 {
		return fmt.Errorf("%w: they are the last active administrator; enrol another one first", ErrState)
	}
	return nil
}
